//! The acts of an authority: it is founded, makes tokens, lets nodes join, and signs what they may have.
//! It must not know HTTP; the server and the command line call the same acts.
//! Each act takes the lock, reads the folder, and writes what has to be true before it answers.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use openssl::error::ErrorStack;
use openssl::x509::X509;
use zeroize::Zeroizing;

use super::certify::{self, Signer};
use super::grant::Grant;
use super::known::Known;
use super::ledger::{self, Entry};
use super::nodes::{self, Node};
use super::state::{self, Issuer, Root, State};
use super::token::{self, Token};
use super::wire::Trusted;
use super::{bundle, disk, keys, unix_now};
use crate::snapshot::identity::TrustDomain;

/// The authority in a folder.
#[derive(Debug)]
pub struct Authority {
    pub(super) folder: PathBuf,
    /// Certificates that have not ended. Only a server knows all of them.
    pub(super) known: Mutex<Known>,
}

/// How an authority is founded.
#[derive(Debug)]
pub struct Init {
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// Where the root's key goes instead of the folder, to be moved away.
    pub offline_root: Option<PathBuf>,
    /// How long a workload's certificate lives, in seconds.
    pub leaf_seconds: u64,
    /// How long a node's own certificate lives, in seconds.
    pub node_seconds: u64,
    /// How much earlier certificates begin, in seconds.
    pub skew_seconds: u64,
    /// How often nodes ask for the roots, in seconds.
    pub refresh_seconds: u64,
}

/// Why an act was not done.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status of the answer over HTTP.
    pub status: u16,
    /// One word.
    pub cause: &'static str,
    /// A sentence without secrets.
    pub detail: String,
}

impl Refusal {
    pub(super) fn new(status: u16, cause: &'static str, detail: impl Into<String>) -> Refusal {
        Refusal {
            status,
            cause,
            detail: detail.into(),
        }
    }
}

/// The authority's own trouble: files or OpenSSL.
impl From<String> for Refusal {
    fn from(detail: String) -> Refusal {
        Refusal::new(500, "ca.internal", detail)
    }
}

impl From<ErrorStack> for Refusal {
    fn from(error: ErrorStack) -> Refusal {
        Refusal::from(error.to_string())
    }
}

