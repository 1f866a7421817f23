//! Certificates from the built-in authority: the node joins once with a token, then renews itself and its workloads.
//! It must not know connections; what it gets goes to the desk, and to disk for the next start.
//! Run by the keeper.

mod calls;
mod store;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use futures_util::future::join_all;

use super::pace::{chance, until_renewal, Backoff};
use super::{Desk, Source};
use crate::ca::client::{Anchor, Client, Failure};
use crate::ca::wire::Trusted;
use crate::snapshot::identity::{CaSettings, Svid, Workload};
use calls::{off, Calls};
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

/// Something that is due at a time.
struct Due {
    at: Instant,
    backoff: Backoff,
    /// When what there is ends.
    ends: Option<SystemTime>,
    /// The hash of the root that it chains to.
    root: Option<String>,
}

impl Due {
    fn now() -> Due {
        Due {
            at: Instant::now(),
            backoff: Backoff::default(),
            ends: None,
            root: None,
        }
    }

    fn is_due(&self) -> bool {
        self.at <= Instant::now()
    }

    /// A certificate came: the next one is wanted at half of its life.
    fn renewed(&mut self, pair: &Pair, trusted: Option<&Trusted>) -> SystemTime {
        let ends = calls::ends(&pair.chain);
        let wait = until_renewal(ends.duration_since(SystemTime::now()).unwrap_or_default());
        self.at = Instant::now() + wait;
        self.backoff.reset();
        self.ends = Some(ends);
        self.root = trusted.and_then(|trusted| calls::root_of(&pair.chain, trusted));
        SystemTime::now() + wait
    }

    /// None came.
    fn failed(&mut self) {
        let left = self
            .ends
            .map(|ends| ends.duration_since(SystemTime::now()).unwrap_or_default());
        self.at = Instant::now() + self.backoff.next(left);
    }

    /// Another root issues: the next one is wanted soon, but not from all at once.
    fn hurry(&mut self, issuing: &str, spread: Duration) {
        if self.ends.is_some() && self.root.as_deref() != Some(issuing) {
            self.at = self.at.min(Instant::now() + spread.mul_f64(chance()));
        }
    }
}

