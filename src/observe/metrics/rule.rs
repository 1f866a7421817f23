//! What is counted about the shares, mirrors and faults of rules, by route.
//! It must not know how a share is chosen or a mirror sent.
//! The fast path calls it for the few requests that have any of these; `Metrics` makes the handles.

use std::sync::{Arc, OnceLock};

use prometheus::IntCounter;

use super::family::{Counters, Maker};

/// The families that shares, mirrors and faults feed.
pub(super) struct RuleFamilies {
    shares: Counters,
    faults: Counters,
}

impl RuleFamilies {
    pub(super) fn new(make: &Maker<'_>) -> RuleFamilies {
        RuleFamilies {
            shares: make.counters(
                "windrose_split_requests_total",
                "Requests and connections dealt to a share of a split, by what decided: chance, sticky or override.",
                &["route", "share", "by"],
            ),
            faults: make.counters(
                "windrose_faults_injected_total",
                "Faults injected into requests on purpose, by kind: delay or abort.",
                &["route", "kind"],
            ),
        }
    }

    /// Drops the series of routes that `keep` refuses.
    pub(super) fn retain(&self, keep: &dyn Fn(&str) -> bool) {
        let by_name = |labels: &[Box<str>]| keep(&labels[0]);
        self.shares.retain(&by_name);
        self.faults.retain(&by_name);
    }
}

/// What decided on a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChosenBy {
    /// A random number.
    Chance,
    /// A key of the request.
    Sticky,
    /// The request's own word.
    Override,
}

impl ChosenBy {
    /// The word used in labels and views.
    pub fn as_str(self) -> &'static str {
        match self {
            ChosenBy::Chance => "chance",
            ChosenBy::Sticky => "sticky",
            ChosenBy::Override => "override",
        }
    }
}

/// Counters of one share. Series appear at the first request.
pub struct ShareMetrics {
    labels: [String; 2],
    families: Arc<RuleFamilies>,
    chosen: [OnceLock<IntCounter>; 3],
}

impl ShareMetrics {
    pub(super) fn new(families: &Arc<RuleFamilies>, labels: [&str; 2]) -> ShareMetrics {
        ShareMetrics {
            labels: labels.map(String::from),
            families: families.clone(),
            chosen: Default::default(),
        }
    }

    /// A request was dealt to the share.
    pub fn chosen(&self, by: ChosenBy) {
        let [route, share] = &self.labels;
        let counter = self.chosen[by as usize]
            .get_or_init(|| self.families.shares.with(&[route, share, by.as_str()]));
        counter.inc();
    }
}

/// Counters of a route's faults.
pub struct FaultMetrics {
    delays: IntCounter,
    aborts: IntCounter,
}

impl FaultMetrics {
    pub(super) fn new(families: &RuleFamilies, route: &str) -> FaultMetrics {
        FaultMetrics {
            delays: families.faults.with(&[route, "delay"]),
            aborts: families.faults.with(&[route, "abort"]),
        }
    }

    /// A request is delayed.
    pub fn delayed(&self) {
        self.delays.inc();
    }

    /// A request is aborted.
    pub fn aborted(&self) {
        self.aborts.inc();
    }
}
