//! What is looked at: the process, rules and a connection that should be captured, certificates, decisions, peers and clocks.
//! It must not change anything.
//! Called by `windrose mesh check`.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::findings::{Findings, Word};
use crate::cli::{capture, client};
use crate::config::schema::{Config, Endpoint, PoolProtocol, Role};

/// Whether the process is there and ready.
pub(super) fn process(path: &Path, found: &mut Findings) -> bool {
    match client::admin(path).and_then(|bind| client::ask(&bind, "GET", "/readyz")) {
        Ok((200, _)) => {
            found.well("process", "is ready");
            true
        }
        Ok((_, body)) => {
            let reason = body["reason"].as_str().unwrap_or("it does not say why");
            let remedy = "`windrose status` says what needs attention";
            found.add(
                "process",
                Word::Wrong,
                format!("is not ready: {reason}"),
                remedy,
            );
            true
        }
        Err(problem) => {
            let remedy = "start it with this configuration";
            found.add("process", Word::Wrong, problem, remedy);
            false
        }
    }
}

/// Whether the rules are in force, and a connection of a captured user really comes in.
pub(super) fn capture(path: &Path, config: &Config, state: &Path, found: &mut Findings) {
    let captures = config.listeners.iter().any(|one| one.capture.is_some());
    let records = capture::records(state);
    if !captures {
        if !records.is_empty() {
            let remedy =
                "remove them with `windrose capture remove`, or set `capture` on a listener";
            found.add(
                "capture",
                Word::Wrong,
                "rules are recorded, but no listener captures",
                remedy,
            );
        }
        return;
    }
    if records.is_empty() {
        let fact = format!("no rules are recorded in {}", state.display());
        let remedy =
            "put them in force with `windrose capture apply`, or name the folder with --state";
        found.add("capture", Word::Wrong, fact, remedy);
    }
    for record in records {
        match record.is_in_force() {
            Ok(true) => found.well(
                "capture",
                format!("the rules \"{}\" are in force", record.name),
            ),
            Ok(false) => {
                let fact = format!("the rules \"{}\" are recorded, but gone", record.name);
                found.add(
                    "capture",
                    Word::Wrong,
                    fact,
                    "`windrose capture apply` puts them in force again",
                );
            }
            Err(problem) => {
                found.add("capture", Word::Skipped, problem, "run this as root");
            }
        }
        probe(path, &record, found);
    }
}

/// An address of documentation (RFC 5737) that nothing answers at: who connects all the same was captured.
const NOWHERE: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 254)),
    80,
);
const PATIENCE: Duration = Duration::from_secs(2);

fn probe(path: &Path, record: &capture::Record, found: &mut Findings) {
    let Some(user) = record.user else {
        let fact = format!(
            "no connection is tried for \"{}\": it is not for a user",
            record.name
        );
        return found.add("capture", Word::Skipped, fact, "");
    };
    let Ok(binary) = std::env::current_exe() else {
        return;
    };
    let before = connections(path);
    let mut command = Command::new(binary);
    command.arg("probe-connection").uid(user).gid(user);
    let reached = match command.output() {
        Ok(output) => output.status.success(),
        Err(error) => {
            let fact = format!("no connection can be tried as user {user}: {error}");
            return found.add("capture", Word::Skipped, fact, "run this as root");
        }
    };
    let came = connections(path) > before;
    match (reached, came) {
        (true, true) => found.well(
            "capture",
            format!("a connection of user {user} was captured"),
        ),
        (true, false) => found.add(
            "capture",
            Word::Wrong,
            format!("a connection of user {user} to {NOWHERE} was taken, but not by this process"),
            "another rule or process captures it; look at `nft list ruleset`",
        ),
        (false, _) => found.add(
            "capture",
            Word::Wrong,
            format!("a connection of user {user} was not captured"),
            "look for rules that come before ours: `nft list ruleset`",
        ),
    }
}

