//! What nodes ask for: to be let in for a token, certificates they joined for, and which roots to trust.
//! It must not know HTTP, nor how certificates are made.
//! Called by the server; the lock is held from the first look to the last write.

use std::sync::PoisonError;

use super::authority::{Authority, Refusal};
use super::nodes::{self, Node};
use super::sign::Order;
use super::state::State;
use super::token::{self, Token, Used};
use super::wire::{Ask, Issued, Join, Joined, Trusted, NODE_PREFIX};
use super::{keys, unix_now};
use crate::snapshot::identity::SpiffeId;

impl Authority {
    /// Lets a node in: spends the token, notes the node, and certifies it. Done again with the same key, it does the same.
    ///
    /// # Errors
    /// Why it is not let in.
    pub fn join(&self, join: &Join) -> Result<Joined, Refusal> {
        let key = keys::proven(&join.request)
            .map_err(|fact| Refusal::new(400, "ca.bad_request", fact))?;
        let key_hash = keys::key_hash(&key)?;
        let _lock = self.lock()?;
        let state = self.state()?;
        let now = unix_now();
        let hash = token::hash(&join.token);
        let token = self.spend(&hash, &key_hash, &state, now)?;
        let id = &token
            .used
            .as_ref()
            .map(|used| used.node.clone())
            .unwrap_or_default();
        let key_name = SpiffeId::parse(id)
            .ok()
            .and_then(|id| nodes::key(&id).map(str::to_owned));
        let key_name =
            key_name.ok_or_else(|| Refusal::from("the token names no node".to_owned()))?;
        let name = bounded_name(&join.name);
        let mut node = nodes::read(&self.folder, &key_name)?.unwrap_or(Node {
            id: id.clone(),
            name,
            grant: token.grant,
            token: hash,
            joined: now,
            ends: 0,
            trusts: known_roots(&join.trusts, &state),
            seen: now,
        });
        node.ends = node.ends.max(now + state.node_seconds);
        nodes::write(&self.folder, &key_name, &node)?;
        let order = Order {
            id,
            key: &*key,
            node: id,
            life: state.node_seconds,
        };
        let chain = self.sign(&state, &order, now)?;
        Ok(Joined {
            node: id.clone(),
            certificate: chain,
            bundle: self.trusted(&state)?,
        })
    }

    /// Marks a token used, on the disk, before anything is given for it.
    fn spend(&self, hash: &str, key: &str, state: &State, now: u64) -> Result<Token, Refusal> {
        let Some(mut token) = token::read(&self.folder, hash)? else {
            return Err(Refusal::new(
                403,
                "ca.token_unknown",
                "no such token was made here, or it expired long ago",
            ));
        };
        if now >= token.expires {
            return Err(Refusal::new(
                403,
                "ca.token_expired",
                format!("the token expired {} s ago", now - token.expires),
            ));
        }
        match &token.used {
            Some(used) if used.key != key => {
                let ago = now.saturating_sub(used.at);
                Err(Refusal::new(
                    403,
                    "ca.token_used",
                    format!("the token was used {ago} s ago by another node"),
                ))
            }
            // The answer was lost on its way: only who holds that key can ask again.
            Some(_) => Ok(token),
            None => {
                let node = format!(
                    "spiffe://{}{NODE_PREFIX}{}",
                    state.trust_domain,
                    keys::random_hex::<16>()?
                );
                token.used = Some(Used {
                    at: now,
                    key: key.to_owned(),
                    node,
                });
                token::write(&self.folder, hash, &token)?;
                Ok(token)
            }
        }
    }

    /// A certificate for a node: its own, or of a workload it joined for.
    ///
    /// # Errors
    /// Why there is none.
    pub fn certificate(&self, peer: &SpiffeId, ask: &Ask) -> Result<Issued, Refusal> {
        let id =
            SpiffeId::parse(&ask.id).map_err(|fact| Refusal::new(400, "ca.bad_request", fact))?;
        let key =
            keys::proven(&ask.request).map_err(|fact| Refusal::new(400, "ca.bad_request", fact))?;
        let key_hash = keys::key_hash(&key)?;
        let _lock = self.lock()?;
        let (name, mut node) = self.node(peer)?;
        let state = self.state()?;
        let now = unix_now();
        let is_own = id == *peer;
        if !is_own && (id.domain() != state.trust_domain || !node.grant.covers(&id)) {
            let detail = format!("this node joined for {} and not for {id}", node.grant);
            return Err(Refusal::new(403, "ca.not_granted", detail));
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.check(&key_hash, peer.as_str(), now)?;
        drop(known);
        let life = if is_own {
            state.node_seconds
        } else {
            state.leaf_seconds
        };
        if is_own {
            node.ends = node.ends.max(now + life);
            nodes::write(&self.folder, &name, &node)?;
        }
        let order = Order {
            id: id.as_str(),
            key: &*key,
            node: peer.as_str(),
            life,
        };
        Ok(Issued {
            certificate: self.sign(&state, &order, now)?,
        })
    }

    /// Notes which roots a node trusts, and tells which it should.
    ///
    /// # Errors
    /// Why it is not heard.
    pub fn sync(&self, peer: &SpiffeId, trusts: &[String]) -> Result<Trusted, Refusal> {
        let _lock = self.lock()?;
        let (name, mut node) = self.node(peer)?;
        let state = self.state()?;
        let now = unix_now();
        let trusts = known_roots(trusts, &state);
        if trusts != node.trusts || now.saturating_sub(node.seen) >= SEEN_STEP {
            node.trusts = trusts;
            node.seen = now;
            nodes::write(&self.folder, &name, &node)?;
        }
        Ok(self.trusted(&state)?)
    }

    /// Whether a caller is a node that joined here.
    ///
    /// # Errors
    /// That it is not.
    pub(super) fn is_node(&self, peer: &SpiffeId) -> Result<(), Refusal> {
        self.node(peer).map(drop)
    }

    fn node(&self, peer: &SpiffeId) -> Result<(String, Node), Refusal> {
        let unknown = || {
            Refusal::new(
                403,
                "ca.node_unknown",
                format!("{peer} did not join here, or was forgotten"),
            )
        };
        let name = nodes::key(peer).ok_or_else(unknown)?;
        let node = nodes::read(&self.folder, name)?.ok_or_else(unknown)?;
        match node.id == peer.as_str() {
            true => Ok((name.to_owned(), node)),
            false => Err(unknown()),
        }
    }
}

/// Of what a node says it trusts, the roots that are in force.
fn known_roots(trusts: &[String], state: &State) -> Vec<String> {
    let roots = state.roots.iter().map(|root| &root.hash);
    roots
        .filter(|hash| trusts.contains(hash))
        .cloned()
        .collect()
}

/// A stranger's name for itself: printable, and short.
fn bounded_name(name: &str) -> String {
    let kept = |c: &char| c.is_ascii_alphanumeric() || ".-_".contains(*c);
    let name: String = name.chars().filter(kept).take(64).collect();
    if name.is_empty() {
        "unnamed".into()
    } else {
        name
    }
}

/// How fine the census tells when a node was last seen, in seconds: each step is a write.
const SEEN_STEP: u64 = 30;
