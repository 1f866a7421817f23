//! Certificates from the built-in authority: the node joins once with a token, then renews itself and its workloads.
//! It must not know connections; what it gets goes to the desk, and to disk for the next start.
//! Run by the keeper.

mod calls;
mod due;
mod store;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures_util::future::join_all;

use super::pace::chance;
use super::{Desk, Source};
use crate::ca::client::{Anchor, Client, Failure};
use crate::ca::wire::Trusted;
use crate::snapshot::identity::{CaSettings, Svid, Workload};
use calls::{off, Calls};
use due::Due;
use store::{Pair, Store};

/// The built-in authority.
pub(super) struct Ca {
    settings: CaSettings,
}

impl Ca {
    pub(super) fn new(settings: CaSettings) -> Ca {
        Ca { settings }
    }
}

#[async_trait]
impl Source for Ca {
    async fn run(&self, desk: &Desk) {
        let mut run = Run::begin(&self.settings, desk).await;
        loop {
            run.round(desk).await;
            tokio::time::sleep(run.idle()).await;
        }
    }
}

/// A source at work.
struct Run {
    store: Store,
    calls: Calls,
    /// Kept also while the node joins again: the authority may have been wrong for a moment.
    node: Option<Pair>,
    trusted: Option<Trusted>,
    own: Due,
    /// While a join is wanted.
    joining: Option<Due>,
    sync: Due,
    workloads: Vec<(Arc<Workload>, Due)>,
}

impl Run {
    /// Takes up what the last run left on disk.
    async fn begin(settings: &CaSettings, desk: &Desk) -> Run {
        let identity = desk.identity();
        let store = Store::at(&settings.state);
        let workloads = identity
            .workloads
            .iter()
            .map(|workload| (workload.clone(), Due::now()))
            .collect();
        let calls = Calls::new(settings, identity);
        let mut run = Run {
            store,
            calls,
            node: None,
            trusted: None,
            own: Due::now(),
            joining: None,
            sync: Due::now(),
            workloads,
        };
        run.take_up(desk).await;
        if run.node.is_none() {
            run.joining = Some(Due::now());
        }
        run.hurry();
        run
    }

    /// Believes what is on disk as if it came now. What another authority gave counts for nothing.
    async fn take_up(&mut self, desk: &Desk) {
        let disk = self.store.clone();
        let (trusted, node, pinned) = off(move || (disk.trusted(), disk.node(), disk.pinned()))
            .await
            .unwrap_or_default();
        let domain = &desk.identity().trust_domain;
        let trusted = trusted.filter(|trusted| trusted.trust_domain == domain.as_str());
        let is_same = |pinned: &str| {
            let hash = self.calls.root_hash();
            pinned == hash
                || calls::hashes(trusted.as_ref())
                    .iter()
                    .any(|known| known == hash)
        };
        // Who wrote no hash is of before; its roots may have outlived the pinned one.
        if !pinned.as_deref().is_none_or(is_same) {
            log::warn!("`root_hash` names another authority than the one that the state is from: the node joins anew");
            return;
        }
        if let Some(trusted) = trusted {
            self.believe(trusted, desk);
        }
        if let Some(node) = node {
            self.pin().await;
            self.use_node(node, desk);
        }
        let shelf = Shelf::of(&self.store, self.trusted.as_ref(), desk);
        for (workload, due) in &mut self.workloads {
            let (disk, id) = (self.store.clone(), workload.id.clone());
            let Some(pair) = off(move || disk.workload(&id)).await.flatten() else {
                continue;
            };
            if calls::ends(&pair.chain) <= SystemTime::now() {
                continue;
            }
            if !shelf.take(workload, due, pair) {
                due.unless_held();
            }
        }
    }

    /// Notes by which hash the authority was known.
    async fn pin(&self) {
        let (store, hash) = (self.store.clone(), self.calls.root_hash().to_owned());
        let noted = off(move || match store.pinned() {
            Some(known) if known == hash => Ok(()),
            _ => store.set_pinned(&hash),
        });
        if let Some(Err(problem)) = noted.await {
            log::warn!("a change of `root_hash` will not be noticed: {problem}");
        }
    }

    /// How long nothing is due.
    fn idle(&self) -> Duration {
        let joining = self.joining.iter();
        let known = [&self.own, &self.sync].into_iter();
        let all = known.chain(self.workloads.iter().map(|(_, due)| due));
        let all = all.filter(|_| self.node.is_some());
        let next = joining.chain(all).map(Due::left).min();
        next.unwrap_or_default().clamp(SHORTEST, LONGEST)
    }

    /// Does what is due.
    async fn round(&mut self, desk: &Desk) {
        if self.joining.as_ref().is_some_and(Due::is_due) {
            self.join(desk).await;
        }
        if self.node.is_none() {
            return;
        }
        if self.sync.is_due() {
            self.sync(desk).await;
        }
        if self.own.is_due() {
            self.renew_own(desk).await;
        }
        self.renew_workloads(desk).await;
    }

