//! From a verdict to an ejection: kinds, the share that may be out, and the endpoint that is being tried.
//! It must not know where verdicts come from.
//! Called by the fast path for every attempt; its changes are logged and counted here, in one place.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::{Probe, Reason, Verdict};
use crate::snapshot::balance;
use crate::snapshot::endpoint::Endpoint;
use crate::snapshot::pool::{Ejection, Member};

/// Where and when something is told about an endpoint.
#[derive(Clone, Copy)]
pub struct Told<'a> {
    /// Settings of the pool.
    pub rules: &'a Ejection,
    /// The set that it was chosen from.
    pub members: &'a [Member],
    /// Nanoseconds of `observe::clock`.
    pub now: u64,
    /// Random bits.
    pub random: u64,
}

/// What became of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// It is out.
    Ejected {
        /// What for.
        reason: Reason,
        /// How long.
        time: Duration,
    },
    /// It is open again.
    Back,
}

/// Tells an endpoint what an attempt came to. `probe` is the request's right, if it tried the endpoint.
pub fn tell(
    endpoint: &Endpoint,
    verdict: Verdict,
    probe: Option<Box<Probe>>,
    told: &Told<'_>,
) -> Option<Change> {
    let outlier = &endpoint.state.outlier;
    // A health check may have opened it meanwhile, or the time that a stream was given is over.
    let probe = probe
        .map(|probe| probe.into_word())
        .filter(|_| outlier.is_ejected(told.now));
    let Some(word) = probe else {
        let reason = outlier.count(verdict, told.rules, told.now)?;
        let most = told.rules.max_ejected;
        let most = match verdict {
            Verdict::Silent => most.min(SILENT_SHARE),
            _ => most,
        };
        return eject(endpoint, reason, most, told);
    };
    if told.rules.fails(verdict) && is_one_of_several(told.members) {
        let time = outlier.fail(word, told.rules, told.now, told.random)?;
        let reason = Reason::Probation;
        return Some(Change::Ejected { reason, time });
    }
    outlier.pass(word, told.now).then_some(Change::Back)
}

/// The share of endpoints that may be out when one more falls silent, as Envoy's default for every kind. Silence is how overload
/// shows, and whoever ejects half of an overloaded service for it doubles the load of the other half: in a simulation two
/// seconds of overload then became an outage without end (`benches/resilience`).
const SILENT_SHARE: f64 = 0.1;

/// Ejects an endpoint unless this share of all would be exceeded.
pub(super) fn eject(
    endpoint: &Endpoint,
    reason: Reason,
    most: f64,
    told: &Told<'_>,
) -> Option<Change> {
    let may = is_one_of_several(told.members) && balance::may_eject(told.members, told.now, most);
    if !may {
        return None;
    }
    let outlier = &endpoint.state.outlier;
    let time = outlier.eject(reason, told.rules, told.now, told.random)?;
    Some(Change::Ejected { reason, time })
}

/// A pool of one is never ejected: there would be nobody to send to. Draining members do not count.
pub fn is_one_of_several(members: &[Member]) -> bool {
    let mut weighted = members.iter().filter(|member| member.weight > 0);
    weighted.nth(1).is_some()
}

impl Ejection {
    /// Whether a verdict fails the request that tries an endpoint: whatever counts against it otherwise.
    fn fails(&self, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Ok => false,
            Verdict::Limited => self.has_rates(),
            Verdict::Error => self.consecutive_5xx > 0 || self.has_rates(),
            Verdict::Gateway | Verdict::Silent | Verdict::Broke => self.is_on(),
        }
    }
}

impl Change {
    /// Counts and logs it.
    pub fn report(&self, pool: &str, endpoint: &Endpoint) {
        let label = &endpoint.label;
        match self {
            Change::Ejected { reason, time } => {
                endpoint.metrics.ejected(reason.as_str());
                let seconds = time.as_secs_f64();
                let in_flight = endpoint.state.in_flight.load(Relaxed);
                log::warn!("endpoint ejected: pool={pool} endpoint={label} reason={reason} seconds={seconds:.3} in_flight={in_flight}");
            }
            Change::Back => {
                endpoint.metrics.not_ejected();
                log::info!("endpoint takes requests again: pool={pool} endpoint={label}");
            }
        }
    }
}
