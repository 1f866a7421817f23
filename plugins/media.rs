//! Media types and patterns of them, as settings and messages write them.
//! It must not know what is done by type.
//! Called by plugins while they are built and for each message.

use http::header::CONTENT_TYPE;
use http::HeaderMap;

/// A pattern, in lower case: before and after its one star.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// This type.
    Exact(String),
    /// Types that begin and end so.
    Star(String, String),
}

impl Kind {
    /// `type/subtype` with at most one star.
    pub(crate) fn of(text: &str) -> Option<Kind> {
        let (kind, subkind) = text.split_once('/')?;
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+*".contains(&byte);
        let is_one = |part: &str| !part.is_empty() && part.bytes().all(fits);
        if !is_one(kind) || !is_one(subkind) {
            return None;
        }
        let text = text.to_ascii_lowercase();
        match text.split_once('*') {
            None => Some(Kind::Exact(text)),
            Some((_, after)) if after.contains('*') => None,
            Some((before, after)) => Some(Kind::Star(before.to_owned(), after.to_owned())),
        }
    }

    /// Whether a type in lower case fits.
    pub(crate) fn is(&self, kind: &str) -> bool {
        match self {
            Kind::Exact(exact) => exact == kind,
            Kind::Star(before, after) => {
                kind.len() >= before.len() + after.len()
                    && kind.starts_with(before)
                    && kind.ends_with(after)
            }
        }
    }
}

/// The media type of a message in lower case, without parameters; `None` where there is none, or one longer than any.
pub(crate) fn of(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.as_bytes();
    let end = value.iter().position(|byte| *byte == b';');
    let kind = value[..end.unwrap_or(value.len())].trim_ascii();
    let kind = std::str::from_utf8(kind).ok()?;
    (kind.len() <= 128).then(|| kind.to_ascii_lowercase())
}

/// Whether who goes by the parameter `charset` reads the same signs as those who take the body for UTF-8, as JSON always is: in these
/// every byte of ASCII is itself. In others, such as UTF-7, what is a text here may be the end of one there.
pub(crate) fn is_read_as_utf8(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    values.all(|value| {
        let Ok(text) = std::str::from_utf8(value.as_bytes()) else {
            return false;
        };
        text.split(';').skip(1).all(|parameter| {
            let (name, charset) = parameter.split_once('=').unwrap_or((parameter, ""));
            let charset = charset.trim().trim_matches('"');
            !name.trim().eq_ignore_ascii_case("charset")
                || SAME_SIGNS
                    .iter()
                    .any(|one| charset.eq_ignore_ascii_case(one))
        })
    })
}

const SAME_SIGNS: [&str; 7] = [
    "utf-8",
    "utf8",
    "us-ascii",
    "ascii",
    "iso-8859-1",
    "iso-8859-15",
    "windows-1252",
];

/// What is wrong with a pattern that is none.
pub(crate) const HELP: &str =
    "write type and subtype with at most one \"*\", such as \"text/*\" or \"application/*+json\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charsets_whose_signs_are_other_bytes_are_known() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, http::HeaderValue::from_static(text));
            is_read_as_utf8(&headers)
        };

        assert!(is_read_as_utf8(&HeaderMap::new()));
        for same in [
            "application/json",
            "application/json; charset=UTF-8",
            "a/b; q=1 ; Charset = \"iso-8859-1\"",
            "a/b; version=utf-7",
        ] {
            assert!(of(same), "{same}");
        }
        for other in [
            "application/json; charset=utf-7",
            "a/b;charset=utf-16le",
            "a/b; charset=ibm037; charset=utf-8",
            "a/b; charset",
        ] {
            assert!(!of(other), "{other}");
        }
    }
}
