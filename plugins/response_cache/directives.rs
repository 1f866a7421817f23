//! Directives of `Cache-Control`, as RFC 9111 section 5.2 writes them.
//! It must not know what any directive means.
//! Read for every request that is looked for, and for every response that may be kept.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

/// The directives of a message in the order they came, names in lower case.
#[derive(Debug, Default)]
pub(super) struct Directives(Vec<(String, Option<String>)>);

impl Directives {
    /// Those in every field of this name. What is no directive is left out, except that what it forbids is heard also from those who
    /// write semicolons for commas, or forget to end a quote: `private; max-age=60` is meant for one.
    pub(super) fn of(fields: &HeaderMap, name: &HeaderName) -> Directives {
        let mut all = Vec::new();
        for line in fields.get_all(name).iter().map(HeaderValue::as_bytes) {
            let mut rest = line;
            while !rest.is_empty() {
                let (member, after) = member(rest);
                rest = after;
                let read = directive(member);
                if read.is_none() || is_odd(member) {
                    all.extend(meant(member));
                }
                all.extend(read);
            }
        }
        Directives(all)
    }

    /// Whether it is there, with or without a value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(one, _)| one == name)
    }

    /// Whether it is there for the whole message: without a value that names fields.
    pub(super) fn has_whole(&self, name: &str) -> bool {
        let is = |(one, value): &(String, Option<String>)| {
            one == name && value.as_deref().is_none_or(str::is_empty)
        };
        self.0.iter().any(is)
    }

    /// The fields it names.
    pub(super) fn names<'a>(&'a self, name: &'a str) -> impl Iterator<Item = HeaderName> + 'a {
        let values = self.0.iter().filter(move |(one, _)| one == name);
        let values = values.filter_map(|(_, value)| value.as_deref());
        values
            .flat_map(|value| value.split(','))
            .filter_map(|field| field.trim().parse().ok())
    }

    /// Its time: the first one's, where it is repeated. One that is none counts as no time at all, so that the message is stale
    /// (RFC 9111 section 4.2.1).
    pub(super) fn time(&self, name: &str) -> Option<Duration> {
        let (_, value) = self.0.iter().find(|(one, _)| one == name)?;
        Some(value.as_deref().and_then(seconds).unwrap_or(Duration::ZERO))
    }

    /// Whether there is any.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Whole seconds (RFC 9111 section 1.2.2): more than can be counted is as much as can be.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let most = || text.parse::<u64>().map_or(MOST, |value| value.min(MOST));
    is_number.then(|| Duration::from_secs(most()))
}

/// The first member of a list, which a comma ends that stands in no quotes, and what follows it.
fn member(list: &[u8]) -> (&[u8], &[u8]) {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in list.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return (&list[..at], &list[at + 1..]),
            _ => {}
        }
    }
    (list, &[])
}

/// Whether a member looks like several that were written wrong.
fn is_odd(member: &[u8]) -> bool {
    let quotes = member.iter().filter(|byte| **byte == b'"').count();
    quotes % 2 == 1 || (quotes == 0 && member.contains(&b';'))
}

/// What such a member forbids.
fn meant(member: &[u8]) -> impl Iterator<Item = (String, Option<String>)> + '_ {
    let words = member.split(|byte| b";, \t\"".contains(byte));
    words.filter_map(|word| {
        let forbidding = ["no-store", "no-cache", "private"];
        let word = forbidding
            .iter()
            .find(|it| word.eq_ignore_ascii_case(it.as_bytes()))?;
        Some(((*word).to_owned(), None))
    })
}

fn directive(member: &[u8]) -> Option<(String, Option<String>)> {
    let member = std::str::from_utf8(member).ok()?.trim();
    let (name, value) = match member.split_once('=') {
        Some((name, value)) => (name, Some(unquoted(value))),
        None => (member, None),
    };
    let is_token = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    is_token.then(|| (name.to_ascii_lowercase(), value))
}

fn unquoted(value: &str) -> String {
    let inner = value.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    match inner {
        Some(inner) => inner.replace('\\', ""),
        None => value.to_owned(),
    }
}

/// What stands for infinity: 2^31 seconds.
const MOST: u64 = 1 << 31;

#[cfg(test)]
mod tests {
    use http::header::CACHE_CONTROL;
    use proptest::prelude::*;

    use super::*;

    fn of(lines: &[&str]) -> Directives {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(CACHE_CONTROL, line.parse().expect("a value"));
        }
        Directives::of(&fields, &CACHE_CONTROL)
    }

    #[test]
    fn directives_are_read_from_every_line_in_any_case() {
        let all = of(&[
            "No-Store, MAX-AGE=5",
            "private=\"X-A, x-b\",,ext=\"a,b\\\"c\"",
        ]);

        assert!(all.has_whole("no-store") && !all.has_whole("private"));
        assert_eq!(all.time("max-age"), Some(Duration::from_secs(5)));
        let names: Vec<HeaderName> = all.names("private").collect();
        assert_eq!(names, ["x-a", "x-b"]);
        assert_eq!(all.0.len(), 4);
    }

    #[test]
    fn what_is_written_wrong_forbids_what_it_means_to_forbid() {
        for (line, name) in [
            ("private; max-age=60", "private"),
            ("max-age=60;Private", "private"),
            ("public no-store", "no-store"),
            ("ext=\"a, no-cache", "no-cache"),
        ] {
            assert!(of(&[line]).has_whole(name), "{line}");
        }
        let all = of(&["ext=\"a; private\", no-storey; max-age=3"]);
        assert!(!all.has("private") && !all.has("no-store"));
    }

    #[test]
    fn the_first_time_counts_and_one_that_is_none_is_no_time() {
        let time = |line: &str| of(&[line]).time("max-age").map(|time| time.as_secs());

        assert_eq!(time("max-age=1, max-age=2"), Some(1));
        assert_eq!(time("max-age=\"7\""), Some(7));
        assert_eq!(time("max-age=-1"), Some(0));
        assert_eq!(time("max-age=1.5"), Some(0));
        assert_eq!(time("max-age"), Some(0));
        assert_eq!(time("max-age=99999999999999999999999"), Some(1 << 31));
        assert_eq!(time("a=\"max-age=5\""), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(line in proptest::collection::vec(0x20_u8..0xff, 0..200)) {
            let mut fields = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(&line) {
                fields.insert(CACHE_CONTROL, value);
            }

            let all = Directives::of(&fields, &CACHE_CONTROL);

            prop_assert!(all.0.iter().all(|(name, _)| !name.is_empty()));
        }
    }
}
