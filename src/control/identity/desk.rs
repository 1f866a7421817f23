//! Where sources hand in what they got: checked, put into use, counted and reported.
//! It must not know any source.
//! Made by the keeper for each source it runs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::alarm::unix_now;
use crate::observe::metrics::Metrics;
use crate::snapshot::identity::{Bundle, Identity, Svid, TrustDomain, Workload};

/// Takes what a source got.
pub(crate) struct Desk {
    identity: Arc<Identity>,
    metrics: Arc<Metrics>,
}

impl Desk {
    pub(super) fn new(identity: Arc<Identity>, metrics: Arc<Metrics>) -> Desk {
        Desk { identity, metrics }
    }

    /// Counters, for another desk.
    pub(super) fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// Whom certificates are wanted for.
    pub(crate) fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// A certificate for a workload, and when its source means to renew it. One that is in use already changes nothing; one that
    /// has ended or is not good yet does not replace one that is good.
    ///
    /// # Errors
    /// Why it is not put into use; that is noted already.
    pub(crate) fn put(
        &self,
        workload: &Workload,
        svid: Svid,
        renew_at: Option<SystemTime>,
    ) -> Result<(), String> {
        let name = &workload.name;
        if svid.id != workload.id {
            let error = format!(
                "the certificate is of \"{}\", not of \"{}\"",
                svid.id, workload.id
            );
            self.failed(workload, error.clone());
            return Err(error);
        }
        let before = workload.held.svid();
        let before = before.as_deref();
        if before.is_some_and(|before| before.fingerprint == svid.fingerprint) {
            workload.held.is_well();
            if let Some(at) = renew_at {
                workload.held.renew_at(at);
            }
            return Ok(());
        }
        let now = unix_now();
        if let Some(error) =
            flaw(&svid, now).filter(|_| before.is_some_and(|one| flaw(one, now).is_none()))
        {
            self.failed(workload, error.clone());
            return Err(error);
        }
        self.metrics.identity().expiry(name, svid.not_after);
        self.metrics.identity().renewal(name, true);
        let (id, serial) = (&svid.id, &svid.serial);
        log::info!(
            "certificate in use: workload={name} id={id} serial={serial} not_after={}",
            svid.not_after
        );
        workload.held.put(Arc::new(svid), renew_at);
        Ok(())
    }

    /// Every certificate there is, as the Workload API sends them: workloads without one have none any more.
    pub(crate) fn complete(&self, svids: Vec<Svid>) {
        let mut by_id: HashMap<_, Svid> = svids
            .into_iter()
            .rev()
            .map(|svid| (svid.id.clone(), svid))
            .collect();
        for workload in &self.identity.workloads {
            match by_id.remove(&workload.id) {
                Some(svid) => drop(self.put(workload, svid, None)),
                None => self.withdraw(workload),
            }
        }
    }

    /// The source says that a workload has no certificate any more.
    pub(crate) fn withdraw(&self, workload: &Workload) {
        if workload.held.svid().is_some() {
            log::warn!(
                "certificate withdrawn by its source: workload={} id={}",
                workload.name,
                workload.id
            );
        }
        workload.held.withdraw();
        self.failed(workload, "the source has no certificate for it".into());
        self.metrics.identity().expiry(&workload.name, 0);
    }

    /// No certificate came for a workload; the one in use stays. The same failure is said once.
    pub(crate) fn failed(&self, workload: &Workload, error: String) {
        let name = &workload.name;
        if workload.held.clock().error.as_ref() != Some(&error) {
            log::error!("certificate stays as it was: workload={name} cause={error}");
        }
        self.metrics.identity().renewal(name, false);
        workload.held.failed(error);
    }

    /// All roots that the source knows, the own trust domain's among them.
    pub(crate) fn bundles(&self, bundles: HashMap<TrustDomain, Arc<Bundle>>) {
        let before = self.identity.registry.trust().generation;
        self.identity.registry.set_source_bundles(bundles);
        let after = self.identity.registry.trust().generation;
        if after != before {
            log::info!(
                "roots in use: generation={after} source={}",
                self.identity.source.kind()
            );
        }
    }

    /// The source answers.
    pub(crate) fn answered(&self) {
        self.metrics.identity().source(true);
        self.identity
            .registry
            .source_answered(self.identity.source.kind());
    }

    /// The source does not answer, or with something that cannot be used. The same failure is said once.
    pub(crate) fn unreachable(&self, error: String) {
        let registry = &self.identity.registry;
        let kind = self.identity.source.kind();
        if registry.source().error.as_ref() != Some(&error) {
            log::error!("identity source fails, what is in use stays: source={kind} cause={error}");
        }
        self.metrics.identity().source(false);
        registry.source_failed(kind, error);
    }
}

/// Why a certificate proves nothing at this time.
fn flaw(svid: &Svid, now: i64) -> Option<String> {
    let serial = &svid.serial;
    if svid.not_after <= now {
        return Some(format!(
            "the certificate that came has ended: serial={serial}"
        ));
    }
    let early = svid.not_before - now;
    (early > SKEW).then(|| {
        format!("the certificate that came is good in {early} seconds only: serial={serial}")
    })
}

/// Clocks of nodes may differ by this much.
const SKEW: i64 = 300;
