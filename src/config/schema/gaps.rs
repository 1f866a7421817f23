//! What of a document could not be decoded: nobody may conclude anything from its absence.
//! It must not know what is wrong there; the report says that.
//! Filled by `config::load`; rules, lints and `compile` ask it before they complain of something that is not there.

use std::collections::BTreeSet;

use super::Config;
use crate::config::report::is_within;

/// What is missing or wrong. Empty in a configuration without errors.
#[derive(Debug, Clone, Default)]
pub struct Gaps {
    paths: BTreeSet<String>,
    /// Items of which at most the name is left.
    blanks: BTreeSet<String>,
    /// Lists that may have items by names which cannot be read.
    nameless: BTreeSet<&'static str>,
}

impl Gaps {
    /// Whether everything was decoded, and nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Takes note of something that is missing or wrong.
    pub fn add(&mut self, path: &str) {
        self.paths.insert(path.to_owned());
    }

    /// The same of an item in whose place there is nothing but its name.
    pub fn add_blank(&mut self, path: &str) {
        self.add(path);
        self.blanks.insert(path.to_owned());
    }

    /// Takes note that a list may have items of any name.
    pub fn hide(&mut self, list: &'static str) {
        self.nameless.insert(list);
    }

    /// Whether there is something missing or wrong at a path or below.
    pub fn within(&self, path: &str) -> bool {
        self.paths.iter().any(|gap| is_within(gap, path))
    }

    /// Whether a path leads into an item in whose place there is nothing: what is found there is not in the text.
    pub fn covers(&self, path: &str) -> bool {
        self.blanks.iter().any(|blank| is_within(path, blank))
    }

    /// Whether a list may have an item of any name.
    pub fn hides(&self, list: &str) -> bool {
        self.nameless.contains(list)
    }
}

impl Config {
    /// Whether a pool that is not found may stand in what is missing.
    pub fn may_have_pool(&self, name: &str) -> bool {
        self.gaps.hides("pools") || self.may_be_of_service(name)
    }

    /// The same of a route.
    pub fn may_have_route(&self, name: &str) -> bool {
        self.gaps.hides("routes") || self.may_be_of_service(name)
    }

    /// Services make pools and routes of their own names, and of their ports.
    fn may_be_of_service(&self, name: &str) -> bool {
        let is_made = |owner: &str| is_within(name, owner);
        let mut blanks = self.services.iter().filter(|one| one.ports.is_empty());
        self.gaps.hides("services")
            || self.gaps.within("services_from")
            || blanks.any(|one| one.is_quarantined && is_made(&one.name))
    }
}