/// A source at work.
struct Run {
    store: Store,
    calls: Calls,
    node: Option<Pair>,
    trusted: Option<Trusted>,
    own: Due,
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
        let calls = Calls::new(settings, &identity.trust_domain);
        let mut run = Run {
            store,
            calls,
            node: None,
            trusted: None,
            own: Due::now(),
            sync: Due::now(),
            workloads,
        };
        let disk = run.store.clone();
        let (trusted, node) = off(move || (disk.trusted(), disk.node()))
            .await
            .unwrap_or_default();
        if let Some(trusted) =
            trusted.filter(|trusted| trusted.trust_domain == identity.trust_domain.as_str())
        {
            run.believe(trusted, desk);
        }
        let lives = |pair: &Pair| calls::ends(&pair.chain) > SystemTime::now();
        if let Some(node) = node.filter(lives) {
            run.own.renewed(&node, run.trusted.as_ref());
            run.node = Some(node);
        }
        for (workload, due) in &mut run.workloads {
            let (disk, id) = (run.store.clone(), workload.id.clone());
            let Some(pair) = off(move || disk.workload(&id))
                .await
                .flatten()
                .filter(lives)
            else {
                continue;
            };
            let renew_at = due.renewed(&pair, run.trusted.as_ref());
            // One that does not fit is replaced at once.
            if Svid::new(pair.chain, pair.key)
                .and_then(|svid| desk.put(workload, svid, Some(renew_at)))
                .is_err()
            {
                *due = Due::now();
            }
        }
        run.hurry();
        run
    }

    /// How long nothing is due.
    fn idle(&self) -> Duration {
        let node = [&self.own, &self.sync].map(|due| due.at);
        let all = self
            .workloads
            .iter()
            .map(|(_, due)| due.at)
            .filter(|_| self.node.is_some());
        let own = if self.node.is_some() {
            node.into_iter().min()
        } else {
            Some(self.own.at)
        };
        let next = all.chain(own).min().unwrap_or_else(Instant::now);
        next.saturating_duration_since(Instant::now())
            .clamp(SHORTEST, LONGEST)
    }

    /// Does what is due.
    async fn round(&mut self, desk: &Desk) {
        if self
            .node
            .as_ref()
            .is_some_and(|node| calls::ends(&node.chain) <= SystemTime::now())
        {
            self.node = None;
        }
        if self.node.is_none() {
            if self.own.is_due() {
                self.join(desk).await;
            }
            if self.node.is_none() {
                return;
            }
        }
        if self.sync.is_due() {
            self.sync(desk).await;
        }
        if self.own.is_due() {
            self.renew_own(desk).await;
        }
        self.renew_workloads(desk).await;
    }

    /// The first certificate, for a token.
    async fn join(&mut self, desk: &Desk) {
        let joined = match self.calls.join(&self.store, self.trusted.as_ref()).await {
            Ok(joined) => joined,
            Err(failure) => {
                self.own.failed();
                return self.no_node(desk, &failure);
            }
        };
        let (pair, trusted) = joined;
        if calls::ends(&pair.chain) <= SystemTime::now() {
            self.own.failed();
            let problem = "the certificate has ended already: this machine's clock is ahead of the authority's";
            return self.no_node(desk, &Failure::Unreachable(problem.into()));
        }
        desk.answered();
        // Roots first: a certificate knows then which of them it chains to. Killed here, the same key may ask again.
        self.take(trusted, desk).await;
        self.keep_node(pair).await;
        let store = self.store.clone();
        off(move || store.joined()).await;
        // Tells the census at once what is trusted now.
        self.sync = Due::now();
        self.workloads
            .iter_mut()
            .filter(|(_, due)| due.ends.is_none())
            .for_each(|(_, due)| *due = Due::now());
    }

    fn no_node(&self, desk: &Desk, failure: &Failure) {
        let problem = format!("the node cannot join: {failure}");
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
                let refresh = Duration::from_secs(trusted.refresh_seconds.clamp(1, 3600));
                self.sync.backoff.reset();
                let is_new = self.trusted.as_ref() != Some(&trusted);
                self.sync.at = Instant::now() + refresh.mul_f64(0.9 + 0.2 * chance());
                if is_new && self.take(trusted, desk).await {
                    // The census hears of it at once.
                    self.sync.at = Instant::now();
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
            return;
        };
        match calls::certificate(&client, &id).await {
            Ok(pair) => self.keep_node(pair).await,
            Err(failure) => {
                self.own.failed();
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
        let answers = join_all(
            due.iter()
                .map(|(workload, _)| calls::certificate(&client, workload.id.as_str())),
        )
        .await;
        let mut worst = None;
        for ((workload, due), answer) in due.into_iter().zip(answers) {
            match answer {
                Ok(pair) => {
                    let renew_at = due.renewed(&pair, self.trusted.as_ref());
                    let (store, id, kept) = (self.store.clone(), workload.id.clone(), pair.clone());
                    let kept = off(move || store.set_workload(&id, &kept)).await;
                    if let Some(Err(problem)) = kept {
                        log::warn!("a restart will need the authority: {problem}");
                    }
                    desk.answered();
                    let judged =
                        calls::judged(&pair, desk).and_then(|()| Svid::new(pair.chain, pair.key));
                    let put = match judged {
                        Ok(svid) => desk.put(workload, svid, Some(renew_at)),
                        Err(problem) => {
                            desk.failed(workload, problem.clone());
                            Err(problem)
                        }
                    };
                    if put.is_err() {
                        due.failed();
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

    /// An answer that is no certificate. A node that the authority does not know any more joins again, if there is a token.
    fn refused(&mut self, desk: &Desk, failure: &Failure) {
        match failure {
            Failure::Refused { cause, .. } => {
                desk.answered();
                if matches!(cause.as_str(), "ca.node_unknown" | "ca.no_certificate")
                    && self.calls.has_token()
                {
                    self.node = None;
                    self.own.at = self
                        .own
                        .at
                        .min(Instant::now() + self.own.backoff.next(None));
                }
            }
            Failure::Unreachable(problem) => desk.unreachable(problem.clone()),
        }
    }

    async fn keep_node(&mut self, pair: Pair) {
        self.own.renewed(&pair, self.trusted.as_ref());
        let (store, kept) = (self.store.clone(), pair.clone());
        if let Some(Err(problem)) = off(move || store.set_node(&kept)).await {
            log::error!("a restart will need another token: {problem}");
        }
        self.node = Some(pair);
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

/// Calls of one round that run side by side.
const AT_ONCE: usize = 16;
const SHORTEST: Duration = Duration::from_millis(20);
/// The wall clock may jump; what is due is looked at again.
const LONGEST: Duration = Duration::from_secs(30);
