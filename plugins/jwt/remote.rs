//! An issuer's keys by URL: got beside the traffic, kept while the issuer fails, asked for again when a token names another one.
//! It must not know tokens.
//! Its task is the only one that asks the issuer; requests that need keys wait for what it brings, all for the same call.

use std::collections::BTreeMap;
use std::future::{poll_fn, Future};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::{watch, Notify};

use crate::contract::{
    Build, Caller, Clock, Counter, Effects, Life, Origin, Problem, Shared, Target, Time, Unknown,
};
use crate::json;
use crate::keys::KeySet;

/// Keys by URL.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwks {
    /// Where the set of keys is: a URL, or `{url: …, pool: …}`. Exactly one of `url` and `discovery`. Default: none.
    #[serde(default)]
    pub url: Option<Target>,
    /// Where the issuer describes itself (OpenID Connect Discovery), such as
    /// `https://id.example.com/.well-known/openid-configuration`. Its `issuer` has to be one of the plugin's, and its `jwks_uri`
    /// at the same scheme, host and port; where it is not, name it by `url`. Default: none.
    #[serde(default)]
    pub discovery: Option<Target>,
    /// After which time keys are got again, from `10s` to `1d`. A token whose `kid` is not known has them got at once, but not
    /// more often than every 30 s; such requests wait for it. After a failure they are got again in 1 s, and later in up to 60 s.
    /// Default: `10m`.
    #[serde(default = "ten_minutes")]
    pub refresh: Time,
    /// How long keys are used on when they cannot be got again, at least as long as `refresh`. After it, and before they came at
    /// first, the plugin fails with `auth.keys_unavailable`, and `on_error` says what becomes of requests. Default: `1d`.
    #[serde(default = "one_day")]
    pub keep: Time,
    /// How long a call for keys may take, from `100ms` to `30s`. Default: `5s`.
    #[serde(default = "five_seconds")]
    pub timeout: Time,
}

fn ten_minutes() -> Time {
    Time::secs(600)
}

fn one_day() -> Time {
    Time::secs(86_400)
}

fn five_seconds() -> Time {
    Time::secs(5)
}

/// A set of keys, and which one of those that came.
#[derive(Clone)]
pub(super) struct Keys {
    pub(super) set: Arc<KeySet>,
    pub(super) number: u64,
}

/// What came from one URL. Outlives reloads.
struct Fetched {
    state: Mutex<State>,
    /// How many attempts there were.
    attempts: watch::Sender<u64>,
    wanted: Notify,
}

#[derive(Default)]
struct State {
    keys: Option<Keys>,
    text: Vec<u8>,
    /// When keys came last, and when they were asked for last.
    came: Duration,
    asked: Option<Duration>,
    /// Why the last attempt failed.
    failed: Option<String>,
}

/// By URL, so that a changed one begins anew.
type ByUrl = Mutex<BTreeMap<String, Arc<Fetched>>>;

/// The keys of an issuer.
pub(super) struct Remote {
    fetched: Arc<Fetched>,
    /// Only what a dry run may see.
    shared: Shared<ByUrl>,
    caller: Caller,
    origin: Origin,
    is_discovery: bool,
    issuers: Vec<String>,
    refresh: Duration,
    keep: Duration,
    timeout: Duration,
    clock: Clock,
    got: Counter,
    failed: Counter,
}