    /// The first certificate, for a token; or another first one.
    async fn join(&mut self, desk: &Desk) {
        let known = self.trusted.as_ref();
        let (pair, trusted) = match self.calls.join(&self.store, known).await {
            Ok(joined) => joined,
            Err(failure) => return self.no_node(desk, &failure),
        };
        if calls::ends(&pair.chain) <= SystemTime::now() {
            let problem = "the certificate has ended already: this machine's clock is ahead of the authority's";
            return self.no_node(desk, &Failure::Unreachable(problem.into()));
        }
        desk.answered();
        // Roots first: a certificate knows then which of them it chains to. Killed here, the same key may ask again.
        self.take(trusted, desk).await;
        self.pin().await;
        if self.keep_node(pair, desk).await {
            let store = self.store.clone();
            off(move || store.joined()).await;
        }
        self.joining = None;
        // Tells the census at once what is trusted now.
        self.sync = Due::now();
        self.workloads
            .iter_mut()
            .filter(|(_, due)| due.ends.is_none())
            .for_each(|(_, due)| due.after(Duration::ZERO));
    }

    fn no_node(&mut self, desk: &Desk, failure: &Failure) {
        self.joining.get_or_insert_with(Due::now).failed();
        let problem = match self.node.is_some() {
            true => format!("the authority refuses the node, and it cannot join anew: {failure}"),
            false => format!("the node cannot join: {failure}"),
        };
        for (workload, _) in &self.workloads {
            desk.failed(workload, problem.clone());
        }
        desk.unreachable(problem);
    }

    fn client(&self) -> Option<Client> {
        let node = self.node.clone()?;
        Some(self.calls.client(
            self.calls.anchor(self.trusted.as_ref()),
            Some((node.chain, node.key)),
        ))
    }

    /// Says which roots are trusted, and hears which should be.
    async fn sync(&mut self, desk: &Desk) {
        let Some(client) = self.client() else { return };
        match calls::sync(&client, self.trusted.as_ref()).await {
            Ok(trusted) => {
                desk.answered();
                // It knows the node after all.
                self.joining = None;
                let refresh = Duration::from_secs(trusted.refresh_seconds.clamp(1, 3600));
                let is_new = self.trusted.as_ref() != Some(&trusted);
                self.sync.worked(refresh.mul_f64(0.9 + 0.2 * chance()));
                if is_new && self.take(trusted, desk).await {
                    // The census hears of it at once.
                    self.sync.after(Duration::ZERO);
                }
            }
            Err(failure) => {
                self.sync.failed();
                self.refused(desk, &failure);
            }
        }
    }

    async fn renew_own(&mut self, desk: &Desk) {
        let Some(client) = self.client() else { return };
        let Some(id) = self.node.as_ref().and_then(|node| calls::id(&node.chain)) else {
            self.node = None;
            self.joining = Some(Due::now());
            return;
        };
        match calls::certificate(&client, &id).await {
            Ok(pair) => {
                self.keep_node(pair, desk).await;
            }
            Err(failure) => {
                self.own.failed();
                desk.identity().registry.node_failed(failure.to_string());
                self.refused(desk, &failure);
            }
        }
    }

    /// Those whose certificates end first go first, several at a time.
    async fn renew_workloads(&mut self, desk: &Desk) {
        let Some(client) = self.client() else { return };
        let mut due: Vec<_> = self
            .workloads
            .iter_mut()
            .filter(|(_, due)| due.is_due())
            .collect();
        due.sort_by_key(|(_, due)| due.ends);
        due.truncate(AT_ONCE);
        let answers = join_all(due.iter_mut().map(|(workload, due)| {
            let (client, held, id) = (&client, due.held(), workload.id.as_str());
            async move {
                match held {
                    Some(pair) => Ok(pair),
                    None => calls::certificate(client, id).await,
                }
            }
        }))
        .await;
        let shelf = Shelf::of(&self.store, self.trusted.as_ref(), desk);
        let mut worst = None;
        for ((workload, due), answer) in due.into_iter().zip(answers) {
            match answer {
                Ok(pair) => {
                    desk.answered();
                    if let Some(svid) = shelf.judge(workload, due, &pair) {
                        // First, so that a restart finds what was in use.
                        shelf.keep(workload, pair.clone()).await;
                        shelf.put(workload, due, (pair, svid));
                    }
                }
                Err(failure) => {
                    due.failed();
                    desk.failed(workload, failure.to_string());
                    worst = Some(failure);
                }
            }
        }
        if let Some(failure) = worst {
            self.refused(desk, &failure);
        }
    }

    /// An answer that is no certificate. A node that the authority does not know any more joins again, if there is a token; it
    /// keeps what it has until then.
    fn refused(&mut self, desk: &Desk, failure: &Failure) {
        let cause = match failure {
            Failure::Refused { cause, .. } => cause.as_str(),
            Failure::Unreachable(problem) => return desk.unreachable(problem.clone()),
        };
        if !matches!(cause, "ca.node_unknown" | "ca.no_certificate") {
            return desk.answered();
        }
        if self.calls.has_token() {
            // A join that failed has said more.
            if self.joining.get_or_insert_with(Due::later).has_failed() {
                return;
            }
        }
        desk.unreachable(format!("the authority refuses the node: {failure}"));
    }

