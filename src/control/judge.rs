//! Whether requests went worse: shares of failures in a time against those of the time before.
//! It must not know where counts come from, nor what is done about the verdict.
//! Asked by `probation`; `traffic` and `admin` use its counts.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Sub;
use std::sync::Arc;

/// Requests that were over by a moment, or within a time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of them.
    pub requests: u64,
    /// Those answered with a status from 500 on.
    pub errors: u64,
    /// Those the proxy answered or cut itself, by cause.
    pub causes: BTreeMap<Arc<str>, u64>,
}

/// How much worse requests may go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bound {
    /// By how much a share may rise, 0 to 1.
    pub rise: f64,
    /// How many requests have to be seen before anything is said.
    pub requests: u64,
}

/// What went worse.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Worse {
    /// The share of answers from 500 on.
    errors: Change,
    /// The cause whose share rose most, of those beyond the bound if there are any.
    cause: Option<(Arc<str>, Change)>,
    /// Which of the two is beyond the bound.
    by: By,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Errors,
    Cause,
}

/// A share before and after.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Change {
    before: f64,
    after: f64,
}

impl Default for Bound {
    fn default() -> Bound {
        Bound {
            rise: 0.05,
            requests: 50,
        }
    }
}

/// Whether the share of 5xx, or of any one cause, rose beyond the bound. A time without requests counts as one without
/// failures.
pub(super) fn worse(before: &Counts, after: &Counts, bound: &Bound) -> Option<Worse> {
    if after.requests < bound.requests.max(1) {
        return None;
    }
    let change = |count: fn(&Counts, &str) -> u64, of: &str| Change {
        before: share(count(before, of), before.requests),
        after: share(count(after, of), after.requests),
    };
    let errors = change(|counts, _| counts.errors, "");
    let causes = after.causes.keys().map(|name| {
        let count = |counts: &Counts, of: &str| counts.causes.get(of).copied().unwrap_or(0);
        (name.clone(), change(count, name))
    });
    let by_rise = |(_, one): &(Arc<str>, Change), (_, other): &(Arc<str>, Change)| {
        one.rise().total_cmp(&other.rise())
    };
    // The largest rise may be within the bound, of a share that was high before, and a smaller one beyond it.
    let beyond = causes.clone().filter(|(_, change)| change.is_beyond(bound));
    let most = beyond.max_by(by_rise).or_else(|| causes.max_by(by_rise));
    let by = match &most {
        _ if errors.is_beyond(bound) => By::Errors,
        Some((_, change)) if change.is_beyond(bound) => By::Cause,
        Some(_) | None => return None,
    };
    let cause = most.filter(|(_, change)| change.rise() > 0.0);
    Some(Worse { errors, cause, by })
}

/// A part of all; 0 of nothing.
pub(super) fn share(part: u64, all: u64) -> f64 {
    match all {
        0 => 0.0,
        all => part as f64 / all as f64,
    }
}

impl Change {
    fn rise(&self) -> f64 {
        self.after - self.before
    }

    /// Twice as many, so that noise of a share that is high anyway does not count; but a share of 60 % cannot double.
    fn is_beyond(&self, bound: &Bound) -> bool {
        let is_much = self.after > 2.0 * self.before || self.rise() >= MUCH;
        self.rise() > 0.0 && self.rise() >= bound.rise && is_much
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = (self.before * 100.0, self.after * 100.0);
        write!(f, "from {before:.1} % to {after:.1} %")
    }
}

impl fmt::Display for Worse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.by, &self.cause) {
            (By::Errors, None) => write!(f, "5xx went {}", self.errors),
            (By::Errors, Some((name, change))) => {
                let share = change.after * 100.0;
                write!(f, "5xx went {} (cause `{name}`: {share:.1} %)", self.errors)
            }
            (By::Cause, Some((name, change))) => write!(f, "cause `{name}` went {change}"),
            (By::Cause, None) => f.write_str("a cause went up"),
        }
    }
}

/// What came between two moments.
impl Sub for &Counts {
    type Output = Counts;

