//! Limits how many requests a client, consumer, route or host may send, with a token bucket for each in this process.
//! It must not know other processes: three proxies with `rate: 100` let 300 through.
//! Called by the chain of a listener or route; name it after plugins that authenticate to limit by `principal`.

mod bucket;
mod buckets;
mod key;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{
    Answer, Blame, Build, Cause, Clock, Counter, Hooks, Plugin, PluginDef, Problem, Request,
    Response, Safety, Shared, Slot, Texts, Time, Verdict,
};

use bucket::{Law, Take};
use buckets::Buckets;
use key::Key;

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// The bucket is empty.
pub static RATE_LIMITED: Cause = Cause {
    name: "rate_limited",
    blame: Blame::Policy,
    status: 429,
    title: "Too many requests",
    explanation: "The caller sent more requests than a `rate_limit` plugin's `rate` and `burst` allow.",
    next_step: "The `Retry-After` field says when the next request is let through. Raise `burst` for short peaks, `rate` for steady traffic.",
};

/// Settings of `rate_limit`. Buckets survive a reload, and a changed rate or burst applies to them at once.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Whose requests are counted together: `client_ip`, `principal`, `route`, `host`, `header:NAME`, or a list of
    /// these for every combination, such as `[route, client_ip]`. A request without the header or principal is
    /// counted by its address. Clients choose what a header says, so limit by one only if something checks it.
    /// Default: `client_ip`.
    #[serde(default = "client_ip")]
    pub key: Texts,
    /// Requests that are let through in each `per`, at a steady pace; 1 to 1 000 000 000. There is no default.
    pub rate: u64,
    /// The time that `rate` is counted over, such as `1s` or `1h`. Default: `1s`.
    #[serde(default = "second")]
    pub per: Time,
    /// Requests that are let through at once after a pause: the size of the bucket; 1 to 1 000 000 000.
    /// Default: the same as `rate`.
    #[serde(default)]
    pub burst: Option<u64>,
    /// How many leading bits of an IPv4 address count as one client, 0 to 32. Default: 32.
    #[serde(default = "v4_bits")]
    pub ipv4_prefix: u8,
    /// How many leading bits of an IPv6 address count as one client, 0 to 128. Default: 64, as one subscriber has at
    /// least that many addresses.
    #[serde(default = "v6_bits")]
    pub ipv6_prefix: u8,
    /// Largest number of buckets, rounded up to a multiple of 64; a bucket takes about 70 bytes. Beyond it a new caller
    /// replaces one that was not seen for long (the oldest of eight), which then starts again with a full bucket.
    /// Default: 100 000.
    #[serde(default = "many")]
    pub max_keys: usize,
    /// Which fields tell clients about the limit: `draft` (`RateLimit-Policy` and `RateLimit` of the IETF draft),
    /// `legacy` (`X-RateLimit-Limit`, `-Remaining`, `-Reset` with seconds until the bucket is full), `both` or `none`.
    /// `Retry-After` is always sent when a request is refused. Default: `both`.
    #[serde(default)]
    pub fields: Fields,
}

/// Which fields tell clients about the limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fields {
    /// Those of the IETF draft and those that most clients read.
    #[default]
    Both,
    /// `RateLimit-Policy` and `RateLimit`.
    Draft,
    /// `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset`.
    Legacy,
    /// None.
    None,
}

impl Plugin for Config {
    const KIND: &'static str = "rate_limit";
    const ABOUT: &'static str = "limit requests per client, consumer, route or host";
    const EXAMPLE: &'static str = "key: [route, client_ip]\nrate: 100\nper: 1m\nburst: 20";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[&RATE_LIMITED];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let mut problems = Vec::new();
        let key = Key::of(&self, &mut problems);
        let law = law(&self, &mut problems);
        if self.max_keys == 0 {
            problems.push(
                Problem::at("max_keys", "must be at least 1, found 0")
                    .help("leave it out for 100000"),
            );
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let limiter = Arc::new(Limiter {
            key,
            law,
            keys_per_shard: self.max_keys.div_ceil(buckets::SHARDS),
            fields: self.fields,
            buckets: build.shared("the local token buckets", Buckets::new),
            clock: build.clock.clone(),
            taken: build.slot(),
            limited: build.counter("limited"),
            evicted: build.counter("evicted"),
        });
        let teller = limiter.clone();
        let hooks = Hooks::new().on_request(move |request| limiter.admit(request));
        Ok(match self.fields {
            Fields::None => hooks,
            Fields::Both | Fields::Draft | Fields::Legacy => {
                hooks.on_response(move |response| teller.tell(response))
            }
        })
    }
}

fn client_ip() -> Texts {
    Texts(vec!["client_ip".to_owned()])
}

fn second() -> Time {
    Time::secs(1)
}

fn v4_bits() -> u8 {
    32
}

fn v6_bits() -> u8 {
    64
}

fn many() -> usize {
    100_000
}

