//! Consumers for tests: who there is while a plugin is built, and who calls.
//! It must not know what plugins do with them.
//! Part of the kit.

use std::sync::Arc;

use super::{Exchange, Kit};
use crate::contract::{
    key_hash, CertificateField, CertificateMark, Consumer, Credential, Principal, SigningKey,
};

impl Kit {
    /// Adds a consumer and what proves it. To be called before anything is built.
    ///
    /// # Panics
    /// When an instance that was built still has the consumers there were.
    pub fn with_consumer(
        mut self,
        consumer: Consumer,
        credentials: impl IntoIterator<Item = Credential>,
    ) -> Kit {
        let consumers = Arc::get_mut(&mut self.consumers);
        let consumers = consumers.expect("consumers are added before anything is built");
        consumers.add(consumer, credentials);
        self
    }

    /// What the examples of built-in plugins name: the consumers `ann` of the group `staff`, who has a key and a certificate, and `mallory`, and the
    /// store `shared`; files are those of this crate's tests.
    pub fn for_examples() -> Kit {
        let consumer = |name: &str, group: Option<&str>| Consumer {
            name: name.to_owned(),
            groups: group.map(str::to_owned).into_iter().collect(),
            ..Consumer::default()
        };
        let signing = SigningKey::secret(b"an example, known to both sides.");
        let signing = signing.map(|key| Credential::Signing {
            id: "ann".to_owned(),
            key,
        });
        let key = Credential::Key(key_hash(b"an example"));
        let mark = CertificateMark::new(CertificateField::Dns, "ann.example", None);
        let mark = mark.map(Credential::Certificate);
        let credentials = [key].into_iter().chain(signing.ok()).chain(mark.ok());
        Kit::new()
            .with_consumer(consumer("ann", Some("staff")), credentials)
            .with_consumer(consumer("mallory", None), [])
            .with_store("shared")
            .in_folder("vectors/geo")
    }
}

impl Exchange {
    /// The caller was proven to be this consumer.
    pub fn as_consumer(mut self, name: &str) -> Exchange {
        self.seen.principal = Some(Principal::consumer(name));
        self
    }

    /// The caller was proven to be this one.
    pub fn proven(mut self, principal: Principal) -> Exchange {
        self.seen.principal = Some(principal);
        self
    }
}
