//! Whether endpoints are who they should be: the process proves those over mutual TLS, those in the clear only have to answer.
//! It must not hold keys; handshakes are made by the process that has them.
//! Part of `windrose mesh check`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::findings::{Findings, Word};
use super::{each, text, Scene};
use crate::config::schema::{Endpoint, PoolProtocol};

/// Has the process prove every endpoint of pools with `mtls`; what it found, if it could.
pub(super) fn mutual(scene: &Scene<'_>, found: &mut Findings) -> Option<Value> {
    let pools = scene.config.pools.iter();
    if !pools.clone().any(|pool| pool.mtls.is_some()) {
        let fact = "no pool has `mtls`: nobody is proven";
        let remedy = "`mtls: {peers: [...]}` of a pool says who its endpoints may be";
        found.add(AREA, Word::NotProven, fact, remedy);
        return None;
    }
    match scene.told("/mesh/probe", "") {
        Ok(view) => {
            judge(&view, found);
            Some(view)
        }
        Err(problem) => {
            found.add(AREA, Word::NotProven, problem, "");
            None
        }
    }
}

/// What is to be told of the handshakes: failures each, successes by pool and caller.
fn judge(view: &Value, found: &mut Findings) {
    let mut good: BTreeMap<[&str; 2], (usize, BTreeSet<&str>, usize)> = BTreeMap::new();
    for proof in each(&view["proofs"]) {
        let (pool, workload) = (text(&proof["pool"]), text(&proof["workload"]));
        if let Some(cause) = proof["cause"].as_str() {
            let fact = format!(
                "{} of pool \"{pool}\", called by {workload}: {cause}: {}",
                text(&proof["address"]),
                text(&proof["detail"])
            );
            found.add(AREA, Word::Wrong, fact, text(&proof["next_step"]));
            continue;
        }
        let one = good.entry([pool, workload]).or_default();
        one.0 += 1;
        one.1.insert(text(&proof["proven"]));
        one.2 += usize::from(proof["accepted"] == "yes");
    }
    for ([pool, workload], (count, ids, accepted)) in good {
        let ids: Vec<&str> = ids.into_iter().collect();
        let told = match accepted == count {
            true => String::new(),
            false => format!("; {} do not tell whether they let it in", count - accepted),
        };
        let fact = format!(
            "{count} endpoints of pool \"{pool}\" proved to {workload} that they are {}{told}",
            ids.join(", ")
        );
        found.ok(AREA, fact);
    }
    let proofs = view["proofs"].as_array().map_or(0, Vec::len);
    if proofs == 0 {
        let fact = "no pool with `mtls` has an endpoint, or no workload calls";
        found.add(AREA, Word::NotProven, fact, "look at /pools");
    }
    if let Some(left @ 1..) = view["left_out"].as_u64() {
        let fact = format!("{left} further handshakes were not made, {proofs} are the most");
        found.add(AREA, Word::NotProven, fact, "");
    }
}

/// Whether endpoints in the clear answer; how far ahead the clocks are that HTTP ones tell.
pub(super) fn plain(scene: &Scene<'_>, found: &mut Findings) -> Vec<(SocketAddr, i64)> {
    let endpoints = in_the_clear(scene);
    let all = endpoints.len();
    let mut silent = 0;
    let mut clocks = Vec::new();
    for (address, is_http, pool) in endpoints.into_iter().take(MOST) {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) if is_http => clocks.extend(ahead(stream).map(|ahead| (address, ahead))),
            Ok(_) => {}
            Err(error) => {
                silent += 1;
                let fact = format!("{address} of pool \"{pool}\" does not answer: {error}");
                let remedy = "see whether it runs, and whether the network lets this node reach it";
                found.add(AREA, Word::Wrong, fact, remedy);
            }
        }
    }
    if all > 0 && silent == 0 {
        let looked = all.min(MOST);
        let fact =
            format!("{looked} of {all} endpoints answer in the clear; nobody proves who they are");
        found.ok(AREA, fact);
    }
    clocks
}

/// Endpoints that are written, of pools without `mtls`; whether they speak HTTP/1.1 without TLS, and their pool.
fn in_the_clear<'a>(scene: &Scene<'a>) -> BTreeSet<(SocketAddr, bool, &'a str)> {
    let mut endpoints = BTreeSet::new();
    let pools = scene.config.pools.iter();
    for pool in pools.filter(|pool| !pool.is_quarantined && pool.mtls.is_none()) {
        let is_http = pool.tls.is_none()
            && pool.protocol == PoolProtocol::Http1
            && pool.proxy_protocol.is_none();
        for endpoint in &pool.endpoints {
            let text = match endpoint {
                Endpoint::Address(text) => text,
                Endpoint::Full(full) => &full.address,
            };
            if let Ok(address) = text.parse() {
                endpoints.insert((address, is_http, &*pool.name));
            }
        }
    }
    endpoints
}

/// Seconds that a peer's clock is ahead of this one's, by the `Date` of an answer; `None` where it sends none.
fn ahead(mut stream: TcpStream) -> Option<i64> {
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

const AREA: &str = "peers";
/// Endpoints in the clear that are tried.
const MOST: usize = 200;
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_failure_has_its_word_and_what_to_do_and_the_rest_is_summed_up() {
        let proof = |address: &str, accepted: &str| json!({"pool": "db", "address": address, "workload": "web", "proven": "spiffe://td/db", "accepted": accepted});
        let view = json!({"left_out": 3, "proofs": [
            proof("10.0.0.1:1", "yes"),
            proof("10.0.0.2:1", "not_told"),
            {"pool": "db", "address": "10.0.0.3:1", "workload": "web", "cause": "mtls.wrong_peer", "detail": "it is another", "next_step": "compare"},
        ]});
        let mut found = Findings::default();

        judge(&view, &mut found);

        let text = found.text();
        for part in [
            "10.0.0.3:1 of pool \"db\", called by web: mtls.wrong_peer: it is another",
            "-> compare",
            "2 endpoints of pool \"db\" proved to web that they are spiffe://td/db; 1 do not tell",
            "3 further handshakes were not made",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(found.worst(), Word::Wrong);
    }
}