impl Authority {
    /// Founds an authority. The folder may be there, but not hold one.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn init(folder: &Path, init: &Init) -> Result<Root, String> {
        disk::folder(folder).map_err(|error| state::told(folder, &error))?;
        let authority = Authority::at(folder);
        let _lock = authority.lock()?;
        if State::exists(folder) {
            return Err(format!(
                "\"{}\" holds an authority already",
                folder.display()
            ));
        }
        state::folders(folder)?;
        let domain = init.trust_domain.as_str();
        let root = authority.found_root(domain, 1, init.offline_root.as_deref())?;
        let by = Signer {
            cert: &root.cert,
            key: &root.key,
        };
        authority.found_issuer(domain, 1, by, Vec::new())?;
        let root = Root {
            number: 1,
            hash: keys::cert_hash(&root.cert).map_err(text)?,
            since: unix_now(),
        };
        let state = State {
            version: 1,
            trust_domain: domain.to_owned(),
            leaf_seconds: init.leaf_seconds,
            node_seconds: init.node_seconds,
            skew_seconds: init.skew_seconds,
            refresh_seconds: init.refresh_seconds,
            roots: vec![root.clone()],
            issuing: 1,
            sequence: 1,
            rotation: None,
        };
        state.write(folder)?;
        Ok(root)
    }

    /// The authority of a folder that holds one.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn open(folder: &Path) -> Result<Authority, String> {
        State::read(folder)?;
        Ok(Authority::at(folder))
    }

    fn at(folder: &Path) -> Authority {
        Authority {
            folder: folder.to_owned(),
            known: Mutex::default(),
        }
    }

    /// As [`Authority::open`], for the one process that serves: it remembers the keys it certified.
    pub(super) fn open_to_serve(folder: &Path) -> Result<(Authority, disk::Lock), String> {
        let authority = Authority::open(folder)?;
        let path = folder.join("serving");
        let lock = disk::try_lock(&path).map_err(|error| state::told(&path, &error))?;
        let lock =
            lock.ok_or_else(|| format!("\"{}\" is served by another process", folder.display()))?;
        let valid = authority.valid()?;
        let mut known = authority
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for entry in valid {
            known.add(entry.key, &entry.node, entry.not_after, unix_now());
        }
        drop(known);
        Ok((authority, lock))
    }

    /// What it is now.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn state(&self) -> Result<State, String> {
        State::read(&self.folder)
    }

    /// When the state on disk last changed.
    pub(super) fn changed(&self) -> Option<SystemTime> {
        let state = std::fs::metadata(self.folder.join(state::STATE));
        state.and_then(|meta| meta.modified()).ok()
    }

    pub(super) fn lock(&self) -> Result<disk::Lock, String> {
        let path = self.folder.join("lock");
        disk::lock(&path).map_err(|error| state::told(&path, &error))
    }

    /// Makes a token, which is seen only now.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn make_token(&self, grant: Grant, life: u64) -> Result<Zeroizing<String>, String> {
        let _lock = self.lock()?;
        let made = unix_now();
        token::all(&self.folder, made)?;
        let token = Token {
            grant,
            made,
            expires: made.saturating_add(life),
            used: None,
        };
        token::make(&self.folder, &token)
    }

    /// The tokens that are kept, without what they are.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub fn tokens(&self) -> Result<Vec<Token>, String> {
        token::all(&self.folder, unix_now())
    }

    /// The nodes that joined.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub fn nodes(&self) -> Result<Vec<Node>, String> {
        Ok(nodes::all(&self.folder)?
            .into_iter()
            .map(|(_, node)| node)
            .collect())
    }

    /// Forgets a node by its ID, name, or the beginning of what tells it from others; its certificates cannot be renewed then.
    ///
    /// # Errors
    /// If it is not exactly one.
    pub fn forget(&self, wanted: &str) -> Result<Node, String> {
        let _lock = self.lock()?;
        let mut all = nodes::all(&self.folder)?;
        all.retain(|(key, node)| {
            node.id == wanted
                || node.name == wanted
                || node.shown() == wanted
                || (wanted.len() >= 4 && key.starts_with(wanted))
        });
        match all.len() {
            0 => Err(format!("no node is known as \"{wanted}\"")),
            1 => {
                let (key, node) = all.remove(0);
                // Its token first: else the key that spent it could bring the node back.
                token::remove(&self.folder, &node.token)?;
                nodes::remove(&self.folder, &key)?;
                Ok(node)
            }
            _ => {
                let shown: Vec<String> = all.iter().map(|(_, node)| node.shown()).collect();
                Err(format!(
                    "\"{wanted}\" is more than one node: {}",
                    shown.join(", ")
                ))
            }
        }
    }

    /// Certificates that have not ended.
    ///
    /// # Errors
    /// What is wrong with the log.
    pub fn valid(&self) -> Result<Vec<Entry>, String> {
        ledger::valid(&self.folder, unix_now(), LONGEST_LIFE)
    }

    /// The roots in force.
    ///
    /// # Errors
    /// What is wrong with their files.
    pub fn roots(&self, state: &State) -> Result<Vec<X509>, String> {
        state
            .roots
            .iter()
            .map(|root| state::root_cert(&self.folder, root.number))
            .collect()
    }

    /// The roots as a SPIFFE bundle.
    ///
    /// # Errors
    /// What is wrong with their files.
    pub fn jwks(&self) -> Result<String, String> {
        let state = self.state()?;
        bundle::jwks(&self.roots(&state)?, &state)
    }

    /// When the issuer in use ends, and whether it can be renewed here.
    ///
    /// # Errors
    /// What is wrong with its file.
    pub fn issuer_ends(&self, state: &State) -> Result<(u64, bool), String> {
        let issuer = Issuer::read(&self.folder, state.issuing)?;
        let ends = certify::ends(&issuer.chain[0]).map_err(text)?;
        Ok((
            ends,
            state::root_key_path(&self.folder, state.issuing).exists(),
        ))
    }

    pub(super) fn trusted(&self, state: &State) -> Result<Trusted, String> {
        let roots = self.roots(state)?;
        let pem = |root: &X509| {
            root.to_pem()
                .map(|pem| String::from_utf8_lossy(&pem).into_owned())
        };
        let roots: Result<Vec<String>, ErrorStack> = roots.iter().map(pem).collect();
        Ok(Trusted {
            trust_domain: state.trust_domain.clone(),
            roots: roots.map_err(text)?,
            issuing: state
                .root(state.issuing)
                .map(|root| root.hash.clone())
                .unwrap_or_default(),
            sequence: state.sequence,
            refresh_seconds: state.refresh_seconds,
        })
    }
}

pub(super) fn text(error: ErrorStack) -> String {
    error.to_string()
}

/// In the log, the node of certificates that no node asked for.
pub(super) const BY_HAND: &str = "-";
/// In the log, the node of the authority's own certificates.
pub(super) const ITSELF: &str = "ca";
/// The longest life that can be asked for: the log is read back so far.
pub const LONGEST_LIFE: u64 = 90 * 86_400;
