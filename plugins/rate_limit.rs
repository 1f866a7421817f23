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
    Answer, Blame, Build, Cause, Clock, Counter, Hooks, Plugin, PluginDef, Problem, Request,
    Response, Safety, Slot, Verdict,
};
use crate::keyed::fields::{whole_seconds, Teller};
use crate::keyed::key::Key;
use crate::keyed::Standing;

use local::Local;
use shared::Counts;

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
    const CAUSES: &'static [&'static Cause] = &[&RATE_LIMITED, &STORE_UNAVAILABLE];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let mut problems = Vec::new();
        let key = self.parsed_key(&mut problems);
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
        let limiter = Arc::new(Limiter {
            key,
            local: Local::new(&self, law, build),
            teller: Teller {
                fields: self.fields,
                name: name.unwrap_or("default").to_owned(),
                quota,
                window,
            },
            clock: build.clock.clone(),
            taken: build.slot(),
            limited: build.counter("limited"),
            evicted: build.counter("evicted"),
        });
        Ok(hooks(limiter, counts))
    }
}

fn hooks(limiter: Arc<Limiter>, counts: Option<Counts>) -> Hooks {
    let teller = limiter.clone();
    let hooks = match counts {
        None => Hooks::new().on_request(move |request| limiter.admit(request)),
        Some(counts) => {
            let both = Arc::new((limiter, counts));
            Hooks::new().on_request_async(move |request| {
                let both = both.clone();
                Box::pin(async move {
                    let (limiter, counts) = &*both;
                    match counts.take(&limiter.key, &limiter.local, request).await {
                        Ok(take) => limiter.judged(take, request),
                        Err(verdict) => verdict,
                    }
                })
            })
        }
    };
    match teller.teller.fields {
        Fields::None => hooks,
        Fields::Both | Fields::Draft | Fields::Legacy => {
            hooks.on_response(move |response| teller.tell(response))
        }
    }
}

struct Limiter {
    key: Key,
    local: Local,
    teller: Teller,
    clock: Clock,
    taken: Slot<Standing>,
    limited: Counter,
    evicted: Counter,
}

impl Limiter {
    /// Counts in this process alone.
    fn admit(&self, request: &mut Request<'_>) -> Verdict {
        let now = self.clock.elapsed();
        let effects = request.effects;
        let hash = self
            .local
            .hash(effects, |hasher| self.key.hash(request, hasher));
        match hash.and_then(|key| self.local.take(key, now, effects)) {
            Ok((take, evicted)) => {
                if evicted > 0 {
                    (self.evicted)(evicted);
                }
                self.judged(take, request)
            }
            Err(unknown) => Verdict::Unknown(unknown),
        }
    }

    fn judged(&self, take: Standing, request: &mut Request<'_>) -> Verdict {
        if self.teller.fields != Fields::None && request.effects.is_live() {
            request.slots.put(self.taken, take);
        }
        if take.admitted {
            return Verdict::Continue;
        }
        if request.effects.is_live() {
            (self.limited)(1);
        }
        self.refusal(&take).into()
    }

    fn refusal(&self, take: &Standing) -> Answer {
        // Never 0: a client that retries at once would only be refused again.
        let seconds = whole_seconds(take.next).max(1);
        let mut answer = Answer::of(&RATE_LIMITED).with(RETRY_AFTER, HeaderValue::from(seconds));
        answer.headers.extend(self.teller.values(take));
        answer
    }

    fn tell(&self, response: &mut Response<'_>) -> Verdict {
        if let Some(take) = response.slots.value(self.taken).copied() {
            self.teller.tell(response, &take);
        }
        Verdict::Continue
    }
}
