//! Where records wait to be asked for: bounded in number and in bytes, the oldest of the commonest kind going first.
//! It must not know what a record says.
//! The recorder holds one, and fills it from a queue.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Reason;

/// A record as it waits.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) reason: Reason,
    /// Its kind among those of its reason: the cause of an error.
    pub(super) kind: &'static str,
    pub(super) request_id: Box<str>,
    pub(super) trace_id: Box<str>,
    /// The record as JSON, so that its size is known and readers need no lock for long.
    pub(super) json: Box<[u8]>,
}

impl Kept {
    fn bytes(&self) -> usize {
        OVERHEAD + self.request_id.len() + self.trace_id.len() + self.json.len()
    }
}

/// How much is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

/// Records by reason. Each reason has a part of its own, so that a storm of errors takes no room from slow requests.
pub(super) struct Store {
    errors: Part,
    slowest: Part,
    sample: Part,
    next: u64,
}

impl Store {
    pub(super) fn new(bounds: Bounds) -> Store {
        let mut store = Store {
            errors: Part::default(),
            slowest: Part::default(),
            sample: Part::default(),
            next: 0,
        };
        store.resize(bounds);
        store
    }

    /// Takes new bounds; what is too much goes. Errors get half of the room.
    pub(super) fn resize(&mut self, bounds: Bounds) {
        let share = |parts: usize| Bounds {
            records: bounds.records / parts,
            bytes: bounds.bytes / parts,
        };
        self.errors.resize(share(2));
        self.slowest.resize(share(4));
        self.sample.resize(share(4));
    }

    /// Takes a record; `false` when it is larger than all the room there is.
    pub(super) fn push(&mut self, kept: Kept) -> bool {
        self.next += 1;
        let part = match kept.reason {
            Reason::Error | Reason::Audit => &mut self.errors,
            Reason::Slowest => &mut self.slowest,
            Reason::Sample => &mut self.sample,
        };
        part.push(self.next, Arc::new(kept))
    }

    /// Everything, newest first.
    pub(super) fn all(&self) -> Vec<Arc<Kept>> {
        let parts = [&self.errors, &self.slowest, &self.sample];
        let queues = parts.into_iter().flat_map(|part| &part.queues);
        let mut all: Vec<_> = queues.flat_map(|queue| &queue.records).collect();
        all.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(*number));
        all.into_iter().map(|(_, kept)| kept.clone()).collect()
    }
}

/// The records of one reason, in a queue for each kind.
#[derive(Default)]
struct Part {
    bounds: Bounds,
    queues: Vec<Queue>,
    records: usize,
    bytes: usize,
}

/// The records of one kind, oldest first, with their numbers.
struct Queue {
    kind: &'static str,
    records: VecDeque<(u64, Arc<Kept>)>,
    bytes: usize,
}

impl Part {
    fn resize(&mut self, bounds: Bounds) {
        self.bounds = bounds;
        self.trim();
    }

    fn push(&mut self, number: u64, kept: Arc<Kept>) -> bool {
        let bytes = kept.bytes();
        if self.bounds.records == 0 || bytes > self.bounds.bytes {
            return false;
        }
        let known = self.queues.iter().position(|queue| queue.kind == kept.kind);
        let at = known.unwrap_or_else(|| {
            self.queues.push(Queue {
                kind: kept.kind,
                records: VecDeque::new(),
                bytes: 0,
            });
            self.queues.len() - 1
        });
        self.queues[at].records.push_back((number, kept));
        self.queues[at].bytes += bytes;
        self.records += 1;
        self.bytes += bytes;
        self.trim();
        true
    }

