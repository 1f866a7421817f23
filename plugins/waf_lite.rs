//! Looks at the structure of requests for what hardly any honest client sends: encodings that hide something, bytes that mean two
//! things to two readers, numbers that are out of proportion.
//! It must not know what an attack's text looks like: there are no lists of words here, so nothing to keep up to date or to get around.
//! Called by the chain of a listener or route that names it.

mod body;
mod causes;
mod fields;
mod target;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::header::ALLOW;
use http::HeaderValue;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{
    Answer, Build, Cause, Counter, Hooks, Plugin, PluginDef, Problem, Request, Safety, Size, Slot,
    Slots, Verdict,
};

use body::Begin;

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// Settings of `waf_lite`. Each check is set to `block`, `detect` or `off`, and has a cause and a counter of its own: `waf.NAME` is the
/// cause when it blocks, `found_NAME` counts what it finds in either mode. Checks come in a fixed order (method,
/// target, path, query, fields, host, media type, body), and the first that blocks ends the request. The proxy refuses ambiguous framing, NUL in paths and paths above the root by itself, before any plugin.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The method is not among `methods`. Default: `block`.
    #[serde(default = "block")]
    pub method: Action,
    /// What `method` lets through. Default: `[GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS]`.
    #[serde(default = "usual")]
    pub methods: Vec<String>,
    /// The target holds what has to be encoded there: quotes, angle brackets, braces, `|`, `^` or a backtick, or bytes beyond ASCII.
    /// Some clients write braces and `|` in queries as they are. Default: `detect`.
    #[serde(default = "detect")]
    pub target: Action,
    /// The path climbs once encoded separators are read as such, or with parameters on dots: `..%2F`, `%5C..`, `/..;/`.
    /// Default: `block`.
    #[serde(default = "block")]
    pub traversal: Action,
    /// The path is encoded twice where that hides a dot, a separator, a quote, an angle bracket or a control character, such as `%252e`.
    /// Default: `block`.
    #[serde(default = "block")]
    pub double_encoding: Action,
    /// Control characters in the path, or in names and values of the query other than tabs and line breaks in values.
    /// Default: `block`.
    #[serde(default = "block")]
    pub controls: Action,
    /// Path or query spell a character in more bytes than it needs (`%C0%AE` for a dot), which lenient decoders read. Default: `block`.
    #[serde(default = "block")]
    pub overlong_utf8: Action,
    /// Path or query are not UTF-8 once decoded. Old sites use other charsets. Default: `detect`.
    #[serde(default = "detect")]
    pub invalid_utf8: Action,
    /// A value of the query climbs two folders or more: `../../`. Default: `detect`.
    #[serde(default = "detect")]
    pub query_traversal: Action,
    /// The query has more parameters than `max_parameters`. Default: `block`.
    #[serde(default = "block")]
    pub parameter_count: Action,
    /// Default: `256`.
    #[serde(default = "parameters")]
    pub max_parameters: usize,
    /// A parameter's name is longer than 256 bytes, or its value longer than `max_parameter_size`, as sent. Default: `block`.
    #[serde(default = "block")]
    pub parameter_size: Action,
    /// Default: `8KiB`.
    #[serde(default = "eight")]
    pub max_parameter_size: Size,
    /// A parameter is there more than once. Forms with lists do that. Default: `off`.
    #[serde(default)]
    pub duplicate_parameters: Action,
    /// The header has more fields than `max_fields`. Default: `block`.
    #[serde(default = "block")]
    pub field_count: Action,
    /// Default: `64`.
    #[serde(default = "some_fields")]
    pub max_fields: usize,
    /// A field's value is longer than `max_field_size`. Default: `block`.
    #[serde(default = "block")]
    pub field_size: Action,
    /// Default: `16KiB`.
    #[serde(default = "sixteen")]
    pub max_field_size: Size,
    /// A field's value holds tabs or white space beyond ASCII, which some readers take for a space and others do not.
    /// Default: `block`.
    #[serde(default = "block")]
    pub field_whitespace: Action,
    /// The host is an address and not a name, as scanners have it, and some health checks. Default: `off`.
    #[serde(default)]
    pub host_address: Action,
    /// `Content-Type` is there twice, is no media type, or repeats a parameter such as `boundary`. Default: `block`.
    #[serde(default = "block")]
    pub content_type: Action,
    /// The body does not begin as its media type says: known are JSON, XML, forms, multipart, PNG, JPEG, GIF and PDF. The service
    /// has the header by then; the request is cut. Default: `block`.
    #[serde(default = "block")]
    pub body_start: Action,
}

