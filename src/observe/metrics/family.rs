//! A metric with labels that cannot grow without bound, and how the prometheus crate, which writes the page, collects it.
//! It must not know what is counted or which labels there are.
//! The handles in this folder are made from it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};
use prometheus::TextEncoder;

use super::series::{gauge, Histogram, IntCounter, IntGauge, Series, Sum};

/// The label value that stands for every series beyond the budget.
pub(super) const OVERFLOW: &str = "_overflow";

/// One metric and its series. Past the budget, new label values are all counted under `_overflow`.
#[derive(Clone)]
pub(super) struct Family<S>(Arc<Known<S>>);

struct Known<S> {
    title: Title,
    bounds: &'static [f64],
    /// By label values, joined: names and texts of the metric stand once beside thousands of series.
    series: Mutex<BTreeMap<Box<str>, S>>,
    /// The series beyond the budget.
    beyond: OnceLock<S>,
    budget: Budget,
}

/// What stands once for all series of a metric.
struct Title {
    desc: Desc,
    kind: MetricType,
    /// Positions of labels, by name.
    order: Box<[usize]>,
}

/// How many series a metric may have, and how many handles found that spent.
#[derive(Clone)]
pub(super) struct Budget {
    most: Arc<AtomicUsize>,
    overflowed: IntCounter,
}

impl Budget {
    /// Whether there may be one more; if not, that is counted.
    pub(super) fn allows(&self, known: usize) -> bool {
        let allows = known < self.most.load(Relaxed);
        if !allows {
            self.overflowed.inc();
        }
        allows
    }
}

/// A counter with labels.
pub(super) type Counters = Family<IntCounter>;
/// A counter of fractions (seconds) with labels.
pub(super) type Sums = Family<Sum>;
/// A gauge with labels.
pub(super) type Gauges = Family<IntGauge>;
/// A histogram with labels.
pub(super) type Histograms = Family<Histogram>;

/// Every metric, by name.
#[derive(Default)]
pub(super) struct Registry(Mutex<BTreeMap<&'static str, Arc<dyn Collector>>>);

impl Registry {
    fn add(&self, name: &'static str, metric: Arc<dyn Collector>) {
        let before = lock(&self.0).insert(name, metric);
        debug_assert!(before.is_none(), "names of metrics are distinct: {name}");
    }

    /// Appends every metric that has a series. One at a time: the crate's own registry copies all of them before the first is
    /// written, which would be the dearest moment of a node that knows much.
    pub(super) fn show(&self, out: &mut String) {
        for metric in lock(&self.0).values() {
            let shown = TextEncoder::new().encode_utf8(&metric.collect(), out);
            debug_assert!(shown.is_ok(), "only a metric without series is refused");
        }
    }
}

/// Makes families and registers them. Names and labels are literals of this folder.
pub(super) struct Maker<'a> {
    pub(super) registry: &'a Registry,
    /// Series of one metric.
    pub(super) most: Arc<AtomicUsize>,
    /// Handles that found a metric's budget spent; `None` for the family that counts them.
    pub(super) overflow: Option<Counters>,
}

/// Label names, or their positions in the order of the page.
type Names = [&'static str];

impl Maker<'_> {
    pub(super) fn counters(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &Names,
    ) -> Counters {
        self.family((name, help, labels), &[])
    }

    pub(super) fn sums(&self, name: &'static str, help: &'static str, labels: &Names) -> Sums {
        self.family((name, help, labels), &[])
    }

    pub(super) fn gauges(&self, name: &'static str, help: &'static str, labels: &Names) -> Gauges {
        self.family((name, help, labels), &[])
    }

    pub(super) fn histograms(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &Names,
        bounds: &'static [f64],
    ) -> Histograms {
        self.family((name, help, labels), bounds)
    }

    fn family<S: Series>(
        &self,
        (name, help, labels): (&'static str, &'static str, &Names),
        bounds: &'static [f64],
    ) -> Family<S> {
        let known = Arc::new(Known {
            title: Title::new((name, help, S::KIND), labels),
            bounds,
            series: Mutex::default(),
            beyond: OnceLock::new(),
            budget: self.budget(name),
        });
        self.registry.add(name, known.clone());
        Family(known)
    }

    /// A gauge whose values are kept elsewhere: `each` is asked for them with the page, in no order.
    pub(super) fn drawn(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &Names,
        each: impl Fn(&mut dyn FnMut(&[&str], i64)) + Send + Sync + 'static,
    ) -> Budget {
        let title = Title::new((name, help, IntGauge::KIND), labels);
        let each = Box::new(each);
        self.registry.add(name, Arc::new(Drawn { title, each }));
        self.budget(name)
    }

    fn budget(&self, name: &'static str) -> Budget {
        let overflow = self.overflow.as_ref();
        Budget {
            most: self.most.clone(),
            overflowed: overflow.map_or_else(IntCounter::default, |all| all.with(&[name])),
        }
    }
}

