//! An explanation as text for a terminal.
//! It must not add anything that the explanation does not say.
//! Called for each hop.

use std::fmt::Write;

use crate::explain::{
    words, Asked, CandidateSeen, EndpointSeen, Explanation, LevelSeen, Outcome, PluginSeen,
    PoolSeen, Step, Times, TCP,
};

/// The whole page.
pub(super) fn text(explanation: &Explanation) -> String {
    let mut page = Page::default();
    let request = &explanation.request;
    page.line(0, &format!("{} {}", request.method, request.url), "");
    let listener = &explanation.listener;
    let what = format!(
        "listener {}: {}, {} at {}",
        listener.name, listener.role, listener.protocol, listener.bind
    );
    page.line(0, &what, &listener.place);
    if let Some(names) = &listener.certificate {
        page.line(1, &format!("shows the certificate for {names}"), "");
    }
    if let Some(mtls) = &listener.mtls {
        page.line(1, &mtls.to_string(), "");
    }
    asked(&mut page, request);
    for note in &explanation.notes {
        page.line(1, &format!("note: {note}"), "");
    }
    match request.method == TCP {
        true => rules_of_bytes(&mut page, &explanation.candidates),
        false => candidates(&mut page, &explanation.candidates),
    }
    plugins(&mut page, &explanation.plugins);
    policies(&mut page, explanation);
    outcome(&mut page, explanation);
    page.text
}

fn asked(page: &mut Page, request: &Asked) {
    let who = request.principal.as_deref().unwrap_or("nobody proven");
    if request.method == TCP {
        let name = match &*request.host {
            "" => "no name asked for in TLS".to_owned(),
            name => format!("asks for {name} in TLS"),
        };
        return page.line(1, &format!("client {}, {who}; {name}", request.client), "");
    }
    let trust = if request.trusted {
        "its forwarded fields are believed"
    } else {
        "its forwarded fields are not believed"
    };
    page.line(1, &format!("client {}, {who}; {trust}", request.client), "");
    page.line(
        1,
        &format!("host {}, path {}", request.host, request.path),
        "",
    );
}

/// Lines with a place at their end.
#[derive(Default)]
struct Page {
    text: String,
}

/// Column of places.
const PLACE: usize = 84;

impl Page {
    fn line(&mut self, depth: usize, what: &str, place: &str) {
        let indented = format!("{:1$}{what}", "", 2 * depth);
        // Writing to a String cannot fail.
        let _ = match place.is_empty() {
            true => writeln!(self.text, "{indented}"),
            false => writeln!(self.text, "{indented:<PLACE$} {place}"),
        };
    }

    fn head(&mut self, what: &str) {
        let _ = writeln!(self.text, "\n{what}");
    }
}

fn candidates(page: &mut Page, candidates: &[CandidateSeen]) {
    if candidates.is_empty() {
        page.head("routes: none of this listener is for this host");
        return;
    }
    page.head("routes, the most specific first");
    for one in candidates {
        let mark = match one.verdict.as_str() {
            "chosen" => "=>",
            "in the shadow" => " +",
            _ => " -",
        };
        let what = format!(
            "{mark} {}: host {}, path {} ({}): {}",
            one.route, one.host, one.path, one.precedence, one.verdict
        );
        page.line(0, &what, &one.place);
        for condition in &one.conditions {
            let holds = if condition.holds {
                "holds"
            } else {
                "does not hold"
            };
            page.line(3, &format!("{} {holds}", condition.condition), "");
        }
    }
}

fn rules_of_bytes(page: &mut Page, candidates: &[CandidateSeen]) {
    page.head("routes for bytes, the most specific first");
    for one in candidates {
        let mark = match one.verdict.as_str() {
            "chosen" => "=>",
            "in the shadow" => " +",
            _ => " -",
        };
        let what = format!("{mark} {}: name {}: {}", one.route, one.host, one.verdict);
        page.line(0, &what, &one.place);
        for condition in &one.conditions {
            page.line(3, &condition.condition, "");
        }
    }
}

