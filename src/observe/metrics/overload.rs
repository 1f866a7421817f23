//! What is counted about overload: how much of each bound is used, how much is refused, and who was.
//! It must not know how it is measured.
//! `control::overload` sets the gauges, the proxy counts refusals.

use super::family::{Gauges, Maker};
use super::series::{IntCounter, IntGauge};

/// Counters of overload.
pub struct OverloadMetrics {
    level: IntGauge,
    used: Gauges,
    shed: [IntCounter; 4],
}

impl OverloadMetrics {
    /// `classes` are the words of classes, the highest first.
    pub(super) fn new(make: &Maker<'_>, classes: [&str; 4]) -> OverloadMetrics {
        let shed = make.counters(
            "windrose_overload_shed_total",
            "Requests and connections refused because the process is overloaded, by class.",
            &["priority"],
        );
        OverloadMetrics {
            level: make
                .gauges(
                    "windrose_overload_level_percent",
                    "How much is refused: at 100 all of priority low, at 200 all of normal too, at 300 all but critical.",
                    &[],
                )
                .with(&[]),
            used: make.gauges(
                "windrose_overload_used_percent",
                "How much of a bound of `overload` is used; the process is overloaded from 100 on.",
                &["measure"],
            ),
            shed: classes.map(|class| shed.with(&[class])),
        }
    }

    /// How much is refused, in classes.
    pub fn level(&self, level: f64) {
        self.level.set((level * 100.0) as i64);
    }

    /// How much of a bound is used.
    pub fn used(&self, measure: &str, used: f64) {
        self.used.with(&[measure]).set((used * 100.0) as i64);
    }

    /// One of a class was refused; by rank, the highest class is 0.
    pub fn shed(&self, class: usize) {
        if let Some(counter) = self.shed.get(class) {
            counter.inc();
        }
    }
}
