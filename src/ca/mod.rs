//! The built-in certificate authority of a mesh: a folder on disk, the acts on it, and the API that nodes call.
//! It must not know the proxy, the configuration or the keeper of identities; nodes are strangers that send bytes.
//! Run by `cli::ca`; `control::identity` uses only [`client`], [`wire`] and [`keys`].
//!
//! A root signs issuers, an issuer signs leaves. The root's key may live elsewhere. Everything is files: each act takes the lock,
//! reads, and writes in an order where the last rename decides, so that a process killed at any moment leaves either the old
//! state or the new one. A token is marked used before the certificate leaves, a certificate is in the log before it leaves.

mod authority;
mod bundle;
mod certify;
pub mod client;
mod disk;
mod enroll;
mod grant;
pub mod keys;
mod known;
mod ledger;
mod nodes;
mod rotation;
mod server;
mod sign;
mod state;
#[cfg(test)]
mod tests;
mod token;
pub mod wire;

pub use authority::{Authority, Init, Refusal, LONGEST_LIFE};
pub(crate) use certify::{begins, ends};
pub(crate) use disk::{folder as private_folder, read as read_bounded, write as write_private};
pub use grant::Grant;
pub use ledger::Entry;
pub use nodes::Node;
pub use server::{serve, Serving};
pub use state::{Root, Rotation, State};
pub use token::Token;

/// Seconds since 1970.
pub(crate) fn unix_now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Bytes as lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}
