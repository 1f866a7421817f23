//! The numbers behind series: counters, gauges, sums and histograms, each a few atomic words behind a shared handle.
//! It must not know names or labels, which are its family's, so that a series takes tens of bytes and not hundreds.
//! Made by `family`; whoever counts holds a handle.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::Arc;

use prometheus::proto::{self, Metric, MetricType};

/// A number that only grows.
#[derive(Debug, Clone, Default)]
pub struct IntCounter(Arc<AtomicU64>);

impl IntCounter {
    /// One more.
    pub fn inc(&self) {
        self.inc_by(1);
    }

    /// So many more.
    pub fn inc_by(&self, by: u64) {
        self.0.fetch_add(by, Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that rises and falls.
#[derive(Debug, Clone, Default)]
pub struct IntGauge(Arc<AtomicI64>);

impl IntGauge {
    /// One more.
    pub fn inc(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// One less.
    pub fn dec(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    /// So many more, or fewer; returns how many there are now.
    pub fn add(&self, by: i64) -> i64 {
        self.0.fetch_add(by, Relaxed).saturating_add(by)
    }

    /// How many there are.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }

    /// This much.
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }
}

/// A sum of fractions that only grows.
#[derive(Debug, Clone, Default)]
pub(super) struct Sum(Arc<AtomicU64>);

impl Sum {
    pub(super) fn inc_by(&self, by: f64) {
        add(&self.0, by);
    }
}

/// How often values came to lie below each of some bounds, and their sum.
#[derive(Debug, Clone)]
pub(super) struct Histogram(Arc<Buckets>);

#[derive(Debug)]
struct Buckets {
    bounds: &'static [f64],
    /// One for each bound, and one for what is beyond the last.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn observe(&self, value: f64) {
        let at = self.0.bounds.partition_point(|bound| *bound < value);
        self.0.counts[at].fetch_add(1, Relaxed);
        add(&self.0.sum, value);
    }
}

/// Adds to a fraction that is kept as its bits.
fn add(sum: &AtomicU64, by: f64) {
    let more = |bits| Some((f64::from_bits(bits) + by).to_bits());
    // The closure never refuses.
    let _ = sum.fetch_update(Relaxed, Relaxed, more);
}

/// What a family has many of.
pub(super) trait Series: Clone + Send + Sync + 'static {
    /// What Prometheus calls it.
    const KIND: MetricType;

    /// One at zero; histograms have these bounds.
    fn new(bounds: &'static [f64]) -> Self;

    /// Tells the prometheus crate its value.
    fn tell(&self, metric: &mut Metric);
}

impl Series for IntCounter {
    const KIND: MetricType = MetricType::COUNTER;

    fn new(_: &'static [f64]) -> IntCounter {
        IntCounter::default()
    }

    fn tell(&self, metric: &mut Metric) {
        counter(metric, self.get() as f64);
    }
}

impl Series for IntGauge {
    const KIND: MetricType = MetricType::GAUGE;

    fn new(_: &'static [f64]) -> IntGauge {
        IntGauge::default()
    }

    fn tell(&self, metric: &mut Metric) {
        gauge(metric, self.0.load(Relaxed));
    }
}

impl Series for Sum {
    const KIND: MetricType = MetricType::COUNTER;

    fn new(_: &'static [f64]) -> Sum {
        Sum::default()
    }

    fn tell(&self, metric: &mut Metric) {
        counter(metric, f64::from_bits(self.0.load(Relaxed)));
    }
}

impl Series for Histogram {
    const KIND: MetricType = MetricType::HISTOGRAM;

    fn new(bounds: &'static [f64]) -> Histogram {
        Histogram(Arc::new(Buckets {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }))
    }

    fn tell(&self, metric: &mut Metric) {
        let buckets = &*self.0;
        let mut below = 0;
        let mut count = |at: usize| {
            below += buckets.counts[at].load(Relaxed);
            below
        };
        let bounds = buckets.bounds.iter().enumerate();
        let told = bounds.map(|(at, bound)| {
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(count(at));
            bucket
        });
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(told.collect());
        // The bucket of what is beyond the last bound is the count.
        histogram.set_sample_count(count(buckets.bounds.len()));
        histogram.set_sample_sum(f64::from_bits(buckets.sum.load(Relaxed)));
        metric.set_histogram(histogram);
    }
}

fn counter(metric: &mut Metric, value: f64) {
    let mut counter = proto::Counter::default();
    counter.set_value(value);
    metric.set_counter(counter);
}

/// Tells the prometheus crate the value of a gauge.
pub(super) fn gauge(metric: &mut Metric, value: i64) {
    let mut gauge = proto::Gauge::default();
    gauge.set_value(value as f64);
    metric.set_gauge(gauge);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_in_every_bucket_that_it_is_not_above() {
        let histogram = Histogram::new(&[0.5, 1.0]);
        let mut metric = Metric::default();

        for value in [0.25, 0.5, 0.75, 7.0] {
            histogram.observe(value);
        }
        histogram.tell(&mut metric);

        let told = metric.get_histogram();
        let buckets = told.get_bucket().iter();
        let buckets: Vec<_> = buckets
            .map(|it| (it.upper_bound(), it.cumulative_count()))
            .collect();
        assert_eq!(buckets, [(0.5, 2), (1.0, 3)]);
        assert_eq!((told.get_sample_count(), told.get_sample_sum()), (4, 8.5));
    }

    #[test]
    fn a_gauge_falls_below_zero() {
        let (gauge, mut metric) = (IntGauge::default(), Metric::default());

        gauge.set(-3);
        gauge.dec();
        gauge.tell(&mut metric);

        assert_eq!(metric.get_gauge().get_value(), -4.0);
    }
}
