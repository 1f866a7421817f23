//! Whether services are decided to be themselves, who is let through by the policies here, and what policies in audit mode would refuse.
//! It must not decide; the process explains each call with the decision that traffic gets.
//! Part of `windrose mesh check`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::findings::{Findings, Word};
use super::{each, text, Scene};
use crate::cli::connection;
use crate::config::schema::{Config, Listener, Role, Route, RouteProtocol};
use crate::explain::Question;

/// Asks about every service that is called from here, and about every route that others call here.
pub(super) fn check(scene: &Scene<'_>, found: &mut Findings) {
    let mut calls = outbound(scene.config);
    let inbound = inbound(scene.config);
    let left_out = (calls.len() + inbound.len()).saturating_sub(MOST);
    calls.extend(inbound);
    calls.truncate(MOST);
    let mut told = Vec::new();
    for call in calls {
        let question = serde_json::to_string(&call.question).unwrap_or_default();
        match scene.told("/explain", &question) {
            Ok(answer) => told.push((call, answer)),
            Err(problem) => {
                found.add(AREA, Word::NotProven, problem, "");
                return;
            }
        }
    }
    themselves(&told, found);
    from_here(&told, found);
    from_others(&told, found);
    if left_out > 0 {
        let fact = format!("{left_out} further calls were not asked about, {MOST} are the most");
        found.add(
            AREA,
            Word::NotProven,
            fact,
            "`windrose who-can` asks about one service",
        );
    }
    match scene.view("/policies") {
        Ok(view) => audits(&view, found),
        Err(problem) => found.add(AREA, Word::NotProven, problem, ""),
    }
}

/// A call to ask about.
struct Call<'c> {
    /// The route that should take it.
    route: &'c str,
    way: Way,
    /// Who calls, if anybody is known.
    caller: Option<&'c str>,
    question: Question,
}

/// Which way a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// From a workload here to a service.
    Out,
    /// From another node to what is here.
    In,
}

type Told<'c> = [(Call<'c>, Value)];

/// Services, as each workload here calls them through the first listener that may.
fn outbound(config: &Config) -> Vec<Call<'_>> {
    let identity = config.identity.iter();
    let own = identity.flat_map(|identity| identity.workloads.iter().map(|one| Some(&*one.id)));
    let mut callers: Vec<Option<&str>> = own.collect();
    if callers.is_empty() {
        callers.push(None);
    }
    let listeners = config.listeners.iter();
    let listeners = listeners.filter(|one| one.role == Role::MeshOutbound && one.service.is_none());
    let routes = config.routes.iter();
    let routes = routes.filter_map(|route| {
        let service = route.service.as_ref()?;
        if route.protocol == RouteProtocol::Tcp {
            return Some((route, connection::of_route(config, route, None)));
        }
        let listener = listeners.clone().find(|one| is_at(route, one))?;
        Some((route, request(route, Some(service.port), listener)?))
    });
    let calls = routes.flat_map(|(route, question)| {
        let callers = callers.clone().into_iter();
        callers.map(move |caller| call(Way::Out, route, caller, &question))
    });
    calls.collect()
}

/// Routes that other nodes call here, as each workload that is known by name would.
fn inbound(config: &Config) -> Vec<Call<'_>> {
    let callers = callers(config);
    let listeners = config.listeners.iter();
    let mut calls = Vec::new();
    for listener in listeners.filter(|one| one.role == Role::MeshInbound) {
        let routes = config.routes.iter().filter(|route| is_at(route, listener));
        for route in routes {
            let question = match route.protocol {
                RouteProtocol::Http => request(route, None, listener),
                RouteProtocol::Tcp => {
                    Some(connection::of_route(config, route, Some(&listener.name)))
                }
            };
            let Some(question) = question else { continue };
            let callers = callers.iter();
            calls.extend(callers.map(|caller| call(Way::In, route, Some(caller), &question)));
        }
    }
    calls
}

fn call<'c>(way: Way, route: &'c Route, caller: Option<&'c str>, question: &Question) -> Call<'c> {
    Call {
        route: &route.name,
        way,
        caller,
        question: Question {
            principal: caller.map(str::to_owned),
            ..question.clone()
        },
    }
}

fn is_at(route: &Route, listener: &Listener) -> bool {
    let names = route.listeners.as_ref();
    let is_named = |names: &Vec<String>| names.contains(&listener.name);
    names.map_or(route.service.is_none(), is_named)
}

/// A request by which a route is met; `None` where no host is written out.
fn request(route: &Route, port: Option<u16>, listener: &Listener) -> Option<Question> {
    let host = match route.hosts.is_empty() {
        true => "any.invalid",
        false => route.hosts.iter().find(|host| !host.starts_with('*'))?,
    };
    let port = port.map_or(String::new(), |port| format!(":{port}"));
    Some(Question {
        method: "GET".to_owned(),
        url: format!("http://{host}{port}/"),
        listener: Some(listener.name.clone()),
        ..Question::default()
    })
}

