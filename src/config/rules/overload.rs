//! Rules of `overload`: bounds that can be measured, and a field that can be read.
//! It must not know how overload is measured.
//! Called by `config::rules::check`.

use windrose_plugins::contract::{Size, Time};

use super::values::{accept, token};
use crate::config::report::Report;
use crate::config::schema::Config;

/// Checks `overload`.
pub(super) fn check(config: &Config, report: &mut Report) {
    let Some(it) = &config.overload else {
        return;
    };
    if it.lag > Time::secs(0) && it.lag < SHORTEST_LAG {
        report.error(
            "overload.lag",
            format!("must be at least {SHORTEST_LAG}, found \"{}\"", it.lag),
            "a busy processor makes tasks that late at any time; 0s does not look at it",
        );
    }
    match it.memory_limit {
        Some(_) if it.memory.fraction() == 0.0 => report.error(
            "overload.memory_limit",
            "is not used: `memory` is 0%, which does not look at it",
            "give `memory` a share such as 95%, or remove it",
        ),
        Some(limit) if limit < LEAST_MEMORY => report.error(
            "overload.memory_limit",
            format!("must be at least 64MiB, found \"{limit}\""),
            "give the memory that the process may use, such as 2GiB",
        ),
        Some(_) | None => {}
    }
    if let Some(name) = &it.priority_header {
        let path = "overload.priority_header";
        accept(report, path, token(name, "the name of a field"));
        let trusts = |networks: &[ipnet::IpNet]| !networks.is_empty();
        let mut listeners = config.listeners.iter();
        let may_trust = config.gaps.within("listeners");
        if !may_trust && !listeners.any(|listener| trusts(&listener.trusted_proxies)) {
            report.error(
                path,
                "is not used: no listener has `trusted_proxies`, and others are not believed",
                "name the networks of callers in `trusted_proxies` of their listener, or remove it",
            );
        }
    }
}

/// What a loaded machine does to tasks without being overloaded.
const SHORTEST_LAG: Time = Time::millis(20);
/// The process needs that by itself.
const LEAST_MEMORY: Size = Size(64 << 20);
