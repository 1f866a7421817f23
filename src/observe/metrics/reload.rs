//! What is counted about the configuration: reloads, their outcome and what runs now.
//! It must not know how a configuration is read.
//! The supervisor calls it; `Metrics::reload` hands it out.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::family::{Counters, Gauges, Maker};
use super::series::{Histogram, IntCounter, IntGauge};
use super::SECONDS;

/// How a reload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// The new configuration is in force.
    Applied,
    /// The new configuration has problems; the old one stays.
    Rejected,
    /// The new configuration is the one in force already.
    Unchanged,
}

/// How a probation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbationEnd {
    /// Somebody confirmed it.
    Confirmed,
    /// Another configuration took its place on probation.
    Replaced,
    /// Rolled back: nobody confirmed it in time.
    Unconfirmed,
    /// Rolled back: requests went worse.
    Worse,
    /// Rolled back: somebody asked for that.
    Asked,
}

/// Counters of the configuration.
pub struct ReloadMetrics {
    applied: IntCounter,
    rejected: IntCounter,
    unchanged: IntCounter,
    last_success: IntGauge,
    generation: IntGauge,
    differs: IntGauge,
    seconds: Histogram,
    probation: IntGauge,
    probations: Counters,
    quarantined: Gauges,
}

impl ReloadMetrics {
    pub(super) fn new(make: &Maker<'_>) -> ReloadMetrics {
        let outcomes = make.counters(
            "windrose_config_reloads_total",
            "Reloads of the configuration, by outcome.",
            &["outcome"],
        );
        let gauge = |name, help| make.gauges(name, help, &[]).with(&[]);
        ReloadMetrics {
            applied: outcomes.with(&["applied"]),
            rejected: outcomes.with(&["rejected"]),
            unchanged: outcomes.with(&["unchanged"]),
            last_success: gauge(
                "windrose_config_last_success_timestamp_seconds",
                "Unix time at which a configuration was last put in force.",
            ),
            generation: gauge(
                "windrose_config_generation",
                "Number of the configuration in force, counted from the start.",
            ),
            differs: gauge(
                "windrose_config_differs",
                "Whether the configuration on disk is another one than that in force (1) or not (0).",
            ),
            quarantined: make.gauges(
                "windrose_config_quarantined",
                "Objects of the configuration in force that are broken and answered for with 503, by kind.",
                &["kind"],
            ),
            seconds: make
                .histograms(
                    "windrose_config_reload_duration_seconds",
                    "Time from reading a configuration to its being in force or rejected.",
                    &[],
                    SECONDS,
                )
                .with(&[]),
            probation: gauge(
                "windrose_config_probation",
                "Whether the configuration in force waits to be confirmed (1) or not (0).",
            ),
            probations: make.counters(
                "windrose_config_probations_total",
                "Probations of configurations that ended, by outcome.",
                &["outcome"],
            ),
        }
    }

    /// The configuration in force is on probation now.
    pub fn probation_began(&self) {
        self.probation.set(1);
    }

    /// A probation ended.
    pub fn probation_ended(&self, end: ProbationEnd) {
        self.probation.set(0);
        let outcome = match end {
            ProbationEnd::Confirmed => "confirmed",
            ProbationEnd::Replaced => "replaced",
            ProbationEnd::Unconfirmed => "rolled_back_unconfirmed",
            ProbationEnd::Worse => "rolled_back_worse",
            ProbationEnd::Asked => "rolled_back_asked",
        };
        self.probations.with(&[outcome]).inc();
    }

    /// A reload ended. Outcomes that leave disk and memory equal also clear `differs`; a rejection sets it.
    pub fn finished(&self, outcome: ReloadOutcome, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
        match outcome {
            ReloadOutcome::Applied => {
                self.applied.inc();
                self.last_success.set(unix_now());
                self.differs(false);
            }
            ReloadOutcome::Rejected => {
                self.rejected.inc();
                self.differs(true);
            }
            ReloadOutcome::Unchanged => {
                self.unchanged.inc();
                self.differs(false);
            }
        }
    }

    /// The number of the configuration in force.
    pub fn generation(&self, generation: u64) {
        self.generation
            .set(i64::try_from(generation).unwrap_or(i64::MAX));
    }

    /// How many objects of a kind are quarantined.
    pub fn quarantined(&self, kind: &str, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.quarantined.with(&[kind]).set(count);
    }

    /// Whether what is on disk is not what is in force.
    pub fn differs(&self, differs: bool) {
        self.differs.set(i64::from(differs));
    }
}

fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() as i64)
}
