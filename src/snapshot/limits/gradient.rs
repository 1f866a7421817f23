//! A bound on requests under way that follows latency: up while answers are quick, down when they queue.
//! It must not know clocks, requests or who asks: it is told when a request began and ended, and has its own random numbers.
//! Kept by [`Limiter`](super::Limiter) for pools with `limits.adaptive`; whoever ends a window computes the next bound.

use std::time::Duration;

/// How the bound is found.
#[derive(Debug, Clone, PartialEq)]
pub struct Adaptive {
    /// Never below this.
    pub least: u32,
    /// Never above this.
    pub most: u32,
    /// How often it is computed.
    pub window: Duration,
    /// How much slower than the reference answers may be, as a share of it.
    pub buffer: f64,
    /// How often the reference is measured anew.
    pub measure_every: Duration,
    /// Answers for that.
    pub measure_requests: u32,
    /// How much sooner or later that may be, as a share, so that many proxies do not do it together.
    pub jitter: f64,
}

/// The gradient controller of Envoy's adaptive concurrency filter: with `r` for the reference (latency without queueing) and `s`
/// for the median of the last window, `gradient = r * (1 + buffer) / s`, held in 0.5 to 2, and
/// `limit = gradient * limit + sqrt(limit)`. The square root is the room in which growth is tried.
///
/// The reference comes from live traffic. Envoy pins the bound to 3 while it measures, which refuses healthy traffic (its pull
/// request 46602 made the pin a number of its own); here the bound is halved meanwhile, so that nobody is refused who uses
/// less than half of it. Half is enough for the queue to be gone: the bound settles where `gradient = 1 - 1/sqrt(limit)`, below
/// twice the number that the endpoints serve without queueing, if that is not tiny. Only answers to requests begun after
/// the halving count (Envoy's pull request 11579: those begun before made the reference climb with each measurement).
/// Between measurements a quicker window lowers the reference at once. Five windows in a row at the lowest gradient or the
/// lowest bound say that the reference is no longer true, and it is measured early.
#[derive(Debug)]
pub struct Gradient {
    settings: Adaptive,
    limit: f64,
    reference: Option<u64>,
    median: Option<u64>,
    window: Samples,
    window_ends: u64,
    measures_at: u64,
    /// When the measurement under way began, with its samples.
    measuring: Option<(u64, Samples)>,
    at_the_floor: u32,
    random: u64,
}

/// Latencies, at most so many; of more, a sample in which each is as likely.
#[derive(Debug, Default)]
struct Samples {
    kept: Vec<u64>,
    seen: u64,
}

impl Gradient {
    /// Begins with a bound that neither refuses ordinary traffic nor lets everything through, and measures at once.
    pub fn new(settings: Adaptive, now: u64, seed: u64) -> Gradient {
        let limit = FIRST.clamp(settings.least, settings.most);
        Gradient {
            limit: f64::from(limit),
            reference: None,
            median: None,
            window: Samples::default(),
            window_ends: now.saturating_add(nanos(settings.window)),
            measures_at: now,
            // Without a reference there is nothing to fall back to, so the first measurement takes all there is.
            measuring: Some((0, Samples::default())),
            at_the_floor: 0,
            random: seed,
            settings,
        }
    }

    /// What it was made with.
    pub fn settings(&self) -> &Adaptive {
        &self.settings
    }

    /// The bound in force.
    pub fn limit(&self) -> u32 {
        let limit = match (&self.measuring, self.reference) {
            (Some(_), Some(_)) => (self.limit / 2.0).max(f64::from(self.settings.least)),
            _ => self.limit,
        };
        // Bounded by `most`, so it fits.
        limit as u32
    }

    /// Latency without queueing, as last measured, in nanoseconds.
    pub fn reference(&self) -> Option<u64> {
        self.reference
    }

    /// The median of the last window, in nanoseconds.
    pub fn median(&self) -> Option<u64> {
        self.median
    }

    /// Takes note of an answer to a request that began at a moment.
    pub fn answered(&mut self, began: u64, now: u64) {
        let latency = now.saturating_sub(began).max(1);
        let random = self.random();
        match &mut self.measuring {
            Some((since, samples)) if began >= *since => samples.take(latency, random),
            Some(_) => {}
            None => self.window.take(latency, random),
        }
        self.look(now);
    }

    fn look(&mut self, now: u64) {
        if let Some((since, samples)) = &mut self.measuring {
            let enough = samples.seen >= u64::from(self.settings.measure_requests);
            let patience = nanos(self.settings.measure_every) / 2;
            // Where requests are few, those that came are better than a halved bound for long.
            let late = *since > 0 && now.saturating_sub(*since) >= patience;
            if enough || late {
                let median = samples.median();
                self.measured(median, now);
            }
            return;
        }
        if now >= self.window_ends && self.window.seen >= FEWEST {
            self.compute(now);
        }
        if now >= self.measures_at {
            self.measuring = Some((now, Samples::default()));
        }
    }

    fn measured(&mut self, median: Option<u64>, now: u64) {
        self.reference = median.or(self.reference);
        self.measuring = None;
        self.at_the_floor = 0;
        self.window = Samples::default();
        self.window_ends = now.saturating_add(nanos(self.settings.window));
        let spread = 1.0 + self.settings.jitter * (2.0 * self.fraction() - 1.0);
        let wait = self.settings.measure_every.mul_f64(spread);
        self.measures_at = now.saturating_add(nanos(wait));
    }

    fn compute(&mut self, now: u64) {
        let median = self.window.median();
        self.window = Samples::default();
        self.window_ends = now.saturating_add(nanos(self.settings.window));
        let (Some(median), Some(reference)) = (median, self.reference) else {
            return;
        };
        let reference = reference.min(median);
        let allowed = reference as f64 * (1.0 + self.settings.buffer);
        let gradient = (allowed / median as f64).clamp(STEEPEST_FALL, STEEPEST_RISE);
        let (least, most) = (self.settings.least, self.settings.most);
        let limit = gradient * self.limit + self.limit.sqrt();
        self.limit = limit.clamp(f64::from(least), f64::from(most));
        (self.reference, self.median) = (Some(reference), Some(median));
        let at_the_floor = gradient <= STEEPEST_FALL || self.limit <= f64::from(least);
        self.at_the_floor = if at_the_floor {
            self.at_the_floor + 1
        } else {
            0
        };
        if self.at_the_floor >= FLOORS {
            self.measures_at = now;
        }
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn fraction(&mut self) -> f64 {
        (self.random() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl Samples {
    /// Reservoir sampling (Vitter's algorithm R, ACM TOMS 11(1), 1985).
    fn take(&mut self, latency: u64, random: u64) {
        self.seen += 1;
        if self.kept.len() < MOST_KEPT {
            return self.kept.push(latency);
        }
        let at = random % self.seen;
        if let Some(place) = usize::try_from(at)
            .ok()
            .and_then(|at| self.kept.get_mut(at))
        {
            *place = latency;
        }
    }

    fn median(&mut self) -> Option<u64> {
        let middle = self.kept.len() / 2;
        if self.kept.is_empty() {
            return None;
        }
        let (_, median, _) = self.kept.select_nth_unstable(middle);
        Some(*median)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Where the bound begins, within its own bounds.
const FIRST: u32 = 100;
const STEEPEST_FALL: f64 = 0.5;
const STEEPEST_RISE: f64 = 2.0;
/// A window with fewer answers goes on: their median says little.
const FEWEST: u64 = 10;
const MOST_KEPT: usize = 512;
/// Windows at the floor in a row after which the reference is doubted.
const FLOORS: u32 = 5;
