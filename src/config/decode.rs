//! Turns the checked tree into the types of `schema`, item by item, so that one bad value does not hide the next.
//! It must not judge: shapes were checked before, meanings are checked after.
//! Called by `config::load`.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use serde_yaml::Mapping;

use super::check::quoted;
use super::report::Report;
use super::schema::{Config, PluginInstance, PluginUse, Route};
use super::source::Document;

/// Decodes what has no complaint yet; the result is complete only if the report has no errors.
pub(super) fn decode(document: &Document, report: &mut Report) -> Config {
    let root = match document.root().json() {
        Value::Object(root) => root,
        _ => Map::new(),
    };
    let refused = report
        .findings()
        .iter()
        .map(|finding| finding.path.clone())
        .collect();
    let mut decoder = Decoder {
        document,
        root,
        refused,
        report,
    };
    let mut config = Config {
        include: decoder.whole("include"),
        on_invalid: decoder.whole("on_invalid"),
        server: decoder.whole("server"),
        listeners: decoder.items("listeners"),
        routes: decoder.routes(),
        pools: decoder.items("pools"),
        services: decoder.items("services"),
        services_from: decoder.whole("services_from"),
        consumers: decoder.items("consumers"),
        redis: decoder.items("redis"),
        plugins: Default::default(),
        identity: decoder.whole("identity"),
        policies: decoder.items("policies"),
        authorization: decoder.whole("authorization"),
        ssrf_guard: decoder.whole("ssrf_guard"),
        overload: decoder.whole("overload"),
        limits: decoder.whole("limits"),
        observe: decoder.whole("observe"),
        admin: decoder.whole("admin"),
        tests: decoder.items("tests"),
    };
    if let Some(Value::Object(plugins)) = decoder.root.remove("plugins") {
        for (name, plugin) in plugins {
            let path = format!("plugins.{name}");
            if let Some(plugin) = decoder.one(plugin, &path) {
                config.plugins.insert(name, plugin);
            }
        }
    }
    fill(&mut config);
    config
}

/// Decodes one section.
pub(super) fn section<T: DeserializeOwned + Default>(
    document: &Document,
    key: &str,
    report: &mut Report,
) -> T {
    let Value::Object(root) = document.root().json() else {
        return T::default();
    };
    let mut decoder = Decoder {
        document,
        root,
        refused: Vec::new(),
        report,
    };
    decoder.whole(key)
}

struct Decoder<'a> {
    document: &'a Document,
    root: Map<String, Value>,
    /// Paths with complaints from the check.
    refused: Vec<String>,
    report: &'a mut Report,
}

impl Decoder<'_> {
    fn one<T: DeserializeOwned>(&mut self, value: Value, path: &str) -> Option<T> {
        // Each complaint looks its place up; past what anyone repairs at once that only costs time.
        if self.report.findings().len() >= MOST_FINDINGS {
            return None;
        }
        if self.refused.iter().any(|refused| refused.starts_with(path)) {
            return None;
        }
        match serde_path_to_error::deserialize(value) {
            Ok(decoded) => Some(decoded),
            Err(error) => {
                let below = error.path().to_string();
                let path = match below.as_str() {
                    "." => path.to_owned(),
                    below if below.starts_with('[') => format!("{path}{below}"),
                    below => format!("{path}.{below}"),
                };
                let fact = self.fact(&path, &error.into_inner().to_string());
                self.report.error(path, fact, "");
                None
            }
        }
    }

    /// A message for operators: quotes the value unless it is secret.
    fn fact(&self, path: &str, message: &str) -> String {
        let Some(node) = self.document.node(path) else {
            return message.to_owned();
        };
        if node.secret {
            return "the value that was put in here does not have the form that is needed".into();
        }
        let Some(text) = node.text() else {
            return message.to_owned();
        };
        let value = quoted(text);
        if message.contains("IP address") || message.contains("IP network") {
            return match path.ends_with(".from") {
                true => format!("{value} is not an IP address"),
                false => format!(
                    "{value} is not a network; write an address and its prefix length, such as \"10.0.0.0/8\""
                ),
            };
        }
        match message.contains(text) {
            true => message.to_owned(),
            false => format!("{value}: {message}"),
        }
    }

    fn whole<T: DeserializeOwned + Default>(&mut self, key: &str) -> T {
        let value = self.root.remove(key);
        value
            .and_then(|value| self.one(value, key))
            .unwrap_or_default()
    }

    fn items<T: DeserializeOwned>(&mut self, key: &str) -> Vec<T> {
        let Some(Value::Array(items)) = self.root.remove(key) else {
            return Vec::new();
        };
        self.each(items, key)
    }

    fn each<T: DeserializeOwned>(&mut self, items: Vec<Value>, path: &str) -> Vec<T> {
        let items = items.into_iter().enumerate();
        items
            .filter_map(|(index, item)| self.one(item, &format!("{path}[{index}]")))
            .collect()
    }

    /// Routes apart from their rules.
    fn routes(&mut self) -> Vec<Route> {
        let Some(Value::Array(items)) = self.root.remove("routes") else {
            return Vec::new();
        };
        let mut routes = Vec::new();
        for (index, mut item) in items.into_iter().enumerate() {
            let path = format!("routes[{index}]");
            let rules = match item.get_mut("rules").map(Value::take) {
                Some(Value::Array(rules)) => {
                    item["rules"] = Value::Array(Vec::new());
                    self.each(rules, &format!("{path}.rules"))
                }
                _ => Vec::new(),
            };
            if let Some(route) = self.one::<Route>(item, &path) {
                routes.push(Route { rules, ..route });
            }
        }
        routes
    }
}

/// Plugins without `config` get one without keys: a settings type cannot be decoded from nothing.
fn fill(config: &mut Config) {
    let in_listeners = config
        .listeners
        .iter_mut()
        .map(|listener| &mut listener.plugins);
    let mut uses: Vec<&mut Vec<PluginUse>> = in_listeners.collect();
    for route in &mut config.routes {
        uses.push(&mut route.plugins);
        uses.extend(route.rules.iter_mut().map(|rule| &mut rule.plugins));
    }
    let inline = uses.into_iter().flatten().filter_map(|each| match each {
        PluginUse::Inline(instance) => Some(instance),
        PluginUse::Named(_) => None,
    });
    let all: Vec<&mut PluginInstance> = inline.chain(config.plugins.values_mut()).collect();
    for instance in all {
        if instance.config.is_null() {
            instance.config = Mapping::new().into();
        }
    }
}

const MOST_FINDINGS: usize = 200;
