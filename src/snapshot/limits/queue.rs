//! Who waits for a place, and whose turn it is: higher classes first, within a class the first to come.
//! It must not know what is waited for, nor clocks or tasks beyond their wakers.
//! Kept under a lock by [`Limiter`](super::Limiter), which is taken only while somebody waits.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::task::Waker;

use super::Priority;

/// Those who wait. One at a time is *called*: woken to try its luck. Whoever is called answers, by leaving or by saying that
/// it was in vain, and only then is the next one called, so that a free place wakes one task and not all of them.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: BTreeMap<Key, Entry>,
    called: Option<Key>,
    /// Something became free while one was called.
    rang: bool,
    next: u64,
}

/// A place in the queue: keys in order are turns in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(Priority, u64);

#[derive(Debug)]
struct Entry {
    waker: Option<Waker>,
    turn: Turn,
    choice: Choosiness,
}

/// Whether what serves others serves this one too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choosiness {
    /// Any free endpoint will do; if it finds none, nobody will.
    Any,
    /// It has tried some endpoints before, and perhaps holds its place in the pool already: it may succeed where one before it
    /// does not, and one behind it where it does not.
    Particular,
}

/// What somebody who was called did not find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// A place in the pool. Those who hold one already may find what they wait for.
    Place,
    /// An endpoint with room.
    Endpoint,
}

/// How it stands with one who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Not yet.
    Waits,
    /// Try now.
    Called,
    /// Given up to make room for a higher class.
    Evicted,
}

impl Queue {
    /// Enters at the end of a class. With `most` waiting, the last of a lower class is given up for it and returned to be
    /// woken; `None` when there is none.
    pub(super) fn enter(
        &mut self,
        priority: Priority,
        choice: Choosiness,
        most: usize,
    ) -> Option<(Key, Option<Waker>)> {
        let mut evicted = None;
        if self.waiting.len() >= most {
            let (last, entry) = self.waiting.last_key_value()?;
            if last.0 <= priority || entry.turn == Turn::Called {
                return None;
            }
            let last = *last;
            evicted = self.waiting.remove(&last).and_then(|entry| entry.waker);
        }
        let key = Key(priority, self.next);
        self.next += 1;
        let entry = Entry {
            waker: None,
            turn: Turn::Waits,
            choice,
        };
        self.waiting.insert(key, entry);
        Some((key, evicted))
    }

    /// How it stands; remembers whom to wake when that changes.
    pub(super) fn look(&mut self, key: Key, waker: &Waker) -> Turn {
        match self.waiting.get_mut(&key) {
            None => Turn::Evicted,
            Some(entry) => {
                if entry.turn == Turn::Waits {
                    entry.waker = Some(waker.clone());
                }
                entry.turn
            }
        }
    }

    /// Something became free, or may have: calls the first, unless one is called already.
    pub(super) fn ring(&mut self) -> Option<Waker> {
        if self.called.is_some() {
            self.rang = true;
            return None;
        }
        let first = self.waiting.first_key_value().map(|(key, _)| *key)?;
        self.call(first)
    }

    /// As [`ring`](Queue::ring), if it is the newcomer's turn, or might be because those before it or itself are particular.
    pub(super) fn greet(&mut self, newcomer: Key) -> Option<Waker> {
        let is_particular = |entry: &Entry| entry.choice == Choosiness::Particular;
        let mut before = self.waiting.range(..newcomer);
        let in_front = before.all(|(_, entry)| is_particular(entry));
        if in_front || self.waiting.get(&newcomer).is_some_and(is_particular) {
            self.ring()
        } else {
            None
        }
    }

    fn call(&mut self, key: Key) -> Option<Waker> {
        let entry = self.waiting.get_mut(&key)?;
        entry.turn = Turn::Called;
        self.called = Some(key);
        entry.waker.take()
    }

    /// The one that was called found nothing. If something became free meanwhile, the first is called, which may be the same
    /// again. Else, behind one that any endpoint would have served nobody needs to try for one, and behind one without a place
    /// only those who may have theirs.
    pub(super) fn in_vain(&mut self, key: Key, lack: Lack) -> Option<Waker> {
        if self.called != Some(key) {
            return None;
        }
        self.called = None;
        let entry = self.waiting.get_mut(&key)?;
        entry.turn = Turn::Waits;
        let choice = entry.choice;
        if std::mem::take(&mut self.rang) {
            return self.ring();
        }
        let after = (Bound::Excluded(key), Bound::Unbounded);
        let mut after = self.waiting.range(after);
        let next = match (choice, lack) {
            (Choosiness::Any, Lack::Endpoint) => None,
            (_, Lack::Place) => after.find(|(_, entry)| entry.choice == Choosiness::Particular),
            (Choosiness::Particular, Lack::Endpoint) => after.next(),
        };
        let next = next.map(|(key, _)| *key)?;
        self.call(next)
    }

    /// Leaves, served or not. Whoever was called calls the first of the rest: there may be more where its place came from,
    /// or it left without taking it.
    pub(super) fn leave(&mut self, key: Key) -> Option<Waker> {
        self.waiting.remove(&key);
        if self.called != Some(key) {
            return None;
        }
        self.called = None;
        self.rang = false;
        self.ring()
    }
}
