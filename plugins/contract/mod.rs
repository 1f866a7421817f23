//! What a plugin may see and say.
//! It must not know the proxy, its configuration file or other plugins.
//! Plugins implement [`Plugin`]; the proxy builds them once per snapshot and calls the attached [`Hooks`].
//!
//! A complete plugin, with its test:
//! ```
//! use schemars::JsonSchema;
//! use serde::Deserialize;
//! use windrose_plugins::contract::*;
//! use windrose_plugins::testkit::{answered, Exchange, Kit};
//!
//! pub const PLUGIN: PluginDef = PluginDef::of::<Config>();
//!
//! pub static CLOSED: Cause = Cause {
//!     name: "shop.closed", blame: Blame::Policy, status: 503, title: "The shop is closed",
//!     explanation: "A `shop_hours` plugin refuses orders.", next_step: "Set `open: true`.",
//! };
//!
//! #[derive(Deserialize, JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! pub struct Config {
//!     /// Whether orders are taken.
//!     pub open: bool,
//! }
//!
//! impl Plugin for Config {
//!     const KIND: &'static str = "shop_hours";
//!     const ABOUT: &'static str = "refuse orders while the shop is closed";
//!     const EXAMPLE: &'static str = "open: true";
//!     const SAFETY: Safety = Safety::Guard;
//!     const CAUSES: &'static [&'static Cause] = &[&CLOSED];
//!
//!     fn build(self, _: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
//!         Ok(Hooks::new().on_request(move |request| match self.open || request.head.method != "POST" {
//!             true => Verdict::Continue,
//!             false => Answer::of(&CLOSED).into(),
//!         }))
//!     }
//! }
//!
//! let plugin = Kit::new().instance(&PLUGIN, "open: false");
//! let verdict = plugin.request(&mut Exchange::new("POST", "https://shop.test/orders"));
//! assert_eq!(answered(verdict).cause, &CLOSED);
//! ```

mod body;
mod build;
mod cache;
mod call;
mod canonical;
mod cause;
mod certificate;
mod consumer;
mod distinguished;
mod encoding;
mod field;
mod fields;
mod held;
mod hooks;
mod location;
mod message;
mod path_edit;
mod problem;
mod state;
mod store;
mod target;
mod task;
mod units;
mod wire;

pub use body::{BodyWish, TooLarge, WholeBody};
pub use build::{Build, Counter, CounterFactory, Plugin, PluginDef, Safety};
pub use cache::{
    CacheAsks, CacheFill, CacheName, CacheRequest, CacheResult, CacheWish, Purge, ResponseCache,
    Reuse, Stored, Terms, Wanted, Written,
};
pub use call::{Call, CallFailure, CallFuture, Caller, Carrier, Carriers, Reply, Trace};
pub use canonical::{canonical_host, canonical_path, BadHost, BadPath, Host};
pub use cause::{builtin_causes, causes, Blame, Cause};
pub use certificate::{
    Authorities, CertificateFacts, CertificateField, CertificateMark, ClientCertificate,
};
pub use consumer::{key_hash, Consumer, Consumers, Credential, SigningKey};
pub use encoding::Encoding;
pub use field::{did_you_mean, field_name, field_value, Side, Texts};
pub use fields::{change_request, change_response};
pub use held::{Held, HeldHook, HeldResponse, Hold, HoldHook, Larger};
pub use hooks::{
    Answer, BodyHook, BodyQuestion, ConnectionHook, FinishHook, HookFuture, Hooks, ReopenHook,
    RequestHook, ResponseHook, TrailersHook, Verdict,
};
pub use location::Location;
pub use message::{
    Claims, ClientFacts, ConnectionView, Finished, Part, PartTurn, Principal, PrincipalKind,
    Request, Response, Said, Slot, Slots, Upstream,
};
pub use path_edit::PathEdit;
pub use problem::Problem;
pub use state::{Clock, Effects, Shared, StateRegistry, Unknown};
pub use store::{
    Granted, Store, StoreClient, StoreFailure, StoreFuture, Stores, TokenLaw, WindowLaw, Wish,
};
pub use target::{Origin, Target};
pub use task::{Background, End, Life, TaskFuture};
pub use units::{Percent, Size, Time};
pub use wire::{Far, Wire, WireFailure, WireFuture, WireSettings, Wires};
