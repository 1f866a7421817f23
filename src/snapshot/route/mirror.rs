//! Mirrors of a rule: where copies go, within which bounds, and what of the responses is compared.
//! It must not know requests, nor how copies are sent.
//! Part of a rule's experiments; built by `config::compile`.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::Chance;
use crate::observe::metrics::MirrorMetrics;
use crate::snapshot::gate::Bounds;
use crate::snapshot::pool::Pool;

/// Copies to a pool.
pub struct Mirror {
    /// The pool's name.
    pub name: Arc<str>,
    /// The pool; `None` for one that is broken, whose copies are not made.
    pub pool: Option<Arc<Pool>>,
    /// Share of the requests.
    pub chance: Chance,
    /// Longest request body.
    pub body_limit: usize,
    /// Time for a copy.
    pub timeout: Duration,
    /// Copies at a time.
    pub bounds: Bounds,
    /// What is compared.
    pub compare: Option<Compare>,
    /// What the copy's mark says.
    pub mark: HeaderValue,
    /// Counters and examples.
    pub metrics: Arc<MirrorMetrics>,
}

/// What of two responses is compared.
#[derive(Debug, Clone, Default)]
pub struct Compare {
    /// The status.
    pub status: bool,
    /// Fields.
    pub headers: Box<[HeaderName]>,
    /// The body.
    pub body: CompareBody,
    /// JSON pointers of what may differ, in segments.
    pub ignore: Box<[Pointer]>,
    /// The time to the header.
    pub latency: bool,
    /// Longest body.
    pub body_limit: usize,
}

/// How bodies are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CompareBody {
    /// Not at all.
    #[default]
    None,
    /// As bytes.
    Bytes,
    /// As JSON, by value.
    Json,
    /// As JSON, by members and types.
    JsonShape,
}

/// A JSON pointer (RFC 6901) whose segment `*` stands for any one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer(Box<[Box<str>]>);

impl Pointer {
    /// Parses a pointer; `None` for a text that does not begin with `/`.
    pub fn new(text: &str) -> Option<Pointer> {
        let segments = text.strip_prefix('/')?.split('/');
        let decoded = segments.map(|one| one.replace("~1", "/").replace("~0", "~").into());
        Some(Pointer(decoded.collect()))
    }

    /// Whether it points to the value at these segments.
    pub fn matches(&self, segments: &[String]) -> bool {
        let own = self.0.iter().map(|own| &**own);
        let alike = |(own, other): (&str, &String)| own == "*" || own == other;
        self.0.len() == segments.len() && own.zip(segments).all(alike)
    }
}

/// The most mirrors a rule may have: the chosen ones are a set of bits.
pub const MOST_MIRRORS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_read_as_the_rfc_says_and_a_star_is_any_segment() {
        let hits = |pointer: &str, path: &[&str]| {
            let path: Vec<String> = path.iter().map(|&one| one.to_owned()).collect();
            Pointer::new(pointer).is_some_and(|pointer| pointer.matches(&path))
        };

        assert!(hits("/a/b", &["a", "b"]));
        assert!(hits("/a~1b/m~0n", &["a/b", "m~n"]));
        assert!(hits("/items/*/id", &["items", "3", "id"]));
        assert!(hits("/", &[""]));
        assert!(!hits("/a", &["a", "b"]) && !hits("/a/b", &["a"]) && !hits("a", &["a"]));
    }
}
