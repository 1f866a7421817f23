//! The view of everything at once: whether all is well, and if not, what needs attention first.
//! It must not find out anything itself; it sums up what the other views show.
//! Called by `admin`; `windrose status` renders it.

use std::cmp::Reverse;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

use serde::Serialize;

use super::pools::{self, PoolView};
use super::state::{self, rfc3339, Certificate, Listener, Probation};
use super::stores::{self, StoreView};
use super::Admin;
use crate::control::judge::{share, Counts};
use crate::control::reload::counted;
use crate::control::status::{Deed, Status};
use crate::control::tasks::TaskView;
use crate::snapshot::quarantine::Quarantined;
use crate::snapshot::Snapshot;

/// Everything at once.
#[derive(Serialize)]
pub(super) struct Overview {
    /// Whether nothing needs attention.
    well: bool,
    /// What needs attention, the worst first.
    attention: Vec<Attention>,
    version: &'static str,
    pid: u32,
    started: String,
    uptime_seconds: u64,
    generation: u64,
    live_since: String,
    config: ConfigView,
    /// What `windrose check` warns about.
    warnings: Vec<String>,
    probation: Option<Probation>,
    listeners: Vec<ListenerView>,
    certificates: Vec<CertificateView>,
    pools: Vec<PoolHealth>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stores: Vec<StoreView>,
    traffic: TrafficView,
    reloads: Vec<DeedView>,
    /// Tasks of plugins that run beside requests.
    background_tasks: usize,
    /// Objects of the configuration that were set aside.
    quarantined: Vec<String>,
}

/// Something that somebody should look at.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Attention {
    severity: Severity,
    what: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Severity {
    Error,
    Warning,
}

#[derive(Serialize)]
struct ConfigView {
    /// `same`, `differs`, or `refused`.
    disk: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Serialize)]
struct ListenerView {
    name: String,
    role: &'static str,
    protocol: &'static str,
    bind: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    open_connections: u32,
}

#[derive(Serialize)]
struct CertificateView {
    listener: String,
    subject: String,
    not_after: String,
    expires_in_days: i64,
}

#[derive(Serialize)]
struct PoolHealth {
    name: String,
    total: usize,
    available: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_problem: Option<String>,
    /// The first of those that take no traffic, but for those whose weight says so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    out: Vec<Out>,
}

#[derive(Serialize)]
struct Out {
    endpoint: String,
    why: String,
}

#[derive(Serialize)]
struct TrafficView {
    /// How far back the rest looks.
    seconds: f64,
    requests: u64,
    per_second: f64,
    share_5xx: f64,
    /// The most frequent first.
    causes: Vec<CauseView>,
}

#[derive(Serialize)]
struct CauseView {
    cause: Arc<str>,
    count: u64,
    share: f64,
}

#[derive(Serialize)]
struct DeedView {
    at: String,
    generation: u64,
    ok: bool,
    outcome: String,
}

impl Overview {
    pub(super) fn new(snapshot: &Snapshot, admin: &Admin) -> Overview {
        let status = &admin.status;
        let listeners = state::listeners(snapshot, status, &admin.certs).listeners;
        let pools = pools::view(snapshot, &admin.pools).sound();
        let config = config(status);
        let probation = state::probation(status).on_probation;
        let traffic = traffic(admin);
        let mut attention = Vec::new();
        process(status, &config, probation.as_ref(), &mut attention);
        let broken = snapshot.quarantined.iter().map(set_aside);
        attention.extend(broken.map(error));
        listeners.iter().for_each(|one| certs(one, &mut attention));
        let clocks = super::identity::Clocks::new(snapshot);
        attention.extend(clocks.alarms().into_iter().map(error));
        pools.iter().for_each(|one| pool(one, &mut attention));
        let stores = stores::view(snapshot);
        attention.extend(stores.iter().filter_map(stores::alarm).map(error));
        requests(&traffic, &mut attention);
        let tasks = admin.tasks.view();
        attention.extend(tasks.iter().filter_map(task));
        // Errors before warnings, and each in the order of the screen.
        attention.sort_by_key(|one| one.severity);
        Overview {
            well: attention.is_empty(),
            attention,
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            started: rfc3339(status.started),
            uptime_seconds: status.started.elapsed().unwrap_or_default().as_secs(),
            generation: snapshot.generation,
            live_since: rfc3339(**status.live_since.load()),
            config,
            warnings: snapshot.warnings.clone(),
            probation,
            certificates: certificates(&listeners),
            listeners: listeners.into_iter().map(listener).collect(),
            pools: by_health(pools),
            stores,
            traffic,
            reloads: status.deeds().into_iter().map(deed).collect(),
            background_tasks: tasks.len(),
            quarantined: snapshot.quarantined.iter().map(set_aside).collect(),
        }
    }
}

