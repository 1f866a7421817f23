//! Answers that are kept for a while, found by a hash, and asked for once however many want the same one at once.
//! It must not know what is asked, nor of whom.
//! Used by plugins that ask a service for each request; it is state of an instance that outlives reloads.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// What an answer is found by: a SHA-256, so that no token is kept.
pub(crate) type Key = [u8; 32];

/// Whether an answer lets somebody in. Both kinds have room of their own, so that guesses, which are all refused, push nobody out
/// who is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Good,
    Bad,
}

/// An answer as it was given, and how long it holds.
#[derive(Debug, Clone)]
pub(crate) struct Given<V> {
    pub(crate) value: V,
    pub(crate) kind: Kind,
    /// Zero is not kept.
    pub(crate) holds: Duration,
}

/// Answers that are kept.
pub(crate) struct Cached<V, E>(Mutex<Inner<V, E>>);

type Outcome<V, E> = Option<Result<V, E>>;

struct Inner<V, E> {
    good: Ring<V>,
    bad: Ring<V>,
    asked: HashMap<Key, watch::Receiver<Outcome<V, E>>>,
}

struct Ring<V> {
    known: HashMap<Key, (V, Duration)>,
    order: VecDeque<Key>,
}

impl<V> Default for Ring<V> {
    fn default() -> Ring<V> {
        Ring {
            known: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<V: Clone> Ring<V> {
    fn find(&self, key: &Key, now: Duration) -> Option<V> {
        let (value, until) = self.known.get(key)?;
        (now < *until).then(|| value.clone())
    }

    fn keep(&mut self, key: Key, value: V, until: Duration, most: usize) {
        if self.known.insert(key, (value, until)).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > most {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}

impl<V, E> Default for Cached<V, E> {
    fn default() -> Cached<V, E> {
        Cached(Mutex::new(Inner {
            good: Ring::default(),
            bad: Ring::default(),
            asked: HashMap::new(),
        }))
    }
}

/// Whose turn it is to ask.
enum Turn<V, E> {
    Known(V),
    Mine(watch::Sender<Outcome<V, E>>),
    Theirs(watch::Receiver<Outcome<V, E>>),
}

impl<V, E> Cached<V, E>
where
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    /// The answer that is kept, or that of whoever asks already, or one asked for now. `most` bounds the answers of each kind.
    /// Failures are shared by those who wait, and not kept.
    ///
    /// # Errors
    /// The failure.
    pub(crate) async fn get<W>(
        self: &Arc<Self>,
        key: Key,
        clock: &crate::contract::Clock,
        most: usize,
        ask: impl FnOnce() -> W,
    ) -> Result<V, E>
    where
        W: Future<Output = Result<Given<V>, E>>,
    {
        loop {
            let answer = match self.turn(key, clock.elapsed()) {
                Turn::Known(value) => return Ok(value),
                Turn::Mine(tell) => {
                    let asking = Asking { cached: self, key };
                    let given = ask().await;
                    let outcome = given.as_ref().map(|given| given.value.clone());
                    let outcome = outcome.map_err(Clone::clone);
                    if let Ok(given) = given {
                        self.keep(key, given, clock.elapsed(), most);
                    }
                    drop(asking);
                    tell.send_replace(Some(outcome.clone()));
                    return outcome;
                }
                Turn::Theirs(mut told) => {
                    let told = told.wait_for(Option::is_some).await;
                    told.ok().and_then(|told| told.clone())
                }
            };
            // Whoever asked has left without an answer: somebody of those who wait asks.
            if let Some(answer) = answer {
                return answer;
            }
        }
    }

    fn turn(&self, key: Key, now: Duration) -> Turn<V, E> {
        let mut inner = self.inner();
        let known = inner.good.find(&key, now);
        if let Some(value) = known.or_else(|| inner.bad.find(&key, now)) {
            return Turn::Known(value);
        }
        match inner.asked.get(&key) {
            Some(told) => Turn::Theirs(told.clone()),
            None => {
                let (tell, told) = watch::channel(None);
                inner.asked.insert(key, told);
                Turn::Mine(tell)
            }
        }
    }

    fn keep(&self, key: Key, given: Given<V>, now: Duration, most: usize) {
        if given.holds.is_zero() {
            return;
        }
        let until = now.saturating_add(given.holds);
        let mut inner = self.inner();
        let Inner { good, bad, .. } = &mut *inner;
        let (ring, other) = match given.kind {
            Kind::Good => (good, bad),
            Kind::Bad => (bad, good),
        };
        // The newer answer is the one to find.
        if let Some((_, until)) = other.known.get_mut(&key) {
            *until = Duration::ZERO;
        }
        ring.keep(key, given.value, until, most);
    }

    fn inner(&self) -> MutexGuard<'_, Inner<V, E>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// That somebody asks; over when this is dropped, also when a client left meanwhile.
struct Asking<'a, V, E> {
    cached: &'a Cached<V, E>,
    key: Key,
}

impl<V, E> Drop for Asking<'_, V, E> {
    fn drop(&mut self) {
        let inner = self.cached.0.lock();
        let mut inner = inner.unwrap_or_else(PoisonError::into_inner);
        inner.asked.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};

    use tokio::sync::oneshot;

    use super::*;
    use crate::contract::Clock;

    type Answers = Arc<Cached<u32, &'static str>>;

    fn given(value: u32, seconds: u64) -> Given<u32> {
        Given {
            value,
            kind: Kind::Good,
            holds: Duration::from_secs(seconds),
        }
    }

    fn key(number: u8) -> Key {
        [number; 32]
    }

    fn clock() -> (Clock, Arc<AtomicU64>) {
        let millis = Arc::new(AtomicU64::new(0));
        (Clock::Fake(millis.clone()), millis)
    }

    #[tokio::test]
    async fn an_answer_is_kept_for_its_time_and_a_failure_is_not() {
        let (clock, millis) = clock();
        let answers = Answers::default();
        let asked = AtomicUsize::new(0);
        let ask = |result: Result<Given<u32>, &'static str>| {
            asked.fetch_add(1, SeqCst);
            async move { result }
        };

        assert_eq!(
            answers.get(key(1), &clock, 9, || ask(Err("down"))).await,
            Err("down")
        );
        assert_eq!(
            answers
                .get(key(1), &clock, 9, || ask(Ok(given(1, 10))))
                .await,
            Ok(1)
        );
        millis.store(9_999, SeqCst);
        assert_eq!(
            answers
                .get(key(1), &clock, 9, || ask(Ok(given(2, 10))))
                .await,
            Ok(1)
        );
        millis.store(10_000, SeqCst);
        assert_eq!(
            answers
                .get(key(1), &clock, 9, || ask(Ok(given(3, 0))))
                .await,
            Ok(3)
        );
        assert_eq!(
            answers
                .get(key(1), &clock, 9, || ask(Ok(given(4, 0))))
                .await,
            Ok(4)
        );
        assert_eq!(asked.load(SeqCst), 4);
    }

    #[tokio::test]
    async fn many_who_want_the_same_ask_once_and_share_also_a_failure() {
        for outcome in [Ok(given(7, 10)), Err("down")] {
            let (clock, _) = clock();
            let answers = Answers::default();
            let (answer, wait) = oneshot::channel();
            let first = {
                let (answers, clock) = (answers.clone(), clock.clone());
                tokio::spawn(async move {
                    let ask = || async { wait.await.unwrap() };
                    answers.get(key(1), &clock, 9, ask).await
                })
            };
            tokio::task::yield_now().await;
            let others = [(); 5].map(|()| {
                let (answers, clock) = (answers.clone(), clock.clone());
                tokio::spawn(async move {
                    let ask = || async { panic!("asked twice") };
                    answers.get(key(1), &clock, 9, ask).await
                })
            });
            tokio::task::yield_now().await;

            answer.send(outcome.clone()).unwrap();

            let expected = outcome.map(|given| given.value);
            assert_eq!(first.await.unwrap(), expected);
            for other in others {
                assert_eq!(other.await.unwrap(), expected);
            }
        }
    }

    #[tokio::test]
    async fn when_the_one_who_asks_leaves_another_one_asks() {
        let (clock, _) = clock();
        let answers = Answers::default();
        let first = {
            let (answers, clock) = (answers.clone(), clock.clone());
            tokio::spawn(async move {
                let ask = std::future::pending::<Result<Given<u32>, &'static str>>;
                answers.get(key(1), &clock, 9, ask).await
            })
        };
        tokio::task::yield_now().await;
        let second = {
            let (answers, clock) = (answers.clone(), clock.clone());
            tokio::spawn(async move {
                answers
                    .get(key(1), &clock, 9, || async { Ok(given(2, 1)) })
                    .await
            })
        };
        tokio::task::yield_now().await;

        first.abort();

        assert_eq!(second.await.unwrap(), Ok(2));
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded_and_refusals_push_nobody_out() {
        let (clock, _) = clock();
        let answers = Answers::default();
        let keep = |number: u8, kind| {
            let given = Given {
                kind,
                ..given(u32::from(number), 10)
            };
            let (answers, clock) = (answers.clone(), clock.clone());
            async move {
                answers
                    .get(key(number), &clock, 3, || async { Ok(given) })
                    .await
            }
        };
        keep(0, Kind::Good).await.unwrap();
        for number in 1..100 {
            keep(number, Kind::Bad).await.unwrap();
        }

        let inner = answers.inner();
        assert!(inner.good.find(&key(0), Duration::ZERO).is_some());
        assert_eq!((inner.bad.known.len(), inner.bad.order.len()), (3, 3));
        assert!(inner.asked.is_empty());
    }
}
