//! Asks for an API key and proves the caller to be the consumer who has it.
//! It must not know keys, only their hashes, nor what the consumer may do.
//! Called by the chain of a listener or route that names it.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{COOKIE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use pingora_http::RequestHeader;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{
    field_name, field_value, key_hash, Answer, Blame, Build, Cause, Consumers, Counter, Effects,
    Hooks, Plugin, PluginDef, Principal, PrincipalKind, Problem, Request, Safety, Side, Verdict,
};

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// No key came.
pub static MISSING: Cause = Cause {
    name: "auth.key_missing",
    blame: Blame::Client,
    status: 401,
    title: "Unauthorized",
    explanation: "The request has no API key where a `key_auth` plugin looks for one.",
    next_step: "Send the key in one of the places of the plugin's `from`, such as `curl -H 'x-api-key: KEY'`. If the client did, look for a proxy in front that removes the field.",
};

/// The key is nobody's.
pub static WRONG: Cause = Cause {
    name: "auth.key_wrong",
    blame: Blame::Client,
    status: 401,
    title: "Unauthorized",
    explanation: "No consumer has the API key that came, or one place held several keys.",
    next_step: "Compare the key's SHA-256 (`printf %s KEY | sha256sum`) with `keys` of the consumer it should belong to.",
};

/// Settings of `key_auth`. The keys are those of `consumers`, where their SHA-256 is written: a key has to be random, at least
/// 128 bits of it, for then nobody can guess what was hashed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to look, in this order; the first place that holds a key decides, and one that holds several is refused. At most 8.
    /// Default: `[{header: x-api-key}]`. Keys in queries end up in logs and histories: Windrose redacts them, others may not.
    #[serde(default = "in_a_field")]
    pub from: Vec<Place>,
    /// Sends the key on to the service. Default: `false`, so that keys end here.
    #[serde(default)]
    pub forward_credentials: bool,
    /// Lets a request without any key go on, unproven, for a later plugin or a policy to judge. A wrong key is refused all the
    /// same. Default: `false`.
    #[serde(default)]
    pub optional: bool,
    /// What the answer 401 calls the place. Default: `Restricted`.
    #[serde(default = "restricted")]
    pub realm: String,
}

/// A place for a key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Place {
    /// The value of a field, such as `x-api-key`; of `authorization`, what follows `Bearer`, `Key` or `ApiKey`.
    Header(String),
    /// A parameter of the query.
    Query(String),
    /// A cookie.
    Cookie(String),
}

fn in_a_field() -> Vec<Place> {
    vec![Place::Header("x-api-key".to_owned())]
}

fn restricted() -> String {
    "Restricted".to_owned()
}

const MOST_PLACES: usize = 8;

/// Longer ones are no keys: hashing what a stranger sends has a bound.
const LONGEST_KEY: usize = 4096;

impl Plugin for Config {
    const KIND: &'static str = "key_auth";
    const ABOUT: &'static str = "ask for an API key of a consumer";
    const EXAMPLE: &'static str = "from: [{header: x-api-key}, {query: api_key}]";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[&MISSING, &WRONG];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let gate = Arc::new(Gate::of(&self, build)?);
        let asking = gate.clone();
        let hooks = Hooks::new().on_request(move |request| asking.check(request));
        // Not in the request hook: another plugin of the chain may still want to read the key.
        Ok(match self.forward_credentials {
            true => hooks,
            false => hooks.on_upstream_request(move |request| {
                gate.places
                    .iter()
                    .for_each(|place| place.clear(request.head));
                Verdict::Continue
            }),
        })
    }
}

/// A place, ready to be looked at.
enum Spot {
    Field(HeaderName),
    Parameter(String),
    Cookie(String),
}

/// What a place holds.
enum Found<'a> {
    Nothing,
    Key(Cow<'a, [u8]>),
    Several,
}

struct Gate {
    places: Vec<Spot>,
    consumers: Arc<Consumers>,
    challenge: HeaderValue,
    optional: bool,
    refused: Counter,
}

