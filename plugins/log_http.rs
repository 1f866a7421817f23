//! Tells a collector over HTTP of every request that is over: in batches, by a background task, never in a request's way.
//! It must not hold a request up: what the queue has no room for is counted and dropped.
//! Called by the chain of a listener or route that names it.

mod sender;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{
    field_name, field_value, Build, Cause, Counter, Effects, Hooks, Plugin, PluginDef, Problem,
    Safety, Shared, Side, Size, Target, Time,
};
use crate::granted::Names;
use crate::logged::entry::Writer;
use crate::logged::queue::{Queue, Room};
use sender::Sender;

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// Settings of `log_http`. One JSON object for each request with `time` (RFC 3339), `request_id`, `client`, `listener`, `route`, `host`,
/// `method`, `path` (canonical), `status` (0 where nothing was sent), `cause` (null where the proxy did not answer itself),
/// `duration_ms`, `request_bytes` and `response_bytes` (of bodies), and where there are any `principal`, `pool`, `endpoint` (of the
/// last attempt), `trace_id`, `query`, what other plugins note (such as `llm_model`) and `headers`. Sent with POST; 2xx takes a batch, another 4xx than 408 and 429 refuses it for good, and
/// anything else is tried again after a second, then two, up to 30s, `attempts` times in all. What waits survives a reload; at the end
/// of the process there are five seconds to send it. `windrose_plugin_events_total` counts `logged`, `dropped` (the queue was full), `lost`
/// (never taken) and `refused`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The collector: a URL, or `{url: ..., pool: ...}`.
    pub service: Target,
    /// Fields of what is sent, such as `{authorization: 'Bearer ${env:TOKEN}'}`. At most 16. Default: none.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// `lines` sends one object in each line (`application/x-ndjson`), `array` a JSON array. Default: lines.
    #[serde(default)]
    pub format: Format,
    /// Requests in a batch, at most 10000. Default: 500.
    #[serde(default = "five_hundred")]
    pub batch: usize,
    /// How long a batch waits to become full. Default: 1s, at most 1m.
    #[serde(default = "a_second")]
    pub wait: Time,
    /// Requests that may wait, those on their way included; further ones are dropped. Default: 10000, at most 1000000.
    #[serde(default = "ten_thousand")]
    pub queue: usize,
    /// Memory for requests that wait. Default: 16MiB, at most 1GiB.
    #[serde(default = "queue_bytes")]
    pub queue_size: Size,
    /// How often a batch is sent before it is given up, at most 100. Default: 5.
    #[serde(default = "five")]
    pub attempts: u32,
    /// Time for the collector's answer. Default: 10s, at most 60s.
    #[serde(default = "ten_seconds")]
    pub timeout: Time,
    /// Fields of requests that are told; a name that ends in `*` stands for all that begin with it. Of `authorization`, `cookie` and
    /// others that hold credentials only that they were there. Default: none.
    #[serde(default)]
    pub request_headers: Vec<String>,
    /// Tells the query as it came. Default: `false`, since tokens and names of people end up there.
    #[serde(default)]
    pub query: bool,
}

/// How a batch is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One object in each line.
    #[default]
    Lines,
    /// An array of objects.
    Array,
}

fn five_hundred() -> usize {
    500
}

fn ten_thousand() -> usize {
    10_000
}

fn queue_bytes() -> Size {
    Size(16 << 20)
}

fn five() -> u32 {
    5
}

fn a_second() -> Time {
    Time::secs(1)
}

fn ten_seconds() -> Time {
    Time::secs(10)
}

impl Plugin for Config {
    const KIND: &'static str = "log_http";
    const ABOUT: &'static str = "tell a collector over HTTP of every request";
    const EXAMPLE: &'static str = "service: https://logs.example/ingest
headers: {authorization: Bearer an-example}
request_headers: [user-agent]";
    const SAFETY: Safety = Safety::Convenience;
    const CAUSES: &'static [&'static Cause] = &[];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let mut problems = Vec::new();
        bounds(&self, &mut problems);
        let names = Names::of(
            Side::Request,
            "request_headers",
            &self.request_headers,
            &mut problems,
        );
        let headers = headers(&self.headers, &mut problems);
        let caller = build.caller("service", &self.service);
        let caller = caller.map_err(|problem| problems.push(problem));
        let (Ok(caller), true) = (caller, problems.is_empty()) else {
            return Err(problems);
        };
        let writer = Writer {
            clock: build.clock.clone(),
            names,
            query: self.query,
        };
        let queue = build.shared("the queue", Arc::<Queue>::default);
        let sender = Arc::new(Sender {
            caller,
            headers,
            queue: queue.clone(),
            format: self.format,
            batch: self.batch,
            wait: self.wait.0,
            attempts: self.attempts,
            timeout: self.timeout.0,
            logged: build.counter("logged"),
            lost: build.counter("lost"),
            refused: build.counter("refused"),
        });
        let hooks = self.hooks(writer, queue, build.counter("dropped"));
        Ok(hooks.background("send", move |life| {
            let sender = sender.clone();
            async move { sender.live(life).await }
        }))
    }
}

impl Config {
    /// What puts requests into the queue.
    fn hooks(&self, writer: Writer, queue: Shared<Arc<Queue>>, dropped: Counter) -> Hooks {
        let room = Room {
            most: self.queue,
            bytes: usize::try_from(self.queue_size.0).unwrap_or(usize::MAX),
            batch: self.batch,
        };
        Hooks::new().on_finish(move |finished| {
            let entry = writer.entry(finished).json();
            // Only traffic comes to its end.
            let push = |queue: &Arc<Queue>| queue.push(entry, &room);
            if queue.with(Effects::Live, push) != Ok(true) {
                dropped(1);
            }
        })
    }
}

fn headers(
    given: &BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut all = Vec::new();
    for (name, value) in given {
        let path = format!("headers.{name}");
        match (
            field_name(Side::Request, &path, name),
            field_value(&path, value),
        ) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                all.push((name, value));
            }
            (Err(problem), _) => problems.push(problem),
            // The value may be a secret, and is not repeated.
            (Ok(_), Err(_)) => problems.push(
                Problem::at(path, "holds characters that a header field cannot carry")
                    .help("remove line breaks and control characters"),
            ),
        }
    }
    if given.len() > 16 {
        let fact = format!("has {} fields, more than 16", given.len());
        problems.push(Problem::at("headers", fact).help("send fewer"));
    }
    all
}

fn bounds(config: &Config, problems: &mut Vec<Problem>) {
    let mut within = |path: &str, value: u64, least: u64, most: u64| {
        if !(least..=most).contains(&value) {
            let fact = format!("must be from {least} to {most}, found {value}");
            problems.push(Problem::at(path, fact).help("leave it out for the default"));
        }
    };
    let number = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
    within("batch", number(config.batch), 1, 10_000);
    within(
        "queue",
        number(config.queue),
        number(config.batch.min(10_000)),
        1_000_000,
    );
    within("attempts", u64::from(config.attempts), 1, 100);
    within("queue_size", config.queue_size.0, 64 << 10, 1 << 30);
    for (path, time, most) in [("wait", config.wait, 60), ("timeout", config.timeout, 60)] {
        if time < Time::millis(10) || time > Time::secs(most) {
            let fact = format!("must be from 10ms to 60s, found {time}");
            problems.push(Problem::at(path, fact).help("leave it out for the default"));
        }
    }
}
