//! Handles for everything that has an effect: time and state that outlives a reload.
//! It must not know what plugins keep; entries are found by type and key.
//! Given to plugins through `Build`; in a dry run state answers "unknown" and does not change.

use std::any::Any;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Whether effects are real.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effects {
    /// Traffic: read and change state.
    Live,
    /// Explain, config tests, previews: change nothing.
    Dry,
    /// As [`Effects::Dry`], in the process that carries the traffic: local state may be looked at, see [`Shared::peek`].
    Peek,
}

impl Effects {
    /// Whether this is traffic. In anything else nothing may change, be counted or be asked.
    pub fn is_live(self) -> bool {
        self == Effects::Live
    }
}

/// What a dry run could not know, such as `the local token bucket`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown(pub Cow<'static, str>);

impl From<&'static str> for Unknown {
    fn from(about: &'static str) -> Unknown {
        Unknown(Cow::Borrowed(about))
    }
}

/// Time as plugins see it: the system's, or a test's.
#[derive(Debug, Clone)]
pub enum Clock {
    /// Real time.
    System,
    /// Milliseconds since an arbitrary start, moved by a test.
    Fake(Arc<AtomicU64>),
}

impl Clock {
    /// Time since the process (or the test) began; never goes back.
    pub fn elapsed(&self) -> Duration {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        match self {
            Clock::System => START.get_or_init(Instant::now).elapsed(),
            Clock::Fake(millis) => Duration::from_millis(millis.load(Ordering::Relaxed)),
        }
    }

    /// Wall time since 1970.
    pub fn unix(&self) -> Duration {
        match self {
            Clock::System => SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default(),
            Clock::Fake(_) => self.elapsed(),
        }
    }
}

/// State of a plugin instance that survives reloads. Reached only with [`Effects`], so a dry run cannot change it.
#[derive(Debug)]
pub struct Shared<T> {
    value: Arc<T>,
    about: &'static str,
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Shared {
            value: self.value.clone(),
            about: self.about,
        }
    }
}

impl<T> Shared<T> {
    /// Runs `act` on the state, or says what a dry run cannot know.
    pub fn with<R>(&self, effects: Effects, act: impl FnOnce(&T) -> R) -> Result<R, Unknown> {
        match effects {
            Effects::Live => Ok(act(&self.value)),
            Effects::Dry | Effects::Peek => Err(self.about.into()),
        }
    }

    /// Runs `look` on the state where it is that of the traffic, also when nothing may change. It must not change the state.
    ///
    /// # Errors
    /// What a dry run cannot know.
    pub fn peek<R>(&self, effects: Effects, look: impl FnOnce(&T) -> R) -> Result<R, Unknown> {
        match effects {
            Effects::Live | Effects::Peek => Ok(look(&self.value)),
            Effects::Dry => Err(self.about.into()),
        }
    }
}

/// Where state lives between reloads, keyed by the identity the owner chose.
/// Entries nobody holds any more are dropped when a later snapshot is built.
#[derive(Debug, Default)]
pub struct StateRegistry(Mutex<HashMap<String, Arc<dyn Any + Send + Sync>>>);

impl StateRegistry {
    /// The state under `key`, made by `new` if it is not there or has another type.
    pub fn shared<T: Send + Sync + 'static>(
        &self,
        key: &str,
        about: &'static str,
        new: impl FnOnce() -> T,
    ) -> Shared<T> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = entries
            .get(key)
            .cloned()
            .and_then(|entry| entry.downcast::<T>().ok());
        let value = found.unwrap_or_else(|| {
            let made = Arc::new(new());
            entries.insert(key.to_owned(), made.clone());
            made
        });
        Shared { value, about }
    }

    /// Forgets entries that only the registry holds.
    pub fn sweep(&self) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, entry| Arc::strong_count(entry) > 1);
    }
}
