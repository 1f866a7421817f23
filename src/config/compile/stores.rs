//! Stores that plugins share with other proxies: settings become cells, those of before where nothing changed.
//! It must not connect; `control::stores` does once the snapshot is in force.
//! Called by `compile` before plugins are built.

use windrose_plugins::contract::{Store, Stores as NamedStores};
use zeroize::Zeroizing;

use super::Means;
use crate::config::report::Report;
use crate::config::schema::{Config, Redis};
use crate::snapshot::store::{Address, Settings, Stores};
use crate::snapshot::tls::authorities;

/// The stores as plugins find them: where a store's name cannot be read, every name may be its own.
pub(super) struct Known<'a> {
    stores: &'a Stores,
    stand_in: Option<Stores>,
}

impl<'a> Known<'a> {
    pub(super) fn new(stores: &'a Stores, config: &Config, means: &Means<'_>) -> Known<'a> {
        let stand_in = config.gaps.hides("redis").then(|| {
            let mut one = Stores::default();
            stand_in(&mut one, &Redis::default(), means);
            one
        });
        Known { stores, stand_in }
    }
}

impl NamedStores for Known<'_> {
    fn store(&self, name: &str) -> Option<Store> {
        let found = self.stores.store(name);
        found.or_else(|| self.stand_in.as_ref()?.store(""))
    }

    fn names(&self) -> Vec<String> {
        self.stores.names()
    }
}

/// All stores of a configuration. One with an error has something that stands in for it, so that plugins find it.
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
                stand_in(&mut stores, store, means);
                continue;
            }
        };
        // A URL that cannot be read was reported by the rules.
        let Ok(address) = Address::parse(&store.url) else {
            stand_in(&mut stores, store, means);
            continue;
        };
        let settings = settings(store, address, ca);
        let metrics = || means.metrics.store(&store.name);
        stores.add(&store.name, settings, before, metrics);
    }
    stores
}

fn stand_in(stores: &mut Stores, store: &Redis, means: &Means<'_>) {
    if let Ok(address) = Address::parse("redis://127.0.0.1") {
        let settings = settings(store, address, None);
        let metrics = || means.metrics.store(&store.name);
        stores.add(&store.name, settings, None, metrics);
    }
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
