//! The only file that knows everything: a configuration becomes a Pingora server that runs.
//! It holds no logic of its own; each part is built elsewhere and put together here.
//! Called by `cli::run`.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use pingora::server::configuration::{Opt, ServerConf};
use pingora::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{signal, SignalKind};
use windrose_plugins::contract::StateRegistry;
use windrose_plugins::PluginDef;

use crate::config::report::Report;
use crate::config::schema::{self, Config};
use crate::config::{self, boot, AtRest, Built, Resources};
use crate::control::admin::{self, Admin};
use crate::control::certs::CertKeeper;
use crate::control::handover::Handover;
use crate::control::identity::IdentityKeeper;
use crate::control::listeners::Listeners;
use crate::control::notices::Notices;
use crate::control::pools::PoolKeeper;
use crate::control::reload::Reloader;
use crate::control::status::Status;
use crate::control::stores::StoreKeeper;
use crate::control::supervisor::Supervisor;
use crate::control::tasks::TaskKeeper;
use crate::observe::access_log::AccessLog;
use crate::observe::metrics::Metrics;
use crate::observe::recorder::Recorder;
use crate::observe::trace::Tracer;
use crate::proxy::{Calls, Connections, Engine, Frontend, Shared};
use crate::snapshot::endpoint::Endpoints;
use crate::snapshot::identity::Identities;
use crate::snapshot::incoming::Incoming;
use crate::snapshot::lease::Leases;
use crate::snapshot::listener::Bind;
use crate::snapshot::own;
use crate::snapshot::Current;

/// How the process was asked to start.
pub struct Start {
    /// The configuration file.
    pub path: PathBuf,
    /// The plugins compiled in.
    pub plugins: &'static [PluginDef],
    /// Whether to take over the sockets of the process that runs.
    pub upgrade: bool,
}

/// Runs until told to stop; returns only when it could not start.
///
/// # Errors
/// Why it could not start, as lines to print.
pub fn run(start: Start) -> Result<(), Vec<String>> {
    // Before pools are built: how their connections are made is settled then. What is wrong with it, building tells.
    let server: Result<schema::Server, _> = config::load_section(&start.path, "server");
    let server = server.unwrap_or_default();
    if let Some(mark) = server.mark {
        own::set_mark(mark);
    }
    let exchanges = Arc::new(Connections::new(server.upstream_idle_connections));
    let endpoints = Arc::new(Endpoints::default());
    let identities = Arc::<Identities>::default();
    let states = StateRegistry::default();
    let observe: Result<schema::Observe, _> = config::load_section(&start.path, "observe");
    let series = observe.map_or_else(
        |_| schema::Metrics::default().series,
        |it| it.metrics.series,
    );
    let metrics = Metrics::new(series);
    let resources = Resources {
        plugins: start.plugins,
        metrics: metrics.clone(),
        endpoints: &endpoints,
        identities: &identities,
        states: &states,
        exchange: Arc::new(Calls::new(exchanges.clone())),
        previous: None,
    };
    let built = build(&start, &resources)?;
    built
        .snapshot
        .warnings
        .iter()
        .for_each(|warning| log::warn!("{warning}"));
    check_admin(&built.config, start.upgrade).map_err(|problem| vec![problem])?;
    let parts = Parts {
        start,
        built,
        endpoints,
        identities,
        states,
        metrics,
        exchanges,
    };
    parts.serve()
}

/// Builds on a thread of its own: what it needed for that goes back to the allocator with the thread, where the main thread,
/// which does nothing from here on, would keep it for good.
fn build(start: &Start, resources: &Resources<'_>) -> Result<Built, Vec<String>> {
    let build = || config::build(&start.path, resources);
    let built = std::thread::scope(|scope| scope.spawn(build).join());
    let built = built.map_err(|_| vec!["reading the configuration ended early".to_owned()])?;
    let lines = |report: Report| report.findings().iter().map(ToString::to_string).collect();
    built.map_err(lines)
}

struct Parts {
    start: Start,
    built: Built,
    endpoints: Arc<Endpoints>,
    identities: Arc<Identities>,
    states: StateRegistry,
    metrics: Arc<Metrics>,
    exchanges: Arc<Connections>,
}

