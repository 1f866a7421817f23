//! Rules of `mirror`: pools that can take copies, bounds, and comparisons that can be made.
//! It must not know actions; `actions` says for which a mirror is used.
//! Called by `config::rules::routes` for each rule.

use std::collections::HashSet;
use std::fmt::Display;

use windrose_plugins::contract::{Size, Time};

use super::values::{accept, positive, some_share, token, within};
use super::Names;
use crate::config::report::Report;
use crate::config::schema::{Compare, CompareBody, Mirror, PoolProtocol};

/// Checks the mirrors of a rule.
pub(super) fn check(mirrors: &[Mirror], names: &Names<'_>, path: &str, report: &mut Report) {
    let mut pools = HashSet::new();
    for (at, mirror) in mirrors.iter().enumerate() {
        let path = format!("{path}.mirror[{at}]");
        if !pools.insert(&mirror.pool) {
            report.error(
                format!("{path}.pool"),
                format!("\"{}\" is mirrored to already", mirror.pool),
                "one entry for each pool",
            );
        }
        pool(mirror, names, &path, report);
        bounds(mirror, &path, report);
        if let Some(it) = &mirror.compare {
            compare(it, &format!("{path}.compare"), report);
        }
    }
    if mirrors.len() > MOST {
        report.error(
            format!("{path}.mirror"),
            format!("has {} entries, more than {MOST}", mirrors.len()),
            "mirror to fewer pools",
        );
    }
}

fn pool(mirror: &Mirror, names: &Names<'_>, path: &str, report: &mut Report) {
    let path = format!("{path}.pool");
    let name = &mirror.pool;
    let Some(pool) = names.pool(report, &path, name) else {
        return;
    };
    if pool.is_quarantined {
        return;
    }
    if pool.protocol == PoolProtocol::Tcp {
        report.error(
            &path,
            format!("the pool \"{name}\" has protocol \"tcp\", and copies are requests"),
            "use a pool with protocol `http1`, `http2` or `auto`",
        );
    }
    if pool.proxy_protocol.is_some() {
        report.error(
            &path,
            format!(
                "the pool \"{name}\" has `proxy_protocol`, and a copy has no client's connection"
            ),
            "use a pool of its own for copies, without `proxy_protocol`",
        );
    }
    if pool.mtls.as_ref().is_some_and(|mtls| mtls.hbone.is_some()) {
        report.error(
            &path,
            format!("the pool \"{name}\" has `mtls.hbone`, and copies do not go through tunnels"),
            "use a pool of its own for copies, without `mtls.hbone`",
        );
    }
}

fn bounds(mirror: &Mirror, path: &str, report: &mut Report) {
    some_share(report, &format!("{path}.percent"), mirror.percent);
    at_most(
        report,
        &format!("{path}.body_limit"),
        mirror.body_limit,
        LARGEST,
    );
    positive(report, &format!("{path}.timeout"), mirror.timeout);
    at_most(report, &format!("{path}.timeout"), mirror.timeout, LONGEST);
    let concurrency = format!("{path}.concurrency");
    within(report, &concurrency, mirror.concurrency, 1, 10_000);
    within(report, &format!("{path}.queue"), mirror.queue, 0, 10_000);
}

fn compare(it: &Compare, path: &str, report: &mut Report) {
    for (at, name) in it.headers.iter().enumerate() {
        let path = format!("{path}.headers[{at}]");
        accept(report, &path, token(name, "header name"));
    }
    for (at, pointer) in it.ignore.iter().enumerate() {
        if !pointer.starts_with('/') {
            report.error(
                format!("{path}.ignore[{at}]"),
                format!("\"{pointer}\" is not a JSON pointer"),
                "write the way to the value from the top, such as \"/meta/id\"",
            );
        }
    }
    let reads_json = matches!(it.body, CompareBody::Json | CompareBody::JsonShape);
    if !it.ignore.is_empty() && !reads_json {
        report.error(
            format!("{path}.ignore"),
            "is used only when bodies are compared as JSON",
            "write `body: json` or `body: json_shape`, or remove it",
        );
    }
    at_most(
        report,
        &format!("{path}.body_limit"),
        it.body_limit,
        LARGEST,
    );
    let is_idle =
        !it.status && !it.latency && it.headers.is_empty() && it.body == CompareBody::None;
    if is_idle {
        report.error(
            path,
            "compares nothing",
            "remove it, or compare `status`, `headers`, `body` or `latency`",
        );
    }
}

fn at_most<V: PartialOrd + Display>(report: &mut Report, path: &str, value: V, most: V) {
    if value > most {
        let fact = format!("must be at most {most}, found {value}");
        report.error(path, fact, "write less");
    }
}

const LARGEST: Size = Size(1 << 20);
const LONGEST: Time = Time::secs(300);
const MOST: usize = crate::snapshot::route::MOST_MIRRORS;
