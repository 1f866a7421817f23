//! The plugin contract and the table of built-in plugins.
//! A plugin sees HTTP messages, its own settings and the handles the contract gives it; it never sees the proxy.
//! The proxy compiles `BUILTIN` into its registry; a program of your own passes further tables to `windrose::main`.

pub mod contract;
pub mod testkit;

pub use contract::PluginDef;

/// Every built-in plugin, sorted by kind. Registering a plugin is one line here.
pub const BUILTIN: &[PluginDef] = &[];