impl Gate {
    fn of(config: &Config, build: &Build<'_>) -> Result<Gate, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut places = Vec::new();
        for (at, place) in config.from.iter().enumerate() {
            match Spot::of(place, &format!("from[{at}]")) {
                Ok(spot) => places.push(spot),
                Err(problem) => problems.push(problem),
            }
            if config.from[..at].contains(place) {
                let problem = Problem::at(format!("from[{at}]"), "this place is there twice");
                problems.push(problem.help("remove one of them"));
            }
        }
        if config.from.is_empty() || config.from.len() > MOST_PLACES {
            let fact = format!("names {} places", config.from.len());
            let remedy = "give 1 to 8, or leave it out for the field x-api-key";
            problems.push(Problem::at("from", fact).help(remedy));
        }
        if !build.consumers.have_keys() {
            problems.push(
                Problem::at("", "no consumer has a key, so nobody could be proven")
                    .help("give `consumers` some `keys`: the SHA-256 of each, in hex"),
            );
        }
        let escaped = config.realm.replace('\\', "\\\\").replace('"', "\\\"");
        let challenge = field_value("realm", &format!("ApiKey realm=\"{escaped}\""));
        let challenge = challenge.map_err(|problem| problems.push(problem));
        match challenge {
            Ok(challenge) if problems.is_empty() => Ok(Gate {
                places,
                consumers: build.consumers.clone(),
                challenge,
                optional: config.optional,
                refused: build.counter("refused"),
            }),
            _ => Err(problems),
        }
    }

    fn check(&self, request: &mut Request<'_>) -> Verdict {
        let mut found = self.places.iter().map(|place| place.look(request.head));
        let found = found.find(|found| !matches!(found, Found::Nothing));
        let known = match &found {
            None | Some(Found::Nothing) if self.optional => return Verdict::Continue,
            None | Some(Found::Nothing) => return self.refuse(&MISSING, request.effects),
            Some(Found::Several) => None,
            Some(Found::Key(key)) if key.len() > LONGEST_KEY => None,
            Some(Found::Key(key)) => self.consumers.with_key(&key_hash(key)),
        };
        match known {
            Some(consumer) => {
                *request.principal = Some(Principal {
                    kind: PrincipalKind::Consumer,
                    name: consumer.name.clone(),
                });
                Verdict::Continue
            }
            None => self.refuse(&WRONG, request.effects),
        }
    }

    fn refuse(&self, cause: &'static Cause, effects: Effects) -> Verdict {
        if effects.is_live() {
            (self.refused)(1);
        }
        let answer = Answer::of(cause).with(WWW_AUTHENTICATE, self.challenge.clone());
        answer.into()
    }
}

impl Spot {
    fn of(place: &Place, path: &str) -> Result<Spot, Problem> {
        match place {
            Place::Header(name) => {
                field_name(Side::Request, &format!("{path}.header"), name).map(Spot::Field)
            }
            Place::Query(name) if is_plain(name) => Ok(Spot::Parameter(name.clone())),
            Place::Cookie(name) if is_plain(name) => Ok(Spot::Cookie(name.clone())),
            Place::Query(name) => Err(wrong_name(format!("{path}.query"), name)),
            Place::Cookie(name) => Err(wrong_name(format!("{path}.cookie"), name)),
        }
    }

    fn look<'a>(&self, head: &'a RequestHeader) -> Found<'a> {
        match self {
            Spot::Field(name) => in_field(&head.headers, name),
            Spot::Parameter(name) => {
                let query = head.uri.query().unwrap_or_default();
                let values = query.split('&').filter_map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (key == name).then(|| Cow::Owned(decoded(value)))
                });
                only(values)
            }
            Spot::Cookie(name) => {
                let fields = head.headers.get_all(COOKIE).iter();
                let pairs = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
                let values = pairs.filter_map(|pair| {
                    let rest = pair.trim_ascii().strip_prefix(name.as_bytes())?;
                    rest.strip_prefix(b"=").map(Cow::Borrowed)
                });
                only(values)
            }
        }
    }

    /// Takes the key out of what goes upstream.
    fn clear(&self, head: &mut RequestHeader) {
        match self {
            Spot::Field(name) => {
                head.remove_header(name);
            }
            Spot::Parameter(name) => without_parameter(head, name),
            Spot::Cookie(name) => without_cookie(head, name),
        }
    }
}

