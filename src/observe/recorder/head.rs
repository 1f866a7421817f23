//! The head of a request as a record holds it: bounded, harmless to look at, secrets replaced.
//! It must not know what was decided about it.
//! The recorder calls it for every record it makes.

use bytes::Bytes;
use http::HeaderMap;

use super::record::{Asked, Pair};
use crate::observe::redact;

/// Where the head is read from.
pub enum Head<'a> {
    /// The bytes of HTTP/1, as received.
    Raw(Bytes),
    /// What was parsed.
    Parsed {
        /// Path and query.
        target: &'a str,
        /// The fields.
        fields: &'a HeaderMap,
    },
}

/// Fills in path, query and fields.
pub(super) fn read(head: &Head<'_>, asked: &mut Asked) {
    match head {
        Head::Raw(bytes) => raw(bytes, asked),
        Head::Parsed { target, fields } => {
            self::target(target.as_bytes(), asked);
            let pairs = fields.iter();
            let pairs = pairs.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
            self::fields(pairs, asked);
        }
    }
}

fn raw(bytes: &[u8], asked: &mut Asked) {
    let lines = bytes.split(|byte| *byte == b'\n');
    let mut lines = lines
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .skip_while(|line| line.is_empty());
    let mut words = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
    target(words.nth(1).unwrap_or_default(), asked);
    let pairs = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            Some((&line[..colon], line[colon + 1..].trim_ascii()))
        });
    fields(pairs, asked);
}

/// The path and query of a target in any form (RFC 9112 section 3.2).
fn target(target: &[u8], asked: &mut Asked) {
    let scheme = target.windows(3).position(|window| window == b"://");
    let path = match scheme {
        Some(at) if !target.starts_with(b"/") => {
            let rest = &target[at + 3..];
            let slash = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
            slash.map_or(&b"/"[..], |slash| &rest[slash..])
        }
        _ => target,
    };
    let question = path.iter().position(|byte| *byte == b'?');
    let (path, query) = match question {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (path, &b""[..]),
    };
    let (path, cut) = harmless(path, PATH_BYTES);
    (asked.path, asked.cut) = (path, cut);
    let mut room = QUERY_BYTES;
    for pair in query
        .split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty())
    {
        let equals = pair.iter().position(|byte| *byte == b'=');
        let value = equals.map_or(&b""[..], |at| &pair[at + 1..]);
        // A name without a value may be a token; `=` at its end may be padding.
        let is_alone = value.iter().all(|byte| *byte == b'=');
        let is_token = pair.len() > LONGEST_BARE || redact::holds_jwt(pair) || !value.is_empty();
        let is_padded = equals.is_some() && pair.len() % 4 == 0 && pair.len() >= 8;
        let is_bare = is_alone && (is_token || is_padded);
        let name = match equals {
            _ if is_bare => b"***",
            equals => &pair[..equals.unwrap_or(pair.len())],
        };
        let mut pair = keep(name, if value.is_empty() { b"" } else { b"***" }, room);
        pair.redacted = is_bare || !value.is_empty();
        push(pair, &mut asked.query, &mut asked.left_out, &mut room);
    }
}

fn fields<'a>(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>, asked: &mut Asked) {
    let mut room = FIELD_BYTES;
    for (name, value) in pairs {
        let redacted = redact::field(&String::from_utf8_lossy(name), value);
        let mut pair = keep(name, redacted.as_deref().unwrap_or(value), room);
        pair.redacted = redacted.is_some();
        push(pair, &mut asked.fields, &mut asked.left_out, &mut room);
    }
}

fn keep(name: &[u8], value: &[u8], room: usize) -> Pair {
    let (name, name_cut) = harmless(name, LONGEST_NAME);
    let left = room.saturating_sub(name.len());
    let (value, value_cut) = harmless(value, LONGEST_VALUE.min(left));
    Pair {
        name,
        value,
        redacted: false,
        cut: name_cut || value_cut,
    }
}

fn push(pair: Pair, into: &mut Vec<Pair>, left_out: &mut usize, room: &mut usize) {
    match pair.name.len() > *room || into.len() >= MOST_PAIRS {
        true => *left_out += 1,
        false => {
            *room = room.saturating_sub(pair.name.len() + pair.value.len());
            into.push(pair);
        }
    }
}

/// Text of at most so many bytes that no terminal obeys, and whether it differs from what came.
pub(in crate::observe) fn harmless(bytes: &[u8], most: usize) -> (String, bool) {
    let kept = &bytes[..bytes.len().min(most)];
    let mut text = String::with_capacity(kept.len());
    let mut changed = kept.len() < bytes.len();
    for chunk in kept.utf8_chunks() {
        for c in chunk.valid().chars() {
            let obeyed = (c.is_control() && c != '\t') || is_direction(c);
            changed |= obeyed;
            text.push(if obeyed { REPLACED } else { c });
        }
        if !chunk.invalid().is_empty() {
            changed = true;
            text.push(REPLACED);
        }
    }
    (text, changed)
}

