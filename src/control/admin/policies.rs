//! The view of policies: what each rule decided, when last, whom it refused or would have refused, and rules that never decided.
//! It must not know how a rule matches.
//! Called by `admin`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::state::rfc3339;
use crate::observe::metrics::PolicyMetrics;
use crate::observe::policy::Example;
use crate::snapshot::policy::{Policy, PolicyRule};
use crate::snapshot::Snapshot;

#[derive(Serialize)]
pub(super) struct Policies {
    /// What holds where no policy that allows is for a request.
    default: &'static str,
    policies: Vec<PolicyView>,
    /// Rules that have not decided anything since they have their name and position, as `NAME[RULE]`.
    unused: Vec<String>,
}

#[derive(Serialize)]
struct PolicyView {
    name: String,
    place: String,
    action: &'static str,
    mode: &'static str,
    listeners: Vec<String>,
    routes: Vec<String>,
    services: Vec<String>,
    pools: Vec<String>,
    rules: Vec<RuleView>,
    /// What was refused because no rule of it, or of any other that allows, matched.
    unmatched: Counts,
}

#[derive(Serialize)]
struct RuleView {
    rule: usize,
    place: String,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Serialize)]
struct Counts {
    decisions: BTreeMap<&'static str, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<String>,
    /// The last that were refused or would have been, newest first; at most 8.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    examples: Vec<ExampleView>,
}

#[derive(Serialize)]
struct ExampleView {
    at: String,
    decision: &'static str,
    principal: String,
    client: String,
    listener: String,
    route: String,
    method: String,
    host: String,
    path: String,
}

/// Every policy, in the order written.
pub(super) fn view(snapshot: &Snapshot) -> Policies {
    let all = &snapshot.policies.all;
    let unused = all.iter().flat_map(|policy| {
        let rules = policy.rules.iter().enumerate();
        let idle = rules.filter(|(_, rule)| rule.metrics.last().is_none());
        idle.map(|(at, _)| format!("{}[{at}]", policy.name))
    });
    Policies {
        default: snapshot.policies.default.as_str(),
        policies: all.iter().map(|policy| self::policy(policy)).collect(),
        unused: unused.collect(),
    }
}

fn policy(policy: &Policy) -> PolicyView {
    let names = |names: &[Box<str>]| names.iter().map(ToString::to_string).collect();
    PolicyView {
        name: policy.name.to_string(),
        place: policy.place.to_string(),
        action: policy.effect.as_str(),
        mode: policy.mode.as_str(),
        listeners: names(&policy.target.listeners),
        routes: names(&policy.target.routes),
        services: policy
            .target
            .services
            .as_ref()
            .map_or_else(Vec::new, |services| names(&services.names)),
        pools: names(&policy.target.pools),
        rules: policy.rules.iter().enumerate().map(rule).collect(),
        unmatched: counts(&policy.unmatched),
    }
}

fn rule((at, rule): (usize, &PolicyRule)) -> RuleView {
    RuleView {
        rule: at,
        place: rule.place.to_string(),
        counts: counts(&rule.metrics),
    }
}

fn counts(metrics: &PolicyMetrics) -> Counts {
    Counts {
        decisions: metrics.decisions().into_iter().collect(),
        last: metrics.last().map(rfc3339),
        examples: metrics.examples.all().into_iter().map(example).collect(),
    }
}

fn example(example: Example) -> ExampleView {
    ExampleView {
        at: rfc3339(example.at),
        decision: example.decision,
        principal: example.principal,
        client: example.client,
        listener: example.listener,
        route: example.route,
        method: example.method,
        host: example.host,
        path: example.path,
    }
}
