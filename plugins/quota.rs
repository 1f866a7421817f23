//! Limits how many requests a consumer may send in a calendar day or month, counted in a store that proxies share or in this process.
//! It must not know other processes: without a store three proxies with `limit: 100` let 300 through, and a restart begins anew.
//! Called by the chain of a listener or route, after plugins that authenticate.

mod calendar;
mod counts;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::header::RETRY_AFTER;
use http::HeaderValue;

use crate::contract::{
    Answer, Blame, Build, Cause, Clock, Counter, Hooks, Plugin, PluginDef, Problem, Request,
    Response, Safety, Slot, Verdict,
};
use crate::keyed::cost::{Cost, Told};
use crate::keyed::fields::{whole_seconds, Teller};
use crate::keyed::key::{Key, SharedKey};
use crate::keyed::own::Own;
use crate::keyed::Standing;

use calendar::Span;
use counts::{Ask, Counts, Place};

pub use crate::keyed::fields::Fields;
pub use crate::keyed::OnStoreFailure;
pub use calendar::Period;
pub use settings::Config;
use settings::MOST;

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// The quota is used up.
pub static QUOTA_EXCEEDED: Cause = Cause {
    name: "quota_exceeded",
    blame: Blame::Policy,
    status: 429,
    title: "Quota exceeded",
    explanation: "The caller has sent as many requests in this period as a `quota` plugin's `limit`, or the limit of this consumer, allows.",
    next_step: "The `Retry-After` field says when the next period begins (UTC). Raise `limit`, or the consumer's own with `limit_from`; deleting its key in the store begins the period anew.",
};

/// An expression has no outcome.
pub static NO_OUTCOME: Cause = Cause {
    name: "quota.no_outcome",
    blame: Blame::Policy,
    status: 403,
    title: "Forbidden",
    explanation: "An expression under `key` or `cost` of a `quota` plugin has no outcome for the request: it reads a field or claim that is not there, or comes to something that is no key or no cost.",
    next_step: "The log has the reason. Ask with `has(request.headers.name)` or `'name' in request.headers` before reading what may be missing. `on_error: open` lets such requests through uncounted.",
};

/// The store cannot count, and the plugin refuses then.
pub static STORE_UNAVAILABLE: Cause = Cause {
    name: "quota.store_unavailable",
    blame: Blame::Dependency,
    status: 503,
    title: "Service unavailable",
    explanation: "A `quota` plugin counts in a store that is not connected, did not answer in time or answered with an error, and its `on_store_failure` is `closed`.",
    next_step: "The log and `windrose status` say what is wrong with the store; the proxy connects again by itself. `on_store_failure: open` lets requests through meanwhile.",
};

impl Plugin for Config {
    const KIND: &'static str = "quota";
    const ABOUT: &'static str = "limit requests per consumer and calendar day or month";
    const EXAMPLE: &'static str =
        "limit: 10000\nper: month\nlimit_from: monthly_quota\nstore: shared\non_store_failure: open";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[&QUOTA_EXCEEDED, &NO_OUTCOME, &STORE_UNAVAILABLE];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let mut problems = Vec::new();
        let key = self.parsed_key(build, &mut problems);
        let cost = Cost::of(self.cost.as_ref(), build.consumers, &mut problems);
        self.judge(&mut problems);
        let entry = self.limit_from.as_deref();
        let own = Own::of(entry, "limit_from", MOST, build, &mut problems);
        let counts = Counts::new(&self, build).map_err(|problem| problems.push(problem));
        let (true, Ok(counts)) = (problems.is_empty(), counts) else {
            return Err(problems);
        };
        let quota = Arc::new(Quota {
            key,
            cost,
            unreadable: build.counter("cost_unreadable"),
            limit: self.limit,
            own,
            period: self.per,
            fields: self.fields,
            name: self.name.unwrap_or_else(|| "quota".to_owned()),
            counts,
            clock: build.clock.clone(),
            stood: build.slot(),
            exceeded: build.counter("exceeded"),
        });
        Ok(hooks(quota))
    }
}