/// Workloads of this node, and those that policies name in full.
fn callers(config: &Config) -> BTreeSet<&str> {
    let identity = config.identity.iter();
    let own = identity.flat_map(|identity| identity.workloads.iter().map(|one| &*one.id));
    let rules = config.policies.iter().flat_map(|policy| &policy.rules);
    let named = rules.flat_map(|rule| rule.from.principals.iter().map(String::as_str));
    let named = named.filter(|name| name.starts_with("spiffe://") && !name.ends_with('*'));
    own.chain(named).collect()
}

/// Whether each service is met by its own name.
fn themselves(told: &Told<'_>, found: &mut Findings) {
    let mut services = BTreeMap::new();
    for (call, answer) in told.iter().filter(|(call, _)| call.way == Way::Out) {
        services.entry(call.route).or_insert((call, answer));
    }
    let count = services.len();
    let mut wrong = 0;
    for (call, answer) in services.into_values() {
        let outcome = &answer["outcome"];
        let went = outcome["route"].as_str().unwrap_or("none");
        if went == call.route {
            continue;
        }
        wrong += 1;
        let cause = outcome["cause"].as_str();
        let cause = cause.map_or(String::new(), |it| format!(", and ends with `{it}`"));
        let url = &call.question.url;
        let listener = call.question.listener.as_deref().unwrap_or("-");
        let (what, remedy) = match call.question.tcp {
            true => (
                format!("a connection to service port \"{}\"", call.route),
                format!("`windrose explain --tcp {}` says why", call.route),
            ),
            false => (
                format!("a request for {url}"),
                format!("`windrose explain GET {url} --listener {listener}` says why"),
            ),
        };
        let fact = format!("{what} goes by the route \"{went}\"{cause}");
        found.add("decisions", Word::Warning, fact, remedy);
    }
    if wrong == 0 && count > 0 {
        let fact = format!("{count} services are decided to be themselves");
        found.ok("decisions", fact);
    }
}

/// Services that workloads here cannot call.
fn from_here(told: &Told<'_>, found: &mut Findings) {
    let services = told
        .iter()
        .filter(|(call, answer)| call.way == Way::Out && answer["outcome"]["route"] == call.route);
    let (mut allowed, mut refused) = (0, 0);
    for (call, answer) in services {
        match verdict(answer) {
            Verdict::Allowed => allowed += 1,
            Verdict::Rule => refused += 1,
            Verdict::Default => {
                let (ruling, route) = (&answer["ruling"], call.route);
                let fact = format!(
                    "calls of {} here to \"{route}\" are denied by default: {} {}",
                    call.caller.unwrap_or("anybody"),
                    text(&ruling["says"]),
                    text(&ruling["place"])
                );
                let remedy = "if they are meant, allow them in a policy with `to: {services: [...]}`; else write a rule that denies";
                found.add(AREA, Word::Warning, fact, remedy);
            }
        }
    }
    if allowed + refused > 0 {
        let fact = format!("of calls from workloads here to services {allowed} are let through, {refused} refused by a rule that denies");
        found.ok(AREA, fact);
    }
}

/// Who may call what is here: a line for each route.
fn from_others(told: &Told<'_>, found: &mut Findings) {
    let mut routes: BTreeMap<&str, [Vec<&str>; 3]> = BTreeMap::new();
    for (call, answer) in told {
        let is_met = call.way == Way::In && answer["outcome"]["route"] == call.route;
        let (Some(caller), true) = (call.caller, is_met) else {
            continue;
        };
        let at = verdict(answer) as usize;
        routes.entry(call.route).or_default()[at].push(caller);
    }
    for (route, [allowed, ruled_out, denied]) in routes {
        if denied.is_empty() {
            let fact = format!(
                "\"{route}\": {} may call, {} are refused by a rule that denies",
                allowed.len(),
                ruled_out.len()
            );
            found.ok(AREA, fact);
            continue;
        }
        let shown: Vec<&str> = denied.iter().take(MOST_NAMED).copied().collect();
        let more = match denied.len() - shown.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let fact = format!(
            "\"{route}\": {} may call, denied by default: {}{more}",
            allowed.len(),
            shown.join(", ")
        );
        if allowed.is_empty() {
            let remedy = "nobody who is known may call it: add a policy that allows whom it is for";
            found.add(AREA, Word::Warning, fact, remedy);
        } else {
            found.ok(AREA, fact);
        }
    }
}

/// What policies say, as far as the answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allowed,
    /// A rule that denies matched.
    Rule,
    /// Nothing allows it.
    Default,
}

