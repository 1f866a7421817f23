//! What one workload uses of its node's proxy at a time, and how much it may.
//! It must not know connections or requests; whoever serves them takes a share, tells it what it holds, and drops it at their end.
//! Counted in [`Held`], so that a reload loses nothing.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::Arc;

use super::{Held, Workload};

/// How much a workload may use at a time; 0 for no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Connections it has open.
    pub connections: u32,
    /// Requests under way that it makes; and as many that others make to it.
    pub requests: u32,
    /// Bytes that are held for what it makes; and as many for what others make to it.
    pub memory: u64,
}

/// What is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Used {
    /// A connection.
    Connections,
    /// A request that it makes.
    Requests,
    /// A request, or a connection of bytes, that others make to it: counted for itself, so that they cannot keep it from calling.
    Served,
    /// What a connection that is counted already holds beyond others.
    Further,
}

impl Used {
    /// The word in metrics and logs where there are too many.
    fn counted(self) -> &'static str {
        match self {
            Used::Connections => "connections",
            Used::Requests => "requests",
            Used::Served => "served",
            Used::Further => "memory",
        }
    }

    /// The word in metrics and logs where the bytes are too many.
    fn weighed(self) -> &'static str {
        match self {
            Used::Connections | Used::Requests | Used::Further => "memory",
            Used::Served => "served_memory",
        }
    }
}

/// A bound that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// Of what.
    pub what: &'static str,
    /// The bound.
    pub most: u64,
}

/// How much a workload uses now.
#[derive(Debug, Default)]
pub(super) struct Load {
    counts: [AtomicU32; 4],
    /// Of what it makes, and of what others make to it.
    bytes: [AtomicU64; 2],
}

impl Load {
    fn count(&self, used: Used) -> &AtomicU32 {
        &self.counts[used as usize]
    }

    fn bytes(&self, used: Used) -> &AtomicU64 {
        &self.bytes[usize::from(used == Used::Served)]
    }
}

/// One connection or request of a workload, until dropped.
#[derive(Debug)]
pub struct Share {
    held: Arc<Held>,
    used: Used,
    bounds: Bounds,
    bytes: u64,
}

impl Share {
    /// It holds so many bytes by now, until it is dropped.
    ///
    /// # Errors
    /// The bound, where there is no room for more.
    pub fn hold(&mut self, bytes: u64) -> Result<(), Reached> {
        let (most, more) = (self.bounds.memory, bytes.saturating_sub(self.bytes));
        if most == 0 || more == 0 {
            return Ok(());
        }
        let grown = |now: u64| now.checked_add(more).filter(|sum| *sum <= most);
        let all = self.held.load.bytes(self.used);
        let taken = all.fetch_update(Relaxed, Relaxed, grown);
        taken.map_err(|_| Reached {
            what: self.used.weighed(),
            most,
        })?;
        self.bytes = bytes;
        Ok(())
    }

    /// Whether what it holds is counted at all.
    pub fn is_weighed(&self) -> bool {
        self.bounds.memory != 0
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let load = &self.held.load;
        load.count(self.used).fetch_sub(1, Relaxed);
        load.bytes(self.used).fetch_sub(self.bytes, Relaxed);
    }
}

impl Workload {
    /// Takes a share that holds so many bytes. Nothing is counted where there is no bound.
    ///
    /// # Errors
    /// The bound, when it is reached.
    pub fn take(&self, used: Used, bytes: u64) -> Result<Option<Share>, Reached> {
        let most = match used {
            Used::Connections => self.bounds.connections,
            Used::Requests | Used::Served => self.bounds.requests,
            Used::Further => 0,
        };
        if most == 0 && self.bounds.memory == 0 {
            return Ok(None);
        }
        let more = |now: u32| now.checked_add(1).filter(|sum| most == 0 || *sum <= most);
        let count = self.held.load.count(used);
        count
            .fetch_update(Relaxed, Relaxed, more)
            .map_err(|_| Reached {
                what: used.counted(),
                most: most.into(),
            })?;
        let mut share = Share {
            held: self.held.clone(),
            used,
            bounds: self.bounds,
            bytes: 0,
        };
        share.hold(bytes)?;
        Ok(Some(share))
    }
}
