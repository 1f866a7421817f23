//! What is counted about identities: when certificates and roots end, renewals, and whether their source answers.
//! It must not know certificates; callers tell it.
//! `control::identity` calls it; `Metrics::identity` hands it out.

use super::family::{Counters, Gauges, Maker};
use super::series::IntGauge;

/// Counters of identities.
pub struct IdentityMetrics {
    expiry: Gauges,
    roots: Gauges,
    renewals: Counters,
    source: IntGauge,
    refused: Counters,
}

impl IdentityMetrics {
    pub(super) fn new(make: &Maker<'_>) -> IdentityMetrics {
        IdentityMetrics {
            expiry: make.gauges(
                "windrose_identity_expiry_timestamp_seconds",
                "Unix time at which the certificate of a workload expires; 0 while it has none.",
                &["workload"],
            ),
            roots: make.gauges(
                "windrose_identity_roots_expiry_timestamp_seconds",
                "Unix time at which the first root of a trust domain expires.",
                &["trust_domain"],
            ),
            renewals: make.counters(
                "windrose_identity_renewals_total",
                "Certificates that came for a workload (ok), or that did not or could not be used (failed).",
                &["workload", "result"],
            ),
            refused: make.counters(
                "windrose_workload_refused_total",
                "Connections and requests of a workload beyond its limits.",
                &["workload", "what"],
            ),
            source: make
                .gauges(
                    "windrose_identity_source_up",
                    "Whether the source of certificates answers (1) or not (0).",
                    &[],
                )
                .with(&[]),
        }
    }

    /// When the certificate of a workload expires; 0 for none.
    pub fn expiry(&self, workload: &str, not_after: i64) {
        self.expiry.with(&[workload]).set(not_after);
    }

    /// When the first root of a trust domain expires.
    pub fn roots(&self, trust_domain: &str, not_after: i64) {
        self.roots.with(&[trust_domain]).set(not_after);
    }

    /// A workload wanted more than its limits allow, of `connections` or `requests`.
    pub fn refused(&self, workload: &str, what: &'static str) {
        self.refused.with(&[workload, what]).inc();
    }

    /// A certificate came, or did not.
    pub fn renewal(&self, workload: &str, is_ok: bool) {
        let result = if is_ok { "ok" } else { "failed" };
        self.renewals.with(&[workload, result]).inc();
    }

    /// Whether the source answers.
    pub fn source(&self, is_up: bool) {
        self.source.set(is_up.into());
    }

    /// Drops the series of workloads and trust domains that went away.
    pub fn retain(&self, has_workload: &dyn Fn(&str) -> bool, has_domain: &dyn Fn(&str) -> bool) {
        self.expiry.retain(&|labels| has_workload(labels[0]));
        self.renewals.retain(&|labels| has_workload(labels[0]));
        self.roots.retain(&|labels| has_domain(labels[0]));
    }
}
