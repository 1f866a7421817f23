//! Lets consumers in or keeps them out by their groups and names.
//! It must not prove who calls; a plugin before it does.
//! Called by the chain of a listener or route that names it, after the plugin that authenticates.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{
    did_you_mean, Answer, Blame, Build, Cause, Consumers, Counter, Hooks, Plugin, PluginDef,
    Principal, PrincipalKind, Problem, Request, Safety, Verdict,
};

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// The consumer is not let in.
pub static DENIED: Cause = Cause {
    name: "policy_denied.acl",
    blame: Blame::Policy,
    status: 403,
    title: "Forbidden",
    explanation: "The consumer, or one of its groups, is among those an `acl` denies, or none of those it allows.",
    next_step: "Compare the principal in the access log with `groups` of that consumer and the lists of the plugin.",
};

/// Nobody is proven to call.
pub static UNPROVEN: Cause = Cause {
    name: "identity_missing.acl",
    blame: Blame::Client,
    status: 401,
    title: "Unauthorized",
    explanation: "An `acl` lets in consumers only, and no plugin before it proved one.",
    next_step: "Send credentials. Where they were sent, put the plugin that checks them (`key_auth`, `basic_auth`) before `acl` in the list.",
};

/// Settings of `acl`. Who is denied is refused, whatever else allows; where anybody is allowed, everybody else is refused, also
/// who is not proven.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who is let in. Default: everybody who is not denied.
    #[serde(default)]
    pub allow: Whom,
    /// Who is refused. Default: nobody.
    #[serde(default)]
    pub deny: Whom,
}

/// Groups and names of consumers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Whom {
    /// Groups; one of a consumer's is enough. Default: none.
    #[serde(default)]
    pub groups: BTreeSet<String>,
    /// Names of consumers. Default: none.
    #[serde(default)]
    pub consumers: BTreeSet<String>,
}

impl Whom {
    fn is_nobody(&self) -> bool {
        self.groups.is_empty() && self.consumers.is_empty()
    }

    fn has(&self, name: &str, groups: &BTreeSet<String>) -> bool {
        self.consumers.contains(name) || !self.groups.is_disjoint(groups)
    }
}

impl Plugin for Config {
    const KIND: &'static str = "acl";
    const ABOUT: &'static str = "let consumers in or keep them out by group and name";
    const EXAMPLE: &'static str = "allow: {groups: [staff]}\ndeny: {consumers: [mallory]}";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[&DENIED, &UNPROVEN];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let mut problems = Vec::new();
        if self.allow.is_nobody() && self.deny.is_nobody() {
            problems.push(
                Problem::at("", "neither `allow` nor `deny` names anybody")
                    .help("name groups or consumers, or remove the plugin"),
            );
        }
        for (list, whom) in [("allow", &self.allow), ("deny", &self.deny)] {
            known(list, whom, build.consumers, &mut problems);
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let gate = Gate {
            lists: self,
            consumers: build.consumers.clone(),
            refused: build.counter("refused"),
        };
        Ok(Hooks::new().on_request(move |request| gate.check(request)))
    }
}

/// A group that nobody is in is a mistake: one that is denied would keep nobody out.
fn known(list: &str, whom: &Whom, consumers: &Consumers, problems: &mut Vec<Problem>) {
    if !consumers.are_complete() {
        return;
    }
    let groups = consumers.groups();
    for group in whom
        .groups
        .iter()
        .filter(|group| !groups.contains(&***group))
    {
        let fact = format!("no consumer is in a group \"{group}\"");
        let remedy = remedy(group, groups.iter().copied());
        problems.push(Problem::at(format!("{list}.groups"), fact).help(remedy));
    }
    for name in whom
        .consumers
        .iter()
        .filter(|name| consumers.named(name).is_none())
    {
        let fact = format!("no consumer is named \"{name}\"");
        let remedy = remedy(name, consumers.names());
        problems.push(Problem::at(format!("{list}.consumers"), fact).help(remedy));
    }
}

fn remedy<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    match did_you_mean(word, known) {
        Some(meant) => format!("did you mean \"{meant}\"? `consumers` says who there is"),
        None => "add it to `consumers`, or remove it here".to_owned(),
    }
}

struct Gate {
    lists: Config,
    consumers: Arc<Consumers>,
    refused: Counter,
}

impl Gate {
    fn check(&self, request: &Request<'_>) -> Verdict {
        let cause = match self.judge(request.principal.as_ref()) {
            Ok(()) => return Verdict::Continue,
            Err(cause) => cause,
        };
        if request.effects.is_live() {
            (self.refused)(1);
        }
        Answer::of(cause).into()
    }

    fn judge(&self, principal: Option<&Principal>) -> Result<(), &'static Cause> {
        let (allow, deny) = (&self.lists.allow, &self.lists.deny);
        let consumer = principal.filter(|one| one.kind == PrincipalKind::Consumer);
        let Some(consumer) = consumer else {
            return match (allow.is_nobody(), principal) {
                (true, _) => Ok(()),
                (false, None) => Err(&UNPROVEN),
                (false, Some(_)) => Err(&DENIED),
            };
        };
        // One who was proven without being written here, such as a user of `basic_auth`, has a name and no groups.
        static NONE: BTreeSet<String> = BTreeSet::new();
        let name = consumer.name.as_str();
        let groups = self.consumers.named(name).map_or(&NONE, |one| &one.groups);
        match (
            deny.has(name, groups),
            allow.is_nobody() || allow.has(name, groups),
        ) {
            (false, true) => Ok(()),
            (true, _) | (_, false) => Err(&DENIED),
        }
    }
}
