//! Asks an Open Policy Agent, or what answers like its data API, whether a request may go on.
//! It must not judge anything itself; the policy's word is taken as it is, and no word is not one.
//! Called by the chain of a listener or route that names it.

mod decision;
mod input;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::authorization::judge_timeout;
use crate::cached::{Cached, Given, Key, Kind};
use crate::contract::{
    Blame, Build, CallFailure, Caller, Cause, Clock, Counter, Hooks, Plugin, PluginDef, Problem,
    Request, Safety, Shared, Side, Target, Time, Verdict,
};
use crate::granted::{Granted, Names};
use decision::Decision;

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// The policy said no.
pub static DENIED: Cause = Cause {
    name: "policy_denied.opa",
    blame: Blame::Policy,
    status: 403,
    title: "Forbidden",
    explanation: "The policy that an `opa` plugin asks refused the request, with the status and body it chose.",
    next_step: "Look for the decision in the policy agent's decision log, or ask it with the same input.",
};

/// The policy has no word for the request.
pub static UNDEFINED: Cause = Cause {
    name: "opa.undefined",
    blame: Blame::Dependency,
    status: 500,
    title: "Internal server error",
    explanation: "The policy agent answered without a result: nothing is defined at the path of the plugin's `service`, or the rule has no value for this request.",
    next_step: "Compare the URL with the policy's package and rule (`/v1/data/PACKAGE/RULE`), see that the bundle is loaded, and give the rule a `default`.",
};

/// The policy agent said nothing that can be used.
pub static UNAVAILABLE: Cause = Cause {
    name: "opa.unavailable",
    blame: Blame::Dependency,
    status: 503,
    title: "Service unavailable",
    explanation: "The policy agent could not be reached, did not answer in time, answered with another status than 200, or with a result that is no decision. Nobody said no.",
    next_step: "The error log says which; look at the agent, and at its pool in /pools on the admin address.",
};

/// Settings of `opa`. The agent gets `{"input": ...}` with `method`, `scheme`, `host`, `path` (canonical), `parsed_path` (its segments,
/// decoded), `query` (a list of values for each parameter, decoded), `headers` (those of `headers`, a list of values for each),
/// `client` (`address`), `principal` (`id`, `kind` and `name`, or null), `listener` and `route`; bytes that are no UTF-8 are replaced.
/// Its result is `true`, `false`, or an object with `allow`, and where it is wanted `headers` (for the service behind the proxy when
/// it allows, for the client when it refuses), `status` (300 to 599) and `body` (text) of a refusal.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The decision's URL in the data API, such as `http://127.0.0.1:8181/v1/data/http/authz/allow`, or `{url: ..., pool: ...}`.
    pub service: Target,
    /// Time for the whole answer. Default: 2s, at most 60s.
    #[serde(default = "two_seconds")]
    pub timeout: Time,
    /// Fields of the request that the policy sees; a name that ends in `*` stands for all that begin with it. At most 64. Default:
    /// none. What it sees may stand in its decision log.
    #[serde(default)]
    pub headers: Vec<String>,
    /// Fields that the policy may give the service behind the proxy by `headers`, at most 16 KiB of them; others in its answer make
    /// the answer unusable. What a client sends under these names is removed. Default: none.
    #[serde(default)]
    pub request_headers: Vec<String>,
    /// Fields that the policy may give the client by `headers` when it refuses. Default: `[location, www-authenticate, retry-after]`.
    #[serde(default = "of_refusals")]
    pub response_headers: Vec<String>,
    /// How long a decision holds for requests with the same input. Default: 0s, each request is asked for; at most 1h. For policies
    /// that look at nothing else, such as the time.
    #[serde(default = "none")]
    pub cache: Time,
    /// Decisions that are kept; the oldest goes first. So many that allow, and so many that refuse. Default: 10000, at most 1000000.
    #[serde(default = "ten_thousand")]
    pub cache_size: usize,
}

fn two_seconds() -> Time {
    Time::secs(2)
}

fn none() -> Time {
    Time::secs(0)
}

fn of_refusals() -> Vec<String> {
    ["location", "www-authenticate", "retry-after"]
        .map(str::to_owned)
        .into()
}

fn ten_thousand() -> usize {
    10_000
}

impl Plugin for Config {
    const KIND: &'static str = "opa";
    const ABOUT: &'static str = "ask an Open Policy Agent";
    const EXAMPLE: &'static str = "service: http://127.0.0.1:8181/v1/data/http/authz
headers: [authorization]
request_headers: [x-user]";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[&DENIED, &UNDEFINED, &UNAVAILABLE];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let gate = Arc::new(Gate::of(&self, build)?);
        let hooks = gate.granted.clone().attach(Hooks::new(), None);
        Ok(hooks.on_request_async(move |request| {
            let gate = gate.clone();
            Box::pin(async move { gate.check(request).await })
        }))
    }
}

type Decisions = Arc<Cached<Arc<Decision>, CallFailure>>;

