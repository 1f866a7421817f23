//! Lints of plugin chains: plugins that never run, and instances nobody uses.
//! It must not know what plugins do, except that `respond` ends a chain.
//! Called by `config::lint::check`.

use std::collections::HashSet;

use serde_yaml::Value;

use crate::config::report::Report;
use crate::config::schema::{Config, PluginInstance, PluginMode, PluginUse};

/// Looks at every chain.
pub(super) fn check(config: &Config, report: &mut Report) {
    local_quotas(config, report);
    for (at, listener) in config.listeners.iter().enumerate() {
        let chain = placed(&format!("listeners[{at}].plugins"), &listener.plugins);
        unreachable(config, &chain, &[], report);
    }
    for (at, route) in config.routes.iter().enumerate() {
        let before = placed(&format!("routes[{at}].plugins"), &route.plugins);
        unreachable(config, &before, &[], report);
        off(config, &before, report);
        for (nth, rule) in route.rules.iter().enumerate() {
            let own = placed(&format!("routes[{at}].rules[{nth}].plugins"), &rule.plugins);
            unreachable(config, &own, &before, report);
            off(config, &own, report);
        }
    }
}

/// Looks for what no chain uses.
pub(super) fn unused(config: &Config, report: &mut Report) {
    credentials(config, report);
    stores(config, report);
    let rules = config.routes.iter().flat_map(|route| &route.rules);
    let listeners = config.listeners.iter().map(|listener| &listener.plugins);
    let routes = config.routes.iter().map(|route| &route.plugins);
    let chains = listeners
        .chain(routes)
        .chain(rules.map(|rule| &rule.plugins));
    let used: HashSet<&str> = chains.flatten().filter_map(name).collect();
    for name in config
        .plugins
        .keys()
        .filter(|name| !used.contains(name.as_str()))
    {
        report.warning(
            format!("plugins.{name}"),
            format!("[unused_plugin] no listener, route or rule uses \"{name}\""),
            "remove it, or name it in a `plugins` list",
        );
    }
}

/// Credentials that no plugin asks for.
fn credentials(config: &Config, report: &mut Report) {
    let all = everywhere(config);
    let mut kinds: HashSet<&str> = all.iter().map(|(_, one)| &*one.kind).collect();
    for (_, one) in &all {
        nested(&one.config, &mut kinds);
    }
    for (at, consumer) in config.consumers.iter().enumerate() {
        let has: [(&str, &[&str], bool); 5] = [
            ("keys", &["key_auth"], !consumer.keys.is_empty()),
            ("password", &["basic_auth"], consumer.password.is_some()),
            ("subjects", &["jwt", "oidc"], !consumer.subjects.is_empty()),
            (
                "certificates",
                &["mtls_auth"],
                !consumer.certificates.is_empty(),
            ),
            (
                "signing_keys",
                &["hmac_auth"],
                !consumer.signing_keys.is_empty(),
            ),
        ];
        let is_asked = |all: &[&str]| all.iter().any(|kind| kinds.contains(kind));
        for (key, asking, _) in has
            .into_iter()
            .filter(|(_, asking, has)| *has && !is_asked(asking))
        {
            let (kind, kinds) = (asking[0], asking.join("` or `"));
            report.warning(
                format!("consumers[{at}].{key}"),
                format!("[unused_credentials] nothing asks for it: there is no `{kinds}` plugin"),
                format!("add `{kind}` to a listener or route, or remove the `{key}`"),
            );
        }
    }
}

/// The kinds inside an `auth`.
fn nested<'c>(settings: &'c Value, kinds: &mut HashSet<&'c str>) {
    let of = settings.get("of").and_then(|of| of.as_sequence());
    for one in of.into_iter().flatten() {
        kinds.extend(one.get("kind").and_then(|kind| kind.as_str()));
        if let Some(inner) = one.get("config") {
            nested(inner, kinds);
        }
    }
}

/// Quotas that each proxy counts by itself.
fn local_quotas(config: &Config, report: &mut Report) {
    for (path, one) in everywhere(config) {
        if one.kind == "quota" && one.config.get("store").is_none() {
            report.warning(
                path,
                "[local_quota] counts in this process only: a restart begins the period anew, and each proxy has a quota of its own",
                "name one of `redis` in `store`",
            );
        }
    }
}

