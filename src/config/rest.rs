//! A configuration that waits to be compared with the next one: without what its services became, which can be made again.
//! It must not judge, nor know what runs.
//! `control::reload` keeps the one in force so, and the one that may come back.

use super::schema::Config;
use super::services;

/// A configuration at rest. A thousand services are as many pools and routes, three times what was written.
#[derive(Debug, Clone, Default)]
pub struct AtRest(Config);

impl AtRest {
    /// Puts it to rest.
    pub fn of(mut config: Config) -> AtRest {
        services::take_back(&mut config);
        AtRest(config)
    }

    /// What was written, with defaults.
    pub fn written(&self) -> &Config {
        &self.0
    }

    /// All of it.
    pub fn whole(&self) -> Config {
        let mut config = self.0.clone();
        services::generate(&mut config);
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_text;

    #[test]
    fn what_was_made_of_services_is_made_again() {
        let text = "
listeners: [{name: out, role: mesh-outbound, bind: '127.0.0.1:0'}]
pools: [{name: written, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}]
routes: [{name: written, rules: [{pool: written}]}]
services: [{name: shop, ports: [{port: 80}, {port: 81}], endpoints: [10.0.0.3, 10.0.0.4]}]
";
        let loaded = load_text("gw.yaml", text, windrose_plugins::BUILTIN);
        let config = loaded.map_err(|report| report.to_string()).unwrap().config;
        let shown = |config: &Config| format!("{config:?}");
        let before = shown(&config);

        let rest = AtRest::of(config);

        let written = rest.written();
        assert_eq!((written.pools.len(), written.routes.len()), (1, 1));
        assert_eq!(shown(&rest.whole()), before);
    }
}