/// Connects to where nobody is; run as another user. Exit code 0 if somebody took it.
pub(in crate::cli) fn connects() -> bool {
    TcpStream::connect_timeout(&NOWHERE, PATIENCE).is_ok()
}

/// Connections that came in so far.
fn connections(path: &Path) -> f64 {
    let text = client::admin(path).and_then(|bind| client::text(&bind, "/metrics"));
    let text = text.unwrap_or_default();
    let lines = text.lines().filter(|line| {
        line.starts_with("windrose_connections_total{") && line.contains("mesh-outbound")
    });
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// Whether workloads have certificates, and for how long.
pub(super) fn certificates(path: &Path, config: &Config, found: &mut Findings) {
    let Some(identity) = &config.identity else {
        let fact = "this node has no `identity`: traffic between nodes is in the clear";
        return found.add("certificates", Word::Skipped, fact, "");
    };
    let text = client::admin(path).and_then(|bind| client::text(&bind, "/metrics"));
    let text = text.unwrap_or_default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0.0, |now| now.as_secs_f64());
    for workload in &identity.workloads {
        let name = &workload.name;
        let mark = format!("windrose_identity_expiry_timestamp_seconds{{workload=\"{name}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&*mark));
        let ends = line
            .and_then(|line| line.parse::<f64>().ok())
            .unwrap_or(0.0);
        let left = ends - now;
        let remedy = "see whether the source of certificates answers, and what the log says of it";
        if left > 0.0 {
            let hours = left / 3600.0;
            let word = if hours < 1.0 { Word::Doubt } else { Word::Well };
            let fact = format!("{name} has a certificate for {hours:.1} h");
            found.add(
                "certificates",
                word,
                fact,
                if hours < 1.0 { remedy } else { "" },
            );
        } else {
            let fact = match ends > 0.0 {
                true => format!("the certificate of {name} is over"),
                false => format!("{name} has no certificate"),
            };
            found.add("certificates", Word::Wrong, fact, remedy);
        }
    }
}

/// Whether each service is decided to be itself.
pub(super) fn decisions(path: &Path, config: &Config, found: &mut Findings) {
    let listener = config
        .listeners
        .iter()
        .find(|one| one.role == Role::MeshOutbound);
    let Some(listener) = listener else { return };
    let mut wrong = 0;
    let routes = config.routes.iter().filter(|route| route.service.is_some());
    let routes: Vec<_> = routes
        .filter(|route| {
            let names = route.listeners.iter().flatten();
            names.clone().any(|name| *name == listener.name) && listener.service.is_none()
        })
        .collect();
    for route in routes.iter().take(MOST_DECISIONS) {
        let (Some(host), Some(service)) = (route.hosts.first(), &route.service) else {
            continue;
        };
        if route.protocol != crate::config::schema::RouteProtocol::Http || host.starts_with('*') {
            continue;
        }
        let question = json!({
            "method": "GET", "url": format!("http://{host}:{}/", service.port), "listener": listener.name,
        });
        let told = client::post(path, "/explain", &question.to_string());
        let outcome = told.map(|(_, told)| told["outcome"].clone());
        let went = outcome
            .as_ref()
            .map(|outcome| outcome["route"].as_str().unwrap_or("none"));
        match went {
            Ok(went) if went == route.name => {}
            Ok(went) => {
                wrong += 1;
                let cause = outcome.as_ref().ok().and_then(|it| it["cause"].as_str());
                let cause =
                    cause.map_or(String::new(), |cause| format!(", and ends with `{cause}`"));
                let fact = format!("a request for {host} goes by the route \"{went}\"{cause}");
                let remedy = format!(
                    "`windrose explain GET http://{host}/ --listener {}` says why",
                    listener.name
                );
                found.add("decisions", Word::Doubt, fact, remedy);
            }
            Err(problem) => {
                return found.add("decisions", Word::Skipped, problem.clone(), "");
            }
        }
    }
    if wrong == 0 && !routes.is_empty() {
        let count = routes.len().min(MOST_DECISIONS);
        found.well(
            "decisions",
            format!("{count} services are decided to be themselves"),
        );
    }
}

const MOST_DECISIONS: usize = 100;

/// Whether the endpoints of pools answer, and have the same time.
pub(super) fn peers(config: &Config, found: &mut Findings) {
    let pools = config.pools.iter();
    let mut endpoints: BTreeSet<(SocketAddr, bool, &str)> = BTreeSet::new();
    for pool in pools.filter(|pool| !pool.is_quarantined) {
        let is_plain = pool.tls.is_none() && pool.protocol == PoolProtocol::Http1;
        for endpoint in &pool.endpoints {
            let text = match endpoint {
                Endpoint::Address(text) => text,
                Endpoint::Full(full) => &full.address,
            };
            if let Ok(address) = text.parse() {
                endpoints.insert((address, is_plain, &pool.name));
            }
        }
    }
    let all = endpoints.len();
    let mut silent = 0;
    let mut clocks = Vec::new();
    for (address, is_plain, pool) in endpoints.into_iter().take(MOST_PEERS) {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) if is_plain => clocks.extend(skew(stream).map(|skew| (address, skew))),
            Ok(_) => {}
            Err(error) => {
                silent += 1;
                let fact = format!("{address} of pool \"{pool}\" does not answer: {error}");
                found.add(
                    "peers",
                    Word::Wrong,
                    fact,
                    "see whether it runs, and whether the network lets this node reach it",
                );
            }
        }
    }
    if all > 0 && silent == 0 {
        let looked = all.min(MOST_PEERS);
        found.well("peers", format!("{looked} of {all} endpoints answer"));
    }
    clock(&clocks, found);
}

