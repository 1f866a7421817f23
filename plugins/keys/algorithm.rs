//! Algorithms of signatures (RFC 7518 section 3.1, RFC 8037), and which kind of key each is for.
//! It must not know keys themselves.
//! Read by the rest of `keys` and by settings that name algorithms.

use openssl::nid::Nid;
use schemars::JsonSchema;
use serde::Deserialize;

/// How something is signed. `none` is not among them, so that nothing can ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema)]
#[allow(
    missing_docs,
    reason = "the names are those of the registry of algorithms; they explain themselves or nothing does"
)]
pub enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    ES512,
    EdDSA,
}

/// Which kind of key an algorithm is for. A key belongs to one kind, so that a public key can never be taken for a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Secret,
    /// For both paddings.
    Rsa,
    /// A key that says that it is for PSS only.
    RsaPss,
    /// A curve by the bytes of its numbers.
    Curve(usize),
    Edwards,
}

impl Algorithm {
    pub(crate) const ALL: [Algorithm; 13] = [
        Algorithm::HS256,
        Algorithm::HS384,
        Algorithm::HS512,
        Algorithm::RS256,
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::PS384,
        Algorithm::PS512,
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::ES512,
        Algorithm::EdDSA,
    ];

    /// Its registered name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Algorithm::HS256 => "HS256",
            Algorithm::HS384 => "HS384",
            Algorithm::HS512 => "HS512",
            Algorithm::RS256 => "RS256",
            Algorithm::RS384 => "RS384",
            Algorithm::RS512 => "RS512",
            Algorithm::PS256 => "PS256",
            Algorithm::PS384 => "PS384",
            Algorithm::PS512 => "PS512",
            Algorithm::ES256 => "ES256",
            Algorithm::ES384 => "ES384",
            Algorithm::ES512 => "ES512",
            Algorithm::EdDSA => "EdDSA",
        }
    }

    /// The algorithm of this name. Case matters (RFC 7515 section 4.1.1): `nOnE` is as unknown as `none`.
    pub(crate) fn named(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|one| one.name() == name)
    }

    /// Bytes of its digest; of EdDSA, which has its own, those of a key.
    pub(super) fn digest_bytes(self) -> usize {
        match self {
            Algorithm::HS256 | Algorithm::RS256 | Algorithm::PS256 | Algorithm::ES256 => 32,
            Algorithm::HS384 | Algorithm::RS384 | Algorithm::PS384 | Algorithm::ES384 => 48,
            Algorithm::HS512 | Algorithm::RS512 | Algorithm::PS512 | Algorithm::ES512 => 64,
            Algorithm::EdDSA => 32,
        }
    }

    pub(super) fn is_pss(self) -> bool {
        matches!(self, Algorithm::PS256 | Algorithm::PS384 | Algorithm::PS512)
    }

    pub(super) fn family(self) -> Family {
        match self {
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => Family::Secret,
            Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512 => Family::Rsa,
            Algorithm::PS256 | Algorithm::PS384 | Algorithm::PS512 => Family::RsaPss,
            Algorithm::ES256 => Family::Curve(32),
            Algorithm::ES384 => Family::Curve(48),
            Algorithm::ES512 => Family::Curve(66),
            Algorithm::EdDSA => Family::Edwards,
        }
    }
}

impl Family {
    pub(super) fn of_curve(curve: Option<Nid>) -> Option<Family> {
        match curve? {
            Nid::X9_62_PRIME256V1 => Some(Family::Curve(32)),
            Nid::SECP384R1 => Some(Family::Curve(48)),
            Nid::SECP521R1 => Some(Family::Curve(66)),
            _ => None,
        }
    }

    /// What a key of this kind may be used with.
    pub(super) fn algorithms(self) -> impl Iterator<Item = Algorithm> {
        Algorithm::ALL.into_iter().filter(move |one| {
            let other = one.family();
            other == self || (self == Family::Rsa && other == Family::RsaPss)
        })
    }
}
