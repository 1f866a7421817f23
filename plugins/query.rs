//! Queries as forms write them: pairs of names and values between `&`.
//! It must not know what a parameter means.
//! Called by plugins that read or edit the query of a request.

use std::borrow::Cow;

use http::Uri;
use pingora_http::RequestHeader;

/// The pairs as they came, each with its name and its value.
pub(crate) fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let parts = query.split('&').filter(|pair| !pair.is_empty());
    parts.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// A name or value as it was before it was encoded. Escapes that are none stay as they are.
pub(crate) fn decoded(text: &str) -> Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(bytes);
    }
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match (byte, escape(after)) {
            (b'+', _) => plain.push(b' '),
            (b'%', Some(value)) => {
                plain.push(value);
                rest = &after[2..];
            }
            (byte, _) => plain.push(*byte),
        }
    }
    Cow::Owned(plain)
}

/// The byte that two hex digits stand for.
pub(crate) fn escape(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*digits.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

/// A name or value as it is written in a query.
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// Puts another path and query into a request line. `false` if they are none; the request is then as it was.
pub(crate) fn set_target(head: &mut RequestHeader, path: &str, query: Option<&str>) -> bool {
    let target = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut parts = head.uri.clone().into_parts();
    let Ok(target) = target.parse() else {
        return false;
    };
    parts.path_and_query = Some(target);
    match Uri::from_parts(parts) {
        Ok(uri) => {
            head.set_uri(uri);
            true
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pairs_are_read_as_they_came() {
        let found: Vec<_> = pairs("a=1&&b&=c&d=e=f").collect();

        assert_eq!(found, [("a", "1"), ("b", ""), ("", "c"), ("d", "e=f")]);
    }

    #[test]
    fn escapes_that_are_none_stay() {
        assert_eq!(decoded("a%20b+c%zz%4").as_ref(), b"a b c%zz%4");
        assert!(matches!(decoded("plain"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn what_is_encoded_reads_back(text in ".{0,40}") {
            let written = encoded(&text);
            let read = decoded(&written);
            prop_assert_eq!(read.as_ref(), text.as_bytes());
        }

        #[test]
        fn anything_can_be_decoded(text in ".{0,60}") {
            let _ = decoded(&text);
            let _ = pairs(&text).count();
        }
    }
}
