//! Limits how many requests a client, consumer, route or host may send, counted in this process or in a store that proxies share.
//! It must not know other processes: without a store three proxies with `rate: 100` let 300 through.
//! Called by the chain of a listener or route; name it after plugins that authenticate to limit by `principal`.

mod bucket;
mod local;
mod settings;
mod shared;
#[cfg(test)]
mod tests;
mod window;

use std::sync::Arc;

use http::header::RETRY_AFTER;
use http::HeaderValue;

use crate::contract::{
    Answer, Blame, Build, Cause, Clock, Counter, Effects, Hooks, Plugin, PluginDef, Problem,
    Request, Response, Safety, Slot, Verdict,
};
use crate::keyed::cost::{Cost, Told};
use crate::keyed::fields::{whole_seconds, Teller};
use crate::keyed::key::{Key, Said};
use crate::keyed::Standing;

use local::Local;
use shared::{Counts, Taken};

pub use crate::keyed::cost::{CostSetting, FromResponse};
pub use crate::keyed::fields::Fields;
pub use crate::keyed::OnStoreFailure;
pub use settings::{Algorithm, Config};

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// There is nothing left for the caller.
pub static RATE_LIMITED: Cause = Cause {
    name: "rate_limited",
    blame: Blame::Policy,
    status: 429,
    title: "Too many requests",
    explanation: "The caller sent more requests than a `rate_limit` plugin's `rate` and `burst` allow.",
    next_step: "The `Retry-After` field says when the next request is let through. Raise `burst` for short peaks, `rate` for steady traffic.",
};

/// An expression has no outcome.
pub static NO_OUTCOME: Cause = Cause {
    name: "rate_limit.no_outcome",
    blame: Blame::Policy,
    status: 403,
    title: "Forbidden",
    explanation: "An expression under `key` or `cost` of a `rate_limit` plugin has no outcome for the request: it reads a field or claim that is not there, or comes to something that is no key or no cost.",
    next_step: "The log has the reason. Ask with `has(request.headers.name)` or `'name' in request.headers` before reading what may be missing. `on_error: open` lets such requests through uncounted.",
};

/// The store cannot count, and the plugin refuses then.
pub static STORE_UNAVAILABLE: Cause = Cause {
    name: "rate_limit.store_unavailable",
    blame: Blame::Dependency,
    status: 503,
    title: "Service unavailable",
    explanation: "A `rate_limit` plugin counts in a store that is not connected, did not answer in time or answered with an error, and its `on_store_failure` is `closed`.",
    next_step: "The log and `windrose status` say what is wrong with the store; the proxy connects again by itself. `on_store_failure: local` counts in each proxy meanwhile.",
};

impl Plugin for Config {
    const KIND: &'static str = "rate_limit";
    const ABOUT: &'static str = "limit requests per client, consumer, route or host";
    const EXAMPLE: &'static str = "key: [route, client_ip]\nrate: 100\nper: 1m\nburst: 20\nstore: shared\non_store_failure: local";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[&RATE_LIMITED, &NO_OUTCOME, &STORE_UNAVAILABLE];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let mut problems = Vec::new();
        let key = self.parsed_key(build, &mut problems);
        let cost = Cost::of(self.cost.as_ref(), build.consumers, &mut problems);
        let law = self.law(&mut problems);
        self.judge(&mut problems);
        let name = self.name.as_deref();
        let counts = self.store.is_some().then(|| {
            let name = name.unwrap_or(build.instance);
            Counts::new(&self, name, build)
        });
        let counts = counts.transpose().map_err(|problem| problems.push(problem));
        let (true, Ok(counts)) = (problems.is_empty(), counts) else {
            return Err(problems);
        };
        let (quota, window) = match self.algorithm {
            Algorithm::TokenBucket => (law.burst(), law.time_to_fill()),
            Algorithm::SlidingWindow => (self.rate, self.per.0),
        };
        if let Cost::Fixed(uses) = cost {
            if uses > quota {
                let fact = format!("must be at most {quota}, found {uses}");
                let remedy =
                    "a request that costs more than there can ever be would wait for all of it";
                return Err(vec![Problem::at("cost", fact).help(remedy)]);
            }
        }
        let limiter = Arc::new(Limiter {
            key,
            cost,
            unreadable: build.counter("cost_unreadable"),
            local: Local::new(&self, law, build),
            teller: Teller::of(
                self.fields,
                name.unwrap_or("default").to_owned(),
                quota,
                window,
            ),
            clock: build.clock.clone(),
            taken: build.slot(),
            limited: build.counter("limited"),
            evicted: build.counter("evicted"),
        });
        Ok(hooks(limiter, counts.map(Arc::new)))
    }
}

fn hooks(limiter: Arc<Limiter>, counts: Option<Arc<Counts>>) -> Hooks {
    let teller = limiter.clone();
    let mut hooks = match counts.clone() {
        None => Hooks::new().on_request(move |request| limiter.admit(request)),
        Some(counts) => Hooks::new().on_request_async(move |request| {
            let (limiter, counts) = (limiter.clone(), counts.clone());
            Box::pin(async move { limiter.admit_shared(&counts, request).await })
        }),
    };
    let is_told = teller.cost.is_told();
    if let Some(counts) = counts.clone().filter(|_| is_told) {
        hooks = hooks.background("settle", move |life| {
            let counts = counts.clone();
            async move { counts.settle(life).await }
        });
    }
    match teller.teller.fields {
        Fields::None if !is_told => hooks,
        _ => hooks.on_response(move |response| teller.respond(counts.as_deref(), response)),
    }
}

