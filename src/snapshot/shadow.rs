//! The last answers a plugin in the shadow would have given, as examples to look at before it is enforced.
//! It must not hold anybody up: an example that would have to wait is left out.
//! Written by `chain`, shown by the admin address.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use windrose_plugins::contract::Cause;

/// The last few examples.
#[derive(Default)]
pub struct Examples(Mutex<VecDeque<Example>>);

/// A request that would not have gone on.
#[derive(Debug, Clone)]
pub struct Example {
    /// When.
    pub at: SystemTime,
    /// Its id; empty where only a connection or a piece of a body was seen.
    pub request_id: Box<str>,
    /// What it would have been answered with.
    pub cause: &'static Cause,
}

impl Examples {
    /// Takes note of an example, if nobody else is at it right now.
    pub fn add(&self, request_id: &str, cause: &'static Cause) {
        let Ok(mut examples) = self.0.try_lock() else {
            return;
        };
        examples.truncate(MOST - 1);
        examples.push_front(Example {
            at: SystemTime::now(),
            request_id: request_id.into(),
            cause,
        });
    }

    /// What was noted, newest first.
    pub fn all(&self) -> Vec<Example> {
        let examples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        examples.iter().cloned().collect()
    }
}

const MOST: usize = 8;

#[cfg(test)]
mod tests {
    use windrose_plugins::contract::causes;

    use super::*;

    #[test]
    fn only_the_last_few_are_kept() {
        let examples = Examples::default();

        for number in 0..100 {
            examples.add(&number.to_string(), &causes::NO_ROUTE);
        }

        let ids: Vec<_> = examples
            .all()
            .into_iter()
            .map(|one| one.request_id)
            .collect();
        assert_eq!((ids.len(), &*ids[0], &*ids[7]), (8, "99", "92"));
    }

    #[test]
    fn nobody_waits_for_an_example() {
        let examples = Examples::default();
        let held = examples.0.lock().unwrap();

        examples.add("late", &causes::NO_ROUTE);

        drop(held);
        assert!(examples.all().is_empty());
    }
}
