//! The slow path: everything that changes what the fast path reads.
//! It must not know the proxy; they meet in the snapshot.
//! Assembled by `app`.

pub mod status;
