//! What a change of policies means for callers: who would newly be refused, and who newly let through.
//! It must not judge anybody: it compares what is written, and says so in words; recorded requests are judged in `replay`.
//! Called by `changes`.

use serde::Serialize;
use serde_yaml::Value;

use super::changes::list;
use crate::config::schema::{
    Config, Policy, PolicyAction, PolicyMode, PolicyRule, PolicyTarget, PolicyWhen,
};

/// How many policies there are, in words.
pub fn counted(config: &Config) -> String {
    let of = |wanted: PolicyAction| {
        let enforced = config.policies.iter().filter(|policy| is_enforced(policy));
        enforced.filter(|policy| policy.action == wanted).count()
    };
    let audit = config.policies.len() - of(PolicyAction::Allow) - of(PolicyAction::Deny);
    format!(
        "{} allow, {} deny, {audit} only audit; without any that allow: {}",
        of(PolicyAction::Allow),
        of(PolicyAction::Deny),
        word(config.authorization.default)
    )
}

/// What it means that a policy is added, removed or another one; `None` on the side that does not have it.
pub(super) fn effects(name: &str, old: &Config, new: &Config) -> Vec<String> {
    let before = enforced(old, name);
    let after = enforced(new, name);
    match (before, after) {
        (None, None) => {
            vec!["nobody is refused or let through otherwise: it is only audited".into()]
        }
        (None, Some(after)) => added(after, old),
        (Some(before), None) => removed(before, new),
        (Some(before), Some(after)) if is_alike(before, after) => edited(before, after),
        (Some(before), Some(after)) => [removed(before, new), added(after, old)].concat(),
    }
}

/// What it means that another default holds.
pub(super) fn of_default(old: &Config, new: &Config) -> Vec<String> {
    let word = match (old.authorization.default, new.authorization.default) {
        (PolicyAction::Allow, PolicyAction::Deny) => "denied",
        (PolicyAction::Deny, PolicyAction::Allow) => "allowed",
        _ => return Vec::new(),
    };
    let is_open = |route: &&str| {
        let mut all = new.policies.iter().filter(|policy| is_enforced(policy));
        !all.any(|policy| {
            let routes = &policy.to.routes;
            let is_meant = routes.is_empty() || routes.iter().any(|one| one == route);
            policy.action == PolicyAction::Allow && is_meant
        })
    };
    let routes: Vec<&str> = new.routes.iter().map(|route| &*route.name).collect();
    let open: Vec<&str> = routes
        .iter()
        .copied()
        .filter(|route| is_open(route))
        .collect();
    vec![format!(
        "newly {word}: everything that no policy with `action: allow` is for, on {} of {} routes: {}",
        open.len(),
        routes.len(),
        list(&open)
    )]
}

fn enforced<'c>(config: &'c Config, name: &str) -> Option<&'c Policy> {
    let mut all = config.policies.iter().filter(|policy| is_enforced(policy));
    all.find(|policy| policy.name == name)
}

fn is_enforced(policy: &Policy) -> bool {
    policy.mode == PolicyMode::Enforce
}

/// Whether only rules differ.
fn is_alike(before: &Policy, after: &Policy) -> bool {
    before.action == after.action && before.to == after.to
}

fn added(policy: &Policy, old: &Config) -> Vec<String> {
    let at = target(&policy.to);
    match policy.action {
        PolicyAction::Deny => vec![format!("newly denied: {}{at}", rules(&policy.rules))],
        PolicyAction::Allow if guarded(policy, old) || denies(old) => {
            vec![format!("newly allowed: {}{at}", rules(&policy.rules))]
        }
        PolicyAction::Allow => vec![format!(
            "newly denied: everybody but {}{at}: until now nobody had to be allowed",
            rules(&policy.rules)
        )],
    }
}

fn removed(policy: &Policy, new: &Config) -> Vec<String> {
    let at = target(&policy.to);
    match policy.action {
        PolicyAction::Deny => vec![format!("newly allowed: {}{at}", rules(&policy.rules))],
        PolicyAction::Allow if guarded(policy, new) || denies(new) => {
            vec![format!("newly denied: {}{at}", rules(&policy.rules))]
        }
        PolicyAction::Allow => vec![format!(
            "newly allowed: everybody but {}{at}: nobody has to be allowed any more",
            rules(&policy.rules)
        )],
    }
}

fn edited(before: &Policy, after: &Policy) -> Vec<String> {
    let only = |one: &Policy, other: &Policy| -> Vec<PolicyRule> {
        let mine = one.rules.iter().filter(|rule| !other.rules.contains(rule));
        mine.cloned().collect()
    };
    let (come, gone) = (only(after, before), only(before, after));
    let (of_come, of_gone) = match after.action {
        PolicyAction::Allow => ("allowed", "denied"),
        PolicyAction::Deny => ("denied", "allowed"),
    };
    let at = target(&after.to);
    let told = |word: &str, changed: &[PolicyRule]| {
        (!changed.is_empty()).then(|| format!("newly {word}: {}{at}", rules(changed)))
    };
    let told = [told(of_come, &come), told(of_gone, &gone)];
    told.into_iter().flatten().collect()
}

/// Whether callers of everything that a policy guards have to be allowed by another one.
fn guarded(policy: &Policy, config: &Config) -> bool {
    let covers = |wide: &[String], narrow: &[String]| {
        wide.is_empty() || !narrow.is_empty() && narrow.iter().all(|one| wide.contains(one))
    };
    let mut others = config.policies.iter().filter(|other| is_enforced(other));
    others.any(|other| {
        let (wide, narrow) = (&other.to, &policy.to);
        other.action == PolicyAction::Allow
            && other.name != policy.name
            && covers(&wide.listeners, &narrow.listeners)
            && covers(&wide.routes, &narrow.routes)
            && covers(&wide.services, &narrow.services)
            && covers(&wide.pools, &narrow.pools)
    })
}

