//! What the other side of a connection proved itself with, kept for as long as the connection lives, so that it is judged again.
//! It must not know connections; whoever carries one waits here for its end.
//! Made after each handshake between workloads; `control::identity` judges again when roots change and when certificates end.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use openssl::sha::Sha256;
use openssl::stack::{Stack, StackRef};
use openssl::x509::{X509Ref, X509};
use tokio::sync::Notify;
use windrose_plugins::contract::{causes, Cause};

use super::id::SpiffeId;
use super::verify::{verify, Rejection, Trust};

/// What becomes of connections whose other side's certificate ends while they live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExpiry {
    /// They take nothing new, and are cut when this has passed.
    Close {
        /// How long what is under way may go on.
        grace: Duration,
    },
    /// They go on.
    Keep,
}

/// What one connection's other side proved.
pub struct Proof {
    /// Who it is.
    pub id: SpiffeId,
    leaf: X509,
    chain: Stack<X509>,
    /// SHA-256 of all that was shown: what is the same is judged once.
    shown: [u8; 32],
    on_expiry: OnExpiry,
    /// In milliseconds since 1970.
    ends: AtomicI64,
    /// [`GOOD`], [`OVER`] or [`FALLEN`].
    stage: AtomicU8,
    cause: OnceLock<&'static Cause>,
    told: Notify,
    number: u64,
    /// When it is to be judged next; changed only under the lock of `home`.
    due: AtomicI64,
    home: Arc<Proofs>,
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proof({})", self.id)
    }
}

impl Drop for Proof {
    fn drop(&mut self) {
        let mut open = self.home.lock();
        open.by_due.remove(&(self.due.load(SeqCst), self.number));
    }
}

impl Proof {
    /// When kept connections are not to be used any more, in milliseconds since 1970.
    pub fn retires(&self) -> i64 {
        match self.on_expiry {
            OnExpiry::Close { .. } => self.ends.load(SeqCst),
            OnExpiry::Keep => i64::MAX,
        }
    }

    /// Why the connection must not go on, if that is so.
    pub fn fallen(&self) -> Option<&'static Cause> {
        match self.stage.load(SeqCst) {
            FALLEN => self.cause.get().copied(),
            _ => None,
        }
    }

    /// Whether nothing new should begin on the connection.
    pub fn is_over(&self) -> bool {
        self.stage.load(SeqCst) >= OVER
    }

    /// Waits until nothing new should begin on the connection.
    pub async fn over(&self) {
        self.reaches(OVER).await;
    }

    /// Waits until the connection must not go on.
    pub async fn fell(&self) -> &'static Cause {
        self.reaches(FALLEN).await;
        self.fallen().unwrap_or(&causes::MTLS_EXPIRED)
    }

    async fn reaches(&self, stage: u8) {
        loop {
            let told = self.told.notified();
            if self.stage.load(SeqCst) >= stage {
                return;
            }
            told.await;
        }
    }

    fn reach(&self, stage: u8) {
        self.stage.fetch_max(stage, SeqCst);
        self.told.notify_waiters();
    }

    /// Takes what a judgement brought; when it is to be judged next.
    pub(super) fn take(&self, judged: &Judged, now: i64) -> i64 {
        match *judged {
            Ok(ends) => {
                self.ends.store(ends, SeqCst);
                ends.max(now).saturating_add(MARGIN)
            }
            // A clock that went back says nothing of whom it had let in.
            Err(cause) if *cause == causes::MTLS_NOT_YET_VALID => now + 60_000,
            Err(cause) if *cause == causes::MTLS_EXPIRED => self.expired(now),
            Err(cause) => self.fall(cause),
        }
    }

    fn expired(&self, now: i64) -> i64 {
        let OnExpiry::Close { grace } = self.on_expiry else {
            return i64::MAX;
        };
        let grace = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
        let cut = self.ends.load(SeqCst).saturating_add(grace);
        if now >= cut {
            return self.fall(&causes::MTLS_EXPIRED);
        }
        self.reach(OVER);
        cut
    }

    fn fall(&self, cause: &'static Cause) -> i64 {
        let _ = self.cause.set(cause);
        self.reach(FALLEN);
        i64::MAX
    }
}

/// By so many milliseconds the clock that OpenSSL looks at may be behind.
const MARGIN: i64 = 20;

const GOOD: u8 = 0;
/// Its certificate ended.
const OVER: u8 = 1;
const FALLEN: u8 = 2;

/// Until when, in milliseconds since 1970, or why not.
pub(super) type Judged = Result<i64, &'static Cause>;

/// The proofs of all connections there are.
#[derive(Default)]
pub struct Proofs {
    open: Mutex<Open>,
    bell: Notify,
}