struct Limiter {
    key: Key,
    cost: Cost,
    local: Local,
    teller: Teller<'static>,
    clock: Clock,
    taken: Slot<Took>,
    limited: Counter,
    evicted: Counter,
    unreadable: Counter,
}

/// What was taken for a request.
struct Took {
    standing: Standing,
    cost: u64,
    /// The key in this process's tables.
    number: u128,
    /// The key in the store, where that counted.
    shared: Option<String>,
}

impl Limiter {
    /// Counts in this process alone.
    fn admit(&self, request: &mut Request<'_>) -> Verdict {
        let (said, cost) = match self.asked(request) {
            Ok(asked) => asked,
            Err(verdict) => return verdict,
        };
        if cost == 0 {
            return Verdict::Continue;
        }
        let now = self.clock.elapsed();
        let effects = request.effects;
        let hash = |hasher: &mut _| self.key.hash(request, &said, hasher);
        let taken = self.local.hash(effects, hash).and_then(|number| {
            let (standing, evicted) = self.local.take(number, now, cost, effects)?;
            Ok((standing, evicted, number))
        });
        match taken {
            Ok((standing, evicted, number)) => {
                if evicted > 0 {
                    (self.evicted)(evicted);
                }
                let took = Took {
                    standing,
                    cost,
                    number,
                    shared: None,
                };
                self.judged(took, request)
            }
            Err(unknown) => Verdict::Unknown(unknown),
        }
    }

    /// Counts in a store.
    async fn admit_shared(&self, counts: &Counts, request: &mut Request<'_>) -> Verdict {
        let (said, cost) = match self.asked(request) {
            Ok(asked) => asked,
            Err(verdict) => return verdict,
        };
        if cost == 0 {
            return Verdict::Continue;
        }
        let key = self.key.shared(request, &said);
        let taken = counts.take(&key, cost, &self.local, request.effects).await;
        let (standing, shared) = match taken {
            Ok(Taken::InStore(standing, shared)) => (standing, Some(shared)),
            Ok(Taken::Here(standing)) => (standing, None),
            Err(verdict) => return verdict,
        };
        let took = Took {
            standing,
            cost,
            number: key.number,
            shared,
        };
        self.judged(took, request)
    }

    /// What expressions say of a request, and what it costs.
    fn asked(&self, request: &Request<'_>) -> Result<(Said, u64), Verdict> {
        let said = self.key.said(request);
        let asked = said.and_then(|said| Ok((said, self.cost.before(request)?)));
        asked.map_err(|reason| Verdict::Failed {
            cause: &NO_OUTCOME,
            reason,
        })
    }

    fn judged(&self, took: Took, request: &mut Request<'_>) -> Verdict {
        let standing = took.standing;
        let is_wanted = self.teller.fields != Fields::None || self.cost.is_told();
        if is_wanted && request.effects.is_live() {
            request.slots.put(self.taken, took);
        }
        if standing.admitted {
            return Verdict::Continue;
        }
        if request.effects.is_live() {
            (self.limited)(1);
        }
        self.refusal(&standing).into()
    }

    fn refusal(&self, take: &Standing) -> Answer {
        // Never 0: a client that retries at once would only be refused again.
        let seconds = whole_seconds(take.next).max(1);
        let mut answer = Answer::of(&RATE_LIMITED).with(RETRY_AFTER, HeaderValue::from(seconds));
        answer.headers.extend(self.teller.values(take));
        answer
    }

    /// Settles what the response costs, and tells the client how it stands.
    fn respond(&self, counts: Option<&Counts>, response: &mut Response<'_>) -> Verdict {
        let Some(took) = response.slots.value(self.taken) else {
            return Verdict::Continue;
        };
        let mut standing = took.standing;
        let told = self.cost.told(&response.head.headers);
        let told = told.filter(|_| standing.admitted && response.effects.is_live());
        match told {
            Some(Told::Uses(uses)) if uses != took.cost => {
                // Both are at most a billion.
                let more = uses.cast_signed() - took.cost.cast_signed();
                standing = self.owe(counts, took, more, response.effects);
            }
            Some(Told::Unreadable) => (self.unreadable)(1),
            Some(Told::Uses(_) | Told::Nothing) | None => {}
        }
        if self.teller.fields != Fields::None {
            self.teller.tell(response, &standing);
        }
        Verdict::Continue
    }

    fn owe(&self, counts: Option<&Counts>, took: &Took, more: i64, effects: Effects) -> Standing {
        if let (Some(counts), Some(shared)) = (counts, &took.shared) {
            counts.owe(shared, took.number, more, effects);
            return took.standing.less(more);
        }
        let owed = self
            .local
            .owe(took.number, self.clock.elapsed(), more, effects);
        owed.map_or(took.standing, |(standing, _)| standing)
    }
}
