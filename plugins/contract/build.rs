//! How a plugin is announced and built.
//! It must not know where settings were written; it receives decoded settings and handles.
//! The configuration compiler calls `PluginDef::build` once per use and snapshot.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::{
    did_you_mean, Caller, Carriers, Cause, Clock, Consumers, Hooks, Problem, Shared, Slot,
    StateRegistry, Store, Stores, Target, WireSettings, Wires,
};

/// What happens by default when the plugin cannot do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Safety {
    /// It guards something: requests are refused (`on_error: closed`).
    Guard,
    /// It is a convenience: requests go on (`on_error: open`).
    Convenience,
}

/// A plugin: its settings are the type itself, decoded with unknown keys refused.
pub trait Plugin: DeserializeOwned + JsonSchema + 'static {
    /// The word after `kind:`, snake_case.
    const KIND: &'static str;
    /// One line for `windrose plugins`.
    const ABOUT: &'static str;
    /// The `config` block of a working example, in YAML. A test builds it.
    const EXAMPLE: &'static str;
    /// Whether it guards something.
    const SAFETY: Safety;
    /// The causes it can answer with.
    const CAUSES: &'static [&'static Cause];
    /// Of a plugin that authenticates, the one of its causes that says that none of the credentials it looks for came; all others say
    /// that what came is not right. `auth` lets other ways go first by it.
    const ABSENT: Option<&'static Cause> = None;

    /// Validates the settings and attaches the hooks. Runs on the slow path and may read files.
    ///
    /// # Errors
    /// Every problem with the settings, each with its path below `config`.
    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>>;
}

/// One line of a plugin table.
#[derive(Clone, Copy)]
pub struct PluginDef {
    /// See [`Plugin::KIND`].
    pub kind: &'static str,
    /// See [`Plugin::ABOUT`].
    pub about: &'static str,
    /// See [`Plugin::EXAMPLE`].
    pub example: &'static str,
    /// See [`Plugin::SAFETY`].
    pub safety: Safety,
    /// See [`Plugin::CAUSES`].
    pub causes: &'static [&'static Cause],
    /// See [`Plugin::ABSENT`].
    pub absent: Option<&'static Cause>,
    /// JSON Schema of the settings.
    pub schema: fn() -> schemars::Schema,
    /// Decodes the settings and builds the hooks.
    pub build: fn(serde_yaml::Value, &Build<'_>) -> Result<Hooks, Vec<Problem>>,
}

impl PluginDef {
    /// The table line of a plugin type.
    pub const fn of<P: Plugin>() -> PluginDef {
        PluginDef {
            kind: P::KIND,
            about: P::ABOUT,
            example: P::EXAMPLE,
            safety: P::SAFETY,
            causes: P::CAUSES,
            absent: P::ABSENT,
            schema: schema_of::<P>,
            build: build_from::<P>,
        }
    }
}

fn schema_of<P: Plugin>() -> schemars::Schema {
    schemars::SchemaGenerator::default().into_root_schema_for::<P>()
}

fn build_from<P: Plugin>(
    config: serde_yaml::Value,
    build: &Build<'_>,
) -> Result<Hooks, Vec<Problem>> {
    // Through JSON: `serde_yaml::Value` wants tags (`!prefix /a`) where users write maps of one key.
    let config =
        serde_json::to_value(config).map_err(|error| vec![Problem::at("", error.to_string())])?;
    let settings: P = serde_path_to_error::deserialize(config).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        vec![Problem::at(path, error.into_inner().to_string())]
    })?;
    settings.build(build)
}

/// What a plugin gets while it is being built.
pub struct Build<'a> {
    /// The instance's stable name: the key of its state across reloads.
    pub instance: &'a str,
    /// Folder that relative paths in settings are relative to.
    pub folder: &'a Path,
    /// Time.
    pub clock: Clock,
    /// State that survives reloads.
    pub states: &'a StateRegistry,
    /// The consumers of the configuration.
    pub consumers: &'a Arc<Consumers>,
    /// The stores of the configuration.
    pub stores: &'a dyn Stores,
    /// Makes counters that `/metrics` shows.
    pub counters: &'a dyn CounterFactory,
    /// Finds what carries calls to other services.
    pub carriers: &'a dyn Carriers,
    /// Every plugin there is, for those that hold others.
    pub plugins: &'a [PluginDef],
}

impl Build<'_> {
    /// A place for per-request state.
    pub fn slot<T: Send + Sync + 'static>(&self) -> Slot<T> {
        Slot::new()
    }

    /// State of this instance that survives reloads; `about` names it in dry runs.
    pub fn shared<T: Send + Sync + 'static>(
        &self,
        about: &'static str,
        new: impl FnOnce() -> T,
    ) -> Shared<T> {
        let key = format!("{}/{}", self.instance, std::any::type_name::<T>());
        self.states.shared(&key, about, new)
    }

    /// The store of this name, which the setting at `path` holds.
    ///
    /// # Errors
    /// There is none.
    pub fn store(&self, path: &str, name: &str) -> Result<Store, Problem> {
        self.stores.store(name).ok_or_else(|| {
            let names = self.stores.names();
            let guess = did_you_mean(name, names.iter().map(String::as_str));
            let guess =
                guess.map_or_else(String::new, |guess| format!("did you mean \"{guess}\"? "));
            let known = match names.is_empty() {
                true => "no stores are defined; add one to `redis`".to_owned(),
                false => format!("stores defined: {}", names.join(", ")),
            };
            Problem::at(path, format!("no store is named \"{name}\""))
                .help(format!("{guess}{known}"))
        })
    }

    /// A counter `windrose_plugin_events_total{plugin, event}`.
    pub fn counter(&self, event: &'static str) -> Counter {
        self.counters.counter(self.instance, event)
    }

    /// A counter `windrose_plugin_amounts_total{plugin, event, of}`: how much of something, such as tokens of a model. `of` has to
    /// come from the settings, never from a request.
    pub fn counter_of(&self, event: &'static str, of: &str) -> Counter {
        self.counters.counter_of(self.instance, event, of)
    }

    /// Calls a service that the settings name; `path` is where the target stands below `config`.
    ///
    /// # Errors
    /// What is wrong with the target.
    pub fn caller(&self, path: &str, target: &Target) -> Result<Caller, Problem> {
        let origin = target.origin(path)?;
        let located = |mut problem: Problem| {
            problem.path = match problem.path.as_str() {
                "pool" => format!("{path}.pool"),
                _ => target.url_path(path),
            };
            problem
        };
        let carrier = self.carriers.carrier(target, &origin).map_err(located)?;
        Caller::new(&origin, carrier, &|event| self.counter(event)).map_err(located)
    }

    /// What opens wires to a peer that speaks no HTTP. Only for background tasks: no request waits for one.
    ///
    /// # Errors
    /// What is wrong with the settings, at no path of its own.
    pub fn wires(&self, settings: &WireSettings) -> Result<Arc<dyn Wires>, Problem> {
        self.carriers.wires(settings)
    }

    /// Resolves a path from the settings against the configuration's folder.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }
}

/// Something a plugin counts. Cheap to call.
pub type Counter = Arc<dyn Fn(u64) + Send + Sync>;

/// Makes counters; the proxy's puts them into its metrics, the test kit's records them.
pub trait CounterFactory: Send + Sync {
    /// The counter for an event of an instance.
    fn counter(&self, instance: &str, event: &'static str) -> Counter;

    /// The counter for an event of an instance that is about something in its settings.
    fn counter_of(&self, instance: &str, event: &'static str, of: &str) -> Counter;
}
