//! Turns the checked tree into the types of `schema`, item by item, so that one bad value does not hide the next.
//! It must not judge: shapes were checked before, meanings are checked after.
//! Called by `config::load`.

mod item;

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use serde_yaml::Mapping;

use self::item::Item;
use super::check::quoted;
use super::report::{is_within, Report};
use super::schema::{Config, Gaps, Listener, PluginInstance, PluginUse, Route, Rule};
use super::source::Document;

/// Decodes what has no complaint yet. Everything keeps its position: where an item is broken, something stands in for it, and the gap
/// is noted.
pub(super) fn decode(document: &Document, report: &mut Report) -> Config {
    let mut decoder = Decoder::new(document, report);
    let mut config = Config {
        include: decoder.whole("include"),
        on_invalid: decoder.whole("on_invalid"),
        server: decoder.whole("server"),
        listeners: decoder.each("listeners", Decoder::listener),
        routes: decoder.each("routes", Decoder::route),
        pools: decoder.items("pools"),
        services: decoder.items("services"),
        services_from: decoder.whole("services_from"),
        consumers: decoder.items("consumers"),
        redis: decoder.items("redis"),
        plugins: decoder.plugins(),
        identity: decoder.whole("identity"),
        policies: decoder.items("policies"),
        authorization: decoder.whole("authorization"),
        ssrf_guard: decoder.whole("ssrf_guard"),
        overload: decoder.whole("overload"),
        limits: decoder.whole("limits"),
        observe: decoder.whole("observe"),
        admin: decoder.whole("admin"),
        tests: decoder.items("tests"),
        gaps: Gaps::default(),
    };
    config.gaps = decoder.gaps;
    fill(&mut config);
    config
}

/// Decodes one section.
pub(super) fn section<T: DeserializeOwned + Default>(
    document: &Document,
    key: &str,
    report: &mut Report,
) -> T {
    Decoder::new(document, report).whole(key)
}

struct Decoder<'a> {
    document: &'a Document,
    root: Map<String, Value>,
    /// Paths with complaints from the check.
    refused: Vec<String>,
    report: &'a mut Report,
    gaps: Gaps,
}

