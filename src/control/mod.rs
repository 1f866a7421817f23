//! The slow path: everything that changes what the fast path reads.
//! It must not know the proxy; they meet in the snapshot.
//! Assembled by `app`.

pub mod admin;
pub mod certs;
mod discovery;
mod health;
pub mod pools;
pub mod status;

#[cfg(test)]
mod tests;
