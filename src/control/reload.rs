//! A new configuration put into force, or refused: built completely, tested, then published once.
//! It must not know signals or who asks; it does one reload at a time.
//! Called at start, on SIGHUP, and by `POST /reload`.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use windrose_plugins::contract::StateRegistry;
use windrose_plugins::PluginDef;

use super::certs::{CertKeeper, CertSource};
use super::listeners::Listeners;
use super::notices::Notices;
use super::pools::PoolKeeper;
use super::status::{Reload, Status};
use crate::config::schema::Config;
use crate::config::{self, Built, Disk};
use crate::observe::access_log::AccessLog;
use crate::observe::metrics::{MetricFamily, Metrics, ReloadOutcome};
use crate::observe::recorder::Recorder;
use crate::snapshot::endpoint::Endpoints;
use crate::snapshot::lease::{Leases, Tenancy};
use crate::snapshot::quarantine::Kind;
use crate::snapshot::{Current, Snapshot};

/// How long the first answers of discovered pools may hold up a reload.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a reload works with.
pub struct Reloader {
    /// The configuration file.
    pub path: PathBuf,
    /// The plugins compiled in.
    pub plugins: &'static [PluginDef],
    /// The snapshot in force.
    pub current: Arc<Current>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Endpoints of the process.
    pub endpoints: Arc<Endpoints>,
    /// State of plugins.
    pub states: StateRegistry,
    /// What the process says about itself.
    pub status: Arc<Status>,
    /// The service manager, told when a reload begins and ends.
    pub notices: Arc<Notices>,
    /// Sockets.
    pub listeners: Arc<Listeners>,
    /// Discovery and health.
    pub pools: Arc<PoolKeeper>,
    /// Certificates.
    pub certs: Arc<CertKeeper>,
    /// The access log.
    pub access_log: AccessLog,
    /// The flight recorder.
    pub recorder: Arc<Recorder>,
    /// Long-lived streams.
    pub leases: Arc<Leases>,
    /// Applies settings of traces; given by `app`, which owns the exporter.
    pub traces: Box<dyn Fn(&Config) + Send + Sync>,
    /// What is on disk, as last looked at.
    pub disk: Mutex<Disk>,
    /// What is running.
    pub running: Mutex<Config>,
    /// The supervisor's runtime, once it runs.
    pub runtime: OnceLock<tokio::runtime::Handle>,
    /// One at a time.
    pub turn: tokio::sync::Mutex<()>,
}

impl Reloader {
    /// A reload asked for from another runtime, such as the admin service's: carried out by the supervisor's, whose
    /// tasks it starts.
    pub async fn requested(self: Arc<Reloader>) -> Reload {
        let Some(runtime) = self.runtime.get().cloned() else {
            return self.reload().await;
        };
        let me = self.clone();
        match runtime.spawn(async move { me.reload().await }).await {
            Ok(reload) => reload,
            Err(error) => Reload {
                at: SystemTime::now(),
                took: Duration::ZERO,
                generation: self.current.peek().generation,
                result: Err(vec![format!("the reload ended early: {error}")]),
            },
        }
    }

    /// Puts the very first snapshot into force.
    ///
    /// # Errors
    /// Every listener that cannot be bound.
    pub async fn start(&self) -> Result<(), Vec<String>> {
        let _ = self.runtime.set(tokio::runtime::Handle::current());
        let snapshot = self.current.load();
        let prepared = self.listeners.prepare(&snapshot)?;
        self.pools.prepare(&snapshot, PATIENCE).await;
        self.listeners.commit(prepared, &snapshot);
        self.follow(&snapshot);
        self.metrics.reload().generation(snapshot.generation);
        Ok(())
    }

    /// Reads the configuration anew and puts it into force, or leaves everything as it is.
    pub async fn reload(self: &Arc<Reloader>) -> Reload {
        let _turn = self.turn.lock().await;
        let started = Instant::now();
        self.notices.reloading();
        let result = self.attempt().await;
        let took = started.elapsed();
        let outcome = match &result {
            Ok(changes) if changes.is_empty() => ReloadOutcome::Unchanged,
            Ok(_) => ReloadOutcome::Applied,
            Err(_) => ReloadOutcome::Rejected,
        };
        self.metrics.reload().finished(outcome, took);
        let generation = self.current.peek().generation;
        self.metrics.reload().generation(generation);
        self.status.disk_differs.store(result.is_err(), Relaxed);
        self.metrics.reload().differs(result.is_err());
        match &result {
            Ok(changes) => log::info!(
                "reloaded: generation={generation} changes={} took={took:?}",
                changes.len()
            ),
            Err(problems) => log::error!(
                "reload refused, generation {generation} stays:\n{}",
                problems.join("\n")
            ),
        }
        let reload = Reload {
            at: SystemTime::now(),
            took,
            generation,
            result,
        };
        self.status
            .last_reload
            .store(Arc::new(Some(reload.clone())));
        self.notices.ready(&reload.words());
        reload
    }

