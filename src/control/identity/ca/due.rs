//! When something is asked for next: after a success by the life of what came, after a failure by backoff.
//! It must not know calls; it keeps two clocks, since one stands still while the machine sleeps and the other may be set.
//! Used by `ca` for each certificate and for the roots.

use std::time::{Duration, Instant, SystemTime};

use super::calls;
use super::store::Pair;
use crate::ca::wire::Trusted;
use crate::control::identity::pace::{chance, until_renewal, Backoff};

/// Something that is due at a time.
pub(super) struct Due {
    /// By the clock that only runs on.
    at: Instant,
    /// By the clock on the wall.
    wall: SystemTime,
    backoff: Backoff,
    /// When what there is ends.
    pub(super) ends: Option<SystemTime>,
    /// The hash of the root that it chains to.
    root: Option<String>,
    /// A certificate that has not begun yet, and until when it is waited for.
    early: Option<(Pair, Instant)>,
}

impl Due {
    pub(super) fn now() -> Due {
        Due {
            at: Instant::now(),
            wall: SystemTime::now(),
            backoff: Backoff::default(),
            ends: None,
            root: None,
            early: None,
        }
    }

    /// Due after one failure.
    pub(super) fn later() -> Due {
        let mut due = Due::now();
        due.failed();
        due
    }

    /// Whether either clock has come to it.
    pub(super) fn is_due(&self) -> bool {
        self.left().is_zero()
    }

    /// How long it is not due.
    pub(super) fn left(&self) -> Duration {
        let running = self.at.saturating_duration_since(Instant::now());
        let wall = self.wall.duration_since(SystemTime::now());
        running.min(wall.unwrap_or_default())
    }

    /// Due after this long.
    pub(super) fn after(&mut self, wait: Duration) {
        self.at = Instant::now() + wait;
        self.wall = SystemTime::now() + wait;
    }

    /// It worked, and is wanted again after this long.
    pub(super) fn worked(&mut self, wait: Duration) {
        self.backoff.reset();
        self.after(wait);
    }

    /// A certificate is in use; the next one is wanted after this long.
    pub(super) fn renewed(&mut self, pair: &Pair, trusted: Option<&Trusted>, wait: Duration) {
        self.worked(wait);
        self.ends = Some(calls::ends(&pair.chain));
        self.root = trusted.and_then(|trusted| calls::root_of(&pair.chain, trusted));
        self.early = None;
    }

    /// None came.
    pub(super) fn failed(&mut self) {
        let left = self
            .ends
            .map(|ends| ends.duration_since(SystemTime::now()).unwrap_or_default());
        let wait = self.backoff.next(left);
        self.after(wait);
    }

    /// Whether the last try failed.
    pub(super) fn has_failed(&self) -> bool {
        self.backoff.has_failed()
    }

    /// Waits for the beginning of a certificate instead of asking for another one; for half of its life at most, since the clock
    /// here may be so wrong that it has ended elsewhere.
    pub(super) fn hold(&mut self, pair: Pair) {
        let begins = calls::begins(&pair.chain);
        let most = until_renewal(calls::life(&pair.chain));
        let wait = begins.duration_since(SystemTime::now());
        self.after(wait.unwrap_or_default().min(most));
        self.early = Some((pair, Instant::now() + most));
    }

    /// One on disk that does not fit is replaced at once; one that has not begun is waited for.
    pub(super) fn unless_held(&mut self) {
        if self.early.is_none() {
            self.worked(Duration::ZERO);
        }
    }

    /// The certificate that was waited for, unless it was for too long.
    pub(super) fn held(&mut self) -> Option<Pair> {
        let (pair, until) = self.early.take()?;
        (Instant::now() < until).then_some(pair)
    }

    /// Another root issues: the next one is wanted soon, but not from all at once.
    pub(super) fn hurry(&mut self, issuing: &str, spread: Duration) {
        if self.ends.is_some() && self.root.as_deref() != Some(issuing) {
            let wait = spread.mul_f64(chance());
            if wait < self.left() {
                self.after(wait);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_clock_makes_it_due() {
        let mut asleep = Due::now();
        asleep.after(Duration::from_secs(100));
        let before = asleep.is_due();
        // The machine slept: only the wall's clock went on.
        asleep.wall = SystemTime::now();
        let mut set_back = Due::now();
        set_back.after(Duration::from_secs(100));
        // The wall's clock was set back by a day.
        set_back.wall += Duration::from_secs(86_400);
        set_back.at = Instant::now();

        assert!(!before && asleep.is_due() && set_back.is_due());
    }
}
