//! A new configuration put into force, or refused: built completely, tested, then published once.
//! It must not know signals, who asks, or when a probation ends; it does one thing at a time.
//! Called at start, on SIGHUP, by the admin address, and by `probation`, which brings configurations back the same way.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use windrose_plugins::contract::{StateRegistry, Time};
use windrose_plugins::PluginDef;

use super::breath;
use super::certs::{CertKeeper, CertSource};
use super::identity::IdentityKeeper;
use super::listeners::{Listeners, Prepared};
use super::names::Names;
use super::notices::Notices;
use super::pools::PoolKeeper;
use super::probation::{watch, Terms, Trial};
use super::status::{Reload, Status};
use super::stores::StoreKeeper;
use super::tasks::TaskKeeper;
use super::verdicts;
use crate::config::plan::{Change, Side};
use crate::config::schema::Config;
use crate::config::{self, AtRest, Built, Disk};
use crate::observe::access_log::AccessLog;
use crate::observe::metrics::{MetricFamily, Metrics, ReloadOutcome};
use crate::observe::recorder::Recorder;
use crate::snapshot::call::Exchange;
use crate::snapshot::endpoint::Endpoints;
use crate::snapshot::lease::{Leases, Tenancy};
use crate::snapshot::quarantine::Kind;
use crate::snapshot::{Current, Snapshot};

/// Why nothing is done about a configuration any more.
pub(super) const HANDED_OVER: &str =
    "the sockets went to a new process, which has read the configuration; ask that one";
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
    /// Tasks of plugins.
    pub tasks: Arc<TaskKeeper>,
    /// Carries calls of plugins.
    pub exchange: Arc<dyn Exchange>,
    /// Certificates.
    pub certs: Arc<CertKeeper>,
    /// Identities of workloads.
    pub identity: Arc<IdentityKeeper>,
    /// Connections to stores that plugins share with other proxies.
    pub stores: StoreKeeper,
    /// The access log.
    pub access_log: AccessLog,
    /// The flight recorder.
    pub recorder: Arc<Recorder>,
    /// Long-lived streams.
    pub leases: Arc<Leases>,
    /// Applies settings of traces; given by `app`, which owns the exporter.
    pub traces: Box<dyn Fn(&Config) + Send + Sync>,
    /// Gets the system's authorities ready before a configuration that needs them is in force.
    pub roots: Box<dyn Fn() + Send + Sync>,
    /// What is on disk, as last looked at.
    pub disk: Mutex<Disk>,
    /// What is running.
    pub running: Mutex<AtRest>,
    /// The supervisor's runtime, once it runs.
    pub runtime: OnceLock<tokio::runtime::Handle>,
    /// One at a time.
    pub turn: tokio::sync::Mutex<()>,
    /// The probation under way.
    pub trial: Trial,
}

/// What can be asked about the configuration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Order {
    /// Put what is on disk into force.
    Reload,
    /// The same, on probation.
    Probation(Terms),
    /// Keep what is on probation, if it is this generation where one is given.
    Confirm(Option<u64>),
    /// Go back to what was in force before the probation.
    RollBack,
}

impl Reloader {
    /// An order given from another runtime, such as the admin service's: carried out by the supervisor's, whose tasks it
    /// starts.
    pub async fn requested(self: Arc<Reloader>, order: Order) -> Reload {
        let Some(runtime) = self.runtime.get().cloned() else {
            return self.carry_out(order).await;
        };
        let me = self.clone();
        match runtime
            .spawn(async move { me.carry_out(order).await })
            .await
        {
            Ok(reload) => reload,
            Err(error) => Reload {
                at: SystemTime::now(),
                took: Duration::ZERO,
                generation: self.current.peek().generation,
                result: Err(vec![format!("the reload ended early: {error}")]),
            },
        }
    }

    /// Does what was asked, after what was asked before.
    pub async fn carry_out(self: &Arc<Reloader>, order: Order) -> Reload {
        let _turn = self.turn.lock().await;
        let started = Instant::now();
        let is_reload = matches!(order, Order::Reload | Order::Probation(_));
        if self.status.handed_over.load(Relaxed) {
            let result = self.refuse(HANDED_OVER.to_owned(), started);
            return self.came_of(started, result);
        }
        if is_reload {
            self.notices.reloading();
        }
        let result = match order {
            Order::Reload => match self.trial.refusal() {
                Some(refusal) => self.refuse(refusal, started),
                None => self.reload(None, started).await,
            },
            Order::Probation(terms) => self.reload(Some(terms), started).await,
            Order::Confirm(generation) => self.confirm(generation).await,
            Order::RollBack => self.go_back().await,
        };
        let reload = self.came_of(started, result);
        if is_reload || reload.result.is_ok() {
            self.notices.ready(&reload.words());
        }
        reload
    }

