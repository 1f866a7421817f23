//! What a node keeps on disk, so that a restart needs neither a token nor the authority: its own certificate, roots, workloads'.
//! It must not know the API beyond its types; all files are private to their owner.
//! Used by `ca`, off the async threads.

use std::path::{Path, PathBuf};

use openssl::pkey::{PKey, Private};
use openssl::sha::sha256;
use openssl::x509::X509;
use zeroize::Zeroizing;

use crate::ca::wire::Trusted;
use crate::ca::{keys, private_folder, read_bounded, write_private};
use crate::snapshot::identity::SpiffeId;

/// A folder.
#[derive(Debug, Clone)]
pub(super) struct Store(PathBuf);

/// A chain, leaf first, and its key.
#[derive(Clone)]
pub(super) struct Pair {
    pub(super) chain: Vec<X509>,
    pub(super) key: PKey<Private>,
}

impl Pair {
    pub(super) fn new(chain: &str, key: PKey<Private>) -> Result<Pair, String> {
        let chain = X509::stack_from_pem(chain.as_bytes()).unwrap_or_default();
        match chain.first().and_then(|leaf| leaf.public_key().ok()) {
            Some(public) if public.public_eq(&key) => Ok(Pair { chain, key }),
            Some(_) => Err("the authority sent a certificate for another key".into()),
            None => Err("the authority sent no certificate".into()),
        }
    }

    /// Key and chain are one file, so that neither is there without the other.
    fn text(&self) -> Result<Zeroizing<Vec<u8>>, openssl::error::ErrorStack> {
        let mut text = keys::to_pem(&self.key)?;
        for link in &self.chain {
            text.extend(link.to_pem()?);
        }
        Ok(text)
    }
}

impl Store {
    pub(super) fn at(folder: &Path) -> Store {
        Store(folder.to_owned())
    }

    /// The node's own certificate.
    pub(super) fn node(&self) -> Option<Pair> {
        pair(&self.0.join(NODE))
    }

    pub(super) fn set_node(&self, pair: &Pair) -> Result<(), String> {
        self.put(NODE, pair)
    }

    /// A workload's certificate.
    pub(super) fn workload(&self, id: &SpiffeId) -> Option<Pair> {
        pair(&self.0.join(name(id)))
    }

    pub(super) fn set_workload(&self, id: &SpiffeId, pair: &Pair) -> Result<(), String> {
        self.put(&name(id), pair)
    }

    /// Whom to trust, as last heard.
    pub(super) fn trusted(&self) -> Option<Trusted> {
        let content = read_bounded(&self.0.join(TRUSTED), LARGEST).ok()?;
        serde_json::from_slice(&content).ok()
    }

    pub(super) fn set_trusted(&self, trusted: &Trusted) -> Result<(), String> {
        let path = self.0.join(TRUSTED);
        let content = serde_json::to_vec_pretty(trusted).map_err(|error| error.to_string())?;
        self.write(&path, &content)
    }

    /// The hash of the root by which the authority was pinned when all of this came from it.
    pub(super) fn pinned(&self) -> Option<String> {
        let content = read_bounded(&self.0.join(PINNED), LARGEST).ok()?;
        String::from_utf8(content).ok()
    }

    pub(super) fn set_pinned(&self, hash: &str) -> Result<(), String> {
        self.write(&self.0.join(PINNED), hash.as_bytes())
    }

    /// The key to join with: the same one until it worked, since the authority lets only that one ask again.
    pub(super) fn joining_key(&self) -> Result<PKey<Private>, String> {
        let path = self.0.join(JOINING);
        let known = read_bounded(&path, LARGEST).map(Zeroizing::new);
        if let Some(key) = known
            .ok()
            .and_then(|pem| PKey::private_key_from_pem(&pem).ok())
        {
            return Ok(key);
        }
        let key = keys::generate().map_err(|error| error.to_string())?;
        let pem = keys::to_pem(&key).map_err(|error| error.to_string())?;
        self.write(&path, &pem)?;
        Ok(key)
    }

    /// The next join is another's.
    pub(super) fn joined(&self) {
        // One that stays is only used for a token that is spent.
        let _ = std::fs::remove_file(self.0.join(JOINING));
    }

    fn put(&self, name: &str, pair: &Pair) -> Result<(), String> {
        let text = pair.text().map_err(|error| error.to_string())?;
        self.write(&self.0.join(name), &text)
    }

    fn write(&self, path: &Path, content: &[u8]) -> Result<(), String> {
        let written = private_folder(&self.0).and_then(|()| write_private(path, content));
        written.map_err(|error| format!("\"{}\" cannot be written: {error}", path.display()))
    }
}

fn pair(path: &Path) -> Option<Pair> {
    let content = Zeroizing::new(read_bounded(path, LARGEST).ok()?);
    let key = PKey::private_key_from_pem(&content).ok()?;
    let chain = X509::stack_from_pem(&content).ok()?;
    let public = chain.first()?.public_key().ok()?;
    public.public_eq(&key).then_some(Pair { chain, key })
}

/// IDs may be longer than names of files.
fn name(id: &SpiffeId) -> String {
    let hash = sha256(id.as_str().as_bytes());
    let short: String = hash[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("workload-{short}.pem")
}

const NODE: &str = "node.pem";
const TRUSTED: &str = "roots.json";
const PINNED: &str = "pinned";
const JOINING: &str = "joining.key";
const LARGEST: u64 = 1 << 20;
