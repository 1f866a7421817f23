//! Comparing endpoints by what they did within an interval, as Envoy does.
//! It must not know when an interval ends.
//! Called by a task of `control` for each pool that has one of these kinds.

use super::judge::{eject, Change, Told};
use super::{Reason, Tally};
use crate::snapshot::pool::{Member, SuccessRate};

/// Takes the counts of an interval from every member and ejects those that stand out. Those that were out are not looked at.
pub fn sweep<'a>(told: &Told<'a>, chance: &mut dyn FnMut() -> u64) -> Vec<(&'a Member, Change)> {
    let taken: Vec<(&Member, Tally)> = told
        .members
        .iter()
        .map(|member| (member, member.endpoint.state.outlier.interval.take()))
        .filter(|(member, _)| member.weight > 0)
        .filter(|(member, _)| !member.endpoint.state.is_ejected(told.now))
        .collect();
    let mut suspects = Vec::new();
    if let Some(rate) = &told.rules.success_rate {
        let known = enough(&taken, rate.minimum_requests, rate.minimum_endpoints);
        let least = bound(&known, rate);
        let few = known.iter().filter(|(_, tally)| tally.success() < least);
        suspects.extend(few.map(|(member, _)| (*member, Reason::SuccessRate)));
    }
    if let Some(share) = &told.rules.failure_percentage {
        let known = enough(&taken, share.minimum_requests, share.minimum_endpoints);
        let many = known
            .iter()
            .filter(|(_, tally)| 1.0 - tally.success() >= share.at_least - NOISE);
        suspects.extend(many.map(|(member, _)| (*member, Reason::FailurePercentage)));
    }
    let mut changes = Vec::new();
    for (member, reason) in suspects {
        let random = chance();
        let told = Told { random, ..*told };
        if let Some(change) = eject(&member.endpoint, reason, told.rules.max_ejected, &told) {
            changes.push((member, change));
        }
    }
    changes
}

/// The members with enough requests, if they are enough members.
fn enough<'a>(
    taken: &[(&'a Member, Tally)],
    requests: u32,
    endpoints: u32,
) -> Vec<(&'a Member, Tally)> {
    let known: Vec<_> = taken
        .iter()
        .filter(|(_, tally)| tally.requests >= requests.max(1))
        .copied()
        .collect();
    match u32::try_from(known.len()).is_ok_and(|len| len >= endpoints) {
        true => known,
        false => Vec::new(),
    }
}

/// The rate below which a member stands out: the mean less so many standard deviations of all of them.
fn bound(known: &[(&Member, Tally)], rate: &SuccessRate) -> f64 {
    let count = known.len().max(1) as f64;
    let rates = || known.iter().map(|(_, tally)| tally.success());
    let mean = rates().sum::<f64>() / count;
    let variance = rates().map(|one| (one - mean).powi(2)).sum::<f64>() / count;
    mean - rate.deviations * variance.sqrt() - NOISE
}

/// Rounding makes a mean of equal rates a little more than each; that is nobody's fault.
const NOISE: f64 = 1e-9;
