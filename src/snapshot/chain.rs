//! The plugins of a listener or rule, split by hook, and the one place where their verdicts take effect.
//! It must not know what any plugin does, nor how answers are sent.
//! Built by `config::compile`; run by the proxy and by dry runs alike.

mod body;
mod cache;
mod call;
mod held;

use std::fmt;
use std::sync::Arc;

use crate::observe::metrics::IntCounter;
use bytes::Bytes;
use http::HeaderMap;
use windrose_plugins::contract::{
    causes, Answer, BodyHook, BodyWish, Cause, ConnectionView, Effects, Finished, Hooks, Part,
    Request, RequestHook, Response, Slots, TooLarge, Verdict,
};

pub use body::{BodyFuture, BodySource, NoBody, Unread};
use call::{call, call_on_copy, caught, on_copy};
pub use held::{Met, Way};

use super::shadow::Examples;
use crate::observe::event;

/// How a plugin takes part. `off` never reaches a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Its verdicts count.
    Enforce,
    /// Its verdicts are only counted, and it works on copies of the messages.
    Shadow,
}

/// A plugin that was built.
pub struct Instance {
    /// Its name, or its kind and place.
    pub name: Box<str>,
    /// Which plugin.
    pub kind: &'static str,
    /// Where it is written, as `file:line`.
    pub place: Box<str>,
    /// How it takes part.
    pub mode: Mode,
    /// Whether requests go on when it cannot do its work.
    pub fails_open: bool,
    /// Its hooks.
    pub hooks: Hooks,
    /// Counts answers it made.
    pub answered: IntCounter,
    /// Counts answers it would have made in shadow mode.
    pub would_answer: IntCounter,
    /// Counts when it could not do its work.
    pub failed: IntCounter,
    /// The last answers it would have made.
    pub examples: Examples,
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Instance({})", self.name)
    }
}

