//! A gate for copies of requests: so many at a time, so many waiting, the rest turned away.
//! It must not know what passes.
//! Each pool has one, which outlives reloads; the proxy enters it for each copy.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// How many may be inside and wait. Said by whoever enters, so that a reload changes it at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Inside at a time.
    pub inside: usize,
    /// Waiting.
    pub waiting: usize,
}

/// See the module.
#[derive(Default)]
pub struct Gate(Mutex<State>);

#[derive(Default)]
struct State {
    inside: usize,
    queue: VecDeque<oneshot::Sender<Pass>>,
}

/// What became of an attempt to enter.
pub enum Entry {
    /// Inside.
    Now(Pass),
    /// The pass comes when somebody leaves.
    Later(oneshot::Receiver<Pass>),
    /// Turned away.
    Full,
}

/// Being inside, until dropped.
pub struct Pass(Option<Arc<Gate>>);

impl Gate {
    /// Tries to enter.
    pub fn enter(self: &Arc<Gate>, bounds: Bounds) -> Entry {
        let mut state = self.state();
        if state.inside < bounds.inside {
            state.inside += 1;
            return Entry::Now(Pass(Some(self.clone())));
        }
        if state.queue.len() >= bounds.waiting {
            // Those who gave up waiting hold no place.
            state.queue.retain(|waiting| !waiting.is_closed());
        }
        if state.queue.len() >= bounds.waiting {
            return Entry::Full;
        }
        let (pass, turn) = oneshot::channel();
        state.queue.push_back(pass);
        Entry::Later(turn)
    }

    /// How many are inside, and how many wait.
    pub fn count(&self) -> (usize, usize) {
        let state = self.state();
        let waiting = state.queue.iter().filter(|waiting| !waiting.is_closed());
        (state.inside, waiting.count())
    }

    /// Hands the pass on to who waits longest, or lets the place become free.
    fn leave(self: &Arc<Gate>) {
        loop {
            let next = {
                let mut state = self.state();
                let Some(next) = state.queue.pop_front() else {
                    state.inside -= 1;
                    return;
                };
                next
            };
            match next.send(Pass(Some(self.clone()))) {
                Ok(()) => return,
                // It gave up; the next one gets the pass, so this one must not leave when dropped.
                Err(mut unsent) => unsent.0 = None,
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(gate) = self.0.take() {
            gate.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        inside: 2,
        waiting: 2,
    };

    fn now(gate: &Arc<Gate>) -> Option<Pass> {
        match gate.enter(BOUNDS) {
            Entry::Now(pass) => Some(pass),
            Entry::Later(_) | Entry::Full => None,
        }
    }

    fn later(gate: &Arc<Gate>) -> oneshot::Receiver<Pass> {
        match gate.enter(BOUNDS) {
            Entry::Later(turn) => turn,
            Entry::Now(_) | Entry::Full => panic!("does not wait"),
        }
    }

    #[test]
    fn so_many_are_inside_so_many_wait_and_the_rest_is_turned_away() {
        let gate = Arc::<Gate>::default();
        let inside = [now(&gate).unwrap(), now(&gate).unwrap()];
        let (mut first, mut second) = (later(&gate), later(&gate));

        assert!(matches!(gate.enter(BOUNDS), Entry::Full));
        assert_eq!(gate.count(), (2, 2));
        drop(inside);

        let passes = [first.try_recv().unwrap(), second.try_recv().unwrap()];
        assert_eq!(gate.count(), (2, 0));
        drop(passes);
        assert_eq!(gate.count(), (0, 0));
    }

    #[test]
    fn those_who_gave_up_hold_no_place() {
        let gate = Arc::<Gate>::default();
        let inside = [now(&gate).unwrap(), now(&gate).unwrap()];
        let (gone, mut patient) = (later(&gate), later(&gate));

        drop(gone);
        let mut third = later(&gate);
        drop(inside);

        let passes = [patient.try_recv().unwrap(), third.try_recv().unwrap()];
        assert_eq!(gate.count(), (2, 0));
        drop(passes);
        assert_eq!(gate.count(), (0, 0));
    }

    #[test]
    fn a_pass_that_nobody_took_is_not_lost() {
        let gate = Arc::<Gate>::default();
        let inside = [now(&gate).unwrap(), now(&gate).unwrap()];
        let waiting = later(&gate);

        drop(inside);
        drop(waiting);

        assert_eq!(gate.count(), (0, 0));
        assert!(now(&gate).is_some());
    }
}
