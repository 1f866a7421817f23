//! Whether this node's clock agrees with the authority's and with those of peers: certificates are valid by the clock.
//! It must not ask anybody; it reads what the process, the handshakes and plain endpoints told.
//! Part of `windrose mesh check`.

use std::net::SocketAddr;

use serde_json::Value;

use super::findings::{Findings, Word};
use super::{each, text};

/// Judges every clock that could be seen.
pub(super) fn check(
    certs: Option<&Value>,
    proven: Option<&Value>,
    told: &[(SocketAddr, i64)],
    found: &mut Findings,
) {
    let mut seen = 0;
    if let Some(certs) = certs {
        seen += authority(&certs["source"], found);
        issued(certs, found);
    }
    if let Some(proven) = proven {
        seen += handshakes(proven, found);
    }
    seen += peers(told, found);
    if seen == 0 {
        let fact = "neither an authority nor a peer tells its time";
        let remedy = "let something keep time on every node (NTP, chrony)";
        found.add(AREA, Word::NotProven, fact, remedy);
    }
}

/// The built-in authority says what time it is in each answer.
fn authority(source: &Value, found: &mut Findings) -> usize {
    let Some(ahead) = source["clock_ahead_seconds"].as_i64() else {
        return 0;
    };
    let at = text(&source["clock_told_at"]);
    let fact = format!("the authority's clock was {} at {at}", apart(ahead));
    judge(ahead, fact, found);
    1
}

/// A certificate that begins after it came was issued by a clock that is ahead.
fn issued(certs: &Value, found: &mut Findings) {
    let early = each(&certs["workloads"]).filter_map(|one| {
        let before = one["began_before_seconds"].as_i64()?;
        (before < 0).then(|| (text(&one["name"]), -before))
    });
    for (name, ahead) in early {
        let fact =
            format!("the certificate of {name} began {ahead} s after it came: this clock is behind its issuer's");
        judge(ahead, fact, found);
    }
}

/// Certificates of peers that are not good yet, or no longer.
fn handshakes(proven: &Value, found: &mut Findings) -> usize {
    let all = each(&proven["proofs"]);
    let mut good = 0;
    for proof in all {
        let what = match proof["cause"].as_str() {
            None => {
                good += 1;
                continue;
            }
            Some("mtls.not_yet_valid") => "is not good yet by this node's clock",
            Some("mtls.expired") => "is over by this node's clock",
            Some(_) => continue,
        };
        let fact = format!("the certificate of {} {what}", text(&proof["address"]));
        found.add(AREA, Word::Wrong, fact, REMEDY);
    }
    if good > 0 {
        let fact = format!("certificates of {good} handshakes are good by this node's clock");
        found.ok(AREA, fact);
    }
    good
}

/// The `Date` of plain endpoints.
fn peers(told: &[(SocketAddr, i64)], found: &mut Findings) -> usize {
    let mut agree = 0;
    for (address, ahead) in told {
        if ahead.abs() <= TOLERATED {
            agree += 1;
            continue;
        }
        let fact = format!("the clock of {address} is {}", apart(*ahead));
        judge(*ahead, fact, found);
    }
    if agree > 0 {
        let fact = format!("{agree} plain endpoints have this node's time, within {TOLERATED} s");
        found.ok(AREA, fact);
    }
    told.len()
}

fn judge(ahead: i64, fact: String, found: &mut Findings) {
    match ahead.abs() {
        apart if apart <= NOTABLE => found.ok(AREA, fact),
        apart if apart <= TOLERATED => found.add(AREA, Word::Warning, fact, REMEDY),
        _ => {
            let fact = format!("{fact}; {TOLERATED} s are tolerated");
            found.add(AREA, Word::Wrong, fact, REMEDY);
        }
    }
}

fn apart(ahead: i64) -> String {
    match ahead {
        ..0 => format!("{} s behind this one's", -ahead),
        _ => format!("{ahead} s ahead of this one's"),
    }
}

const AREA: &str = "clocks";
const REMEDY: &str = "let both keep time (NTP): certificates are valid by the clock";
/// Half of what the built-in authority lets clocks be behind unless told otherwise (`windrose ca init --clock-skew`).
const TOLERATED: i64 = 30;
/// What the grain of `Date` and a slow answer explain.
const NOTABLE: i64 = 3;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn clocks_that_differ_are_told_and_how_much_is_tolerated() {
        let mut found = Findings::default();
        let certs = json!({
            "source": {"clock_ahead_seconds": -10, "clock_told_at": "A"},
            "workloads": [{"name": "web", "began_before_seconds": -90}, {"name": "db", "began_before_seconds": 60}],
        });
        let proven = json!({"proofs": [
            {"address": "10.0.0.3:1", "cause": "mtls.not_yet_valid"},
            {"address": "10.0.0.4:1", "proven": "spiffe://td/a"},
        ]});
        let told = [
            ("10.0.0.1:1".parse().unwrap(), 40),
            ("10.0.0.2:1".parse().unwrap(), -2),
        ];

        check(Some(&certs), Some(&proven), &told, &mut found);

        let text = found.text();
        for part in [
            "warning     clocks        the authority's clock was 10 s behind this one's at A",
            "the certificate of web began 90 s after it came",
            "the certificate of 10.0.0.3:1 is not good yet",
            "certificates of 1 handshakes are good",
            "10.0.0.1:1 is 40 s ahead of this one's; 30 s are tolerated",
            "1 plain endpoints have this node's time",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(found.worst(), Word::Wrong);
    }

    #[test]
    fn nobody_who_tells_the_time_proves_nothing() {
        let mut found = Findings::default();

        check(None, None, &[], &mut found);

        assert_eq!(found.worst(), Word::NotProven);
    }
}
