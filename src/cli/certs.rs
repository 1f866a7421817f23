//! `windrose certs`: the clock of every certificate of the node, how long their source may stay away, and who falls first.
//! It must not judge anything; the running process does, and this draws what it says.
//! Called by `cli`; exit code 0 for well, 1 for an alarm, 2 for no process that answers.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;

use super::client::{admin, ask};

/// Shows the clocks of the running process.
pub(super) fn certs(path: &Path, json: bool) -> ExitCode {
    let view = match admin(path).and_then(|bind| ask(&bind, "GET", "/certs")) {
        Ok((200, view)) => view,
        Ok(_) => {
            return unreachable("the process that runs does not know /certs; is it an older one?")
        }
        Err(problem) => return unreachable(&problem),
    };
    match json {
        true => println!("{view:#}"),
        false => print!("{}", render(&view)),
    }
    match view["alarms"]
        .as_array()
        .is_some_and(|alarms| !alarms.is_empty())
    {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

fn unreachable(problem: &str) -> ExitCode {
    eprintln!("{problem}");
    ExitCode::from(2)
}

fn render(view: &Value) -> String {
    let mut out = String::new();
    let Some(source) = view["source"].as_object() else {
        return "no identities: the configuration has no `identity`\n".into();
    };
    for alarm in each(&view["alarms"]) {
        let _ = writeln!(out, "alarm: {}", text(alarm));
    }
    let how = match (source["answers"] == true, source.get("failing_since")) {
        (true, _) => "answers".to_owned(),
        (false, Some(since)) => format!("fails since {}", text(since)),
        (false, None) => "has not answered yet".to_owned(),
    };
    let _ = writeln!(out, "source {}: {how}", text(&source["kind"]));
    if let Some(left) = view["source_may_be_away_seconds"].as_i64() {
        let _ = writeln!(
            out,
            "it may stay away for {}; first to fall: {}",
            span(left),
            text(&view["first_to_fall"])
        );
    }
    if let Some(left) = view["node"]["left_seconds"].as_i64() {
        node(&view["node"], left, &mut out);
    }
    for one in each(&view["workloads"]) {
        workload(one, &mut out);
    }
    let _ = writeln!(out);
    for one in each(&view["roots"]) {
        let _ = writeln!(
            out,
            "roots of {}: {}, the first ends {}",
            text(&one["trust_domain"]),
            one["roots"],
            text(&one["first_ends"])
        );
    }
    out
}

/// The node's own certificate, without which no other is renewed.
fn node(one: &Value, left: i64, out: &mut String) {
    let _ = writeln!(
        out,
        "\nthe node itself  {}  {}\n  to {}, {} left, next one wanted at {}",
        text(&one["id"]),
        text(&one["state"]),
        text(&one["not_after"]),
        span(left),
        text(&one["renew_at"])
    );
    if let Some(error) = one["error"].as_str() {
        let _ = writeln!(out, "  {} failures: {error}", one["failures"]);
    }
}

fn workload(one: &Value, out: &mut String) {
    let _ = writeln!(
        out,
        "\n{}  {}  {}",
        text(&one["name"]),
        text(&one["id"]),
        text(&one["state"])
    );
    if let Some(left) = one["left_seconds"].as_i64() {
        let _ = writeln!(
            out,
            "  serial {}, by {}",
            text(&one["serial"]),
            text(&one["issuer"])
        );
        let _ = writeln!(
            out,
            "  from {} to {}, {} left",
            text(&one["not_before"]),
            text(&one["not_after"]),
            span(left)
        );
        let renew = match one["renew_at"].as_str() {
            Some(at) => format!("next one wanted at {at}"),
            None => "renewed by its source".to_owned(),
        };
        let _ = writeln!(out, "  in use since {}, {renew}", text(&one["renewed_at"]));
    }
    if let Some(error) = one["error"].as_str() {
        let _ = writeln!(out, "  {} failures: {error}", one["failures"]);
    }
}

fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// Seconds as people say them.
pub(super) fn span(seconds: i64) -> String {
    match seconds {
        i64::MIN..=0 => "0 s".into(),
        172_800.. => format!("{} days", seconds / 86_400),
        7200.. => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        120.. => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_clock_is_told_with_the_alarm_first() {
        let view = json!({
            "source": {"kind": "ca", "answers": false, "failing_since": "2026-01-01T00:00:00Z"},
            "source_may_be_away_seconds": 25_930, "first_to_fall": "web",
            "node": {"id": "spiffe://td/windrose/node/0", "state": "good", "not_after": "e", "left_seconds": 100, "renew_at": "f", "failures": 1, "error": "no"},
            "workloads": [{
                "name": "web", "id": "spiffe://td/web", "state": "late", "serial": "ab", "issuer": "windrose issuer of root 1",
                "not_before": "a", "not_after": "b", "left_seconds": 25_930, "renewed_at": "c", "failures": 3, "error": "refused",
            }],
            "roots": [{"trust_domain": "td", "roots": 2, "first_ends": "d"}],
            "alarms": ["it is late"],
        });

        let shown = render(&view);

        assert!(
            shown.starts_with("alarm: it is late\nsource ca: fails since 2026-01-01T00:00:00Z\n"),
            "{shown}"
        );
        for part in [
            "may stay away for 7 h 12 min; first to fall: web",
            "3 failures: refused",
            "the node itself  spiffe://td/windrose/node/0  good",
            "to e, 100 s left, next one wanted at f",
            "1 failures: no",
            "roots of td: 2, the first ends d",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(render(&json!({"alarms": []})).contains("no identities"));
    }
}
