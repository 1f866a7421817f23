//! Asks an authorization service by Envoy's gRPC protocol (`envoy.service.auth.v3.Authorization/Check`) whether a request may go on.
//! It must not judge anything itself; the service's word is taken as it is, and no word is not one.
//! Called by the chain of a listener or route that names it.

mod decision;
mod message;
mod metadata;
mod question;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::authorization::{self, judge_answer, judge_timeout, WithBody};
use crate::contract::{
    Blame, Build, Caller, Cause, Clock, Counter, Hooks, Plugin, PluginDef, Principal, Problem,
    Request, Safety, Side, Size, Slot, Target, Time, Verdict,
};
use crate::granted::{Granted, Names};
use decision::{Changes, Decision};
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

/// The body is larger than the service may get.
pub static TOO_LARGE: Cause = Cause {
    name: "auth.ext_authz_too_large",
    blame: Blame::Client,
    status: 413,
    title: "Content too large",
    explanation: "The request's body is larger than `with_request_body.max_bytes` of an `ext_authz` plugin, which lets nobody look at a part of it.",
    next_step: "Send less, raise `max_bytes`, or set `allow_partial`; the route's `body_limit` and `limits.held_bodies` bound it as well.",
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
/// (canonical, with its query), protocol and size, and its body where `with_request_body` says so. Of its answer count `status` (its code,
/// not its message), `denied_response` (`status`, `headers`, `body`), `ok_response` (`headers`, `headers_to_remove`, `response_headers_to_add`,
/// `query_parameters_to_set`, `query_parameters_to_remove`) and `dynamic_metadata` where `principal` is set. Fields are added in the order given,
/// whatever `append` and `append_action` say; parameters are set first and removed then. Not read: `dynamic_metadata` without `principal`,
/// the one inside of `ok_response`, and what newer versions of the protocol add. Not sent: `destination`, `metadata_context`,
/// `route_metadata_context`, `tls_session`, `header_map`, the source's port, service, labels and certificate.
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
    #[serde(default = "authorization::credentials")]
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
    /// Parameters of the query that the service may set or remove; others make its answer unusable. Default: none.
    #[serde(default)]
    pub query: Vec<String>,
    /// The member of `dynamic_metadata` that names the consumer, by the members around it, such as `[user, id]`: a text of at most 256
    /// printable characters. All of the metadata become the consumer's claims. Where it is missing nobody is proven. Default: none.
    #[serde(default)]
    pub principal: Option<Vec<String>>,
    /// Sends the request's body with the question. Not for requests that stream. Default: none.
    #[serde(default)]
    pub with_request_body: Option<WithBody>,
    /// Sends the body as `raw_body` also where it is UTF-8, as Envoy's `pack_as_bytes`. Only with `with_request_body`. Default: `false`, as
    /// `body` where it is UTF-8.
    #[serde(default)]
    pub as_bytes: bool,
    /// The longest answer of the service. Default: 64KiB, at most 1MiB.
    #[serde(default = "authorization::small")]
    pub answer_limit: Size,
}

fn a_second() -> Time {
    Time::secs(1)
}

fn cookies() -> Vec<String> {
    vec!["set-cookie".to_owned()]
}

fn answers() -> Vec<String> {
    let mut names = authorization::answers();
    names.push("content-type".to_owned());
    names
}

type Fields = Vec<(HeaderName, HeaderValue)>;

impl Plugin for Config {
    const KIND: &'static str = "ext_authz";
    const ABOUT: &'static str = "ask an authorization service by Envoy's gRPC protocol";
    const EXAMPLE: &'static str = "service: h2c://127.0.0.1:9191
request_headers: [x-user]
context: {policy: orders}";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[&DENIED, &TOO_LARGE, &UNAVAILABLE];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let gate = Arc::new(Gate::of(&self, build)?);
        let (added, removed) = (gate.added, gate.removed);
        let granted = gate.granted.clone();
        let hooks = match self.with_request_body {
            Some(body) => body.attach(Hooks::new(), &TOO_LARGE),
            None => Hooks::new(),
        };
        let hooks = granted.tell(hooks);
        let adds = !self.response_headers.is_empty();
        let hooks = hooks
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
            });
        if !adds {
            return Ok(hooks);
        }
        Ok(hooks.on_response(move |response| {
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
    /// Parameters that the service may change.
    query: Vec<String>,
    /// Where its metadata name the consumer.
    principal: Option<Vec<String>>,
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
        judge(config, &mut problems);
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
                as_bytes: config.as_bytes,
            },
            query: config.query.clone(),
            principal: config.principal.clone(),
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
            Err(why) => self.unusable(&why),
            Ok(Decision::Deny(answer)) => {
                (self.denied)(1);
                Verdict::Answer(answer)
            }
            Ok(Decision::Allow(mut allowed)) => {
                if let Err(why) = self.prove(&mut allowed, request) {
                    return self.unusable(&why);
                }
                if !allowed.query.apply(request.head) {
                    return self.unusable("makes a query that is none");
                }
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

    fn unusable(&self, why: &str) -> Verdict {
        Verdict::Failed {
            cause: &UNAVAILABLE,
            reason: format!("{} {why}", self.caller.about()),
        }
    }

    /// Takes the service's word for who calls, where it is asked for and there is one.
    fn prove(&self, allowed: &mut Changes, request: &mut Request<'_>) -> Result<(), String> {
        let Some(path) = &self.principal else {
            return Ok(());
        };
        let claims = allowed.metadata()?;
        let mut found = path.split_first().and_then(|(first, rest)| {
            let first = claims.get(first)?;
            rest.iter().try_fold(first, |inner, name| inner.get(name))
        });
        let Some(name) = found.take().filter(|name| !name.is_null()) else {
            return Ok(());
        };
        let is_plain = |name: &&str| {
            (1..=256).contains(&name.len())
                && name.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        };
        let Some(name) = name.as_str().filter(is_plain).map(str::to_owned) else {
            return Err("names the consumer in what is no name".to_owned());
        };
        *request.principal = Some(Principal {
            claims: Some(Arc::new(claims)),
            ..Principal::consumer(name)
        });
        Ok(())
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
                if allowed.query.names().any(|name| !self.query.contains(name)) {
                    // Not repeated: it may be anything.
                    return Err("changes a parameter that `query` does not name".to_owned());
                }
            }
            Decision::Deny(answer) => {
                unnamed(&answer.headers, &self.answer_headers, "answer_headers")?;
            }
        }
        Ok(decision)
    }
}

fn judge(config: &Config, problems: &mut Vec<Problem>) {
    judge_timeout(config.timeout, "1s", problems);
    judge_answer(config.answer_limit, problems);
    if let Some(body) = &config.with_request_body {
        body.judge(problems);
    }
    if config.as_bytes && config.with_request_body.is_none() {
        let problem = Problem::at("as_bytes", "is not used: no body is sent");
        problems.push(problem.help("give `with_request_body`, or remove this line"));
    }
    if config.query.len() > 64 {
        let fact = format!("names {} parameters, more than 64", config.query.len());
        problems.push(Problem::at("query", fact));
    }
    if let Some(at) = config
        .principal
        .as_ref()
        .and_then(|path| path.iter().position(String::is_empty))
    {
        let problem = Problem::at(
            format!("principal[{at}]"),
            "no member has an empty name here",
        );
        problems.push(problem.help("write the members from the outermost on, such as [user, id]"));
    }
    if config.principal.as_ref().is_some_and(Vec::is_empty) {
        let problem = Problem::at("principal", "names no member");
        problems.push(problem.help("write the members from the outermost on, such as [user, id]"));
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