impl Title {
    fn new((name, help, kind): (&'static str, &'static str, MetricType), labels: &Names) -> Title {
        let mut order: Vec<usize> = (0..labels.len()).collect();
        order.sort_by_key(|at| labels[*at]);
        let labels = labels.iter().map(|label| (*label).into()).collect();
        Title {
            desc: Desc::new(name.into(), help.into(), labels, HashMap::new()).expect(LITERAL),
            kind,
            order: order.into(),
        }
    }

    /// How many labels there are.
    fn width(&self) -> usize {
        self.order.len()
    }

    /// A series, without its value.
    fn metric(&self, values: &[&str]) -> Metric {
        let pairs = self.order.iter().map(|at| {
            let mut pair = LabelPair::default();
            pair.set_name(self.desc.variable_labels[*at].clone());
            pair.set_value(values.get(*at).copied().unwrap_or_default().to_owned());
            pair
        });
        Metric::from_label(pairs.collect())
    }

    /// The metric as the page wants it: nothing without series.
    fn family(&self, series: Vec<Metric>) -> Vec<MetricFamily> {
        if series.is_empty() {
            return Vec::new();
        }
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(self.kind);
        family.set_metric(series);
        vec![family]
    }

    /// The values of a key.
    fn split<'k>(&self, key: &'k str) -> Vec<&'k str> {
        key.split(APART).take(self.width()).collect()
    }
}

const LITERAL: &str = "metric names and labels are literals that the prometheus crate accepts";

/// Between label values in a key; in a value it is another sign.
const APART: char = '\0';

fn key(values: &[&str]) -> Box<str> {
    let sound = |value: &&str| value.replace(APART, "\u{fffd}");
    match values.iter().any(|value| value.contains(APART)) {
        true => values.iter().map(sound).collect::<Vec<_>>().join("\0"),
        false => values.join("\0"),
    }
    .into()
}

impl<S: Series> Family<S> {
    /// The series with these label values, or the overflow series when the budget is spent.
    pub(super) fn with(&self, values: &[&str]) -> S {
        let known = &*self.0;
        debug_assert_eq!(values.len(), known.title.width());
        let key = key(values);
        let mut series = lock(&known.series);
        if let Some(one) = series.get(&key) {
            return one.clone();
        }
        if known.budget.allows(series.len()) {
            let one = S::new(known.bounds);
            series.insert(key, one.clone());
            return one;
        }
        drop(series);
        let beyond = known.beyond.get_or_init(|| S::new(known.bounds));
        beyond.clone()
    }

    /// Drops the series whose label values `keep` refuses.
    pub(super) fn retain(&self, keep: &dyn Fn(&[&str]) -> bool) {
        let title = &self.0.title;
        lock(&self.0.series).retain(|key, _| keep(&title.split(key)));
    }
}

impl Counters {
    /// Every series with its value, the overflow series included.
    pub(super) fn each(&self, see: &mut dyn FnMut(&[&str], u64)) {
        let title = &self.0.title;
        for (key, one) in lock(&self.0.series).iter() {
            see(&title.split(key), one.get());
        }
        if let Some(beyond) = self.0.beyond.get() {
            see(&vec![OVERFLOW; title.width()], beyond.get());
        }
    }
}

