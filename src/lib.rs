//! map to come
pub mod config;
pub mod control;
pub mod decide;
pub mod observe;
pub mod proxy;
pub mod snapshot;
