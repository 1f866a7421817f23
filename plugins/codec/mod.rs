//! Content codings: which there are, which a client takes, and streams in and out of them.
//! It must not know which message a body belongs to.
//! Called by `compress`, `decompress` and plugins that look into bodies.
//!
//! Pingora has a module for this. It is not used: it knows no media types, sizes or q-values, flushes at the end only, decodes without
//! a bound, and would run for every request of the process, outside the chain and its order. The libraries below are the ones it uses.

pub(crate) mod accept;
pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod spare;
pub(crate) mod whole;

use http::header::{ETAG, VARY};
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora_http::ResponseHeader;
use schemars::JsonSchema;
use serde::Deserialize;

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Coding {
    /// RFC 8878.
    Zstd,
    /// RFC 7932.
    Br,
    /// RFC 1952.
    Gzip,
}

impl Coding {
    /// Its name in messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Coding::Zstd => "zstd",
            Coding::Br => "br",
            Coding::Gzip => "gzip",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Coding> {
        let all = [Coding::Zstd, Coding::Br, Coding::Gzip];
        let found = all
            .into_iter()
            .find(|coding| name.eq_ignore_ascii_case(coding.name()));
        // RFC 9110 section 8.4.1.3.
        found.or_else(|| name.eq_ignore_ascii_case("x-gzip").then_some(Coding::Gzip))
    }
}

/// What a message says about the coding of its body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Coded {
    /// None.
    Plain,
    /// This one.
    As(Coding),
    /// One that is not known here, or several on top of each other.
    Otherwise,
}

/// The coding that the fields of a message declare.
pub(crate) fn coding(headers: &HeaderMap) -> Coded {
    let mut found = Coded::Plain;
    for value in headers.get_all(http::header::CONTENT_ENCODING) {
        let Ok(text) = value.to_str() else {
            return Coded::Otherwise;
        };
        let names = text.split(',').map(str::trim);
        for name in names.filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity"))
        {
            found = match (Coding::named(name), found) {
                (Some(coding), Coded::Plain) => Coded::As(coding),
                _ => return Coded::Otherwise,
            };
        }
    }
    found
}

/// Whether `Cache-Control` forbids to change the body (RFC 9110 section 7.7).
pub(crate) fn is_not_to_change(headers: &HeaderMap) -> bool {
    let values = headers.get_all(http::header::CACHE_CONTROL).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    texts
        .flat_map(|text| text.split(','))
        .any(|word| word.trim().eq_ignore_ascii_case("no-transform"))
}

/// Says that a response depends on what codings a client takes.
pub(crate) fn vary(head: &mut ResponseHeader) {
    let is_said = head.headers.get_all(VARY).iter().any(|value| {
        let text = value.to_str().unwrap_or("");
        let mut names = text.split(',').map(str::trim);
        names.any(|name| name == "*" || name.eq_ignore_ascii_case("accept-encoding"))
    });
    if !is_said {
        let _ = head.append_header(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

/// Corrects what a response says of a body whose bytes become others: its length is not known any more, no part of it can be asked
/// for, digests of it do not hold, and its tag says no more than that it means the same (RFC 9110 section 8.8.1).
pub(crate) fn recoded(head: &mut ResponseHeader) {
    for name in &OF_BYTES {
        head.remove_header(name);
    }
    let tag = head
        .headers
        .get(ETAG)
        .filter(|tag| !tag.as_bytes().starts_with(b"W/"));
    let weak = tag.and_then(|tag| {
        let weak = [b"W/", tag.as_bytes()].concat();
        HeaderValue::from_bytes(&weak).ok()
    });
    if let Some(weak) = weak {
        let _ = head.insert_header(ETAG, weak);
    }
}

static OF_BYTES: [HeaderName; 6] = [
    http::header::CONTENT_LENGTH,
    http::header::ACCEPT_RANGES,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn coded(values: &[&'static str]) -> Coded {
        let mut headers = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.append("content-encoding", value);
        }
        coding(&headers)
    }

    #[test]
    fn one_coding_is_known_and_a_pile_is_not() {
        assert_eq!(coded(&[]), Coded::Plain);
        assert_eq!(coded(&["identity, ,"]), Coded::Plain);
        assert_eq!(coded(&["X-Gzip"]), Coded::As(Coding::Gzip));
        assert_eq!(coded(&["identity", "ZSTD"]), Coded::As(Coding::Zstd));
        assert_eq!(coded(&["gzip, gzip"]), Coded::Otherwise);
        assert_eq!(coded(&["gzip", "br"]), Coded::Otherwise);
        assert_eq!(coded(&["deflate"]), Coded::Otherwise);
        assert_eq!(coded(&["gz\u{a0}ip"]), Coded::Otherwise);
    }

    #[test]
    fn a_response_says_once_what_it_depends_on() {
        let of = |values: &[&'static str]| {
            let mut head = ResponseHeader::build(200, None).unwrap();
            for value in values {
                head.append_header("vary", *value).unwrap();
            }
            vary(&mut head);
            head.headers.get_all("vary").iter().count()
        };

        assert_eq!(of(&[]), 1);
        assert_eq!(of(&["origin"]), 2);
        assert_eq!(of(&["origin, ACCEPT-encoding"]), 1);
        assert_eq!(of(&["*"]), 1);
    }
}