    fn came_of(&self, started: Instant, result: Outcome) -> Reload {
        Reload {
            at: SystemTime::now(),
            took: started.elapsed(),
            generation: self.current.peek().generation,
            result,
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
        self.stores.prepare(&snapshot, PATIENCE).await;
        self.identity.prepare(&snapshot);
        self.listeners.commit(prepared, &snapshot, None);
        self.status.has_started.store(true, Relaxed);
        self.follow(&snapshot);
        self.forget(&snapshot, None);
        self.metrics.reload().generation(snapshot.generation);
        self.status
            .note(snapshot.generation, true, "started".to_owned());
        breath::out();
        Ok(())
    }

    /// Reads the configuration anew and puts it into force, or leaves everything as it is.
    async fn reload(self: &Arc<Reloader>, terms: Option<Terms>, started: Instant) -> Outcome {
        let result = self.attempt(terms).await;
        let took = started.elapsed();
        let outcome = match &result {
            Ok(changes) if changes.is_empty() => ReloadOutcome::Unchanged,
            Ok(_) => ReloadOutcome::Applied,
            Err(_) => ReloadOutcome::Rejected,
        };
        self.metrics.reload().finished(outcome, took);
        let generation = self.current.peek().generation;
        self.metrics.reload().generation(generation);
        self.differs(
            result
                .as_ref()
                .err()
                .map(|problems| first_line(problems).to_owned()),
        );
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
        self.remember(started, &result, terms);
        breath::out();
        result
    }

    /// Refuses to look at what is on disk, which says nothing about it.
    fn refuse(&self, refusal: String, started: Instant) -> Outcome {
        log::error!("reload refused: {refusal}");
        let result = Err(vec![refusal]);
        self.remember(started, &result, None);
        result
    }

    fn remember(&self, started: Instant, result: &Outcome, terms: Option<Terms>) {
        let reload = self.came_of(started, result.clone());
        let trial = terms.map_or(String::new(), |terms| {
            format!(", on probation for {}", Time(terms.time))
        });
        let words = match result {
            Ok(changes) if changes.is_empty() => "reload: nothing changed".to_owned(),
            Ok(changes) => format!(
                "reload: {} in force{trial}",
                counted(changes.len(), "change")
            ),
            Err(problems) => format!("reload refused: {}", first_line(problems)),
        };
        self.status.note(reload.generation, result.is_ok(), words);
        self.status.last_reload.store(Arc::new(Some(reload)));
    }

    /// Takes note of why the files on disk are not in force, or that they are.
    pub(super) fn differs(&self, reason: Option<String>) {
        self.status.disk_differs.store(reason.is_some(), Relaxed);
        self.metrics.reload().differs(reason.is_some());
        self.status.disk_reason.store(Arc::new(reason));
    }

    async fn attempt(self: &Arc<Reloader>, terms: Option<Terms>) -> Outcome {
        let me = self.clone();
        // Parsing and compiling a large configuration takes long enough to hold up connections.
        let built = tokio::task::spawn_blocking(move || {
            let built = me.build()?;
            if built.snapshot.believes_system() {
                (me.roots)();
            }
            let running = me.running.lock().unwrap_or_else(PoisonError::into_inner);
            let running = running.whole();
            // Only keys are told of them.
            let (old, new) = (Side::unseen(&running), Side::unseen(&built.config));
            let changes = config::plan::changes(old, new);
            let judges_otherwise = changes.iter().any(Change::is_of_policies);
            let in_force = me.current.load();
            let mut changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
            if judges_otherwise {
                changes.extend(verdicts::of(&me.recorder, &in_force, &built.snapshot));
                for secrets in [&in_force.secrets, &built.snapshot.secrets] {
                    changes
                        .iter_mut()
                        .for_each(|text| *text = secrets.hidden(text));
                }
            }
            let before = &me.current.load().quarantined;
            config::plan::note_quarantine(before, &built.snapshot.quarantined, &mut changes);
            let is_other_text = built.snapshot.digest != me.current.peek().digest;
            if changes.is_empty() && is_other_text {
                changes.push("no object changed, the text did".to_owned());
            }
            Ok((built, changes))
        });
        let built: Result<_, Vec<String>> = built.await.map_err(|error| vec![error.to_string()])?;
        let (built, changes) = built?;
        if changes.is_empty() && self.runs(&built.snapshot) {
            self.trial.prolong(terms, &self.status);
            return Ok(changes);
        }
        let prepared = self.prepare(&built.snapshot).await?;
        self.write_log(&built.config)?;
        // Before it is live, so that nobody sees it without seeing that it is on probation.
        let fallback = terms.map(|terms| self.begin(terms));
        let entered = self.enter(prepared, built, fallback).await;
        // Also when something beside traffic went wrong: it is live, and what is live on probation has to go back.
        if terms.is_some() {
            self.trial.prolong(terms, &self.status);
            tokio::spawn(watch(self.clone(), self.current.peek().generation));
        }
        entered.map(|()| changes)
    }

    /// Gets ready for a snapshot what takes time or can go wrong.
    pub(super) async fn prepare(&self, snapshot: &Snapshot) -> Result<Prepared, Vec<String>> {
        let prepared = self.listeners.prepare(snapshot)?;
        self.pools.prepare(snapshot, PATIENCE).await;
        self.stores.prepare(snapshot, PATIENCE).await;
        self.identity.prepare(snapshot);
        Ok(prepared)
    }

    /// Lets the access log go where a configuration wants it.
    pub(super) fn write_log(&self, config: &Config) -> Result<(), Vec<String>> {
        let settings = config::boot::access_log(config);
        let target = &config.observe.access_log.to;
        self.access_log.reconfigure(settings).map_err(|error| {
            vec![format!(
                "observe.access_log: \"{target}\" cannot be opened: {error}"
            )]
        })
    }

    /// The one way into force, for what is new and for what comes back. While the fallback may come back, nothing it has
    /// goes away.
    pub(super) async fn enter(
        self: &Arc<Reloader>,
        prepared: Prepared,
        built: Built,
        fallback: Option<Arc<Snapshot>>,
    ) -> Result<(), Vec<String>> {
        let Built {
            config, snapshot, ..
        } = built;
        self.recorder.configure(&config::boot::recorder(&config));
        (self.traces)(&config);
        self.metrics.bound(config.observe.metrics.series);
        let snapshot = Arc::new(snapshot);
        let before = self.current.load();
        self.current.publish(snapshot.clone());
        self.status.live_since.store(Arc::new(SystemTime::now()));
        // At once and before anything that takes time: whoever is not allowed any more has no claim to a drain.
        let cut = self.leases.judge(&snapshot);
        if cut > 0 {
            log::info!("ended what policies no longer allow: streams={cut}");
        }
        self.listeners
            .commit(prepared, &snapshot, fallback.as_deref());
        let me = self.clone();
        // Thousands of routes take long to compare and to drop, too; no request should wait behind that.
        let followed = tokio::task::spawn_blocking(move || {
            *me.running.lock().unwrap_or_else(PoisonError::into_inner) = AtRest::of(config);
            me.follow(&snapshot);
            drop(before);
            me.forget(&snapshot, fallback.as_deref());
        });
        followed.await.map_err(|error| vec![error.to_string()])
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
            identities: self.identity.registry(),
            states: &self.states,
            exchange: self.exchange.clone(),
            previous: Some(&current),
        };
        config::build(&self.path, &means)
            .map_err(|report| report.findings().iter().map(ToString::to_string).collect())
    }

