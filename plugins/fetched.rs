//! Something that somebody publishes by URL: got beside the traffic, kept while that fails, got again when a request wants it.
//! It must not know what it is.
//! Its task is the only one that asks; requests that wait for it all wait for the same call.

use std::collections::BTreeMap;
use std::future::{poll_fn, Future};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{watch, Notify};

use crate::contract::{Build, Clock, Counter, Effects, Life, Shared, Unknown};

/// When it is asked for, and for how long it is good.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// After which time it is got again.
    pub(crate) refresh: Duration,
    /// How long it is used when it cannot be got again.
    pub(crate) keep: Duration,
    /// How long an attempt may take.
    pub(crate) timeout: Duration,
}

/// What came, and how many others came before.
pub(crate) struct Current<T> {
    pub(crate) value: Arc<T>,
    pub(crate) number: u64,
}

impl<T> Clone for Current<T> {
    fn clone(&self) -> Current<T> {
        Current {
            value: self.value.clone(),
            number: self.number,
        }
    }
}

/// What came from one URL. Outlives reloads.
struct Place<T> {
    state: Mutex<State<T>>,
    /// How many attempts there were.
    attempts: watch::Sender<u64>,
    wanted: Notify,
}

struct State<T> {
    current: Option<Current<T>>,
    text: Vec<u8>,
    /// When it came last, and when it was asked for last.
    came: Duration,
    asked: Option<Duration>,
    /// Why the last attempt failed.
    failed: Option<String>,
}

/// By URL, so that a changed one begins anew.
type ByUrl<T> = Mutex<BTreeMap<String, Arc<Place<T>>>>;

/// Something that is published.
pub(crate) struct Fetched<T> {
    place: Arc<Place<T>>,
    /// Only what a dry run may see.
    shared: Shared<ByUrl<T>>,
    about: String,
    pace: Pace,
    clock: Clock,
    got: Counter,
    failed: Counter,
}

impl<T: Send + Sync + 'static> Fetched<T> {
    /// What is found at `url` by this instance. `what` names it in dry runs; the events count attempts.
    pub(crate) fn of(
        (what, url): (&'static str, &str),
        about: &str,
        pace: Pace,
        (got, failed): (&'static str, &'static str),
        build: &Build<'_>,
    ) -> Option<Fetched<T>> {
        let shared = build.shared(what, ByUrl::<T>::default);
        // Building changes nothing that traffic has: a new URL gets a place of its own, which is forgotten if nobody takes it.
        let place = |all: &ByUrl<T>| {
            let mut all = lock(all);
            all.retain(|_, one| Arc::strong_count(one) > 1);
            all.entry(url.to_owned())
                .or_insert_with(|| Arc::new(Place::new()))
                .clone()
        };
        Some(Fetched {
            place: shared.with(Effects::Live, place).ok()?,
            shared,
            about: about.to_owned(),
            pace,
            clock: build.clock.clone(),
            got: build.counter(got),
            failed: build.counter(failed),
        })
    }

    /// What may be used now; nothing where nothing came, or too long ago.
    pub(crate) fn current(&self, effects: Effects) -> Result<Option<Current<T>>, Unknown> {
        self.shared.peek(effects, |_| ())?;
        let state = lock(&self.place.state);
        let is_kept = self.clock.elapsed() < state.came + self.pace.keep;
        Ok(state.current.clone().filter(|_| is_kept))
    }

    /// As [`Fetched::current`], of traffic, which waits for an attempt where there is nothing.
    pub(crate) async fn wanted(&self, effects: Effects) -> Result<Option<Current<T>>, Unknown> {
        let current = self.current(effects)?;
        match current.is_none() && effects.is_live() && self.again().await {
            true => self.current(effects),
            false => Ok(current),
        }
    }

    /// Waits for the next attempt, which is made at once unless there was one lately. Whether there was an attempt.
    pub(crate) async fn again(&self) -> bool {
        let mut attempts = self.place.attempts.subscribe();
        attempts.borrow_and_update();
        let lately = {
            let state = lock(&self.place.state);
            let since = state
                .asked
                .map(|asked| self.clock.elapsed().saturating_sub(asked));
            let is_there = state.current.is_some();
            since.is_some_and(|since| since < if is_there { COOL } else { FIRST_PAUSE })
        };
        if lately {
            return false;
        }
        self.place.wanted.notify_one();
        let came = attempts.changed();
        match self.clock {
            // The task may be gone for a moment, such as in a reload.
            Clock::System => tokio::time::timeout(self.pace.timeout * 2, came)
                .await
                .is_ok(),
            Clock::Fake(_) => came.await.is_ok(),
        }
    }

    /// Why there is nothing.
    pub(crate) fn reason(&self) -> String {
        let state = lock(&self.place.state);
        let why = state.failed.as_deref().unwrap_or("did not answer yet");
        format!("{} {why}", self.about)
    }

    /// The task: gets it now and then. `get` brings the text as it came, which tells whether it is another one, and what it means.
    pub(crate) async fn run<W>(&self, life: Life, get: impl Fn() -> W)
    where
        W: Future<Output = Result<(Vec<u8>, T), String>>,
    {
        let mut pause = FIRST_PAUSE;
        while !life.is_over() {
            let outcome = get().await;
            let rest = match self.take(outcome) {
                true => {
                    pause = FIRST_PAUSE;
                    self.pace.refresh
                }
                false => {
                    let rest = pause;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    rest
                }
            };
            if !self.rest(&life, rest).await {
                return;
            }
        }
    }

    /// Rests, unless somebody wants it. `false` when the task shall end.
    async fn rest(&self, life: &Life, time: Duration) -> bool {
        let mut rest = pin!(life.rest(time));
        // Who asked while the last attempt was under way has its answer: after it nobody may ask for a while.
        self.place.wanted.notify_one();
        self.place.wanted.notified().await;
        let mut wanted = pin!(self.place.wanted.notified());
        poll_fn(|cx| match rest.as_mut().poll(cx) {
            Poll::Ready(goes_on) => Poll::Ready(goes_on),
            Poll::Pending => wanted.as_mut().poll(cx).map(|()| true),
        })
        .await
    }

    /// Notes what came of an attempt; what was there stays when it failed.
    fn take(&self, outcome: Result<(Vec<u8>, T), String>) -> bool {
        let now = self.clock.elapsed();
        let is_right = outcome.is_ok();
        {
            let mut state = lock(&self.place.state);
            state.asked = Some(now);
            match outcome {
                Ok((text, value)) => {
                    state.came = now;
                    state.failed = None;
                    if state.current.is_none() || state.text != text {
                        let number = state.current.as_ref().map_or(0, |it| it.number) + 1;
                        let value = Arc::new(value);
                        state.current = Some(Current { value, number });
                        state.text = text;
                    }
                }
                Err(why) => state.failed = Some(why),
            }
        }
        self.place.attempts.send_modify(|attempts| *attempts += 1);
        match is_right {
            true => (self.got)(1),
            false => (self.failed)(1),
        }
        is_right
    }
}

impl<T> Place<T> {
    fn new() -> Place<T> {
        Place {
            state: Mutex::new(State {
                current: None,
                text: Vec::new(),
                came: Duration::ZERO,
                asked: None,
                failed: None,
            }),
            attempts: watch::channel(0).0,
            wanted: Notify::new(),
        }
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Between two attempts that requests want though something is there: anybody can make such requests.
const COOL: Duration = Duration::from_secs(30);
