//! map to come
pub mod config;
