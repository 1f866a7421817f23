//! The three proxies of the demo, each a process of this very program with a configuration of its own.
//! It must not know what they are used for.
//! Started and ended by `demo`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{kill_process, Pid, Signal};
use tokio::time::{interval, sleep};

use super::client::Ask;

/// One proxy, running.
pub(super) struct Proxy {
    pub(super) name: &'static str,
    /// Its configuration.
    pub(super) config: PathBuf,
    /// Its access log.
    pub(super) log: PathBuf,
    errors: PathBuf,
    admin: u16,
    child: Child,
}

/// All proxies. They end with this value, at the latest.
pub(super) struct Proxies(Vec<Proxy>);

/// What a proxy is started with.
pub(super) struct Plan {
    pub(super) name: &'static str,
    pub(super) config: String,
    pub(super) admin: u16,
}

impl Proxies {
    /// None yet.
    pub(super) fn new() -> Proxies {
        Proxies(Vec::new())
    }

    /// Writes the configurations and starts the processes, each when the one before is ready: an edge that cannot reach a
    /// node at first would hold it for ill until its health checks pass.
    pub(super) async fn start(&mut self, folder: &Path, plans: Vec<Plan>) -> Result<(), String> {
        for plan in plans {
            let name = plan.name;
            let proxy = Proxy::start(folder, plan).map_err(|error| format!("{name}: {error}"))?;
            self.0.push(proxy);
            self.ready().await?;
        }
        Ok(())
    }

    /// The proxy of that name.
    pub(super) fn named(&self, name: &str) -> Option<&Proxy> {
        self.0.iter().find(|proxy| proxy.name == name)
    }

    /// Waits until the last one says that it is ready.
    async fn ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(fate) = self.dead() {
                return Err(fate);
            }
            let Some(last) = self.0.last() else {
                return Ok(());
            };
            if last.is_ready().await {
                return Ok(());
            }
            if Instant::now() > deadline {
                let (name, words) = (last.name, last.last_words());
                return Err(format!("{name} is not ready after {PATIENCE:?}\n{words}"));
            }
            sleep(GLANCE).await;
        }
    }

    /// Ends when a proxy does, with what is known about it.
    pub(super) async fn until_one_dies(&mut self) -> String {
        let mut glance = interval(GLANCE);
        loop {
            if let Some(fate) = self.dead() {
                return fate;
            }
            glance.tick().await;
        }
    }

    fn dead(&mut self) -> Option<String> {
        self.0.iter_mut().find_map(|proxy| {
            let status = proxy.child.try_wait().ok()??;
            Some(proxy.fate(status))
        })
    }

    /// Asks all to end, waits, and ends those that do not.
    pub(super) async fn stop(mut self) {
        for proxy in &self.0 {
            proxy.signal(Signal::TERM);
        }
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline && self.0.iter_mut().any(Proxy::is_running) {
            sleep(GLANCE).await;
        }
        // Dropping ends the rest.
    }
}

impl Drop for Proxies {
    fn drop(&mut self) {
        for proxy in self.0.iter_mut().filter_map(Proxy::running) {
            let _ = proxy.child.kill();
            let _ = proxy.child.wait();
        }
    }
}

impl Proxy {
    fn start(folder: &Path, plan: Plan) -> std::io::Result<Proxy> {
        use std::os::unix::process::CommandExt;

        let file = |kind: &str| folder.join(format!("{}{kind}", plan.name));
        let (config, log, errors) = (file(".yaml"), file(".access.log"), file(".error.log"));
        fs::write(&config, plan.config)?;
        let child = Command::new(std::env::current_exe()?)
            .arg("run")
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::create(&errors)?)
            // A group of its own: Ctrl-C and a closed terminal reach the demo, which then ends the proxies in order.
            .process_group(0)
            .spawn()?;
        Ok(Proxy {
            name: plan.name,
            admin: plan.admin,
            config,
            log,
            errors,
            child,
        })
    }

    /// The process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub(super) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        // One that is gone already needs no signal.
        let _ = pid.map(|pid| kill_process(pid, signal));
    }

    async fn is_ready(&self) -> bool {
        let reply = Ask::new(self.admin, "localhost", "/readyz").send().await;
        reply.is_ok_and(|reply| reply.status == 200)
    }

    fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn running(&mut self) -> Option<&mut Proxy> {
        self.is_running().then_some(self)
    }

    fn fate(&self, status: ExitStatus) -> String {
        format!(
            "{} ended by itself: {status}\n{}",
            self.name,
            self.last_words()
        )
    }

    /// The end of its error log.
    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.errors).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(LAST_WORDS);
        lines[from..].join("\n")
    }
}

const PATIENCE: Duration = Duration::from_secs(20);
const GRACE: Duration = Duration::from_secs(5);
const GLANCE: Duration = Duration::from_millis(100);
const LAST_WORDS: usize = 20;
