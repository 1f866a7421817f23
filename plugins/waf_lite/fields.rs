//! What is odd about a request's fields.
//! It must not know what is done about it.
//! Called by the checks of `waf_lite`, for each request.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};

/// Whether a value holds white space other than plain spaces. Bytes that are not UTF-8 are not read as anything.
pub(super) fn has_odd_whitespace(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    if bytes.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return false;
    }
    let text = std::str::from_utf8(bytes);
    text.is_ok_and(|text| {
        text.chars()
            .any(|c| c != ' ' && (c.is_whitespace() || is_invisible(c)))
    }) || bytes.contains(&b'\t')
}

/// Characters without width, which hide in names that look alike.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
}

/// Whether a canonical host is an address, also in the forms that old resolvers take: `127.1`, `0x7f.1`, `2130706433`.
pub(super) fn is_address(host: &str) -> bool {
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    if let Some(address) = bracketed {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let is_number = |part: &str| {
        let hex = part.strip_prefix("0x");
        match hex {
            Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
            None => !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()),
        }
    };
    host.parse::<Ipv4Addr>().is_ok()
        || (!host.is_empty() && host.split('.').count() <= 4 && host.split('.').all(is_number))
}

/// Whether the media type is ambiguous or none.
pub(super) fn is_wrong_type(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    match (values.next(), values.next()) {
        (None, _) => false,
        (Some(_), Some(_)) => true,
        (Some(value), None) => value.to_str().is_err() || !value.to_str().is_ok_and(is_media_type),
    }
}

/// `type/subtype`, then parameters that each have a name of their own (RFC 9110 section 8.3.1).
fn is_media_type(text: &str) -> bool {
    let mut parts = outside_quotes(text, ';');
    let kind = parts.next().unwrap_or("");
    let is_kind = kind
        .trim()
        .split_once('/')
        .is_some_and(|(kind, sub)| is_token(kind) && is_token(sub));
    let mut names: Vec<String> = Vec::new();
    let are_parameters = parts
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .all(|part| {
            let Some((name, value)) = part.split_once('=') else {
                return false;
            };
            let name = name.to_ascii_lowercase();
            let is_quoted = value.len() >= 2 && value.starts_with('"') && value.ends_with('"');
            // More bytes than a boundary has (RFC 2046) are let through up to a hundred; some clients write slashes there.
            let fits = is_quoted || (!value.is_empty() && !value.contains(['"', ',', ' ', '\t']));
            let is_new = is_token(&name) && !names.contains(&name);
            names.push(name);
            is_new && fits
        });
    is_kind && are_parameters
}

/// The parts between separators, where those in quotes are none.
fn outside_quotes(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c| {
        let was_escaped = escaped;
        escaped = quoted && c == '\\' && !was_escaped;
        if c == '"' && !was_escaped {
            quoted = !quoted;
        }
        c == separator && !quoted
    })
}

fn is_token(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(fits)
}
