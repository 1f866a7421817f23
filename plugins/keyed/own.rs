//! Limits that single consumers have for themselves, as an entry of their metadata.
//! It must not know what is limited.
//! Used by plugins that count, while they are built and for each request.

use std::collections::BTreeMap;

use crate::contract::{Build, PrincipalKind, Problem, Request};

/// Limits by consumer.
pub(crate) struct Own(BTreeMap<String, u64>);

impl Own {
    /// What the consumers have under this entry; `path` is where the setting stands that names it.
    pub(crate) fn of(
        entry: Option<&str>,
        path: &str,
        most: u64,
        build: &Build<'_>,
        problems: &mut Vec<Problem>,
    ) -> Own {
        let mut own = BTreeMap::new();
        let Some(entry) = entry else {
            return Own(own);
        };
        for name in build.consumers.names() {
            let consumer = build.consumers.named(name);
            let Some(text) = consumer.and_then(|consumer| consumer.metadata.get(entry)) else {
                continue;
            };
            match text.parse().ok().filter(|limit| (1..=most).contains(limit)) {
                Some(limit) => drop(own.insert(name.to_owned(), limit)),
                None => problems.push(
                    Problem::at(
                        path,
                        format!("the consumer \"{name}\" has {entry}: {text:?}, which is no limit"),
                    )
                    .help(format!("write a number from 1 to {most} there")),
                ),
            }
        }
        Own(own)
    }

    /// The limit of whoever sends the request, if he has one of his own.
    pub(crate) fn limit(&self, request: &Request<'_>) -> Option<u64> {
        let principal = request.principal.as_ref();
        let consumer = principal.filter(|one| one.kind == PrincipalKind::Consumer);
        consumer.and_then(|consumer| self.0.get(&consumer.name).copied())
    }
}
