//! The listener of a decision: writes down candidates, conditions and plugins' turns as they come.
//! It must not judge; what it hears is what happened.
//! `explain` hands it to `decide` as the trace.

use std::sync::Arc;

use windrose_plugins::contract::{Answer, CacheWish, Part, PartTurn};

use super::ruling::{self, PolicySeen, RulingSeen};
use super::view::{CandidateSeen, ConditionSeen, PartSeen, PluginSeen, ShareSeen};
use super::words;
use crate::decide::policy::{Fit, Ruling};
use crate::decide::{Facts, Stage, Trace, Verdict};
use crate::observe::metrics::ChosenBy;
use crate::snapshot::chain::{Chain, Instance, Mode, Turn};
use crate::snapshot::listener::Listener;
use crate::snapshot::policy::Policy;
use crate::snapshot::route::{Candidate, FaultPlan, HostPattern, Mirror, Share};

/// Everything heard.
#[derive(Default)]
pub(super) struct Heard {
    conditions: Vec<ConditionSeen>,
    candidates: Vec<(u32, CandidateSeen)>,
    turns: Vec<PluginSeen>,
    /// What was said inside of the plugin that has its turn next.
    parts: Vec<PartSeen>,
    /// The share that was chosen, where the rule has a split.
    pub(super) share: Option<ShareSeen>,
    /// What is injected, with its chance.
    pub(super) faults: Vec<String>,
    /// Copies that may be made, with their chance.
    pub(super) mirrors: Vec<String>,
    /// What policies ruled.
    pub(super) ruling: Option<RulingSeen>,
    /// Rules of policies that were looked at.
    pub(super) policies: Vec<PolicySeen>,
}

/// Candidates told besides those that were compared.
const MOST_OTHERS: usize = 50;

impl Trace for Heard {
    const ON: bool = true;

    fn condition(&mut self, candidate: &Candidate, verdict: &Verdict<'_>) {
        self.conditions.push(ConditionSeen {
            condition: words::condition(&candidate.conditions, &verdict.condition),
            holds: verdict.holds,
        });
    }

    fn candidate(&mut self, candidate: &Candidate, matched: bool) {
        let verdict = if matched { "matches" } else { "fails" };
        let conditions = std::mem::take(&mut self.conditions);
        let seen = seen(candidate, verdict, conditions);
        self.candidates.push((candidate.order, seen));
    }

    fn plugin(&mut self, stage: Stage, plugin: &Instance, turn: Turn<'_>) {
        self.turn(stage, plugin, turn);
    }

    fn policy(&mut self, policy: &Policy, rule: usize, fit: &Fit) {
        self.policies.push(ruling::seen(policy, rule, fit));
    }

    fn ruling(&mut self, ruling: &Ruling<'_>) {
        self.ruling = Some(ruling::ruling(ruling));
    }

    fn share(&mut self, share: &Share, by: ChosenBy) {
        self.share = Some(ShareSeen {
            name: share.name.to_string(),
            by: by.as_str().to_owned(),
        });
    }

    fn fault(&mut self, plan: &FaultPlan) {
        self.faults = words::fault_plan(plan);
    }

    fn mirrors(&mut self, mirrors: &[Mirror]) {
        self.mirrors = mirrors.iter().map(words::mirror).collect();
    }

    fn caching(&mut self, stage: Stage, plugin: &Instance, wish: &CacheWish) {
        self.turns.push(PluginSeen {
            says: words::caching(wish),
            ..mute(stage, plugin)
        });
    }
}

fn seen(candidate: &Candidate, verdict: &str, conditions: Vec<ConditionSeen>) -> CandidateSeen {
    CandidateSeen {
        route: candidate.rule.route.to_string(),
        rule: candidate.rule.path.to_string(),
        place: candidate.rule.place.to_string(),
        host: words::host(&candidate.host).to_owned(),
        path: words::path(&candidate.path),
        precedence: words::precedence(candidate),
        verdict: verdict.to_owned(),
        conditions,
    }
}

impl Heard {
    pub(super) fn turn(&mut self, stage: Stage, plugin: &Instance, turn: Turn<'_>) {
        if let Turn::Part(part) = turn {
            self.parts.push(part_seen(part));
            return;
        }
        let (says, answer) = said(turn);
        self.turns.push(PluginSeen {
            parts: std::mem::take(&mut self.parts),
            says,
            cause: answer.map(|answer| answer.cause.name.to_owned()),
            status: answer.map(|answer| answer.status),
            ..mute(stage, plugin)
        });
    }

