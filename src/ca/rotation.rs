//! A change of roots in phases: the new one is trusted, then it issues, then the old one is dropped. Gates decide, not hope.
//! It must not sign leaves; it moves the state from phase to phase under the lock.
//! Called by `windrose ca rotate`.

use std::collections::HashSet;
use std::path::Path;

use openssl::pkey::{PKey, Private};

use super::authority::{text, Authority, BY_HAND};
use super::certify::{self, Signer, Span};
use super::ledger::{self, Entry};
use super::nodes::Node;
use super::state::{self, Issuer, Root, Rotation, State};
use super::wire::MOST_ROOTS;
use super::{disk, keys, unix_now};

impl Authority {
    /// The first phase: a new root, which nodes begin to trust. The old root's key signs a cross for it.
    ///
    /// # Errors
    /// Why it cannot begin.
    pub fn begin_rotation(
        &self,
        root_key: Option<&Path>,
        offline_root: Option<&Path>,
    ) -> Result<Root, String> {
        let _lock = self.lock()?;
        let mut state = self.state()?;
        if let Some(rotation) = &state.rotation {
            return Err(format!(
                "a change to root {} is under way; finish or abort it first",
                rotation.to
            ));
        }
        if state.roots.len() >= MOST_ROOTS {
            return Err(format!(
                "{MOST_ROOTS} roots are in force, which is the most"
            ));
        }
        self.tidy(&state)?;
        let old_cert = state::root_cert(&self.folder, state.issuing)?;
        let old_key = self.root_key(&state, root_key)?;
        let number = 1 + state
            .roots
            .iter()
            .map(|root| root.number)
            .max()
            .unwrap_or(0);
        let domain = state.trust_domain.clone();
        let new = self.found_root(&domain, number, offline_root)?;
        let now = unix_now();
        let span = Span {
            from: now.saturating_sub(A_DAY),
            until: certify::ends(&old_cert).map_err(text)?,
        };
        let by = Signer {
            cert: &old_cert,
            key: &old_key,
        };
        let cross = certify::cross(&new.cert, &domain, by, span).map_err(text)?;
        self.found_issuer(
            &domain,
            number,
            Signer {
                cert: &new.cert,
                key: &new.key,
            },
            vec![cross],
        )?;
        let root = Root {
            number,
            hash: keys::cert_hash(&new.cert).map_err(text)?,
            since: now,
        };
        state.roots.push(root.clone());
        state.sequence += 1;
        state.rotation = Some(Rotation {
            to: number,
            began: now,
            switched: None,
        });
        state.write(&self.folder)?;
        Ok(root)
    }

    /// Nodes that do not trust the new root yet; those whose certificates ended are gone and do not count.
    ///
    /// # Errors
    /// What is wrong with the files, or that no change is under way.
    pub fn stragglers(&self, state: &State) -> Result<Vec<Node>, String> {
        let rotation = state.rotation.as_ref().ok_or(NOT_UNDER_WAY)?;
        let hash = &state
            .root(rotation.to)
            .ok_or("the new root is not listed")?
            .hash;
        let now = unix_now();
        let mut nodes = self.nodes()?;
        nodes.retain(|node| node.ends > now && !node.trusts.contains(hash));
        Ok(nodes)
    }

    /// The second phase: the new root issues. Only when every node trusts it.
    ///
    /// # Errors
    /// Why not yet.
    pub fn switch_rotation(&self) -> Result<(), String> {
        let _lock = self.lock()?;
        let mut state = self.state()?;
        let stragglers = self.stragglers(&state)?;
        let now = unix_now();
        if let Some(rotation) = state
            .rotation
            .as_ref()
            .filter(|rotation| rotation.switched.is_some())
        {
            return Err(format!(
                "root {} issues already; `windrose ca rotate finish` is next",
                rotation.to
            ));
        }
        if !stragglers.is_empty() {
            let told = |node: &Node| {
                format!(
                    "\n  {}: seen {} s ago; {}",
                    node.shown(),
                    now.saturating_sub(node.seen),
                    node.grant
                )
            };
            let list: String = stragglers.iter().take(MOST_SHOWN).map(told).collect();
            let count = stragglers.len();
            return Err(format!("{count} of the nodes do not trust the new root yet:{list}\n  help: wait until they ask again, or `windrose ca forget NODE` for those that are gone"));
        }
        let Some(rotation) = &mut state.rotation else {
            return Err(NOT_UNDER_WAY.to_owned());
        };
        rotation.switched = Some(now);
        state.issuing = rotation.to;
        state.sequence += 1;
        state.write(&self.folder)
    }

