//! What a plugin may see and say.
//! It must not know the proxy, its configuration file or other plugins.
//! Plugins implement [`Plugin`]; the proxy builds them once per snapshot and calls the attached [`Hooks`].

mod build;
mod cause;
mod hooks;
mod message;
mod problem;
mod state;
mod units;

pub use build::{Build, Counter, CounterFactory, Plugin, PluginDef, Safety};
pub use cause::{builtin_causes, causes, Blame, Cause};
pub use hooks::{
    Answer, BodyHook, ConnectionHook, FinishHook, HookFuture, Hooks, RequestHook, ResponseHook,
    Verdict,
};
pub use message::{
    ClientFacts, ConnectionView, Finished, Principal, PrincipalKind, Request, Response, Slot, Slots,
};
pub use problem::Problem;
pub use state::{Clock, Effects, Shared, StateRegistry, Unknown};
pub use units::{Percent, Size, Time};
