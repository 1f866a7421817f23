//! Asks an authorization service over HTTP whether a request may go on, as Traefik's forwardAuth, nginx's auth_request and Envoy's
//! ext_authz do. It must not judge anything itself: 2xx lets a request on, any other answer goes to the client, none is a failure.
//! Called by the chain of a listener or route that names it.

mod answer;
mod question;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::authorization::{self, judge_answer, judge_timeout, WithBody};
use crate::contract::{
    field_name, Blame, Build, Caller, Cause, Counter, Hooks, Plugin, PluginDef, Principal, Problem,
    Request, Safety, Side, Size, Slot, Target, Time, Verdict,
};
use crate::granted::{Granted, Names};
use question::Question;

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// The service said no.
pub static DENIED: Cause = Cause {
    name: "auth.forward_denied",
    blame: Blame::Policy,
    status: 403,
    title: "Forbidden",
    explanation: "The authorization service that a `forward_auth` plugin asks answered with another status than 2xx; that answer went to the client.",
    next_step: "Look for the request's `x-request-id` in the log of the authorization service: it got the same one.",
};

/// The body is larger than the service may get.
pub static TOO_LARGE: Cause = Cause {
    name: "auth.forward_too_large",
    blame: Blame::Client,
    status: 413,
    title: "Content too large",
    explanation: "The request's body is larger than `with_request_body.max_bytes` of a `forward_auth` plugin, which lets nobody look at a part of it.",
    next_step: "Send less, raise `max_bytes`, or set `allow_partial`; the route's `body_limit` and `limits.held_bodies` bound it as well.",
};

/// The service said nothing that can be used.
pub static UNAVAILABLE: Cause = Cause {
    name: "auth.forward_unavailable",
    blame: Blame::Dependency,
    status: 503,
    title: "Service unavailable",
    explanation: "The authorization service that a `forward_auth` plugin asks could not be reached, did not answer in time, answered with 5xx, or with more than is taken. Nobody said no.",
    next_step: "The error log says which; look at the service, and at its pool in /pools on the admin address.",
};

/// Settings of `forward_auth`. The service gets the request's method, scheme, host, target and client address in
/// `X-Forwarded-Method`, `-Proto`, `-Host`, `-Uri` and `-For`, the first and the whole URL also in `X-Original-Method` and
/// `X-Original-URL`, and no body unless `with_request_body` says so. The target is the one that the service behind the proxy will see, in canonical form. An answer of
/// 2xx lets the request go on; 5xx counts as no answer; any other goes to the client. Redirects are not followed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Whom to ask: a URL, or `{url: ..., pool: ...}`.
    pub service: Target,
    /// Time for the whole answer. Default: 5s, at most 60s.
    #[serde(default = "five_seconds")]
    pub timeout: Time,
    /// `get` asks with GET, as Traefik and nginx do; `original` with the request's own method, as Envoy does. Default: get.
    #[serde(default)]
    pub method: AskWith,
    /// Asks at the URL's path followed by the request's own path and query, as Envoy does. Default: `false`, at the URL as it is.
    #[serde(default)]
    pub append_path: bool,
    /// Fields of the request that the service gets; a name that ends in `*` stands for all that begin with it. At most 64.
    /// Default: `[authorization, cookie]`. What it gets it must be trusted with.
    #[serde(default = "authorization::credentials")]
    pub send: Vec<String>,
    /// Fields of a 2xx answer that go on to the service behind the proxy, such as `[x-auth-user, x-auth-groups]`, at most 16 KiB of
    /// them. What a client sends under these names, or with `_` for `-`, is removed before, so that nobody can say of himself what
    /// only the service may. Default: none.
    #[serde(default)]
    pub request_headers: Vec<String>,
    /// Fields of a 2xx answer that are added to the response to the client, such as `[set-cookie]`. Default: none.
    #[serde(default)]
    pub response_headers: Vec<String>,
    /// Fields of another answer that go to the client with it. Default: `[location, set-cookie, www-authenticate, cache-control,
    /// retry-after]`; the type of its body always does.
    #[serde(default = "authorization::answers")]
    pub answer_headers: Vec<String>,
    /// The longest body of an answer that is passed on to the client; a longer one counts as no answer. Default: 64KiB, at most 1MiB.
    #[serde(default = "authorization::small")]
    pub answer_limit: Size,
    /// The field of a 2xx answer that names the consumer, for later plugins, policies and logs; at most 256 printable characters.
    /// It is removed from requests as those of `request_headers`, and goes on only if it is one of them. Default: nobody is proven.
    #[serde(default)]
    pub principal: Option<String>,
    /// Sends the request's body with the question, with its `Content-Type` and `Content-Encoding`. Only with `method: original`. Not for
    /// requests that stream. Default: none.
    #[serde(default)]
    pub with_request_body: Option<WithBody>,
}

