//! Settings of passive ejection, and the times that follow from them.
//! It must not know what is counted, nor where.
//! Part of a pool's settings; `snapshot::outlier` acts on them.

use std::time::Duration;

/// Passive ejection. Each kind that is set can eject; none set turns it off.
#[derive(Debug, Clone, PartialEq)]
pub struct Ejection {
    /// Gateway failures in a row; 0 for not.
    pub consecutive_failures: u32,
    /// Answers of 5xx and gateway failures in a row; 0 for not.
    pub consecutive_5xx: u32,
    /// Success rates far below those of the others.
    pub success_rate: Option<SuccessRate>,
    /// A share of failures.
    pub failure_percentage: Option<FailurePercentage>,
    /// A share of successes, judged with every request.
    pub success_below: Option<SuccessBelow>,
    /// Time between looks at shares; one without an ejection takes a doubling back.
    pub interval: Duration,
    /// First time out.
    pub base_time: Duration,
    /// Longest time out.
    pub max_time: Duration,
    /// How much a time is lengthened by chance at most, 0 to 1.
    pub jitter: f64,
    /// Share of endpoints that may be out at once, 0 to 1; one always may.
    pub max_ejected: f64,
    /// Whether one request tries an endpoint before it is open again.
    pub probation: bool,
    /// Whether a passed health check ends an ejection.
    pub ended_by_health: bool,
}

/// Far below the others.
#[derive(Debug, Clone, PartialEq)]
pub struct SuccessRate {
    /// Fewest endpoints with enough requests to compare.
    pub minimum_endpoints: u32,
    /// Fewest requests of an endpoint within an interval.
    pub minimum_requests: u32,
    /// Standard deviations below the mean.
    pub deviations: f64,
}

/// Too many failures.
#[derive(Debug, Clone, PartialEq)]
pub struct FailurePercentage {
    /// Share of failures that is too many, 0 to 1.
    pub at_least: f64,
    /// Fewest endpoints with enough requests.
    pub minimum_endpoints: u32,
    /// Fewest requests of an endpoint within an interval.
    pub minimum_requests: u32,
}

/// Too few successes.
#[derive(Debug, Clone, PartialEq)]
pub struct SuccessBelow {
    /// Share of successes below which it is too few, 0 to 1.
    pub rate: f64,
    /// How far back.
    pub window: Duration,
    /// Fewest requests within it.
    pub minimum_requests: u32,
}

impl Ejection {
    /// Whether counts of intervals are looked at.
    pub fn has_sweep(&self) -> bool {
        self.success_rate.is_some() || self.failure_percentage.is_some()
    }

    /// Whether shares matter at all; then errors of the service and refusals for rate count too.
    pub fn has_rates(&self) -> bool {
        self.has_sweep() || self.success_below.is_some()
    }

    /// Whether anything can eject.
    pub fn is_on(&self) -> bool {
        self.consecutive_failures > 0 || self.consecutive_5xx > 0 || self.has_rates()
    }

    /// The time out after so many ejections in a row, without chance.
    pub fn time(&self, before: u32) -> Duration {
        let doubled = self.base_time.saturating_mul(1 << before.min(30));
        doubled.min(self.max_time)
    }

    /// The time with chance from random bits. Chance lengthens also the longest time, or all that reach it would come
    /// back together.
    pub fn time_by_chance(&self, before: u32, random: u64) -> Duration {
        let time = self.time(before);
        let fraction = (random >> 11) as f64 / (1_u64 << 53) as f64;
        time.saturating_add(time.mul_f64(self.jitter.clamp(0.0, 1.0) * fraction))
    }
}
