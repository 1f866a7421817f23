//! How requests went in the last minutes: sums over the process's own counters, looked at now and then.
//! It must not know who asks, and nothing on a request's way knows it.
//! The supervisor and `probation` let it look; `probation` and `admin` ask.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::judge::Counts;
use crate::observe::metrics::{Finished, FinishedBy, Metrics};

/// The last minutes, as a bounded list of looks at the counters.
#[derive(Default)]
pub struct Traffic(Mutex<State>);

#[derive(Default)]
struct State {
    hasher: ahash::RandomState,
    /// Where every series stood at the last look. Series go away with their routes, so sums over them could fall.
    series: HashMap<u64, u64>,
    /// Everything since the start of the process.
    sum: Counts,
    looks: VecDeque<Look>,
}

/// What had been counted at a moment.
#[derive(Clone)]
pub struct Look {
    /// When.
    pub at: Instant,
    /// Everything since the start of the process.
    pub counts: Counts,
}

/// What was counted within a time.
#[derive(Default)]
pub struct Span {
    /// How long it was.
    pub time: Duration,
    /// What came in it.
    pub counts: Counts,
}

impl Traffic {
    /// Looks at the counters, unless that was done a moment ago.
    pub fn look(&self, metrics: &Metrics, at_most_every: Duration) {
        let mut state = self.state();
        let now = Instant::now();
        let last = state.looks.back();
        if last.is_none_or(|last| now.duration_since(last.at) >= at_most_every) {
            state.add(metrics);
            state.keep(now);
        }
    }

    /// What is counted right now.
    pub fn now(&self, metrics: &Metrics) -> Look {
        self.look(metrics, Duration::ZERO);
        let state = self.state();
        Look {
            at: Instant::now(),
            counts: state.sum.clone(),
        }
    }

    /// What came in the minutes that are remembered. However often it is asked, the list of looks stays as long.
    pub fn lately(&self, metrics: &Metrics) -> Span {
        self.look(metrics, Duration::from_secs(1));
        let last = self.state().looks.back().cloned();
        last.map_or_else(Span::default, |last| self.before(&last, MINUTES))
    }

    /// What came up to a look, from as far back as is known, but at most so long.
    pub fn before(&self, end: &Look, at_most: Duration) -> Span {
        let state = self.state();
        let known = state.looks.iter().filter(|look| look.at <= end.at);
        let mut within = known.filter(|look| end.at.duration_since(look.at) <= at_most);
        let begin = within.next().unwrap_or(end);
        Span {
            time: end.at.duration_since(begin.at),
            counts: &end.counts - &begin.counts,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Adds what came since the last look. A series that stands lower than before went away and came back.
    fn add(&mut self, metrics: &Metrics) {
        let mut series = HashMap::with_capacity(self.series.len());
        let (hasher, before, sum) = (&self.hasher, &self.series, &mut self.sum);
        metrics.finished(&mut |finished: Finished<'_>| {
            let key = hasher.hash_one((finished.is_of_cause(), finished.labels));
            series.insert(key, finished.count);
            let known = before.get(&key).copied().unwrap_or(0);
            let more = match finished.count >= known {
                true => finished.count - known,
                false => finished.count,
            };
            count(sum, &finished, more);
        });
        self.series = series;
    }

    fn keep(&mut self, now: Instant) {
        let counts = self.sum.clone();
        self.looks.push_back(Look { at: now, counts });
        while self.looks.len() > MOST
            || self
                .looks
                .front()
                .is_some_and(|first| now.duration_since(first.at) > MINUTES)
        {
            self.looks.pop_front();
        }
    }
}

fn count(sum: &mut Counts, finished: &Finished<'_>, more: u64) {
    match finished.of {
        _ if more == 0 => {}
        FinishedBy::Status(status) => {
            sum.requests += more;
            if status.starts_with('5') {
                sum.errors += more;
            }
        }
        FinishedBy::Cause(cause) => match sum.causes.get_mut(cause) {
            Some(count) => *count += more,
            None => {
                sum.causes.insert(Arc::from(cause), more);
            }
        },
    }
}

/// How far back is remembered.
pub(super) const MINUTES: Duration = Duration::from_secs(300);
/// How often the supervisor looks.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);
/// A look each second fills the minutes; callers that ask more often shorten them instead of growing the list.
const MOST: usize = 320;

#[cfg(test)]
mod tests {
    use windrose_plugins::contract::causes;

    use super::*;
    use crate::observe::metrics::RequestSample;

    fn finish(metrics: &Metrics, route: &str, status: u16, times: usize) {
        let route = metrics.route("edge", "ingress", route);
        let cause = (status == 502).then_some(&causes::CONNECT_REFUSED);
        for _ in 0..times {
            route.started();
            route.finished(&RequestSample {
                status,
                cause,
                ..RequestSample::default()
            });
        }
    }

    #[test]
    fn requests_of_all_routes_are_summed_by_outcome_and_cause() {
        let (metrics, traffic) = (Metrics::new(100), Traffic::default());
        finish(&metrics, "a", 200, 3);
        traffic.look(&metrics, Duration::ZERO);
        finish(&metrics, "a", 502, 2);
        finish(&metrics, "b", 200, 5);

        let now = traffic.now(&metrics);
        let span = traffic.before(&now, MINUTES);

        assert_eq!((now.counts.requests, now.counts.errors), (10, 2));
        assert_eq!((span.counts.requests, span.counts.errors), (7, 2));
        assert_eq!(span.counts.causes.get("connect_refused"), Some(&2));
    }

    #[test]
    fn a_route_that_goes_away_takes_nothing_back() {
        let (metrics, traffic) = (Metrics::new(100), Traffic::default());
        finish(&metrics, "a", 200, 3);
        finish(&metrics, "b", 200, 4);
        traffic.look(&metrics, Duration::ZERO);

        metrics.retain(&|_, _, second| second != "a");
        finish(&metrics, "a", 200, 1);
        let again = traffic.now(&metrics);

        assert_eq!(again.counts.requests, 8);
    }

    #[test]
    fn the_list_of_looks_does_not_grow_without_bound() {
        let (metrics, traffic) = (Metrics::new(100), Traffic::default());

        for _ in 0..1000 {
            traffic.look(&metrics, Duration::ZERO);
        }
        traffic.look(&metrics, MINUTES);

        assert_eq!(traffic.state().looks.len(), MOST);
    }
}
