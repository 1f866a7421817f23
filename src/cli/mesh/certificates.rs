//! Whether workloads have certificates that last, their source answers, and there are roots to believe others by.
//! It must not judge a certificate; the running process does, and this reads what it says.
//! Part of `windrose mesh check`.

use serde_json::Value;

use super::findings::{Findings, Word};
use super::{each, text, Scene};
use crate::cli::certs::span;

/// What the process says of certificates, if it does.
pub(super) fn check(scene: &Scene<'_>, found: &mut Findings) -> Option<Value> {
    if scene.config.identity.is_none() {
        let fact = "this node has no `identity`: traffic between nodes is in the clear";
        let remedy = "`identity` names workloads and where their certificates come from";
        found.add(AREA, Word::NotProven, fact, remedy);
        return None;
    }
    let view = match scene.view("/certs") {
        Ok(view) => view,
        Err(problem) => {
            found.add(AREA, Word::NotProven, problem, "");
            return None;
        }
    };
    judge(&view, found);
    Some(view)
}

/// What is to be told of the view.
fn judge(view: &Value, found: &mut Findings) {
    source(view, found);
    if view["node"].is_object() {
        one("the node itself", &view["node"], found);
    }
    for workload in each(&view["workloads"]) {
        let name = format!("workload {}", text(&workload["name"]));
        one(&name, workload, found);
    }
    roots(view, found);
}

fn source(view: &Value, found: &mut Findings) {
    let source = &view["source"];
    let kind = text(&source["kind"]);
    if source["answers"] == true {
        return found.ok(AREA, format!("the source `{kind}` answers"));
    }
    let since = match source["failing_since"].as_str() {
        Some(since) => format!("does not answer since {since}"),
        None => "has not answered yet".to_owned(),
    };
    let away = view["source_may_be_away_seconds"].as_i64();
    let left = match away {
        Some(left) => format!(
            "it may stay away for {}; first to fall: {}",
            span(left),
            text(&view["first_to_fall"])
        ),
        None => "nobody has a certificate".to_owned(),
    };
    let fact = format!("the source `{kind}` {since}; {left}");
    let word = if away > Some(0) {
        Word::Warning
    } else {
        Word::Wrong
    };
    let remedy = match source["error"].as_str() {
        Some(error) => format!("see whether it runs and can be reached: {error}"),
        None => "see whether it runs and can be reached".to_owned(),
    };
    found.add(AREA, word, fact, remedy);
}

/// A certificate's clock.
fn one(name: &str, clock: &Value, found: &mut Findings) {
    let left = clock["left_seconds"].as_i64().unwrap_or(0);
    let renewal = match clock["renew_at"].as_str() {
        Some(at) => format!("the next one is wanted at {at}"),
        None => "its source renews it".to_owned(),
    };
    let (word, fact) = match text(&clock["state"]) {
        "good" => {
            let fact = format!(
                "{name} is {} for {}; {renewal}",
                text(&clock["id"]),
                span(left)
            );
            return found.ok(AREA, fact);
        }
        "late" => {
            let fact = format!("the certificate of {name} is late: {} left", span(left));
            (Word::Warning, fact)
        }
        "missing" => (Word::Wrong, format!("{name} has no certificate")),
        _ => (
            Word::Wrong,
            format!("the certificate of {name} is over; peers refuse it"),
        ),
    };
    let remedy = match clock["error"].as_str() {
        Some(error) => format!("the last try failed: {error}"),
        None => "see whether its source answers, and what the log says of it".to_owned(),
    };
    found.add(AREA, word, fact, remedy);
}

fn roots(view: &Value, found: &mut Findings) {
    let since = view["roots_since"].as_str().unwrap_or("the start");
    let mut count = 0;
    for bundle in each(&view["roots"]) {
        count += 1;
        let (domain, left) = (
            text(&bundle["trust_domain"]),
            bundle["left_seconds"].as_i64().unwrap_or(0),
        );
        let roots = &bundle["roots"];
        let fact = match left {
            ..=0 => format!("a root of {domain} is over; what it signed is refused"),
            _ => format!(
                "{roots} roots of {domain} in use since {since}, the first ends in {}",
                span(left)
            ),
        };
        let word = match left {
            ..=0 => Word::Wrong,
            1..=SOON => Word::Warning,
            _ => Word::Ok,
        };
        let remedy = match word {
            Word::Ok => "",
            _ => "change it in time: `windrose ca rotate begin`, or hand out a new bundle",
        };
        found.add(AREA, word, fact, remedy);
    }
    if count == 0 {
        let remedy = "the source has to give the roots of the own trust domain";
        let fact = "there are no roots: nobody is believed";
        found.add(AREA, Word::Wrong, fact, remedy);
    }
}

const AREA: &str = "certificates";
/// Roots are changed in phases that take days.
const SOON: i64 = 14 * 86_400;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_falls_first_is_told_and_what_is_over_is_wrong() {
        let view = json!({
            "source": {"kind": "ca", "answers": false, "failing_since": "A", "error": "refused"},
            "source_may_be_away_seconds": 600, "first_to_fall": "web",
            "workloads": [
                {"name": "web", "id": "spiffe://td/web", "state": "late", "left_seconds": 600, "error": "no route"},
                {"name": "db", "id": "spiffe://td/db", "state": "good", "left_seconds": 9000, "renew_at": "B"},
                {"name": "old", "id": "spiffe://td/old", "state": "expired", "left_seconds": -5},
            ],
            "roots": [{"trust_domain": "td", "roots": 1, "left_seconds": 86_400}],
            "roots_since": "C",
        });
        let mut found = Findings::default();

        judge(&view, &mut found);

        let told = found.text();
        for part in [
            "`ca` does not answer since A; it may stay away for 10 min; first to fall: web",
            "late: 10 min left",
            "-> the last try failed: no route",
            "workload db is spiffe://td/db for 2 h 30 min; the next one is wanted at B",
            "certificate of workload old is over",
            "warning     certificates  1 roots of td in use since C",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert_eq!(found.worst(), Word::Wrong);
    }

    #[test]
    fn without_roots_nobody_is_believed() {
        let mut found = Findings::default();

        judge(
            &json!({"source": {"kind": "files", "answers": true}}),
            &mut found,
        );

        assert!(
            found.text().contains("nobody is believed"),
            "{}",
            found.text()
        );
    }
}
