//! What becomes of the service's answer: the client's answer, and who the caller is.
//! It must not know the request.
//! Part of `forward_auth`.

use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue};

use super::{DENIED, UNAVAILABLE};
use crate::contract::{Answer, Reply, Verdict};
use crate::granted::Names;

/// The service's own answer, as far as a client may see it.
pub(super) fn passed_on(reply: Reply, names: &Names) -> Verdict {
    let Ok(headers) = names.picked(&reply.headers) else {
        return Verdict::Failed {
            cause: &UNAVAILABLE,
            reason: "the service answered with more than 16 KiB of fields for the client"
                .to_owned(),
        };
    };
    let media = reply.headers.get(CONTENT_TYPE).cloned();
    let media = media.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let is_type = |(name, _): &(HeaderName, HeaderValue)| *name == CONTENT_TYPE;
    Answer {
        status: reply.status,
        cause: &DENIED,
        headers: headers
            .into_iter()
            .filter(|field| !is_type(field))
            .collect(),
        // Without a body of its own the proxy writes one as the client prefers.
        body: (!reply.body.is_empty()).then_some((media, reply.body)),
        stands_in: false,
    }
    .into()
}

/// Who the caller is, if the service says.
///
/// # Errors
/// What is wrong with the name.
pub(super) fn named(reply: &Reply, field: &HeaderName) -> Result<Option<String>, &'static str> {
    let mut values = reply.headers.get_all(field).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value,
        (Some(_), Some(_)) => return Err("named the consumer more than once"),
    };
    let name = value.to_str().map(str::trim).unwrap_or_default();
    let is_plain = name.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    match (
        name.is_empty() && value.is_empty(),
        is_plain && (1..=256).contains(&name.len()),
    ) {
        (true, _) => Ok(None),
        (false, true) => Ok(Some(name.to_owned())),
        (false, false) => Err("named the consumer in characters that no name has"),
    }
}
