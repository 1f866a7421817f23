//! Media types worth compressing.
//! It must not know messages beyond their `Content-Type`.
//! Compiled by `compress` while it is built, asked for each response.

use crate::codec::encode::Flush;
use crate::contract::Problem;

/// Patterns of media types.
#[derive(Debug, Clone)]
pub(super) struct Kinds(Vec<Kind>);

/// One pattern, in lower case: before and after its one star.
#[derive(Debug, Clone)]
enum Kind {
    Exact(String),
    Star(String, String),
}

impl Kinds {
    pub(super) fn of(given: Option<&[String]>, problems: &mut Vec<Problem>) -> Kinds {
        let Some(given) = given else {
            return Kinds(DEFAULT.iter().filter_map(|text| Kind::of(text)).collect());
        };
        if given.is_empty() {
            problems
                .push(Problem::at("types", "names none").help("leave it out for the usual ones"));
        }
        let mut kinds = Vec::new();
        for (index, text) in given.iter().enumerate() {
            match Kind::of(text) {
                Some(kind) => kinds.push(kind),
                None => problems.push(
                    Problem::at(format!("types[{index}]"), format!("\"{text}\" is not a media type"))
                        .help("write type and subtype with at most one \"*\", such as \"text/*\" or \"application/*+json\""),
                ),
            }
        }
        Kinds(kinds)
    }

    /// Whether a response of this type is compressed.
    pub(super) fn has(&self, content_type: &[u8], flush: Flush) -> bool {
        let end = content_type.iter().position(|byte| *byte == b';');
        let kind = content_type[..end.unwrap_or(content_type.len())].trim_ascii();
        // More than any type is long.
        let Some(kind) = std::str::from_utf8(kind)
            .ok()
            .filter(|kind| kind.len() <= 128)
        else {
            return false;
        };
        let kind = kind.to_ascii_lowercase();
        // gRPC compresses its own messages, and its trailers must arrive.
        if kind.starts_with("application/grpc")
            || (kind == "text/event-stream" && flush == Flush::No)
        {
            return false;
        }
        self.0.iter().any(|one| one.is(&kind))
    }
}

impl Kind {
    fn of(text: &str) -> Option<Kind> {
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

    fn is(&self, kind: &str) -> bool {
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

const DEFAULT: [&str; 14] = [
    "text/*",
    "application/json",
    "application/*+json",
    "application/xml",
    "application/*+xml",
    "application/javascript",
    "application/ecmascript",
    "application/wasm",
    "application/x-ndjson",
    "application/yaml",
    "application/toml",
    "image/svg+xml",
    "font/ttf",
    "font/otf",
];
