//! Who is refused while the process is overloaded: nobody, then a growing share of the lowest class, then of the next.
//! It must not know what is measured or how; `control::overload` measures and tells how much of each bound is used.
//! The proxy asks once for each request that would go on to a pool: one relaxed load when nothing is wrong.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::HeaderName;
use std::sync::Arc;

use super::Priority;

/// From when on the process counts as overloaded; `None` for what is not looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Bounds {
    /// How late a task runs that was due.
    pub lag: Option<Duration>,
    /// Share of the memory there is.
    pub memory: Option<f64>,
    /// Memory there is, in bytes; `None` for what the control group allows.
    pub memory_limit: Option<u64>,
    /// Share of the file descriptors that may be open.
    pub descriptors: Option<f64>,
    /// The field in which trusted callers name the class of a request.
    pub header: Option<HeaderName>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// How late tasks run.
    Lag,
    /// Memory.
    Memory,
    /// File descriptors.
    Descriptors,
}

impl Measure {
    /// All of them.
    pub const ALL: [Measure; 3] = [Measure::Lag, Measure::Memory, Measure::Descriptors];

    /// The word in views and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Measure::Lag => "lag",
            Measure::Memory => "memory",
            Measure::Descriptors => "descriptors",
        }
    }
}

/// How overloaded the process is, for every request to see.
#[derive(Debug, Default)]
pub struct Overload {
    /// In thousandths: 0 for not at all, 1000 when all of the lowest class are refused, 2000 when the next are too.
    level: AtomicU32,
    /// How much of each bound is used, in thousandths; by [`Measure`].
    used: [AtomicU32; 3],
    bounds: ArcSwapOption<Bounds>,
}

impl Overload {
    /// Whether a request of this class is refused. `random` draws which ones of a class that is refused in part.
    pub fn sheds(&self, class: Priority, random: impl FnOnce() -> u64) -> bool {
        let level = self.level.load(Relaxed);
        if level == 0 {
            return false;
        }
        let below = match class {
            Priority::Critical => return false,
            Priority::High => 2 * CLASS,
            Priority::Normal => CLASS,
            Priority::Low => 0,
        };
        random() % u64::from(CLASS) < u64::from(level.saturating_sub(below))
    }

    /// The share of a class that is refused, from 0 to 1.
    pub fn share(&self, class: Priority) -> f64 {
        let level = f64::from(self.level.load(Relaxed)) / f64::from(CLASS);
        match class {
            Priority::Critical => 0.0,
            Priority::High => (level - 2.0).clamp(0.0, 1.0),
            Priority::Normal => (level - 1.0).clamp(0.0, 1.0),
            Priority::Low => level.clamp(0.0, 1.0),
        }
    }

    /// Takes over new bounds; without bounds nobody is refused.
    pub fn bind(&self, bounds: Option<&Bounds>) {
        self.bounds.store(bounds.cloned().map(Arc::new));
        if bounds.is_none() {
            self.level.store(0, Relaxed);
        }
    }

    /// The bounds in force.
    pub fn bounds(&self) -> Option<Arc<Bounds>> {
        self.bounds.load_full()
    }

    /// Publishes what was found.
    pub fn tell(&self, level: f64, used: [f64; 3]) {
        for (cell, used) in self.used.iter().zip(used) {
            cell.store((used * 1000.0) as u32, Relaxed);
        }
        // Bounds may have gone while this was found out.
        if self.bounds.load().is_some() {
            let level = (level * f64::from(CLASS)) as u32;
            self.level.store(level, Relaxed);
        }
    }

    /// The level, in classes: from 0, nobody is refused, to 3, only critical requests are not.
    pub fn level(&self) -> f64 {
        f64::from(self.level.load(Relaxed)) / f64::from(CLASS)
    }

    /// How much of a bound is used; 1 at the bound.
    pub fn used(&self, measure: Measure) -> f64 {
        f64::from(self.used[measure as usize].load(Relaxed)) / 1000.0
    }
}

/// Decides how much is refused, tick by tick, for each measure apart: more while its bound is passed, the faster the further;
/// less, and slower, once it is below; slowest where it is hardly so. Rising in seconds and falling in tens of seconds keeps it
/// from swinging: what is let in again shows its weight before more is. Each measure answers for what it raised alone: memory
/// that rests just below its bound must not hold up what a moment of lag called for.
#[derive(Debug, Default)]
pub struct Shedder {
    levels: [f64; 3],
}

impl Shedder {
    /// One tick of a tenth of a second. `used` is how much of each bound is used, 1 at the bound; by [`Measure`].
    pub fn tick(&mut self, used: [f64; 3]) -> f64 {
        for (level, used) in self.levels.iter_mut().zip(used) {
            *level = (*level + step(used)).clamp(0.0, MOST);
        }
        self.levels.into_iter().fold(0.0, f64::max)
    }
}

/// How far one measure moves its level in a tick.
fn step(used: f64) -> f64 {
    if used >= 1.0 {
        SLOWEST_RISE + FASTER_RISE * (used - 1.0).min(1.0)
    } else if used < WELL_BELOW {
        -FALL
    } else {
        -SLOWEST_FALL
    }
}

/// One class in [`Overload::level`].
const CLASS: u32 = 1000;
/// Everything but critical requests.
const MOST: f64 = 3.0;
/// A class in five seconds at the bound, in one at twice the bound.
const SLOWEST_RISE: f64 = 0.02;
const FASTER_RISE: f64 = 0.08;
/// A class in ten seconds.
const FALL: f64 = 0.01;
/// A class in fifty seconds.
const SLOWEST_FALL: f64 = 0.002;
const WELL_BELOW: f64 = 0.9;
