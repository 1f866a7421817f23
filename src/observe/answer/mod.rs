//! The answer the proxy makes itself, rendered in the form its client understands.
//! It must not know why or when the proxy answers, and says nothing of its inside.
//! The fast path calls it where it answers; `windrose explain` shows the same.

mod preference;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue};
use windrose_plugins::contract::Cause;

pub use preference::{preference, Preference};

/// An answer, ready to be sent. A caller that answers HEAD sends the fields and leaves out the body.
#[derive(Debug, Clone)]
pub struct Rendered {
    /// The HTTP status; 200 for gRPC, which tells its own in a field.
    pub status: u16,
    /// The fields, complete but for `date` and `server`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body; empty for gRPC.
    pub body: Bytes,
}

/// Renders the answer for a cause. `retry_after` is in seconds; 429 and 503 carry `retry-after: 1` without it.
pub fn render(
    cause: &'static Cause,
    status: u16,
    preference: Preference,
    request_id: &str,
    retry_after: Option<u32>,
) -> Rendered {
    let words = Words {
        cause,
        status,
        request_id,
        detail: None,
    };
    rendered(&words, preference, retry_after)
}

/// Renders the answer for a cause with a sentence more, which RFC 9457 calls `detail`. It must be fit for clients.
pub fn render_with_detail(
    cause: &'static Cause,
    status: u16,
    preference: Preference,
    request_id: &str,
    detail: &str,
) -> Rendered {
    let words = Words {
        cause,
        status,
        request_id,
        detail: Some(detail),
    };
    rendered(&words, preference, None)
}

/// What an answer says, in whatever form.
struct Words<'a> {
    cause: &'static Cause,
    status: u16,
    request_id: &'a str,
    detail: Option<&'a str>,
}

fn rendered(words: &Words<'_>, preference: Preference, retry_after: Option<u32>) -> Rendered {
    let status = words.status;
    let retry_after = retry_after.or(matches!(status, 429 | 503).then_some(1));
    let mut rendered = match preference {
        Preference::Grpc => grpc(words),
        Preference::Problem => {
            let body = problem(words);
            with_body(status, "application/problem+json", body)
        }
        Preference::Html => {
            let body = html(words);
            with_body(status, "text/html; charset=utf-8", body)
        }
        Preference::Text => {
            let body = text(words);
            with_body(status, "text/plain; charset=utf-8", body)
        }
    };
    let fields = &mut rendered.headers;
    fields.push((CACHE_CONTROL, HeaderValue::from_static("no-store")));
    if let Some(seconds) = retry_after {
        fields.push((RETRY_AFTER, HeaderValue::from(seconds)));
    }
    rendered
}

fn with_body(status: u16, content_type: &'static str, body: String) -> Rendered {
    Rendered {
        status,
        headers: vec![
            (CONTENT_TYPE, HeaderValue::from_static(content_type)),
            (CONTENT_LENGTH, HeaderValue::from(body.len())),
        ],
        body: body.into(),
    }
}

/// RFC 9457. Members beyond its own are `why` and `request_id`.
fn problem(words: &Words<'_>) -> String {
    let detail = words.detail.map_or(String::new(), |detail| {
        format!(r#""detail":{},"#, json(detail))
    });
    format!(
        r#"{{"type":{kind},"title":{title},"status":{status},{detail}"why":{why},"request_id":{id}}}"#,
        kind = json(&format!("urn:windrose:cause:{}", words.cause.name)),
        title = json(words.cause.title),
        status = words.status,
        why = json(words.cause.name),
        id = json(words.request_id),
    )
}

fn html(words: &Words<'_>) -> String {
    let (status, title) = (words.status, escape(words.cause.title));
    let (why, id) = (escape(words.cause.name), escape(words.request_id));
    let detail = words
        .detail
        .map_or(String::new(), |detail| format!("<p>{}</p>", escape(detail)));
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>{status} {title}</title><style>\
         body{{font:16px/1.5 system-ui,sans-serif;margin:15vh auto;max-width:34rem;padding:0 1rem;color:#222;background:#fff}}\
         h1{{font-size:1.4rem}}dl{{color:#666;font-size:.85rem}}dt,dd{{display:inline;margin:0 .4em 0 0}}\
         @media(prefers-color-scheme:dark){{body{{color:#ddd;background:#161616}}dl{{color:#999}}}}\
         </style></head><body><h1>{status} {title}</h1>{detail}\
         <dl><dt>Why:</dt><dd>{why}</dd><dt>Request:</dt><dd>{id}</dd></dl></body></html>\n"
    )
}

fn text(words: &Words<'_>) -> String {
    // A request id kept from a trusted peer is still text from outside: one line it stays.
    let id = words.request_id.chars().filter(|c| !c.is_control());
    let id: String = id.collect();
    let detail = words
        .detail
        .map_or(String::new(), |detail| format!("{detail}\n"));
    format!(
        "{} {}\n{detail}why: {}\nrequest: {id}\n",
        words.status, words.cause.title, words.cause.name
    )
}

/// "Trailers-Only" of the gRPC protocol: the fields of a 200 without a body.
fn grpc(words: &Words<'_>) -> Rendered {
    let (cause, status) = (words.cause, words.status);
    let message = match words.detail {
        Some(detail) => percent(&format!("{} ({}): {detail}", cause.title, cause.name)),
        None => percent(&format!("{} ({})", cause.title, cause.name)),
    };
    let message = HeaderValue::from_str(&message);
    Rendered {
        status: 200,
        headers: vec![
            (CONTENT_TYPE, HeaderValue::from_static("application/grpc")),
            (
                HeaderName::from_static("grpc-status"),
                HeaderValue::from(grpc_status(status)),
            ),
            (
                HeaderName::from_static("grpc-message"),
                message.unwrap_or(HeaderValue::from_static("")),
            ),
        ],
        body: Bytes::new(),
    }
}

/// gRPC's status for an HTTP status: its http-grpc-status-mapping, and finer where the proxy knows more.
pub fn grpc_status(http: u16) -> u16 {
    const CANCELLED: u16 = 1;
    const UNKNOWN: u16 = 2;
    const DEADLINE_EXCEEDED: u16 = 4;
    const PERMISSION_DENIED: u16 = 7;
    const RESOURCE_EXHAUSTED: u16 = 8;
    const UNIMPLEMENTED: u16 = 12;
    const INTERNAL: u16 = 13;
    const UNAVAILABLE: u16 = 14;
    const UNAUTHENTICATED: u16 = 16;
    match http {
        400 => INTERNAL,
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 => UNIMPLEMENTED,
        413 | 431 => RESOURCE_EXHAUSTED,
        408 | 504 => DEADLINE_EXCEEDED,
        429 | 502 | 503 => UNAVAILABLE,
        499 => CANCELLED,
        _ => UNKNOWN,
    }
}

/// Percent-encodes what gRPC's `grpc-message` forbids: all but printable ASCII, and `%`.
fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn json(text: &str) -> String {
    // serde_json cannot fail on text.
    serde_json::to_string(text).unwrap_or_else(|_| "\"\"".into())
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests;
