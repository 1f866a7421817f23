//! Rules of `pools`: what endpoints speak, how they are checked and taken out.
//! It must not know which routes use a pool; `routes` checks that, `sources` where endpoints come from, and `balance` how they are chosen.
//! Called by `config::rules::check`.

use windrose_plugins::contract::Time;

use super::subsets::Subsets;
use super::values::{accept, authority, given, host, path as canonical, positive, quoted, within};
use super::{balance, ejection, limits, retry, sources};
use crate::config::report::Report;
use crate::config::schema::{
    Config, Health, HttpHealth, Pool, PoolConnections, PoolProtocol, PoolTls,
};

/// Checks every pool.
pub(super) fn check(config: &Config, subsets: &Subsets<'_>, report: &mut Report) {
    let pools = config.pools.iter().enumerate();
    for (at, pool) in pools.filter(|(_, pool)| !pool.is_quarantined) {
        let path = format!("pools[{at}]");
        sources::check(pool, &path, report);
        sources::guarded(config, pool, &path, report);
        super::identity::pool(config, pool, &path, report);
        speaks(pool, &path, report);
        balance::check(pool, &path, report);
        subsets.pool(pool, &path, report);
        if let Some(it) = &pool.health {
            health(it, pool.protocol, &format!("{path}.health"), report);
        }
        ejection::check(pool, &format!("{path}.ejection"), report);
        limits::check(pool, &path, report);
        let connections_path = format!("{path}.connections");
        connections(&pool.connections, pool.protocol, &connections_path, report);
        retry::budget(&pool.retry_budget, &format!("{path}.retry_budget"), report);
    }
}

fn speaks(pool: &Pool, path: &str, report: &mut Report) {
    match (pool.protocol, &pool.tls) {
        (PoolProtocol::Auto, None) if pool.mtls.is_some() => {}
        (PoolProtocol::Auto, None) => report.error(
            format!("{path}.tls"),
            "is missing: protocol \"auto\" is agreed in the TLS handshake",
            "give `tls`, or use protocol `http1` or `http2`",
        ),
        (PoolProtocol::Tcp, Some(_)) => report.error(
            format!("{path}.tls"),
            "TLS to endpoints of pools with protocol \"tcp\" is not supported yet",
            "remove `tls`; bytes are passed through as the client sent them",
        ),
        (PoolProtocol::Http1 | PoolProtocol::Http2 | PoolProtocol::Auto, Some(_))
        | (PoolProtocol::Http1 | PoolProtocol::Http2 | PoolProtocol::Tcp, None) => {}
    }
    if let Some(it) = &pool.tls {
        tls(it, &format!("{path}.tls"), report);
    }
    if pool.proxy_protocol.is_some()
        && matches!(pool.protocol, PoolProtocol::Http2 | PoolProtocol::Auto)
    {
        report.error(
            format!("{path}.proxy_protocol"),
            "cannot be sent on HTTP/2, whose connections are shared between clients",
            "use protocol `http1`, or remove `proxy_protocol` and read X-Forwarded-For",
        );
    }
}

fn tls(it: &PoolTls, path: &str, report: &mut Report) {
    accept(report, &format!("{path}.sni"), host(&it.sni));
    if let Some(ca) = &it.ca {
        given(report, &format!("{path}.ca"), ca);
    }
    if let Some(files) = &it.client_certificate {
        given(
            report,
            &format!("{path}.client_certificate.cert"),
            &files.cert,
        );
        given(
            report,
            &format!("{path}.client_certificate.key"),
            &files.key,
        );
    }
}

fn health(it: &Health, protocol: PoolProtocol, path: &str, report: &mut Report) {
    let kinds = [
        ("http", it.http.is_some()),
        ("tcp", it.tcp.is_some()),
        ("grpc", it.grpc.is_some()),
    ];
    let given = quoted(&kinds);
    match given.len() {
        1 => {}
        0 => report.error(
            path,
            "says nothing about how to ask",
            "give one of `http`, `tcp` and `grpc`; `tcp: {}` only connects",
        ),
        _ => report.error(
            path,
            format!("has {} kinds: {}", given.len(), given.join(", ")),
            "keep one of them",
        ),
    }
    for (key, _) in kinds
        .iter()
        .filter(|(key, given)| *given && *key != "tcp" && protocol == PoolProtocol::Tcp)
    {
        report.error(
            format!("{path}.{key}"),
            "cannot be asked of a pool with protocol \"tcp\"",
            "use `tcp: {}`",
        );
    }
    if let Some(http) = &it.http {
        http_health(http, &format!("{path}.http"), report);
    }
    positive(report, &format!("{path}.interval"), it.interval);
    positive(report, &format!("{path}.timeout"), it.timeout);
    if it.timeout > it.interval {
        report.error(
            format!("{path}.timeout"),
            format!(
                "\"{}\" is longer than the interval \"{}\"",
                it.timeout, it.interval
            ),
            "shorten `timeout` or lengthen `interval`, so that checks do not pile up",
        );
    }
    within(report, &format!("{path}.rise"), it.rise, 1, u32::MAX);
    within(report, &format!("{path}.fall"), it.fall, 1, u32::MAX);
    within(
        report,
        &format!("{path}.port"),
        it.port.unwrap_or(1),
        1,
        u16::MAX,
    );
}

fn http_health(it: &HttpHealth, path: &str, report: &mut Report) {
    // A health path may carry a query; what comes before it is a path like any other.
    let bare = it.path.split('?').next().unwrap_or_default();
    accept(report, &format!("{path}.path"), canonical(bare));
    if let Some(name) = &it.host {
        accept(report, &format!("{path}.host"), authority(name));
    }
    let [low, high] = it.statuses;
    within(report, &format!("{path}.statuses[0]"), low, 100, 599);
    within(report, &format!("{path}.statuses[1]"), high, 100, 599);
    if low > high {
        report.error(
            format!("{path}.statuses"),
            format!("the lowest, {low}, is above the highest, {high}"),
            "write the lower status first",
        );
    }
}

fn connections(it: &PoolConnections, protocol: PoolProtocol, path: &str, report: &mut Report) {
    max_age(it.max_age, protocol, &format!("{path}.max_age"), report);
    positive(
        report,
        &format!("{path}.connect_timeout"),
        it.connect_timeout,
    );
    within(
        report,
        &format!("{path}.h2_streams"),
        it.h2_streams,
        1,
        u32::MAX,
    );
}

fn max_age(age: Time, protocol: PoolProtocol, path: &str, report: &mut Report) {
    if age == Time::secs(0) {
        return;
    }
    match protocol {
        PoolProtocol::Http1 | PoolProtocol::Http2 => {}
        PoolProtocol::Auto => report.error(
            path,
            "is not possible with protocol \"auto\": for each age it would be remembered anew what the endpoint speaks, without end",
            "use protocol `http2` or `http1`",
        ),
        PoolProtocol::Tcp => report.error(
            path,
            "is not used by protocol \"tcp\", whose connections are never shared",
            "remove it; `limits.connection_age` of the listener bounds those of clients",
        ),
    }
    if !(Time::secs(10)..=Time::secs(24 * 3600)).contains(&age) {
        report.error(
            path,
            format!("must be from 10s to 24h, found \"{age}\""),
            "write 0s for connections of any age",
        );
    }
}
