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

/// What is wrong with a pattern that is none.
pub(crate) const HELP: &str =
    "write type and subtype with at most one \"*\", such as \"text/*\" or \"application/*+json\"";