impl<S: Series> Collector for Known<S> {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.title.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let metric = |values: &[&str], one: &S| {
            let mut metric = self.title.metric(values);
            one.tell(&mut metric);
            metric
        };
        let mut all = Vec::new();
        let mut last: Option<Box<str>> = None;
        loop {
            // Not all at once: a request that needs a new series waits for the lock.
            let series = lock(&self.series);
            let from = last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut next = None;
            for (key, one) in series.range::<str, _>((from, Bound::Unbounded)).take(BATCH) {
                all.push(metric(&self.title.split(key), one));
                next = Some(key);
            }
            match next {
                Some(key) => last = Some(key.clone()),
                None => break,
            }
        }
        if let Some(beyond) = self.beyond.get() {
            all.push(metric(&vec![OVERFLOW; self.title.width()], beyond));
        }
        self.title.family(all)
    }
}

/// Series copied before others may go on.
const BATCH: usize = 256;

type Each = Box<dyn Fn(&mut dyn FnMut(&[&str], i64)) + Send + Sync>;

/// A gauge whose values are kept elsewhere.
struct Drawn {
    title: Title,
    each: Each,
}

impl Collector for Drawn {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.title.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut all = Vec::new();
        (self.each)(&mut |values, value| {
            let mut metric = self.title.metric(values);
            gauge(&mut metric, value);
            all.push(metric);
        });
        self.title.family(all)
    }
}

/// Locks a mutex whose data stays usable even if a holder panicked.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(most: usize) -> (Registry, Counters) {
        let registry = Registry::default();
        let maker = Maker {
            registry: &registry,
            most: Arc::new(AtomicUsize::new(most)),
            overflow: None,
        };
        let counters = maker.counters("things_total", "Things.", &["b", "a"]);
        (registry, counters)
    }

    fn page(registry: &Registry) -> String {
        let mut out = String::new();
        registry.show(&mut out);
        out
    }

    #[test]
    fn series_beyond_the_budget_share_the_overflow_series() {
        let (registry, counters) = family(2);

        counters.with(&["1", "x"]).inc();
        counters.with(&["2", "x"]).inc();
        counters.with(&["3", "x"]).inc();
        counters.with(&["4", "x"]).inc();

        assert_eq!(counters.with(&["1", "x"]).get(), 1);
        assert_eq!(counters.with(&["5", "x"]).get(), 2);
        let beyond = "things_total{a=\"_overflow\",b=\"_overflow\"} 2\n";
        assert!(page(&registry).ends_with(beyond));
    }

    #[test]
    fn each_series_is_seen_once_and_the_overflow_too() {
        let (_registry, counters) = family(1);
        counters.with(&["1", "x"]).inc_by(5);
        counters.with(&["2", "x"]).inc_by(3);
        counters.with(&["3", "x"]).inc_by(4);

        let mut seen = Vec::new();
        counters.each(&mut |values, count| seen.push((values[0].to_string(), count)));

        assert_eq!(seen, [("1".to_owned(), 5), (OVERFLOW.to_owned(), 7)]);
    }

    #[test]
    fn removed_series_free_the_budget() {
        let (registry, counters) = family(1);
        counters.with(&["old", "x"]).inc();

        counters.retain(&|values| values[0] != "old");
        counters.with(&["new", "x"]).inc();

        assert_eq!(
            page(&registry),
            "# HELP things_total Things.\n# TYPE things_total counter\nthings_total{a=\"x\",b=\"new\"} 1\n"
        );
    }

    #[test]
    fn a_page_shows_every_series_once_and_nothing_of_metrics_without() {
        let (registry, counters) = family(10_000);
        assert_eq!(page(&registry), "");

        (0..3 * BATCH).for_each(|at| counters.with(&[&at.to_string(), "\0"]).inc());

        let page = page(&registry);
        let lines = page.lines().filter(|line| line.ends_with("} 1"));
        assert_eq!(lines.count(), 3 * BATCH);
        assert_eq!(page.lines().count(), 3 * BATCH + 2);
    }
}
