//! Which form of answer a client understands best.
//! It must not know what will be answered.
//! `observe::answer` exports it to whoever answers.

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};

/// The form of an answer the proxy makes itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preference {
    /// RFC 9457 problem details, in JSON: for programs, and when nothing else is wanted.
    Problem,
    /// A small page: for browsers.
    Html,
    /// A status in gRPC's own fields: for gRPC calls.
    Grpc,
    /// Three lines of text: for clients that accept text and neither JSON nor HTML.
    Text,
}

/// Reads the request's fields: a gRPC call gets gRPC, else `accept` decides by weight and then by order.
pub fn preference(headers: &HeaderMap) -> Preference {
    if headers.get(CONTENT_TYPE).is_some_and(is_grpc) {
        return Preference::Grpc;
    }
    let mut best = (Preference::Problem, 0);
    let ranges = headers.get_all(ACCEPT).iter();
    let ranges = ranges.filter_map(|value| value.to_str().ok());
    for range in ranges.flat_map(|value| value.split(',')).take(MOST_RANGES) {
        if let Some((form, weight)) = offer(range) {
            if weight > best.1 {
                best = (form, weight);
            }
        }
    }
    best.0
}

/// gRPC proper. gRPC-Web wants its trailers in the body and maps HTTP statuses itself, so it gets a problem.
fn is_grpc(content_type: &HeaderValue) -> bool {
    let Some(rest) = content_type.as_bytes().strip_prefix(b"application/grpc") else {
        return false;
    };
    matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// The form a media range asks for, with its weight in thousandths. Wildcards ask for nothing in particular.
fn offer(range: &str) -> Option<(Preference, u32)> {
    let mut parts = range.split(';').map(str::trim);
    let form = match parts.next()?.to_ascii_lowercase().as_str() {
        "text/html" | "application/xhtml+xml" => Preference::Html,
        "application/json" | "application/problem+json" => Preference::Problem,
        "text/plain" => Preference::Text,
        _ => return None,
    };
    let weight = parts
        .find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")))
        .map_or(1000, thousandths);
    Some((form, weight))
}

fn thousandths(weight: &str) -> u32 {
    let weight: f32 = weight.trim().parse().unwrap_or(0.0);
    (weight.clamp(0.0, 1.0) * 1000.0) as u32
}

/// More ranges than any client sends; the rest is not read.
const MOST_RANGES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn accepting(accept: &str) -> Preference {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().expect("a value"));
        preference(&headers)
    }

    fn sending(content_type: &str) -> Preference {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, content_type.parse().expect("a value"));
        headers.insert(ACCEPT, HeaderValue::from_static("text/html"));
        preference(&headers)
    }

    #[test]
    fn browsers_get_html_and_programs_a_problem() {
        let firefox = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

        assert_eq!(accepting(firefox), Preference::Html);
        assert_eq!(accepting("*/*"), Preference::Problem);
        assert_eq!(
            accepting("application/json, text/plain, */*"),
            Preference::Problem
        );
        assert_eq!(preference(&HeaderMap::new()), Preference::Problem);
    }

    #[test]
    fn weights_count_before_order() {
        assert_eq!(
            accepting("text/html;q=0.5, application/json"),
            Preference::Problem
        );
        assert_eq!(
            accepting("application/json;q=0.5, text/html;level=1;q=0.6"),
            Preference::Html
        );
        assert_eq!(accepting("text/html;q=0"), Preference::Problem);
        assert_eq!(accepting("text/html;q=NaN"), Preference::Problem);
        assert_eq!(accepting("text/plain"), Preference::Text);
    }

    #[test]
    fn grpc_is_known_by_its_content_type() {
        assert_eq!(sending("application/grpc"), Preference::Grpc);
        assert_eq!(sending("application/grpc+proto"), Preference::Grpc);
        assert_eq!(sending("application/grpc-web+proto"), Preference::Html);
        assert_eq!(sending("application/grpcish"), Preference::Html);
    }
}
