//! Responses in memory, within a bound in bytes: found by key, taken out by place and by tag; the one not used longest goes first.
//! It must not know until when responses may be used.
//! Outlives reloads; every method takes one lock for a short time.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::HeaderMap;

use super::disk::Change;
use super::key::{name, value};
use super::recent::{Invalidations, Unkept};
use crate::contract::{CacheFill, CacheName, Stored};

/// The stored responses of an instance.
#[derive(Debug, Default)]
pub(super) struct Store {
    inner: Mutex<Inner>,
    pub(super) unkept: Unkept,
    /// Bytes of bodies that are being fetched.
    filling: AtomicU64,
    revalidating: Mutex<HashSet<CacheName>>,
    /// Whether somebody has followed it since the process began.
    was_followed: AtomicBool,
}

#[derive(Debug, Default)]
struct Inner {
    bytes: u64,
    next: u64,
    items: HashMap<u64, Item>,
    /// By when they were used last.
    order: BTreeMap<u64, u64>,
    keys: HashMap<CacheName, Vec<u64>>,
    places: HashMap<CacheName, HashSet<u64>>,
    tags: HashMap<Box<str>, HashSet<u64>>,
    invalidations: Invalidations,
    journal: Journal,
}

/// What happened since somebody who follows the store looked last.
#[derive(Debug, Default)]
enum Journal {
    /// Nobody follows.
    #[default]
    Off,
    /// What did, and the bytes that are held by it.
    On(Vec<Change>, usize),
    /// More happened than is remembered.
    Lost,
}

impl Journal {
    fn add(&mut self, change: Change) {
        if let Journal::On(changes, bytes) = self {
            if let Change::Kept(stored) = &change {
                *bytes += stored.body.len();
            }
            changes.push(change);
            if changes.len() > MOST_CHANGES || *bytes > MOST_CHANGED {
                *self = Journal::Lost;
            }
        }
    }
}

#[derive(Debug)]
struct Item {
    stored: Arc<Stored>,
    used: u64,
    bytes: u64,
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What a panic leaves is at worst one response too many.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fill(&self, most: u64) -> CacheFill {
        let inner = self.lock();
        CacheFill {
            objects: inner.items.len() as u64,
            bytes: inner.bytes,
            most,
        }
    }

    pub(super) fn invalidations(&self) -> u64 {
        self.lock().invalidations.count()
    }

    /// The newest response under a key that fits a request with these fields.
    pub(super) fn find(&self, key: &CacheName, fields: &HeaderMap) -> Option<Arc<Stored>> {
        let mut inner = self.lock();
        let ids = inner.keys.get(key)?;
        let fits = |id: &&u64| {
            inner
                .items
                .get(id)
                .is_some_and(|it| fits(&it.stored, fields))
        };
        let id = *ids.iter().rev().find(fits)?;
        inner.touch(id)
    }

    /// What tells requests for a key apart, by the last response to one.
    pub(super) fn variant(&self, key: &CacheName, fields: &HeaderMap) -> Option<CacheName> {
        let inner = self.lock();
        let last = inner.items.get(inner.keys.get(key)?.last()?)?;
        let vary = last.stored.vary.iter();
        let values: Vec<Vec<u8>> = vary
            .map(|(name, _)| value(fields, name).unwrap_or_default())
            .collect();
        Some(name(values.iter().map(Vec::as_slice)))
    }

    /// Keeps a response within a bound, unless its place was invalidated since. The bound is that of the settings in force, which a
    /// reload may have changed.
    pub(super) fn keep(&self, most: u64, since: u64, stored: Stored) -> bool {
        let bytes = weight(&stored);
        let mut inner = self.lock();
        if bytes > most || inner.invalidations.since(since, &stored.place) {
            return false;
        }
        let ids = inner.keys.get(&stored.key).cloned().unwrap_or_default();
        let goes = |id: &&u64| {
            let item = inner.items.get(id);
            item.is_some_and(|it| is_replaced(&it.stored, &stored))
        };
        let mut out: Vec<u64> = ids.iter().filter(goes).copied().collect();
        if out.is_empty() && ids.len() >= MOST_VARIANTS {
            out.extend(ids.first());
        }
        out.into_iter().for_each(|id| inner.remove(id));
        inner.add(Arc::new(stored), bytes);
        inner.shrink(most);
        true
    }

    pub(super) fn drop_stored(&self, stored: &Stored) {
        let mut inner = self.lock();
        let ids = inner.keys.get(&stored.key).cloned().unwrap_or_default();
        for id in ids {
            if inner
                .items
                .get(&id)
                .is_some_and(|it| it.stored.vary == stored.vary)
            {
                inner.remove(id);
            }
        }
    }

    pub(super) fn purge_place(&self, place: CacheName) -> u64 {
        let mut inner = self.lock();
        inner.invalidations.place(place);
        let ids = inner.places.get(&place).cloned().unwrap_or_default();
        inner.remove_all(ids)
    }

    pub(super) fn purge_tag(&self, tag: &str) -> u64 {
        let mut inner = self.lock();
        // Which of those that are being fetched will carry the tag, nobody knows.
        inner.invalidations.all();
        let ids = inner.tags.get(tag).cloned().unwrap_or_default();
        inner.remove_all(ids)
    }

    pub(super) fn purge_all(&self) -> u64 {
        let mut inner = self.lock();
        inner.invalidations.all();
        let ids = inner.items.keys().copied().collect();
        inner.remove_all(ids)
    }

    /// Lets somebody follow what happens. Whether it is the first since the process began.
    pub(super) fn begin_journal(&self) -> bool {
        self.lock().journal = Journal::On(Vec::new(), 0);
        !self.was_followed.swap(true, Ordering::Relaxed)
    }

