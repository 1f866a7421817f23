//! Several authentications in order, of which any or all have to prove who calls.
//! It must not know how they do it: they are plugins like others, built from the same table.
//! Called by the chain of a listener or route that names it.

mod build;
#[cfg(test)]
mod tests;

use std::future::{poll_fn, Future};
use std::sync::Arc;
use std::task::Poll;

use http::header::WWW_AUTHENTICATE;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{
    Answer, Build, Cause, Hooks, Life, Part, PartTurn, Plugin, PluginDef, Principal, Problem,
    Request, RequestHook, Safety, Slot, TaskFuture, Verdict,
};
use crate::granted::Granted;

use build::Parts;

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// Settings of `auth`. What is under `of` runs in its order, also under a policy of its own: `mode` and `on_error` are those of
/// `auth`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `any`: the first that proves somebody decides, also where credentials for one before it were wrong. Where none does, the
    /// answer is that of the first whose credentials came, or of the first at all where none came, with the challenges of all of
    /// them; one that could not do its work goes before refusals. Fields that the service gets are those of the one that decides: what
    /// others would set is taken away. `all`: each has to let the request go on, and the last one
    /// says who it is. Default: `any`.
    #[serde(default)]
    pub need: Need,
    /// The plugins: `kind` and `config` of each, such as `key_auth`, `basic_auth`, `jwt`, `hmac_auth`, `mtls_auth`, `oidc`, which
    /// goes last, or another `auth`; also `forward_auth` and `ext_authz` with `response_headers: []`. From 2 to 8.
    pub of: Vec<One>,
    /// With `any`, lets a request for which no credentials came at all go on, unproven. Default: `false`.
    #[serde(default)]
    pub optional: bool,
}

/// How many have to prove somebody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// One.
    #[default]
    Any,
    /// Each.
    All,
}

/// One of them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct One {
    /// Which plugin.
    pub kind: String,
    /// Its settings.
    #[serde(default)]
    pub config: serde_json::Map<String, serde_json::Value>,
}

impl Plugin for Config {
    const KIND: &'static str = "auth";
    const ABOUT: &'static str = "authenticate in several ways, any or all of them";
    const EXAMPLE: &'static str =
        "need: any\nof:\n- {kind: key_auth, config: {from: [{header: x-api-key}]}}\n- {kind: hmac_auth}";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let mut parts = Parts::of(&self, build)?;
        let decided = build.slot();
        let gate = Gate {
            need: self.need,
            optional: self.optional,
            requests: std::mem::take(&mut parts.requests),
            absent: build.plugins.iter().filter_map(|def| def.absent).collect(),
            decided,
        };
        let mut hooks = Hooks::new().with_credentials(std::mem::take(&mut parts.credentials));
        for one in &gate.requests {
            hooks.granted.extend(one.granted.iter().cloned());
        }
        let hooks = match gate.waits() {
            true => {
                let gate = Arc::new(gate);
                hooks.on_request_async(move |request| {
                    let gate = gate.clone();
                    Box::pin(async move { gate.check(request).await })
                })
            }
            false => hooks.on_request(move |request| gate.check_now(request)),
        };
        let hooks = match parts.client_certificates {
            true => hooks.with_client_certificates(),
            false => hooks,
        };
        Ok(with_the_rest(hooks, parts, decided))
    }
}

type Begin = Arc<dyn Fn(Life) -> TaskFuture + Send + Sync>;

