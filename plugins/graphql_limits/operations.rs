//! The operations that a request carries, wherever it carries them.
//! It must not read queries; what could mean different things to different readers is refused.
//! Called by the gate.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method};
use serde_json::{Map, Value};

use super::{MALFORMED, TOO_LARGE, UNSUPPORTED};
use crate::codec::whole::{plain, NotPlain};
use crate::contract::{Cause, Request};
use crate::json::bounded;
use crate::media;
use crate::query::{decoded, pairs};

/// An operation as it was sent.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Operation {
    /// The document; `None` where it is only named.
    pub(super) query: Option<String>,
    pub(super) variables: Map<String, Value>,
}

/// What was sent.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) source: Source,
    pub(super) operations: Vec<Operation>,
}

/// Where it stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Url,
    Body,
}

/// Whether bodies of the type that the fields say are read.
pub(super) fn is_judged(headers: &HeaderMap) -> bool {
    matches!(kind(headers), Kind::Json | Kind::Text)
}

enum Kind {
    Json,
    Text,
    Other,
}

fn kind(headers: &HeaderMap) -> Kind {
    let is_one =
        headers.get_all(CONTENT_TYPE).iter().count() == 1 && media::is_read_as_utf8(headers);
    match media::of(headers).filter(|_| is_one).as_deref() {
        Some("application/json" | "application/graphql+json") => Kind::Json,
        Some("application/graphql") => Kind::Text,
        _ => Kind::Other,
    }
}

/// What a request asks for; `None` where it asks for nothing, as a browser that fetches a page.
///
/// # Errors
/// Why it cannot be judged.
pub(super) fn asked(request: &Request<'_>, most: u64) -> Result<Option<Asked>, &'static Cause> {
    let query = request.head.uri.query().unwrap_or("");
    match request.head.method {
        Method::POST => {
            // Some servers prefer this one to that of the body.
            let is_in_url = pairs(query).any(|(name, _)| *decoded(name) == *b"query");
            if is_in_url {
                return Err(&MALFORMED);
            }
            let operations = of_body(request, most)?;
            Ok(Some(Asked {
                source: Source::Body,
                operations,
            }))
        }
        // Some servers read it whatever the method.
        _ if request
            .body
            .as_ref()
            .is_some_and(|body| !body.bytes().is_empty()) =>
        {
            Err(&MALFORMED)
        }
        _ if query.is_empty() => Ok(None),
        _ => {
            let operations = vec![of_url(query)?];
            Ok(Some(Asked {
                source: Source::Url,
                operations,
            }))
        }
    }
}

fn of_body(request: &Request<'_>, most: u64) -> Result<Vec<Operation>, &'static Cause> {
    let headers = &request.head.headers;
    let (kind, Some(body)) = (kind(headers), &request.body) else {
        return Err(&UNSUPPORTED);
    };
    let bytes = || {
        plain(headers, body.bytes(), most).map_err(|wrong| match wrong {
            NotPlain::Unknown => &UNSUPPORTED,
            NotPlain::Malformed => &MALFORMED,
            NotPlain::TooLarge => &TOO_LARGE,
        })
    };
    match kind {
        Kind::Other => Err(&UNSUPPORTED),
        Kind::Text => {
            let text = String::from_utf8(bytes()?.to_vec()).map_err(|_| &MALFORMED)?;
            Ok(vec![Operation {
                query: Some(text),
                variables: Map::new(),
            }])
        }
        Kind::Json => match bounded(&bytes()?, DEEPEST).map_err(|_| &MALFORMED)? {
            Value::Array(all) if !all.is_empty() => all.into_iter().map(of_json).collect(),
            one => Ok(vec![of_json(one)?]),
        },
    }
}

fn of_json(value: Value) -> Result<Operation, &'static Cause> {
    let Value::Object(mut members) = value else {
        return Err(&MALFORMED);
    };
    let query = match members.remove("query") {
        None | Some(Value::Null) => None,
        Some(Value::String(query)) => Some(query),
        Some(_) => return Err(&MALFORMED),
    };
    let variables = variables(members.remove("variables"))?;
    Ok(Operation { query, variables })
}

fn variables(value: Option<Value>) -> Result<Map<String, Value>, &'static Cause> {
    match value {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(members)) => Ok(members),
        Some(_) => Err(&MALFORMED),
    }
}

fn of_url(query: &str) -> Result<Operation, &'static Cause> {
    let mut operation = Operation::default();
    let mut seen = (false, false);
    for (name, value) in pairs(query) {
        let name = decoded(name);
        let text = || String::from_utf8(decoded(value).into_owned()).map_err(|_| &MALFORMED);
        match &*name {
            b"query" if std::mem::replace(&mut seen.0, true) => return Err(&MALFORMED),
            b"query" => operation.query = Some(text()?),
            b"variables" if std::mem::replace(&mut seen.1, true) => return Err(&MALFORMED),
            b"variables" => {
                let text = text()?;
                let value = match text.trim() {
                    "" => None,
                    text => Some(bounded(text.as_bytes(), DEEPEST).map_err(|_| &MALFORMED)?),
                };
                operation.variables = variables(value)?;
            }
            _ => {}
        }
    }
    Ok(operation)
}

/// How deep JSON may be: variables hold inputs within inputs.
const DEEPEST: usize = 64;
