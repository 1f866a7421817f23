//! What a request's target hides: in its canonical path, where plain escapes are decoded already, and in its query, as it came.
//! It must not know what is done about it.
//! Called by the checks of `waf_lite`, for each request.

use std::collections::HashSet;

use pingora_http::RequestHeader;

use crate::query::{decoded, escape, pairs};

/// Whether the target holds what has to be encoded there (RFC 3986 section 2).
pub(super) fn is_raw(head: &RequestHeader) -> bool {
    let query = head.uri.query().unwrap_or("");
    let bytes = head.uri.path().bytes().chain(query.bytes());
    let mut bytes = bytes;
    bytes.any(|byte| {
        matches!(
            byte,
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x7f..
        )
    })
}

/// Whether a path climbs once encoded separators count and parameters of parts do not.
pub(super) fn climbs(path: &str) -> bool {
    if !path.contains("..") {
        return false;
    }
    let separated = path.replace("%2F", "/").replace("%5C", "/");
    let mut parts = separated.split('/');
    parts.any(|part| part.split([';', '?', '#']).next() == Some(".."))
        || separated.split('/').any(|part| part.starts_with("..%3B"))
}

/// Whether what is encoded twice in a path means something there.
pub(super) fn hides(path: &str) -> bool {
    let mut rest = path;
    while let Some(at) = rest.find("%25") {
        rest = &rest[at + 3..];
        // Three times is no better than twice.
        let inner = rest.trim_start_matches("25");
        let means = |byte: u8| {
            matches!(
                byte,
                0..=0x1f | 0x7f | b'"' | b'\'' | b'.' | b'/' | b';' | b'<' | b'>' | b'\\'
            )
        };
        if escape(inner.as_bytes()).is_some_and(means) {
            return true;
        }
    }
    false
}

/// Whether path or query hold control characters, but for tabs and line breaks in values, which text fields send.
pub(super) fn has_controls(path: &str, query: Option<&str>) -> bool {
    let is_control = |byte: &u8| byte.is_ascii_control();
    let in_value = |byte: &u8| byte.is_ascii_control() && !matches!(byte, b'\t' | b'\n' | b'\r');
    decoded(path).iter().any(is_control)
        || pairs(query.unwrap_or("")).any(|(name, value)| {
            decoded(name).iter().any(is_control) || decoded(value).iter().any(in_value)
        })
}

/// Whether characters are spelt in more bytes than they need.
pub(super) fn is_overlong(text: &str) -> bool {
    if !text.contains('%') {
        return false;
    }
    let bytes = decoded(text);
    // The bytes that begin two, three and four of them; the first two lead nowhere else.
    bytes.windows(2).any(|pair| {
        matches!(
            (pair[0], pair[1]),
            (0xc0 | 0xc1, 0x80..=0xbf) | (0xe0, 0x80..=0x9f) | (0xf0, 0x80..=0x8f)
        )
    }) && std::str::from_utf8(&bytes).is_err()
}

/// Whether it is UTF-8 once decoded.
pub(super) fn is_utf8(text: &str) -> bool {
    !text.contains('%') || std::str::from_utf8(&decoded(text)).is_ok()
}

/// Whether a value climbs two folders or more.
pub(super) fn query_climbs(query: &str) -> bool {
    pairs(query).any(|(_, value)| {
        let value = decoded(value);
        let climbs = |part: &[u8]| part == b"../../" || part == b"..\\..\\";
        value.windows(6).any(climbs)
    })
}

/// How many parameters there are.
pub(super) fn count(query: &str) -> usize {
    pairs(query).count()
}

/// Whether a name or value is too long.
pub(super) fn is_long(query: &str, bound: u64) -> bool {
    pairs(query).any(|(name, value)| name.len() > LONGEST_NAME || value.len() as u64 > bound)
}

/// Whether a name is there twice, however it is encoded. Empty ones do not count.
pub(super) fn has_duplicates(query: &str) -> bool {
    let mut seen = HashSet::new();
    let names = pairs(query).map(|(name, _)| decoded(name));
    names
        .filter(|name| !name.is_empty())
        .any(|name| !seen.insert(name))
}

const LONGEST_NAME: usize = 256;
