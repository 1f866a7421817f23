//! Peak EWMA: the latency that members showed lately times their load, among two random members or more.
//! It must not know what was measured, nor when a request counts.
//! `Table::pick` calls it for pools with `algorithm: ewma`; the proxy calls [`observe`] with each response's header.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::time::Duration;

use super::eligible::Eligible;
use super::hash::Random;
use super::sampler::Sampler;
use crate::snapshot::endpoint::EndpointState;
use crate::snapshot::pool::{Choices, Member};

/// Power of two choices on expected waiting, after Finagle's `PeakEwma` and Linkerd: cost is latency * (in flight + 1).
///
/// Two things differ from those:
/// - Weight divides the load and not the whole cost: latency * (in flight / weight + 1), weights being relative to their
///   mean. Dividing the whole would give an idle pool's every request to the heaviest member; so instead draws follow
///   the weights, and under load members fill up in their proportion. With equal weights both formulas are the same.
/// - History older than ten decay times counts as none, see [`cost`].
pub(super) struct Ewma {
    sampler: Sampler,
    mean_weight: f64,
    choices: Choices,
}

impl Ewma {
    pub(super) fn new(weighted: &[(u16, u32)], choices: Choices) -> Ewma {
        let total: f64 = weighted.iter().map(|(_, weight)| f64::from(*weight)).sum();
        Ewma {
            sampler: Sampler::new(weighted),
            mean_weight: total / weighted.len().max(1) as f64,
            choices,
        }
    }

    pub(super) fn pick(&self, eligible: &Eligible<'_>) -> Option<u16> {
        let mut random = Random::new(eligible.choice().random);
        let cost = |member: &Member| self.cost(eligible, member);
        self.sampler
            .best(self.choices, eligible, &mut random, |one, best| {
                cost(one) < cost(best)
            })
    }

    fn cost(&self, eligible: &Eligible<'_>, member: &Member) -> f64 {
        let in_flight = member.endpoint.state.in_flight.load(Relaxed);
        let weight = eligible.weight_of(member).max(f64::MIN_POSITIVE);
        let load = f64::from(in_flight) * self.mean_weight / weight;
        cost(&member.endpoint.state, load, eligible.choice().now)
    }
}

/// What a further request would wait, in nanoseconds.
///
/// The estimate decays towards zero while no response comes, so that a member that was slow is tried again: from 1 s
/// down to the 1 ms of its neighbours in 69 s. A member without history costs nothing while idle and more than any
/// other while a request is out: it gets one request at a time until the first answer (Finagle's penalty). That needs
/// no guess of a default latency, which in Linkerd is 30 ms: too much in a fast pool, where newcomers then wait for
/// traffic, and too little in a slow one, where they are flooded. A pool that just started is least-request.
fn cost(state: &EndpointState, load: f64, now: u64) -> f64 {
    let age = now.saturating_sub(state.latency_at.load(Acquire));
    let latency = f64::from_bits(state.latency.load(Relaxed));
    if latency == 0.0 || age > FORGOTTEN_NANOS {
        return if load == 0.0 {
            0.0
        } else {
            PENALTY_NANOS * (load + 1.0)
        };
    }
    latency * remaining(age) * (load + 1.0)
}

/// The time that the endpoint's responses took lately; `None` without a recent one.
pub fn estimate(state: &EndpointState, now: u64) -> Option<Duration> {
    let age = now.saturating_sub(state.latency_at.load(Acquire));
    let latency = f64::from_bits(state.latency.load(Relaxed));
    let is_known = latency > 0.0 && age <= FORGOTTEN_NANOS;
    is_known.then(|| Duration::from_nanos((latency * remaining(age)) as u64))
}

/// Takes the time until a response's header into an endpoint's estimate at the moment `now` of `observe::clock`.
///
/// A time above the estimate replaces it at once (the peak). A time below pulls it down by as much as time went by since
/// the last one: `estimate * d + sample * (1 - d)` with `d = exp(-elapsed / 10 s)`. The decay of 10 s is the default of
/// both Finagle and Linkerd. When other threads keep winning the update, the sample is dropped after four tries: they
/// brought samples of the same moment.
pub fn observe(state: &EndpointState, now: u64, sample: Duration) {
    // At least a nanosecond: zero is the mark of no history.
    let sample = (sample.as_nanos() as f64).max(1.0);
    for _ in 0..UPDATE_TRIES {
        let before = state.latency.load(Acquire);
        // The moment first: a reader in between then decays the old estimate too little, never a fresh peak too much.
        let elapsed = now.saturating_sub(state.latency_at.fetch_max(now, AcqRel));
        let after = updated(f64::from_bits(before), elapsed, sample).to_bits();
        let swapped = state
            .latency
            .compare_exchange(before, after, AcqRel, Relaxed);
        if swapped.is_ok() {
            return;
        }
    }
}

fn updated(estimate: f64, elapsed: u64, sample: f64) -> f64 {
    if sample >= estimate {
        return sample;
    }
    let old = remaining(elapsed);
    estimate * old + sample * (1.0 - old)
}

fn remaining(elapsed: u64) -> f64 {
    let past = elapsed as f64 / DECAY_NANOS;
    // The usual case, without the call: what the series leaves out is below 2e-10.
    if past < 1e-3 {
        return 1.0 - past + past * past / 2.0;
    }
    (-past).exp()
}

const DECAY_NANOS: f64 = 10e9;

/// Ten decay times: a peak has shrunk to 1/22,000 by then and says nothing any more.
const FORGOTTEN_NANOS: u64 = 100_000_000_000;

/// More than any request lasts; nearly 28 hours.
const PENALTY_NANOS: f64 = 1e14;

const UPDATE_TRIES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: f64 = 1e6;

    #[test]
    fn a_slower_response_is_taken_at_once_and_faster_ones_pull_down_slowly() {
        let peak = updated(1.0 * MILLI, 1_000_000, 80.0 * MILLI);
        let soon = updated(peak, 100_000_000, 1.0 * MILLI);
        let later = updated(peak, 10_000_000_000, 1.0 * MILLI);

        assert_eq!(peak, 80.0 * MILLI);
        assert!((79.0 * MILLI..80.0 * MILLI).contains(&soon), "{soon}");
        let expected = MILLI * (80.0 * (-1.0_f64).exp() + (1.0 - (-1.0_f64).exp()));
        assert!((later - expected).abs() < 1.0, "{later} {expected}");
    }

    #[test]
    fn a_moment_out_of_order_does_not_decay() {
        assert_eq!(remaining(0), 1.0);
        assert_eq!(updated(5.0 * MILLI, 0, 1.0 * MILLI), 5.0 * MILLI);
    }
}
