//! The 99th percentile of durations, followed as they come without keeping any of them.
//! It must not know what takes the time.
//! The recorder asks it whether a request is among the slowest.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// A running estimate of the 99th percentile.
///
/// Stochastic approximation (Robbins and Monro 1951) with one number of state, as in "frugal streaming" (Ma, Muthukrishnan and
/// Sandler 2013): a duration above the estimate raises it by 0.99 of a step, one below lowers it by 0.01 of a step, so that it
/// rests where one in a hundred is above. Steps are shares of the estimate, since durations span six orders of magnitude; they
/// begin large and shrink with the durations seen above.
#[derive(Default)]
pub(super) struct Slowest {
    /// In nanoseconds; 0 before the first duration.
    estimate: AtomicU64,
    /// Durations that were above the estimate.
    above: AtomicU32,
}

impl Slowest {
    /// Whether this duration is above the estimate, which learns from it. Most calls read one number: of the durations
    /// below only one in 32, chosen by `random`, lowers the estimate, by 32 times as much. Threads that race lose a step.
    pub(super) fn has(&self, nanos: u64, random: u64) -> bool {
        let estimate = self.estimate.load(Relaxed);
        if nanos > estimate {
            self.raise(estimate, nanos);
            return true;
        }
        if random.is_multiple_of(SPARSE) {
            let share = 1.0 - (1.0 - QUANTILE) * SPARSE as f64 * self.step();
            self.estimate
                .store((estimate as f64 * share) as u64, Relaxed);
        }
        false
    }

    fn raise(&self, estimate: u64, nanos: u64) {
        let share = 1.0 + QUANTILE * self.step();
        let raised = match estimate {
            0 => nanos,
            estimate => (estimate as f64 * share) as u64 + 1,
        };
        self.estimate.store(raised, Relaxed);
        let above = self.above.load(Relaxed);
        self.above.store(above.saturating_add(1), Relaxed);
    }

    fn step(&self) -> f64 {
        let above = f64::from(self.above.load(Relaxed));
        (1.0 / (above + 2.0)).max(SMALLEST_STEP)
    }
}

const QUANTILE: f64 = 0.99;
const SPARSE: u64 = 32;
/// Smaller ones wander less around the quantile, larger ones follow a change sooner: after a jump to ten times the durations,
/// about 300 are taken for slow until the estimate is there.
const SMALLEST_STEP: f64 = 1.0 / 128.0;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// SplitMix64: the same numbers from the same seed.
    struct Dice(u64);

    impl Dice {
        fn bits(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }

        /// Above 0 and up to 1.
        fn share(&mut self) -> f64 {
            ((self.bits() >> 11) + 1) as f64 / (1u64 << 53) as f64
        }
    }

    /// Durations in nanoseconds from a number between 0 and 1, by the inverse of their distribution.
    type Distribution = fn(f64) -> f64;

    const DISTRIBUTIONS: &[(&str, Distribution)] = &[
        ("uniform", |share| 1e6 + 9e6 * share),
        ("exponential", |share| -2e6 * (1.0 - share * 0.999_999).ln()),
        ("heavy tail", |share| {
            1e6 * (1.0 - share * 0.999_999).powf(-1.0 / 1.5)
        }),
        ("two humps", |share| match share {
            share if share < 0.9 => 1e5 * (1.0 + share),
            share => 1e8 * (1.0 + share),
        }),
    ];

    fn run(slowest: &Slowest, of: Distribution, dice: &mut Dice, times: u32) -> (f64, f64) {
        let (mut above, mut sum) = (0.0, 0.0);
        for _ in 0..times {
            let nanos = of(dice.share()) as u64;
            above += f64::from(u8::from(slowest.has(nanos, dice.bits())));
            sum += slowest.estimate.load(Relaxed) as f64;
        }
        (above / f64::from(times), sum / f64::from(times))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        #[test]
        fn the_estimate_is_within_a_few_percent_of_the_99th_percentile(seed: u64) {
            for (name, of) in DISTRIBUTIONS {
                let (slowest, mut dice) = (Slowest::default(), Dice(seed));
                run(&slowest, *of, &mut dice, 50_000);

                let (above, mean) = run(&slowest, *of, &mut dice, 200_000);

                let off = mean / of(QUANTILE) - 1.0;
                prop_assert!(off.abs() < 0.06, "{name}: off by {off}");
                prop_assert!((0.008..0.0125).contains(&above), "{name}: {above} above");
            }
        }
    }

    #[test]
    fn a_jump_of_all_durations_is_followed_both_ways() {
        let (slowest, mut dice) = (Slowest::default(), Dice(7));
        run(&slowest, |share| 1e6 * share, &mut dice, 50_000);

        run(&slowest, |share| 1e7 * share, &mut dice, 1000);
        let (above, _) = run(&slowest, |share| 1e7 * share, &mut dice, 20_000);
        assert!((0.005..0.02).contains(&above), "after slower: {above}");

        run(&slowest, |share| 1e6 * share, &mut dice, 50_000);
        let (above, _) = run(&slowest, |share| 1e6 * share, &mut dice, 20_000);
        assert!((0.005..0.02).contains(&above), "after faster: {above}");
    }
}
