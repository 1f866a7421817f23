//! What stands in for an item that cannot be decoded: its name, so that references to it are good, and its position.
//! It must not know what is wrong with it. Marks say that it is broken; where there are none, `Gaps` covers it.
//! Called by `decode`.

use serde::de::DeserializeOwned;

use crate::config::schema::{
    ConfigTest, Consumer, Expect, Hold, Listener, PluginInstance, Policy, Pool, Redis, Route, Rule,
    Service, TestRequest,
};

/// An item of a list.
pub(super) trait Item: DeserializeOwned {
    /// What stands in for one.
    fn blank(name: String) -> Self;
}

impl Item for Pool {
    fn blank(name: String) -> Pool {
        Pool {
            name,
            is_quarantined: true,
            ..Pool::default()
        }
    }
}

impl Item for Service {
    fn blank(name: String) -> Service {
        Service {
            name,
            is_quarantined: true,
            ..Service::default()
        }
    }
}

impl Item for Consumer {
    fn blank(name: String) -> Consumer {
        Consumer {
            name,
            ..Consumer::default()
        }
    }
}

impl Item for Redis {
    fn blank(name: String) -> Redis {
        Redis {
            name,
            ..Redis::default()
        }
    }
}

impl Item for Policy {
    fn blank(name: String) -> Policy {
        Policy {
            name,
            ..Policy::default()
        }
    }
}

impl Item for ConfigTest {
    fn blank(name: String) -> ConfigTest {
        ConfigTest {
            name: Some(name),
            request: TestRequest::default(),
            expect: Expect::default(),
        }
    }
}

impl Item for Listener {
    fn blank(name: String) -> Listener {
        Listener {
            name,
            hold: Hold::Out,
            ..Listener::default()
        }
    }
}

impl Item for Route {
    fn blank(name: String) -> Route {
        Route {
            name,
            is_quarantined: true,
            is_gap: true,
            ..Route::default()
        }
    }
}

impl Item for Rule {
    fn blank(_: String) -> Rule {
        Rule {
            is_gap: true,
            ..Rule::default()
        }
    }
}

impl Item for PluginInstance {
    fn blank(_: String) -> PluginInstance {
        PluginInstance {
            kind: String::new(),
            mode: Default::default(),
            on_error: None,
            config: serde_yaml::Value::Null,
            is_broken: true,
        }
    }
}
