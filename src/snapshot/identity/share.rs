//! What one workload uses of its node's proxy at a time, and how much it may.
//! It must not know connections or requests; whoever serves them takes a share and drops it at their end.
//! Counted in [`Held`], so that a reload loses nothing.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::Arc;

use super::{Held, Workload};

/// How much a workload may use at a time; 0 for no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Connections it has open.
    pub connections: u32,
    /// Requests under way that it makes; and as many that others make to it.
    pub requests: u32,
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
}

impl Used {
    /// The word in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Used::Connections => "connections",
            Used::Requests => "requests",
            Used::Served => "served",
        }
    }
}

/// How much a workload uses now.
#[derive(Debug, Default)]
pub(super) struct Load([AtomicU32; 3]);

/// One connection or request of a workload, until dropped.
#[derive(Debug)]
pub struct Share {
    held: Arc<Held>,
    used: Used,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.held.load.0[self.used as usize].fetch_sub(1, Relaxed);
    }
}

impl Workload {
    /// Takes a share. Nothing is counted where there is no bound.
    ///
    /// # Errors
    /// The bound, when it is reached.
    pub fn take(&self, used: Used) -> Result<Option<Share>, u32> {
        let most = match used {
            Used::Connections => self.bounds.connections,
            Used::Requests | Used::Served => self.bounds.requests,
        };
        if most == 0 {
            return Ok(None);
        }
        let more = |now| (now < most).then(|| now + 1);
        let taken = self.held.load.0[used as usize].fetch_update(Relaxed, Relaxed, more);
        taken.map_err(|_| most)?;
        let held = self.held.clone();
        Ok(Some(Share { held, used }))
    }
}
