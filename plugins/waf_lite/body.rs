//! How a body has to begin, by its media type.
//! It must not know the rest of it: no more than the first bytes is looked at.
//! Made by `waf_lite` from a request's header, shown the pieces of its body.

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::HeaderMap;

/// What is still to be seen of a body's beginning.
pub(super) struct Begin {
    kind: Kind,
    /// The first bytes so far.
    seen: Vec<u8>,
    is_over: bool,
}

enum Kind {
    Json,
    Xml,
    Form,
    Multipart(Vec<u8>),
    Magic(&'static [&'static [u8]]),
}

/// What is known so far.
enum Fit {
    Yes,
    No,
    /// More has to come.
    Open,
}

impl Begin {
    /// What the header promises; `None` if that is nothing known here. Of a body in a coding nothing can be seen.
    pub(super) fn of(headers: &HeaderMap) -> Option<Begin> {
        if headers.contains_key(CONTENT_ENCODING) {
            return None;
        }
        let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let (kind, parameters) = text.split_once(';').unwrap_or((text, ""));
        let kind = kind.trim().to_ascii_lowercase();
        // Other charsets spell even the first bytes otherwise.
        if parameters.to_ascii_lowercase().contains("utf-16")
            || parameters.to_ascii_lowercase().contains("utf-32")
        {
            return None;
        }
        let kind = match kind.as_str() {
            "application/json" => Kind::Json,
            kind if kind.ends_with("+json") && kind.starts_with("application/") => Kind::Json,
            "application/xml" | "text/xml" => Kind::Xml,
            kind if kind.ends_with("+xml") => Kind::Xml,
            "application/x-www-form-urlencoded" => Kind::Form,
            kind if kind.starts_with("multipart/") => Kind::Multipart(boundary(parameters)?),
            "image/png" => Kind::Magic(&[b"\x89PNG\r\n\x1a\n"]),
            "image/jpeg" => Kind::Magic(&[b"\xff\xd8\xff"]),
            "image/gif" => Kind::Magic(&[b"GIF87a", b"GIF89a"]),
            "application/pdf" => Kind::Magic(&[b"%PDF-"]),
            _ => return None,
        };
        Some(Begin {
            kind,
            seen: Vec::new(),
            is_over: false,
        })
    }

    /// Whether the body may still be what it should be. A body that ends before anything is known is let through.
    pub(super) fn fits(&mut self, piece: &[u8]) -> bool {
        if self.is_over || piece.is_empty() {
            return true;
        }
        let room = LONGEST - self.seen.len();
        self.seen.extend_from_slice(&piece[..piece.len().min(room)]);
        let fit = self.kind.fit(&self.seen);
        self.is_over = !matches!(fit, Fit::Open) || self.seen.len() == LONGEST;
        !matches!(fit, Fit::No)
    }
}

impl Kind {
    fn fit(&self, seen: &[u8]) -> Fit {
        match self {
            Kind::Json => first(seen, |byte| {
                matches!(
                    byte,
                    b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n'
                )
            }),
            Kind::Xml => first(seen, |byte| byte == b'<'),
            // A form can begin with any name; what begins so is another format in its clothes.
            Kind::Form => first(seen, |byte| {
                !matches!(byte, b'{' | b'[' | b'<' | b'"' | 0..=0x1f | 0x7f)
            }),
            // A preamble may come first (RFC 2046 section 5.1.1), but nobody sends one.
            Kind::Multipart(line) => begins(seen, &[line]),
            Kind::Magic(magic) => begins(seen, magic),
        }
    }
}

/// The first byte after white space and a byte order mark.
fn first(seen: &[u8], fits: impl Fn(u8) -> bool) -> Fit {
    let mark = b"\xef\xbb\xbf";
    let text = seen.strip_prefix(mark).unwrap_or(seen);
    if text.len() < mark.len() && mark.starts_with(text) {
        return Fit::Open;
    }
    let mut bytes = text
        .iter()
        .filter(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
    match bytes.next() {
        None => Fit::Open,
        Some(byte) if fits(*byte) => Fit::Yes,
        Some(_) => Fit::No,
    }
}

fn begins<T: AsRef<[u8]>>(seen: &[u8], any: &[T]) -> Fit {
    // Some clients send a line break before the first boundary.
    let seen = seen.strip_prefix(b"\r\n--").map_or(seen, |_| &seen[2..]);
    let mut any = any.iter().map(AsRef::as_ref);
    let fit =
        any.find(|one: &&[u8]| seen.starts_with(one) || one.starts_with(seen) || is_break(seen));
    match fit {
        Some(one) if seen.starts_with(one) => Fit::Yes,
        Some(_) => Fit::Open,
        None => Fit::No,
    }
}

fn is_break(seen: &[u8]) -> bool {
    b"\r\n--".starts_with(seen)
}

/// The first line of a multipart body.
fn boundary(parameters: &str) -> Option<Vec<u8>> {
    let is_boundary = |name: &str| name.trim().eq_ignore_ascii_case("boundary");
    let pairs = parameters
        .split(';')
        .filter_map(|part| part.split_once('='));
    let mut values = pairs
        .filter(|(name, _)| is_boundary(name))
        .map(|(_, value)| value.trim());
    let value = values.next()?.trim_matches('"');
    let is_known = !value.is_empty() && value.len() <= 70 && !value.contains('\\');
    is_known.then(|| [b"--", value.as_bytes()].concat())
}

/// Longer than any beginning looked for.
const LONGEST: usize = 128;