impl<'a> Decoder<'a> {
    fn new(document: &'a Document, report: &'a mut Report) -> Decoder<'a> {
        let paths = report.findings().iter();
        Decoder {
            document,
            root: match document.root().json() {
                Value::Object(root) => root,
                _ => Map::new(),
            },
            refused: paths.map(|finding| finding.path.clone()).collect(),
            report,
            gaps: Gaps::default(),
        }
    }

    /// A value that nothing was said of; the lists below it that are decoded apart have complaints of their own.
    fn one<T: DeserializeOwned>(&mut self, value: Value, path: &str, apart: &[&str]) -> Option<T> {
        // Each complaint looks its place up; past what anyone repairs at once that only costs time.
        if self.report.is_full() || self.is_refused(path, apart) {
            return None;
        }
        self.decoded(value, path)
    }

    fn decoded<T: DeserializeOwned>(&mut self, value: Value, path: &str) -> Option<T> {
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

    fn is_refused(&self, path: &str, apart: &[&str]) -> bool {
        let is_apart = |below: &str| {
            let mut lists = apart.iter();
            lists.any(|list| {
                below
                    .strip_prefix(*list)
                    .is_some_and(|rest| rest.starts_with('['))
            })
        };
        let mut refused = self.refused.iter();
        refused.any(|one| {
            let below = one.strip_prefix(path).filter(|_| is_within(one, path));
            below.is_some_and(|below| !is_apart(below.trim_start_matches('.')))
        })
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
        let Some(value) = self.root.remove(key) else {
            return T::default();
        };
        self.one(value, key, &[]).unwrap_or_else(|| {
            self.gaps.add(key);
            T::default()
        })
    }

    fn items<T: Item>(&mut self, list: &'static str) -> Vec<T> {
        self.each(list, |decoder, item, path| {
            decoder.item(list, item, path, &[])
        })
    }

    fn each<T>(
        &mut self,
        list: &'static str,
        decode: impl Fn(&mut Self, Value, &str) -> T,
    ) -> Vec<T> {
        match self.root.remove(list) {
            None => Vec::new(),
            Some(Value::Array(items)) => self.of(items, list, decode),
            Some(_) => {
                self.gaps.add(list);
                self.gaps.hide(list);
                Vec::new()
            }
        }
    }

    fn of<T>(
        &mut self,
        items: Vec<Value>,
        path: &str,
        decode: impl Fn(&mut Self, Value, &str) -> T,
    ) -> Vec<T> {
        let items = items.into_iter().enumerate();
        items
            .map(|(at, item)| decode(self, item, &format!("{path}[{at}]")))
            .collect()
    }

    /// An item, or what stands in for it: by its name, or by one that nothing else can have.
    fn item<T: Item>(&mut self, list: &'static str, item: Value, path: &str, apart: &[&str]) -> T {
        let name = item.get("name").and_then(Value::as_str);
        let name = name.filter(|name| !name.is_empty()).map(str::to_owned);
        if let Some(item) = self.one(item, path, apart) {
            return item;
        }
        match apart {
            [] => self.gaps.add_blank(path),
            _ => self.gaps.add(path),
        }
        T::blank(name.unwrap_or_else(|| {
            self.gaps.hide(list);
            path.to_owned()
        }))
    }

    /// A listener apart from its plugins.
    fn listener(&mut self, mut item: Value, path: &str) -> Listener {
        let role = item.get("role").cloned();
        let plugins = self.part(&mut item, path, "plugins", Decoder::used);
        let listener: Listener = self.item("listeners", item, path, &["plugins"]);
        let role = role.and_then(|role| serde_json::from_value(role).ok());
        Listener {
            plugins,
            role: role.unwrap_or(listener.role),
            ..listener
        }
    }

    /// A route apart from its plugins, rules and tests.
    fn route(&mut self, mut item: Value, path: &str) -> Route {
        let protocol = item.get("protocol").cloned();
        let protocol = protocol.map(serde_json::from_value).transpose();
        let plugins = self.part(&mut item, path, "plugins", Decoder::used);
        let mut rules = self.part(&mut item, path, "rules", Decoder::rule);
        let tests = self.part(&mut item, path, "tests", |decoder, test, path| {
            decoder.item("tests", test, path, &[])
        });
        let route: Route = self.item("routes", item, path, &["plugins", "rules", "tests"]);
        if protocol.is_err() {
            // What rules may have depends on it.
            rules.iter_mut().for_each(|rule| rule.is_gap = true);
        }
        Route {
            plugins,
            rules,
            tests,
            protocol: protocol.ok().flatten().unwrap_or(route.protocol),
            ..route
        }
    }

    /// A rule apart from its plugins.
    fn rule(&mut self, mut item: Value, path: &str) -> Rule {
        Rule {
            plugins: self.part(&mut item, path, "plugins", Decoder::used),
            ..self.item("rules", item, path, &["plugins"])
        }
    }

    /// Takes a list out of an item, to decode it apart. What is no list stays, and is refused with the item.
    fn part<T>(
        &mut self,
        item: &mut Value,
        path: &str,
        key: &str,
        decode: impl Fn(&mut Self, Value, &str) -> T,
    ) -> Vec<T> {
        match item.get_mut(key) {
            Some(Value::Array(items)) => {
                let items = std::mem::take(items);
                self.of(items, &format!("{path}.{key}"), decode)
            }
            Some(_) | None => Vec::new(),
        }
    }

    /// An entry of a list of plugins.
    fn used(&mut self, entry: Value, path: &str) -> PluginUse {
        match entry {
            Value::String(name) => PluginUse::Named(name),
            entry => PluginUse::Inline(self.plugin(entry, path, self.is_refused(path, &[]))),
        }
    }

    fn plugins(&mut self) -> BTreeMap<String, PluginInstance> {
        let written = match self.root.remove("plugins") {
            None => Map::new(),
            Some(Value::Object(plugins)) => plugins,
            Some(_) => {
                self.gaps.add("plugins");
                self.gaps.hide("plugins");
                Map::new()
            }
        };
        // Names may hold dots: a complaint is about the longest that fits.
        let below = self.refused.iter();
        let below = below.filter_map(|path| path.strip_prefix("plugins."));
        let owner = |path: &str| {
            let fitting = written.keys().filter(|name| is_within(path, name));
            fitting.max_by_key(|name| name.len()).cloned()
        };
        let refused: BTreeSet<String> = below.filter_map(owner).collect();
        let decode = |(name, value): (String, Value)| {
            let path = format!("plugins.{name}");
            let plugin = self.plugin(value, &path, refused.contains(&name));
            (name, plugin)
        };
        written.into_iter().map(decode).collect()
    }

    /// An instance. One with a complaint is kept as far as it can be: others may look at its kind and settings.
    fn plugin(&mut self, value: Value, path: &str, is_refused: bool) -> PluginInstance {
        let decoded = match is_refused {
            true => serde_json::from_value(value).ok(),
            false => self.decoded(value, path),
        };
        match decoded {
            Some(instance) => PluginInstance {
                is_broken: is_refused,
                ..instance
            },
            None => {
                self.gaps.add(path);
                PluginInstance::blank(String::new())
            }
        }
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