/// What becomes of a request that a check finds something in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is refused.
    Block,
    /// It is counted and goes on.
    Detect,
    /// The check is not made.
    #[default]
    Off,
}

fn block() -> Action {
    Action::Block
}

fn detect() -> Action {
    Action::Detect
}

fn usual() -> Vec<String> {
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
        .map(str::to_owned)
        .to_vec()
}

fn parameters() -> usize {
    256
}

fn some_fields() -> usize {
    64
}

fn eight() -> Size {
    Size(8 << 10)
}

fn sixteen() -> Size {
    Size(16 << 10)
}

impl Plugin for Config {
    const KIND: &'static str = "waf_lite";
    const ABOUT: &'static str = "refuse requests whose structure no honest client sends";
    const EXAMPLE: &'static str = r#"methods: [GET, HEAD, POST]
invalid_utf8: block
duplicate_parameters: detect
host_address: block
max_parameters: 100"#;
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = causes::ALL;

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let problems = self.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let counter = |at: usize| build.counter(causes::COUNTED[at]);
        let checks = CHECKS
            .iter()
            .enumerate()
            .map(|(at, (set, cause, look))| Check {
                action: set(&self),
                cause,
                look: *look,
                found: counter(at),
            });
        let checks = checks.filter(|check| check.action != Action::Off).collect();
        let waf = Arc::new(Waf {
            allow: HeaderValue::from_str(&self.methods.join(", ")).ok(),
            checks,
            wrong_start: counter(CHECKS.len()),
            begin: build.slot(),
            config: self,
        });
        let mut hooks = Hooks::new();
        if waf.config.body_start != Action::Off {
            let body = waf.clone();
            hooks =
                hooks.on_request_body(move |slots, piece, _| body.body(slots, piece.as_deref()));
        }
        Ok(hooks.on_request(move |request| waf.head(request)))
    }
}

impl Config {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (index, method) in self.methods.iter().enumerate() {
            let fits = |byte: u8| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_');
            if method.is_empty() || !method.bytes().all(fits) {
                problems.push(
                    Problem::at(
                        format!("methods[{index}]"),
                        format!("\"{method}\" is not a method"),
                    )
                    .help("write it in upper case, such as \"GET\""),
                );
            }
        }
        if self.methods.is_empty() {
            problems.push(
                Problem::at("methods", "names none").help("set `method: off` to let all through"),
            );
        }
        let bounds = [
            ("max_parameters", self.max_parameters as u64),
            ("max_parameter_size", self.max_parameter_size.0),
            ("max_fields", self.max_fields as u64),
            ("max_field_size", self.max_field_size.0),
        ];
        for (path, _) in bounds.iter().filter(|(_, bound)| *bound == 0) {
            problems.push(
                Problem::at(*path, "must be at least 1, found 0")
                    .help("set the check to `off` to lift the bound"),
            );
        }
        problems
    }
}