fn denies(config: &Config) -> bool {
    config.authorization.default == PolicyAction::Deny
}

fn word(action: PolicyAction) -> &'static str {
    match action {
        PolicyAction::Allow => "allow",
        PolicyAction::Deny => "deny",
    }
}

fn target(to: &PolicyTarget) -> String {
    let named = |kind: &str, names: &[String]| {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        (!names.is_empty()).then(|| format!(", on {kind} {}", list(&names)))
    };
    let parts = [
        named("listeners", &to.listeners),
        named("routes", &to.routes),
        named("services", &to.services),
        named("pools", &to.pools),
    ];
    parts.into_iter().flatten().collect()
}

/// What rules match; without any, nobody.
fn rules(rules: &[PolicyRule]) -> String {
    let texts: Vec<String> = rules.iter().map(rule).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    match texts.is_empty() {
        true => "nobody".to_owned(),
        false => list(&texts),
    }
}

fn rule(rule: &PolicyRule) -> String {
    // Values of fields, and expressions that look at them, may hold what should not be shown.
    let when = PolicyWhen {
        headers: Default::default(),
        cel: None,
        ..rule.when.clone()
    };
    let mut parts = [conditions(&rule.from), conditions(&when)].concat();
    parts.extend(
        rule.when
            .headers
            .keys()
            .map(|name| format!("header {name}")),
    );
    parts.extend(rule.when.cel.as_ref().map(|_| "an expression".to_owned()));
    match parts.is_empty() {
        true => "everything".to_owned(),
        false => format!("({})", parts.join(" and ")),
    }
}

fn conditions(of: &impl Serialize) -> Vec<String> {
    let Value::Mapping(entries) = super::changes::value(of) else {
        return Vec::new();
    };
    let told = entries.iter().filter_map(|(key, values)| {
        let values = values.as_sequence().filter(|values| !values.is_empty())?;
        let texts: Vec<String> = values.iter().map(text).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        Some(format!("{} {}", key.as_str()?, list(&texts)))
    });
    told.collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => serde_json::to_string(value).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(policies: &str) -> Config {
        serde_yaml::from_str(policies).unwrap()
    }

    fn told(old: &str, new: &str) -> Vec<String> {
        effects("p", &config(old), &config(new))
    }

    const NONE: &str = "{}";
    const DENY: &str = "policies: [{name: p, action: deny, rules: [{when: {methods: [DELETE]}}]}]";
    const ALLOW: &str = "policies: [{name: p, action: allow, to: {routes: [r]}, rules: [{from: {principals: ['consumer:ann']}}]}]";

    #[test]
    fn refusals_come_and_go_with_what_they_match() {
        assert_eq!(told(NONE, DENY), ["newly denied: (methods DELETE)"]);
        assert_eq!(told(DENY, NONE), ["newly allowed: (methods DELETE)"]);
        let audit = DENY.replace("deny,", "deny, mode: audit,");
        assert_eq!(told(&audit, DENY), ["newly denied: (methods DELETE)"]);
        assert!(told(NONE, &audit)[0].contains("only audited"));
        let wider = DENY.replace("[{when", "[{when: {ports: [25]}}, {when");
        assert_eq!(told(DENY, &wider), ["newly denied: (ports 25)"]);
        assert_eq!(told(&wider, DENY), ["newly allowed: (ports 25)"]);
    }

    #[test]
    fn the_first_that_allows_refuses_everybody_else() {
        let only = "(principals consumer:ann), on routes r";
        let first =
            format!("newly denied: everybody but {only}: until now nobody had to be allowed");
        let last =
            format!("newly allowed: everybody but {only}: nobody has to be allowed any more");
        assert_eq!(told(NONE, ALLOW), [first]);
        assert_eq!(told(ALLOW, NONE), [last]);
        let deny = "authorization: {default: deny}\n";
        let closed = |text: &str| format!("{deny}{text}");
        assert_eq!(
            told(deny, &closed(ALLOW)),
            [format!("newly allowed: {only}")]
        );
        assert_eq!(
            told(&closed(ALLOW), deny),
            [format!("newly denied: {only}")]
        );
        let other = "policies: [{name: q, action: allow, rules: [{}]}, ";
        let both = ALLOW.replacen("policies: [", other, 1);
        let one = "policies: [{name: q, action: allow, rules: [{}]}]";
        assert_eq!(told(one, &both), [format!("newly allowed: {only}")]);
    }

    #[test]
    fn values_that_may_be_secret_are_not_told() {
        let guarded = "policies: [{name: p, action: deny, rules: [{when: {headers: {x-key: hidden}, cel: 'request.host == \"hidden\"'}}]}]";

        assert_eq!(
            told(NONE, guarded),
            ["newly denied: (header x-key and an expression)"]
        );
    }

    #[test]
    fn another_default_counts_the_routes_it_is_for() {
        let text = |default: &str| {
            format!("authorization: {{default: {default}}}\nroutes: [{{name: r, rules: []}}, {{name: s, rules: []}}]\n{ALLOW}")
        };

        let told = of_default(&config(&text("allow")), &config(&text("deny")));

        let told = &told[0];
        assert!(
            told.starts_with("newly denied: ") && told.ends_with("on 1 of 2 routes: s"),
            "{told}"
        );
    }
}