    /// Lets the oldest record of the longest queue go until everything fits: what is rare stays long, as in fair queueing with
    /// longest queue drop (Suter, Lakshman, Stiliadis and Choudhury 1998).
    fn trim(&mut self) {
        let bounds = self.bounds;
        loop {
            let longest = match (self.records > bounds.records, self.bytes > bounds.bytes) {
                (true, _) => self
                    .queues
                    .iter_mut()
                    .max_by_key(|queue| queue.records.len()),
                (_, true) => self.queues.iter_mut().max_by_key(|queue| queue.bytes),
                (false, false) => return,
            };
            let Some(queue) = longest else { return };
            let Some((_, oldest)) = queue.records.pop_front() else {
                return;
            };
            let bytes = oldest.bytes();
            queue.bytes -= bytes;
            self.records -= 1;
            self.bytes -= bytes;
        }
    }
}

/// What a record takes besides its text: itself, its place in a queue, what the allocator adds.
const OVERHEAD: usize = 192;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept(reason: Reason, kind: &'static str, id: &str, bytes: usize) -> Kept {
        Kept {
            reason,
            kind,
            request_id: id.into(),
            trace_id: "".into(),
            json: vec![b'x'; bytes].into(),
        }
    }

    fn ids(store: &Store, kind: &str) -> Vec<String> {
        let all = store.all().into_iter();
        all.filter(|kept| kept.kind == kind)
            .map(|kept| kept.request_id.to_string())
            .collect()
    }

    const BOUNDS: Bounds = Bounds {
        records: 40,
        bytes: 1 << 20,
    };

    #[test]
    fn the_newest_come_first_and_the_oldest_go_first() {
        let mut store = Store::new(BOUNDS);

        for id in 1..=12 {
            store.push(kept(Reason::Sample, "", &id.to_string(), 9));
        }

        let newest = ["12", "11", "10", "9", "8", "7", "6", "5", "4", "3"];
        assert_eq!(ids(&store, ""), newest);
    }

    #[test]
    fn a_storm_of_one_cause_pushes_out_neither_other_causes_nor_other_reasons() {
        let mut store = Store::new(BOUNDS);
        store.push(kept(Reason::Slowest, "", "slow", 9));
        store.push(kept(Reason::Sample, "", "some", 9));
        store.push(kept(Reason::Error, "rare", "rare", 9));

        for _ in 0..1000 {
            store.push(kept(Reason::Error, "storm", "storm", 9));
        }

        assert_eq!(ids(&store, ""), ["some", "slow"]);
        assert_eq!(ids(&store, "rare"), ["rare"]);
        assert_eq!(ids(&store, "storm").len(), 19);
    }

    #[test]
    fn smaller_bounds_let_the_oldest_go() {
        let mut store = Store::new(BOUNDS);
        for id in 1..=8 {
            store.push(kept(Reason::Sample, "", &id.to_string(), 9));
        }

        store.resize(Bounds {
            records: 8,
            ..BOUNDS
        });

        assert_eq!(ids(&store, ""), ["8", "7"]);
    }

    #[test]
    fn a_record_larger_than_the_room_is_refused() {
        let mut store = Store::new(Bounds {
            records: 40,
            bytes: 4096,
        });

        assert!(!store.push(kept(Reason::Sample, "", "large", 1024)));
        assert!(store.push(kept(Reason::Sample, "", "small", 512)));
    }

    fn any() -> impl Strategy<Value = (Reason, &'static str, usize)> {
        let reasons = prop::sample::select(vec![Reason::Error, Reason::Slowest, Reason::Sample]);
        let kinds = prop::sample::select(vec!["a", "b", "c"]);
        (reasons, kinds, 0..3000usize)
    }

    proptest! {
        #[test]
        fn neither_bound_is_ever_passed(
            records in 4..50usize,
            bytes in 0..40_000usize,
            pushed in prop::collection::vec(any(), 0..200),
        ) {
            let mut store = Store::new(Bounds { records, bytes });
            for (reason, kind, size) in pushed {
                store.push(kept(reason, kind, "id", size));

                let all = store.all();
                prop_assert!(all.len() <= records);
                prop_assert!(all.iter().map(|kept| kept.bytes()).sum::<usize>() <= bytes);
                let counted = [&store.errors, &store.slowest, &store.sample].map(|part| part.records);
                prop_assert_eq!(counted.iter().sum::<usize>(), all.len());
            }
        }
    }
}