#[derive(Default)]
struct Open {
    made: u64,
    /// By when each is to be judged next.
    by_due: BTreeMap<(i64, u64), Weak<Proof>>,
}

impl fmt::Debug for Proofs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proofs({})", self.lock().by_due.len())
    }
}

/// Which proofs are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those whose time has come.
    Due,
    /// All of them.
    All,
}

impl Proofs {
    /// Proves the other side of a connection. Judged once more if others are believed by the time that it is known here.
    pub(super) fn prove(
        self: &Arc<Proofs>,
        leaf: X509,
        chain: Option<&StackRef<X509>>,
        on_expiry: OnExpiry,
        trust: impl Fn() -> Arc<Trust>,
    ) -> Result<Arc<Proof>, Rejection> {
        let before = trust();
        let verified = verify(&leaf, chain, &before)?;
        let unkept = |_| Rejection {
            cause: &causes::MTLS_UNTRUSTED,
            detail: "the certificate cannot be kept".into(),
        };
        let chain = copied(chain).map_err(unkept)?;
        let ends = verified.ends.saturating_mul(1000);
        let proof = self.enter(|number| Proof {
            id: verified.id,
            shown: shown(&leaf, &chain),
            leaf,
            chain,
            on_expiry,
            ends: AtomicI64::new(ends),
            stage: AtomicU8::new(GOOD),
            cause: OnceLock::new(),
            told: Notify::new(),
            number,
            due: AtomicI64::new(ends.saturating_add(MARGIN)),
            home: self.clone(),
        });
        let after = trust();
        if after.generation != before.generation {
            verify(&proof.leaf, Some(&proof.chain), &after)?;
        }
        Ok(proof)
    }

    fn enter(&self, make: impl FnOnce(u64) -> Proof) -> Arc<Proof> {
        let mut open = self.lock();
        open.made += 1;
        let proof = Arc::new(make(open.made));
        let key = (proof.due.load(SeqCst), proof.number);
        open.by_due.insert(key, Arc::downgrade(&proof));
        let is_first = open.by_due.keys().next() == Some(&key);
        drop(open);
        if is_first {
            self.bell.notify_one();
        }
        proof
    }

    /// Waits until one came that is to be judged before all others.
    pub async fn came(&self) {
        self.bell.notified().await;
    }

    /// When the next one is to be judged, in milliseconds since 1970.
    pub fn next(&self) -> Option<i64> {
        let open = self.lock();
        let due = open.by_due.keys().next().map(|(due, _)| *due);
        due.filter(|due| *due != i64::MAX)
    }

    /// Judges again, and says how many connections must not go on. Blocks for as long as that takes.
    pub fn judge(&self, scope: Scope, trust: &Trust, now: i64) -> usize {
        let last = match scope {
            Scope::Due => now,
            Scope::All => i64::MAX,
        };
        let open = self.lock();
        let due = open.by_due.range(..=(last, u64::MAX));
        // Let go of only when the lock is: whoever is the last to hold one takes it.
        let due: Vec<Arc<Proof>> = due.filter_map(|(_, proof)| proof.upgrade()).collect();
        drop(open);
        let mut known = HashMap::new();
        let mut fell = 0;
        for proof in &due {
            if proof.stage.load(SeqCst) == FALLEN {
                continue;
            }
            let judged = known
                .entry(proof.shown)
                .or_insert_with(|| judge(proof, trust));
            let next = proof.take(judged, now);
            self.put_off(proof, next);
            fell += usize::from(proof.fallen().is_some());
        }
        fell
    }

    fn put_off(&self, proof: &Proof, due: i64) {
        let mut open = self.lock();
        let before = proof.due.swap(due, SeqCst);
        if let Some(one) = open.by_due.remove(&(before, proof.number)) {
            open.by_due.insert((due, proof.number), one);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn judge(proof: &Proof, trust: &Trust) -> Judged {
    let verified = verify(&proof.leaf, Some(&proof.chain), trust);
    let ends = verified.map(|verified| verified.ends.saturating_mul(1000));
    ends.map_err(|rejection| rejection.cause)
}

/// Counts references; nothing is copied.
fn copied(chain: Option<&StackRef<X509>>) -> Result<Stack<X509>, openssl::error::ErrorStack> {
    let mut all = Stack::new()?;
    for link in chain.into_iter().flatten() {
        all.push(link.to_owned())?;
    }
    Ok(all)
}

fn shown(leaf: &X509Ref, chain: &StackRef<X509>) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(&super::svid::fingerprint(leaf));
    for link in chain {
        hasher.update(&super::svid::fingerprint(link));
    }
    hasher.finish()
}
