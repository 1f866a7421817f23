//! Signing: leaves by the issuer in use, issuers by their root, and the log that a leaf is in before anyone gets it.
//! It must not decide who gets what; whoever calls has, and holds the lock.
//! Called by `enroll`, `rotation` and the command line.

use std::path::Path;
use std::sync::PoisonError;

use openssl::pkey::{HasPublic, PKey, PKeyRef, Private};
use openssl::x509::X509;
use zeroize::Zeroizing;

use super::authority::{text, Authority, Refusal, BY_HAND, ITSELF};
use super::certify::{self, Signer, Span};
use super::grant::Grant;
use super::ledger::{self, Entry};
use super::state::{self, Issuer, State};
use super::wire::CA_PATH;
use super::{disk, keys, unix_now};
use crate::snapshot::identity::{Bundle, SpiffeId, Trust, TrustDomain};

/// What a certificate is to be.
pub(super) struct Order<'a, T> {
    pub(super) id: &'a str,
    pub(super) key: &'a PKeyRef<T>,
    pub(super) node: &'a str,
    pub(super) life: u64,
}

impl Authority {
    /// A certificate by hand, for whoever brings its key to the workload.
    ///
    /// # Errors
    /// Why there is none.
    pub fn issue(
        &self,
        id: &SpiffeId,
        life: Option<u64>,
    ) -> Result<(String, Zeroizing<Vec<u8>>), String> {
        let _lock = self.lock()?;
        let state = self.state()?;
        let domain = TrustDomain::parse(&state.trust_domain)?;
        Grant::new(&[id.as_str().to_owned()], &domain)?;
        let key = keys::generate().map_err(text)?;
        let life = life.unwrap_or(state.leaf_seconds);
        let order = Order {
            id: id.as_str(),
            key: &*key,
            node: BY_HAND,
            life,
        };
        let chain = self
            .sign(&state, &order, unix_now())
            .map_err(|refusal| refusal.detail)?;
        Ok((chain, keys::to_pem(&key).map_err(text)?))
    }

    /// The chain and key that the API is served with; every root in force follows, so that a node can pin any of them.
    pub(super) fn own_identity(&self) -> Result<(Vec<X509>, PKey<Private>, Trust), String> {
        let _lock = self.lock()?;
        let state = self.state()?;
        let key = keys::generate().map_err(text)?;
        let id = format!("spiffe://{}{CA_PATH}", state.trust_domain);
        let order = Order {
            id: &id,
            key: &*key,
            node: ITSELF,
            life: OWN_LIFE,
        };
        let mut chain = match self.sign(&state, &order, unix_now()) {
            Ok(chain) => X509::stack_from_pem(chain.as_bytes()).map_err(text)?,
            Err(refusal) if refusal.cause == EXPIRED => self.last_resort(&state, &id, &key)?,
            Err(refusal) => return Err(refusal.detail),
        };
        let roots = self.roots(&state)?;
        chain.extend(roots.iter().cloned());
        let domain = TrustDomain::parse(&state.trust_domain)?;
        let mut trust = Trust::default();
        trust.bundles.insert(domain, Bundle::new(roots)?.into());
        Ok((chain, key, trust))
    }

    /// A chain that nobody believes, since its issuer ended: so that who watches the authority is told, and not left without an
    /// answer. It is not in the log.
    fn last_resort(
        &self,
        state: &State,
        id: &str,
        key: &PKey<Private>,
    ) -> Result<Vec<X509>, String> {
        let issuer = Issuer::read(&self.folder, state.issuing)?;
        let now = unix_now();
        let span = Span {
            from: now.saturating_sub(state.skew_seconds),
            until: now + OWN_LIFE,
        };
        let by = Signer {
            cert: &issuer.chain[0],
            key: &issuer.key,
        };
        let leaf = certify::leaf(id, key, by, span).map_err(text)?;
        Ok(std::iter::once(leaf).chain(issuer.chain).collect())
    }

    /// Signs, and logs what was signed before anyone gets it.
    pub(super) fn sign<T: HasPublic>(
        &self,
        state: &State,
        order: &Order<'_, T>,
        now: u64,
    ) -> Result<String, Refusal> {
        let issuer = self.issuer(state, now)?;
        let until = now
            .saturating_add(order.life)
            .min(certify::ends(&issuer.chain[0])?);
        if until <= now {
            return Err(Refusal::new(
                503,
                EXPIRED,
                "the issuer's certificate ended; renew it with the root's key",
            ));
        }
        let span = Span {
            from: now.saturating_sub(state.skew_seconds),
            until,
        };
        let by = Signer {
            cert: &issuer.chain[0],
            key: &issuer.key,
        };
        let leaf = certify::leaf(order.id, order.key, by, span)?;
        let entry = Entry {
            at: now,
            serial: certify::serial(&leaf)?,
            id: order.id.to_owned(),
            node: order.node.to_owned(),
            key: keys::key_hash(order.key)?,
            not_before: span.from,
            not_after: span.until,
            root: state.issuing,
        };
        ledger::append(&self.folder, &entry)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.add(entry.key, &entry.node, entry.not_after, now);
        drop(known);
        let mut chain = leaf.to_pem()?;
        for link in &issuer.chain {
            chain.extend(link.to_pem()?);
        }
        Ok(String::from_utf8_lossy(&chain).into_owned())
    }

