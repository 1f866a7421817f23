//! An issuer's keys by URL: got beside the traffic, kept while the issuer fails, asked for again when a token names another one.
//! It must not know tokens.
//! Used by plugins that verify tokens of an issuer; `fetched` says when it is asked.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{Build, Caller, Effects, Life, Origin, Problem, Target, Time, Unknown};
use crate::fetched::{Current, Fetched, Pace};
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
pub(crate) type Keys = Current<KeySet>;

/// The keys of an issuer.
pub(crate) struct Remote {
    fetched: Fetched<KeySet>,
    caller: Caller,
    origin: Origin,
    is_discovery: bool,
    issuers: Vec<String>,
    timeout: Duration,
}

impl Remote {
    pub(crate) fn of(
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
        let pace = Pace {
            refresh: settings.refresh.0,
            keep: settings.keep.0,
            timeout: settings.timeout.0,
        };
        let url = format!("{below} {}", caller.about());
        let events = ("keys_got", "keys_failed");
        let what = ("the issuer's keys", &*url);
        Some(Remote {
            fetched: Fetched::of(what, caller.about(), pace, events, build)?,
            origin: target.origin(below).ok()?,
            caller,
            is_discovery,
            issuers: issuers.to_vec(),
            timeout: settings.timeout.0,
        })
    }

    /// The keys that may be used now, waited for where there are none yet.
    pub(crate) async fn keys(&self, effects: Effects) -> Result<Option<Keys>, Unknown> {
        self.fetched.wanted(effects).await
    }

    /// The keys after another attempt, for a token whose key is not known; nothing where there was none.
    pub(crate) async fn newer(&self, effects: Effects) -> Option<Keys> {
        match effects.is_live() && self.fetched.again().await {
            true => self.fetched.current(effects).ok()?,
            false => None,
        }
    }

    /// Why there are no keys.
    pub(crate) fn reason(&self) -> String {
        self.fetched.reason()
    }

    /// The task: gets keys now and then.
    pub(crate) async fn run(self: Arc<Remote>, life: Life) {
        self.fetched.run(life, || self.get()).await;
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

const MOST_BYTES: usize = 512 * 1024;