const MOST_PEERS: usize = 200;

/// Seconds that a peer's clock is ahead of this one's, by the `Date` of an answer; `None` where it sends none.
fn skew(mut stream: TcpStream) -> Option<i64> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let request = "HEAD / HTTP/1.1\r\nhost: clock\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).ok()?;
    let mut bytes = [0; 4096];
    let read = stream.read(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes[..read]);
    let date = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("date")
            .then(|| value.trim().to_owned())
    })?;
    let theirs = httpdate::parse_http_date(&date).ok()?;
    let theirs = theirs.duration_since(UNIX_EPOCH).ok()?.as_secs();
    let ours = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    Some(i64::try_from(theirs).ok()? - i64::try_from(ours).ok()?)
}

fn clock(clocks: &[(SocketAddr, i64)], found: &mut Findings) {
    let off = clocks.iter().filter(|(_, skew)| skew.abs() > MOST_SKEW);
    for (address, skew) in off.clone() {
        let fact = format!("the clock of {address} is {skew} s ahead of this one's");
        found.add(
            "clocks",
            Word::Wrong,
            fact,
            "let both keep time (NTP): certificates are valid by the clock",
        );
    }
    match (clocks.len(), off.count()) {
        (0, _) => found.add("clocks", Word::Skipped, "no peer tells its time", ""),
        (count, 0) => found.well("clocks", format!("{count} peers have this node's time")),
        _ => {}
    }
}

/// Certificates begin a little in the past, but not by much.
const MOST_SKEW: i64 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_differ_are_told() {
        let mut found = Findings::default();
        clock(
            &[
                ("10.0.0.1:1".parse().unwrap(), 40),
                ("10.0.0.2:1".parse().unwrap(), -2),
            ],
            &mut found,
        );

        assert_eq!(found.worst(), Word::Wrong);
        assert!(
            found.text().contains("10.0.0.1:1 is 40 s ahead"),
            "{}",
            found.text()
        );
        assert!(serde_json::from_str::<serde_json::Value>(&found.json()).is_ok());
    }
}
