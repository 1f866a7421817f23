//! Examples of what policies refused, or would have: who asked for what, fit to be shown.
//! It must not hold anybody up, nor keep secrets: queries and fields are left out.
//! Written where a policy decides, shown by the admin address.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::recorder::harmless;

/// The last few examples.
#[derive(Default)]
pub struct Examples(Mutex<VecDeque<Example>>);

/// A request or connection that a policy decided about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// When.
    pub at: SystemTime,
    /// What was decided, as `deny` or `would_deny`.
    pub decision: &'static str,
    /// Who called; empty where nothing is proven.
    pub principal: String,
    /// Where from.
    pub client: String,
    /// The listener.
    pub listener: String,
    /// The route.
    pub route: String,
    /// The method; empty for connections passed through as bytes.
    pub method: String,
    /// The host.
    pub host: String,
    /// The path, without its query.
    pub path: String,
}

impl Examples {
    /// Takes note of an example, if nobody else is at it right now.
    pub fn add(&self, mut example: Example) {
        let Ok(mut examples) = self.0.try_lock() else {
            return;
        };
        for text in [
            &mut example.principal,
            &mut example.host,
            &mut example.path,
            &mut example.method,
        ] {
            *text = harmless(text.as_bytes(), LONGEST_TEXT).0;
        }
        examples.truncate(MOST - 1);
        examples.push_front(example);
    }

    /// What was noted, newest first.
    pub fn all(&self) -> Vec<Example> {
        let examples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        examples.iter().cloned().collect()
    }
}

const MOST: usize = 8;
const LONGEST_TEXT: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_few_are_kept_and_nothing_is_obeyed() {
        let examples = Examples::default();

        for number in 0..100 {
            examples.add(Example {
                at: SystemTime::UNIX_EPOCH,
                decision: "deny",
                principal: String::new(),
                client: String::new(),
                listener: String::new(),
                route: String::new(),
                method: "GET".into(),
                host: String::new(),
                path: format!("/\x1b[2J{number}"),
            });
        }

        let all = examples.all();
        assert_eq!(all.len(), 8);
        assert!(all[0].path.ends_with("99") && !all[0].path.contains('\x1b'));
    }
}