fn hooks(quota: Arc<Quota>) -> Hooks {
    let (teller, settler) = (quota.clone(), quota.clone());
    let mut hooks = Hooks::new().on_request_async(move |request| {
        let quota = quota.clone();
        Box::pin(async move { quota.admit(request).await })
    });
    let is_told = teller.cost.is_told();
    if is_told && teller.counts.is_shared() {
        hooks = hooks.background("settle", move |life| {
            let quota = settler.clone();
            async move { quota.counts.settle(life).await }
        });
    }
    match teller.fields {
        Fields::None if !is_told => hooks,
        _ => hooks.on_response(move |response| teller.respond(response)),
    }
}

struct Quota {
    key: Key,
    cost: Cost,
    unreadable: Counter,
    limit: u64,
    /// Limits of single consumers.
    own: Own,
    period: Period,
    fields: Fields,
    name: String,
    counts: Counts,
    clock: Clock,
    stood: Slot<Stood>,
    exceeded: Counter,
}

/// What is told with the response, and what it settles.
#[derive(Clone)]
struct Stood {
    standing: Standing,
    limit: u64,
    span: Span,
    cost: u64,
    key: Arc<SharedKey>,
    place: Place,
}

impl Quota {
    async fn admit(&self, request: &mut Request<'_>) -> Verdict {
        let said = self.key.said(request);
        let asked = said.and_then(|said| Ok((said, self.cost.before(request)?)));
        let (said, cost) = match asked {
            Ok((_, 0)) => return Verdict::Continue,
            Ok(asked) => asked,
            Err(reason) => {
                return Verdict::Failed {
                    cause: &NO_OUTCOME,
                    reason,
                }
            }
        };
        let span = self.period.at(self.clock.unix());
        let limit = self.limit_of(request);
        let key = self.key.shared(request, &said);
        let ask = Ask {
            number: key.number,
            text: &key.text,
            limit,
            cost: cost.min(limit),
            span: &span,
        };
        let (standing, place) = match self.counts.take(&ask, request.effects).await {
            Ok(taken) => taken,
            Err(verdict) => return verdict,
        };
        let stood = Stood {
            standing,
            limit,
            cost: ask.cost,
            span,
            key: Arc::new(key),
            place,
        };
        let verdict = match standing.admitted {
            true => Verdict::Continue,
            false => self.refusal(&stood, request),
        };
        let is_wanted = self.fields != Fields::None || self.cost.is_told();
        if is_wanted && request.effects.is_live() {
            request.slots.put(self.stood, stood);
        }
        verdict
    }

    fn limit_of(&self, request: &Request<'_>) -> u64 {
        self.own.limit(request).unwrap_or(self.limit)
    }

    fn refusal(&self, stood: &Stood, request: &Request<'_>) -> Verdict {
        if request.effects.is_live() {
            (self.exceeded)(1);
        }
        let seconds = whole_seconds(stood.span.left(self.clock.unix())).max(1);
        let mut answer = Answer::of(&QUOTA_EXCEEDED).with(RETRY_AFTER, HeaderValue::from(seconds));
        answer
            .headers
            .extend(self.teller(stood).values(&stood.standing));
        answer.into()
    }

    /// Settles what the response costs, and tells the client how it stands.
    fn respond(&self, response: &mut Response<'_>) -> Verdict {
        let Some(stood) = response.slots.value(self.stood).cloned() else {
            return Verdict::Continue;
        };
        let mut standing = stood.standing;
        let told = self.cost.told(&response.head.headers);
        match told.filter(|_| standing.admitted && response.effects.is_live()) {
            Some(Told::Uses(uses)) if uses != stood.cost => {
                // Both are at most a billion.
                let more = uses.cast_signed() - stood.cost.cast_signed();
                let ask = Ask {
                    number: stood.key.number,
                    text: &stood.key.text,
                    limit: stood.limit,
                    cost: stood.cost,
                    span: &stood.span,
                };
                self.counts.owe(&ask, stood.place, more, response.effects);
                standing = standing.less(more);
            }
            Some(Told::Unreadable) => (self.unreadable)(1),
            Some(Told::Uses(_) | Told::Nothing) | None => {}
        }
        if self.fields != Fields::None {
            self.teller(&stood).tell(response, &standing);
        }
        Verdict::Continue
    }

    fn teller(&self, stood: &Stood) -> Teller<'_> {
        Teller::of(self.fields, &self.name, stood.limit, stood.span.length())
    }
}
