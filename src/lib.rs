//! map to come
pub mod config;
pub mod observe;