/// Everything besides the requests' heads is for each of them: all credentials end here, whoever looked at them.
fn with_the_rest(mut hooks: Hooks, parts: Parts, decided: Slot<usize>) -> Hooks {
    let Parts {
        upstream,
        bodies,
        responses,
        tasks,
        ..
    } = parts;
    if !upstream.is_empty() {
        hooks = hooks.on_upstream_request(move |request| {
            let decided = request.slots.value(decided).copied();
            let is_it = |(at, _): &&(usize, RequestHook)| Some(*at) == decided;
            // Who decided says last what the service is told: others take fields of the same names away.
            let others = upstream.iter().filter(|one| !is_it(one));
            for (_, hook) in others.chain(upstream.iter().filter(is_it)) {
                match at_once(hook, request) {
                    Verdict::Continue => {}
                    other => return other,
                }
            }
            Verdict::Continue
        });
    }
    if !bodies.is_empty() {
        hooks = hooks.on_request_body(move |slots, piece, last| {
            for hook in &bodies {
                match hook(slots, piece, last) {
                    Verdict::Continue => {}
                    other => return other,
                }
            }
            Verdict::Continue
        });
    }
    if !responses.is_empty() {
        hooks = hooks.on_response(move |response| {
            for hook in responses.iter().rev() {
                match hook(response) {
                    Verdict::Continue => {}
                    other => return other,
                }
            }
            Verdict::Continue
        });
    }
    match tasks.is_empty() {
        true => hooks,
        false => hooks.background("nested", move |life| together(&tasks, &life)),
    }
}