    /// Everything that runs beside traffic gets in step with a snapshot.
    fn follow(&self, snapshot: &Arc<Snapshot>) {
        self.tell_quarantined(snapshot);
        self.pools.follow(snapshot);
        self.tasks.follow(snapshot);
        snapshot.pressure.bind(snapshot.overload.as_ref());
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
        self.identity.follow(snapshot);
        self.stores.follow(snapshot);
    }

    /// Lets go of what neither this snapshot has nor the one that may come back: state of plugins, series, streams.
    pub(super) fn forget(&self, snapshot: &Snapshot, fallback: Option<&Snapshot>) {
        self.states.sweep();
        let names: Vec<Names<'_>> = [Some(snapshot), fallback]
            .into_iter()
            .flatten()
            .map(Names::new)
            .collect();
        self.metrics.retain(&|family, first, second| {
            names.iter().any(|names| match family {
                MetricFamily::Listener | MetricFamily::Certificate => names.has_listener(first),
                MetricFamily::Route => {
                    names.has_listener(first) && (second.is_empty() || names.has_route(second))
                }
                MetricFamily::Rule => names.has_route(first),
                MetricFamily::Policy => names.has_policy(first),
                MetricFamily::Pool => names.has_pool(first),
                MetricFamily::Endpoint => true,
            })
        });
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let over = running.written().server.stream_drain_timeout.0;
        drop(running);
        self.end_orphans(&names, over);
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
    fn end_orphans(&self, names: &[Names<'_>], over: Duration) {
        let stays = |tenancy: &Tenancy| {
            names.iter().any(|names| {
                names.has_listener(&tenancy.listener)
                    && names.has_pool(&tenancy.pool)
                    && names.has_route(&tenancy.route)
            })
        };
        let orphans = self.leases.orphans(|tenancy| !stays(tenancy));
        if orphans.is_empty() {
            return;
        }
        log::info!(
            "draining streams whose listener, route or pool went away: streams={}",
            orphans.len()
        );
        let pause = over / u32::try_from(orphans.len()).unwrap_or(u32::MAX).max(1);
        let leases = self.leases.clone();
        tokio::spawn(async move {
            for orphan in orphans {
                tokio::time::sleep(pause).await;
                leases.revoke(orphan);
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

/// What came of an order: changes in words, or every problem.
pub(super) type Outcome = Result<Vec<String>, Vec<String>>;

/// A number of things in words.
pub(super) fn counted(number: usize, thing: &str) -> String {
    match number {
        1 => format!("1 {thing}"),
        number => format!("{number} {thing}s"),
    }
}

fn first_line(problems: &[String]) -> &str {
    let first = problems.first().map_or("", String::as_str);
    first.lines().next().unwrap_or("")
}
