//! Whether an endpoint is open, shut for a time, or let one request try it.
//! It must not know why it is shut; `Outlier` decides, and `Probe` is the right to try.
//! One word, so that every step is one exchange and no two requests can both win it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A moment and a phase in one word; 0 is open. The upper 62 bits of nanoseconds last 146 years.
#[derive(Debug, Default)]
pub(super) struct Gate(AtomicU64);

/// What a request that chose an endpoint may do there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// Go on: the endpoint is open.
    Open,
    /// Go on and decide: this request alone tries it. The word is the right to.
    Try(u64),
    /// Another request tries it already.
    Busy,
    /// Its time is not over; whoever chose it all the same has a reason.
    Shut,
}

/// What a gate shows at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It takes requests.
    Open,
    /// It takes none until its time is over.
    Shut,
    /// Its time is over; the next request tries it.
    Awaiting,
    /// A request tries it; no other is let in.
    Trying,
}

/// Opens by itself when the moment comes.
const TIMED: u64 = 1;
/// Lets one request try when the moment has come.
const AWAITING: u64 = 2;
/// One request tries.
const TRYING: u64 = 3;

const PHASES: u64 = 3;

impl Gate {
    pub(super) fn is_open(&self, now: u64) -> bool {
        is_open(self.0.load(Relaxed), now)
    }

    /// Whether a request may be sent here: to an open endpoint, or to one that waits for somebody to try it.
    pub(super) fn admits(&self, now: u64) -> bool {
        let word = self.0.load(Relaxed);
        is_open(word, now) || (word & PHASES == AWAITING && moment(word) <= now)
    }

    pub(super) fn phase(&self, now: u64) -> Phase {
        let word = self.0.load(Relaxed);
        match word & PHASES {
            _ if is_open(word, now) => Phase::Open,
            AWAITING if moment(word) <= now => Phase::Awaiting,
            TRYING => Phase::Trying,
            _ => Phase::Shut,
        }
    }

    /// The moment of the word: the end of its time while it is shut.
    pub(super) fn until(&self) -> u64 {
        moment(self.0.load(Relaxed))
    }

    /// Shuts an open gate. Of several callers one succeeds.
    pub(super) fn shut(&self, now: u64, until: u64, probation: bool) -> bool {
        let word = self.0.load(Relaxed);
        is_open(word, now) && self.turn(word, shut_word(until, probation))
    }

    /// Asks to enter, and takes the one place of a gate that waits for it.
    pub(super) fn enter(&self, now: u64) -> Entry {
        let word = self.0.load(Relaxed);
        if is_open(word, now) {
            return Entry::Open;
        }
        match word & PHASES {
            TRYING => Entry::Busy,
            AWAITING if moment(word) <= now => {
                let trying = word & !PHASES | TRYING;
                match self.turn(word, trying) {
                    true => Entry::Try(trying),
                    false => Entry::Busy,
                }
            }
            _ => Entry::Shut,
        }
    }

    /// Gives the place back: the next request may try.
    pub(super) fn release(&self, trying: u64) {
        self.turn(trying, trying & !PHASES | AWAITING);
    }

    /// The one that tried succeeded. Whether the gate opened by it.
    pub(super) fn pass(&self, trying: u64) -> bool {
        self.turn(trying, 0)
    }

    /// The one that tried failed. Whether the gate is shut anew by it.
    pub(super) fn fail(&self, trying: u64, until: u64, probation: bool) -> bool {
        self.turn(trying, shut_word(until, probation))
    }

    /// The one that tries was answered, but its verdict comes with the end of a response that may take hours: the gate
    /// opens by itself at a moment, unless the verdict comes before. The word is the right to tell it.
    pub(super) fn answered(&self, trying: u64, until: u64) -> Option<u64> {
        let word = shut_word(until, false);
        self.turn(trying, word).then_some(word)
    }

    /// Opens it, whatever it was. Whether it was shut.
    pub(super) fn open(&self, now: u64) -> bool {
        !is_open(self.0.swap(0, Relaxed), now)
    }

    fn turn(&self, from: u64, to: u64) -> bool {
        let exchange = self.0.compare_exchange(from, to, Relaxed, Relaxed);
        exchange.is_ok()
    }
}

fn is_open(word: u64, now: u64) -> bool {
    word == 0 || (word & PHASES == TIMED && moment(word) <= now)
}

fn moment(word: u64) -> u64 {
    word >> 2
}

fn shut_word(until: u64, probation: bool) -> u64 {
    let phase = if probation { AWAITING } else { TIMED };
    (until.min(u64::MAX >> 2) << 2) | phase
}
