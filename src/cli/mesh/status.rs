//! `windrose mesh status`: one screen of the mesh as this node sees it: workloads, strictness, and who calls what.
//! It must not judge anything; the running process does, and this draws what it says, with rates from two looks.
//! Called by `windrose mesh`; exit code 0 for well, 1 for an alarm of certificates, 2 for no process that answers.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{json, Value};

use super::{each, text};
use crate::cli::certs::span;
use crate::cli::client::{admin, ask};

/// How to show it.
#[derive(Args)]
pub(in crate::cli) struct Look {
    /// The time between the two looks that rates are from, in seconds, from 0.1 to 60.
    #[arg(long, default_value = "1", value_name = "SECONDS", value_parser = seconds)]
    over: Duration,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| format!("\"{text}\" is no number"))?;
    match (0.1..=60.0).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err("must be from 0.1 to 60".to_owned()),
    }
}

/// Shows the mesh.
pub(super) fn status(path: &Path, look: &Look) -> ExitCode {
    match looked(path, look.over) {
        Ok(view) => {
            match look.json {
                true => println!("{view:#}"),
                false => print!("{}", render(&view)),
            }
            match each(&view["alarms"]).next() {
                Some(_) => ExitCode::FAILURE,
                None => ExitCode::SUCCESS,
            }
        }
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::from(2)
        }
    }
}

/// What the process says, twice.
fn looked(path: &Path, over: Duration) -> Result<Value, String> {
    let bind = admin(path)?;
    let view = |target: &str| match ask(&bind, "GET", target)? {
        (200, view) => Ok(view),
        (status, _) => Err(format!(
            "the process that runs answers {target} with {status}; is it an older one?"
        )),
    };
    let (before, began) = (view("/mesh")?, Instant::now());
    let certs = view("/certs")?;
    std::thread::sleep(over.saturating_sub(began.elapsed()));
    let now = view("/mesh")?;
    Ok(whole(&before, &now, &certs, began.elapsed()))
}

/// One document of both looks and the certificates.
fn whole(before: &Value, now: &Value, certs: &Value, between: Duration) -> Value {
    let edges = each(&now["edges"]).map(|edge| {
        let is_same = |one: &&Value| {
            ["seen", "source", "destination"]
                .iter()
                .all(|key| one[*key] == edge[*key])
        };
        let then = each(&before["edges"]).find(is_same);
        let then = then.and_then(|one| one["requests"].as_u64()).unwrap_or(0);
        let more = edge["requests"].as_u64().unwrap_or(0).saturating_sub(then);
        let rate = (more as f64 / between.as_secs_f64() * 10.0).round() / 10.0;
        let mut edge = edge.clone();
        edge["per_second"] = json!(rate);
        edge
    });
    json!({
        "workloads": certs["workloads"],
        "alarms": certs["alarms"],
        "listeners": now["listeners"],
        "edges": edges.collect::<Vec<_>>(),
    })
}

fn render(view: &Value) -> String {
    let mut out = String::new();
    for alarm in each(&view["alarms"]) {
        let _ = writeln!(out, "alarm: {}", text(alarm));
    }
    let _ = writeln!(out, "workloads");
    if each(&view["workloads"]).next().is_none() {
        let _ = writeln!(out, "  none: the configuration has no `identity`");
    }
    for one in each(&view["workloads"]) {
        let ends = one["left_seconds"]
            .as_i64()
            .map_or(String::new(), |left| format!(", {} left", span(left)));
        let (name, id) = (text(&one["name"]), text(&one["id"]));
        let _ = writeln!(out, "  {name}  {id}  {}{ends}", text(&one["state"]));
    }
    if each(&view["listeners"]).next().is_some() {
        let _ = writeln!(out, "\nmay plaintext be refused?");
    }
    for one in each(&view["listeners"]) {
        let verdict = match (text(&one["mode"]), one["safe_to_go_strict"] == true) {
            ("strict", _) => "it is",
            (_, true) => "yes",
            (_, false) => "no",
        };
        let (name, because) = (text(&one["name"]), text(&one["because"]));
        let _ = writeln!(out, "  {name}  {verdict}: {because}");
    }
    edges(view, &mut out);
    out
}

fn edges(view: &Value, out: &mut String) {
    let all = || each(&view["edges"]);
    let name = |one: &Value| format!("{} -> {}", text(&one["source"]), text(&one["destination"]));
    let width = all().map(|one| name(one).chars().count()).max();
    let Some(width) = width else {
        let _ = writeln!(out, "\nnobody called anything since the process started");
        return;
    };
    let head = "who calls what";
    let width = width.max(head.len());
    let _ = writeln!(
        out,
        "\nseen      {head:width$}  {:>8} {:>8} {:>8} {:>8} {:>6} {:>10}",
        "per s", "success", "p50", "p99", "mTLS", "bytes"
    );
    for one in all() {
        let number = |key: &str| one[key].as_f64().unwrap_or(0.0);
        let time = |key: &str| {
            one[key]
                .as_f64()
                .map_or("-".to_owned(), |ms| format!("{ms} ms"))
        };
        let bytes = number("request_bytes") + number("response_bytes");
        let _ = writeln!(
            out,
            "{:9} {:width$}  {:>8} {:>7}% {:>8} {:>8} {:>5}% {:>10}",
            text(&one["seen"]),
            name(one),
            number("per_second"),
            number("success_percent"),
            time("p50_ms"),
            time("p99_ms"),
            number("mtls_percent"),
            size(bytes),
        );
    }
    let plain = all().filter(|one| one["plaintext"].as_u64() > Some(0));
    for one in plain {
        let _ = writeln!(
            out,
            "in the clear: {} of {} {}, the last of them all at {}",
            one["plaintext"],
            one["requests"],
            name(one),
            text(&one["last"])
        );
    }
}

fn size(bytes: f64) -> String {
    let whole = bytes as u64;
    match whole {
        0..10_000 => format!("{whole} B"),
        10_000..10_000_000 => format!("{} kB", whole / 1_000),
        10_000_000..10_000_000_000 => format!("{} MB", whole / 1_000_000),
        _ => format!("{} GB", whole / 1_000_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen_has_workloads_strictness_and_edges_with_rates() {
        let edge = |requests: u64| {
            json!({"edges": [{
                "seen": "outbound", "source": "spiffe://td/web", "destination": "db", "requests": requests, "plaintext": 3,
                "success_percent": 99.5, "mtls_percent": 70.0, "p50_ms": 2.5, "p99_ms": 10.0, "request_bytes": 20_000, "response_bytes": 5000, "last": "T",
            }], "listeners": [{"name": "in", "mode": "permissive", "safe_to_go_strict": false, "because": "B"}]})
        };
        let certs = json!({"alarms": ["it is late"], "workloads": [{"name": "web", "id": "spiffe://td/web", "state": "good", "left_seconds": 7200}]});

        let view = whole(&edge(6), &edge(10), &certs, Duration::from_secs(2));
        let shown = render(&view);

        assert_eq!(view["edges"][0]["per_second"], 2.0);
        for part in [
            "alarm: it is late\nworkloads\n  web  spiffe://td/web  good, 2 h 0 min left",
            "  in  no: B",
            "outbound  spiffe://td/web -> db         2    99.5%   2.5 ms    10 ms    70%      25 kB",
            "in the clear: 3 of 10 spiffe://td/web -> db",
        ] {
            assert!(shown.contains(part), "{part}:\n{shown}");
        }
    }
}