/// All tasks as one, which ends when each has ended.
fn together(tasks: &[Begin], life: &Life) -> impl Future<Output = ()> + Send {
    let mut running: Vec<TaskFuture> = tasks.iter().map(|begin| begin(life.clone())).collect();
    poll_fn(move |cx| {
        running.retain_mut(|task| task.as_mut().poll(cx).is_pending());
        match running.is_empty() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
}

/// A hook that does not wait; building refuses others.
fn at_once(hook: &RequestHook, request: &mut Request<'_>) -> Verdict {
    match hook {
        RequestHook::Sync(hook) => hook(request),
        RequestHook::Async(_) => Verdict::Continue,
    }
}

struct Gate {
    need: Need,
    optional: bool,
    requests: Vec<Asked>,
    /// Causes that say that no credentials came.
    absent: Vec<&'static Cause>,
    /// Which of them has proven somebody, where one is enough.
    decided: Slot<usize>,
}

/// One of them, with its name for explanations.
struct Asked {
    kind: &'static str,
    path: String,
    hook: RequestHook,
    granted: Vec<Granted>,
}

/// What was said so far.
#[derive(Default)]
struct SoFar {
    /// Answers, in order.
    refused: Vec<Answer>,
    failed: Option<Verdict>,
    unknown: Option<Verdict>,
    /// One of them does not insist.
    went_on: bool,
}

impl Gate {
    fn waits(&self) -> bool {
        let mut all = self.requests.iter();
        all.any(|one| matches!(one.hook, RequestHook::Async(_)))
    }

    async fn check(&self, request: &mut Request<'_>) -> Verdict {
        let before = request.principal.take();
        let mut so_far = SoFar::default();
        for (at, one) in self.requests.iter().enumerate() {
            let inner = begin(request);
            let verdict = match &one.hook {
                RequestHook::Sync(hook) => hook(request),
                RequestHook::Async(hook) => hook(request).await,
            };
            self.tell(one, &verdict, request, inner);
            if let Some(verdict) = self.step(verdict, request, &mut so_far) {
                self.decide(at, &verdict, request);
                self.rest(at + 1, request);
                return verdict;
            }
        }
        self.end(so_far, before, request)
    }

    fn check_now(&self, request: &mut Request<'_>) -> Verdict {
        let before = request.principal.take();
        let mut so_far = SoFar::default();
        for (at, one) in self.requests.iter().enumerate() {
            let inner = begin(request);
            let verdict = at_once(&one.hook, request);
            self.tell(one, &verdict, request, inner);
            if let Some(verdict) = self.step(verdict, request, &mut so_far) {
                self.decide(at, &verdict, request);
                self.rest(at + 1, request);
                return verdict;
            }
        }
        self.end(so_far, before, request)
    }

    /// In a dry run, tells what one of them said, and what those inside of it said.
    fn tell(&self, one: &Asked, verdict: &Verdict, request: &mut Request<'_>, before: Vec<Part>) {
        if request.effects.is_live() {
            return;
        }
        let inner = request.slots.take_parts();
        let turn = match verdict {
            Verdict::Continue => PartTurn::Continued(request.principal.as_ref().map(Principal::id)),
            Verdict::Answer(answer) => PartTurn::Answered(answer.status, answer.cause),
            Verdict::Failed { cause, reason } => PartTurn::Failed(cause, reason.clone()),
            Verdict::Unknown(what) => PartTurn::Unknown(what.0.clone().into_owned()),
        };
        before.into_iter().for_each(|part| request.slots.part(part));
        request.slots.part(one.part(turn));
        for part in inner {
            let depth = part.depth.saturating_add(1);
            request.slots.part(Part { depth, ..part });
        }
    }

    /// Those that were not asked have taken nothing away of what the client says in their fields.
    fn decide(&self, at: usize, verdict: &Verdict, request: &mut Request<'_>) {
        if !matches!(verdict, Verdict::Continue) {
            return;
        }
        request.slots.put(self.decided, at);
        let others = self.requests[at + 1..].iter();
        let others: Vec<&Granted> = others.flat_map(|one| &one.granted).collect();
        if !others.is_empty() {
            others.iter().for_each(|one| one.strip(request));
            let own = self.requests[at].granted.iter();
            own.for_each(|one| one.renew(request));
        }
    }

    /// In a dry run, tells of those that were not asked any more.
    fn rest(&self, from: usize, request: &mut Request<'_>) {
        if !request.effects.is_live() {
            for one in &self.requests[from..] {
                request.slots.part(one.part(PartTurn::NotReached));
            }
        }
    }

    /// Whether one of them decides already.
    fn step(
        &self,
        verdict: Verdict,
        request: &mut Request<'_>,
        so_far: &mut SoFar,
    ) -> Option<Verdict> {
        match (self.need, verdict) {
            (Need::Any, Verdict::Continue) if request.principal.is_some() => {
                return Some(Verdict::Continue);
            }
            (_, Verdict::Continue) => so_far.went_on = true,
            // What a dry run does not know of one, the next one may refuse.
            (_, verdict @ Verdict::Unknown(_)) => {
                so_far.unknown.get_or_insert(verdict);
            }
            (Need::All, verdict) => return Some(verdict),
            (Need::Any, Verdict::Answer(answer)) => so_far.refused.push(*answer),
            (Need::Any, verdict @ Verdict::Failed { .. }) => {
                so_far.failed.get_or_insert(verdict);
            }
        }
        if self.need == Need::Any {
            *request.principal = None;
        }
        None
    }

    fn end(&self, so_far: SoFar, before: Option<Principal>, request: &mut Request<'_>) -> Verdict {
        if let Some(verdict) = so_far.failed.or(so_far.unknown) {
            return verdict;
        }
        if self.need == Need::All {
            if request.principal.is_none() {
                *request.principal = before;
            }
            return Verdict::Continue;
        }
        let none_came = so_far.refused.iter().all(|answer| self.is_absent(answer));
        if none_came && (self.optional || so_far.went_on) {
            *request.principal = before;
            return Verdict::Continue;
        }
        self.of_all(so_far.refused)
    }

    /// Whether it says that no credentials of its kind came.
    fn is_absent(&self, answer: &Answer) -> bool {
        self.absent.contains(&answer.cause)
    }

    /// The answer that says most, with the challenges of all.
    fn of_all(&self, mut refused: Vec<Answer>) -> Verdict {
        let challenges: Vec<_> = refused
            .iter()
            .flat_map(|answer| &answer.headers)
            .filter(|(name, _)| *name == WWW_AUTHENTICATE)
            .cloned()
            .collect();
        let came = refused.iter().position(|answer| !self.is_absent(answer));
        let mut answer = refused.swap_remove(came.unwrap_or(0));
        // A browser that is sent away to log in needs none.
        if answer.status < 400 {
            return answer.into();
        }
        answer.headers.retain(|(name, _)| *name != WWW_AUTHENTICATE);
        answer.headers.extend(challenges);
        answer.into()
    }
}

impl Asked {
    fn part(&self, turn: PartTurn) -> Part {
        Part {
            kind: self.kind.to_owned(),
            path: self.path.clone(),
            depth: 0,
            turn,
        }
    }
}

/// What was told of parts before one of them has its turn, so that those inside of it are known.
fn begin(request: &mut Request<'_>) -> Vec<Part> {
    match request.effects.is_live() {
        true => Vec::new(),
        false => request.slots.take_parts(),
    }
}
