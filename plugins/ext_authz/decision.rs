//! What the service decided: a `CheckResponse`, and gRPC's own status beside it.
//! It must not know the request, nor which fields may be set.
//! Part of `ext_authz`.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora_http::RequestHeader;

use super::message::{unframed, Allowed, CheckResponse, Denied, HeaderOption, Parameter};
use super::metadata::{claims, Members};
use super::{Fields, DENIED};
use crate::contract::{field_name, Answer, Claims, Reply, Side};
use crate::query::{decoded, encoded, set_target};

/// A decision.
#[derive(Debug)]
pub(super) enum Decision {
    Allow(Changes),
    Deny(Box<Answer>),
}

/// What is changed of a request that goes on.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) granted: Fields,
    pub(super) removed: Vec<HeaderName>,
    pub(super) added: Fields,
    pub(super) query: QueryChanges,
    metadata: Option<Members>,
}

impl Changes {
    /// What the service tells besides.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn metadata(&mut self) -> Result<Claims, String> {
        claims(self.metadata.take().unwrap_or_default())
    }
}

/// Parameters to set, and then to remove.
#[derive(Debug, Default)]
pub(super) struct QueryChanges {
    set: Vec<(String, String)>,
    removed: Vec<String>,
}

impl QueryChanges {
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.set.iter().map(|(name, _)| name).chain(&self.removed)
    }

    /// Changes the query of a request; parameters that are not named stay as they are written. `false` if it would be none.
    pub(super) fn apply(&self, head: &mut RequestHeader) -> bool {
        if self.set.is_empty() && self.removed.is_empty() {
            return true;
        }
        let before = head.uri.query().unwrap_or_default();
        let is_named = |pair: &&str| {
            let name = decoded(pair.split_once('=').map_or(*pair, |(name, _)| name));
            let mut names = self.names();
            names.any(|one| one.as_bytes() == &*name)
        };
        let pairs = before.split('&').filter(|pair| !pair.is_empty());
        let mut pairs: Vec<String> = pairs
            .filter(|pair| !is_named(pair))
            .map(str::to_owned)
            .collect();
        for (at, (name, value)) in self.set.iter().enumerate() {
            // The last one of a name counts.
            let is_last = !self.set[at + 1..].iter().any(|(later, _)| later == name);
            if is_last && !self.removed.contains(name) {
                pairs.push(format!("{}={}", encoded(name), encoded(value)));
            }
        }
        let query = pairs.join("&");
        let path = head.uri.path().to_owned();
        set_target(head, &path, (!query.is_empty()).then_some(&query))
    }
}

impl Decision {
    /// Reads a response.
    ///
    /// # Errors
    /// Why it is no decision, without what is in it.
    pub(super) fn of(reply: &Reply) -> Result<Decision, String> {
        if reply.status != 200 {
            return Err(format!("answered with HTTP status {}", reply.status));
        }
        // A call that fails at once has its status in the only header block.
        let status = status(&reply.trailers).or_else(|| status(&reply.headers));
        match status {
            Some(0) => {}
            Some(code) => return Err(format!("answered with gRPC status {code}")),
            None => return Err("answered without a gRPC status".to_owned()),
        }
        let message: CheckResponse =
            unframed(&reply.body).map_err(|why| format!("answered {why}"))?;
        let code = message.status.as_ref().map(|status| status.code);
        match (code, message.ok, message.denied) {
            // Whoever says nothing has not said yes.
            (None, None, None) => Err("answered without a decision".to_owned()),
            (Some(0) | None, allowed, None) => {
                let mut changes = changes(allowed.unwrap_or_default())?;
                changes.metadata = message.metadata;
                Ok(Decision::Allow(changes))
            }
            (Some(0) | None, _, Some(_)) => Err("answered with yes and no at once".to_owned()),
            (Some(_), None, denied) => Ok(Decision::Deny(answer(denied.unwrap_or_default())?)),
            (Some(_), Some(_), _) => Err("answered with yes and no at once".to_owned()),
        }
    }
}

fn status(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

fn changes(allowed: Allowed) -> Result<Changes, String> {
    let removed = allowed.remove.iter();
    let removed = removed.map(|name| {
        let wrong = |_| "removes a field that cannot be removed".to_owned();
        field_name(Side::Response, "", name).map_err(wrong)
    });
    Ok(Changes {
        granted: fields(&allowed.headers)?,
        removed: removed.collect::<Result<_, _>>()?,
        added: fields(&allowed.response_headers)?,
        query: query(allowed.query_set, allowed.query_remove)?,
        metadata: None,
    })
}

fn query(set: Vec<Parameter>, removed: Vec<String>) -> Result<QueryChanges, String> {
    let set: Vec<_> = set.into_iter().map(|one| (one.key, one.value)).collect();
    let size: usize = set
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    let is_unnamed =
        set.iter().any(|(name, _)| name.is_empty()) || removed.iter().any(String::is_empty);
    match (is_unnamed, size > LONGEST_QUERY) {
        (true, _) => Err("changes a parameter without a name".to_owned()),
        (_, true) => Err("sets more than 4 KiB of parameters".to_owned()),
        (false, false) => Ok(QueryChanges { set, removed }),
    }
}

fn answer(denied: Denied) -> Result<Box<Answer>, String> {
    let code = denied.status.map_or(0, |status| status.code);
    let status = match (code, u16::try_from(code)) {
        (0, _) => DENIED.status,
        (_, Ok(code)) if (300..=599).contains(&code) => code,
        _ => return Err("denies with a status that is not from 300 to 599".to_owned()),
    };
    let mut headers = fields(&denied.headers)?;
    let media = headers.iter().position(|(name, _)| *name == CONTENT_TYPE);
    let media = media.map(|at| headers.remove(at).1);
    let media = media.unwrap_or(HeaderValue::from_static("text/plain; charset=utf-8"));
    Ok(Box::new(Answer {
        status,
        cause: &DENIED,
        headers,
        body: (!denied.body.is_empty()).then(|| (media, denied.body.into())),
        stands_in: false,
    }))
}

fn fields(options: &[HeaderOption]) -> Result<Fields, String> {
    let mut all = Vec::new();
    let mut size = 0;
    for header in options.iter().filter_map(|option| option.header.as_ref()) {
        // A name of the service's is not repeated in logs unless it is one.
        let name = field_name(Side::Response, "", &header.key)
            .map_err(|_| "sets a field that cannot be set".to_owned())?;
        let bytes = match header.raw.is_empty() {
            true => header.value.as_bytes(),
            false => &header.raw,
        };
        let value = HeaderValue::from_bytes(bytes)
            .map_err(|_| format!("sets the field {name} to what a field cannot carry"))?;
        size += name.as_str().len() + value.len();
        all.push((name, value));
    }
    match size > LARGEST {
        true => Err("sets more than 16 KiB of fields".to_owned()),
        false => Ok(all),
    }
}

const LARGEST: usize = 16 << 10;
const LONGEST_QUERY: usize = 4 << 10;
