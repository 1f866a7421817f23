//! What a configuration must keep to beyond its shape, found all at once: names, references, bounds, combinations.
//! It must not know files, places or what settings compile to; it reads the schema and fills the report.
//! Called by `config::load` after decoding and before `config::compile`.

mod actions;
mod balance;
mod capture;
mod consumers;
mod ejection;
mod expectations;
mod expiry;
mod fault;
mod identity;
mod limits;
mod listeners;
mod matches;
mod mirror;
mod overload;
mod policies;
mod pools;
mod process;
mod redis;
mod retry;
mod routes;
mod services;
mod sources;
mod split;
mod subsets;
#[cfg(test)]
pub(in crate::config) mod tests;
mod values;

use std::collections::HashMap;

pub(super) use consumers::{key_of, mark_of, signing_key_of};

use super::report::Report;
use super::schema::{Config, Hold, Listener, PluginUse, Pool, Protocol};

/// Reports every error of meaning.
pub fn check(config: &Config, report: &mut Report) {
    let names = Names::of(config);
    names_are_good(config, report);
    process::check(config, report);
    overload::check(config, report);
    consumers::check(config, report);
    redis::check(config, report);
    identity::check(config, &names, report);
    listeners::check(config, &names, report);
    services::check(config, &names, report);
    let subsets = routes::check(config, &names, report);
    pools::check(config, &subsets, report);
    policies::check(config, &names, report);
    expectations::check(config, &names, report);
}

/// What a listener speaks once its default is filled in.
pub(crate) fn protocol_of(listener: &Listener) -> Protocol {
    let default = match listener.tls {
        Some(_) => Protocol::Https,
        None => Protocol::Http,
    };
    listener.protocol.unwrap_or(default)
}

/// Whether a text could stand among hosts.
pub(in crate::config) fn is_host_pattern(text: &str) -> bool {
    values::host_pattern(text).is_ok()
}

/// Everything that can be referred to, by name.
struct Names<'a> {
    config: &'a Config,
    listeners: HashMap<&'a str, &'a Listener>,
    pools: HashMap<&'a str, &'a Pool>,
    routes: Vec<&'a str>,
    services: Vec<&'a str>,
    plugins: Vec<&'a str>,
}

impl<'a> Names<'a> {
    fn of(config: &'a Config) -> Names<'a> {
        Names {
            config,
            listeners: config
                .listeners
                .iter()
                .map(|l| (l.name.as_str(), l))
                .collect(),
            pools: config.pools.iter().map(|p| (p.name.as_str(), p)).collect(),
            routes: config.routes.iter().map(|r| r.name.as_str()).collect(),
            services: config.services.iter().map(|it| it.name.as_str()).collect(),
            plugins: config.plugins.keys().map(String::as_str).collect(),
        }
    }

    fn listener(&self, report: &mut Report, path: &str, name: &str) -> Option<&'a Listener> {
        let found = self.listeners.get(name).copied();
        if found.is_none() && !self.config.gaps.hides("listeners") {
            unknown(
                report,
                path,
                "listener",
                name,
                self.listeners.keys().copied(),
            );
        }
        found
    }

    fn pool(&self, report: &mut Report, path: &str, name: &str) -> Option<&'a Pool> {
        let found = self.pools.get(name).copied();
        if found.is_none() && !self.config.may_have_pool(name) {
            unknown(report, path, "pool", name, self.pools.keys().copied());
        }
        found
    }

    fn route(&self, report: &mut Report, path: &str, name: &str) {
        if !self.routes.contains(&name) && !self.config.may_have_route(name) {
            unknown(report, path, "route", name, self.routes.iter().copied());
        }
    }

    fn service(&self, report: &mut Report, path: &str, name: &str) {
        let gaps = &self.config.gaps;
        let may_be = gaps.hides("services") || gaps.within("services_from");
        if !self.services.contains(&name) && !may_be {
            unknown(report, path, "service", name, self.services.iter().copied());
        }
    }

    fn plugins(&self, report: &mut Report, path: &str, chain: &[PluginUse]) {
        for (at, used) in chain.iter().enumerate() {
            let path = format!("{path}[{at}]");
            match used {
                PluginUse::Named(name) if self.plugins.contains(&name.as_str()) => {}
                PluginUse::Named(_) if self.config.gaps.hides("plugins") => {}
                PluginUse::Named(name) => {
                    unknown(report, &path, "plugin", name, self.plugins.iter().copied());
                }
                PluginUse::Inline(instance) if instance.is_broken => {}
                PluginUse::Inline(instance) => {
                    values::given(report, &format!("{path}.kind"), &instance.kind)
                }
            }
        }
    }
}