struct Gate {
    caller: Caller,
    timeout: Time,
    headers: Names,
    granted: Granted,
    request_headers: Names,
    response_headers: Names,
    cache: Time,
    cache_size: usize,
    decisions: Shared<Decisions>,
    clock: Clock,
    denied: Counter,
}

impl Gate {
    fn of(config: &Config, build: &Build<'_>) -> Result<Gate, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut names =
            |side, path: &str, names: &[String]| Names::of(side, path, names, &mut problems);
        let headers = names(Side::Request, "headers", &config.headers);
        let request_headers = names(Side::Response, "request_headers", &config.request_headers);
        let response_headers = names(Side::Response, "response_headers", &config.response_headers);
        bounds(config, &mut problems);
        let caller = build.caller("service", &config.service);
        let caller = caller.map_err(|problem| problems.push(problem));
        let (Ok(caller), true) = (caller, problems.is_empty()) else {
            return Err(problems);
        };
        Ok(Gate {
            caller,
            timeout: config.timeout,
            headers,
            granted: Granted::new(request_headers.clone(), build.slot()),
            request_headers,
            response_headers,
            cache: config.cache,
            cache_size: config.cache_size,
            decisions: build.shared("the decisions that are kept", Decisions::default),
            clock: build.clock.clone(),
            denied: build.counter("denied"),
        })
    }

    async fn check(&self, request: &mut Request<'_>) -> Verdict {
        // The policy sees what the client sent; what it may not say is gone before anything can go wrong.
        let input = input::of(request, &self.headers);
        self.granted.strip(request);
        let decision = match self.decision(input, request).await {
            Ok(decision) => decision,
            Err(failure) => return self.caller.failed(failure, &UNAVAILABLE),
        };
        match &*decision {
            Decision::Undefined => Verdict::Failed {
                cause: &UNDEFINED,
                reason: format!("{} answered without a result", self.caller.about()),
            },
            Decision::Allow(fields) => match fields
                .iter()
                .find(|(name, _)| !self.request_headers.has(name))
            {
                None => {
                    self.granted.grant(request, fields.clone());
                    Verdict::Continue
                }
                Some((name, _)) => self.unnamed(name, "request_headers"),
            },
            Decision::Deny(refusal) => {
                let mut names = refusal.headers.iter();
                if let Some((name, _)) = names.find(|(name, _)| !self.response_headers.has(name)) {
                    return self.unnamed(name, "response_headers");
                }
                if request.effects.is_live() {
                    (self.denied)(1);
                }
                refusal.answer().into()
            }
        }
    }

    /// The policy says what nobody expects of it: to leave that out could let more through than was meant.
    fn unnamed(&self, name: &http::HeaderName, setting: &str) -> Verdict {
        Verdict::Failed {
            cause: &UNAVAILABLE,
            reason: format!(
                "{} sets the field {name}, which `{setting}` does not name",
                self.caller.about()
            ),
        }
    }

    /// What the policy says, or said not long ago of the same.
    async fn decision(
        &self,
        input: String,
        request: &Request<'_>,
    ) -> Result<Arc<Decision>, CallFailure> {
        let effects = request.effects;
        let decisions = self.decisions.with(effects, Decisions::clone);
        let decisions = decisions.ok().filter(|_| self.cache > none());
        let kept = decisions.map(|decisions| (decisions, self.key(&input)));
        let call = self.caller.post("application/json", input).repeatable();
        let call = call.within(self.timeout.0).at_most(LARGEST).of(request);
        let ask = || async {
            let reply = self.caller.call(effects, call).await?;
            let decision = Decision::of(&reply).map_err(CallFailure::Broken)?;
            let (kind, holds) = match decision {
                Decision::Allow(_) => (Kind::Good, self.cache.0),
                Decision::Deny(_) => (Kind::Bad, self.cache.0),
                // Somebody is about to repair it.
                Decision::Undefined => (Kind::Bad, Time::secs(0).0),
            };
            Ok(Given {
                value: Arc::new(decision),
                kind,
                holds,
            })
        };
        match kept {
            None => ask().await.map(|given| given.value),
            Some((decisions, key)) => decisions.get(key, &self.clock, self.cache_size, ask).await,
        }
    }

    /// What a decision is kept by: all that is told.
    fn key(&self, input: &str) -> Key {
        let mut hash = Sha256::new();
        for part in [self.caller.about(), self.caller.path(), input] {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

fn bounds(config: &Config, problems: &mut Vec<Problem>) {
    judge_timeout(config.timeout, "2s", problems);
    if config.cache > Time::secs(3600) {
        let fact = format!("must be at most 1h, found {}", config.cache);
        let remedy = "what a policy changes would not be seen for so long";
        problems.push(Problem::at("cache", fact).help(remedy));
    }
    if !(1..=1_000_000).contains(&config.cache_size) {
        let fact = format!("must be from 1 to 1000000, found {}", config.cache_size);
        problems.push(Problem::at("cache_size", fact).help("to keep nothing leave `cache` out"));
    }
}

/// Bytes of an answer.
const LARGEST: usize = 256 << 10;