    pub(super) fn end_journal(&self) {
        self.lock().journal = Journal::Off;
    }

    /// What happened since; `None` if more did than is remembered.
    pub(super) fn changes(&self) -> Option<Vec<Change>> {
        let mut inner = self.lock();
        match std::mem::replace(&mut inner.journal, Journal::On(Vec::new(), 0)) {
            Journal::On(changes, _) => Some(changes),
            Journal::Off | Journal::Lost => None,
        }
    }

    /// Every response.
    pub(super) fn all(&self) -> Vec<Arc<Stored>> {
        let inner = self.lock();
        inner
            .items
            .values()
            .map(|item| item.stored.clone())
            .collect()
    }

    /// Takes a response back that an earlier process kept, unless there is a newer one.
    pub(super) fn restore(&self, most: u64, stored: Stored) {
        let bytes = weight(&stored);
        let mut inner = self.lock();
        if bytes <= most && !inner.keys.contains_key(&stored.key) {
            inner.add(Arc::new(stored), bytes);
            inner.shrink(most);
        }
    }

    /// Takes room for a body that is being fetched.
    pub(super) fn fills(&self, most: u64, bytes: u64) -> bool {
        let before = self.filling.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= most;
        if !fits {
            self.unfill(bytes);
        }
        fits
    }

    pub(super) fn unfill(&self, bytes: u64) {
        self.filling.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn revalidating(&self) -> MutexGuard<'_, HashSet<CacheName>> {
        self.revalidating
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets one request fetch a response beside itself, and not too many at a time.
    pub(super) fn revalidates(&self, key: &CacheName) -> bool {
        let mut all = self.revalidating();
        all.len() < MOST_REVALIDATING && all.insert(*key)
    }

    pub(super) fn revalidated(&self, key: &CacheName) {
        self.revalidating().remove(key);
    }
}

impl Inner {
    fn touch(&mut self, id: u64) -> Option<Arc<Stored>> {
        let used = self.next;
        self.next += 1;
        let item = self.items.get_mut(&id)?;
        self.order.remove(&item.used);
        item.used = used;
        self.order.insert(used, id);
        Some(item.stored.clone())
    }

    fn add(&mut self, stored: Arc<Stored>, bytes: u64) {
        let id = self.next;
        self.next += 1;
        self.bytes += bytes;
        self.journal.add(Change::Kept(stored.clone()));
        self.order.insert(id, id);
        self.keys.entry(stored.key).or_default().push(id);
        self.places.entry(stored.place).or_default().insert(id);
        for tag in &stored.tags {
            self.tags.entry(tag.clone()).or_default().insert(id);
        }
        let item = Item {
            stored,
            used: id,
            bytes,
        };
        self.items.insert(id, item);
    }

    fn remove_all(&mut self, ids: HashSet<u64>) -> u64 {
        let count = ids.len() as u64;
        ids.into_iter().for_each(|id| self.remove(id));
        count
    }

    fn remove(&mut self, id: u64) {
        let Some(item) = self.items.remove(&id) else {
            return;
        };
        self.bytes -= item.bytes;
        self.order.remove(&item.used);
        let stored = &item.stored;
        self.journal
            .add(Change::Gone(stored.key, stored.vary.clone()));
        if let Some(ids) = self.keys.get_mut(&stored.key) {
            ids.retain(|one| *one != id);
            if ids.is_empty() {
                self.keys.remove(&stored.key);
            }
        }
        if let Some(ids) = self.places.get_mut(&stored.place) {
            ids.remove(&id);
            if ids.is_empty() {
                self.places.remove(&stored.place);
            }
        }
        for tag in &stored.tags {
            if let Some(ids) = self.tags.get_mut(tag) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.tags.remove(tag);
                }
            }
        }
    }

    fn shrink(&mut self, most: u64) {
        while self.bytes > most {
            let Some((_, id)) = self.order.first_key_value() else {
                return;
            };
            self.remove(*id);
        }
    }
}

/// Whether a response takes the place of one under the same key: it is for the same requests, or they are told apart by other fields
/// now, so that the older one would go on to answer requests that it is not meant for any more.
fn is_replaced(old: &Stored, new: &Stored) -> bool {
    let names = |stored: &Stored| -> Vec<http::HeaderName> {
        stored.vary.iter().map(|(name, _)| name.clone()).collect()
    };
    old.vary == new.vary || names(old) != names(new)
}

/// Whether a stored response fits a request with these fields.
fn fits(stored: &Stored, fields: &HeaderMap) -> bool {
    let is_same = |(name, had): &(_, Vec<u8>)| value(fields, name).unwrap_or_default() == *had;
    stored.vary.iter().all(is_same)
}

/// What a response takes, with what keeping it takes.
fn weight(stored: &Stored) -> u64 {
    let fields = stored.head.headers.iter();
    let fields: usize = fields
        .map(|(name, value)| name.as_str().len() + value.len() + 64)
        .sum();
    let tags: usize = stored.tags.iter().map(|tag| 2 * tag.len() + 64).sum();
    let vary: usize = stored.vary.iter().map(|(_, value)| value.len() + 64).sum();
    (fields + tags + vary + stored.body.len()) as u64 + OVERHEAD
}

/// Bytes for an entry in every table, with the room that tables keep free.
const OVERHEAD: u64 = 1024;
/// Responses under one key that `Vary` tells apart; strangers can make many.
const MOST_VARIANTS: usize = 64;
/// Changes that are remembered for whoever follows.
const MOST_CHANGES: usize = 4096;
/// Bytes of bodies that they may hold on to.
const MOST_CHANGED: usize = 16 << 20;
/// Fetches beside requests at a time.
const MOST_REVALIDATING: usize = 64;