impl Remote {
    pub(super) fn of(
        settings: &Jwks,
        issuers: &[String],
        build: &Build<'_>,
        problems: &mut Vec<Problem>,
    ) -> Option<Remote> {
        settings.bounds(problems);
        let (below, target, is_discovery) = match (&settings.url, &settings.discovery) {
            (Some(url), None) => ("jwks.url", url, false),
            (None, Some(discovery)) => ("jwks.discovery", discovery, true),
            (None, None) | (Some(_), Some(_)) => {
                let problem = Problem::at("jwks", "gives not exactly one of `url` and `discovery`");
                problems.push(problem.help("`url` is the set of keys, `discovery` what names it"));
                return None;
            }
        };
        let caller = build.caller(below, target);
        let caller = caller.map_err(|problem| problems.push(problem)).ok()?;
        let origin = target.origin(below).ok()?;
        let shared = build.shared("the issuer's keys", ByUrl::default);
        let name = format!("{below} {}", caller.about());
        // Building changes nothing that traffic has: a new URL gets a place of its own, which is forgotten if nobody takes it.
        let place = |all: &ByUrl| {
            let mut all = lock(all);
            all.retain(|_, one| Arc::strong_count(one) > 1);
            all.entry(name)
                .or_insert_with(|| Arc::new(Fetched::new()))
                .clone()
        };
        Some(Remote {
            fetched: shared.with(Effects::Live, place).ok()?,
            shared,
            caller,
            origin,
            is_discovery,
            issuers: issuers.to_vec(),
            refresh: settings.refresh.0,
            keep: settings.keep.0,
            timeout: settings.timeout.0,
            clock: build.clock.clone(),
            got: build.counter("keys_got"),
            failed: build.counter("keys_failed"),
        })
    }

    /// The keys that may be used now; none where there are none.
    pub(super) fn keys(&self, effects: Effects) -> Result<Option<Keys>, Unknown> {
        self.shared.peek(effects, |_| ())?;
        let state = lock(&self.fetched.state);
        let is_kept = self.clock.elapsed() < state.came + self.keep;
        Ok(state.keys.clone().filter(|_| is_kept))
    }

    /// Waits for the next attempt, which is made at once unless there was one lately. Whether there was an attempt.
    pub(super) async fn again(&self) -> bool {
        let mut attempts = self.fetched.attempts.subscribe();
        attempts.borrow_and_update();
        let lately = {
            let state = lock(&self.fetched.state);
            let since = state
                .asked
                .map(|asked| self.clock.elapsed().saturating_sub(asked));
            let has_keys = state.keys.is_some();
            since.is_some_and(|since| since < if has_keys { COOL } else { FIRST_PAUSE })
        };
        if lately {
            return false;
        }
        self.fetched.wanted.notify_one();
        let came = attempts.changed();
        match self.clock {
            // The task may be gone for a moment, such as in a reload.
            Clock::System => tokio::time::timeout(self.timeout * 2, came).await.is_ok(),
            Clock::Fake(_) => came.await.is_ok(),
        }
    }

    /// Why there are no keys.
    pub(super) fn reason(&self) -> String {
        let state = lock(&self.fetched.state);
        let why = state.failed.as_deref().unwrap_or("did not answer yet");
        format!("{} {why}", self.caller.about())
    }

