//! The Pingora service that owns everything beside traffic: it starts listeners, hears signals, and ends the process well.
//! It must not know requests.
//! `app` gives it to Pingora's server, which hands over the sockets of the process before.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use tokio::signal::unix::{signal, Signal, SignalKind};

use super::notices::Notices;
use super::overload;
use super::reload::{Order, Reloader, HANDED_OVER};
use super::{services, traffic};
use crate::observe::event;

/// What the supervisor works with.
pub struct Supervisor {
    /// Reloads.
    pub reloader: Arc<Reloader>,
    /// Worker threads.
    pub threads: usize,
    /// How long requests may finish at the end.
    pub drain: Duration,
    /// How long streams may go on at the end.
    pub stream_drain: Duration,
    /// The service manager.
    pub notices: Arc<Notices>,
    /// Whether this process took over from another.
    pub is_heir: bool,
    /// Starts the new binary on SIGUSR2; given by `app`, which knows the command line.
    pub upgrade: Arc<dyn Fn() + Send + Sync>,
    /// Ends the process; given by `app`.
    pub exit: Arc<dyn Fn(i32) + Send + Sync>,
}

#[async_trait]
impl Service for Supervisor {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        mut shutdown: ShutdownWatch,
        _: usize,
    ) {
        // Before anything is served: a signal that nobody catches ends the process.
        let signals = Signals::new();
        let reloader = self.reloader.clone();
        reloader.listeners.inherit(fds);
        if let Err(problems) = reloader.start().await {
            problems.iter().for_each(|problem| log::error!("{problem}"));
            return (self.exit)(1);
        }
        self.tell_ready();
        let housekeeping = tokio::spawn(housekeeping(reloader.clone()));
        let pressure = reloader.current.peek().pressure.clone();
        let services = tokio::spawn(services::follow(reloader.clone()));
        tokio::spawn(overload::watch(pressure, reloader.metrics.clone()));
        let signals = tokio::spawn(hear(signals, reloader.clone(), self.upgrade.clone()));
        let _ = shutdown.wait_for(|stop| *stop).await;
        self.notices.stopping();
        signals.abort();
        services.abort();
        housekeeping.abort();
        self.drain().await;
        // After the last request: what it leaves to a task is still carried out.
        reloader.tasks.end().await;
        (self.exit)(0);
    }

    fn name(&self) -> &str {
        "windrose"
    }

    fn threads(&self) -> Option<usize> {
        Some(self.threads)
    }
}

impl Supervisor {
    fn tell_ready(&self) {
        let generation = self.reloader.current.peek().generation;
        let words = format!("generation {generation} runs");
        match self.is_heir {
            true => self.notices.ready_as_main(&words),
            false => self.notices.ready(&words),
        }
    }

    /// Lets connections end: idle ones at once, the others after their request, within the time there is.
    async fn drain(&self) {
        let reloader = &self.reloader;
        reloader.status.draining.store(true, Relaxed);
        reloader.listeners.drain();
        reloader.leave_probation();
        let started = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        loop {
            ticks.tick().await;
            let open = reloader.listeners.open();
            let streams = reloader.leases.count();
            let waited = started.elapsed();
            let enough = if streams > 0 {
                self.stream_drain
            } else {
                self.drain
            };
            if open == 0 || waited >= enough {
                log::info!("drained: open={open} streams={streams} waited={waited:?}");
                break;
            }
        }
        if !reloader.status.handed_over.load(Relaxed) {
            reloader.listeners.remove_files();
        }
    }
}

/// Looks now and then whether the files on disk are still what is running, and lets quiet failures be told again.
async fn housekeeping(reloader: Arc<Reloader>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(2));
    loop {
        ticks.tick().await;
        event::process().sweep();
        // A reload in between would be told from what was seen before it.
        let _turn = reloader.turn.lock().await;
        let me = reloader.clone();
        let looked = move || {
            me.status.traffic.look(&me.metrics, traffic::INTERVAL);
            me.compare_with_disk()
        };
        let differs = tokio::task::spawn_blocking(looked).await.unwrap_or(false);
        let before = reloader.status.disk_differs.swap(differs, Relaxed);
        reloader.metrics.reload().differs(differs);
        if before && !differs {
            reloader.differs(None);
        }
        if differs && !before {
            log::warn!(
                "the configuration on disk is not the one running: path={}",
                reloader.path().display()
            );
        }
    }
}

/// The signals that do not end the process.
struct Signals {
    hup: Signal,
    usr1: Signal,
    usr2: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
            usr2: signal(SignalKind::user_defined2())?,
        })
    }
}

async fn hear(
    signals: std::io::Result<Signals>,
    reloader: Arc<Reloader>,
    upgrade: Arc<dyn Fn() + Send + Sync>,
) {
    let mut signals = match signals {
        Ok(signals) => signals,
        Err(error) => return log::error!("signals cannot be heard: {error}"),
    };
    loop {
        tokio::select! {
            _ = signals.hup.recv() => {
                reloader.carry_out(Order::Reload).await;
            }
            _ = signals.usr1.recv() => reopen(&reloader),
            _ = signals.usr2.recv() => hand_over(&reloader, upgrade.clone()).await,
        }
    }
}

/// Lets go of files that were renamed.
fn reopen(reloader: &Reloader) {
    reloader.access_log.reopen();
    for instance in reloader.current.peek().instances() {
        if let Some(hook) = &instance.hooks.reopen {
            hook();
        }
    }
}

/// Starts the new process. Nothing may come into force meanwhile: it would read what is on probation as if confirmed.
async fn hand_over(reloader: &Reloader, upgrade: Arc<dyn Fn() + Send + Sync>) {
    let _turn = reloader.turn.lock().await;
    if let Some(refusal) = reloader.trial.refusal() {
        return log::error!("upgrade refused: {refusal}");
    }
    if reloader.status.handed_over.load(Relaxed) {
        return log::error!("upgrade refused: {HANDED_OVER}");
    }
    let _ = tokio::task::spawn_blocking(move || upgrade()).await;
}
