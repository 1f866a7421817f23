//! Changes JSON bodies of requests: a merge patch (RFC 7396), then a patch of single operations (RFC 6902).
//! It must not know how bodies are read or sent; it sees each whole and puts another in its place.
//! Called by the chain of a listener or route; name it after plugins that authenticate, as bodies are held in memory.

#[cfg(test)]
mod tests;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::HeaderMap;
use json_patch::Patch;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::codec::whole::{plain, NotPlain};
use crate::codec::{coding, Coded};
use crate::contract::{
    Answer, Blame, Build, Cause, Counter, Hooks, Plugin, PluginDef, Problem, Request, Safety, Size,
    Verdict, WholeBody,
};

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// The body is larger than may be held for this.
pub static TOO_LARGE: Cause = Cause {
    name: "body.too_large",
    blame: Blame::Client,
    status: 413,
    title: "Content too large",
    explanation: "The request's body, or what a `body` plugin made of it, is larger than the plugin's `max`.",
    next_step: "Send less, or raise `max`; the route's `body_limit` and `limits.held_bodies` bound it as well.",
};

/// The body is not JSON.
pub static MALFORMED: Cause = Cause {
    name: "body.malformed",
    blame: Blame::Client,
    status: 400,
    title: "Bad request",
    explanation: "The request says that its body is JSON, a `body` plugin is to change it, and it is not JSON, nested deeper than 127 levels, or not in its content coding.",
    next_step: "Look at what the client sends; `jq . FILE` says where it ends to be JSON.",
};

/// The operations do not fit the body.
pub static UNFIT: Cause = Cause {
    name: "body.unfit",
    blame: Blame::Client,
    status: 422,
    title: "Unprocessable content",
    explanation: "An operation of a `body` plugin's `patch` cannot be carried out on the request's body: a path is not there, or a `test` fails.",
    next_step: "Compare the body with the plugin's `patch`; `merge` makes what is missing, where `patch` wants it to be there.",
};

/// The body is of another kind, and the plugin refuses those.
pub static UNSUPPORTED: Cause = Cause {
    name: "body.unsupported",
    blame: Blame::Client,
    status: 415,
    title: "Unsupported media type",
    explanation: "The request's body is not JSON by its `Content-Type`, or is compressed, and a `body` plugin has `others: refuse`.",
    next_step: "Send `Content-Type: application/json` without `Content-Encoding`, or let other bodies through with `others: pass`.",
};

/// Settings of `body`. Numbers of more digits than a 64-bit integer or floating point number holds, and all but the last of keys that
/// are there twice, are lost in bodies that are changed. Members keep no order.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How the bodies of requests are changed.
    pub request: Changes,
    /// The most bytes of a body, before and after; larger ones are refused with the cause `body.too_large`. Bodies are held
    /// in memory until their request is over. Default: 1MiB, at most 64MiB.
    #[serde(default = "one_mib")]
    pub max: Size,
    /// What becomes of bodies that are not JSON (`application/json` or `…+json`) or are compressed: `pass` leaves them as
    /// they are, `refuse` refuses them with the cause `body.unsupported`. `decompress` in the same chain does not help here, as
    /// it works on the way upstream, after this; `decode` does. Default: `pass`.
    #[serde(default)]
    pub others: Others,
    /// Whether bodies in gzip, br or zstd are changed as well: they go on without their coding, whose result `max` bounds. Default:
    /// `false`.
    #[serde(default)]
    pub decode: bool,
}

/// Changes of a JSON document: `merge` first, then `patch`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Changes {
    /// A merge patch (RFC 7396): members that are given replace those there are, or are added; `null` removes; objects are
    /// merged member by member. Default: none.
    pub merge: Option<Map<String, Value>>,
    /// Operations (RFC 6902), such as `[{op: add, path: /tags/-, value: new}]`, at most 100; if one cannot be carried out
    /// the request is refused with the cause `body.unfit`. Default: none.
    pub patch: Vec<Value>,
}

/// What becomes of bodies that cannot be changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Others {
    /// They go on.
    #[default]
    Pass,
    /// They are refused.
    Refuse,
}

