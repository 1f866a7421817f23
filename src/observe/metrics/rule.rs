//! What is counted about the shares, mirrors and faults of rules, by route.
//! It must not know how a share is chosen or a mirror sent.
//! The fast path calls it for the few requests that have any of these; `Metrics` makes the handles.

use std::sync::{Arc, OnceLock};

use super::family::{Counters, Histograms, Maker};
use super::series::{Histogram, IntCounter};
use super::SECONDS;
use crate::observe::mirror::Differences;

/// The families that shares, mirrors and faults feed.
pub(super) struct RuleFamilies {
    shares: Counters,
    faults: Counters,
    mirrors: Counters,
    mirror_seconds: Histograms,
    compared: Counters,
    latency: Histograms,
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
            mirrors: make.counters(
                "windrose_mirror_requests_total",
                "Copies of requests that mirrors should get, by what became of them.",
                &["route", "pool", "result"],
            ),
            mirror_seconds: make.histograms(
                "windrose_mirror_request_duration_seconds",
                "Time of copies that were answered, from the endpoint's choice to the response's header.",
                &["route", "pool"],
                SECONDS,
            ),
            compared: make.counters(
                "windrose_mirror_compared_total",
                "Responses of mirrors compared with those of the requests themselves, by the first thing that differs.",
                &["route", "pool", "result"],
            ),
            latency: make.histograms(
                "windrose_mirror_latency_difference_seconds",
                "Time to the response's header of the mirror less that of the request itself; below 0 where the mirror is faster.",
                &["route", "pool"],
                DIFFERENCES,
            ),
        }
    }

    /// Drops the series of routes that `keep` refuses.
    pub(super) fn retain(&self, keep: &dyn Fn(&str) -> bool) {
        let by_name = |labels: &[&str]| keep(labels[0]);
        self.shares.retain(&by_name);
        self.faults.retain(&by_name);
        self.mirrors.retain(&by_name);
        self.mirror_seconds.retain(&by_name);
        self.compared.retain(&by_name);
        self.latency.retain(&by_name);
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
    labels: [Arc<str>; 2],
    families: Arc<RuleFamilies>,
    chosen: [OnceLock<IntCounter>; 3],
}

impl ShareMetrics {
    pub(super) fn new(families: &Arc<RuleFamilies>, labels: [Arc<str>; 2]) -> ShareMetrics {
        ShareMetrics {
            labels,
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

/// What became of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorResult {
    /// It was answered.
    Answered,
    /// No connection, or one that broke.
    Failed,
    /// It took too long.
    TimedOut,
    /// The pool had no endpoint to offer.
    NoEndpoint,
    /// Too many were waiting.
    QueueFull,
    /// Its turn did not come in time.
    QueueTimeout,
    /// The body is longer than is copied.
    BodyTooLarge,
    /// The request ended before its body was whole.
    Unfinished,
    /// Every endpoint had as many requests as it may.
    EndpointsFull,
    /// The process was overloaded.
    Overloaded,
}

impl MirrorResult {
    /// All, in the order of their numbers.
    const ALL: [MirrorResult; 10] = [
        MirrorResult::Answered,
        MirrorResult::Failed,
        MirrorResult::TimedOut,
        MirrorResult::NoEndpoint,
        MirrorResult::QueueFull,
        MirrorResult::QueueTimeout,
        MirrorResult::BodyTooLarge,
        MirrorResult::Unfinished,
        MirrorResult::EndpointsFull,
        MirrorResult::Overloaded,
    ];

    fn as_str(self) -> &'static str {
        match self {
            MirrorResult::Answered => "answered",
            MirrorResult::Failed => "failed",
            MirrorResult::TimedOut => "timed_out",
            MirrorResult::NoEndpoint => "no_endpoint",
            MirrorResult::QueueFull => "queue_full",
            MirrorResult::QueueTimeout => "queue_timeout",
            MirrorResult::BodyTooLarge => "body_too_large",
            MirrorResult::Unfinished => "unfinished",
            MirrorResult::EndpointsFull => "endpoints_full",
            MirrorResult::Overloaded => "overloaded",
        }
    }
}

/// What came of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// Nothing differs.
    Same,
    /// The status.
    Status,
    /// A field.
    Headers,
    /// The body.
    Body,
    /// A body was too long to compare; the rest is the same.
    TooLarge,
    /// The request itself had no whole response.
    PrimaryFailed,
    /// The copy had none.
    MirrorFailed,
}

