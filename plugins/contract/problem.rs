//! A problem with configuration, found while building.
//! It knows a path inside the plugin's own `config`, never a file or a line: the proxy adds those.
//! Returned by `Plugin::build` and by the configuration compiler alike.

use std::fmt;

/// One fact the operator must change before the configuration can run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path below the plugin's `config`, such as `rate` or `users[2].name`; empty for the whole.
    pub path: String,
    /// What is wrong, quoting the value. Lower case, no full stop.
    pub fact: String,
    /// What to do about it; empty when the fact says it.
    pub remedy: String,
}

impl Problem {
    /// A problem at `path` with no remedy yet.
    pub fn at(path: impl Into<String>, fact: impl Into<String>) -> Problem {
        Problem {
            path: path.into(),
            fact: fact.into(),
            remedy: String::new(),
        }
    }

    /// Adds what to do about it.
    pub fn help(mut self, remedy: impl Into<String>) -> Problem {
        self.remedy = remedy.into();
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.fact),
            path => write!(f, "{path}: {}", self.fact),
        }
    }
}