fn plugins(page: &mut Page, plugins: &[PluginSeen]) {
    if plugins.is_empty() {
        return;
    }
    page.head("plugins in order");
    for one in plugins {
        let mode = if one.mode == "shadow" { ", shadow" } else { "" };
        let what = format!(
            "{} {} ({}{mode}) {}",
            one.stage, one.name, one.kind, one.says
        );
        page.line(1, &what, &one.place);
        for part in &one.parts {
            let what = format!("{} ({}) {}", part.path, part.kind, part.says);
            page.line(2 + usize::from(part.depth), &what, "");
        }
    }
}

fn policies(page: &mut Page, explanation: &Explanation) {
    let Some(ruling) = &explanation.ruling else {
        return;
    };
    page.head("policies, those that deny first");
    for one in &explanation.policies {
        let is_decisive = ruling.by == format!("{}[{}]", one.policy, one.rule);
        let mark = if is_decisive { "=>" } else { " -" };
        let mode = if one.mode == "audit" { ", audit" } else { "" };
        let what = format!(
            "{mark} {} {}[{}]{mode}: {}",
            one.action, one.policy, one.rule, one.verdict
        );
        page.line(0, &what, &one.place);
    }
    let verdict = match ruling.verdict.as_str() {
        "allow" => "allowed",
        _ => "denied",
    };
    page.line(1, &format!("{verdict} by {}", ruling.says), &ruling.place);
    if let Some(audit) = &ruling.audit {
        page.line(1, &format!("audit: {audit}"), "");
    }
}

fn outcome(page: &mut Page, explanation: &Explanation) {
    let outcome = &explanation.outcome;
    match (&outcome.cause, outcome.status) {
        (Some(cause), Some(status)) => answered(page, outcome, cause, status),
        (Some(cause), None) => {
            page.head(&format!("closed here, cause {cause}"));
            let place = outcome.place.as_deref().unwrap_or_default();
            page.line(1, outcome.meaning.as_deref().unwrap_or_default(), place);
        }
        _ => forwarded(page, explanation),
    }
}

fn answered(page: &mut Page, outcome: &Outcome, cause: &str, status: u16) {
    page.head(&format!("answered here with {status}, cause {cause}"));
    if let Some(meaning) = &outcome.meaning {
        page.line(1, meaning, outcome.place.as_deref().unwrap_or_default());
    }
    experiments(page, outcome);
    for (name, value) in &outcome.headers {
        page.line(1, &format!("{name}: {value}"), "");
    }
}

fn experiments(page: &mut Page, outcome: &Outcome) {
    if let Some(share) = &outcome.share {
        page.line(1, &format!("share {}, by {}", share.name, share.by), "");
    }
    for fault in &outcome.faults {
        page.line(1, &format!("fault: {fault}"), "");
    }
    for mirror in &outcome.mirrors {
        page.line(1, &format!("mirrored to pool {mirror}"), "");
    }
}

fn forwarded(page: &mut Page, explanation: &Explanation) {
    let outcome = &explanation.outcome;
    let route = outcome.route.as_deref().unwrap_or_default();
    let place = outcome.place.as_deref().unwrap_or_default();
    page.text.push('\n');
    page.line(0, &format!("goes on by route {route}"), place);
    experiments(page, outcome);
    if let Some(class) = &outcome.class {
        page.line(1, class, place);
    }
    outcome.pools.iter().for_each(|one| pool(page, one));
    if explanation.request.method == TCP {
        return;
    }
    let path = outcome.path.as_deref().unwrap_or_default();
    let query = explanation.request.url.split_once('?');
    let query = query.map_or(String::new(), |(_, query)| format!("?{query}"));
    let method = &explanation.request.method;
    page.line(1, &format!("as {method} {path}{query}"), "");
    for (name, value) in &outcome.headers {
        page.line(2, &format!("{name}: {value}"), "");
    }
    if let Some(times) = &outcome.times {
        times_and_retries(page, times, place);
    }
}

