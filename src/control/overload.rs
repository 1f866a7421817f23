//! Measures how much of its bounds the process uses, and publishes who is refused because of it.
//! It must not know requests; the proxy reads what is published.
//! The supervisor runs it, on the runtime that carries the traffic, so that what it waits is what connections wait.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{getrlimit, Resource};
use tokio::time::{sleep_until, Instant};

use crate::observe::metrics::Metrics;
use crate::snapshot::limits::{Bounds, Measure, Overload, Priority, Shedder};

/// Measures for ever.
pub(super) async fn watch(overload: Arc<Overload>, metrics: Arc<Metrics>) {
    let mut shedder = Shedder::default();
    let mut state = State::default();
    let mut due = Instant::now();
    loop {
        due += TICK;
        sleep_until(due).await;
        let late = due.elapsed();
        if late > TICK {
            // What was missed is not caught up with: the delay is told once.
            due = Instant::now();
        }
        let Some(bounds) = overload.bounds() else {
            (shedder, state) = Default::default();
            still(&metrics);
            continue;
        };
        state.note_lag(late);
        if state.ticks.is_multiple_of(TICKS_OF_SLOW_MEASURES) {
            let asked = bounds.clone();
            // Reads files, of which there may be thousands.
            let slow = tokio::task::spawn_blocking(move || slow_measures(&asked)).await;
            (state.memory, state.descriptors) = slow.unwrap_or_default();
            // Time spent on measuring is not lag.
            due = Instant::now();
        }
        state.ticks += 1;
        let used = state.used(&bounds);
        let before = overload.level();
        overload.tell(shedder.tick(used), used);
        tell(&overload, before, &metrics);
    }
}

/// Nothing is looked at: values of before must not stay.
fn still(metrics: &Metrics) {
    metrics.overload().level(0.0);
    for measure in Measure::ALL {
        metrics.overload().used(measure.as_str(), 0.0);
    }
}

/// What is known by now.
#[derive(Debug, Default)]
struct State {
    ticks: u64,
    /// Seconds, smoothed.
    lag: f64,
    /// Shares of what there is.
    memory: f64,
    descriptors: f64,
}

impl State {
    /// One pause of the whole machine is no overload; lag that lasts is.
    fn note_lag(&mut self, late: Duration) {
        self.lag += (late.as_secs_f64() - self.lag) * NEW_LAG;
    }

    /// How much of each bound is used, by [`Measure`].
    fn used(&self, bounds: &Bounds) -> [f64; 3] {
        let part = |value: f64, bound: Option<f64>| bound.map_or(0.0, |bound| value / bound);
        [
            part(self.lag, bounds.lag.map(|lag| lag.as_secs_f64())),
            part(self.memory, bounds.memory),
            part(self.descriptors, bounds.descriptors),
        ]
    }
}

/// Tells operators when it begins and ends; in between the metrics do.
fn tell(overload: &Overload, before: f64, metrics: &Metrics) {
    let level = overload.level();
    metrics.overload().level(level);
    for measure in Measure::ALL {
        metrics
            .overload()
            .used(measure.as_str(), overload.used(measure));
    }
    if before == 0.0 && level > 0.0 {
        let used = Measure::ALL.map(|measure| {
            let percent = (overload.used(measure) * 100.0).round();
            format!("{}={percent}%", measure.as_str())
        });
        log::warn!(
            "overloaded: requests of low priority are refused first: of its bound {}",
            used.join(" ")
        );
    }
    if before > 0.0 && level == 0.0 {
        log::info!("no longer overloaded: requests of every class are taken");
    }
    let shares = Priority::ALL.map(|class| overload.share(class));
    log::trace!("overload: level={level} shares={shares:?}");
}

fn slow_measures(bounds: &Bounds) -> (f64, f64) {
    let memory = bounds.memory.and_then(|_| match bounds.memory_limit {
        Some(limit) => share(resident()?, limit),
        None => group_share(),
    });
    let descriptors = bounds.descriptors.and_then(|_| descriptors());
    (memory.unwrap_or(0.0), descriptors.unwrap_or(0.0))
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

fn descriptors() -> Option<f64> {
    let most = getrlimit(Resource::Nofile).current?;
    let open = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    share(open, most)
}

/// What the control group uses of what it may, without file caches that the kernel takes back at need; version 2, else 1.
fn group_share() -> Option<f64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let of = |mark: &str| groups.lines().find_map(|line| line.split_once(mark));
    let number = |path: String| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let cache = |path: String, key: &str| {
        let stat = fs::read_to_string(path).unwrap_or_default();
        let line = stat
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        line.and_then(|value| value.trim().parse::<u64>().ok())
    };
    if let Some((_, group)) = of("0::") {
        let folder = format!("/sys/fs/cgroup{}", group.trim_end_matches('/'));
        if let Some(most) = number(format!("{folder}/memory.max")) {
            let current = number(format!("{folder}/memory.current"))?;
            let cached = cache(format!("{folder}/memory.stat"), "inactive_file");
            return share(current.saturating_sub(cached.unwrap_or(0)), most);
        }
    }
    let (_, group) = of(":memory:")?;
    let folder = format!("/sys/fs/cgroup/memory{}", group.trim_end_matches('/'));
    let most = number(format!("{folder}/memory.limit_in_bytes"))?;
    let current = number(format!("{folder}/memory.usage_in_bytes"))?;
    let cached = cache(format!("{folder}/memory.stat"), "total_inactive_file");
    // Version 1 has a huge number for no limit.
    (most < NO_LIMIT).then(|| share(current.saturating_sub(cached.unwrap_or(0)), most))?
}

const TICK: Duration = Duration::from_millis(100);
const TICKS_OF_SLOW_MEASURES: u64 = 10;
/// Weight of the newest lag: an old one is worth a third after a second.
const NEW_LAG: f64 = 0.1;
const NO_LIMIT: u64 = 1 << 60;

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds() -> Bounds {
        Bounds {
            lag: Some(Duration::from_millis(500)),
            memory: Some(0.5),
            memory_limit: Some(1 << 40),
            descriptors: None,
            header: None,
        }
    }

    #[test]
    fn one_pause_is_no_overload_and_lag_that_lasts_is() {
        let mut state = State::default();

        state.note_lag(Duration::from_secs(3));
        assert!(state.used(&bounds())[0] < 1.0);
        (0..10).for_each(|_| state.note_lag(Duration::from_secs(3)));
        assert!(state.used(&bounds())[0] > 1.0);
    }

    #[test]
    fn what_is_not_looked_at_is_not_used() {
        let state = State {
            memory: 0.25,
            descriptors: 1.0,
            ..State::default()
        };

        assert_eq!(state.used(&bounds()), [0.0, 0.5, 0.0]);
    }

    #[test]
    fn memory_and_descriptors_of_this_process_are_measured() {
        let all = Bounds {
            descriptors: Some(1.0),
            ..bounds()
        };

        let (memory, descriptors) = slow_measures(&all);

        assert!(memory > 0.0 && memory < 1.0, "{memory}");
        assert!(descriptors > 0.0 && descriptors < 1.0, "{descriptors}");
    }
}
