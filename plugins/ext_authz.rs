//! Asks an authorization service by Envoy's gRPC protocol (`envoy.service.auth.v3.Authorization/Check`) whether a request may go on.
//! It must not judge anything itself; the service's word is taken as it is, and no word is not one.
//! Called by the chain of a listener or route that names it.

mod decision;
mod message;
mod question;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{
    Blame, Build, Caller, Cause, Clock, Counter, Hooks, Plugin, PluginDef, Problem, Request,
    Safety, Side, Size, Slot, Target, Time, Verdict,
};
use crate::granted::{Granted, Names};
use decision::Decision;
use question::Question;

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// The service said no.
pub static DENIED: Cause = Cause {
    name: "auth.ext_authz_denied",
    blame: Blame::Policy,
    status: 403,
    title: "Forbidden",
    explanation: "The authorization service that an `ext_authz` plugin asks denied the request, with the status and body it chose.",
    next_step: "Look for the request's `x-request-id` in the log of the authorization service: it got the same one.",
};

/// The service said nothing that can be used.
pub static UNAVAILABLE: Cause = Cause {
    name: "auth.ext_authz_unavailable",
    blame: Blame::Dependency,
    status: 503,
    title: "Service unavailable",
    explanation: "The authorization service that an `ext_authz` plugin asks could not be reached, did not answer in time, answered with a gRPC error, or with something that is no decision. Nobody said no.",
    next_step: "The error log says which; look at the service, and at its pool in /pools on the admin address.",
};

/// Settings of `ext_authz`. The service gets the caller's address and principal, the request's id, time, method, scheme, host, target
/// (canonical, with its query), protocol and size, and no body. Of its answer `status`, `denied_response` and `ok_response` count, without
/// changes of the query, which make it unusable; fields are added in the order given, whatever `append_action` says, and metadata is left.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Whom to ask: `h2c://host:port` for HTTP/2 in the clear, `https://host`, or `{url: ..., pool: ...}` with a pool that speaks
    /// HTTP/2. The path is the protocol's.
    pub service: Target,
    /// Time for the whole answer. Default: 1s, at most 60s.
    #[serde(default = "a_second")]
    pub timeout: Time,
    /// Fields of the request that the service gets; a name that ends in `*` stands for all that begin with it. At most 64.
    /// Default: `[authorization, cookie]`. What it gets it must be trusted with.
    #[serde(default = "credentials")]
    pub send: Vec<String>,
    /// Texts that the service gets as `context_extensions`, such as the name of a policy. At most 64. Default: none.
    #[serde(default)]
    pub context: BTreeMap<String, String>,
    /// Fields that the service may give the service behind the proxy, at most 16 KiB of them; others make its answer unusable. What a
    /// client sends under these names is removed. Default: none.
    #[serde(default)]
    pub request_headers: Vec<String>,
    /// Fields that the service may add to the response to the client. Default: `[set-cookie]`.
    #[serde(default = "cookies")]
    pub response_headers: Vec<String>,
    /// Fields that the service may give the client when it denies. Default: `[location, set-cookie, www-authenticate, cache-control,
    /// retry-after, content-type]`.
    #[serde(default = "answers")]
    pub answer_headers: Vec<String>,
    /// The longest answer of the service. Default: 64KiB, at most 1MiB.
    #[serde(default = "small")]
    pub answer_limit: Size,
}

fn a_second() -> Time {
    Time::secs(1)
}

fn credentials() -> Vec<String> {
    ["authorization", "cookie"].map(str::to_owned).into()
}

fn cookies() -> Vec<String> {
    vec!["set-cookie".to_owned()]
}

fn answers() -> Vec<String> {
    let names = [
        "location",
        "set-cookie",
        "www-authenticate",
        "cache-control",
        "retry-after",
        "content-type",
    ];
    names.map(str::to_owned).into()
}

fn small() -> Size {
    Size(64 << 10)
}

type Fields = Vec<(HeaderName, HeaderValue)>;

impl Plugin for Config {
    const KIND: &'static str = "ext_authz";
    const ABOUT: &'static str = "ask an authorization service by Envoy's gRPC protocol";
    const EXAMPLE: &'static str = "service: h2c://127.0.0.1:9191
request_headers: [x-user]
context: {policy: orders}";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[&DENIED, &UNAVAILABLE];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let gate = Arc::new(Gate::of(&self, build)?);
        let (added, removed) = (gate.added, gate.removed);
        let granted = gate.granted.clone();
        Ok(Hooks::new()
            .on_request_async(move |request| {
                let gate = gate.clone();
                Box::pin(async move { gate.check(request).await })
            })
            .on_upstream_request(move |request| {
                for name in request.slots.value(removed).into_iter().flatten() {
                    request.head.remove_header(name);
                }
                granted.apply(request);
                Verdict::Continue
            })
            .on_response(move |response| {
                for (name, value) in response.slots.value(added).into_iter().flatten() {
                    // A parsed name and value.
                    let _ = response.head.append_header(name.clone(), value.clone());
                }
                Verdict::Continue
            }))
    }
}

