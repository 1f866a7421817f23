//! Answers requests with a fixed response instead of forwarding them: maintenance pages, refusals, stubs.
//! It must not know routes; a route that only ever answers uses its own `respond` action.
//! Called by the chain of a listener or route that names it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{
    canonical_path, field_name, field_value, Answer, Blame, Build, Cause, Hooks, Percent, Plugin,
    PluginDef, Problem, Request, Safety, Side, Time, Unknown, Verdict,
};
use crate::query::{decoded, pairs};

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// The plugin answered.
pub static RESPOND: Cause = Cause {
    name: "respond",
    blame: Blame::Policy,
    status: 200,
    title: "Answered by policy",
    explanation: "A `respond` plugin answered with the response written in its settings; the service was not asked.",
    next_step: "Nothing is wrong. Remove the plugin, or lower its `percent`, to let requests through again.",
};

/// Settings of `respond`. Without `body` and `json` the proxy renders a short body as the client prefers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Status code, 200 to 599. 204 and 304 carry no body. Default: 200.
    #[serde(default = "ok")]
    pub status: u16,
    /// Body, sent as written. Default: none. Not together with `json`.
    #[serde(default)]
    pub body: Option<String>,
    /// Body as a YAML value, sent as JSON. Default: none. Not together with `body`.
    #[serde(default)]
    pub json: Option<serde_json::Value>,
    /// Media type of the body. Default: `text/plain; charset=utf-8` for `body`, `application/json` for `json`.
    #[serde(default)]
    pub content_type: Option<String>,
    /// Further response fields by name. Default: none. Framing fields are refused; use `content_type` for the type.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Sends `Retry-After` with this many seconds, rounded up, such as `2m`. Default: not sent.
    #[serde(default)]
    pub retry_after: Option<Time>,
    /// Which requests are answered; the others go on. Several plugins in order, each with its own, are a list of
    /// examples: a mock of a service that is not there yet. Default: all.
    #[serde(default)]
    pub when: Option<When>,
    /// Share of requests that are answered, such as `5%`; the others go on. Chosen by the request id, so a request
    /// keeps its fate across listener and route. Default: `100%`.
    #[serde(default = "all")]
    pub percent: Percent,
}

/// What a request must be like. Everything given must hold.
#[derive(Debug, Default, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// The method is one of these. Default: any.
    #[serde(default)]
    pub methods: Vec<String>,
    /// The canonical path is this one. Default: any.
    #[serde(default)]
    pub path: Option<String>,
    /// The canonical path begins with these characters. Default: any.
    #[serde(default)]
    pub path_prefix: Option<String>,
    /// Fields by name with a value they have, or `*` for any. Default: none.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Query parameters by name with a value they have, or `*` for any; both as they are once decoded. Default: none.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
}

impl When {
    fn check(&self, problems: &mut Vec<Problem>) {
        for name in self.headers.keys() {
            if HeaderName::from_bytes(name.as_bytes()).is_err() {
                let fact = format!("\"{name}\" is not a header field name");
                let problem = Problem::at(format!("when.headers.{name}"), fact);
                problems.push(problem.help("use letters, digits and dashes"));
            }
        }
        for (path, text) in [
            ("when.path", &self.path),
            ("when.path_prefix", &self.path_prefix),
        ] {
            let text = text.as_deref().unwrap_or("/");
            if canonical_path(text).ok().as_deref() != Some(text) {
                let fact = format!("\"{text}\" is not canonical, so no path is like it");
                problems
                    .push(Problem::at(path, fact).help(
                        "begin with \"/\" and leave out \"//\", \"..\" and needless escapes",
                    ));
            }
        }
        if let Some(wrong) = self
            .methods
            .iter()
            .find(|name| name.bytes().any(|byte| !byte.is_ascii_uppercase()))
        {
            let fact = format!("\"{wrong}\" is not a method");
            problems.push(Problem::at("when.methods", fact).help("write it in upper case"));
        }
    }