impl Parts {
    fn serve(self) -> Result<(), Vec<String>> {
        let Parts {
            start,
            built,
            endpoints,
            identities,
            states,
            metrics,
            exchanges,
        } = self;
        let (config, snapshot) = (built.config, built.snapshot);
        let handover = handover(&start, &config).map_err(|problem| vec![problem])?;
        let access_log = access_log(&config, &metrics)?;
        let shared = Arc::new(Shared {
            current: Arc::new(Current::new(snapshot)),
            metrics: metrics.clone(),
            access_log,
            recorder: Arc::new(Recorder::new(&boot::recorder(&config), metrics.recorder())),
            tracer: ArcSwapOption::empty(),
            leases: Arc::new(Leases::default()),
            exchanges,
            kept: Default::default(),
            trunks: Default::default(),
        });
        let state = (endpoints, identities, states);
        let engine = engine(&config, &handover, &shared);
        let reloader = reloader(&start, &config, engine, &shared, state);
        (reloader.traces)(&config);
        write_pid(&config).map_err(|problem| vec![problem])?;
        let exit = exit(shared.clone(), config.server.pid_file.clone());
        let opt = Opt {
            upgrade: start.upgrade,
            ..Opt::default()
        };
        let mut server = Server::new_with_opt_and_conf(Some(opt), server_conf(&config, &handover));
        server.bootstrap();
        server.add_service(Supervisor {
            reloader: reloader.clone(),
            threads: boot::threads(&config),
            drain: config.server.drain_timeout.0,
            stream_drain: config.server.stream_drain_timeout.0,
            notices: reloader.notices.clone(),
            is_heir: start.upgrade,
            upgrade: upgrade(handover.clone(), reloader.status.clone()),
            exit: exit.clone(),
        });
        if let Some(bind) = boot::admin_bind(&config) {
            server.add_service(admin::service(&bind, admin_of(&shared, &reloader)));
        }
        // All of it was read, and the process may run for long.
        drop(config);
        server.run(RunArgs {
            shutdown_signal: Box::new(Signals {
                handover,
                status: reloader.status.clone(),
                notices: reloader.notices.clone(),
                exit: exit.clone(),
            }),
        });
        exit(0);
        Ok(())
    }
}

fn access_log(config: &Config, metrics: &Metrics) -> Result<AccessLog, Vec<String>> {
    let log = AccessLog::new(boot::access_log(config), metrics.dropped_log_lines());
    log.map_err(|error| {
        vec![format!(
            "the access log \"{}\" cannot be opened: {error}",
            config.observe.access_log.to
        )]
    })
}

/// Pingora's engine, with the authorities that the first configuration needs.
fn engine(config: &Config, handover: &Handover, shared: &Arc<Shared>) -> Arc<Engine> {
    let confs = [(); 2].map(|()| server_conf(config, handover));
    let engine = Engine::new(confs, shared);
    if shared.current.peek().believes_system() {
        engine.believe_system();
    }
    Arc::new(engine)
}

/// Everything a reload works with.
fn reloader(
    start: &Start,
    config: &Config,
    engine: Arc<Engine>,
    shared: &Arc<Shared>,
    (endpoints, identities, states): (Arc<Endpoints>, Arc<Identities>, StateRegistry),
) -> Arc<Reloader> {
    let status = Arc::new(Status::default());
    let metrics = &shared.metrics;
    Arc::new(Reloader {
        path: start.path.clone(),
        plugins: start.plugins,
        current: shared.current.clone(),
        metrics: metrics.clone(),
        endpoints: endpoints.clone(),
        states,
        status: status.clone(),
        notices: Arc::new(Notices::from_env()),
        listeners: Listeners::new(handler(engine.clone(), shared.clone()), status.clone()),
        pools: PoolKeeper::new(endpoints, metrics.clone()),
        tasks: Arc::new(TaskKeeper::new(metrics.clone())),
        exchange: Arc::new(Calls::new(shared.exchanges.clone())),
        certs: CertKeeper::new(metrics.clone()),
        identity: IdentityKeeper::new(identities, metrics.clone(), shared.leases.clone()),
        stores: StoreKeeper::new(metrics.clone()),
        access_log: shared.access_log.clone(),
        recorder: shared.recorder.clone(),
        leases: shared.leases.clone(),
        traces: traces(shared.clone()),
        roots: Box::new(move || engine.believe_system()),
        disk: Mutex::default(),
        running: Mutex::new(AtRest::of(config.clone())),
        runtime: Default::default(),
        turn: tokio::sync::Mutex::new(()),
        trial: Default::default(),
    })
}

/// How sockets are handed over; checked already when this process is to receive them.
fn handover(start: &Start, config: &Config) -> Result<Arc<Handover>, String> {
    let named = config.server.upgrade_socket.as_deref();
    let handover = Handover::new(start.path.clone(), named);
    if start.upgrade {
        handover.prepare()?;
    }
    Ok(Arc::new(handover))
}

fn server_conf(config: &Config, handover: &Handover) -> ServerConf {
    let threads = boot::threads(config);
    let longest = config
        .server
        .drain_timeout
        .0
        .max(config.server.stream_drain_timeout.0);
    ServerConf {
        threads,
        // With one thread there is nobody to steal from, and a plain runtime costs less for each request.
        work_stealing: threads > 1,
        upgrade_sock: handover.socket(),
        upstream_keepalive_pool_size: config.server.upstream_idle_connections.div_ceil(threads),
        // Pingora counts attempts; rules bound them lower.
        max_retries: 8,
        // Our supervisor ends the process when everything is drained; Pingora's fixed sleep is only the last resort.
        grace_period_seconds: Some(longest.as_secs() + 60),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    }
}

fn handler(http: Arc<Engine>, shared: Arc<Shared>) -> Arc<dyn Fn(Incoming) + Send + Sync> {
    let frontend = Arc::new(Frontend { shared, http });
    Arc::new(move |incoming| {
        pingora_runtime::current_handle().spawn(frontend.clone().serve(incoming));
    })
}