impl Plugin for Config {
    const KIND: &'static str = "body";
    const ABOUT: &'static str = "change JSON bodies of requests (merge patch, JSON patch)";
    const EXAMPLE: &'static str = "request:\n  merge: {source: gateway, debug: null}\n  patch: [{op: add, path: /version, value: 2}]\nmax: 256KiB\nothers: refuse";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[&TOO_LARGE, &MALFORMED, &UNFIT, &UNSUPPORTED];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let mut problems = Vec::new();
        let patch = self.patch(&mut problems);
        if self.request.merge.is_none() && self.request.patch.is_empty() {
            problems.push(
                Problem::at("request", "changes nothing").help("give `merge`, `patch` or both"),
            );
        }
        if !(1..=MOST).contains(&self.max.0) {
            problems.push(
                Problem::at(
                    "max",
                    format!("must be from 1B to 64MiB, found {}", self.max),
                )
                .help("leave it out for 1MiB"),
            );
        }
        let Some(patch) = patch.filter(|_| problems.is_empty()) else {
            return Err(problems);
        };
        let changer = Changer {
            merge: self.request.merge.map(Value::Object),
            patch,
            most: self.max.0,
            others: self.others,
            decodes: self.decode,
            changed: build.counter("changed"),
        };
        let most = self.max.0;
        let hooks = Hooks::new().on_request(move |request| changer.change(request));
        Ok(hooks.with_whole_body(most, &TOO_LARGE))
    }
}

impl Config {
    fn patch(&self, problems: &mut Vec<Problem>) -> Option<Patch> {
        let operations = &self.request.patch;
        if operations.len() > MOST_OPERATIONS {
            let fact = format!(
                "has {} operations; {MOST_OPERATIONS} are the most",
                operations.len()
            );
            problems.push(Problem::at("request.patch", fact));
            return None;
        }
        let mut patch = Vec::new();
        for (at, operation) in operations.iter().enumerate() {
            match serde_json::from_value(operation.clone()) {
                Ok(operation) => patch.push(operation),
                Err(error) => problems.push(
                    Problem::at(format!("request.patch[{at}]"), format!("is no operation: {error}"))
                        .help("write `{op: add, path: /a/b, value: 1}`; known: add, remove, replace, move, copy, test"),
                ),
            }
        }
        Some(Patch(patch))
    }
}

fn one_mib() -> Size {
    Size(1 << 20)
}

const MOST: u64 = 64 << 20;
const MOST_OPERATIONS: usize = 100;

struct Changer {
    merge: Option<Value>,
    patch: Patch,
    most: u64,
    others: Others,
    decodes: bool,
    changed: Counter,
}

impl Changer {
    fn change(&self, request: &mut Request<'_>) -> Verdict {
        let Some(body) = &mut request.body else {
            return Verdict::Continue;
        };
        if body.bytes().is_empty() {
            return Verdict::Continue;
        }
        let headers = &request.head.headers;
        let plain = match (is_json(headers), coding(headers)) {
            (true, Coded::Plain) => Ok(body.bytes().clone()),
            (true, Coded::As(_)) if self.decodes => plain(headers, body.bytes(), self.most),
            _ => Err(NotPlain::Unknown),
        };
        let plain = match plain {
            Ok(plain) => plain,
            Err(NotPlain::Malformed) => return Answer::of(&MALFORMED).into(),
            Err(NotPlain::TooLarge) => return Answer::of(&TOO_LARGE).into(),
            Err(NotPlain::Unknown) if self.others == Others::Pass => return Verdict::Continue,
            Err(NotPlain::Unknown) => return Answer::of(&UNSUPPORTED).into(),
        };
        match self.replace(body, &plain) {
            Ok(()) => {
                request.head.remove_header(&CONTENT_ENCODING);
                if request.effects.is_live() {
                    (self.changed)(1);
                }
                Verdict::Continue
            }
            Err(cause) => Answer::of(cause).into(),
        }
    }

    fn replace(&self, body: &mut WholeBody, plain: &[u8]) -> Result<(), &'static Cause> {
        let mut document: Value = serde_json::from_slice(plain).map_err(|_| &MALFORMED)?;
        if let Some(merge) = &self.merge {
            json_patch::merge(&mut document, merge);
        }
        json_patch::patch(&mut document, &self.patch).map_err(|_| &UNFIT)?;
        let changed = serde_json::to_vec(&document).map_err(|_| &UNFIT)?;
        if changed.len() as u64 > self.most {
            return Err(&TOO_LARGE);
        }
        body.replace(changed);
        Ok(())
    }
}

/// Whether the fields say JSON.
fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(kind), None) = (types.next(), types.next()) else {
        return false;
    };
    let kind = kind.to_str().unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json") || kind.to_ascii_lowercase().ends_with("+json")
}
