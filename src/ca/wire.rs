//! What nodes and the built-in authority say to each other: JSON over HTTPS, versioned by path.
//! It must not know how either side works; bounds and words that both need live here.
//! Used by `ca::server` and `ca::client`.

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// Exchanges a join token for a node's certificate. No client certificate is needed.
pub const JOIN: &str = "/v1/join";
/// Asks for a certificate, as the node that the client certificate names.
pub const CERTIFICATE: &str = "/v1/certificate";
/// Tells which roots the node trusts and hears which it should, as the node that the client certificate names.
pub const SYNC: &str = "/v1/sync";
/// The roots in PEM. Anyone may ask.
pub const BUNDLE_PEM: &str = "/v1/bundle.pem";
/// The roots as a SPIFFE bundle. Anyone may ask.
pub const BUNDLE_JWKS: &str = "/v1/bundle.json";
/// Whether the authority can sign. Anyone may ask.
pub const HEALTH: &str = "/healthz";

/// The largest message either way.
pub const LARGEST_BODY: usize = 64 << 10;
/// The most roots of one trust domain in force at the same time.
pub const MOST_ROOTS: usize = 8;
/// The path of the authority's own identity.
pub const CA_PATH: &str = "/windrose/ca";
/// What the paths of nodes begin with. Nothing below `/windrose/` is ever granted to a workload.
pub const NODE_PREFIX: &str = "/windrose/node/";
/// What only the authority itself names.
pub const RESERVED: &str = "/windrose/";

/// The body of [`JOIN`]. The token is cleared with it, and shown by nothing.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// The token, as printed.
    pub token: String,
    /// What people call the node; only shown.
    pub name: String,
    /// PKCS #10 request in PEM. Only its key counts, and that the request is signed with it.
    pub request: String,
    /// Hashes of the roots the node trusts.
    pub trusts: Vec<String>,
}

impl Drop for Join {
    fn drop(&mut self) {
        self.token.zeroize();
    }
}

impl std::fmt::Debug for Join {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Join({})", self.name)
    }
}

/// Reads the body of a call.
///
/// # Errors
/// Where it is wrong, not what stands there: it may hold a token.
pub fn read<T: serde::de::DeserializeOwned>(content: &[u8]) -> Result<T, String> {
    serde_json::from_slice(content)
        .map_err(|error| format!("not the JSON of this call, at column {}", error.column()))
}

/// The answer to [`JOIN`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Joined {
    /// The node's own ID, which it renews its certificates as.
    pub node: String,
    /// The chain in PEM, leaf first.
    pub certificate: String,
    /// Whom to trust.
    pub bundle: Trusted,
}

/// The body of [`CERTIFICATE`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// The ID wanted: one the node joined for, or the node's own.
    pub id: String,
    /// PKCS #10 request in PEM, with a key that was never certified before.
    pub request: String,
}

/// The answer to [`CERTIFICATE`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Issued {
    /// The chain in PEM, leaf first.
    pub certificate: String,
}

/// The body of [`SYNC`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sync {
    /// Hashes of the roots the node trusts.
    pub trusts: Vec<String>,
}

/// Whom to trust, and whose certificates are the right ones now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trusted {
    /// The trust domain.
    pub trust_domain: String,
    /// Roots in PEM.
    pub roots: Vec<String>,
    /// The hash of the root that new certificates chain to. A node with an older chain renews early.
    pub issuing: String,
    /// Counts up with every change of the roots.
    pub sequence: u64,
    /// How often to ask again, in seconds.
    pub refresh_seconds: u64,
}

/// Any answer but 200.
#[derive(Debug, Serialize, Deserialize)]
pub struct Refused {
    /// One word.
    pub cause: String,
    /// A sentence without secrets.
    pub detail: String,
}