/// Whether a check finds something in a request.
type Look = fn(&Config, &Request<'_>) -> bool;

/// The checks of a request's header, in order.
static CHECKS: [(Set, &Cause, Look); 16] = [
    (
        |config| config.method,
        &causes::METHOD,
        |config, request| {
            let method = request.head.method.as_str();
            !config.methods.iter().any(|one| one == method)
        },
    ),
    (
        |config| config.target,
        &causes::TARGET,
        |_, it| target::is_raw(it.head),
    ),
    (
        |config| config.traversal,
        &causes::TRAVERSAL,
        |_, it| target::climbs(it.client.path),
    ),
    (
        |config| config.double_encoding,
        &causes::DOUBLE_ENCODING,
        |_, it| target::hides(it.client.path),
    ),
    (
        |config| config.controls,
        &causes::CONTROLS,
        |_, it| target::has_controls(it.client.path, it.head.uri.query()),
    ),
    (
        |config| config.overlong_utf8,
        &causes::OVERLONG_UTF8,
        |_, it| {
            target::is_overlong(it.client.path)
                || it.head.uri.query().is_some_and(target::is_overlong)
        },
    ),
    (
        |config| config.invalid_utf8,
        &causes::INVALID_UTF8,
        |_, it| {
            !target::is_utf8(it.client.path) || !it.head.uri.query().is_none_or(target::is_utf8)
        },
    ),
    (
        |config| config.query_traversal,
        &causes::QUERY_TRAVERSAL,
        |_, it| it.head.uri.query().is_some_and(target::query_climbs),
    ),
    (
        |config| config.parameter_count,
        &causes::PARAMETER_COUNT,
        |config, it| {
            it.head
                .uri
                .query()
                .is_some_and(|query| target::count(query) > config.max_parameters)
        },
    ),
    (
        |config| config.parameter_size,
        &causes::PARAMETER_SIZE,
        |config, it| {
            let bound = config.max_parameter_size.0;
            it.head
                .uri
                .query()
                .is_some_and(|query| target::is_long(query, bound))
        },
    ),
    (
        |config| config.duplicate_parameters,
        &causes::DUPLICATE_PARAMETERS,
        |_, it| it.head.uri.query().is_some_and(target::has_duplicates),
    ),
    (
        |config| config.field_count,
        &causes::FIELD_COUNT,
        |config, it| it.head.headers.len() > config.max_fields,
    ),
    (
        |config| config.field_size,
        &causes::FIELD_SIZE,
        |config, it| {
            let mut values = it.head.headers.values();
            values.any(|value| value.len() as u64 > config.max_field_size.0)
        },
    ),
    (
        |config| config.field_whitespace,
        &causes::FIELD_WHITESPACE,
        |_, it| it.head.headers.values().any(fields::has_odd_whitespace),
    ),
    (
        |config| config.host_address,
        &causes::HOST_ADDRESS,
        |_, it| fields::is_address(it.client.host),
    ),
    (
        |config| config.content_type,
        &causes::CONTENT_TYPE,
        |_, it| fields::is_wrong_type(&it.head.headers),
    ),
];

/// What a check is set to.
type Set = fn(&Config) -> Action;

/// A check that is made.
struct Check {
    action: Action,
    cause: &'static Cause,
    look: Look,
    found: Counter,
}

struct Waf {
    config: Config,
    allow: Option<HeaderValue>,
    checks: Vec<Check>,
    wrong_start: Counter,
    begin: Slot<Begin>,
}

impl Waf {
    fn head(&self, request: &mut Request<'_>) -> Verdict {
        for check in &self.checks {
            if !(check.look)(&self.config, request) {
                continue;
            }
            if request.effects.is_live() {
                (check.found)(1);
            }
            if check.action == Action::Block {
                let answer = Answer::of(check.cause);
                return match (&self.allow, check.cause.status) {
                    (Some(allow), 405) => answer.with(ALLOW, allow.clone()).into(),
                    _ => answer.into(),
                };
            }
        }
        if self.config.body_start != Action::Off && request.effects.is_live() {
            if let Some(begin) = Begin::of(&request.head.headers) {
                request.slots.put(self.begin, begin);
            }
        }
        Verdict::Continue
    }

    fn body(&self, slots: &mut Slots, piece: Option<&[u8]>) -> Verdict {
        let (Some(begin), Some(piece)) = (slots.value_mut(self.begin), piece) else {
            return Verdict::Continue;
        };
        if begin.fits(piece) {
            return Verdict::Continue;
        }
        (self.wrong_start)(1);
        match self.config.body_start {
            Action::Block => Answer::of(&causes::BODY_START).into(),
            Action::Detect | Action::Off => Verdict::Continue,
        }
    }
}
