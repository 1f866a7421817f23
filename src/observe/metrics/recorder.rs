//! What is counted about the flight recorder: records kept, left out and lost.
//! It must not know what a record says.
//! The recorder calls it; `Metrics::recorder` makes it.

use super::family::Maker;
use super::series::IntCounter;

/// Counters of the recorder.
#[derive(Clone)]
pub struct RecorderMetrics {
    /// Errors kept.
    pub errors: IntCounter,
    /// Slow requests kept.
    pub slowest: IntCounter,
    /// What policies in audit mode would have treated differently, kept.
    pub audit: IntCounter,
    /// Samples kept.
    pub sample: IntCounter,
    /// Errors beyond what is kept of one cause in a second.
    pub left_out: IntCounter,
    /// Records that found the queue to the store full, or no room.
    pub lost: IntCounter,
}

impl RecorderMetrics {
    pub(super) fn new(make: &Maker<'_>) -> RecorderMetrics {
        let records = make.counters(
            "windrose_recorder_records_total",
            "Requests the flight recorder kept a record of, by reason.",
            &["reason"],
        );
        let plain = |name, help| make.counters(name, help, &[]).with(&[]);
        RecorderMetrics {
            errors: records.with(&["error"]),
            slowest: records.with(&["slowest"]),
            audit: records.with(&["audit"]),
            sample: records.with(&["sample"]),
            left_out: plain(
                "windrose_recorder_left_out_total",
                "Errors without a record: more of one cause than are kept in a second.",
            ),
            lost: plain(
                "windrose_recorder_lost_total",
                "Records that were lost: the queue to the store was full, or they found no room.",
            ),
        }
    }
}
