//! The simple scheme: an HMAC over six lines, for clients that have no library for more.
//! It must not know RFC 9421.
//! Used by the gate for each request.
//!
//! `Authorization: HMAC-SHA256 ID:CODE`, where CODE is the base64 of the HMAC-SHA256, under the secret of the key ID, of these
//! lines, each ended by a line feed: the method; the target as it stands in the request line, with its query; the host in lower
//! case, without the port 80 of `http` or 443 of `https`; the `Date` field; the `Content-Digest` field, or nothing; ID.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use http::header::{AUTHORIZATION, DATE};
use std::time::UNIX_EPOCH;

use super::base::authority;
use super::{causes, Gate, Stop};
use crate::contract::Request;

/// The consumer whose key it was.
///
/// # Errors
/// Why not.
pub(super) fn verify(gate: &Gate, request: &mut Request<'_>) -> Result<String, Stop> {
    let (id, code) = credentials(request)?;
    let key = gate.consumers.with_signing_key(&id);
    let (consumer, key) = key.ok_or(&causes::KEY)?;
    if key.algorithm() != "hmac-sha256" {
        return Err(Stop::Refused(&causes::WRONG));
    }
    let head = &*request.head;
    let once = |name: &str| {
        let mut values = head.headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().map(Some).map_err(|_| &causes::MALFORMED),
            (None, _) => Ok(None),
            (Some(_), Some(_)) => Err(&causes::MALFORMED),
        }
    };
    let date = once(DATE.as_str())?.ok_or(&causes::UNCOVERED)?;
    let made = httpdate::parse_http_date(date).map_err(|_| &causes::MALFORMED)?;
    let made = made.duration_since(UNIX_EPOCH).map_err(|_| &causes::TIME)?;
    gate.in_time(made.as_secs(), None)?;
    let digest = once("content-digest")?;
    let target = head.uri.path_and_query().map_or("/", |both| both.as_str());
    let host = authority(head, request.client.secure).ok_or(&causes::MALFORMED)?;
    let lines = format!(
        "{}\n{target}\n{host}\n{date}\n{}\n{id}\n",
        head.method,
        digest.unwrap_or_default()
    );
    if !key.verifies(lines.as_bytes(), &code) {
        return Err(Stop::Refused(&causes::WRONG));
    }
    let (name, is_covered) = (consumer.name.clone(), digest.is_some());
    gate.body(request, is_covered)?;
    Ok(name)
}

fn credentials(request: &Request<'_>) -> Result<(String, Vec<u8>), Stop> {
    let mut fields = request.head.headers.get_all(AUTHORIZATION).iter();
    let field = fields.next().ok_or(&causes::MISSING)?;
    if fields.next().is_some() {
        return Err(Stop::Refused(&causes::MALFORMED));
    }
    let text = field.to_str().map_err(|_| &causes::MALFORMED)?;
    let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("hmac-sha256") {
        return Err(Stop::Refused(&causes::MISSING));
    }
    let (id, code) = rest.trim().rsplit_once(':').ok_or(&causes::MALFORMED)?;
    let code = STANDARD.decode(code).map_err(|_| &causes::MALFORMED)?;
    Ok((id.to_owned(), code))
}
