//! Rules of where endpoints come from: `endpoints` and `discovery`.
//! It must not look anything up; names and files may be missing while a configuration is checked.
//! Called by `config::rules::pools` for each pool.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::values::{accept, endpoint, given, host, positive, within};
use crate::config::compile::Guards;
use crate::config::report::Report;
use crate::config::schema::{Config, Discovery, DnsDiscovery, DnsRecord, Endpoint, Pool};
use crate::snapshot::pool::MAX_PRIORITY;

/// Checks that a pool has one source of endpoints, and that it makes sense.
pub(super) fn check(pool: &Pool, path: &str, report: &mut Report) {
    match (pool.endpoints.is_empty(), &pool.discovery) {
        (true, None) => report.error(
            path,
            format!("the pool \"{}\" has no endpoints", pool.name),
            "give `endpoints` or `discovery`",
        ),
        (false, Some(_)) => report.error(
            path,
            "has both `endpoints` and `discovery`",
            "keep one; a file of `discovery.file` can list fixed endpoints",
        ),
        (true, Some(_)) | (false, None) => {}
    }
    listed(&pool.endpoints, &format!("{path}.endpoints"), report);
    match &pool.discovery {
        Some(Discovery::Dns(it)) => dns(it, &format!("{path}.discovery.dns"), report),
        Some(Discovery::File(it)) => {
            given(report, &format!("{path}.discovery.file.path"), &it.path)
        }
        None => {}
    }
}

/// Checks what `ssrf_guard` has to say of a pool: endpoints that are written down are judged now.
pub(super) fn guarded(config: &Config, pool: &Pool, path: &str, report: &mut Report) {
    let is_without = config.ssrf_guard.is_none() && !config.gaps.within("ssrf_guard");
    if pool.ssrf_guard.is_some() && is_without {
        report.error(
            format!("{path}.ssrf_guard"),
            "is not used: there is no top-level `ssrf_guard`",
            "add `ssrf_guard: {}` to the configuration, or remove this line",
        );
    }
    let Some(guard) = Guards::of(config).of_pool(pool) else {
        return;
    };
    for (at, entry) in pool.endpoints.iter().enumerate() {
        let (text, place) = match entry {
            Endpoint::Address(text) => (text, format!("{path}.endpoints[{at}]")),
            Endpoint::Full(full) => (&full.address, format!("{path}.endpoints[{at}].address")),
        };
        let address = text.parse::<SocketAddr>().ok();
        if let Some(why) = address.and_then(|address| guard.forbids(address.ip())) {
            report.error(
                place,
                format!("\"{text}\" {why}, and `ssrf_guard` forbids it"),
                "put its network into `ssrf_guard.allow` if it is meant",
            );
        }
    }
}

fn listed(endpoints: &[Endpoint], path: &str, report: &mut Report) {
    if endpoints.len() > MOST_ENDPOINTS {
        report.error(
            path,
            format!(
                "has {} entries; {MOST_ENDPOINTS} are the most",
                endpoints.len()
            ),
            "divide them between pools and use `split`",
        );
    }
    let mut taken = HashMap::new();
    for (at, entry) in endpoints.iter().enumerate() {
        let path = format!("{path}[{at}]");
        let (text, place) = match entry {
            Endpoint::Address(text) => (text, path.clone()),
            Endpoint::Full(settings) => {
                within(report, &format!("{path}.weight"), settings.weight, 0, 1000);
                within(
                    report,
                    &format!("{path}.priority"),
                    settings.priority,
                    0,
                    MAX_PRIORITY,
                );
                (&settings.address, format!("{path}.address"))
            }
        };
        let Some(address) = accept(report, &place, endpoint(text)) else {
            continue;
        };
        match taken.get(&address) {
            Some(first) => report.error(
                place,
                format!("\"{text}\" is endpoints[{first}] already"),
                "list each endpoint once; use `weight` to send it more",
            ),
            None => drop(taken.insert(address, at)),
        }
    }
}

fn dns(it: &DnsDiscovery, path: &str, report: &mut Report) {
    accept(
        report,
        &format!("{path}.name"),
        host(it.name.strip_suffix('.').unwrap_or(&it.name)),
    );
    let port = format!("{path}.port");
    match (it.record, it.port) {
        (DnsRecord::Srv, Some(number)) => report.error(
            port,
            format!("{number} is not used: SRV records carry the port"),
            "remove it, or choose another `record`",
        ),
        (DnsRecord::A | DnsRecord::Aaaa | DnsRecord::Both, None) => report.error(
            port,
            "is missing: addresses in DNS have no port",
            "give the port the endpoints listen on, or use `record: srv`",
        ),
        (DnsRecord::A | DnsRecord::Aaaa | DnsRecord::Both, Some(number)) => {
            within(report, &port, number, 1, u16::MAX)
        }
        (DnsRecord::Srv, None) => {}
    }
    for (at, server) in it.servers.iter().enumerate() {
        if server.parse::<std::net::SocketAddr>().is_err() {
            report.error(
                format!("{path}.servers[{at}]"),
                format!("\"{server}\" is not an IP address and port"),
                "write it as \"10.0.0.2:53\" or \"[fd00::2]:53\"",
            );
        }
    }
    positive(report, &format!("{path}.min_ttl"), it.min_ttl);
    if it.min_ttl > it.max_ttl {
        report.error(
            format!("{path}.min_ttl"),
            format!(
                "\"{}\" is longer than max_ttl \"{}\"",
                it.min_ttl, it.max_ttl
            ),
            "raise `max_ttl` or shorten `min_ttl`",
        );
    }
}

/// A pool's hash tables and views are sized for this.
const MOST_ENDPOINTS: usize = 10_000;