/// Stores that no plugin uses.
fn stores(config: &Config, report: &mut Report) {
    let mut used = HashSet::new();
    for (_, one) in everywhere(config) {
        named_stores(&one.config, &mut used);
    }
    for (at, store) in config.redis.iter().enumerate() {
        if !used.contains(&*store.name) {
            report.warning(
                format!("redis[{at}]"),
                format!("[unused_store] no plugin has `store: {}`", store.name),
                "remove it, or name it in a plugin such as `rate_limit`",
            );
        }
    }
}

/// What stands under `store` anywhere in a plugin's settings.
fn named_stores<'a>(settings: &'a Value, found: &mut HashSet<&'a str>) {
    match settings {
        Value::Mapping(entries) => entries.iter().for_each(|(key, value)| {
            if key.as_str() == Some("store") {
                found.extend(value.as_str());
            }
            named_stores(value, found);
        }),
        Value::Sequence(items) => items.iter().for_each(|item| named_stores(item, found)),
        _ => {}
    }
}

/// Every plugin that is written anywhere, with its place.
pub(super) fn everywhere(config: &Config) -> Vec<(String, &PluginInstance)> {
    let mut found = Vec::new();
    let named = config.plugins.iter();
    found.extend(named.map(|(name, one)| (format!("plugins.{name}"), one)));
    let mut inline = |path: String, chain| {
        for (path, used) in placed(&path, chain) {
            if let PluginUse::Inline(one) = used {
                found.push((path, one));
            }
        }
    };
    for (at, listener) in config.listeners.iter().enumerate() {
        inline(format!("listeners[{at}].plugins"), &listener.plugins);
    }
    for (at, route) in config.routes.iter().enumerate() {
        inline(format!("routes[{at}].plugins"), &route.plugins);
        for (nth, rule) in route.rules.iter().enumerate() {
            inline(format!("routes[{at}].rules[{nth}].plugins"), &rule.plugins);
        }
    }
    found
}

type Placed<'a> = (String, &'a PluginUse);

fn placed<'a>(path: &str, chain: &'a [PluginUse]) -> Vec<Placed<'a>> {
    chain
        .iter()
        .enumerate()
        .map(|(at, used)| (format!("{path}[{at}]"), used))
        .collect()
}

fn name(used: &PluginUse) -> Option<&str> {
    match used {
        PluginUse::Named(name) => Some(name),
        PluginUse::Inline(_) => None,
    }
}

fn instance<'a>(config: &'a Config, used: &'a PluginUse) -> Option<&'a PluginInstance> {
    match used {
        PluginUse::Named(name) => config.plugins.get(name),
        PluginUse::Inline(instance) => Some(instance),
    }
}

fn unreachable(config: &Config, chain: &[Placed<'_>], before: &[Placed<'_>], report: &mut Report) {
    let mut end = before
        .iter()
        .find(|(_, used)| instance(config, used).is_some_and(always_answers));
    for step in chain {
        if let Some((answers, _)) = end {
            report.warning(
                step.0.clone(),
                format!(
                    "[unreachable_plugin] never runs: {answers} answers every request before it"
                ),
                "move it before the `respond` plugin, or give that one a `percent`",
            );
        } else if instance(config, step.1).is_some_and(always_answers) {
            end = Some(step);
        }
    }
}

fn always_answers(plugin: &PluginInstance) -> bool {
    let percent = plugin.config.get("percent");
    let whole = percent.is_none_or(|share| share.as_str() == Some("100%"));
    plugin.kind == "respond" && !plugin.is_broken && plugin.mode == PluginMode::Enforce && whole
}

fn off(config: &Config, chain: &[Placed<'_>], report: &mut Report) {
    for (path, used) in chain {
        if instance(config, used).is_some_and(|plugin| plugin.mode == PluginMode::Off) {
            report.warning(
                path.clone(),
                "[unreachable_plugin] never runs: its mode is \"off\"",
                "remove it from this list, or set `mode` to `enforce` or `shadow`",
            );
        }
    }
}
