//! Places in a request where a credential travels: a field, a parameter of the query, a cookie.
//! It must not know what is found there, nor whose it is.
//! Used by plugins that authenticate, such as `key_auth` and `jwt`.

use std::borrow::Cow;

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use pingora_http::RequestHeader;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{field_name, Problem, Side};
use crate::query::{self, escape};

/// A place for a credential.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Place {
    /// The value of a field, such as `x-api-key`; of `authorization`, what follows a scheme that the plugin takes.
    Header(String),
    /// A parameter of the query.
    Query(String),
    /// A cookie.
    Cookie(String),
}

/// What the places hold.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    Nothing,
    One(Cow<'a, [u8]>),
    /// One place holds several, which could mean one thing here and another at the service.
    Several,
}

/// Places, in the order they are looked at.
pub(crate) struct Places {
    spots: Vec<Spot>,
    schemes: &'static [&'static str],
}

impl Places {
    /// The places of a plugin's `from`; of `authorization`, the credential is what follows one of these schemes.
    pub(crate) fn of(
        from: &[Place],
        schemes: &'static [&'static str],
        problems: &mut Vec<Problem>,
    ) -> Places {
        let mut spots = Vec::new();
        for (at, place) in from.iter().enumerate() {
            match Spot::of(place, &format!("from[{at}]")) {
                Ok(spot) => spots.push(spot),
                Err(problem) => problems.push(problem),
            }
            if from[..at].contains(place) {
                let problem = Problem::at(format!("from[{at}]"), "this place is there twice");
                problems.push(problem.help("remove one of them"));
            }
        }
        if from.is_empty() || from.len() > MOST_PLACES {
            let fact = format!("names {} places", from.len());
            let remedy = format!("give 1 to {MOST_PLACES}, or leave it out for the default");
            problems.push(Problem::at("from", fact).help(remedy));
        }
        Places { spots, schemes }
    }

    /// What the first place holds that holds anything.
    pub(crate) fn look<'a>(&self, head: &'a RequestHeader) -> Found<'a> {
        let mut found = self.spots.iter().map(|spot| spot.look(head, self.schemes));
        let found = found.find(|found| *found != Found::Nothing);
        found.unwrap_or(Found::Nothing)
    }

    /// What they are called, for [`Hooks::with_credentials`](crate::contract::Hooks::with_credentials). Values of cookies are never
    /// written down.
    pub(crate) fn names(&self) -> Vec<String> {
        let named = self.spots.iter().filter_map(|spot| match spot {
            Spot::Field(name) => Some(name.as_str().to_owned()),
            Spot::Parameter(name) => Some(name.clone()),
            Spot::Cookie(_) => None,
        });
        named.collect()
    }

    /// Takes what the places hold out of what goes upstream.
    pub(crate) fn clear(&self, head: &mut RequestHeader) {
        self.spots.iter().for_each(|spot| spot.clear(head));
    }
}

const MOST_PLACES: usize = 8;

/// A place, ready to be looked at.
enum Spot {
    Field(HeaderName),
    Parameter(String),
    Cookie(String),
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

    fn look<'a>(&self, head: &'a RequestHeader, schemes: &[&str]) -> Found<'a> {
        match self {
            Spot::Field(name) => in_field(&head.headers, name, schemes),
            Spot::Parameter(name) => {
                let query = head.uri.query().unwrap_or_default();
                let values = query.split('&').filter_map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    is_named(key, name).then(|| Cow::Owned(decoded(value)))
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
        (Some(key), None) => Found::One(key),
        (Some(_), Some(_)) => Found::Several,
    }
}

fn in_field<'a>(headers: &'a HeaderMap, name: &HeaderName, schemes: &[&str]) -> Found<'a> {
    let values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    if *name != AUTHORIZATION {
        return only(values.map(|value| Cow::Borrowed(value.trim_ascii())));
    }
    let after_scheme = |value: &'a [u8]| {
        let space = value.iter().position(|byte| *byte == b' ')?;
        let (scheme, key) = value.split_at(space);
        let is_ours = schemes
            .iter()
            .any(|one| scheme.eq_ignore_ascii_case(one.as_bytes()));
        is_ours.then(|| Cow::Borrowed(key.trim_ascii()))
    };
    only(values.filter_map(after_scheme))
}

fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty() && name.bytes().all(plain)
}

fn wrong_name(path: String, name: &str) -> Problem {
    Problem::at(path, format!("{name:?} cannot be looked for"))
        .help("use letters, digits, \"-\", \"_\" and \".\"")
}

/// Whether a parameter has this name, however it is encoded: the service reads it decoded.
fn is_named(key: &str, name: &str) -> bool {
    *query::decoded(key) == *name.as_bytes()
}

/// A value of a query as it was before it was encoded; `+` stands for itself, as keys in base64 have it.
fn decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, escape(&bytes[at + 1..])) {
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
    let is_key = |pair: &&str| is_named(pair.split_once('=').map_or(*pair, |(key, _)| key), name);
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
    without_cookies(head, |one| one == name.as_bytes());
}

/// Takes cookies of these names out of a request.
pub(crate) fn without_cookies(head: &mut RequestHeader, is_taken: impl Fn(&[u8]) -> bool) {
    let fields: Vec<HeaderValue> = head.headers.get_all(COOKIE).iter().cloned().collect();
    let is_key = |pair: &&[u8]| {
        let pair = pair.trim_ascii();
        let equals = pair.iter().position(|byte| *byte == b'=');
        equals.is_some_and(|equals| is_taken(&pair[..equals]))
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
