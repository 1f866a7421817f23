//! Stores that plugins share with other proxies: settings become cells, those of before where nothing changed.
//! It must not connect; `control::stores` does once the snapshot is in force.
//! Called by `compile` before plugins are built.

use zeroize::Zeroizing;

use super::Means;
use crate::config::report::Report;
use crate::config::schema::{Config, Redis};
use crate::snapshot::store::{Address, Settings, Stores};
use crate::snapshot::tls::authorities;

/// All stores of a configuration.
pub(super) fn compile(config: &Config, means: &Means<'_>, report: &mut Report) -> Stores {
    let mut stores = Stores::default();
    let before = means.previous.map(|previous| &previous.stores);
    for (at, store) in config.redis.iter().enumerate() {
        let path = format!("redis[{at}]");
        let ca = store.ca.as_ref().map(|file| {
            let read = means.read(file)?;
            let judged = authorities(&read).map_err(|fact| format!("\"{file}\": {fact}"));
            judged.map(|_| read)
        });
        let ca = match ca.transpose() {
            Ok(ca) => ca,
            Err(fact) => {
                report.error(format!("{path}.ca"), fact, "");
                continue;
            }
        };
        // A URL that cannot be read was reported by the rules.
        if let Ok(address) = Address::parse(&store.url) {
            let settings = settings(store, address, ca);
            let metrics = || means.metrics.store(&store.name);
            stores.add(&store.name, settings, before, metrics);
        }
    }
    stores
}

fn settings(store: &Redis, address: Address, ca: Option<Vec<u8>>) -> Settings {
    Settings {
        address,
        username: store.username.clone(),
        password: store.password.clone().map(Zeroizing::new),
        ca,
        connect_timeout: store.connect_timeout.0,
        command_timeout: store.command_timeout.0,
        max_in_flight: store.max_in_flight,
        prefix: store.prefix.clone(),
    }
}
