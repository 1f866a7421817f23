//! observe stub
pub mod clock;
pub mod metrics;
