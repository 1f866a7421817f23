//! The slow path: everything that changes what the fast path reads.
//! It must not know the proxy; they meet in the snapshot.
//! Assembled by `app`.

pub mod admin;
mod breath;
pub mod certs;
mod discovery;
pub mod handover;
mod health;
pub mod identity;
mod inherit;
mod judge;
pub mod listeners;
mod names;
pub mod notices;
mod overload;
mod peers;
pub mod pools;
pub mod probation;
pub mod reload;
mod services;
pub mod status;
pub mod stores;
pub mod supervisor;
pub mod tasks;
mod traffic;
mod verdicts;

#[cfg(test)]
mod tests;
