//! Answers a request by asking several services at once and merging what they say, KrakenD's case.
//! It must not know pools; calls go the way of all calls of plugins, and count for their endpoints as requests do.
//! Called by the chain of a listener or route; name it after plugins that authenticate.

mod asking;
mod causes;
mod path;
mod shape;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::{HeaderName, Method};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{
    field_name, Build, Caller, Cause, Counter, Hooks, Plugin, PluginDef, Problem, Safety, Side,
    Size, Target, Time, Verdict,
};
pub use causes::{AGGREGATE, FAILED, INCOMPLETE, MALFORMED, TOO_LARGE};
use path::Path;
use shape::Shape;

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// Settings of `aggregate`. `GET` and `HEAD` are answered by it, other methods go on to the route's own action. Calls are `GET`s; those
/// whose path needs nothing of another's answer are made at once, the others as soon as what they need is there. Objects are merged
/// member by member in the order of `calls`: of members that are there twice the later one stays. The document is answered with 200 and
/// the field `X-Windrose-Complete: true`, or `false` where a part is missing (with `Cache-Control: no-store`). Policies of the route judge
/// the request before the document is sent; the calls are made by then. Of a listener it answers before any policy.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who is asked for what, from 1 to 16.
    pub calls: Vec<CallSettings>,
    /// What becomes of a request where a call fails: `fail` answers with a cause that names how (`aggregate.failed`,
    /// `aggregate.malformed`, `aggregate.too_large`); `partial` answers with what the others said, if any did. Default: `fail`.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// The most bytes of the merged document. Default: 4MiB, at most 64MiB.
    #[serde(default = "four_mib")]
    pub max: Size,
}

/// One call.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallSettings {
    /// Its name, for `{responses.NAME.…}` and for logs: letters, digits, `-` and `_`.
    pub name: String,
    /// Whom to ask: a URL, or `{url: ..., pool: ...}`.
    pub service: Target,
    /// Path and query that are asked for, in place of the URL's. `{segment.N}` is a segment of the request's canonical path, from 0;
    /// `{query.NAME}` a parameter, `{header.NAME}` a field, `{principal}` the name of who calls, `{responses.CALL.a.b}` a member of an
    /// earlier call's answer, as it came. Values are escaped and stay one segment or one value; a request without one, or with `..` for
    /// a segment, is refused with the cause `aggregate.incomplete_request`, and an answer without one fails the call. Default: the URL's.
    #[serde(default)]
    pub path: Option<String>,
    /// Fields of the request that go along, such as `[authorization, accept-language]`. What it gets the service must be trusted with.
    /// Default: none but the request's id and trace.
    #[serde(default)]
    pub headers: Vec<String>,
    /// Parameters of the request that go along. Default: none.
    #[serde(default)]
    pub query: Vec<String>,
    /// Time for the whole answer. Default: 2s, at most 60s.
    #[serde(default = "two_seconds")]
    pub timeout: Time,
    /// The most bytes of its answer. Default: 1MiB, at most 16MiB.
    #[serde(default = "one_mib")]
    pub max: Size,
    /// Whether the request fails with it even where `on_failure` is `partial`. Default: `false`.
    #[serde(default)]
    pub required: bool,
    /// Only this member of the answer counts, such as `data.items`. Default: all of it.
    #[serde(default)]
    pub target: Option<String>,
    /// An array becomes an object with this one member. Default: arrays need a `group`.
    #[serde(default)]
    pub wrap: Option<String>,
    /// Only these members, such as `[id, address.city]`; of arrays, those of each item. Default: all.
    #[serde(default)]
    pub allow: Vec<String>,
    /// Not these members, after `allow`. Default: none are left out.
    #[serde(default)]
    pub deny: Vec<String>,
    /// New names of members of the outermost object, by their old ones. Default: none.
    #[serde(default)]
    pub mapping: BTreeMap<String, String>,
    /// The key under which the answer stands. Default: its members stand beside those of others.
    #[serde(default)]
    pub group: Option<String>,
}

/// What becomes of a request where a call fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// It fails as well.
    #[default]
    Fail,
    /// It is answered with the rest.
    Partial,
}

fn two_seconds() -> Time {
    Time::secs(2)
}

fn one_mib() -> Size {
    Size(1 << 20)
}

fn four_mib() -> Size {
    Size(4 << 20)
}

impl Plugin for Config {
    const KIND: &'static str = "aggregate";
    const ABOUT: &'static str = "ask several services at once and merge their answers";
    const EXAMPLE: &'static str = "calls:
- {name: user, service: 'http://users.example', path: '/users/{segment.1}', headers: [authorization], group: user, deny: [password]}
- {name: orders, service: 'http://orders.example', path: '/orders?user={responses.user.id}', timeout: 1s, target: data, wrap: orders}
on_failure: partial";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] =
        &[&AGGREGATE, &FAILED, &MALFORMED, &TOO_LARGE, &INCOMPLETE];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let aggregate = Arc::new(Aggregate::of(&self, build)?);
        Ok(Hooks::new().on_request_async(move |request| {
            let aggregate = aggregate.clone();
            Box::pin(async move {
                match [Method::GET, Method::HEAD].contains(&request.head.method) {
                    true => aggregate.answer(request).await,
                    false => Verdict::Continue,
                }
            })
        }))
    }
}

/// Asks and merges.
struct Aggregate {
    calls: Vec<Call>,
    on_failure: OnFailure,
    most: usize,
    merged: Counter,
    partial: Counter,
}

/// A call that was compiled.
struct Call {
    name: String,
    caller: Caller,
    path: Option<Path>,
    /// The calls whose answers it needs, by their places.
    needs: Vec<usize>,
    headers: Vec<HeaderName>,
    query: Vec<String>,
    timeout: Time,
    most: usize,
    required: bool,
    shape: Shape,
}

