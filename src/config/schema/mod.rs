//! The shape of the YAML: every key a user can write, with its default and its meaning.
//! It must not know what the settings become; these types only hold what was written.
//! Decoded by `config::compile`; `windrose schema` prints it as JSON Schema, so the field docs are the manual.

mod capture;
mod consumer;
mod gaps;
mod identity;
mod listener;
mod observe;
mod overload;
mod policy;
mod pool;
mod process;
mod redis;
mod route;
mod server;
mod service;
mod ssrf;
mod tests;

pub use capture::*;
pub use consumer::*;
pub use gaps::*;
pub use identity::*;
pub use listener::*;
pub use observe::*;
pub use overload::*;
pub use policy::*;
pub use pool::*;
pub use process::*;
pub use redis::*;
pub use route::*;
pub use server::*;
pub use service::*;
pub use ssrf::*;
pub use tests::*;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A Windrose configuration.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Further files to read, as paths or patterns with `*` in the file name, relative to this file. Their lists are appended, their maps merged. Default: none.
    pub include: Vec<String>,
    /// What an error in one route, pool, service, plugin or listener does to the rest: `strict` refuses the whole configuration, `quarantine` puts the rest into force and answers 503 in place of what is broken. `windrose check` refuses either way. Default: strict.
    pub on_invalid: OnInvalid,
    /// Process settings that only a restart changes.
    pub server: Server,
    /// Where traffic comes in.
    pub listeners: Vec<Listener>,
    /// Where requests and connections go. Order matters only between rules of equal precedence.
    pub routes: Vec<Route>,
    /// Sets of endpoints that serve the same thing.
    pub pools: Vec<Pool>,
    /// Who can be called through `mesh-outbound` listeners. Default: nobody but whom routes name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
    /// Where further services are read from. Default: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services_from: Option<ServicesFrom>,
    /// Who calls APIs, and what proves it. Default: nobody; plugins may have users of their own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub consumers: Vec<Consumer>,
    /// Redis servers that plugins keep shared state in, such as rate limits that hold for several proxies together. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub redis: Vec<Redis>,
    /// Named plugin instances, used by name in `plugins` lists. One instance shares its state between its uses.
    pub plugins: BTreeMap<String, PluginInstance>,
    /// Who the workloads of this node are and whom they believe, for mutual TLS. Default: nobody; `mtls` of listeners and pools needs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// Who may call what: by principal, address, method, path and more, for requests and connections alike.
    pub policies: Vec<Policy>,
    /// What holds where no policy decides.
    pub authorization: Authorization,
    /// Where the proxy's own connections may lead. Default: anywhere, but for what captured connections go on to, which is never this machine's loopback nor link-local.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssrf_guard: Option<SsrfGuard>,
    /// Refusing the least important requests when the process is overloaded. Default: nothing is refused for that, because a bound that does not fit the machine would refuse good traffic; `overload: {}` turns it on with its defaults. A reload changes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overload: Option<Overload>,
    /// Bounds of the whole process.
    pub limits: ProcessLimits,
    /// Logs, metrics and traces.
    pub observe: Observe,
    /// The admin address.
    pub admin: Admin,
    /// Requests and what should become of them. Run by `windrose check` and before every reload; one failure refuses the reload.
    pub tests: Vec<ConfigTest>,
    /// What could not be decoded, never written.
    #[serde(skip)]
    pub gaps: Gaps,
}

/// What an error in one object does to the rest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnInvalid {
    /// The whole configuration is refused.
    #[default]
    Strict,
    /// A broken object is replaced by a marked answer; the rest goes live.
    Quarantine,
}

/// Header edits: `remove` runs first, then `set`, then `add`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderEdits {
    /// Fields to replace, or to create.
    pub set: BTreeMap<String, String>,
    /// Fields to append, keeping what is there.
    pub add: BTreeMap<String, String>,
    /// Fields to take away.
    pub remove: Vec<String>,
}

/// A plugin with its settings.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PluginInstance {
    /// Which plugin; `windrose plugins` lists them.
    pub kind: String,
    /// `enforce` acts, `shadow` runs the hooks on copies of messages, so that it changes nothing, and counts what they would have refused (`/plugins` on the admin address has examples), `off` skips it. Default: enforce.
    #[serde(default)]
    pub mode: PluginMode,
    /// What happens when the plugin cannot do its work: `closed` refuses the request, `open` goes on. Default: closed for plugins that guard something, open for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_error: Option<OnError>,
    /// The plugin's own settings; `windrose plugins KIND` prints them.
    #[serde(default)]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub config: serde_yaml::Value,
    /// Whether something is wrong with it that is told already, so that it is not built; set by `config::decode`, never written.
    #[serde(skip)]
    pub is_broken: bool,
}

/// How a plugin takes part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PluginMode {
    /// Acts.
    #[default]
    Enforce,
    /// Changes nothing, and counts what it would have refused.
    Shadow,
    /// Is skipped.
    Off,
}

/// What to do when a plugin cannot do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Refuse.
    Closed,
    /// Go on.
    Open,
}

/// One entry of a `plugins` list: the name of an instance under `plugins`, or an instance written in place.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PluginUse {
    /// A name from the top-level `plugins`.
    Named(String),
    /// An instance of its own.
    Inline(PluginInstance),
}