    /// The issuer in use, renewed if it is time and the root's key is here.
    fn issuer(&self, state: &State, now: u64) -> Result<Issuer, String> {
        let issuer = Issuer::read(&self.folder, state.issuing)?;
        let ends = certify::ends(&issuer.chain[0]).map_err(text)?;
        let key = state::root_key_path(&self.folder, state.issuing);
        match ends < now + ISSUER_LIFE / 3 && key.exists() {
            true => self.renew_issuer(state, &key),
            false => Ok(issuer),
        }
    }
}

/// A root with its key.
pub(super) struct FreshRoot {
    pub(super) cert: X509,
    pub(super) key: PKey<Private>,
}

impl Authority {
    /// Makes a root and writes it, its key first. Nothing knows of it until the state says so.
    pub(super) fn found_root(
        &self,
        domain: &str,
        number: u32,
        away: Option<&Path>,
    ) -> Result<FreshRoot, String> {
        let now = unix_now();
        let key = keys::generate().map_err(text)?;
        let span = Span {
            from: now.saturating_sub(A_DAY),
            until: now + ROOT_LIFE,
        };
        let cert = certify::root(domain, number, &key, span).map_err(text)?;
        let key_path = match away {
            Some(folder) => {
                disk::folder(folder).map_err(|error| state::told(folder, &error))?;
                folder.join(format!("root-{number}.key"))
            }
            None => state::root_key_path(&self.folder, number),
        };
        let pem = keys::to_pem(&key).map_err(text)?;
        if away.is_some() && key_path.exists() {
            return Err(format!(
                "\"{}\" is there already, and keys are not overwritten",
                key_path.display()
            ));
        }
        disk::write(&key_path, &pem).map_err(|error| state::told(&key_path, &error))?;
        let path = self.folder.join(format!("roots/{number}.pem"));
        disk::write(&path, &cert.to_pem().map_err(text)?)
            .map_err(|error| state::told(&path, &error))?;
        Ok(FreshRoot { cert, key })
    }

    /// Makes an issuer below a root and writes it. `crosses` follow it in every chain.
    pub(super) fn found_issuer(
        &self,
        domain: &str,
        number: u32,
        by: Signer<'_>,
        crosses: Vec<X509>,
    ) -> Result<Issuer, String> {
        let now = unix_now();
        let until = (now + ISSUER_LIFE).min(certify::ends(by.cert).map_err(text)?);
        let span = Span {
            from: now.saturating_sub(A_DAY),
            until,
        };
        let key = keys::generate().map_err(text)?;
        let cert = certify::issuer(domain, number, &key, by, span).map_err(text)?;
        let chain = std::iter::once(cert).chain(crosses).collect();
        let issuer = Issuer { chain, key };
        issuer.write(&self.folder, number)?;
        Ok(issuer)
    }

    /// Replaces the issuer in use. Leaves of the old one stay good: their chains carry it.
    pub(super) fn renew_issuer(&self, state: &State, root_key: &Path) -> Result<Issuer, String> {
        let root = state::root_cert(&self.folder, state.issuing)?;
        let key = state::key_at(root_key)?;
        if !root.public_key().is_ok_and(|public| public.public_eq(&key)) {
            return Err(format!(
                "\"{}\" is not the key of root {}",
                root_key.display(),
                state.issuing
            ));
        }
        let mut crosses = Issuer::read(&self.folder, state.issuing)?
            .chain
            .split_off(1);
        if state.rotation.is_none() {
            // Nobody is left who knows only the old root.
            crosses.clear();
        }
        let by = Signer {
            cert: &root,
            key: &key,
        };
        self.found_issuer(&state.trust_domain, state.issuing, by, crosses)
    }
}

const A_DAY: u64 = 86_400;
const ROOT_LIFE: u64 = 10 * 365 * A_DAY;
const ISSUER_LIFE: u64 = 90 * A_DAY;
const OWN_LIFE: u64 = A_DAY;
pub(super) const EXPIRED: &str = "ca.issuer_expired";