    /// Leaves in use that only the old roots vouch for.
    ///
    /// # Errors
    /// What is wrong with the log.
    pub fn leaves_of_old(&self, state: &State) -> Result<Vec<Entry>, String> {
        let valid = self.valid()?;
        let known: HashSet<String> = self.nodes()?.into_iter().map(|node| node.id).collect();
        // The server takes a new one by itself, and a node that was forgotten is meant to lose its own.
        let counts = |entry: &&Entry| {
            entry.root != state.issuing && (entry.node == BY_HAND || known.contains(&entry.node))
        };
        Ok(ledger::newest(&valid)
            .into_iter()
            .filter(counts)
            .cloned()
            .collect())
    }

    /// The last phase: old roots are dropped. Only when no leaf in use chains to them.
    ///
    /// # Errors
    /// Why not yet.
    pub fn finish_rotation(&self) -> Result<(), String> {
        let _lock = self.lock()?;
        let mut state = self.state()?;
        let rotation = state.rotation.clone().ok_or(NOT_UNDER_WAY)?;
        if rotation.switched.is_none() {
            return Err(
                "the new root does not issue yet; `windrose ca rotate switch` comes first"
                    .to_owned(),
            );
        }
        let old = self.leaves_of_old(&state)?;
        if let Some(last) = old.last() {
            let now = unix_now();
            let told = |entry: &Entry| {
                format!(
                    "\n  {}: ends in {} s",
                    entry.id,
                    entry.not_after.saturating_sub(now)
                )
            };
            let list: String = old.iter().rev().take(MOST_SHOWN).map(told).collect();
            let (count, wait) = (old.len(), last.not_after.saturating_sub(now));
            return Err(format!("{count} certificates in use chain to the old root:{list}\n  help: nodes renew by themselves soon after the switch, and those by hand are to be issued anew and the old ones wait for their end; at the latest in {wait} s none is left"));
        }
        state.roots.retain(|root| root.number == rotation.to);
        state.sequence += 1;
        state.rotation = None;
        state.write(&self.folder)?;
        // From here on it happened; what follows is tidying, which the next change does again if it is cut short.
        self.tidy(&state)
    }

    /// Goes back, as long as the new root has issued nothing.
    ///
    /// # Errors
    /// Why it is too late.
    pub fn abort_rotation(&self) -> Result<(), String> {
        let _lock = self.lock()?;
        let mut state = self.state()?;
        let rotation = state.rotation.clone().ok_or(NOT_UNDER_WAY)?;
        if rotation.switched.is_some() {
            return Err(
                "the new root issues already: finish this change and begin another".to_owned(),
            );
        }
        state.roots.retain(|root| root.number != rotation.to);
        state.sequence += 1;
        state.rotation = None;
        state.write(&self.folder)?;
        self.tidy(&state)
    }

    /// Makes a new issuer of the root in use, where the root's key is not at hand all the time.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn renew_issuer_with(&self, root_key: Option<&Path>) -> Result<u64, String> {
        let _lock = self.lock()?;
        let state = self.state()?;
        let path = state::root_key_path(&self.folder, state.issuing);
        let issuer = self.renew_issuer(&state, root_key.unwrap_or(&path))?;
        certify::ends(&issuer.chain[0]).map_err(text)
    }

    fn root_key(&self, state: &State, given: Option<&Path>) -> Result<PKey<Private>, String> {
        let path = state::root_key_path(&self.folder, state.issuing);
        if given.is_none() && !path.exists() {
            return Err(format!(
                "the key of root {} is not here\n  help: bring it back for a moment and name it with `--root-key FILE`",
                state.issuing
            ));
        }
        let path = given.unwrap_or(&path);
        let key = state::key_at(path)?;
        let root = state::root_cert(&self.folder, state.issuing)?;
        match root.public_key().is_ok_and(|public| public.public_eq(&key)) {
            true => Ok(key),
            false => Err(format!(
                "\"{}\" is not the key of root {}",
                path.display(),
                state.issuing
            )),
        }
    }

    /// Keys of roots that are not in force go; the certificate of one that was stays, for who wants to know. Where no change is
    /// under way, nobody needs a cross any more.
    fn tidy(&self, state: &State) -> Result<(), String> {
        if state.rotation.is_none() {
            let mut issuer = Issuer::read(&self.folder, state.issuing)?;
            if issuer.chain.len() > 1 {
                issuer.chain.truncate(1);
                issuer.write(&self.folder, state.issuing)?;
            }
        }
        let last = state
            .roots
            .iter()
            .map(|root| root.number)
            .max()
            .unwrap_or(0)
            + 1;
        for number in (1..=last).filter(|number| state.root(*number).is_none()) {
            let key = state::root_key_path(&self.folder, number);
            for path in [key, Issuer::path(&self.folder, number)] {
                disk::remove(&path).map_err(|error| state::told(&path, &error))?;
            }
        }
        Ok(())
    }
}

const NOT_UNDER_WAY: &str =
    "no change of roots is under way; `windrose ca rotate begin` begins one";
const MOST_SHOWN: usize = 20;
const A_DAY: u64 = 86_400;
