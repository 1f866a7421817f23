//! A proxy process: started from YAML in a folder of its own, asked over its admin address, ended with the test.
//! It must not know what is tested.
//! Used by every black-box test.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::client::{Conn, Reply};
use super::upstream::Upstream;
use super::wait::{until, DEADLINE};

/// A running proxy.
pub(crate) struct Proxy {
    child: Child,
    folder: TempDir,
}

impl Proxy {
    /// Starts with this configuration; `server`, `admin` and `observe` are added where they are missing.
    pub(crate) fn start(yaml: &str) -> Proxy {
        Proxy::start_in(TempDir::new().unwrap(), yaml)
    }

    /// Starts with a folder that holds files the configuration names.
    pub(crate) fn start_in(folder: TempDir, yaml: &str) -> Proxy {
        Proxy::start_as(folder, yaml, |_| {})
    }

    /// As [`Proxy::start_in`], with an environment or a user of its own.
    pub(crate) fn start_as(folder: TempDir, yaml: &str, who: impl FnOnce(&mut Command)) -> Proxy {
        Proxy::run(Path::new(BINARY), folder, yaml, who)
    }

    /// Starts the proxy of `failing_plugin.rs`, which has plugins of its own.
    pub(crate) fn with_failing_plugin(yaml: &str) -> Proxy {
        Proxy::run(&test_plugins(), TempDir::new().unwrap(), yaml, |_| {})
    }

    fn run(binary: &Path, folder: TempDir, yaml: &str, who: impl FnOnce(&mut Command)) -> Proxy {
        let config = folder.path().join("windrose.yaml");
        fs::write(&config, complete(yaml, folder.path())).unwrap();
        let log = fs::File::create(folder.path().join("stderr")).unwrap();
        let mut command = Command::new(binary);
        command.args(["run", "-c"]).arg(&config);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        who(&mut command);
        let child = command.spawn().expect("the binary starts");
        let mut proxy = Proxy { child, folder };
        until("the proxy is ready", || {
            let ended = proxy.child.try_wait().unwrap();
            assert!(ended.is_none(), "the proxy did not start");
            let ready = proxy.ask_admin("GET", "/readyz", "").ok()?;
            (ready.status == 200 && proxy.hears_signals()).then_some(())
        });
        proxy
    }

    /// Whether HUP, USR1 and USR2 are caught; before that they end the process, also when it calls itself ready.
    fn hears_signals(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        caught.is_some_and(|caught| caught & SIGNALS == SIGNALS)
    }

    /// Starts with one plain listener named `web`.
    pub(crate) fn http(yaml: &str) -> Proxy {
        Proxy::start(&format!("{WEB}{yaml}"))
    }

    /// Starts with one plain listener and everything sent to a pool of these.
    pub(crate) fn to(upstreams: &[&Upstream]) -> Proxy {
        Proxy::http(&format!("{}{ALL_TO_APP}", pool("app", upstreams)))
    }

    /// The address of a listener, as the kernel gave it.
    pub(crate) fn address(&self, listener: &str) -> SocketAddr {
        until("the listener's address", || {
            let view = self.admin("/listeners");
            let mut all = view["listeners"].as_array().into_iter().flatten();
            let found = all.find(|one| one["name"] == listener && one["state"] == "listening");
            found.and_then(|one| one["bind"].as_str()?.parse().ok())
        })
    }

    /// A connection to the listener `web`.
    pub(crate) fn connect(&self) -> Conn {
        Conn::open(self.address("web"))
    }

    /// GET on a connection of its own, for the host `test`.
    pub(crate) fn get(&self, target: &str) -> Reply {
        self.ask("GET", target, "")
    }

    /// A request with these further header lines, each ended by CRLF.
    pub(crate) fn ask(&self, method: &str, target: &str, fields: &str) -> Reply {
        let host = match fields.to_ascii_lowercase().contains("host:") {
            true => "",
            false => "host: test\r\n",
        };
        let request = format!("{method} {target} HTTP/1.1\r\n{host}{fields}\r\n");
        self.connect().ask(request)
    }

    /// What an admin page says, as JSON.
    pub(crate) fn admin(&self, path: &str) -> Value {
        self.admin_reply(path).json()
    }

    /// What an admin page says.
    pub(crate) fn admin_reply(&self, path: &str) -> Reply {
        self.ask_admin("GET", path, "").expect("admin answers")
    }

