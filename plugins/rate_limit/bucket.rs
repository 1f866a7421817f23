//! One token bucket: in any span of time it admits at most its burst plus what the rate grows in that span.
//! It must not know whose it is or read a clock; time is an argument.
//! Called under the lock of a table's shard.

use std::time::Duration;

use crate::keyed::table::Aged;
use crate::keyed::Standing;

/// How a bucket fills. Not kept in the bucket, so that a changed limit applies to buckets that are there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Law {
    rate: u64,
    per_ns: u64,
    burst: u64,
}

/// A bucket. Levels are whole numbers: with floats the law would hold only nearly.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    /// In units of 2^-32 tokens; below zero where more is owed than there was.
    level: i64,
    /// Until when growth is in the level, in nanoseconds.
    grown: u64,
}

const TOKEN: i64 = 1 << 32;
/// The most that is owed: what the longest bucket holds.
const LOWEST: i64 = -(Law::MOST as i64) * TOKEN;

impl Law {
    /// Levels fit in 63 bits up to here, and products with times in 128.
    pub(super) const MOST: u64 = 1_000_000_000;

    /// Numbers beyond the limits are brought within; the settings were checked before.
    pub(super) fn new(rate: u64, per: Duration, burst: u64) -> Law {
        Law {
            rate: rate.clamp(1, Law::MOST),
            per_ns: u64::try_from(per.as_nanos()).unwrap_or(u64::MAX).max(1),
            burst: burst.clamp(1, Law::MOST),
        }
    }

    pub(super) fn burst(&self) -> u64 {
        self.burst
    }

    pub(super) fn time_to_fill(&self) -> Duration {
        Duration::from_nanos(self.time_to_grow(self.capacity()))
    }

    fn capacity(&self) -> i64 {
        units(self.burst)
    }

    /// What grows in each `per`.
    fn grows(&self) -> u128 {
        u128::from(units(self.rate).unsigned_abs())
    }

    /// Rounded down: a bucket may grow late, never early.
    fn growth(&self, nanos: u64) -> i64 {
        let growth = u128::from(nanos) * self.grows() / u128::from(self.per_ns);
        i64::try_from(growth).unwrap_or(i64::MAX)
    }

    /// Rounded up, for the same reason.
    fn time_to_grow(&self, units: i64) -> u64 {
        let units = u128::try_from(units).unwrap_or(0);
        let nanos = (units * u128::from(self.per_ns)).div_ceil(self.grows());
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}

/// So many tokens, at most those of the longest bucket.
fn units(tokens: u64) -> i64 {
    i64::try_from(tokens.min(Law::MOST)).unwrap_or(i64::MAX) * TOKEN
}

impl Aged for Bucket {
    fn used(&self) -> u64 {
        self.grown
    }
}

impl Bucket {
    pub(super) fn full(law: &Law, now: u64) -> Bucket {
        Bucket {
            level: law.capacity(),
            grown: now,
        }
    }

    /// Takes so many tokens if they are there, or waits for a full bucket where it never holds as many. `now` may lie before an
    /// earlier call's: other threads read the clock too.
    pub(super) fn take(&mut self, law: &Law, now: u64, cost: u64) -> Standing {
        self.grow(law, now);
        let cost = units(cost.min(law.burst));
        let admitted = self.level >= cost;
        if admitted {
            self.level -= cost;
        }
        self.standing(law, admitted, if admitted { TOKEN } else { cost })
    }

    /// Takes so many tokens whether they are there or not, or gives some back.
    pub(super) fn owe(&mut self, law: &Law, now: u64, uses: i64) -> Standing {
        self.grow(law, now);
        let change = units(uses.unsigned_abs()) * uses.signum();
        self.level = (self.level - change).clamp(LOWEST, law.capacity());
        self.standing(law, true, TOKEN)
    }

    fn standing(&self, law: &Law, admitted: bool, need: i64) -> Standing {
        let next = law.time_to_grow(need - self.level);
        let full = law.time_to_grow(law.capacity() - self.level);
        Standing {
            admitted,
            remaining: u64::try_from(self.level / TOKEN).unwrap_or(0),
            next: Duration::from_nanos(next),
            full: Duration::from_nanos(full),
        }
    }

