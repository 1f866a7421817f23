//! What an authority is: its trust domain, lives, roots, and how far a change of roots has come.
//! It must not know the API; it knows the names of files.
//! Read and written by `authority` and `rotation` under the lock; the rename of `ca.json` is what makes an act happen.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use openssl::pkey::{PKey, Private};
use openssl::x509::X509;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{disk, keys};

/// The content of `ca.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Of this file's form.
    pub version: u32,
    /// The trust domain.
    pub trust_domain: String,
    /// How long a workload's certificate lives.
    pub leaf_seconds: u64,
    /// How long a node's own certificate lives: so long may a node be off without a new token.
    pub node_seconds: u64,
    /// How far clocks may be behind: certificates begin that much earlier.
    pub skew_seconds: u64,
    /// How often nodes ask for the roots.
    pub refresh_seconds: u64,
    /// Roots in force, oldest first.
    pub roots: Vec<Root>,
    /// The number of the root whose issuer signs.
    pub issuing: u32,
    /// Counts up with every change of the roots.
    pub sequence: u64,
    /// A change of roots under way.
    pub rotation: Option<Rotation>,
}

/// A root in force.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// Names its files.
    pub number: u32,
    /// SHA-256 of the certificate, in hex.
    pub hash: String,
    /// When it came into force, in seconds since 1970.
    pub since: u64,
}

/// A change of roots.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// The number of the root that takes over.
    pub to: u32,
    /// When the new root was first handed out.
    pub began: u64,
    /// When it began to issue; until then it is only trusted.
    pub switched: Option<u64>,
}

impl State {
    /// The root with this number.
    pub fn root(&self, number: u32) -> Option<&Root> {
        self.roots.iter().find(|root| root.number == number)
    }

    pub(super) fn read(folder: &Path) -> Result<State, String> {
        let path = folder.join(STATE);
        let content = disk::read(&path, LARGEST).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!(
                "\"{}\" holds no authority\n  help: `windrose ca init` makes one",
                folder.display()
            ),
            _ => told(&path, &error),
        })?;
        let state: State = serde_json::from_slice(&content).map_err(|error| told(&path, &error))?;
        match state.version {
            VERSION => Ok(state),
            other => Err(told(
                &path,
                &format!("has form {other}; this windrose knows form {VERSION}"),
            )),
        }
    }

    pub(super) fn write(&self, folder: &Path) -> Result<(), String> {
        let path = folder.join(STATE);
        let text = serde_json::to_vec_pretty(self).map_err(|error| told(&path, &error))?;
        disk::write(&path, &text).map_err(|error| told(&path, &error))
    }

    /// Whether there is one.
    pub(super) fn exists(folder: &Path) -> bool {
        folder.join(STATE).exists()
    }
}

/// The certificate of a root.
pub(super) fn root_cert(folder: &Path, number: u32) -> Result<X509, String> {
    let path = folder.join(format!("roots/{number}.pem"));
    let content = disk::read(&path, LARGEST).map_err(|error| told(&path, &error))?;
    X509::from_pem(&content).map_err(|_| told(&path, &"is not a certificate in PEM"))
}

/// Where the key of a root is kept, unless it was moved away.
pub(super) fn root_key_path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("roots/{number}.key"))
}

/// A key from a file.
pub(super) fn key_at(path: &Path) -> Result<PKey<Private>, String> {
    let content = disk::read(path, LARGEST)
        .map(Zeroizing::new)
        .map_err(|error| told(path, &error))?;
    PKey::private_key_from_pem(&content).map_err(|_| told(path, &"is not a private key in PEM"))
}

/// The issuer of a root: its chain, issuer first and then perhaps a cross, and its key.
pub(super) struct Issuer {
    pub(super) chain: Vec<X509>,
    pub(super) key: PKey<Private>,
}

impl Issuer {
    pub(super) fn read(folder: &Path, number: u32) -> Result<Issuer, String> {
        let path = Issuer::path(folder, number);
        let content = disk::read(&path, LARGEST)
            .map(Zeroizing::new)
            .map_err(|error| told(&path, &error))?;
        let chain =
            X509::stack_from_pem(&content).map_err(|_| told(&path, &"is not a chain in PEM"))?;
        if chain.is_empty() {
            return Err(told(&path, &"holds no certificate"));
        }
        let key = PKey::private_key_from_pem(&content)
            .map_err(|_| told(&path, &"holds no private key in PEM"))?;
        Ok(Issuer { chain, key })
    }

    /// Key and chain are one file, so that neither is ever there without the other.
    pub(super) fn write(&self, folder: &Path, number: u32) -> Result<(), String> {
        let path = Issuer::path(folder, number);
        let text = || {
            let mut text = keys::to_pem(&self.key)?;
            for cert in &self.chain {
                text.extend(cert.to_pem()?);
            }
            Ok(text)
        };
        let text = text().map_err(|error: openssl::error::ErrorStack| told(&path, &error))?;
        disk::write(&path, &text).map_err(|error| told(&path, &error))
    }

    pub(super) fn path(folder: &Path, number: u32) -> PathBuf {
        folder.join(format!("issuers/{number}.pem"))
    }
}

/// Makes the folders of an authority.
pub(super) fn folders(folder: &Path) -> Result<(), String> {
    for name in ["", "roots", "issuers", "tokens", "nodes", "issued"] {
        let path = folder.join(name);
        disk::folder(&path).map_err(|error| told(&path, &error))?;
    }
    // A folder that was there may be open to others.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(folder, mode).map_err(|error| told(folder, &error))
}

pub(super) fn told(path: &Path, fact: &dyn std::fmt::Display) -> String {
    format!("\"{}\": {fact}", path.display())
}

pub(super) const STATE: &str = "ca.json";
const VERSION: u32 = 1;
/// Of any file but the log.
pub(super) const LARGEST: u64 = 1 << 20;