fn unknown<'a>(
    report: &mut Report,
    path: &str,
    noun: &str,
    name: &str,
    defined: impl Iterator<Item = &'a str>,
) {
    // What stands in for an item without a name is called by its path.
    let mut defined: Vec<&str> = defined.filter(|name| !name.contains('[')).collect();
    defined.sort_unstable();
    let known = match defined.is_empty() {
        true => format!("no {noun}s are defined"),
        false => format!("{noun}s defined: {}", defined.join(", ")),
    };
    let remedy = match nearest(name, &defined) {
        Some(near) => format!("did you mean \"{near}\"? {known}"),
        None => known,
    };
    report.error(path, format!("no {noun} is named \"{name}\""), remedy);
}

/// The known word that a misspelt one is closest to. Swapped neighbours count as one slip, as in "wbe" for "web".
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let most = (word.chars().count() / 3).max(1);
    known
        .iter()
        .map(|known| (strsim::osa_distance(word, known), *known))
        .filter(|(slips, _)| *slips <= most && *slips < word.chars().count())
        .min()
        .map(|(_, known)| known)
}

fn names_are_good(config: &Config, report: &mut Report) {
    named(
        report,
        "listeners",
        "-_",
        config
            .listeners
            .iter()
            .map(|it| (it.hold != Hold::Out).then_some(&*it.name)),
    );
    named(
        report,
        "routes",
        "-_.",
        config
            .routes
            .iter()
            .map(|it| (!it.is_quarantined).then_some(&*it.name)),
    );
    named(
        report,
        "pools",
        "-_.",
        config
            .pools
            .iter()
            .map(|it| (!it.is_quarantined).then_some(&*it.name)),
    );
    let stores = config.redis.iter().map(|it| Some(&*it.name));
    named(report, "redis", "-_.", stores);
    for (name, instance) in &config.plugins {
        well_formed(report, &format!("plugins.{name}"), "-_.", name);
        if !instance.is_broken {
            values::given(report, &format!("plugins.{name}.kind"), &instance.kind);
        }
    }
}

/// Names of a list; `None` for objects that are quarantined, as their names were judged before.
fn named<'a>(
    report: &mut Report,
    list: &str,
    marks: &str,
    names: impl Iterator<Item = Option<&'a str>>,
) {
    let mut first: HashMap<&str, usize> = HashMap::new();
    for (at, name) in names.enumerate() {
        let Some(name) = name else { continue };
        let path = format!("{list}[{at}].name");
        well_formed(report, &path, marks, name);
        match first.get(name) {
            Some(other) => report.error(
                &path,
                format!("the name \"{name}\" is taken by {list}[{other}]"),
                "names are unique in their list; choose another",
            ),
            None => drop(first.insert(name, at)),
        }
    }
}

fn well_formed(report: &mut Report, path: &str, marks: &str, name: &str) {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || marks.contains(c);
    if name.is_empty() || !name.chars().all(good) {
        let marks = marks
            .chars()
            .map(|c| format!("`{c}`"))
            .collect::<Vec<_>>()
            .join(", ");
        report.error(
            path,
            format!("the name \"{name}\" is empty or has characters that names cannot have"),
            format!("use lower case letters, digits and {marks}"),
        );
    }
}
