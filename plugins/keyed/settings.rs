//! Settings that plugins share which count: their defaults, and what is wrong with them.
//! It must not know how is counted.
//! Asked while a plugin is built.

use crate::contract::{Problem, Texts};

use super::is_name;

/// What is the same in all of them.
pub(crate) struct Common<'a> {
    pub(crate) max_keys: usize,
    pub(crate) name: Option<&'a str>,
    pub(crate) has_store: bool,
    /// Settings that are for a store alone, and whether they are given.
    pub(crate) for_store: &'a [(&'static str, bool)],
}

impl Common<'_> {
    pub(crate) fn judge(&self, problems: &mut Vec<Problem>) {
        if self.max_keys == 0 {
            problems.push(
                Problem::at("max_keys", "must be at least 1, found 0")
                    .help("leave it out for 100000"),
            );
        }
        if let Some(name) = self.name.filter(|name| !is_name(name)) {
            problems.push(
                Problem::at("name", format!("{name:?} cannot be a limit's name"))
                    .help("write up to 64 letters, digits and \".\", \"_\", \"-\""),
            );
        }
        let given = self.for_store.iter().filter(|(_, given)| *given);
        for (path, _) in given.filter(|_| !self.has_store) {
            problems.push(
                Problem::at(*path, "is not used: no `store` is named")
                    .help("name one of `redis` in `store`, or remove this line"),
            );
        }
    }
}

pub(crate) fn client_ip() -> Texts {
    Texts(vec!["client_ip".to_owned()])
}

pub(crate) fn v4_bits() -> u8 {
    32
}

pub(crate) fn v6_bits() -> u8 {
    64
}

pub(crate) fn many() -> usize {
    100_000
}
