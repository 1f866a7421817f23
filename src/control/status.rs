//! What the process says about itself: reloads, listeners, draining.
//! It must not know how any of it comes about.
//! Written by `reload`, `listeners` and `app`; read by `admin`.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;

/// What the process says about itself.
pub struct Status {
    /// When the process started.
    pub started: SystemTime,
    /// Whether it is going away: no new connections, requests in flight finish.
    pub draining: AtomicBool,
    /// Whether the files on disk are no longer what is running.
    pub disk_differs: AtomicBool,
    /// The last attempt to reload, also when it was refused.
    pub last_reload: ArcSwap<Option<Reload>>,
    /// Listeners and what became of them.
    pub listeners: ArcSwap<Vec<ListenerState>>,
}

impl Default for Status {
    fn default() -> Status {
        Status {
            started: SystemTime::now(),
            draining: AtomicBool::new(false),
            disk_differs: AtomicBool::new(false),
            last_reload: ArcSwap::from_pointee(None),
            listeners: ArcSwap::from_pointee(Vec::new()),
        }
    }
}

impl Status {
    /// Whether new traffic should be sent here, and why not.
    pub fn readiness(&self) -> Result<(), &'static str> {
        let listeners = self.listeners.load();
        if self.draining.load(Relaxed) {
            Err("draining")
        } else if listeners.is_empty() {
            Err("starting")
        } else if listeners
            .iter()
            .any(|listener| matches!(listener.state, BindState::Failed(_)))
        {
            Err("a listener could not be bound")
        } else {
            Ok(())
        }
    }
}

/// An attempt to reload.
#[derive(Debug, Clone)]
pub struct Reload {
    /// When.
    pub at: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// The generation running afterwards.
    pub generation: u64,
    /// What changed, in words, or every problem.
    pub result: Result<Vec<String>, Vec<String>>,
}

impl Reload {
    /// What came of it, for whoever reads one line.
    pub fn words(&self) -> String {
        let generation = self.generation;
        match &self.result {
            Ok(_) => format!("generation {generation} runs"),
            Err(problems) => {
                let first = problems.first().map_or("", String::as_str);
                format!("reload refused, generation {generation} stays: {first}")
            }
        }
    }
}

/// A listener right now.
#[derive(Debug, Clone)]
pub struct ListenerState {
    /// Its name.
    pub name: Arc<str>,
    /// The role's word.
    pub role: &'static str,
    /// The protocol's word.
    pub protocol: &'static str,
    /// The address it is bound to, with the real port.
    pub bind: String,
    /// Open connections.
    pub open: Arc<AtomicU32>,
    /// Whether it accepts.
    pub state: BindState,
}

/// What became of binding a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindState {
    /// It accepts connections.
    Listening,
    /// It was removed; its connections finish.
    Draining,
    /// It could not be bound, for this reason.
    Failed(String),
}