/// Line separators and what turns the direction of text.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

const REPLACED: char = '?';
/// All fields of a record together; what is cut or left out is said.
const FIELD_BYTES: usize = 4096;
const QUERY_BYTES: usize = 2048;
const PATH_BYTES: usize = 2048;
const LONGEST_VALUE: usize = 1024;
const LONGEST_NAME: usize = 256;
const LONGEST_BARE: usize = 32;
/// Empty names and values take room, too.
const MOST_PAIRS: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(raw: &[u8]) -> Asked {
        let mut asked = Asked::default();
        read(&Head::Raw(Bytes::copy_from_slice(raw)), &mut asked);
        asked
    }

    fn pairs(pairs: &[Pair]) -> Vec<(&str, &str, bool)> {
        let pairs = pairs.iter();
        pairs
            .map(|pair| (&*pair.name, &*pair.value, pair.redacted))
            .collect()
    }

    #[test]
    fn fields_stay_in_order_with_their_case_and_repeats() {
        let asked = of(
            b"GET /a HTTP/1.1\r\nHost: x\r\nAccept:  b \r\nX-Id: 1\r\naccept: c\r\n\r\nbody: no",
        );

        let expected = [
            ("Host", "x"),
            ("Accept", "b"),
            ("X-Id", "1"),
            ("accept", "c"),
        ];
        let found: Vec<_> = pairs(&asked.fields)
            .into_iter()
            .map(|pair| (pair.0, pair.1))
            .collect();
        assert_eq!(found, expected);
        assert_eq!(asked.path, "/a");
    }

    #[test]
    fn values_of_a_query_and_secrets_of_fields_are_replaced() {
        let asked = of(b"GET /a?page=2&flag&empty=&token=hush HTTP/1.1\r\ncookie: a=hush\r\nauthorization: hush\r\n\r\n");

        let query = [
            ("page", "***", true),
            ("flag", "", false),
            ("empty", "", false),
            ("token", "***", true),
        ];
        assert_eq!(pairs(&asked.query), query);
        let fields = [("cookie", "a=***", true), ("authorization", "***", true)];
        assert_eq!(pairs(&asked.fields), fields);
    }

    #[test]
    fn a_name_without_value_that_may_be_a_token_is_replaced() {
        let asked =
            of(b"GET /?eyJhbGciOi.e30.hush&0123456789abcdef0123456789abcdefh HTTP/1.1\r\n\r\n");

        assert_eq!(pairs(&asked.query), [("***", "", true); 2]);
    }

    #[test]
    fn every_form_of_target_has_its_path() {
        for (target, path) in [
            ("http://a:hush@b/c?d", "/c"),
            ("http://b", "/"),
            ("http://b?d", ""),
            ("*", "*"),
            ("/to/http://b/c", "/to/http://b/c"),
        ] {
            let asked = of(format!("GET {target} HTTP/1.1\r\n\r\n").as_bytes());

            assert_eq!(asked.path, path, "{target}");
        }
    }

    #[test]
    fn what_a_terminal_could_obey_is_replaced() {
        let asked = of("GET / HTTP/1.1\r\na: b\u{9b}31m\u{202e}\u{e9}\r\n\r\n".as_bytes());

        assert_eq!(asked.fields[0].value, "b?31m?\u{e9}");
        assert!(asked.fields[0].cut);
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let long = "v".repeat(2000);
        let field = |name: &str| format!("{name}: {long}\r\n");
        let all: String = ["a", "b", "c", "d", "e", "f"].map(field).concat();

        let asked = of(format!("GET / HTTP/1.1\r\n{all}\r\n").as_bytes());

        assert_eq!(asked.fields.len() + asked.left_out, 6);
        assert_eq!(asked.fields[0].value.len(), 1024);
        assert!(asked.fields[0].cut && asked.left_out > 0);
    }

    proptest! {
        #[test]
        fn a_head_of_any_bytes_stays_within_its_bound(bytes: Vec<u8>, times in 1..200usize) {
            let asked = of(&bytes.repeat(times));

            let pairs = asked.fields.iter().chain(&asked.query);
            let size: usize = pairs.map(|pair| pair.name.len() + pair.value.len()).sum();
            // A replaced byte is one byte; only the last value can pass the bound, by what its name takes.
            prop_assert!(size <= FIELD_BYTES + QUERY_BYTES + 2 * LONGEST_NAME, "{}", size);
            prop_assert!(asked.path.len() <= PATH_BYTES);
        }
    }
}