/// Exactly one value that is not empty.
fn only<'a>(mut values: impl Iterator<Item = Cow<'a, [u8]>>) -> Found<'a> {
    match (values.next(), values.next()) {
        (None, _) => Found::Nothing,
        (Some(key), None) if key.is_empty() => Found::Nothing,
        (Some(key), None) => Found::Key(key),
        (Some(_), Some(_)) => Found::Several,
    }
}

fn in_field<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Found<'a> {
    let values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    if *name != http::header::AUTHORIZATION {
        return only(values.map(|value| Cow::Borrowed(value.trim_ascii())));
    }
    let after_scheme = |value: &'a [u8]| {
        let space = value.iter().position(|byte| *byte == b' ')?;
        let (scheme, key) = value.split_at(space);
        let is_ours = SCHEMES
            .iter()
            .any(|one| scheme.eq_ignore_ascii_case(one.as_bytes()));
        is_ours.then(|| Cow::Borrowed(key.trim_ascii()))
    };
    only(values.filter_map(after_scheme))
}

const SCHEMES: [&str; 3] = ["Bearer", "Key", "ApiKey"];

fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty() && name.bytes().all(plain)
}

fn wrong_name(path: String, name: &str) -> Problem {
    Problem::at(path, format!("{name:?} cannot be looked for"))
        .help("use letters, digits, \"-\", \"_\" and \".\"")
}

/// A value of a query as it was before it was encoded; `+` stands for itself, as keys in base64 have it.
fn decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let pair = bytes.get(at + 1..at + 3);
        let pair = pair.and_then(|pair| std::str::from_utf8(pair).ok());
        let coded = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match (byte, coded) {
            (b'%', Some(coded)) => {
                plain.push(coded);
                at += 3;
            }
            (byte, _) => {
                plain.push(*byte);
                at += 1;
            }
        }
    }
    plain
}

fn without_parameter(head: &mut RequestHeader, name: &str) {
    let Some(query) = head.uri.query() else {
        return;
    };
    let is_key = |pair: &&str| pair.split_once('=').map_or(*pair, |(key, _)| key) == name;
    if !query.split('&').any(|pair| is_key(&pair)) {
        return;
    }
    let rest: Vec<&str> = query.split('&').filter(|pair| !is_key(pair)).collect();
    let path = head.uri.path();
    let target = match rest.is_empty() {
        true => path.to_owned(),
        false => format!("{path}?{}", rest.join("&")),
    };
    let mut parts = head.uri.clone().into_parts();
    // What was a target without a parameter is one as well.
    if let Ok(target) = target.parse() {
        parts.path_and_query = Some(target);
        if let Ok(uri) = Uri::from_parts(parts) {
            head.set_uri(uri);
        }
    }
}

fn without_cookie(head: &mut RequestHeader, name: &str) {
    let fields: Vec<HeaderValue> = head.headers.get_all(COOKIE).iter().cloned().collect();
    let is_key = |pair: &&[u8]| {
        let rest = pair.trim_ascii().strip_prefix(name.as_bytes());
        rest.is_some_and(|rest| rest.starts_with(b"="))
    };
    if !fields.iter().any(|field| {
        field
            .as_bytes()
            .split(|byte| *byte == b';')
            .any(|pair| is_key(&pair))
    }) {
        return;
    }
    head.remove_header(&COOKIE);
    for field in fields {
        let pairs = field.as_bytes().split(|byte| *byte == b';');
        let kept: Vec<&[u8]> = pairs
            .filter(|pair| !is_key(pair))
            .map(<[u8]>::trim_ascii)
            .collect();
        // Parts of a value that was one.
        let value = HeaderValue::from_bytes(&kept.join(&b"; "[..]));
        if let (false, Ok(value)) = (kept.is_empty(), value) {
            let _ = head.append_header(COOKIE, value);
        }
    }
}