    fn holds(&self, request: &Request<'_>) -> bool {
        let head = &*request.head;
        let path = request.client.path;
        let query = head.uri.query().unwrap_or("");
        let is_value = |wanted: &str, value: &[u8]| wanted == "*" || wanted.as_bytes() == value;
        let has_field = |(name, wanted): (&String, &String)| {
            let mut values = head.headers.get_all(name).iter();
            values.any(|value| is_value(wanted, value.as_bytes()))
        };
        let has_parameter = |(name, wanted): (&String, &String)| {
            pairs(query).any(|(key, value)| {
                *decoded(key) == *name.as_bytes() && is_value(wanted, &decoded(value))
            })
        };
        (self.methods.is_empty() || self.methods.iter().any(|name| name == head.method.as_str()))
            && self.path.as_ref().is_none_or(|wanted| wanted == path)
            && self
                .path_prefix
                .as_ref()
                .is_none_or(|start| path.starts_with(start.as_str()))
            && self.headers.iter().all(has_field)
            && self.query.iter().all(has_parameter)
    }
}

impl Plugin for Config {
    const KIND: &'static str = "respond";
    const ABOUT: &'static str = "answer with a fixed response";
    const EXAMPLE: &'static str =
        "status: 503\njson: {error: maintenance}\nretry_after: 10m\npercent: 50%";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[&RESPOND];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let answer = Fixed::of(&self)?;
        // Without the instance two plugins of 50% would always pick the same half.
        let salt = build.instance.to_owned();
        let (share, when) = (self.percent.fraction(), self.when);
        Ok(Hooks::new().on_request(move |request| {
            if when.as_ref().is_some_and(|when| !when.holds(request)) {
                return Verdict::Continue;
            }
            match fate(request, &salt, share) {
                Ok(true) => answer.answer().into(),
                Ok(false) => Verdict::Continue,
                Err(unknown) => Verdict::Unknown(unknown),
            }
        }))
    }
}

fn ok() -> u16 {
    200
}

fn all() -> Percent {
    const ALL: Percent = match Percent::new(100) {
        Some(all) => all,
        None => panic!("100 is a percentage"),
    };
    ALL
}

/// Whether the request is among those answered. A dry run has no real request id, so it only knows all or none.
fn fate(request: &Request<'_>, salt: &str, share: f64) -> Result<bool, Unknown> {
    if share >= 1.0 || share <= 0.0 {
        return Ok(share >= 1.0);
    }
    if !request.effects.is_live() {
        return Err(Unknown::from("which share of requests this one is in"));
    }
    let mut hasher = DefaultHasher::new();
    (salt, request.client.request_id).hash(&mut hasher);
    // The upper 53 bits are what a float between 0 and 1 can hold.
    let position = (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64;
    Ok(position < share)
}

/// The answer, ready to be copied.
struct Fixed {
    status: u16,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Option<(HeaderValue, Bytes)>,
}

impl Fixed {
    fn of(config: &Config) -> Result<Fixed, Vec<Problem>> {
        let mut problems = Vec::new();
        if !(200..=599).contains(&config.status) {
            problems.push(
                Problem::at(
                    "status",
                    format!("must be 200 to 599, found {}", config.status),
                )
                .help("interim responses (1xx) cannot end a request"),
            );
        }
        if let Some(when) = &config.when {
            when.check(&mut problems);
        }
        let headers = headers(config, &mut problems);
        let body = body(config, &mut problems);
        match problems.is_empty() {
            true => Ok(Fixed {
                status: config.status,
                headers,
                body,
            }),
            false => Err(problems),
        }
    }

    fn answer(&self) -> Answer {
        Answer {
            status: self.status,
            cause: &RESPOND,
            headers: self.headers.clone(),
            body: self.body.clone(),
            stands_in: false,
        }
    }
}

fn headers(config: &Config, problems: &mut Vec<Problem>) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    for (name, value) in &config.headers {
        let path = format!("headers.{name}");
        if name.eq_ignore_ascii_case("content-type") {
            problems.push(
                Problem::at(path, "the type has a setting of its own").help("use `content_type`"),
            );
            continue;
        }
        match (
            field_name(Side::Response, &path, name),
            field_value(&path, value),
        ) {
            (Ok(name), Ok(value)) => headers.push((name, value)),
            (name, value) => problems.extend(name.err().into_iter().chain(value.err())),
        }
    }
    if let Some(time) = config.retry_after {
        let seconds = time.0.as_secs() + u64::from(time.0.subsec_nanos() > 0);
        headers.push((RETRY_AFTER, HeaderValue::from(seconds)));
    }
    headers
}

