//! Media types worth compressing.
//! It must not know messages beyond their `Content-Type`.
//! Compiled by `compress` while it is built, asked for each response.

use http::HeaderMap;

use crate::codec::encode::Flush;
use crate::contract::Problem;
use crate::media::{self, Kind};

/// Patterns of media types.
#[derive(Debug, Clone)]
pub(super) struct Kinds(Vec<Kind>);

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
                    Problem::at(
                        format!("types[{index}]"),
                        format!("\"{text}\" is not a media type"),
                    )
                    .help(media::HELP),
                ),
            }
        }
        Kinds(kinds)
    }

    /// Whether a response of this type is compressed.
    pub(super) fn has(&self, headers: &HeaderMap, flush: Flush) -> bool {
        let Some(kind) = media::of(headers) else {
            return false;
        };
        // gRPC compresses its own messages, and its trailers must arrive.
        if kind.starts_with("application/grpc")
            || (kind == "text/event-stream" && flush == Flush::No)
        {
            return false;
        }
        self.0.iter().any(|one| one.is(&kind))
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
