//! The right of one request to try an endpoint that was ejected.
//! It must not know how requests are sent.
//! Taken when an endpoint was chosen, told with the verdict, and given back when it is dropped without one.

use std::sync::Arc;

use super::gate::Entry;
use super::judge::Told;
use crate::snapshot::endpoint::Endpoint;

/// The right of one request to try an endpoint. Dropped without a verdict it is given back, and the next request tries:
/// a client that went away says nothing about the endpoint.
#[derive(Debug)]
pub struct Probe {
    endpoint: Arc<Endpoint>,
    word: u64,
    /// The gate opens by itself; there is nothing to give back.
    is_answered: bool,
}

/// What a request that chose an endpoint may do.
#[derive(Debug)]
pub enum Claim {
    /// Go on.
    Free,
    /// Go on, and tell how it went: this request alone tries the endpoint. Boxed, because few requests have one.
    Probe(Box<Probe>),
    /// Another request tries it; choose again.
    Busy,
}

impl Probe {
    /// Asks to use an endpoint. One whose time is not over was chosen because the pool panics, and is used as if it were open.
    pub fn claim(endpoint: &Arc<Endpoint>, now: u64) -> Claim {
        match endpoint.state.outlier.gate.enter(now) {
            Entry::Open | Entry::Shut => Claim::Free,
            Entry::Busy => Claim::Busy,
            Entry::Try(word) => Claim::Probe(Box::new(Probe {
                endpoint: endpoint.clone(),
                word,
                is_answered: false,
            })),
        }
    }

    /// A response began whose verdict comes with its end, which may take hours: the endpoint opens after `base_time`, or with the
    /// verdict if that comes before.
    pub fn answered(&mut self, told: &Told<'_>) {
        let until = told.now.saturating_add(super::nanos(told.rules.base_time));
        let outlier = &self.endpoint.state.outlier;
        if let Some(word) = outlier.gate.answered(self.word, until) {
            self.word = word;
            self.is_answered = true;
            outlier
                .opened_at
                .store(until, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// The word, which from now on is the caller's to tell.
    pub(super) fn into_word(mut self) -> u64 {
        std::mem::take(&mut self.word)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if self.word != 0 && !self.is_answered {
            self.endpoint.state.outlier.gate.release(self.word);
        }
    }
}