struct Gate {
    caller: Caller,
    question: Question,
    clock: Clock,
    granted: Granted,
    request_headers: Names,
    response_headers: Names,
    answer_headers: Names,
    /// For the response to the client.
    added: Slot<Fields>,
    /// Not for the service behind the proxy.
    removed: Slot<Vec<HeaderName>>,
    denied: Counter,
}

impl Gate {
    fn of(config: &Config, build: &Build<'_>) -> Result<Gate, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut names =
            |side, path: &str, names: &[String]| Names::of(side, path, names, &mut problems);
        let send = names(Side::Request, "send", &config.send);
        let request_headers = names(Side::Response, "request_headers", &config.request_headers);
        let response_headers = names(Side::Response, "response_headers", &config.response_headers);
        let answer_headers = names(Side::Response, "answer_headers", &config.answer_headers);
        bounds(config, &mut problems);
        let caller = build.caller("service", &config.service);
        let caller = caller.map_err(|problem| problems.push(problem));
        let origin = config.service.origin("service");
        if origin.is_ok_and(|origin| !origin.secure && !origin.http2) {
            let at = config.service.url_path("service");
            let problem = Problem::at(at, "gRPC needs HTTP/2, and http:// is HTTP/1.1");
            problems.push(problem.help("write h2c:// for HTTP/2 in the clear, or https://"));
        }
        let (Ok(caller), true) = (caller, problems.is_empty()) else {
            return Err(problems);
        };
        Ok(Gate {
            question: Question {
                send,
                context: config.context.clone(),
                timeout: config.timeout.0,
                limit: usize::try_from(config.answer_limit.0).unwrap_or(usize::MAX),
            },
            caller,
            clock: build.clock.clone(),
            granted: Granted::new(request_headers.clone(), build.slot()),
            request_headers,
            response_headers,
            answer_headers,
            added: build.slot(),
            removed: build.slot(),
            denied: build.counter("denied"),
        })
    }

    async fn check(&self, request: &mut Request<'_>) -> Verdict {
        // The question tells what the client sent; what it may not say is gone before anything can go wrong.
        let call = self.question.of(&self.caller, &self.clock, request);
        self.granted.strip(request);
        let reply = match self.caller.call(request.effects, call).await {
            Ok(reply) => reply,
            Err(failure) => return self.caller.failed(failure, &UNAVAILABLE),
        };
        let decided = Decision::of(&reply).and_then(|decision| self.within(decision));
        match decided {
            Err(why) => Verdict::Failed {
                cause: &UNAVAILABLE,
                reason: format!("{} {why}", self.caller.about()),
            },
            Ok(Decision::Deny(answer)) => {
                (self.denied)(1);
                Verdict::Answer(answer)
            }
            Ok(Decision::Allow(allowed)) => {
                for name in &allowed.removed {
                    request.head.remove_header(name);
                }
                request.slots.put(self.removed, allowed.removed);
                request.slots.put(self.added, allowed.added);
                self.granted.grant(request, allowed.granted);
                Verdict::Continue
            }
        }
    }

    /// Whether the service sets only what it may: to leave the rest out could let more through than it meant.
    fn within(&self, decision: Decision) -> Result<Decision, String> {
        let unnamed = |fields: &Fields, names: &Names, setting: &str| {
            let mut fields = fields.iter();
            match fields.find(|(name, _)| !names.has(name)) {
                None => Ok(()),
                Some((name, _)) => Err(format!(
                    "sets the field {name}, which `{setting}` does not name"
                )),
            }
        };
        match &decision {
            Decision::Allow(allowed) => {
                unnamed(&allowed.granted, &self.request_headers, "request_headers")?;
                unnamed(&allowed.added, &self.response_headers, "response_headers")?;
            }
            Decision::Deny(answer) => {
                unnamed(&answer.headers, &self.answer_headers, "answer_headers")?;
            }
        }
        Ok(decision)
    }
}

fn bounds(config: &Config, problems: &mut Vec<Problem>) {
    let time = config.timeout;
    if time > Time::secs(60) || time < Time::millis(1) {
        let fact = format!("must be from 1ms to 60s, found {time}");
        problems.push(Problem::at("timeout", fact).help("leave it out for 1s"));
    }
    if config.answer_limit > Size(1 << 20) {
        let fact = format!("must be at most 1MiB, found {}", config.answer_limit);
        problems.push(Problem::at("answer_limit", fact).help("leave it out for 64KiB"));
    }
    let size: usize = config
        .context
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if config.context.len() > 64 || size > 16 << 10 {
        let fact = format!(
            "has {} texts with {size} bytes, more than 64 or 16 KiB",
            config.context.len()
        );
        problems.push(Problem::at("context", fact).help("send less with every request"));
    }
}
