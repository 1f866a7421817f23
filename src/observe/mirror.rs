//! Examples of responses that differ between a request and its copy, fit to be shown.
//! It must not hold anybody up, nor keep secrets: values of bodies are not kept, those of fields as the recorder keeps them.
//! Written by the proxy's mirrors, shown by the admin address.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::recorder::harmless;
use super::redact;

/// The last few examples.
#[derive(Default)]
pub struct Differences(Mutex<VecDeque<Difference>>);

/// A request whose copy was answered differently.
#[derive(Debug, Clone)]
pub struct Difference {
    /// When.
    pub at: SystemTime,
    /// The request's id.
    pub request_id: String,
    /// The method.
    pub method: String,
    /// The path as sent on, without its query: queries hold secrets.
    pub path: String,
    /// The endpoint of the copy.
    pub endpoint: String,
    /// What differs.
    pub what: Vec<String>,
    /// Time to the response's header.
    pub took: Duration,
    /// The same of the copy.
    pub mirror_took: Duration,
}

impl Differences {
    /// Takes note of an example, if nobody else is at it right now.
    pub fn add(&self, mut example: Difference) {
        let Ok(mut examples) = self.0.try_lock() else {
            return;
        };
        example.path = harmless(example.path.as_bytes(), LONGEST_PATH).0;
        example.what.truncate(MOST_DETAILS);
        examples.truncate(MOST - 1);
        examples.push_front(example);
    }

    /// What was noted, newest first.
    pub fn all(&self) -> Vec<Difference> {
        let examples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        examples.iter().cloned().collect()
    }
}

/// How the values of a field differ, secrets left out.
pub fn field(name: &str, value: Option<&[u8]>, mirror: Option<&[u8]>) -> String {
    let shown = |value: Option<&[u8]>| match value {
        None => "none".to_owned(),
        Some(value) => {
            let redacted = redact::field(name, value);
            let (text, _) = harmless(redacted.as_deref().unwrap_or(value), LONGEST_VALUE);
            format!("\"{text}\"")
        }
    };
    format!("header {name}: {}, mirror {}", shown(value), shown(mirror))
}

/// A place in a body, as a JSON pointer that no terminal obeys.
pub fn pointer(segments: &[String]) -> String {
    let escaped = |segment: &String| segment.replace('~', "~0").replace('/', "~1");
    let text: String = segments
        .iter()
        .map(|segment| format!("/{}", escaped(segment)))
        .collect();
    harmless(text.as_bytes(), LONGEST_PATH).0
}

const MOST: usize = 16;
const MOST_DETAILS: usize = 8;
const LONGEST_PATH: usize = 256;
const LONGEST_VALUE: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_fields_are_left_out_and_nothing_is_obeyed() {
        let told = field("set-cookie", Some(b"sid=hush"), None);
        assert_eq!(told, "header set-cookie: \"***\", mirror none");

        let told = field("x-a", Some(b"1"), Some(b"\x1b[2J"));
        assert!(!told.contains('\x1b'), "{told}");

        let place = pointer(&["a/b".to_owned(), "m~n".to_owned()]);
        assert_eq!(place, "/a~1b/m~0n");
    }

    #[test]
    fn only_the_last_few_are_kept() {
        let examples = Differences::default();

        for number in 0..100 {
            examples.add(Difference {
                at: SystemTime::UNIX_EPOCH,
                request_id: number.to_string(),
                method: "GET".into(),
                path: "/".into(),
                endpoint: String::new(),
                what: vec![String::new(); 100],
                took: Duration::ZERO,
                mirror_took: Duration::ZERO,
            });
        }

        let all = examples.all();
        assert_eq!((all.len(), &*all[0].request_id), (16, "99"));
        assert_eq!(all[0].what.len(), 8);
    }
}