/// A broken object on one line; `/config` has all that is wrong with it.
fn set_aside(one: &Quarantined) -> String {
    let (kind, name) = (one.kind.as_str(), &one.name);
    let first = one.problems.first().map(ToString::to_string);
    let first = first.unwrap_or_default();
    let first = first.lines().next().unwrap_or_default();
    format!("{kind} \"{name}\" is quarantined: {first}")
}

fn error(what: String) -> Attention {
    let severity = Severity::Error;
    Attention { severity, what }
}

fn warning(what: String) -> Attention {
    let severity = Severity::Warning;
    Attention { severity, what }
}

fn config(status: &Status) -> ConfigView {
    let reason = status.disk_reason.load().as_ref().clone();
    let disk = match (status.disk_differs.load(Relaxed), &reason) {
        (false, _) => "same",
        (true, None) => "differs",
        (true, Some(_)) => "refused",
    };
    let reason = reason.filter(|_| disk == "refused");
    ConfigView { disk, reason }
}

fn process(
    status: &Status,
    config: &ConfigView,
    probation: Option<&Probation>,
    attention: &mut Vec<Attention>,
) {
    if let Err(reason) = status.readiness() {
        attention.push(error(format!("not ready: {reason}")));
    }
    match (config.disk, &config.reason) {
        ("same", _) => {}
        (_, Some(reason)) => attention.push(error(format!(
            "the configuration on disk is not in force: {reason}"
        ))),
        (_, None) => attention.push(warning(
            "the configuration on disk is not the one running; `windrose reload` would put it in force"
                .to_owned(),
        )),
    }
    if let Some(probation) = probation {
        attention.push(warning(format!(
            "generation {} is rolled back in {} s unless `windrose confirm` comes",
            probation.generation, probation.seconds_left
        )));
    }
}

fn certs(listener: &Listener, attention: &mut Vec<Attention>) {
    let name = &listener.name;
    if let Some(problem) = &listener.problem {
        attention.push(error(format!("listener {name}: {problem}")));
    }
    for problem in &listener.certificate_problems {
        attention.push(error(format!("listener {name}: {problem}")));
    }
    for Certificate {
        subject,
        expires_in_days: days,
        ..
    } in &listener.certificates
    {
        if *days < 0 {
            attention.push(error(format!(
                "certificate {subject} of listener {name} has expired"
            )));
        } else if *days < SOON_DAYS {
            attention.push(warning(format!(
                "certificate {subject} of listener {name} expires in {}",
                counted(usize::try_from(*days).unwrap_or(0), "day")
            )));
        }
    }
}

fn pool(pool: &PoolView, attention: &mut Vec<Attention>) {
    let PoolView {
        name,
        total,
        available,
        ..
    } = pool;
    if let Some(problem) = &pool.source_problem {
        attention.push(error(format!("pool {name}: {problem}")));
    }
    let is_out = out(pool).next().is_some();
    if *available == 0 {
        attention.push(error(format!(
            "pool {name}: none of {total} endpoints can be used"
        )));
    } else if is_out {
        attention.push(warning(format!(
            "pool {name}: {available} of {total} endpoints can be used"
        )));
    }
}