    fn grow(&mut self, law: &Law, now: u64) {
        let growth = law.growth(now.saturating_sub(self.grown));
        if self.level.saturating_add(growth) >= law.capacity() {
            self.level = law.capacity();
            self.grown = self.grown.max(now);
        } else if growth > 0 {
            self.level += growth;
            // Only the time that became growth, to the nanosecond: calls in quick succession would otherwise round it
            // all away.
            self.grown += law.time_to_grow(growth);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn law() -> impl Strategy<Value = Law> {
        let rates = prop_oneof![1_u64..20, 1_u64..=Law::MOST];
        let pers = prop_oneof![1_u64..1_000_000, 1_000_000_u64..100_000_000_000_000];
        (rates, pers, 1_u64..50)
            .prop_map(|(rate, per, burst)| Law::new(rate, Duration::from_nanos(per), burst))
    }

    /// Pauses from none to several times what a token takes to grow.
    fn pauses(law: Law) -> impl Strategy<Value = (Law, Vec<u64>)> {
        let token = law.time_to_grow(TOKEN).max(1);
        let pause = prop_oneof![Just(0), 0..=3_u64, 0..=token, 0..=token * 4];
        (Just(law), prop::collection::vec(pause, 1..150))
    }

    /// The times at which requests were admitted.
    fn admissions(law: &Law, pauses: &[u64]) -> Vec<u64> {
        let mut bucket = Bucket::full(law, 0);
        let mut now = 0;
        let mut admitted = Vec::new();
        for pause in pauses {
            now += pause;
            if bucket.take(law, now, 1).admitted {
                admitted.push(now);
            }
        }
        admitted
    }

    proptest! {
        #[test]
        fn no_span_admits_more_than_burst_plus_growth((law, pauses) in law().prop_flat_map(pauses)) {
            let admitted = admissions(&law, &pauses);

            for (first, start) in admitted.iter().enumerate() {
                for (last, end) in admitted.iter().enumerate().skip(first) {
                    let beyond_burst = ((last - first + 1) as u64).saturating_sub(law.burst);
                    let grown = u128::from(end - start) * u128::from(law.rate);
                    prop_assert!(u128::from(beyond_burst) * u128::from(law.per_ns) <= grown);
                }
            }
        }

        #[test]
        fn what_is_owed_is_grown_before_more_is_taken((law, pauses) in law().prop_flat_map(pauses), costs in prop::collection::vec(0_u64..200, 150)) {
            let mut bucket = Bucket::full(&law, 0);
            let (mut now, mut taken) = (0_u64, 0_u128);
            for (pause, cost) in pauses.into_iter().zip(costs) {
                now += pause;
                let before = taken;
                if bucket.take(&law, now, 1).admitted {
                    taken += u128::from(cost);
                    bucket.owe(&law, now, cost as i64 - 1);
                    // All of it but the last fits into the burst and what has grown.
                    let beyond = before.saturating_sub(u128::from(law.burst));
                    prop_assert!(beyond * u128::from(law.per_ns) <= u128::from(now) * u128::from(law.rate));
                }
            }
        }

        #[test]
        fn waiting_as_long_as_told_is_enough((law, pauses) in law().prop_flat_map(pauses)) {
            let mut bucket = Bucket::full(&law, 0);
            let mut now = 0;
            for pause in pauses {
                now += pause;
                let take = bucket.take(&law, now, 1);
                if !take.admitted {
                    now += take.next.as_nanos() as u64;
                    prop_assert!(bucket.take(&law, now, 1).admitted);
                }
            }
        }
    }

    #[test]
    fn a_full_burst_is_admitted_at_once_and_then_the_rate() {
        let law = Law::new(10, Duration::from_secs(1), 3);
        let every_50_ms: Vec<u64> = [0, 0, 0, 0].into_iter().chain([50_000_000; 6]).collect();

        let admitted = admissions(&law, &every_50_ms);

        assert_eq!(admitted, [0, 0, 0, 100_000_000, 200_000_000, 300_000_000]);
    }

    #[test]
    fn asking_all_the_time_does_not_starve_a_slow_bucket() {
        let day = Duration::from_secs(86_400);
        let law = Law::new(1, day, 1);
        let mut bucket = Bucket::full(&law, 0);
        assert!(bucket.take(&law, 0, 1).admitted);

        // A unit takes 20 microseconds to grow: each of these calls alone grows less than one.
        let nanos = day.as_nanos() as u64;
        let start = nanos - 1_000_000;
        let admitted = (start..=nanos + 1_000)
            .step_by(1_000)
            .filter(|now| bucket.take(&law, *now, 1).admitted)
            .count();

        assert_eq!(admitted, 1);
    }

    #[test]
    fn a_clock_read_late_by_another_thread_grows_nothing() {
        let law = Law::new(1, Duration::from_secs(1), 1);
        let mut bucket = Bucket::full(&law, 5_000_000_000);

        assert!(bucket.take(&law, 5_000_000_000, 1).admitted);
        assert!(!bucket.take(&law, 1_000_000_000, 1).admitted);
        assert!(!bucket.take(&law, 5_900_000_000, 1).admitted);
        // Rounding down at the call before cost less than a nanosecond.
        assert!(bucket.take(&law, 6_000_000_001, 1).admitted);
    }

    #[test]
    fn a_smaller_burst_shrinks_a_bucket_that_is_there() {
        let wide = Law::new(1, Duration::from_secs(1), 100);
        let narrow = Law::new(1, Duration::from_secs(1), 2);
        let mut bucket = Bucket::full(&wide, 0);

        let take = bucket.take(&narrow, 0, 1);

        assert_eq!((take.admitted, take.remaining), (true, 1));
    }
}
