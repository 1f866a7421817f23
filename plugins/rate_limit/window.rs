//! One sliding window: uses are counted in windows of a fixed length, and those of the window before fade as this one passes.
//! It must not know whose it is or read a clock; time is an argument.
//! Called under the lock of a table's shard.

use std::time::Duration;

use crate::keyed::table::Aged;
use crate::keyed::Standing;

/// How much a window holds. Not kept in the window, so that a changed limit applies to windows that are there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Law {
    limit: u64,
    per_ns: u64,
}

/// A window and the one before. With another length the same numbers stand for other windows, and soon fade.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    index: u64,
    count: u64,
    before: u64,
    used: u64,
}

impl Law {
    pub(super) fn new(limit: u64, per: Duration) -> Law {
        Law {
            limit: limit.max(1),
            per_ns: u64::try_from(per.as_nanos()).unwrap_or(u64::MAX).max(1),
        }
    }
}

impl Aged for Window {
    fn used(&self) -> u64 {
        self.used
    }
}

impl Window {
    pub(super) fn new(now: u64) -> Window {
        Window {
            index: 0,
            count: 0,
            before: 0,
            used: now,
        }
    }

    /// Counts so many uses if there is room for them, or for an empty window where it never has as much. `now` may lie before an earlier call's: other threads read the clock too.
    pub(super) fn take(&mut self, law: &Law, now: u64, cost: u64) -> Standing {
        let gone = self.pass(law, now);
        let cost = cost.min(law.limit);
        let admitted = self.free(law, gone) >= cost;
        if admitted {
            self.count = self.count.saturating_add(cost);
        }
        self.standing(law, gone, admitted, if admitted { 1 } else { cost })
    }

    /// Counts so many uses whether there is room or not, or takes some back from this window. What is too much fades with the next one.
    pub(super) fn owe(&mut self, law: &Law, now: u64, uses: i64) -> Standing {
        let gone = self.pass(law, now);
        self.count = self.count.saturating_add_signed(uses);
        self.standing(law, gone, true, 1)
    }

    /// Goes on to the window of now; how far that one is gone.
    fn pass(&mut self, law: &Law, now: u64) -> u64 {
        self.used = self.used.max(now);
        let index = now / law.per_ns;
        match index.saturating_sub(self.index) {
            0 => {}
            1 => (self.before, self.count) = (self.count, 0),
            _ => (self.before, self.count) = (0, 0),
        }
        self.index = self.index.max(index);
        now.saturating_sub(self.index.saturating_mul(law.per_ns))
    }

    fn standing(&self, law: &Law, gone: u64, admitted: bool, need: u64) -> Standing {
        Standing {
            admitted,
            remaining: self.free(law, gone),
            next: Duration::from_nanos(self.next(law, gone, need)),
            full: Duration::from_nanos(self.full(law, gone)),
        }
    }

    /// Whole uses that there is room for. In whole numbers: a rounding error would be somebody's refusal.
    fn free(&self, law: &Law, gone: u64) -> u64 {
        let per = u128::from(law.per_ns);
        let faded = u128::from(self.before) * (per - u128::from(gone));
        let room = (u128::from(law.limit) * per)
            .saturating_sub((u128::from(self.count) * per).saturating_add(faded));
        u64::try_from(room / per).unwrap_or(u64::MAX)
    }

    /// Time until there is room for so many, which are at most the limit.
    fn next(&self, law: &Law, gone: u64, need: u64) -> u64 {
        if self.free(law, gone) >= need {
            return 0;
        }
        let most = law.limit.saturating_sub(need);
        match most.checked_sub(self.count) {
            Some(most) => Window::fade(law, self.before, most).saturating_sub(gone),
            // Only when this window is the one before.
            None => (law.per_ns - gone).saturating_add(Window::fade(law, self.count, most)),
        }
    }

    /// How far a window has to be gone for `uses` of the one before to have faded to `most`, rounded up.
    fn fade(law: &Law, uses: u64, most: u64) -> u64 {
        let (per, uses, most) = (u128::from(law.per_ns), u128::from(uses), u128::from(most));
        let gone = (per * uses.saturating_sub(most)).div_ceil(uses.max(1));
        u64::try_from(gone).unwrap_or(u64::MAX)
    }

    fn full(&self, law: &Law, gone: u64) -> u64 {
        let rest = law.per_ns - gone.min(law.per_ns);
        match (self.count, self.before) {
            (0, 0) => 0,
            (0, _) => rest,
            _ => rest.saturating_add(law.per_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn law() -> impl Strategy<Value = Law> {
        (1_u64..20, 1_u64..1_000_000)
            .prop_map(|(limit, per)| Law::new(limit, Duration::from_nanos(per)))
    }

    fn pauses(law: Law) -> impl Strategy<Value = (Law, Vec<u64>)> {
        let pause = prop_oneof![Just(0), 0..=law.per_ns / 10 + 1, 0..=law.per_ns * 3];
        (Just(law), prop::collection::vec(pause, 1..150))
    }

    proptest! {
        #[test]
        fn no_window_has_more_than_the_limit_and_no_span_more_than_twice((law, pauses) in law().prop_flat_map(pauses)) {
            let mut window = Window::new(0);
            let mut now = 7 * law.per_ns;
            let mut admitted = Vec::new();
            for pause in pauses {
                now += pause;
                if window.take(&law, now, 1).admitted {
                    admitted.push(now);
                }
            }

            for (first, start) in admitted.iter().enumerate() {
                let same_window = admitted.iter().filter(|at| **at / law.per_ns == start / law.per_ns);
                prop_assert!(same_window.count() as u64 <= law.limit);
                let in_span = admitted[first..].iter().take_while(|at| **at < start + law.per_ns);
                prop_assert!(in_span.count() as u64 <= 2 * law.limit);
            }
        }

        #[test]
        fn waiting_as_long_as_told_is_enough((law, pauses) in law().prop_flat_map(pauses)) {
            let mut window = Window::new(0);
            let mut now = 7 * law.per_ns;
            for pause in pauses {
                now += pause;
                let take = window.take(&law, now, 1);
                if !take.admitted {
                    now += take.next.as_nanos() as u64;
                    prop_assert!(window.take(&law, now, 1).admitted);
                }
            }
        }
    }

    #[test]
    fn uses_of_the_window_before_fade() {
        let law = Law::new(10, Duration::from_nanos(100));
        let mut window = Window::new(0);
        let admitted = |window: &mut Window, now| {
            (0..20)
                .filter(|_| window.take(&law, now, 1).admitted)
                .count()
        };

        assert_eq!(admitted(&mut window, 190), 10);
        assert_eq!(admitted(&mut window, 200), 0);
        assert_eq!(admitted(&mut window, 250), 5);
        assert_eq!(
            admitted(&mut window, 450),
            10,
            "nothing of two windows before counts"
        );
    }

    #[test]
    fn a_clock_read_late_by_another_thread_changes_nothing() {
        let law = Law::new(2, Duration::from_nanos(100));
        let mut window = Window::new(0);
        assert!(window.take(&law, 510, 1).admitted);

        assert!(window.take(&law, 490, 1).admitted);
        assert!(!window.take(&law, 495, 1).admitted);
    }
}