fn requests(traffic: &TrafficView, attention: &mut Vec<Attention>) {
    if traffic.requests >= ENOUGH_REQUESTS && traffic.share_5xx >= MUCH_5XX {
        let share = traffic.share_5xx * 100.0;
        attention.push(warning(format!(
            "{share:.1} % of the requests of the last minutes were answered with 5xx"
        )));
    }
}

/// A task that ended by itself: what it does is not done meanwhile.
fn task(task: &TaskView) -> Option<Attention> {
    let TaskView { plugin, name, .. } = task;
    let times = counted(usize::try_from(task.begun_again).unwrap_or(0), "time");
    let words = || {
        format!("plugin {plugin}: its background task {name} ended by itself, begun again {times}")
    };
    task.waits.then(|| warning(words()))
}

fn listener(one: Listener) -> ListenerView {
    ListenerView {
        name: one.name,
        role: one.role,
        protocol: one.protocol,
        bind: one.bind,
        state: one.state,
        problem: one.problem,
        open_connections: one.open_connections,
    }
}

/// Every certificate, the one that ends soonest first.
fn certificates(listeners: &[Listener]) -> Vec<CertificateView> {
    let of = |listener: &Listener| {
        let name = listener.name.clone();
        let view = move |certificate: &Certificate| CertificateView {
            listener: name.clone(),
            subject: certificate.subject.clone(),
            not_after: certificate.not_after.clone(),
            expires_in_days: certificate.expires_in_days,
        };
        listener.certificates.iter().map(view).collect::<Vec<_>>()
    };
    let mut all: Vec<CertificateView> = listeners.iter().flat_map(of).collect();
    all.sort_by(|one, other| one.not_after.cmp(&other.not_after));
    all
}

/// The endpoints that take no traffic though they should.
fn out(pool: &PoolView) -> impl Iterator<Item = Out> + '_ {
    let meant = pool.endpoints.iter().filter(|one| one.weight > 0);
    meant.filter_map(|one| {
        Some(Out {
            endpoint: one.address.clone(),
            why: one.why.clone()?,
        })
    })
}

/// Pools with the smallest share of endpoints that can be used first.
fn by_health(pools: Vec<PoolView>) -> Vec<PoolHealth> {
    let health = |pool: PoolView| PoolHealth {
        out: out(&pool).take(MOST_NAMED).collect(),
        name: pool.name,
        total: pool.total,
        available: pool.available,
        source_problem: pool.source_problem,
    };
    let mut all: Vec<PoolHealth> = pools.into_iter().map(health).collect();
    let part = |pool: &PoolHealth| share(pool.available as u64, pool.total as u64);
    all.sort_by(|one, other| part(one).total_cmp(&part(other)));
    all
}

fn traffic(admin: &Admin) -> TrafficView {
    let span = admin.status.traffic.lately(&admin.metrics);
    let seconds = span.time.as_secs_f64();
    let Counts {
        requests,
        errors,
        causes,
    } = span.counts;
    let view = |(cause, count): (Arc<str>, u64)| CauseView {
        cause,
        count,
        share: share(count, requests),
    };
    let mut causes: Vec<CauseView> = causes.into_iter().map(view).collect();
    causes.sort_by_key(|one| Reverse(one.count));
    causes.truncate(MOST_NAMED);
    TrafficView {
        seconds,
        requests,
        per_second: requests as f64 / seconds.max(1.0),
        share_5xx: share(errors, requests),
        causes,
    }
}

fn deed(deed: Deed) -> DeedView {
    DeedView {
        at: rfc3339(deed.at),
        generation: deed.generation,
        ok: deed.ok,
        outcome: deed.words,
    }
}

/// Certificates that end sooner are warned about.
const SOON_DAYS: i64 = 14;
/// How many endpoints of a pool, and how many causes, are named.
const MOST_NAMED: usize = 10;
/// With fewer requests a share says little.
const ENOUGH_REQUESTS: u64 = 50;
/// A share of 5xx that somebody should look at.
const MUCH_5XX: f64 = 0.05;
