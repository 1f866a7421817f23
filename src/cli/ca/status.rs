//! `windrose ca status`: roots and phase, what holds the next phase up, nodes with what they trust.
//! It must not change anything.
//! Called by `cli::ca`.

use std::path::Path;
use std::process::ExitCode;

use serde_json::{json, Value};

use crate::ca::{Authority, Node, State};
use crate::cli::client::failed;

/// Shows it.
pub(super) fn status(folder: &Path, as_json: bool) -> ExitCode {
    let seen = Authority::open(folder).and_then(|ca| look(&ca));
    let view = match seen {
        Ok(view) => view,
        Err(problem) => return failed(&problem),
    };
    if as_json {
        println!("{view:#}");
    } else {
        tell(&view);
    }
    match view["attention"]
        .as_array()
        .is_some_and(|all| !all.is_empty())
    {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

fn look(ca: &Authority) -> Result<Value, String> {
    let state = ca.state()?;
    let now = crate::ca::unix_now();
    let (issuer_ends, renews) = ca.issuer_ends(&state)?;
    let nodes = ca.nodes()?;
    let valid = ca.valid()?.len();
    let tokens = ca.tokens()?;
    let open = tokens
        .iter()
        .filter(|token| token.used.is_none() && token.expires > now)
        .count();
    let mut attention = Vec::new();
    if issuer_ends < now + A_MONTH && !renews {
        attention.push(format!("the issuer ends in {} and the root's key is not here: `windrose ca rotate issuer --root-key FILE`", shown(issuer_ends)));
    }
    let is_gone = |node: &&Node| node.ends <= now;
    for node in nodes.iter().filter(is_gone) {
        attention.push(format!(
            "{}: its certificate ended; it has to join again, or `windrose ca forget {}`",
            node.shown(),
            key(node)
        ));
    }
    let phase = phase(ca, &state)?;
    let roots = state.roots.iter().map(|root| {
        json!({"number": root.number, "hash": format!("sha256:{}", root.hash), "since": root.since, "issues": root.number == state.issuing})
    });
    let trusts = |node: &Node| -> Vec<u32> {
        let roots = state
            .roots
            .iter()
            .filter(|root| node.trusts.contains(&root.hash));
        roots.map(|root| root.number).collect()
    };
    let nodes = nodes.iter().map(|node| {
        json!({
            "name": node.name, "id": node.id, "shown": node.shown(), "grant": node.grant.to_string(),
            "seen": node.seen, "ends": node.ends, "trusts": trusts(node),
        })
    });
    Ok(json!({
        "trust_domain": state.trust_domain,
        "leaf_seconds": state.leaf_seconds,
        "roots": roots.collect::<Vec<_>>(),
        "issuer": {"ends": issuer_ends, "renews_itself": renews},
        "rotation": phase,
        "nodes": nodes.collect::<Vec<_>>(),
        "certificates": valid,
        "open_tokens": open,
        "attention": attention,
    }))
}

/// How far a change of roots is, and what it waits for.
fn phase(ca: &Authority, state: &State) -> Result<Value, String> {
    let Some(rotation) = &state.rotation else {
        return Ok(Value::Null);
    };
    Ok(match rotation.switched {
        None => {
            let waits: Vec<String> = ca.stragglers(state)?.iter().map(Node::shown).collect();
            let next = if waits.is_empty() { "switch" } else { "wait" };
            json!({"to": rotation.to, "phase": "trusted", "next": next, "waits_for": waits})
        }
        Some(_) => {
            let waits: Vec<String> = ca
                .leaves_of_old(state)?
                .into_iter()
                .map(|entry| entry.id)
                .collect();
            let next = if waits.is_empty() { "finish" } else { "wait" };
            json!({"to": rotation.to, "phase": "issuing", "next": next, "waits_for": waits})
        }
    })
}

fn tell(view: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let each = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let list = |value: &Value| {
        each(value)
            .iter()
            .map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join(", ")
    };
    println!("trust domain  {}", text(&view["trust_domain"]));
    for root in each(&view["roots"]) {
        let role = if root["issues"] == true {
            "issues"
        } else {
            "is trusted"
        };
        println!(
            "root {:<9}{role}; {}",
            root["number"].to_string(),
            text(&root["hash"])
        );
    }
    let renews = if view["issuer"]["renews_itself"] == true {
        "renews itself"
    } else {
        "needs the root's key to be renewed"
    };
    println!(
        "issuer        ends in {}; {renews}",
        shown(view["issuer"]["ends"].as_u64().unwrap_or(0))
    );
    if let Some(rotation) = view["rotation"].as_object() {
        let waits = list(&rotation["waits_for"]);
        let next = match text(&rotation["next"]).as_str() {
            "wait" => format!("waits for {waits}"),
            next => format!("`windrose ca rotate {next}` is next"),
        };
        println!(
            "rotation      root {} is {}; {next}",
            rotation["to"],
            text(&rotation["phase"])
        );
    }
    println!(
        "certificates  {} valid; {} tokens not used yet",
        view["certificates"], view["open_tokens"]
    );
    each(&view["nodes"]).iter().for_each(tell_node);
    for line in each(&view["attention"]) {
        println!("attention: {}", text(&line));
    }
}

fn tell_node(node: &Value) {
    let text = |key: &str| node[key].as_str().unwrap_or_default();
    let at = |key: &str| node[key].as_u64().unwrap_or(0);
    let trusts: Vec<String> = node["trusts"]
        .as_array()
        .into_iter()
        .flatten()
        .map(Value::to_string)
        .collect();
    let ago = crate::ca::unix_now().saturating_sub(at("seen"));
    println!(
        "node {}: trusts root {}; seen {ago} s ago; ends in {}; {}",
        text("shown"),
        trusts.join(", "),
        shown(at("ends")),
        text("grant"),
    );
}

/// The time from now to a moment, as people say it.
pub(super) fn shown(at: u64) -> String {
    let left = at.saturating_sub(crate::ca::unix_now());
    match left {
        0 => "0 s: it is over".to_owned(),
        172_800.. => format!("{} days", left / 86_400),
        7200.. => format!("{} h", left / 3600),
        120.. => format!("{} min", left / 60),
        _ => format!("{left} s"),
    }
}

fn key(node: &Node) -> &str {
    let key = node.id.rsplit('/').next().unwrap_or_default();
    key.get(..8).unwrap_or(key)
}

const A_MONTH: u64 = 30 * 86_400;
