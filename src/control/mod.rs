//! The slow path: everything that changes what the fast path reads.
//! It must not know the proxy; they meet in the snapshot.
//! Assembled by `app`.

pub mod admin;
pub mod certs;
mod discovery;
pub mod handover;
mod health;
mod inherit;
pub mod listeners;
pub mod notices;
pub mod pools;
pub mod reload;
pub mod status;
pub mod supervisor;

#[cfg(test)]
mod tests;