    /// A request to the admin address: a socket in the proxy's folder, as a port could be another test's before the proxy has it.
    pub(crate) fn ask_admin(&self, method: &str, path: &str, fields: &str) -> io::Result<Reply> {
        let stream = UnixStream::connect(self.file("admin.sock"))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let mut conn = Conn::new(stream);
        conn.send(format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{fields}\r\n"
        ));
        conn.reply()
    }

    /// The sum of a metric's series whose line has all these marks; 0 when there is none.
    pub(crate) fn metric(&self, name: &str, marks: &[&str]) -> f64 {
        let text = self.admin_reply("/metrics").text();
        let of_name = |line: &&str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
        };
        let lines = text.lines().filter(of_name);
        let lines = lines.filter(|line| marks.iter().all(|mark| line.contains(mark)));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// How many connections a listener refused with a cause.
    pub(crate) fn refusals(&self, listener: &str, cause: &str) -> f64 {
        let marks = [
            &*format!("listener=\"{listener}\""),
            &*format!("cause=\"{cause}\""),
        ];
        self.metric("windrose_connection_failures_total", &marks)
    }

    /// The pool as `/pools` shows it.
    pub(crate) fn pool(&self, name: &str) -> Value {
        let view = self.admin("/pools");
        let mut all = view["pools"].as_array().into_iter().flatten();
        let found = all.find(|pool| pool["name"] == name);
        found.unwrap_or_else(|| panic!("no pool {name}")).clone()
    }

    /// The access log's whole lines so far; one that crosses a page of the file can be seen half written.
    pub(crate) fn log(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.file("access.log")).unwrap_or_default();
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        let line = |line: &str| serde_json::from_str(line).expect("a line is JSON");
        whole.lines().map(line).collect()
    }

    /// Waits for a line of the access log.
    pub(crate) fn logged(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        until("a line in the access log", || {
            self.log().into_iter().find(&wanted)
        })
    }

    /// What the proxy wrote to its error log.
    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(self.file("stderr")).unwrap_or_default()
    }

    /// A file in the proxy's folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.file("windrose.yaml")
    }

    /// Writes another configuration, which nobody reads yet.
    pub(crate) fn rewrite(&self, yaml: &str) {
        let text = complete(yaml, self.folder.path());
        // In one step, as editors do: a reader never sees half of it.
        fs::write(self.file("next"), text).unwrap();
        fs::rename(self.file("next"), self.config()).unwrap();
    }

    /// Writes another configuration, reloads by signal and waits for the outcome.
    pub(crate) fn reload(&self, yaml: &str) -> Value {
        self.rewrite(yaml);
        let before = self.admin("/readyz")["last_reload"].clone();
        self.signal("HUP");
        until("the reload is over", || {
            let last = self.admin("/readyz")["last_reload"].clone();
            (!last.is_null() && last != before).then_some(last)
        })
    }

    /// Runs `windrose reload` for this proxy.
    pub(crate) fn reload_command(&self) -> Output {
        run(&["reload", "-c", self.config().to_str().unwrap()])
    }

    /// Sends a signal, by its short name.
    pub(crate) fn signal(&self, name: &str) {
        signal(name, self.pid());
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the process to end by itself.
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        until("the proxy ends", || self.child.try_wait().unwrap())
    }

    /// Resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        number.expect("a size")
    }
}

impl Drop for Proxy {
    /// Ends the process at once; ending in order has tests of its own, and waiting for it in each test would take minutes.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the proxy's error log:\n{}", self.stderr());
        }
        let heir = fs::read_to_string(self.file("pid")).unwrap_or_default();
        if let Ok(pid) = heir.trim().parse::<u32>() {
            if pid != self.pid() && runs_here(pid, self.folder.path()) {
                signal("KILL", pid);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a process is a proxy of this folder, so that no stranger with a used-again pid is hit.
fn runs_here(pid: u32, folder: &Path) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).contains(&*folder.to_string_lossy())
}

fn signal(name: &str, pid: u32) {
    let kill = format!("kill -{name} {pid}");
    let done = Command::new("sh").args(["-c", &kill]).status();
    assert!(done.unwrap().success(), "{kill}");
}

/// Runs the binary to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    let done = Command::new(BINARY).args(arguments).output();
    done.expect("the binary runs")
}

/// The same of the proxy of `failing_plugin.rs`.
pub(crate) fn run_test_plugins(arguments: &[&str]) -> Output {
    let done = Command::new(test_plugins()).args(arguments).output();
    done.expect("the binary runs")
}

fn test_plugins() -> PathBuf {
    Path::new(BINARY).with_file_name("examples/failing_plugin")
}

/// A pool of these in YAML, under `pools`.
pub(crate) fn pool(name: &str, upstreams: &[&Upstream]) -> String {
    let mut text = format!("pools:\n- name: {name}\n  endpoints:\n");
    for upstream in upstreams {
        let _ = writeln!(text, "  - {}", upstream.address);
    }
    text
}

fn complete(yaml: &str, folder: &Path) -> String {
    let folder = folder.display();
    let mut text = yaml.replace("FOLDER", &folder.to_string());
    let has = |text: &str, key: &str| text.lines().any(|line| line.starts_with(key));
    if !has(&text, "server:") {
        let _ = write!(
            text,
            "\nserver:\n  threads: 2\n  pid_file: {folder}/pid\n  upgrade_socket: {folder}/upgrade.sock\n  drain_timeout: 5s\n  stream_drain_timeout: 5s\n"
        );
    }
    if !has(&text, "observe:") {
        let _ = write!(
            text,
            "\nobserve:\n  access_log:\n    to: {folder}/access.log\n"
        );
    }
    if !has(&text, "admin:") {
        let _ = write!(text, "\nadmin:\n  bind: unix:{folder}/admin.sock\n");
    }
    text
}

/// One plain listener, in YAML.
pub(crate) const WEB: &str = "listeners:\n- name: web\n  bind: 127.0.0.1:0\n";

/// Every request to the pool `app`, in YAML.
pub(crate) const ALL_TO_APP: &str = "routes:\n- name: all\n  rules:\n  - pool: app\n";

/// The bits of HUP (1), USR1 (10) and USR2 (12).
const SIGNALS: u64 = 1 | 1 << 9 | 1 << 11;

/// The proxy's binary.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_windrose");