impl Compared {
    /// All, in the order of their numbers.
    const ALL: [Compared; 7] = [
        Compared::Same,
        Compared::Status,
        Compared::Headers,
        Compared::Body,
        Compared::TooLarge,
        Compared::PrimaryFailed,
        Compared::MirrorFailed,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Compared::Same => "same",
            Compared::Status => "status",
            Compared::Headers => "headers",
            Compared::Body => "body",
            Compared::TooLarge => "too_large",
            Compared::PrimaryFailed => "primary_failed",
            Compared::MirrorFailed => "mirror_failed",
        }
    }
}

/// Counters and examples of a route's copies to one pool. Series appear at first use.
pub struct MirrorMetrics {
    labels: [Arc<str>; 2],
    families: Arc<RuleFamilies>,
    requests: [OnceLock<IntCounter>; 10],
    seconds: OnceLock<Histogram>,
    compared: [OnceLock<IntCounter>; 7],
    latency: OnceLock<Histogram>,
    /// The last responses that differed.
    pub differences: Differences,
}

impl MirrorMetrics {
    pub(super) fn new(families: &Arc<RuleFamilies>, labels: [Arc<str>; 2]) -> MirrorMetrics {
        MirrorMetrics {
            labels,
            families: families.clone(),
            requests: Default::default(),
            seconds: OnceLock::new(),
            compared: Default::default(),
            latency: OnceLock::new(),
            differences: Differences::default(),
        }
    }

    /// A copy was answered after so many seconds.
    pub fn answered(&self, seconds: f64) {
        self.finished(MirrorResult::Answered);
        let [route, pool] = &self.labels;
        let made = || self.families.mirror_seconds.with(&[route, pool]);
        self.seconds.get_or_init(made).observe(seconds);
    }

    /// A copy came to this.
    pub fn finished(&self, result: MirrorResult) {
        let [route, pool] = &self.labels;
        let made = || self.families.mirrors.with(&[route, pool, result.as_str()]);
        self.requests[result as usize].get_or_init(made).inc();
    }

    /// Two responses were to be compared.
    pub fn compared(&self, result: Compared) {
        let [route, pool] = &self.labels;
        let made = || self.families.compared.with(&[route, pool, result.as_str()]);
        self.compared[result as usize].get_or_init(made).inc();
    }

    /// The mirror took so much longer.
    pub fn latency(&self, seconds: f64) {
        let [route, pool] = &self.labels;
        let made = || self.families.latency.with(&[route, pool]);
        self.latency.get_or_init(made).observe(seconds);
    }

    /// How many copies came to what, those that happened.
    pub fn requests(&self) -> Vec<(&'static str, u64)> {
        let all = MirrorResult::ALL.iter().zip(&self.requests);
        all.filter_map(|(result, counter)| Some((result.as_str(), counter.get()?.get())))
            .collect()
    }

    /// How many comparisons came to what, those that happened.
    pub fn comparisons(&self) -> Vec<(&'static str, u64)> {
        let all = Compared::ALL.iter().zip(&self.compared);
        all.filter_map(|(result, counter)| Some((result.as_str(), counter.get()?.get())))
            .collect()
    }
}

/// Buckets of differences of times: a mirror may be faster as well as slower.
const DIFFERENCES: &[f64] = &[
    -5.0, -1.0, -0.25, -0.1, -0.025, -0.01, -0.0025, 0.0, 0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0,
];
