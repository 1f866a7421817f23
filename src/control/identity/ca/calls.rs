//! Single calls to the authority with what they need around them: fresh keys, tokens, anchors, and a look at what came.
//! It must not know when to call.
//! Used by `ca`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use openssl::stack::Stack;
use openssl::x509::X509;
use zeroize::Zeroizing;

use super::store::{Pair, Store};
use super::{Anchor, CaSettings, Client, Desk, Failure, Trusted};
use crate::ca::wire::{Ask, Join, Sync, MOST_ROOTS};
use crate::ca::{keys, read_bounded};
use crate::control::identity::pace::until_renewal;
use crate::snapshot::identity::{
    forget_errors, verify, Bundle, Identities, Identity, NodeClock, TrustDomain,
};

/// How the authority is called.
pub(super) struct Calls {
    address: String,
    domain: TrustDomain,
    root_hash: String,
    token_file: Option<PathBuf>,
    registry: Arc<Identities>,
}

impl Calls {
    pub(super) fn new(settings: &CaSettings, identity: &Identity) -> Calls {
        Calls {
            address: settings.address.clone(),
            domain: identity.trust_domain.clone(),
            root_hash: settings.root_hash.clone(),
            token_file: settings.token_file.clone(),
            registry: identity.registry.clone(),
        }
    }

    pub(super) fn client(
        &self,
        anchor: Anchor,
        own: Option<(Vec<X509>, openssl::pkey::PKey<openssl::pkey::Private>)>,
    ) -> Client {
        Client {
            address: self.address.clone(),
            domain: self.domain.clone(),
            anchor,
            own,
            clock: Some(self.registry.clone()),
        }
    }

    /// The roots that are known, or the one that is pinned.
    pub(super) fn anchor(&self, trusted: Option<&Trusted>) -> Anchor {
        let bundle = trusted.and_then(|trusted| bundle(trusted, &self.domain).ok());
        bundle.map_or_else(|| self.pin(), |bundle| Anchor::Roots(Arc::new(bundle)))
    }

    /// The hash that is pinned.
    pub(super) fn root_hash(&self) -> &str {
        &self.root_hash
    }

    fn pin(&self) -> Anchor {
        Anchor::Pinned(self.root_hash.clone())
    }

    /// Whether a join could be tried.
    pub(super) fn has_token(&self) -> bool {
        self.token_file.as_ref().is_some_and(|path| path.exists())
    }

    /// Spends the token in the file.
    pub(super) async fn join(
        &self,
        store: &Store,
        trusted: Option<&Trusted>,
    ) -> Result<(Pair, Trusted), Failure> {
        let token = self.token().await?;
        let disk = store.clone();
        let key = off(move || disk.joining_key())
            .await
            .unwrap_or_else(|| Err("it cannot be read".into()));
        let key = key.map_err(Failure::Unreachable)?;
        let hostname = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        let join = Join {
            token: token.to_string(),
            name: hostname,
            request: keys::request(&key)?,
            trusts: hashes(trusted),
        };
        let joined = self.client(self.pin(), None).join(&join).await?;
        let pair = Pair::new(&joined.certificate, key).map_err(Failure::Unreachable)?;
        Ok((pair, joined.bundle))
    }

    async fn token(&self) -> Result<Zeroizing<String>, Failure> {
        let Some(path) = self.token_file.clone() else {
            return Err(Failure::Unreachable(
                "it has no certificate, and `token_file` is not set".into(),
            ));
        };
        let shown = path.display().to_string();
        let read = off(move || read_bounded(&path, LARGEST_TOKEN)).await;
        let content = read
            .unwrap_or_else(|| Err(std::io::ErrorKind::Other.into()))
            .map(Zeroizing::new);
        let content = content.map_err(|error| {
            Failure::Unreachable(format!(
                "it has no certificate, and the token \"{shown}\" cannot be read: {error}"
            ))
        })?;
        let text = std::str::from_utf8(&content)
            .map(str::trim)
            .unwrap_or_default();
        match text.is_empty() {
            true => Err(Failure::Unreachable(format!("\"{shown}\" holds no token"))),
            false => Ok(Zeroizing::new(text.to_owned())),
        }
    }
}

/// A certificate for a fresh key.
pub(super) async fn certificate(client: &Client, id: &str) -> Result<Pair, Failure> {
    let key = keys::generate()?;
    let ask = Ask {
        id: id.to_owned(),
        request: keys::request(&key)?,
    };
    let issued = client.certificate(&ask).await?;
    Pair::new(&issued.certificate, key).map_err(Failure::Unreachable)
}