    fn sub(self, earlier: &Counts) -> Counts {
        let cause = |(name, count): (&Arc<str>, &u64)| {
            let before = earlier.causes.get(name).copied().unwrap_or(0);
            let more = count.saturating_sub(before);
            (more > 0).then(|| (name.clone(), more))
        };
        Counts {
            requests: self.requests.saturating_sub(earlier.requests),
            errors: self.errors.saturating_sub(earlier.errors),
            causes: self.causes.iter().filter_map(cause).collect(),
        }
    }
}

/// A rise that counts whatever the share was before.
const MUCH: f64 = 0.3;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts(requests: u64, errors: u64, causes: &[(&str, u64)]) -> Counts {
        Counts {
            requests,
            errors,
            causes: causes
                .iter()
                .map(|(name, count)| (Arc::from(*name), *count))
                .collect(),
        }
    }

    fn told(before: &Counts, after: &Counts) -> Option<String> {
        worse(before, after, &Bound::default()).map(|worse| worse.to_string())
    }

    #[test]
    fn a_rise_beyond_the_bound_is_told_with_its_cause() {
        let before = counts(10_000, 10, &[("response_timeout", 10)]);
        let after = counts(1000, 123, &[("connect_refused", 119), ("no_route", 4)]);

        assert_eq!(
            told(&before, &after).as_deref(),
            Some("5xx went from 0.1 % to 12.3 % (cause `connect_refused`: 11.9 %)")
        );
    }

    #[test]
    fn a_cause_alone_can_be_beyond_the_bound() {
        let after = counts(100, 0, &[("no_route", 30)]);

        assert_eq!(
            told(&counts(100, 0, &[]), &after).as_deref(),
            Some("cause `no_route` went from 0.0 % to 30.0 %")
        );
    }

    #[test]
    fn a_cause_beyond_the_bound_counts_although_another_rose_more() {
        let before = counts(100, 0, &[("no_route", 20)]);
        let after = counts(100, 0, &[("no_route", 35), ("rate_limited", 10)]);

        assert_eq!(
            told(&before, &after).as_deref(),
            Some("cause `rate_limited` went from 0.0 % to 10.0 %")
        );
    }

    #[test]
    fn few_requests_small_rises_and_what_is_high_anyway_are_no_reason() {
        assert_eq!(told(&counts(0, 0, &[]), &counts(49, 49, &[])), None, "few");
        assert_eq!(told(&counts(100, 0, &[]), &counts(100, 4, &[])), None);
        assert_eq!(told(&counts(100, 20, &[]), &counts(100, 40, &[])), None);
        assert!(told(&counts(100, 20, &[]), &counts(100, 41, &[])).is_some());
        assert!(told(&counts(100, 60, &[]), &counts(100, 100, &[])).is_some());
    }

    #[test]
    fn what_came_between_two_moments_is_their_difference() {
        let (early, late) = (
            counts(5, 1, &[("a", 1), ("b", 2)]),
            counts(9, 1, &[("a", 4), ("b", 2)]),
        );

        assert_eq!(&late - &early, counts(4, 0, &[("a", 3)]));
    }

    proptest! {
        #[test]
        fn equal_shares_are_never_worse(
            requests in 1_u64..10_000,
            errors in 0_u64..10_000,
            times in 1_u64..100,
            rise in 0.0..1.0_f64,
        ) {
            let errors = errors.min(requests);
            let before = counts(requests, errors, &[("a", errors)]);
            let after = counts(requests * times, errors * times, &[("a", errors * times)]);
            let bound = Bound { rise, requests: 1 };

            prop_assert_eq!(worse(&before, &after, &bound), None);
            prop_assert_eq!(worse(&after, &before, &bound), None);
        }

        #[test]
        fn from_nothing_to_everything_is_always_worse(
            before in 0_u64..10_000,
            after in 50_u64..10_000,
            rise in 0.0..=1.0_f64,
        ) {
            let bound = Bound { rise, ..Bound::default() };

            prop_assert!(worse(&counts(before, 0, &[]), &counts(after, after, &[]), &bound).is_some());
            let causes = counts(after, 0, &[("no_route", after)]);
            prop_assert!(worse(&counts(before, 0, &[]), &causes, &bound).is_some());
        }
    }
}