fn law(config: &Config, problems: &mut Vec<Problem>) -> Law {
    let burst = config.burst.unwrap_or(config.rate);
    let mut counts = vec![("rate", config.rate)];
    counts.extend(config.burst.map(|burst| ("burst", burst)));
    for (path, count) in counts {
        if count == 0 {
            problems.push(Problem::at(path, "must be at least 1, found 0").help(
                "to refuse every request use the `respond` plugin with status 429; to lift the limit remove this plugin",
            ));
        } else if count > Law::MOST {
            let fact = format!("must be at most {}, found {count}", Law::MOST);
            problems.push(Problem::at(path, fact).help("remove this plugin to lift the limit"));
        }
    }
    if config.per.0 < Duration::from_millis(1) {
        problems.push(
            Problem::at("per", format!("must be at least 1ms, found {}", config.per))
                .help("`rate` is counted over this time, such as \"1s\""),
        );
    }
    Law::new(config.rate, config.per.0, burst)
}

struct Limiter {
    key: Key,
    law: Law,
    keys_per_shard: usize,
    fields: Fields,
    buckets: Shared<Buckets>,
    clock: Clock,
    taken: Slot<Take>,
    limited: Counter,
    evicted: Counter,
}

impl Limiter {
    fn admit(&self, request: &mut Request<'_>) -> Verdict {
        let now = self.clock.elapsed();
        if !request.effects.is_live() {
            return self.look(request, now);
        }
        let taken = self.buckets.with(request.effects, |buckets| {
            let key = buckets.hash(|hasher| self.key.hash(request, hasher));
            buckets.take(key, &self.law, now, self.keys_per_shard)
        });
        let (take, evicted) = match taken {
            Ok(taken) => taken,
            Err(unknown) => return Verdict::Unknown(unknown),
        };
        if evicted > 0 {
            (self.evicted)(evicted);
        }
        if self.fields != Fields::None {
            request.slots.put(self.taken, take);
        }
        match take.admitted {
            true => Verdict::Continue,
            false => {
                (self.limited)(1);
                self.refusal(&take).into()
            }
        }
    }

    /// What would become of the request, where the buckets may be looked at.
    fn look(&self, request: &Request<'_>, now: Duration) -> Verdict {
        let looked = self.buckets.peek(request.effects, |buckets| {
            let key = buckets.hash(|hasher| self.key.hash(request, hasher));
            buckets.peek(key, &self.law, now)
        });
        match looked {
            Ok(take) if take.admitted => Verdict::Continue,
            Ok(take) => self.refusal(&take).into(),
            Err(unknown) => Verdict::Unknown(unknown),
        }
    }

    fn refusal(&self, take: &Take) -> Answer {
        // Never 0: a client that retries at once would only be refused again.
        let seconds = whole_seconds(take.next).max(1);
        let mut answer = Answer::of(&RATE_LIMITED).with(RETRY_AFTER, HeaderValue::from(seconds));
        answer.headers.extend(self.field_values(take));
        answer
    }

    fn tell(&self, response: &mut Response<'_>) -> Verdict {
        let Some(take) = response.slots.value(self.taken).copied() else {
            return Verdict::Continue;
        };
        // Of several limits on one route the client needs the one it will run into first.
        let told = response.head.headers.get(&X_REMAINING);
        let told = told.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if told.is_some_and(|remaining| remaining < take.remaining) {
            return Verdict::Continue;
        }
        for (name, value) in self.field_values(&take) {
            // Cannot fail: name and value are parsed already.
            let _ = response.head.insert_header(name, value);
        }
        Verdict::Continue
    }

    /// The draft's window is the time in which a whole burst grows back, so quota and remainder have the same scale.
    fn field_values(&self, take: &Take) -> Vec<(HeaderName, HeaderValue)> {
        let burst = self.law.burst();
        let window = whole_seconds(self.law.time_to_fill()).max(1);
        let reset = whole_seconds(take.full);
        let mut fields = Vec::with_capacity(5);
        if matches!(self.fields, Fields::Both | Fields::Draft) {
            let policy = format!("\"default\";q={burst};w={window}");
            let state = format!("\"default\";r={};t={reset}", take.remaining);
            fields.extend(HeaderValue::from_str(&policy).map(|value| (POLICY.clone(), value)));
            fields.extend(HeaderValue::from_str(&state).map(|value| (STATE.clone(), value)));
        }
        if matches!(self.fields, Fields::Both | Fields::Legacy) {
            fields.push((X_LIMIT.clone(), HeaderValue::from(burst)));
            fields.push((X_REMAINING.clone(), HeaderValue::from(take.remaining)));
            fields.push((X_RESET.clone(), HeaderValue::from(reset)));
        }
        fields
    }
}

fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

// draft-ietf-httpapi-ratelimit-headers, from its eighth version on.
static POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
static STATE: HeaderName = HeaderName::from_static("ratelimit");
static X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
static X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
static X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
