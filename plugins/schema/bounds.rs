//! Bounds that plugins with schemas share: how much of a body is looked at, and how much is said of it.
//! It must not know messages.
//! The field docs are with each plugin's settings.

use crate::contract::{Problem, Size};

/// What is set, by the paths of sizes.
pub(crate) struct Bounds<'a> {
    pub(crate) sizes: &'a [(&'a str, Size)],
    pub(crate) depth: usize,
    pub(crate) errors: usize,
    pub(crate) status: u16,
}

impl Bounds<'_> {
    /// What is wrong with it.
    pub(crate) fn judge(&self, problems: &mut Vec<Problem>) {
        for (path, size) in self.sizes {
            if !(1..=MOST).contains(&size.0) {
                let fact = format!("must be from 1B to 64MiB, found {size}");
                problems.push(Problem::at(*path, fact).help("leave it out for 1MiB"));
            }
        }
        if !(1..=127).contains(&self.depth) {
            let fact = format!("must be from 1 to 127, found {}", self.depth);
            problems.push(Problem::at("depth", fact).help("leave it out for 64"));
        }
        if self.errors > 100 {
            let fact = format!("must be at most 100, found {}", self.errors);
            problems.push(Problem::at("errors", fact).help("leave it out for 10"));
        }
        if !matches!(self.status, 400 | 422) {
            let fact = format!("must be 400 or 422, found {}", self.status);
            problems.push(Problem::at("status", fact).help("leave it out for 422"));
        }
    }
}

pub(crate) fn yes() -> bool {
    true
}

pub(crate) fn one_mib() -> Size {
    Size(1 << 20)
}

pub(crate) fn sixty_four() -> usize {
    64
}

pub(crate) fn ten() -> usize {
    10
}

pub(crate) fn unprocessable() -> u16 {
    422
}

const MOST: u64 = 64 << 20;
