//! Exact counts of the last while, in ten buckets that age one by one.
//! It must not know what follows from them.
//! Asked for every response of a pool that judges its endpoints by them. An average weighted by time could hide a short
//! total outage between two quiet moments; counts cannot.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Requests and how many of them failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// All.
    pub requests: u32,
    /// Those that failed.
    pub failed: u32,
}

impl Tally {
    /// The part that did not fail, 0 to 1; all of nothing.
    pub fn success(self) -> f64 {
        match self.requests {
            0 => 1.0,
            all => f64::from(all - self.failed.min(all)) / f64::from(all),
        }
    }
}

/// How a sample counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sample {
    /// A request that went well.
    Good,
    /// One that did not.
    Bad,
    /// One that was counted as good, and then was not.
    Spoilt,
}

impl Sample {
    fn requests(self) -> u64 {
        u64::from(self != Sample::Spoilt)
    }

    fn failed(self) -> u64 {
        u64::from(self != Sample::Good)
    }
}

/// Counts since they were last taken: both in one word, so that they are taken together.
#[derive(Debug, Default)]
pub(super) struct Interval(AtomicU64);

impl Interval {
    pub(super) fn add(&self, sample: Sample) {
        let one = (sample.requests() << 32) | sample.failed();
        self.0.fetch_add(one, Relaxed);
    }

    pub(super) fn take(&self) -> Tally {
        split(self.0.swap(0, Relaxed))
    }

    pub(super) fn look(&self) -> Tally {
        split(self.0.load(Relaxed))
    }
}

fn split(word: u64) -> Tally {
    Tally {
        requests: (word >> 32) as u32,
        failed: word as u32,
    }
}

/// The last while.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Length of a bucket in nanoseconds. Another one begins afresh.
    width: AtomicU64,
    /// Each: 24 bits of which bucket of time it counts, 20 of requests, 20 of failures.
    buckets: [AtomicU64; BUCKETS as usize],
}

impl Window {
    /// Counts a sample and tells what the window holds with it. A bucket holds at most 1,048,575 of each.
    pub(super) fn add(&self, now: u64, length: Duration, sample: Sample) -> Tally {
        let width = nanos(length) / BUCKETS;
        let width = width.max(1);
        if self.width.swap(width, Relaxed) != width {
            self.clear();
        }
        let age = now / width;
        let bucket = &self.buckets[(age % BUCKETS) as usize];
        let counted = |word| {
            let (requests, failed) = match word >> 40 == age & AGES {
                true => ((word >> 20) & MOST, word & MOST),
                false => (0, 0),
            };
            let requests = (requests + sample.requests()).min(MOST);
            let failed = (failed + sample.failed()).min(MOST);
            Some((age & AGES) << 40 | requests << 20 | failed)
        };
        // Never refused: `counted` always has a next word.
        let _ = bucket.fetch_update(Relaxed, Relaxed, counted);
        self.sum(age)
    }

    fn sum(&self, age: u64) -> Tally {
        let mut tally = Tally::default();
        for bucket in &self.buckets {
            let word = bucket.load(Relaxed);
            if age.wrapping_sub(word >> 40) & AGES < BUCKETS {
                tally.requests += ((word >> 20) & MOST) as u32;
                tally.failed += (word & MOST) as u32;
            }
        }
        tally
    }

    pub(super) fn clear(&self) {
        for bucket in &self.buckets {
            bucket.store(0, Relaxed);
        }
    }
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

const BUCKETS: u64 = 10;
const AGES: u64 = (1 << 24) - 1;
const MOST: u64 = (1 << 20) - 1;
