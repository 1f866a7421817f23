//! Times, retries and their budgets in final form; budgets go on with what they remember from the snapshot in force.
//! It must not know what a rule does otherwise.
//! Called for each rule by `routes`, and for each pool by `pools`.

use std::time::Duration;

use ahash::AHashMap;
use windrose_plugins::contract::Time;

use crate::config::schema::{self, ClientDeadline, RetryOn};
use crate::snapshot::budget::{Allowance, Budget};
use crate::snapshot::route::{Backoff, Retry, Timeouts};
use crate::snapshot::Snapshot;

const RESPONSE_HEADER: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(300);

/// The times of a rule; its own win over its route's.
pub(super) fn timeouts(rule: &schema::RouteTimeouts, route: &schema::RouteTimeouts) -> Timeouts {
    let bound = |own: Option<Time>, outer: Option<Time>, default: Duration| {
        let time = own.or(outer).map_or(default, |time| time.0);
        (!time.is_zero()).then_some(time)
    };
    let deadline = rule.client_deadline.or(route.client_deadline);
    Timeouts {
        response_header: bound(rule.response_header, route.response_header, RESPONSE_HEADER),
        idle: bound(rule.idle, route.idle, IDLE),
        request: bound(rule.request, route.request, Duration::ZERO),
        per_try: bound(rule.per_try, route.per_try, Duration::ZERO),
        honours_clients: deadline.unwrap_or_default() == ClientDeadline::Honour,
    }
}

/// A budget that goes on with what the same one of the snapshot in force remembers.
pub(super) fn budget(budget: &schema::RetryBudget, before: Option<&Budget>) -> Budget {
    let allowance = Allowance {
        ratio: budget.ratio.fraction(),
        min_per_second: budget.min_per_second,
        window: budget.window.0,
    };
    Budget::new(allowance, before)
}

/// The budgets of rules in the snapshot in force, by route and position.
#[derive(Default)]
pub(super) struct Before<'a>(AHashMap<(&'a str, usize), &'a Budget>);

impl<'a> Before<'a> {
    pub(super) fn of(previous: Option<&'a Snapshot>) -> Before<'a> {
        let rules = previous.into_iter().flat_map(|snapshot| &snapshot.rules);
        let budgets = rules.filter_map(|rule| {
            let budget = rule.retry.budget.as_ref()?;
            Some(((&*rule.route, rule.index), budget))
        });
        Before(budgets.collect())
    }

    fn at(&self, route: &str, index: usize) -> Option<&Budget> {
        self.0.get(&(route, index)).copied()
    }
}

/// The budgets of one route's rules.
pub(super) struct Budgets<'a> {
    before: &'a Before<'a>,
    /// The one that rules without `retry` share.
    shared: Option<Budget>,
}

impl<'a> Budgets<'a> {
    pub(super) fn of(route: &schema::Route, before: &'a Before<'a>) -> Budgets<'a> {
        let shared = route.retry.as_ref().and_then(|retry| {
            let first = route.rules.iter().position(|rule| rule.retry.is_none())?;
            let budget = retry.budget.as_ref()?;
            Some(self::budget(budget, before.at(&route.name, first)))
        });
        Budgets { before, shared }
    }

    /// The retries of a rule.
    pub(super) fn retry(&self, route: &schema::Route, index: usize) -> Retry {
        let own = route.rules[index].retry.as_ref();
        let budget = match own {
            Some(own) => {
                let before = self.before.at(&route.name, index);
                own.budget.as_ref().map(|it| self::budget(it, before))
            }
            None => self.shared.clone(),
        };
        match own.or(route.retry.as_ref()) {
            Some(written) => retry(written, budget),
            None => retry(&schema::Retry::default(), budget),
        }
    }
}

fn retry(retry: &schema::Retry, budget: Option<Budget>) -> Retry {
    let on = |failure| retry.on.contains(&failure);
    let methods = retry.methods.iter();
    Retry {
        attempts: retry.attempts,
        on_connect_failure: on(RetryOn::ConnectFailure),
        on_refused_stream: on(RetryOn::RefusedStream),
        on_reset: on(RetryOn::Reset),
        on_per_try_timeout: on(RetryOn::PerTryTimeout),
        statuses: retry.statuses.as_slice().into(),
        grpc: retry
            .grpc
            .iter()
            .fold(0, |bits, code| bits | 1 << *code as u32),
        methods: methods.filter_map(|method| method.parse().ok()).collect(),
        backoff: Backoff {
            base: retry.backoff.base.0,
            max: retry.backoff.max.0,
        },
        budget,
    }
}