    async fn attempt(self: &Arc<Reloader>) -> Result<Vec<String>, Vec<String>> {
        let me = self.clone();
        // Parsing and compiling a large configuration takes long enough to hold up connections.
        let built = tokio::task::spawn_blocking(move || {
            let built = me.build()?;
            let running = me.running.lock().unwrap_or_else(PoisonError::into_inner);
            let changes = config::plan::changes(&running, &built.config);
            let mut changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
            let before = &me.current.load().quarantined;
            config::plan::note_quarantine(before, &built.snapshot.quarantined, &mut changes);
            Ok((built, changes))
        });
        let built: Result<_, Vec<String>> = built.await.map_err(|error| vec![error.to_string()])?;
        let (built, changes) = built?;
        let Built {
            config, snapshot, ..
        } = built;
        if changes.is_empty() && self.runs(&snapshot) {
            return Ok(changes);
        }
        let prepared = self.listeners.prepare(&snapshot)?;
        self.pools.prepare(&snapshot, PATIENCE).await;
        self.access_log
            .reconfigure(config::boot::access_log(&config))
            .map_err(|error| {
                vec![format!(
                    "observe.access_log: \"{}\" cannot be opened: {error}",
                    config.observe.access_log.to
                )]
            })?;
        self.recorder.configure(&config::boot::recorder(&config));
        (self.traces)(&config);
        let snapshot = Arc::new(snapshot);
        let before = self.current.load();
        self.current.publish(snapshot.clone());
        self.listeners.commit(prepared, &snapshot);
        let me = self.clone();
        // Thousands of routes take long to compare and to drop, too; no request should wait behind that.
        let followed = tokio::task::spawn_blocking(move || {
            me.follow(&snapshot);
            me.end_orphans(&snapshot, config.server.stream_drain_timeout.0);
            *me.running.lock().unwrap_or_else(PoisonError::into_inner) = config;
            drop(before);
        });
        followed.await.map_err(|error| vec![error.to_string()])?;
        Ok(changes)
    }

    /// Whether a snapshot says nothing that the one in force does not.
    fn runs(&self, snapshot: &Snapshot) -> bool {
        let current = self.current.peek();
        snapshot.digest == current.digest && snapshot.quarantined == current.quarantined
    }

    fn build(&self) -> Result<Built, Vec<String>> {
        let current = self.current.load();
        let means = config::Resources {
            plugins: self.plugins,
            metrics: self.metrics.clone(),
            endpoints: &self.endpoints,
            states: &self.states,
            previous: Some(&current),
        };
        config::build(&self.path, &means)
            .map_err(|report| report.findings().iter().map(ToString::to_string).collect())
    }

    /// Everything that runs beside traffic gets in step with a snapshot.
    fn follow(&self, snapshot: &Arc<Snapshot>) {
        self.tell_quarantined(snapshot);
        self.pools.follow(snapshot);
        let sources = snapshot.listeners.iter().filter_map(|listener| {
            let termination = listener.protocol.termination()?.clone();
            let files = termination.files.clone();
            Some(CertSource {
                listener: listener.name.clone(),
                termination,
                files,
            })
        });
        self.certs.follow(sources.collect());
        self.states.sweep();
        let routes: std::collections::HashSet<&str> =
            snapshot.rules.iter().map(|rule| &*rule.route).collect();
        self.metrics.retain(&|family, first, second| match family {
            MetricFamily::Listener => snapshot.listener(first).is_some(),
            MetricFamily::Route => {
                snapshot.listener(first).is_some() && (second.is_empty() || routes.contains(second))
            }
            MetricFamily::Pool => snapshot.pool(first).is_some(),
            MetricFamily::Endpoint => true,
            MetricFamily::Certificate => snapshot.listener(first).is_some(),
        });
    }

    /// Someone has to repair what is quarantined: the log names each, and a gauge counts them.
    fn tell_quarantined(&self, snapshot: &Snapshot) {
        for kind in Kind::ALL {
            let of_kind = snapshot.quarantined.iter().filter(|one| one.kind == kind);
            let count = of_kind.count();
            self.metrics.reload().quarantined(kind.as_str(), count);
        }
        let all = snapshot.quarantined.iter();
        all.for_each(|one| log::error!("{one}"));
    }

    /// Ends the streams whose listener, route or pool went away, spread over the time streams have.
    fn end_orphans(&self, snapshot: &Arc<Snapshot>, over: Duration) {
        let routes: std::collections::HashSet<&str> =
            snapshot.rules.iter().map(|rule| &*rule.route).collect();
        let gone = |tenancy: &Tenancy| {
            // A broken pool has not gone away: what it carries goes on.
            let pool_is_gone = snapshot.pool(&tenancy.pool).is_none()
                && snapshot.quarantined(Kind::Pool, &tenancy.pool).is_none();
            snapshot.listener(&tenancy.listener).is_none()
                || pool_is_gone
                || !routes.contains(&*tenancy.route)
        };
        let orphans = self.leases.orphans(gone);
        if orphans.is_empty() {
            return;
        }
        log::info!(
            "draining streams whose listener, route or pool went away: streams={}",
            orphans.len()
        );
        let pause = over / u32::try_from(orphans.len()).unwrap_or(u32::MAX).max(1);
        tokio::spawn(async move {
            for orphan in orphans {
                tokio::time::sleep(pause).await;
                orphan.revoke();
            }
        });
    }

    /// Whether the files are no longer what is running; also while they cannot be read.
    pub fn compare_with_disk(&self) -> bool {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        disk.digest(&self.path)
            .is_none_or(|digest| digest != self.current.peek().digest)
    }

    /// The configuration's file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