impl Aggregate {
    fn of(config: &Config, build: &Build<'_>) -> Result<Aggregate, Vec<Problem>> {
        let mut problems = Vec::new();
        if !(1..=MOST_CALLS).contains(&config.calls.len()) {
            let fact = format!(
                "must be from 1 to {MOST_CALLS} calls, found {}",
                config.calls.len()
            );
            problems.push(Problem::at("calls", fact));
        }
        bound("max", config.max, MOST, &mut problems);
        let mut calls = Vec::new();
        for (at, settings) in config.calls.iter().enumerate() {
            let path = format!("calls[{at}]");
            let twice = config.calls[..at]
                .iter()
                .any(|one| one.name == settings.name);
            if twice || !is_name(&settings.name) {
                let fact = match twice {
                    true => format!("\"{}\" is there twice", settings.name),
                    false => format!("\"{}\" is no name", settings.name),
                };
                let problem = Problem::at(format!("{path}.name"), fact);
                problems.push(problem.help("use letters, digits, - and _, once for each call"));
            }
            calls.extend(Call::of(&path, settings, config, build, &mut problems));
        }
        if problems.is_empty() {
            problems.extend(circle(&calls));
        }
        match problems.is_empty() {
            true => Ok(Aggregate {
                calls,
                on_failure: config.on_failure,
                most: size(config.max),
                merged: build.counter("merged"),
                partial: build.counter("partial"),
            }),
            false => Err(problems),
        }
    }
}

impl Call {
    fn of(
        path: &str,
        settings: &CallSettings,
        config: &Config,
        build: &Build<'_>,
        problems: &mut Vec<Problem>,
    ) -> Option<Call> {
        let at = |name: &str| format!("{path}.{name}");
        let before = problems.len();
        let caller = build.caller(&at("service"), &settings.service);
        let caller = caller.map_err(|problem| problems.push(problem)).ok();
        let asked = settings.path.as_deref().map(Path::parse).transpose();
        let asked = asked.map_err(|why| problems.push(Problem::at(at("path"), why)));
        let asked = asked.ok().flatten();
        let mut needs = BTreeSet::new();
        for name in asked.iter().flat_map(Path::calls) {
            match config.calls.iter().position(|one| one.name == name) {
                Some(place) => {
                    needs.insert(place);
                }
                None => {
                    let fact = format!("no call is named \"{name}\"");
                    problems.push(Problem::at(at("path"), fact));
                }
            }
        }
        let mut headers = Vec::new();
        for (index, name) in settings.headers.iter().enumerate() {
            let path = format!("{path}.headers[{index}]");
            match field_name(Side::Request, &path, name) {
                Ok(name) => headers.push(name),
                Err(problem) => problems.push(problem),
            }
        }
        if settings.timeout > Time::secs(60) || settings.timeout < Time::millis(1) {
            let fact = format!("must be from 1ms to 60s, found {}", settings.timeout);
            problems.push(Problem::at(at("timeout"), fact).help("leave it out for 2s"));
        }
        bound(&at("max"), settings.max, MOST_ANSWER, problems);
        let shape = settings.shape(path, problems);
        let caller = caller.filter(|_| problems.len() == before)?;
        Some(Call {
            name: settings.name.clone(),
            caller,
            path: asked,
            needs: needs.into_iter().collect(),
            headers,
            query: settings.query.clone(),
            timeout: settings.timeout,
            most: size(settings.max),
            required: settings.required,
            shape,
        })
    }
}

impl CallSettings {
    fn shape(&self, path: &str, problems: &mut Vec<Problem>) -> Shape {
        let mut names = |setting: String, text: &str| {
            let names: Vec<String> = text.split('.').map(str::to_owned).collect();
            if names.iter().any(String::is_empty) {
                let problem = Problem::at(setting, format!("\"{text}\" is no path of members"));
                problems.push(problem.help("write names with dots between them"));
            }
            names
        };
        let target = self.target.as_deref();
        let target = target.map(|text| names(format!("{path}.target"), text));
        let mut list = |name: &str, texts: &[String]| {
            let texts = texts.iter().enumerate();
            let all = texts.map(|(at, text)| names(format!("{path}.{name}[{at}]"), text));
            all.collect::<Vec<_>>()
        };
        Shape {
            allow: list("allow", &self.allow),
            deny: list("deny", &self.deny),
            target: target.unwrap_or_default(),
            wrap: self.wrap.clone(),
            mapping: self.mapping.clone(),
            group: self.group.clone(),
        }
    }
}

/// Calls that wait for each other would wait for ever.
fn circle(calls: &[Call]) -> Option<Problem> {
    let mut done = BTreeSet::new();
    loop {
        let ready = |(at, call): &(usize, &Call)| {
            !done.contains(at) && call.needs.iter().all(|needed| done.contains(needed))
        };
        let next: Vec<usize> = calls
            .iter()
            .enumerate()
            .filter(ready)
            .map(|(at, _)| at)
            .collect();
        if next.is_empty() {
            break;
        }
        done.extend(next);
    }
    let at = (0..calls.len()).find(|at| !done.contains(at))?;
    let fact = "needs an answer that needs its own";
    Some(Problem::at(format!("calls[{at}].path"), fact))
}

fn is_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !name.is_empty() && name.bytes().all(is_part)
}

fn bound(path: &str, size: Size, most: u64, problems: &mut Vec<Problem>) {
    if !(1..=most).contains(&size.0) {
        let fact = format!("must be from 1B to {}, found {size}", Size(most));
        problems.push(Problem::at(path, fact));
    }
}

fn size(size: Size) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}

const MOST_CALLS: usize = 16;
const MOST: u64 = 64 << 20;
const MOST_ANSWER: u64 = 16 << 20;
