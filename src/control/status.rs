//! What the process says about itself: reloads, probation, listeners, draining, how requests went.
//! It must not know how any of it comes about.
//! Written by `reload`, `probation`, `listeners` and `supervisor`; read by `admin`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;

use super::traffic::Traffic;

/// What the process says about itself.
pub struct Status {
    /// When the process started.
    pub started: SystemTime,
    /// Whether it is going away: no new connections, requests in flight finish.
    pub draining: AtomicBool,
    /// Whether the first configuration came into force.
    pub has_started: AtomicBool,
    /// Whether the listening sockets go to a new process, which reads the configuration for itself.
    pub handed_over: AtomicBool,
    /// Whether the files on disk are no longer what is running.
    pub disk_differs: AtomicBool,
    /// The last attempt to reload, also when it was refused.
    pub last_reload: ArcSwap<Option<Reload>>,
    /// Why the files on disk were not put in force, or are no longer, if somebody tried.
    pub disk_reason: ArcSwap<Option<String>>,
    /// When the configuration in force came into force.
    pub live_since: ArcSwap<SystemTime>,
    /// The probation under way.
    pub probation: ArcSwap<Option<Probation>>,
    /// The last probation that ended.
    pub last_probation: ArcSwap<Option<Ended>>,
    /// How requests went in the last minutes.
    pub traffic: Traffic,
    /// What was last done about the configuration.
    deeds: Mutex<VecDeque<Deed>>,
    /// Listeners and what became of them.
    pub listeners: ArcSwap<Vec<ListenerState>>,
}

impl Default for Status {
    fn default() -> Status {
        Status {
            started: SystemTime::now(),
            draining: AtomicBool::new(false),
            has_started: AtomicBool::new(false),
            handed_over: AtomicBool::new(false),
            disk_differs: AtomicBool::new(false),
            last_reload: ArcSwap::from_pointee(None),
            disk_reason: ArcSwap::from_pointee(None),
            live_since: ArcSwap::from_pointee(SystemTime::now()),
            probation: ArcSwap::from_pointee(None),
            last_probation: ArcSwap::from_pointee(None),
            traffic: Traffic::default(),
            deeds: Mutex::default(),
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
            match self.has_started.load(Relaxed) {
                true => Err("no listener is bound"),
                false => Err("starting"),
            }
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

impl Status {
    /// Takes note of something done about the configuration; only the last few are remembered.
    pub fn note(&self, generation: u64, ok: bool, words: String) {
        let mut deeds = self.deeds.lock().unwrap_or_else(PoisonError::into_inner);
        deeds.truncate(MOST_DEEDS - 1);
        deeds.push_front(Deed {
            at: SystemTime::now(),
            generation,
            ok,
            words,
        });
    }

    /// What was last done about the configuration, newest first.
    pub fn deeds(&self) -> Vec<Deed> {
        let deeds = self.deeds.lock().unwrap_or_else(PoisonError::into_inner);
        deeds.iter().cloned().collect()
    }
}

/// Something done about the configuration.
#[derive(Debug, Clone)]
pub struct Deed {
    /// When.
    pub at: SystemTime,
    /// The generation running afterwards.
    pub generation: u64,
    /// Whether it is what an operator would want to see.
    pub ok: bool,
    /// What came of it.
    pub words: String,
}

/// A configuration that is rolled back unless somebody confirms it.
#[derive(Debug, Clone)]
pub struct Probation {
    /// Its generation.
    pub generation: u64,
    /// The generation whose configuration comes back.
    pub fallback: u64,
    /// When that happens.
    pub until: Instant,
    /// By how much a share of failures may rise, 0 to 1.
    pub max_rise: f64,
}

impl Probation {
    /// How long it can still be confirmed.
    pub fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

/// A probation that ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The generation that was on probation.
    pub generation: u64,
    /// Whether it was confirmed.
    pub confirmed: bool,
    /// What came of it.
    pub words: String,
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
    /// It was removed by a configuration on probation: the socket waits for a roll-back and turns clients away.
    Kept,
    /// It could not be bound, for this reason.
    Failed(String),
}

const MOST_DEEDS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_whose_listeners_are_all_left_out_does_not_say_that_it_is_starting() {
        let status = Status::default();
        let before = status.readiness();

        status.has_started.store(true, Relaxed);

        assert_eq!(before, Err("starting"));
        assert_eq!(status.readiness(), Err("no listener is bound"));
    }
}