fn verdict(answer: &Value) -> Verdict {
    let ruling = &answer["ruling"];
    if ruling["verdict"] != "deny" {
        return Verdict::Allowed;
    }
    // A rule is told with its position; `NAME` or `default` says that none allowed.
    match (
        text(&ruling["by"]).ends_with(']'),
        text(&answer["outcome"]["cause"]),
    ) {
        (true, "policy_denied") => Verdict::Rule,
        _ => Verdict::Default,
    }
}

/// What policies in audit mode would have refused since the process started.
fn audits(view: &Value, found: &mut Findings) {
    let (mut silent, mut all) = (0, 0);
    for policy in each(&view["policies"]).filter(|policy| policy["mode"] == "audit") {
        all += 1;
        let counts = each(&policy["rules"]).chain([&policy["unmatched"]]);
        let would = |one: &Value| one["decisions"]["would_deny"].as_u64().unwrap_or(0);
        let count: u64 = counts.clone().map(would).sum();
        if count == 0 {
            silent += 1;
            continue;
        }
        let mut examples = counts.flat_map(|one| each(&one["examples"]));
        let example = examples.find(|one| one["decision"] == "would_deny");
        let example = example.map_or(String::new(), |one| {
            format!(
                ", such as {} by \"{}\" from {} at {}",
                called(one),
                text(&one["principal"]),
                text(&one["client"]),
                text(&one["at"])
            )
        });
        let fact = format!(
            "policy \"{}\" in audit mode would have refused {count}{example}",
            text(&policy["name"])
        );
        let remedy = "allow those that are meant before it is set to `mode: enforce`; /policies has more examples";
        found.add(AREA, Word::Warning, fact, remedy);
    }
    if silent > 0 {
        let fact = format!("{silent} of {all} policies in audit mode would have refused nothing since the process started");
        found.ok(AREA, fact);
    }
}

fn called(example: &Value) -> String {
    match text(&example["method"]) {
        "" => format!("a connection to \"{}\"", text(&example["route"])),
        method => format!(
            "{method} {}{}",
            text(&example["host"]),
            text(&example["path"])
        ),
    }
}

const AREA: &str = "policies";
/// Calls that are asked about.
const MOST: usize = 200;
const MOST_NAMED: usize = 8;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call<'c>(route: &'c str, caller: Option<&'c str>) -> Call<'c> {
        Call {
            route,
            way: if caller.is_some() { Way::In } else { Way::Out },
            caller,
            question: Question {
                url: format!("http://{route}/"),
                ..Question::default()
            },
        }
    }

    fn denied(route: &str, by: &str, cause: &str) -> Value {
        json!({"outcome": {"route": route, "cause": cause}, "ruling": {"verdict": "deny", "by": by, "says": "S", "place": "P"}})
    }

    #[test]
    fn what_is_denied_by_default_is_named() {
        let allowed = json!({"outcome": {"route": "db"}});
        let told = [
            (call("db", None), denied("db", "default", "policy_denied")),
            (call("shop", None), json!({"outcome": {"route": "other"}})),
            (call("db", Some("spiffe://td/web")), allowed),
            (
                call("db", Some("spiffe://td/old")),
                denied("db", "no-old[0]", "policy_denied"),
            ),
            (
                call("db", Some("spiffe://td/cron")),
                denied("db", "callers", "policy_denied"),
            ),
            (
                call("lone", Some("spiffe://td/web")),
                denied("lone", "none[0]", "identity_missing"),
            ),
        ];
        let mut found = Findings::default();

        themselves(&told, &mut found);
        from_here(&told, &mut found);
        from_others(&told, &mut found);

        let text = found.text();
        for part in [
            "a request for http://shop/ goes by the route \"other\"",
            "calls of anybody here to \"db\" are denied by default: S P",
            "ok          policies      \"db\": 1 may call, denied by default: spiffe://td/cron",
            "warning     policies      \"lone\": 0 may call",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn audits_that_would_refuse_are_told_with_an_example() {
        let example = json!({"decision": "would_deny", "method": "GET", "host": "db", "path": "/x", "principal": "spiffe://td/cron", "client": "10.0.0.1", "at": "T"});
        let view = json!({"policies": [
            {"name": "shop", "mode": "audit", "rules": [], "unmatched": {"decisions": {"would_deny": 2}, "examples": [example]}},
            {"name": "other", "mode": "audit", "rules": [], "unmatched": {"decisions": {}}},
        ]});
        let mut found = Findings::default();

        audits(&view, &mut found);

        let text = found.text();
        assert!(
            text.contains(
                "would have refused 2, such as GET db/x by \"spiffe://td/cron\" from 10.0.0.1 at T"
            ),
            "{text}"
        );
        assert!(text.contains("1 of 2 policies in audit mode"), "{text}");
    }
}
