//! map to come
pub mod config;
pub mod control;
pub mod observe;
pub mod snapshot;