fn body(config: &Config, problems: &mut Vec<Problem>) -> Option<(HeaderValue, Bytes)> {
    let (path, default_type, bytes) = match (&config.body, &config.json) {
        (Some(_), Some(_)) => {
            problems
                .push(Problem::at("json", "a response has one body").help("keep `body` or `json`"));
            return None;
        }
        (Some(text), None) => (
            "body",
            "text/plain; charset=utf-8",
            Bytes::from(text.clone()),
        ),
        (None, Some(json)) => ("json", "application/json", Bytes::from(json.to_string())),
        (None, None) if matches!(config.status, 204 | 205 | 304) => {
            return Some((HeaderValue::from_static("text/plain"), Bytes::new()));
        }
        (None, None) => {
            if config.content_type.is_some() {
                problems.push(
                    Problem::at("content_type", "there is no body to have a type")
                        .help("add `body` or `json`, or remove this line"),
                );
            }
            return None;
        }
    };
    if matches!(config.status, 204 | 205 | 304) && !bytes.is_empty() {
        let fact = format!("a response with status {} has no body", config.status);
        problems.push(Problem::at(path, fact).help("remove the body or use status 200"));
    }
    let media_type = config.content_type.as_deref().unwrap_or(default_type);
    match field_value("content_type", media_type) {
        Ok(media_type) => Some((media_type, bytes)),
        Err(problem) => {
            problems.push(problem);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{answered, field, went_on, Exchange, Kit};

    fn answer_of(config: &str) -> Answer {
        let plugin = Kit::new().instance(&PLUGIN, config);
        answered(plugin.request(&mut Exchange::get("http://shop.test/")))
    }

    #[test]
    fn a_text_body_is_sent_as_plain_text() {
        let answer = answer_of("status: 404\nbody: nothing here\nheaders: {X-From: edge}");

        let (media_type, body) = answer.body.as_ref().unwrap();
        assert_eq!((answer.status, answer.cause.name), (404, "respond"));
        assert_eq!(media_type, "text/plain; charset=utf-8");
        assert_eq!(body.as_ref(), b"nothing here");
        assert_eq!(field(&answer, "x-from"), Some("edge"));
    }

    #[test]
    fn a_json_body_is_sent_as_json_or_as_the_type_given() {
        let plain = answer_of("json: {a: [1, two]}").body.unwrap();
        let typed = answer_of("json: {}\ncontent_type: application/problem+json");

        assert_eq!(plain.0, "application/json");
        assert_eq!(plain.1.as_ref(), br#"{"a":[1,"two"]}"#);
        assert_eq!(typed.body.unwrap().0, "application/problem+json");
    }

    #[test]
    fn without_a_body_the_proxy_renders_one_except_where_none_may_be() {
        assert!(answer_of("status: 503").body.is_none());
        assert!(answer_of("status: 204").body.unwrap().1.is_empty());
    }

    #[test]
    fn retry_after_is_sent_in_whole_seconds_rounded_up() {
        let answer = answer_of("status: 503\nretry_after: 1500ms");

        assert_eq!(field(&answer, "retry-after"), Some("2"));
    }

    #[test]
    fn a_share_of_requests_is_answered_and_each_keeps_its_fate() {
        let plugin = Kit::new().instance(&PLUGIN, "percent: 25%");
        let is_answered = |id: usize| {
            let mut exchange = Exchange::get("http://shop.test/").with_id(&id.to_string());
            !went_on(&plugin.request(&mut exchange))
        };

        let first: Vec<bool> = (0..4000).map(is_answered).collect();
        let again: Vec<bool> = (0..4000).map(is_answered).collect();

        let share = first.iter().filter(|answered| **answered).count();
        assert!((900..1100).contains(&share), "{share} of 4000");
        assert_eq!(first, again);
    }

    #[test]
    fn no_share_answers_nothing() {
        let plugin = Kit::new().instance(&PLUGIN, "percent: 0%");

        assert!(went_on(
            &plugin.request(&mut Exchange::get("http://shop.test/"))
        ));
    }

    #[test]
    fn a_dry_run_knows_all_and_none_but_not_a_share() {
        let kit = Kit::new();
        let dry = |config: &str| {
            let plugin = kit.instance(&PLUGIN, config);
            plugin.request(&mut Exchange::get("http://shop.test/").dry())
        };

        assert_eq!(answered(dry("status: 503")).status, 503);
        assert!(went_on(&dry("percent: 0%")));
        assert!(matches!(dry("percent: 5%"), Verdict::Unknown(_)));
    }

    #[test]
    fn wrong_settings_are_located() {
        let kit = Kit::new();
        let paths = |config: &str| kit.problem_paths(&PLUGIN, config);

        assert_eq!(paths("status: 101"), ["status"]);
        assert_eq!(paths("body: a\njson: b"), ["json"]);
        assert_eq!(paths("status: 204\nbody: a"), ["body"]);
        assert_eq!(paths("content_type: text/html"), ["content_type"]);
        assert_eq!(paths("body: a\ncontent_type: \"a\\nb\""), ["content_type"]);
        assert_eq!(
            paths("headers: {Content-Length: \"5\", content-type: x}"),
            ["headers.Content-Length", "headers.content-type"]
        );
        assert_eq!(paths("percent: 200%"), ["percent"]);
    }

    #[test]
    fn only_requests_that_fit_are_answered() {
        let plugin = Kit::new().instance(
            &PLUGIN,
            "when: {methods: [GET], path_prefix: /users/, headers: {x-mock: '*'}, query: {state: 'new user'}}",
        );
        let fits = |method: &str, target: &str, mock: &str| {
            let exchange = Exchange::new(method, &format!("http://a.test{target}"));
            !went_on(&plugin.request(&mut exchange.with(mock, "1")))
        };

        assert!(fits("GET", "/users/1?state=new+user", "x-mock"));
        assert!(fits("GET", "/users/1?a&st%61te=new%20user", "X-Mock"));
        assert!(!fits("POST", "/users/1?state=new+user", "x-mock"));
        assert!(!fits("GET", "/user?state=new+user", "x-mock"));
        assert!(!fits("GET", "/users/1?state=old", "x-mock"));
        assert!(!fits("GET", "/users/1?state=new+user", "x-other"));
        let exact = Kit::new().instance(&PLUGIN, "when: {path: /a}");
        assert!(!went_on(
            &exact.request(&mut Exchange::get("http://a.test/a?b"))
        ));
        assert!(went_on(
            &exact.request(&mut Exchange::get("http://a.test/a/"))
        ));
    }

    #[test]
    fn conditions_that_can_never_hold_are_refused() {
        let paths = |config: &str| Kit::new().problem_paths(&PLUGIN, config);

        assert_eq!(
            paths("when: {path: a, path_prefix: //b}"),
            ["when.path", "when.path_prefix"]
        );
        assert_eq!(
            paths("when: {methods: [get], headers: {'a b': c}}"),
            ["when.headers.a b", "when.methods"]
        );
    }
}