fn pool(page: &mut Page, pool: &PoolSeen) {
    let share = match pool.share_percent {
        100.0 => String::new(),
        share => format!("{share} % "),
    };
    page.line(
        1,
        &format!("{share}to pool {}, balanced by {}", pool.name, pool.balance),
        &pool.place,
    );
    if let Some(mtls) = &pool.mtls {
        page.line(2, &mtls.to_string(), "");
    }
    if !pool.subset.is_empty() {
        let labels = words::labels(&pool.subset);
        let fallback = pool.subset_fallback.as_deref().unwrap_or("none");
        let text = format!("only endpoints with {labels}; fallback {fallback}");
        page.line(2, &text, "");
    }
    if let Some(affinity) = &pool.affinity {
        page.line(
            2,
            &format!("clients are kept at their endpoint by {affinity}"),
            "",
        );
    }
    for one in &pool.levels {
        page.line(2, &level(one), "");
    }
    for line in &pool.limits {
        page.line(2, line, "");
    }
    if pool.endpoints.is_empty() {
        page.line(2, "no endpoint is known", "");
    }
    for one in &pool.endpoints {
        page.line(2, &endpoint(one), "");
    }
}

fn level(level: &LevelSeen) -> String {
    let zone = level.zone.as_ref();
    let zone = zone.map_or(String::new(), |zone| format!(", zone {zone}"));
    let count = match level.available {
        Some(available) => format!("{available} of {} available", level.total),
        None => format!("{} endpoints", level.total),
    };
    let panics = if level.panics { ", health ignored" } else { "" };
    format!(
        "level priority {}{zone}: {} % of the traffic, {count}{panics}",
        level.priority, level.share_percent
    )
}

fn endpoint(one: &EndpointSeen) -> String {
    let mut text = one.address.clone();
    if one.weight != 1 {
        let _ = write!(text, ", weight {}", one.weight);
    }
    if let Some(priority) = one.priority {
        let _ = write!(text, ", priority {priority}");
    }
    if let Some(zone) = &one.zone {
        let _ = write!(text, ", zone {zone}");
    }
    if let Some(why) = &one.out {
        let _ = write!(text, ", out: {why}");
    }
    if let Some(share) = one.share_percent {
        let _ = write!(text, ", {share} % now");
    }
    if let Some(percent) = one.slow_start_percent {
        let _ = write!(text, ", slow start at {percent} %");
    }
    text
}

fn times_and_retries(page: &mut Page, times: &Times, place: &str) {
    let bound = |time: Option<u64>| time.map_or("no bound".to_owned(), seconds);
    let by = match times.request_set_by.as_deref() {
        None | Some("route") => String::new(),
        Some(field) => format!(" by {field}"),
    };
    let per_try = match times.per_try_ms {
        Some(one) => format!(", each attempt {}", seconds(one)),
        None => String::new(),
    };
    page.line(
        1,
        &format!(
            "times: connect {}, response header {}{per_try}, silence {}, in all {}{by}",
            seconds(times.connect_ms),
            bound(times.response_header_ms),
            bound(times.idle_ms),
            bound(times.request_ms)
        ),
        place,
    );
    let attempts = match times.retries {
        0 => "no further attempt".to_owned(),
        1 => format!("1 further attempt after {}", times.retry_on),
        more => format!("{more} further attempts after {}", times.retry_on),
    };
    let body = times.body_limit_bytes;
    page.line(
        1,
        &format!("retries: {attempts}; body up to {body} bytes"),
        place,
    );
    if times.retries > 0 {
        page.line(2, &format!("budget: {}", times.budget), "");
    }
    times.waterfall.iter().for_each(|one| step(page, one));
}

fn step(page: &mut Page, step: &Step) {
    let wait = match step.wait_ms {
        0 => String::new(),
        wait => format!("after a wait of up to {}, ", seconds(wait)),
    };
    let header = match step.header_ms {
        Some(header) => format!("header within {} more", seconds(header)),
        None => "no bound for the header".to_owned(),
    };
    let ends = match (step.ends_ms, step.cut_by_deadline) {
        (Some(ends), true) => format!("; the deadline ends it at {}", seconds(ends)),
        (Some(ends), false) => format!("; over by {}", seconds(ends)),
        (None, _) => String::new(),
    };
    let connect = seconds(step.connect_ms);
    let attempt = step.attempt;
    page.line(
        2,
        &format!("attempt {attempt}: {wait}connects within {connect}, {header}{ends}"),
        "",
    );
}

fn seconds(millis: u64) -> String {
    match (millis / 1000, millis % 1000) {
        (0, part) if part > 0 => format!("{part} ms"),
        (whole, 0) => format!("{whole} s"),
        (whole, part) => format!("{whole}.{} s", format!("{part:03}").trim_end_matches('0')),
    }
}
