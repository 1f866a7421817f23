//! Limits how many requests of a client, consumer, route or host are under way at once, in this process.
//! It must not know how requests end: a place is given back when what the request left with the proxy is dropped.
//! Called by the chain of a listener or route; name it after plugins that authenticate to limit by `principal`.

mod places;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::header::RETRY_AFTER;
use http::HeaderValue;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{
    Answer, Blame, Build, Cause, Counter, Hooks, Plugin, PluginDef, Problem, Request, Safety,
    Shared, Slot, Texts, Verdict,
};
use crate::keyed::key::{Key, Said, Settings};
use crate::keyed::settings::{client_ip, many, v4_bits, v6_bits, Common};

use places::{Full, Place, Places};

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// The caller has as many requests under way as it may.
pub static CONCURRENCY_LIMITED: Cause = Cause {
    name: "concurrency_limited",
    blame: Blame::Policy,
    status: 429,
    title: "Too many requests",
    explanation: "The caller has as many requests under way as a `concurrency_limit` plugin's `max` allows.",
    next_step: "The caller has to wait for answers before it asks for more. Raise `max`, or look why requests take so long: streams and upgraded connections count for as long as they last.",
};

/// An expression has no outcome.
pub static NO_OUTCOME: Cause = Cause {
    name: "concurrency_limit.no_outcome",
    blame: Blame::Policy,
    status: 403,
    title: "Forbidden",
    explanation: "An expression under `key` of a `concurrency_limit` plugin has no outcome for the request: it reads a field or claim that is not there, or comes to something that is no key.",
    next_step: "The log has the reason. Ask with `has(request.headers.name)` or `'name' in request.headers` before reading what may be missing. `on_error: open` lets such requests through uncounted.",
};

/// There are too many callers to count.
pub static TOO_MANY_KEYS: Cause = Cause {
    name: "concurrency_limit.keys",
    blame: Blame::Proxy,
    status: 503,
    title: "Service unavailable",
    explanation: "Requests of as many different callers are under way as a `concurrency_limit` plugin's `max_keys` lets it count.",
    next_step: "Raise `max_keys`, or count larger groups of callers together (`key`, `ipv6_prefix`).",
};

/// Settings of `concurrency_limit`. What is under way is counted on over a reload.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Whose requests are counted together: `client_ip`, `principal`, `listener`, `route`, `host`, `header:NAME`,
    /// `cel:EXPRESSION`, or a list of these for every combination, as with `rate_limit`. A request without the header or
    /// principal is counted by its address; an expression without outcome is a failure with the cause
    /// `concurrency_limit.no_outcome`, and `on_error` decides. Default: `client_ip`.
    #[serde(default = "client_ip")]
    pub key: Texts,
    /// Requests under way at once for each key; 1 to 1 000 000. A request is under way until its response has been sent
    /// or it ended otherwise; streams and upgraded connections as long as they last. There is no default.
    pub max: u32,
    /// How many leading bits of an IPv4 address count as one client, 0 to 32. Default: 32.
    #[serde(default = "v4_bits")]
    pub ipv4_prefix: u8,
    /// How many leading bits of an IPv6 address count as one client, 0 to 128. Default: 64.
    #[serde(default = "v6_bits")]
    pub ipv6_prefix: u8,
    /// Largest number of keys with requests under way, rounded up to a multiple of 64; one takes about 40 bytes. Requests
    /// of further keys are refused with the cause `concurrency_limit.keys`. Default: 100 000.
    #[serde(default = "many")]
    pub max_keys: usize,
}

impl Plugin for Config {
    const KIND: &'static str = "concurrency_limit";
    const ABOUT: &'static str = "limit requests under way per client, consumer, route or host";
    const EXAMPLE: &'static str = "key: [route, principal]\nmax: 20";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[&CONCURRENCY_LIMITED, &TOO_MANY_KEYS, &NO_OUTCOME];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let mut problems = Vec::new();
        let settings = Settings {
            key: &self.key,
            ipv4_prefix: self.ipv4_prefix,
            ipv6_prefix: self.ipv6_prefix,
            consumers: build.consumers,
        };
        let key = Key::of(&settings, &mut problems);
        if !(1..=MOST).contains(&self.max) {
            let fact = format!("must be from 1 to {MOST}, found {}", self.max);
            problems.push(Problem::at("max", fact).help(
                "to refuse every request use the `respond` plugin with status 429; to lift the limit remove this plugin",
            ));
        }
        let common = Common {
            max_keys: self.max_keys,
            name: None,
            has_store: false,
            for_store: &[],
        };
        common.judge(&mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        let limiter = Limiter {
            key,
            max: self.max,
            keys_per_shard: self.max_keys.div_ceil(places::SHARDS),
            places: build.shared("the requests under way", || Arc::new(Places::new())),
            taken: build.slot(),
            limited: build.counter("limited"),
            too_many: build.counter("too_many_keys"),
        };
        Ok(Hooks::new().on_request(move |request| limiter.admit(request)))
    }
}

const MOST: u32 = 1_000_000;

struct Limiter {
    key: Key,
    max: u32,
    keys_per_shard: usize,
    places: Shared<Arc<Places>>,
    taken: Slot<Place>,
    limited: Counter,
    too_many: Counter,
}

impl Limiter {
    fn admit(&self, request: &mut Request<'_>) -> Verdict {
        let said = match self.key.said(request) {
            Ok(said) => said,
            Err(reason) => {
                return Verdict::Failed {
                    cause: &NO_OUTCOME,
                    reason,
                }
            }
        };
        if !request.effects.is_live() {
            return self.look(request, &said);
        }
        let taken = self.places.with(request.effects, |places| {
            let key = places.hash(|hasher| self.key.hash(request, &said, hasher));
            Places::take(places, key, self.max, self.keys_per_shard)
        });
        match taken {
            Ok(Ok(place)) => {
                request.slots.put(self.taken, place);
                Verdict::Continue
            }
            Ok(Err(Full::Key)) => {
                (self.limited)(1);
                refusal()
            }
            Ok(Err(Full::Table)) => {
                (self.too_many)(1);
                Answer::of(&TOO_MANY_KEYS).into()
            }
            Err(unknown) => Verdict::Unknown(unknown),
        }
    }

    fn look(&self, request: &Request<'_>, said: &Said) -> Verdict {
        let used = self.places.peek(request.effects, |places| {
            places.used(places.hash(|hasher| self.key.hash(request, said, hasher)))
        });
        match used {
            Ok(used) if used < self.max => Verdict::Continue,
            Ok(_) => refusal(),
            Err(unknown) => Verdict::Unknown(unknown),
        }
    }
}

/// Nobody knows when a place will be free; a second is what clients wait without harm.
fn refusal() -> Verdict {
    let answer = Answer::of(&CONCURRENCY_LIMITED);
    answer.with(RETRY_AFTER, HeaderValue::from(1)).into()
}