    /// The task: gets keys now and then.
    pub(super) async fn run(self: Arc<Remote>, life: Life) {
        let mut pause = FIRST_PAUSE;
        while !life.is_over() {
            let outcome = self.get().await;
            let rest = match self.take(outcome) {
                true => {
                    pause = FIRST_PAUSE;
                    self.refresh
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

    /// Rests, unless somebody wants keys. `false` when the task shall end.
    async fn rest(&self, life: &Life, time: Duration) -> bool {
        let mut rest = pin!(life.rest(time));
        // Who asked while the last attempt was under way has its answer: after it nobody may ask for a while.
        self.fetched.wanted.notify_one();
        self.fetched.wanted.notified().await;
        let mut wanted = pin!(self.fetched.wanted.notified());
        poll_fn(|cx| match rest.as_mut().poll(cx) {
            Poll::Ready(goes_on) => Poll::Ready(goes_on),
            Poll::Pending => wanted.as_mut().poll(cx).map(|()| true),
        })
        .await
    }

    /// Notes what came of an attempt; keys that were there stay when it failed.
    fn take(&self, outcome: Result<(Vec<u8>, KeySet), String>) -> bool {
        let now = self.clock.elapsed();
        let is_right = outcome.is_ok();
        {
            let mut state = lock(&self.fetched.state);
            state.asked = Some(now);
            match outcome {
                Ok((text, set)) => {
                    state.came = now;
                    state.failed = None;
                    if state.keys.is_none() || state.text != text {
                        let number = state.keys.as_ref().map_or(0, |keys| keys.number) + 1;
                        let set = Arc::new(set);
                        state.keys = Some(Keys { set, number });
                        state.text = text;
                    }
                }
                Err(why) => state.failed = Some(why),
            }
        }
        self.fetched.attempts.send_modify(|attempts| *attempts += 1);
        match is_right {
            true => (self.got)(1),
            false => (self.failed)(1),
        }
        is_right
    }

    async fn get(&self) -> Result<(Vec<u8>, KeySet), String> {
        let path = match self.is_discovery {
            true => self.discovered().await?,
            false => self.caller.path().to_owned(),
        };
        let text = self.ask(path).await?;
        let set =
            KeySet::jwks(&text).map_err(|why| format!("gave keys that cannot be used: {why}"))?;
        if set.holds_secrets() {
            return Err("gave secrets, which nobody publishes".to_owned());
        }
        Ok((text, set))
    }

    /// Where the issuer says that its keys are.
    async fn discovered(&self) -> Result<String, String> {
        let text = self.ask(self.caller.path().to_owned()).await?;
        let said = json::strict_object(&text)
            .map_err(|error| format!("did not describe itself: {error}"))?;
        let issuer = said.get("issuer").and_then(|issuer| issuer.as_str());
        let is_ours = |issuer: &str| self.issuers.iter().any(|one| one == issuer);
        if !self.issuers.is_empty() && !issuer.is_some_and(is_ours) {
            return Err("describes another issuer".to_owned());
        }
        let uri = said.get("jwks_uri").and_then(|uri| uri.as_str());
        let target = uri.map(|url| Target {
            url: url.to_owned(),
            pool: None,
        });
        let origin = target.and_then(|target| target.origin("").ok());
        let origin = origin.ok_or("does not say where its keys are")?;
        match origin.name() == self.origin.name() {
            true => Ok(origin.path),
            false => Err("has its keys at another origin: name it by `jwks.url`".to_owned()),
        }
    }

    async fn ask(&self, path: String) -> Result<Vec<u8>, String> {
        let call = self
            .caller
            .get()
            .at(path)
            .within(self.timeout)
            .at_most(MOST_BYTES);
        let reply = self.caller.call(Effects::Live, call).await;
        let reply = reply.map_err(|failure| failure.to_string())?;
        match reply.status {
            200 => Ok(reply.body.to_vec()),
            status => Err(format!("answered {status}")),
        }
    }
}

impl Fetched {
    fn new() -> Fetched {
        Fetched {
            state: Mutex::default(),
            attempts: watch::channel(0).0,
            wanted: Notify::new(),
        }
    }
}

impl Jwks {
    fn bounds(&self, problems: &mut Vec<Problem>) {
        let day = Duration::from_secs(86_400);
        if self.refresh.0 < Duration::from_secs(10) || self.refresh.0 > day {
            let fact = format!("must be from 10s to 1d, found {}", self.refresh);
            problems.push(Problem::at("jwks.refresh", fact));
        }
        if self.keep.0 < self.refresh.0 {
            let fact = format!("{} is shorter than `refresh`", self.keep);
            let problem = Problem::at("jwks.keep", fact);
            problems.push(problem.help("keys would be gone before they are got again"));
        }
        if self.timeout.0 < Duration::from_millis(100) || self.timeout.0 > Duration::from_secs(30) {
            let fact = format!("must be from 100ms to 30s, found {}", self.timeout);
            problems.push(Problem::at("jwks.timeout", fact));
        }
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Between two attempts for tokens whose key is not known: anybody can send those.
const COOL: Duration = Duration::from_secs(30);
const MOST_BYTES: usize = 512 * 1024;
