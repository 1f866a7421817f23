//! Long-lived streams and what they depend on, so that a reload ends exactly those whose listener, route or pool went away.
//! It must not know what a stream carries.
//! The proxy takes a lease before a stream goes on to its endpoint; `control::reload` revokes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::identity::Proof;
use super::Snapshot;

/// All leases of the process.
#[derive(Default)]
pub struct Leases {
    next: AtomicU64,
    held: Mutex<HashMap<u64, Held>>,
}

struct Held {
    tenancy: Tenancy,
    cut: Arc<Cut>,
    standing: Option<Arc<dyn Standing>>,
    /// What its endpoint proved itself with.
    proof: Option<Arc<Proof>>,
}

/// What a stream was let through on, to be judged again.
pub trait Standing: Send + Sync {
    /// Whether the policies of this configuration would not let it through any more. It remembers why.
    fn falls(&self, snapshot: &Snapshot) -> bool;
}

/// What a stream depends on, by name.
#[derive(Debug, Clone)]
pub struct Tenancy {
    /// Listener.
    pub listener: Arc<str>,
    /// Route.
    pub route: Arc<str>,
    /// Pool.
    pub pool: Arc<str>,
}

/// Says that a stream should end.
#[derive(Default)]
pub struct Cut {
    /// A [`Why`]; 0 for not.
    revoked: AtomicU8,
    notify: Notify,
}

/// Why a stream should end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// What it depends on went away.
    Drained = 1,
    /// Its time is over.
    Deadline = 2,
    /// Its caller is no longer allowed.
    Denied = 3,
    /// What its caller or its endpoint proved itself with is no longer good.
    Unproven = 4,
}

impl Cut {
    /// Asks the stream to end. The first reason stays.
    pub fn revoke(&self, why: Why) {
        let _ = self
            .revoked
            .compare_exchange(0, why as u8, Relaxed, Relaxed);
        self.notify.notify_one();
    }

    /// Whether the stream should end.
    pub fn is_revoked(&self) -> bool {
        self.revoked.load(Relaxed) != 0
    }

    /// Why the stream should end, if it should.
    pub fn why(&self) -> Option<Why> {
        match self.revoked.load(Relaxed) {
            0 => None,
            2 => Some(Why::Deadline),
            3 => Some(Why::Denied),
            4 => Some(Why::Unproven),
            _ => Some(Why::Drained),
        }
    }

    /// Waits until the stream should end.
    pub async fn revoked(&self) {
        self.notify.notified().await;
    }
}

/// A stream's entry; dropped with the stream.
pub struct Lease {
    leases: Arc<Leases>,
    id: u64,
    /// Asks this stream to end.
    pub cut: Arc<Cut>,
}

impl Lease {
    /// Ends the stream with what its endpoint proved itself with.
    pub fn rest_on(&self, proof: &Arc<Proof>) {
        let mut held = self.leases.lock();
        if let Some(one) = held.get_mut(&self.id) {
            one.proof = Some(proof.clone());
        }
        drop(held);
        // Nobody else looks, if that was before it was entered.
        if proof.fallen().is_some() {
            self.cut.revoke(Why::Unproven);
        }
    }
}

impl Leases {
    /// Enters a stream. `cut` is given when something else already waits for it, such as the connection's task.
    pub fn take(self: &Arc<Leases>, tenancy: Tenancy, cut: Arc<Cut>) -> Lease {
        self.enter(tenancy, cut, None)
    }

    /// The same for a stream that is judged again after each reload. Entered first and judged then: a configuration that is
    /// published meanwhile either finds the stream here or is the one that judges it.
    pub fn take_judged(
        self: &Arc<Leases>,
        tenancy: Tenancy,
        cut: Arc<Cut>,
        standing: Arc<dyn Standing>,
    ) -> Lease {
        self.enter(tenancy, cut, Some(standing))
    }

    /// Ends the streams that these policies do not let through any more, and says how many.
    pub fn judge(&self, snapshot: &Snapshot) -> usize {
        let held = self.lock();
        let judged = held.values().filter_map(|one| {
            let standing = one.standing.clone()?;
            Some((standing, one.cut.clone()))
        });
        let judged: Vec<_> = judged.collect();
        // Judging may take a while where there are many; streams come and go meanwhile.
        drop(held);
        let fallen = judged.iter().filter(|(standing, cut)| {
            let falls = !cut.is_revoked() && standing.falls(snapshot);
            if falls {
                cut.revoke(Why::Denied);
            }
            falls
        });
        fallen.count()
    }

    /// Ends the streams whose endpoints have nothing left that proves them.
    pub fn end_unproven(&self) {
        let held = self.lock();
        let fell = |one: &&Held| one.proof.as_ref().is_some_and(|it| it.fallen().is_some());
        let fallen = held.values().filter(fell);
        fallen.for_each(|one| one.cut.revoke(Why::Unproven));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(
        self: &Arc<Leases>,
        tenancy: Tenancy,
        cut: Arc<Cut>,
        standing: Option<Arc<dyn Standing>>,
    ) -> Lease {
        let id = self.next.fetch_add(1, Relaxed);
        let mut held = self.lock();
        let one = Held {
            tenancy,
            cut: cut.clone(),
            standing,
            proof: None,
        };
        held.insert(id, one);
        Lease {
            leases: self.clone(),
            id,
            cut,
        }
    }

    /// Streams under way.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// The streams whose tenancy is `gone`.
    pub fn orphans(&self, gone: impl Fn(&Tenancy) -> bool) -> Vec<u64> {
        let held = self.lock();
        let orphans = held.iter().filter(|(_, one)| gone(&one.tenancy));
        orphans.map(|(id, _)| *id).collect()
    }

    /// Asks a stream to end, if it has not: its connection may carry others by now.
    pub fn revoke(&self, id: u64) {
        let held = self.lock();
        if let Some(one) = held.get(&id) {
            one.cut.revoke(Why::Drained);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leases.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_streams_that_lost_something_are_orphans() {
        let leases = Arc::new(Leases::default());
        let tenancy = |pool: &str| Tenancy {
            listener: "l".into(),
            route: "r".into(),
            pool: pool.into(),
        };
        let kept = leases.take(tenancy("kept"), Arc::default());
        let lost = leases.take(tenancy("lost"), Arc::default());

        let orphans = leases.orphans(|tenancy| &*tenancy.pool == "lost");
        orphans.iter().for_each(|id| leases.revoke(*id));

        assert!(lost.cut.is_revoked() && !kept.cut.is_revoked());
        drop(lost);
        assert_eq!(leases.count(), 1);
    }

    #[test]
    fn a_stream_that_ended_by_itself_takes_nothing_with_it() {
        let leases = Arc::new(Leases::default());
        let tenancy = Tenancy {
            listener: "l".into(),
            route: "r".into(),
            pool: "p".into(),
        };
        let connection = Arc::<Cut>::default();
        let over = leases.take(tenancy, connection.clone());
        let orphans = leases.orphans(|_| true);

        drop(over);
        orphans.iter().for_each(|id| leases.revoke(*id));

        assert!(!connection.is_revoked());
    }
}