/// Tells the census what is trusted.
pub(super) async fn sync(client: &Client, trusted: Option<&Trusted>) -> Result<Trusted, Failure> {
    client
        .sync(&Sync {
            trusts: hashes(trusted),
        })
        .await
}

/// Whether peers who trust what this node trusts would believe a certificate.
pub(super) fn judged(pair: &Pair, desk: &Desk) -> Result<(), String> {
    let mut others = Stack::new().map_err(|error| error.to_string())?;
    for link in pair.chain.iter().skip(1) {
        others
            .push(link.clone())
            .map_err(|error| error.to_string())?;
    }
    let trust = desk.identity().registry.trust();
    let Some(leaf) = pair.chain.first() else {
        return Err("the chain is empty".into());
    };
    let judged = verify(leaf, Some(&others), &trust);
    judged.map(drop).map_err(|rejection| {
        format!(
            "the new certificate would be refused: {}: {}",
            rejection.cause.name, rejection.detail
        )
    })
}

/// The roots that an answer holds.
pub(super) fn bundle(trusted: &Trusted, domain: &TrustDomain) -> Result<Bundle, String> {
    if trusted.trust_domain != domain.as_str() {
        return Err(format!(
            "they are of the trust domain \"{}\"",
            trusted.trust_domain
        ));
    }
    if trusted.roots.len() > MOST_ROOTS {
        return Err(format!(
            "there are {}, and {MOST_ROOTS} are the most",
            trusted.roots.len()
        ));
    }
    Bundle::new(roots(trusted))
}

fn roots(trusted: &Trusted) -> Vec<X509> {
    trusted
        .roots
        .iter()
        .filter_map(|pem| X509::from_pem(pem.as_bytes()).ok())
        .collect()
}

pub(super) fn hashes(trusted: Option<&Trusted>) -> Vec<String> {
    trusted
        .map(roots)
        .unwrap_or_default()
        .iter()
        .filter_map(|root| keys::cert_hash(root).ok())
        .collect()
}

/// The hash of the root whose key signed the issuer in a chain.
pub(super) fn root_of(chain: &[X509], trusted: &Trusted) -> Option<String> {
    let issuer = chain.get(1)?;
    let signed = |root: &X509| {
        root.public_key()
            .is_ok_and(|key| issuer.verify(&key).unwrap_or(false))
    };
    let roots = roots(trusted);
    let found = roots.iter().find(|root| signed(root));
    forget_errors();
    found.and_then(|root| keys::cert_hash(root).ok())
}

/// The ID in a certificate of our own.
pub(super) fn id(chain: &[X509]) -> Option<String> {
    let names = chain.first()?.subject_alt_names()?;
    names.iter().find_map(|name| name.uri().map(str::to_owned))
}

/// When the first of a chain ends.
pub(super) fn ends(chain: &[X509]) -> SystemTime {
    let ends = chain.iter().map(|link| crate::ca::ends(link).unwrap_or(0));
    SystemTime::UNIX_EPOCH + Duration::from_secs(ends.min().unwrap_or(0))
}

/// When the last of a chain begins.
pub(super) fn begins(chain: &[X509]) -> SystemTime {
    let begins = chain
        .iter()
        .map(|link| crate::ca::begins(link).unwrap_or(0));
    SystemTime::UNIX_EPOCH + Duration::from_secs(begins.max().unwrap_or(0))
}

/// How long a chain is good, whatever time it is.
pub(super) fn life(chain: &[X509]) -> Duration {
    let life = ends(chain).duration_since(begins(chain));
    life.unwrap_or_default()
}

/// How long until the next one is wanted. A clock that is behind makes it no longer than life is.
pub(super) fn wait(chain: &[X509]) -> Duration {
    let left = ends(chain).duration_since(SystemTime::now());
    until_renewal(left.unwrap_or_default().min(life(chain)))
}

/// What is shown of the node's own certificate.
pub(super) fn clock(chain: &[X509], renew_at: SystemTime) -> NodeClock {
    let seconds = |at: SystemTime| {
        let since = at.duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| {
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        })
    };
    NodeClock {
        id: id(chain).unwrap_or_default(),
        not_before: seconds(begins(chain)),
        not_after: seconds(ends(chain)),
        renew_at: Some(renew_at),
        ..NodeClock::default()
    }
}

/// Runs beside the async threads. `None` if it panicked, which would be a bug.
pub(super) async fn off<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

const LARGEST_TOKEN: u64 = 4096;
