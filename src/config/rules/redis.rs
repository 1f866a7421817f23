//! Rules of `redis`: where stores are, and bounds of their times.
//! It must not connect to anything; whether a store answers is not a matter of configuration.
//! Called by `config::rules::check`.

use std::fmt::Display;

use windrose_plugins::contract::Time;

use super::values::{given, within};
use crate::config::report::Report;
use crate::config::schema::{Config, Redis};
use crate::snapshot::store::Address;

/// Checks every store.
pub(super) fn check(config: &Config, report: &mut Report) {
    for (at, store) in config.redis.iter().enumerate() {
        let path = format!("redis[{at}]");
        url(store, &path, report);
        credentials(store, &path, report);
        let times = [
            (
                "connect_timeout",
                store.connect_timeout,
                (Time::millis(10), Time::secs(60)),
            ),
            (
                "command_timeout",
                store.command_timeout,
                (Time::millis(1), Time::secs(10)),
            ),
        ];
        for (key, time, (least, most)) in times {
            between(report, &format!("{path}.{key}"), time, least, most);
        }
        let key = format!("{path}.max_in_flight");
        within(report, &key, store.max_in_flight, 1, 100_000);
        prefix(store, &path, report);
    }
}

fn url(store: &Redis, path: &str, report: &mut Report) {
    let address = Address::parse(&store.url);
    if let Err(fact) = &address {
        // Never quoted: people write passwords into it.
        report.error(
            format!("{path}.url"),
            fact.clone(),
            "write it as \"redis://host:6379/0\", \"rediss://host:6379/0\" or \"unix:///path/of/socket\"",
        );
    }
    let is_tls = matches!(&address, Ok(Address::Tcp { tls: true, .. }));
    if store.ca.is_some() && address.is_ok() && !is_tls {
        report.error(
            format!("{path}.ca"),
            "is not used: the store is not reached over TLS",
            "write the `url` with \"rediss://\", or remove it",
        );
    }
}

fn credentials(store: &Redis, path: &str, report: &mut Report) {
    if store.username.is_some() && store.password.is_none() {
        report.error(
            format!("{path}.username"),
            "is not used without a `password`",
            "add the password, or remove the name",
        );
    }
    for (key, text) in [
        ("username", &store.username),
        ("password", &store.password),
        ("ca", &store.ca),
    ] {
        if let Some(text) = text {
            given(report, &format!("{path}.{key}"), text);
        }
    }
}

fn prefix(store: &Redis, path: &str, report: &mut Report) {
    let is_good = |c: char| c.is_ascii_alphanumeric() || ":._-".contains(c);
    if store.prefix.len() > MOST_PREFIX || !store.prefix.chars().all(is_good) {
        report.error(
            format!("{path}.prefix"),
            format!("{:?} cannot begin keys", store.prefix),
            "write up to 64 letters, digits and `:`, `.`, `_`, `-`, such as \"shop:\"",
        );
    }
}

const MOST_PREFIX: usize = 64;

fn between<T: PartialOrd + Display>(report: &mut Report, path: &str, value: T, least: T, most: T) {
    if value < least || value > most {
        report.error(
            path,
            format!("must be from {least} to {most}, found \"{value}\""),
            "leave it out for its default",
        );
    }
}