/// The method of the question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AskWith {
    /// GET.
    #[default]
    Get,
    /// The request's own.
    Original,
}

fn five_seconds() -> Time {
    Time::secs(5)
}

impl Plugin for Config {
    const KIND: &'static str = "forward_auth";
    const ABOUT: &'static str = "ask an authorization service over HTTP";
    const EXAMPLE: &'static str = "service: https://auth.example/verify
request_headers: [x-auth-user, x-auth-groups]
principal: x-auth-user";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[&DENIED, &TOO_LARGE, &UNAVAILABLE];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let gate = Arc::new(Gate::of(&self, build)?);
        let added = gate.added;
        let hooks = gate.granted.clone().attach(Hooks::new(), None);
        let hooks = hooks.on_request_async(move |request| {
            let gate = gate.clone();
            Box::pin(async move { gate.check(request).await })
        });
        let hooks = match self.with_request_body {
            Some(body) => body.attach(hooks, &TOO_LARGE),
            None => hooks,
        };
        if self.response_headers.is_empty() {
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
    granted: Granted,
    request_headers: Names,
    response_headers: Names,
    answer_headers: Names,
    answer_limit: usize,
    principal: Option<HeaderName>,
    /// For the response to the client.
    added: Slot<Vec<(HeaderName, HeaderValue)>>,
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
        let principal = config.principal.as_ref();
        let principal = principal.map(|name| field_name(Side::Response, "principal", name));
        let principal = principal
            .transpose()
            .map_err(|problem| problems.push(problem));
        let caller = build.caller("service", &config.service);
        let caller = caller.map_err(|problem| problems.push(problem));
        judge(config, &mut problems);
        let (Ok(principal), Ok(caller), true) = (principal, caller, problems.is_empty()) else {
            return Err(problems);
        };
        let mut guarded = request_headers.clone();
        principal.iter().for_each(|name| guarded.add(name.clone()));
        Ok(Gate {
            question: Question {
                send,
                method: config.method,
                append_path: config.append_path,
                timeout: config.timeout.0,
            },
            caller,
            granted: Granted::new(guarded, build.slot()),
            request_headers,
            response_headers,
            answer_headers,
            answer_limit: usize::try_from(config.answer_limit.0).unwrap_or(usize::MAX),
            principal,
            added: build.slot(),
            denied: build.counter("denied"),
        })
    }

    async fn check(&self, request: &mut Request<'_>) -> Verdict {
        // The question tells what the client sent; what it may not say is gone before anything can go wrong.
        let call = self.question.of(&self.caller, request);
        self.granted.strip(request);
        let call = call.at_most(self.answer_limit);
        let reply = match self.caller.call(request.effects, call).await {
            Ok(reply) => reply,
            Err(failure) => return self.caller.failed(failure, &UNAVAILABLE),
        };
        match reply.status {
            200..=299 => {}
            300..=499 => {
                let verdict = answer::passed_on(reply, &self.answer_headers);
                if matches!(verdict, Verdict::Answer(_)) {
                    (self.denied)(1);
                }
                return verdict;
            }
            status => return self.unusable(&format!("answered with status {status}")),
        }
        let granted = self.request_headers.picked(&reply.headers);
        let added = self.response_headers.picked(&reply.headers);
        let (Ok(granted), Ok(added)) = (granted, added) else {
            return self.unusable("answered with more than 16 KiB of fields to go on");
        };
        let named = self
            .principal
            .as_ref()
            .map(|name| answer::named(&reply, name));
        match named {
            None | Some(Ok(None)) => {}
            Some(Ok(Some(name))) => {
                *request.principal = Some(Principal::consumer(name));
            }
            Some(Err(why)) => return self.unusable(why),
        }
        self.granted.grant(request, granted);
        if !added.is_empty() {
            request.slots.put(self.added, added);
        }
        Verdict::Continue
    }

    fn unusable(&self, why: &str) -> Verdict {
        Verdict::Failed {
            cause: &UNAVAILABLE,
            reason: format!("{} {why}", self.caller.about()),
        }
    }
}

fn judge(config: &Config, problems: &mut Vec<Problem>) {
    judge_timeout(config.timeout, "5s", problems);
    judge_answer(config.answer_limit, problems);
    if let Some(body) = &config.with_request_body {
        body.judge(problems);
        if config.method == AskWith::Get {
            let problem = Problem::at("with_request_body", "a question by GET has no body");
            problems.push(problem.help("set `method: original`"));
        }
    }
}
