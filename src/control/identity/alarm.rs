//! The clock on the wall: warns long before a certificate or a root ends, and says when it has.
//! It must not renew anything; sources do.
//! Run by the keeper beside the source.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::observe::metrics::Metrics;
use crate::snapshot::identity::{Identity, Svid, Workload};

/// How urgent it is; later ones are worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Nothing to say.
    Well,
    /// Less than a quarter of its life is left: renewal should have happened at half of it.
    Late,
    /// There is none yet.
    Missing,
    /// It has ended.
    Expired,
}

/// Looks now and then, says what changed, and repeats what stays bad.
pub(super) async fn watch(identity: Arc<Identity>, metrics: Arc<Metrics>) {
    let mut said: HashMap<Arc<str>, (Level, Instant)> = HashMap::new();
    let mut ticks = tokio::time::interval(INTERVAL);
    // A source that has just begun gets a moment before it is told on.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let now = unix_now();
        for workload in &identity.workloads {
            let svid = workload.held.svid();
            let level = level(svid.as_deref(), now);
            metrics.identity().expiry(
                &workload.name,
                svid.as_ref().map_or(0, |svid| svid.not_after),
            );
            let (before, at) = said
                .get(&workload.name)
                .copied()
                .unwrap_or((Level::Well, Instant::now()));
            let is_due = level != before || at.elapsed() >= REPEAT;
            if is_due && (level != Level::Well || before != Level::Well) {
                say(workload, level, svid.as_deref(), now);
                said.insert(workload.name.clone(), (level, Instant::now()));
            }
        }
        let has_workload = |name: &str| identity.workload(name).is_some();
        let trust = identity.registry.trust();
        let has_domain = |name: &str| trust.bundles.keys().any(|domain| domain.as_str() == name);
        metrics.identity().retain(&has_workload, &has_domain);
        for (domain, bundle) in &trust.bundles {
            metrics.identity().roots(domain.as_str(), bundle.ends.0);
        }
    }
}

/// How urgent the renewal of a certificate is.
pub(crate) fn level(svid: Option<&Svid>, now: i64) -> Level {
    let Some(svid) = svid else {
        return Level::Missing;
    };
    within(svid.not_before, svid.not_after, now)
}

/// How urgent the renewal of something is that is good from and until a moment.
pub(crate) fn within(not_before: i64, not_after: i64, now: i64) -> Level {
    let (life, left) = (not_after - not_before, not_after - now);
    match left {
        left if left <= 0 => Level::Expired,
        left if left < life / 4 => Level::Late,
        _ => Level::Well,
    }
}

fn say(workload: &Workload, level: Level, svid: Option<&Svid>, now: i64) {
    let name = &workload.name;
    let cause = workload
        .held
        .clock()
        .error
        .unwrap_or_else(|| "none came from its source".into());
    let left = svid.map_or(0, |svid| svid.not_after - now);
    match level {
        Level::Well => log::info!("certificate is good again: workload={name} left={left}s"),
        Level::Missing => log::warn!("workload has no certificate: workload={name} cause={cause}"),
        Level::Late => log::warn!(
            "certificate is not renewed and ends soon: workload={name} left={left}s cause={cause}"
        ),
        Level::Expired => {
            log::error!("certificate has expired, peers refuse it: workload={name} cause={cause}")
        }
    }
}

/// Seconds since 1970.
pub(super) fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

const INTERVAL: Duration = Duration::from_secs(2);
const REPEAT: Duration = Duration::from_secs(3600);