/// What a plugin said in its turn, for whoever explains.
#[derive(Debug, Clone, Copy)]
pub enum Turn<'a> {
    /// The request goes on.
    Continued,
    /// This answer.
    Answered(&'a Answer),
    /// This answer, if it were not in the shadow.
    WouldAnswer(&'a Answer),
    /// It could not do its work, and fails open.
    FailedOpen(&'a str),
    /// Only in a dry run: it would have to ask this.
    Unknown(&'a str),
    /// Only in a dry run, before its own word: what a plugin inside of it said.
    Part(&'a Part),
}

/// Who hears of turns.
pub type Hear<'a> = dyn FnMut(&Instance, Turn<'_>) + Send + 'a;

impl Instance {
    /// Turns a verdict into what the request gets: nothing, or an answer. Dry runs count nothing.
    fn settle(
        &self,
        verdict: Verdict,
        effects: Effects,
        hear: &mut Hear<'_>,
    ) -> Option<Box<Answer>> {
        let answer = match (verdict, effects) {
            (Verdict::Continue, _) => {
                hear(self, Turn::Continued);
                return None;
            }
            (Verdict::Unknown(what), Effects::Dry | Effects::Peek) => {
                hear(self, Turn::Unknown(&what.0));
                return None;
            }
            (Verdict::Answer(answer), _) => answer,
            (Verdict::Failed { cause, reason }, _) => self.fail(cause, &reason, effects, hear)?,
            // Only a dry run may not know; in traffic a guard that does not know must not let through.
            (Verdict::Unknown(what), Effects::Live) => {
                let reason = format!("did not ask {}", what.0);
                self.fail(&causes::PLUGIN_FAILED, &reason, effects, hear)?
            }
        };
        let (counter, turn, answers) = match self.mode {
            Mode::Enforce => (&self.answered, Turn::Answered(&answer), true),
            Mode::Shadow => (&self.would_answer, Turn::WouldAnswer(&answer), false),
        };
        if effects.is_live() {
            counter.inc();
        }
        hear(self, turn);
        answers.then_some(answer)
    }

    /// As [`settle`](Self::settle), and in the shadow also an example of the request with this id.
    fn settle_of(
        &self,
        request_id: &str,
        verdict: Verdict,
        effects: Effects,
        hear: &mut Hear<'_>,
    ) -> Option<Box<Answer>> {
        if self.mode == Mode::Enforce || !effects.is_live() {
            return self.settle(verdict, effects, hear);
        }
        self.settle(verdict, effects, &mut |one, turn| {
            if let Turn::WouldAnswer(answer) = &turn {
                one.examples.add(request_id, answer.cause);
            }
            hear(one, turn);
        })
    }

    /// Asks a hook about a request. What a plugin in the shadow does to it, it does to a copy; the copy is boxed so that
    /// requests without such plugins have no place for it.
    async fn ask(&self, hook: &RequestHook, request: &mut Request<'_>) -> Verdict {
        match self.mode {
            Mode::Enforce => call(hook, request).await,
            Mode::Shadow => Box::pin(call_on_copy(hook, request)).await,
        }
    }

    /// Asks a hook that wants the whole body. An error ends the request, whatever the plugin's mode is.
    async fn ask_with_body(
        &self,
        hook: &RequestHook,
        wish: BodyWish,
        request: &mut Request<'_>,
        bodies: &mut dyn BodySource,
    ) -> Result<Verdict, &'static Cause> {
        if !body::is_wanted(&self.hooks, request) {
            return Ok(self.ask(hook, request).await);
        }
        let (body, too_large) = match wish.larger {
            TooLarge::Refused(cause) => (bodies.whole(wish.most).await, cause),
            TooLarge::Cut => (bodies.begin(wish.most).await, &causes::BODY_TOO_LARGE),
        };
        request.body = match body {
            Ok(body) => Some(body),
            Err(Unread::TooLarge) => return Ok(Answer::of(too_large).into()),
            Err(Unread::Unknown(unknown)) => return Ok(Verdict::Unknown(unknown)),
            Err(Unread::Over(cause)) => return Err(cause),
        };
        let verdict = self.ask(hook, request).await;
        let body = request.body.take();
        if let Some(body) = body.filter(|body| body.is_changed()) {
            bodies.replace(body);
        }
        Ok(verdict)
    }

    /// Asks a hook about a piece of a body, or about a copy of it.
    fn ask_body<M>(
        &self,
        hook: &BodyHook<M>,
        message: &mut M,
        body: &mut Option<Bytes>,
        end: bool,
    ) -> Verdict {
        match self.mode {
            Mode::Enforce => caught(|| hook(message, body, end)),
            Mode::Shadow => caught(|| hook(message, &mut body.clone(), end)),
        }
    }

    /// As [`settle`](Self::settle), in traffic, where nobody listens.
    fn settle_live(&self, verdict: Verdict) -> Option<Box<Answer>> {
        self.settle(verdict, Effects::Live, &mut |_, _| {})
    }

    /// What the request gets when the plugin could not do its work.
    fn fail(
        &self,
        cause: &'static Cause,
        reason: &str,
        effects: Effects,
        hear: &mut Hear<'_>,
    ) -> Option<Box<Answer>> {
        if effects.is_live() {
            self.failed.inc();
            event::warn("plugin failed", &self.name, || {
                let goes_on = self.fails_open || self.mode == Mode::Shadow;
                let outcome = if goes_on { "goes on" } else { "is refused" };
                format!("plugin could not do its work, request {outcome}: plugin={} cause={cause} reason={reason}", self.name)
            });
        }
        if self.fails_open {
            hear(self, Turn::FailedOpen(reason));
            return None;
        }
        Some(Box::new(Answer::of(cause)))
    }
}

type Instances = Box<[Arc<Instance>]>;

/// Plugins in order, one list for each hook, so that a hook nobody attached costs a length check.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    /// Every plugin, for views.
    pub all: Instances,
    connection: Instances,
    request: Instances,
    /// Whether any request hook wants the whole body.
    wants_body: bool,
    request_body: Instances,
    upstream_request: Instances,
    response: Instances,
    response_body: Instances,
    /// Those with a hook on trailers or on the body, which may have to take what others made of trailers.
    ends: Instances,
    /// Whether any plugin may hold responses back.
    holds: bool,
    finish: Instances,
    cache: Option<Arc<Instance>>,
}

impl Chain {
    /// A chain of these plugins in this order.
    pub fn new(all: Vec<Arc<Instance>>) -> Chain {
        let with = |attached: fn(&Hooks) -> bool| {
            all.iter()
                .filter(|one| attached(&one.hooks))
                .cloned()
                .collect()
        };
        Chain {
            connection: with(|hooks| hooks.connection.is_some()),
            request: with(|hooks| hooks.request.is_some()),
            wants_body: all.iter().any(|one| one.hooks.whole_body.is_some()),
            request_body: with(|hooks| hooks.request_body.is_some()),
            upstream_request: with(|hooks| hooks.upstream_request.is_some()),
            response: with(|hooks| hooks.response.is_some()),
            response_body: with(|hooks| hooks.response_body.is_some()),
            ends: with(|hooks| hooks.response_trailers.is_some() || hooks.response_body.is_some()),
            holds: all.iter().any(|one| one.hooks.held_response.is_some()),
            finish: with(|hooks| hooks.finish.is_some()),
            cache: all.iter().find(|one| one.hooks.cache.is_some()).cloned(),
            all: all.into(),
        }
    }

    /// Asks about a connection; an answer means to close it.
    pub fn connection(
        &self,
        view: &ConnectionView<'_>,
        effects: Effects,
        hear: &mut Hear<'_>,
    ) -> Option<Box<Answer>> {
        let ask = |one: &Arc<Instance>| {
            let hook = one.hooks.connection.as_ref()?;
            one.settle_of("", caught(|| hook(view)), effects, hear)
        };
        self.connection.iter().find_map(ask)
    }

    /// Whether any plugin has a request hook.
    pub fn has_request(&self) -> bool {
        !self.request.is_empty()
    }

    /// Whether any request hook wants the whole body; others need no source of one.
    pub fn wants_body(&self) -> bool {
        self.wants_body
    }

    /// Runs the request hooks until one answers.
    pub async fn request(
        &self,
        request: &mut Request<'_>,
        bodies: &mut dyn BodySource,
        hear: &mut Hear<'_>,
    ) -> Option<Box<Answer>> {
        for one in &self.request {
            if let Some(hook) = &one.hooks.request {
                let verdict = match one.hooks.whole_body {
                    None => one.ask(hook, request).await,
                    // Rare: in place it would make every request's future larger.
                    Some(wish) => {
                        match Box::pin(one.ask_with_body(hook, wish, request, bodies)).await {
                            Ok(verdict) => verdict,
                            Err(cause) => return Some(Box::new(Answer::of(cause))),
                        }
                    }
                };
                let (id, effects) = (request.client.request_id, request.effects);
                if !effects.is_live() {
                    let parts = request.slots.take_parts();
                    parts.iter().for_each(|part| hear(one, Turn::Part(part)));
                }
                if let Some(answer) = one.settle_of(id, verdict, effects, hear) {
                    return Some(answer);
                }
            }
        }
        None
    }

    /// Whether any plugin has a hook on the request as it goes upstream.
    pub fn has_upstream_request(&self) -> bool {
        !self.upstream_request.is_empty()
    }

    /// Runs the hooks on the request as it goes upstream.
    pub async fn upstream_request(
        &self,
        request: &mut Request<'_>,
        hear: &mut Hear<'_>,
    ) -> Option<Box<Answer>> {
        for one in &self.upstream_request {
            if let Some(hook) = &one.hooks.upstream_request {
                let verdict = one.ask(hook, request).await;
                let (id, effects) = (request.client.request_id, request.effects);
                if let Some(answer) = one.settle_of(id, verdict, effects, hear) {
                    return Some(answer);
                }
            }
        }
        None
    }

    /// Runs the hooks on a piece of the request body.
    pub fn request_body(
        &self,
        slots: &mut Slots,
        body: &mut Option<Bytes>,
        end: bool,
        effects: Effects,
        hear: &mut Hear<'_>,
    ) -> Option<Box<Answer>> {
        let run = |one: &Arc<Instance>| {
            let hook = one.hooks.request_body.as_ref()?;
            one.settle_of("", one.ask_body(hook, slots, body, end), effects, hear)
        };
        self.request_body.iter().find_map(run)
    }

    /// Whether any plugin has a response hook.
    pub fn has_response(&self) -> bool {
        !self.response.is_empty()
    }

    /// Runs the response hooks, last plugin first, so that the first plugin has the last word on both ways.
    pub fn response(&self, response: &mut Response<'_>) -> Option<Box<Answer>> {
        let mut run = |one: &Arc<Instance>| {
            let hook = one.hooks.response.as_ref()?;
            let verdict = match one.mode {
                Mode::Enforce => caught(|| hook(response)),
                Mode::Shadow => caught(|| on_copy(response, |copy| hook(copy))),
            };
            let id = response.client.request_id;
            one.settle_of(id, verdict, response.effects, &mut |_, _| {})
        };
        self.response.iter().rev().find_map(&mut run)
    }

    /// Whether any plugin looks at response bodies.
    pub fn has_response_body(&self) -> bool {
        !self.response_body.is_empty()
    }

    /// Runs the hooks on a piece of the response body.
    pub fn response_body(
        &self,
        slots: &mut Slots,
        body: &mut Option<Bytes>,
        end: bool,
    ) -> Option<Box<Answer>> {
        let mut run = |one: &Arc<Instance>| {
            let hook = one.hooks.response_body.as_ref()?;
            let verdict = one.ask_body(hook, slots, body, end);
            one.settle_of("", verdict, Effects::Live, &mut |_, _| {})
        };
        self.response_body.iter().rev().find_map(&mut run)
    }

    /// Shows the plugins the response's trailers. What is in the piece after them ends the body in the trailers' place.
    pub fn response_trailers(
        &self,
        slots: &mut Slots,
        trailers: &mut HeaderMap,
        piece: &mut Option<Bytes>,
    ) {
        for one in self.ends.iter().rev() {
            one.end(slots, trailers, piece);
        }
    }

    /// Whether any plugin wants to know when a request is over.
    pub fn has_finish(&self) -> bool {
        !self.finish.is_empty()
    }

    /// Tells the plugins that the request is over.
    pub fn finish(&self, finished: &mut Finished<'_>) {
        for one in &self.finish {
            if let Some(hook) = &one.hooks.finish {
                let verdict = caught(|| {
                    hook(finished);
                    Verdict::Continue
                });
                // Nobody waits for an answer any more; what matters is that a failure is counted and told.
                let _ = one.settle_live(verdict);
            }
        }
    }
}

#[cfg(test)]
mod tests;
