//! From decoded settings to a snapshot: everything slow happens here, before anything is published.
//! It must not know text, lines or who asks; it takes the previous snapshot and registries as arguments.
//! Called at start, by `control::reload`, and by `windrose check`.

mod balance;
mod calls;
mod capture;
mod consumers;
mod ejection;
mod experiment;
mod guard;
mod identity;
mod listeners;
mod mirror;
mod plugins;
mod policies;
mod pools;
mod retry;
mod routes;
mod services;
mod split;
mod stores;

pub(super) use capture::LONG_IDLE;
pub(in crate::config) use guard::Guards;
pub(super) use listeners::bind;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use windrose_plugins::contract::{Clock, Percent, StateRegistry};
use windrose_plugins::PluginDef;

use super::report::Report;
use super::schema::{Config, Overload};
use crate::observe::metrics::Metrics;
use crate::observe::trace::Sampler;
use crate::snapshot::call::{Exchange, OutOfReach};
use crate::snapshot::endpoint::Endpoints;
use crate::snapshot::identity::Identities;
use crate::snapshot::limits::Bounds;
use crate::snapshot::net::NetSet;
use crate::snapshot::quarantine::Quarantined;
use crate::snapshot::secrets::Secrets;
use crate::snapshot::{BodyBounds, Snapshot};

/// What a compilation works with.
pub struct Means<'a> {
    /// The plugins compiled into this binary.
    pub plugins: &'a [PluginDef],
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Endpoints of the process.
    pub endpoints: &'a Endpoints,
    /// Identities of the process.
    pub identities: &'a Arc<Identities>,
    /// State of plugins.
    pub states: &'a StateRegistry,
    /// Carries calls of plugins.
    pub exchange: Arc<dyn Exchange>,
    /// The snapshot in force, whose state is taken over.
    pub previous: Option<&'a Snapshot>,
    /// The folder that paths in the configuration are relative to.
    pub folder: &'a Path,
    /// Where a path of the configuration stands, as `file:line`.
    pub place: &'a dyn Fn(&str) -> String,
    /// Where the proxy's own connections may lead.
    pub guard: Guards,
}

impl Means<'_> {
    /// Reads a file named in the configuration.
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        let path = self.path(path);
        let bytes = std::fs::read(&path)
            .map_err(|error| format!("\"{}\" cannot be read: {error}", path.display()))?;
        match bytes.len() <= MOST_FILE_BYTES {
            true => Ok(bytes),
            false => Err(format!("\"{}\" is larger than 4 MiB", path.display())),
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }
}

const MOST_FILE_BYTES: usize = 4 << 20;

/// What is known of the text a snapshot is made from.
#[derive(Default)]
pub struct Origin {
    /// SHA-256 of everything that was read, in hex.
    pub digest: String,
    /// The effective configuration, secrets redacted.
    pub effective: String,
    /// What must not be shown.
    pub secrets: Secrets,
    /// Warnings, as printed.
    pub warnings: Vec<String>,
    /// Objects that are broken.
    pub quarantined: Vec<Quarantined>,
}

/// Builds a snapshot.
///
/// # Errors
/// Every file, certificate and plugin setting that cannot be used.
pub fn compile(config: &Config, origin: Origin, means: &Means<'_>) -> Result<Snapshot, Report> {
    let mut report = Report::new();
    let identity = config.identity.as_ref();
    let identity = identity
        .and_then(|settings| identity::compile(settings, means, &mut report))
        .map(Arc::new);
    let pools = pools::compile(config, identity.as_ref(), means, &mut report);
    let lines = calls::Lines::new(config, means, &pools);
    let stores = stores::compile(config, means, &mut report);
    let instances = plugins::named(config, (&stores, lines), means, &mut report);
    let book = policies::Book::of(config, means);
    let workshop = routes::Workshop {
        config,
        means,
        identity: identity.clone(),
        pools: pools::ByName::of(&pools),
        instances: &instances,
        book: &book,
    };
    let rules = workshop.rules(&mut report);
    let listeners = listeners::compile(&workshop, &rules, &mut report);
    if report.has_errors() {
        return Err(report);
    }
    let made = instances.with.lines.made();
    let shows = config.observe.answers.show_cause_to.as_ref();
    let rules = rules.into_iter().flatten().flatten().collect();
    Ok(Snapshot::new(Snapshot {
        generation: means.previous.map_or(1, |previous| previous.generation + 1),
        digest: origin.digest,
        built: SystemTime::now(),
        listeners,
        rules,
        pools: pools.into_iter().chain(made).collect(),
        stores,
        admin: crate::config::boot::admin_bind(config),
        policies: book.policies.clone(),
        show_cause_to: shows
            .map_or_else(NetSet::loopback, |nets| NetSet::new(nets.iter().copied())),
        sampler: sampler(config),
        overload: config.overload.as_ref().map(overload),
        pressure: means
            .previous
            .map_or_else(Arc::default, |previous| previous.pressure.clone()),
        bodies: BodyBounds {
            most: config.limits.held_bodies.0,
            time: config.limits.held_body_time.0,
        },
        effective: origin.effective,
        secrets: Arc::new(origin.secrets),
        warnings: origin.warnings,
        quarantined: origin.quarantined,
        identity,
        by_name: Default::default(),
    }))
}

/// What is wrong with the files, certificates and plugins of a configuration that has other errors. Of what is built nothing stays.
pub(super) fn problems(config: &Config, plugins: &[PluginDef], folder: &Path) -> Report {
    let means = Means {
        plugins,
        metrics: Metrics::new(MOST_SERIES),
        endpoints: &Endpoints::default(),
        identities: &Default::default(),
        states: &StateRegistry::default(),
        exchange: Arc::new(OutOfReach),
        previous: None,
        folder,
        place: &|_| String::new(),
        guard: Guards::of(config),
    };
    compile(config, Origin::default(), &means)
        .err()
        .unwrap_or_default()
}

/// Of each family, while looking for problems.
const MOST_SERIES: usize = 100;

fn overload(overload: &Overload) -> Bounds {
    let share = |share: Percent| Some(share.fraction()).filter(|share| *share > 0.0);
    Bounds {
        lag: Some(overload.lag.0).filter(|lag| !lag.is_zero()),
        memory: share(overload.memory),
        memory_limit: overload.memory_limit.map(|size| size.0),
        descriptors: share(overload.descriptors),
        header: overload
            .priority_header
            .as_ref()
            .and_then(|name| name.parse().ok()),
    }
}

/// Without a collector no trace is begun; contexts that come in are passed on.
fn sampler(config: &Config) -> Sampler {
    let traces = &config.observe.traces;
    match traces.otlp {
        Some(_) => Sampler::share(traces.sample.fraction()),
        None => Sampler::passive(),
    }
}

fn clock() -> Clock {
    Clock::System
}