    fn use_node(&mut self, pair: Pair, desk: &Desk) {
        let wait = calls::wait(&pair.chain);
        self.own.renewed(&pair, self.trusted.as_ref(), wait);
        let clock = calls::clock(&pair.chain, SystemTime::now() + wait);
        desk.identity().registry.set_node(Some(clock));
        self.node = Some(pair);
    }

    /// Puts the node's own certificate into use; says whether a restart will find it.
    async fn keep_node(&mut self, pair: Pair, desk: &Desk) -> bool {
        let (store, kept) = (self.store.clone(), pair.clone());
        self.use_node(pair, desk);
        match off(move || store.set_node(&kept)).await {
            Some(Ok(())) => true,
            Some(Err(problem)) => {
                log::error!("a restart will need another token: {problem}");
                false
            }
            None => false,
        }
    }

    /// Puts roots into force and on disk; says whether they could be believed.
    async fn take(&mut self, trusted: Trusted, desk: &Desk) -> bool {
        let (store, kept) = (self.store.clone(), trusted.clone());
        if !self.believe(trusted, desk) {
            return false;
        }
        if let Some(Err(problem)) = off(move || store.set_trusted(&kept)).await {
            log::error!("a restart will not know the roots: {problem}");
        }
        true
    }

    /// What chains to a root that does not issue any more is renewed early.
    fn hurry(&mut self) {
        let Some(trusted) = &self.trusted else { return };
        let spread = Duration::from_secs(trusted.refresh_seconds.clamp(1, 300));
        let workloads = self.workloads.iter_mut().map(|(_, due)| due);
        for due in workloads.chain([&mut self.own]) {
            due.hurry(&trusted.issuing, spread);
        }
    }

    fn believe(&mut self, trusted: Trusted, desk: &Desk) -> bool {
        let domain = &desk.identity().trust_domain;
        match calls::bundle(&trusted, domain) {
            Ok(bundle) => {
                desk.bundles(HashMap::from([(domain.clone(), Arc::new(bundle))]));
                self.trusted = Some(trusted);
                self.hurry();
                true
            }
            Err(problem) => {
                desk.unreachable(format!("its roots cannot be used: {problem}"));
                false
            }
        }
    }
}

/// Where certificates of workloads are judged, put into use, and kept.
struct Shelf<'a> {
    store: &'a Store,
    trusted: Option<&'a Trusted>,
    desk: &'a Desk,
}

impl<'a> Shelf<'a> {
    fn of(store: &'a Store, trusted: Option<&'a Trusted>, desk: &'a Desk) -> Shelf<'a> {
        Shelf {
            store,
            trusted,
            desk,
        }
    }

    /// A certificate that peers would take; otherwise what is in use stays, and so does what is on disk.
    fn judge(&self, workload: &Workload, due: &mut Due, pair: &Pair) -> Option<Svid> {
        if calls::begins(&pair.chain) > SystemTime::now() {
            let problem = "the new certificate has not begun: this machine's clock is behind the authority's by more than its `--clock-skew`";
            self.desk.failed(workload, problem.into());
            due.hold(pair.clone());
            return None;
        }
        let judged = calls::judged(pair, self.desk)
            .and_then(|()| Svid::new(pair.chain.clone(), pair.key.clone()));
        judged
            .map_err(|problem| {
                self.desk.failed(workload, problem);
                due.failed();
            })
            .ok()
    }

    /// Puts a certificate into use if peers would take it.
    fn take(&self, workload: &Workload, due: &mut Due, pair: Pair) -> bool {
        let judged = self.judge(workload, due, &pair);
        judged.is_some_and(|svid| self.put(workload, due, (pair, svid)))
    }

    /// Puts a certificate into use.
    fn put(&self, workload: &Workload, due: &mut Due, (pair, svid): (Pair, Svid)) -> bool {
        let wait = calls::wait(&pair.chain);
        let renew_at = SystemTime::now() + wait;
        match self.desk.put(workload, svid, Some(renew_at)) {
            Ok(()) => {
                due.renewed(&pair, self.trusted, wait);
                true
            }
            Err(_) => {
                due.failed();
                false
            }
        }
    }

    /// For the next start.
    async fn keep(&self, workload: &Workload, pair: Pair) {
        let (store, id) = (self.store.clone(), workload.id.clone());
        let kept = off(move || store.set_workload(&id, &pair)).await;
        if let Some(Err(problem)) = kept {
            log::warn!("a restart will need the authority: {problem}");
        }
    }
}

/// Calls of one round that run side by side.
const AT_ONCE: usize = 16;
const SHORTEST: Duration = Duration::from_millis(20);
/// The wall clock may jump; what is due is looked at again.
const LONGEST: Duration = Duration::from_secs(30);
