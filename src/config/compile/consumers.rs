//! Consumers as plugins get them.
//! It must not judge them; `config::rules` has done that.
//! Called by `compile` before plugins are built.

use std::sync::Arc;

use windrose_plugins::contract::{Consumer, Consumers, Credential};

use crate::config::rules::{key_of, mark_of, signing_key_of};
use crate::config::schema::Config;

/// All consumers of a configuration.
pub(super) fn compile(config: &Config) -> Arc<Consumers> {
    let mut all = Consumers::default();
    if config.gaps.within("consumers") {
        all.are_incomplete();
    }
    for one in &config.consumers {
        let keys = one.keys.iter().filter_map(|key| key_of(key));
        let password = one.password.clone().map(Credential::Password);
        let subjects = one.subjects.iter().map(|one| Credential::Subject {
            issuer: one.issuer.clone(),
            subject: one.subject.clone(),
        });
        let consumer = Consumer {
            name: one.name.clone(),
            groups: one.groups.iter().cloned().collect(),
            metadata: one.metadata.clone(),
        };
        let signing = one.signing_keys.iter().filter_map(|one| {
            let (id, key) = (one.id.clone(), signing_key_of(one).ok()?);
            Some(Credential::Signing { id, key })
        });
        let keys = keys.map(Credential::Key);
        let marks = one.certificates.iter().filter_map(|one| mark_of(one).ok());
        let others = subjects.chain(signing);
        let others = others.chain(marks.map(Credential::Certificate));
        all.add(consumer, keys.chain(password).chain(others));
    }
    Arc::new(all)
}