/// Makes a new exporter when the collector changes; the old one sends what it still has.
fn traces(shared: Arc<Shared>) -> Box<dyn Fn(&Config) + Send + Sync> {
    Box::new(move |config| {
        let dropped = shared.metrics.dropped_spans();
        let tracer = boot::tracer(config).and_then(|settings| {
            Tracer::new(&settings, dropped.clone())
                .map_err(|error| log::error!("traces cannot be sent: {error}"))
                .ok()
        });
        shared.tracer.store(tracer.map(Arc::new));
    })
}

fn admin_of(shared: &Arc<Shared>, reloader: &Arc<Reloader>) -> Admin {
    let reload = reloader.clone();
    Admin {
        current: shared.current.clone(),
        metrics: shared.metrics.clone(),
        recorder: shared.recorder.clone(),
        status: reloader.status.clone(),
        pools: reloader.pools.clone(),
        tasks: reloader.tasks.clone(),
        certs: reloader.certs.clone(),
        reload: Arc::new(move |order| {
            let reload = reload.clone();
            Box::pin(async move { reload.requested(order).await })
        }),
    }
}

/// Pingora would try an address in use for half a minute and then go on without the admin service; and it takes a socket's file
/// over from whoever has it, so that a process started by mistake would leave the one that serves without its own.
fn check_admin(config: &Config, upgrade: bool) -> Result<(), String> {
    match boot::admin_bind(config) {
        Some(Bind::Tcp(address)) if !upgrade => match std::net::TcpListener::bind(address) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("admin.bind: {address} cannot be bound: {error}")),
        },
        Some(Bind::Unix(path)) if !upgrade && UnixStream::connect(&path).is_ok() => {
            let path = path.display();
            Err(format!("admin.bind: another process answers at {path}"))
        }
        _ => Ok(()),
    }
}

fn write_pid(config: &Config) -> Result<(), String> {
    let Some(path) = &config.server.pid_file else {
        return Ok(());
    };
    std::fs::write(path, format!("{}\n", std::process::id()))
        .map_err(|error| format!("server.pid_file: \"{path}\" cannot be written: {error}"))
}

/// Ends the process: what waits to be written is written, and the pid file goes if it is still ours.
fn exit(shared: Arc<Shared>, pid_file: Option<String>) -> Arc<dyn Fn(i32) + Send + Sync> {
    Arc::new(move |code| {
        shared.access_log.flush(Duration::from_secs(2));
        if let Some(tracer) = &*shared.tracer.load() {
            tracer.flush(Duration::from_secs(2));
        }
        let own = std::process::id().to_string();
        if let Some(path) = pid_file
            .as_ref()
            .filter(|path| std::fs::read_to_string(path).is_ok_and(|pid| pid.trim() == own))
        {
            let _ = std::fs::remove_file(path);
        }
        std::process::exit(code);
    })
}

/// Starts the new binary and, once it waits for the sockets, asks Pingora to hand them over.
fn upgrade(handover: Arc<Handover>, status: Arc<Status>) -> Arc<dyn Fn() + Send + Sync> {
    let told = status.clone();
    let hand_over = move || {
        let heir = handover.start_heir()?;
        log::info!("upgrade: handing over to process {heir}");
        // From here on the new process has the configuration it will run.
        told.handed_over.store(true, Relaxed);
        let own = rustix::process::getpid();
        rustix::process::kill_process(own, rustix::process::Signal::QUIT)
            .map_err(|error| error.to_string())
    };
    Arc::new(move || {
        if let Err(problem) = hand_over() {
            status.handed_over.store(false, Relaxed);
            log::error!("upgrade refused, this process goes on: {problem}");
        }
    })
}

/// TERM and INT end gracefully, a second INT at once; QUIT hands the sockets to the process that waits for them,
/// and where none of our own user does, changes nothing: Pingora would stop serving all the same.
struct Signals {
    handover: Arc<Handover>,
    status: Arc<Status>,
    notices: Arc<Notices>,
    exit: Arc<dyn Fn(i32) + Send + Sync>,
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let signals = (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
            signal(SignalKind::quit()),
        );
        let (Ok(mut term), Ok(mut int), Ok(mut quit)) = signals else {
            return ShutdownSignal::FastShutdown;
        };
        loop {
            tokio::select! {
                _ = quit.recv() => match self.handover.check_heir() {
                    Ok(()) => {
                        self.status.handed_over.store(true, Relaxed);
                        self.notices.fall_silent();
                        return ShutdownSignal::GracefulUpgrade;
                    }
                    Err(problem) => {
                        self.status.handed_over.store(false, Relaxed);
                        log::error!("nothing handed over, this process goes on: {problem}");
                    }
                },
                _ = term.recv() => break,
                _ = int.recv() => break,
            }
        }
        log::info!(
            "stopping: connections finish what is under way; interrupt again to stop at once"
        );
        let exit = self.exit.clone();
        tokio::spawn(async move {
            int.recv().await;
            exit(130);
        });
        ShutdownSignal::GracefulTerminate
    }
}