    /// The candidates in order of precedence, those compared first; the first that matches is the chosen one, those that match
    /// behind it are in its shadow. Then routes of the same host whose path differs.
    pub(super) fn candidates(
        &self,
        listener: &Listener,
        facts: &Facts,
        chosen: Option<&Arc<Candidate>>,
        decided: bool,
    ) -> Vec<CandidateSeen> {
        let without = if decided {
            "path differs"
        } else {
            "not looked at"
        };
        let mut all: Vec<CandidateSeen> = Vec::new();
        for (order, seen) in &self.candidates {
            let mut seen = seen.clone();
            if seen.verdict == "matches" {
                let is_chosen = chosen.is_some_and(|chosen| chosen.order == *order);
                seen.verdict = if is_chosen { "chosen" } else { "in the shadow" }.to_owned();
            }
            all.push(seen);
        }
        let host = listener.service.as_deref().unwrap_or(&facts.host);
        let compared =
            |one: &Candidate| self.candidates.iter().any(|(order, _)| *order == one.order);
        // A service that is called at another address differs in more than its path.
        let is_at = |one: &Candidate| {
            let mut given = one.conditions.destinations.iter();
            let to = facts.destination;
            one.conditions.destinations.is_empty()
                || to.is_some_and(|to| given.any(|one| one.matches(to)))
        };
        let fits = |one: &Candidate| {
            is_at(one) && (one.host.is_empty() || HostPattern::new(&one.host).matches(host))
        };
        let others = listener.routes.all().map(|one| &**one);
        let others = others.filter(|one| fits(one) && !compared(one));
        all.extend(
            others
                .take(MOST_OTHERS)
                .map(|one| seen(one, without, Vec::new())),
        );
        all
    }

    /// What plugins said in their turns, and those whose turn never came.
    pub(super) fn plugins(
        &self,
        listener: &Listener,
        chosen: Option<&Arc<Candidate>>,
    ) -> Vec<PluginSeen> {
        let mut all = self.turns.clone();
        let mut add = |chain: &Chain, stage: Stage| {
            for one in &chain.all {
                let had_turn = |seen: &PluginSeen| seen.name == *one.name;
                if !all.iter().any(had_turn) {
                    all.push(PluginSeen {
                        says: silence(one, chosen.is_some()).to_owned(),
                        ..mute(stage, one)
                    });
                }
            }
        };
        add(&listener.chain, Stage::Listener);
        if let Some(chosen) = chosen {
            add(&chosen.rule.chain, Stage::Route);
        }
        all
    }
}

/// Why a plugin had no turn.
fn silence(plugin: &Instance, decided: bool) -> &'static str {
    let hooks = &plugin.hooks;
    let acts_on_requests =
        hooks.request.is_some() || hooks.upstream_request.is_some() || hooks.cache.is_some();
    match (acts_on_requests, decided) {
        (true, _) => "is not reached",
        (false, true) => "acts on bodies, the response or the end",
        (false, false) => "acts later",
    }
}

fn mute(stage: Stage, plugin: &Instance) -> PluginSeen {
    PluginSeen {
        stage: match stage {
            Stage::Listener => "listener",
            Stage::Route => "route",
            Stage::Upstream => "upstream",
        }
        .to_owned(),
        name: plugin.name.to_string(),
        kind: plugin.kind.to_owned(),
        place: plugin.place.to_string(),
        mode: match plugin.mode {
            Mode::Enforce => "enforce",
            Mode::Shadow => "shadow",
        }
        .to_owned(),
        says: String::new(),
        cause: None,
        status: None,
        parts: Vec::new(),
    }
}

fn part_seen(part: &Part) -> PartSeen {
    let (says, cause, status) = match &part.turn {
        PartTurn::Continued(None) => ("lets it go on, unproven".to_owned(), None, None),
        PartTurn::Continued(Some(who)) => (format!("lets it go on as {who}"), None, None),
        PartTurn::Answered(status, cause) => {
            let says = format!("would answer {status} `{}`", cause.name);
            (says, Some(*cause), Some(*status))
        }
        PartTurn::Failed(cause, reason) => {
            (format!("cannot do its work: {reason}"), Some(*cause), None)
        }
        PartTurn::Unknown(what) => (format!("is unknown here: asks {what}"), None, None),
        PartTurn::NotReached => ("is not asked".to_owned(), None, None),
    };
    PartSeen {
        kind: part.kind.clone(),
        path: part.path.clone(),
        depth: part.depth,
        says,
        cause: cause.map(|cause| cause.name.to_owned()),
        status,
    }
}

fn said(turn: Turn<'_>) -> (String, Option<&Answer>) {
    let answers = |answer: &Answer| format!("{} `{}`", answer.status, answer.cause.name);
    match turn {
        Turn::Continued => ("continues".to_owned(), None),
        Turn::Answered(answer) => (format!("answers {}", answers(answer)), Some(answer)),
        Turn::WouldAnswer(answer) => (
            format!("would answer {}, but is in shadow mode", answers(answer)),
            Some(answer),
        ),
        Turn::FailedOpen(reason) => (
            format!("cannot do its work and lets the request go on: {reason}"),
            None,
        ),
        Turn::Unknown(what) => (format!("is unknown here: asks {what}"), None),
        Turn::Part(_) => (String::new(), None),
    }
}
