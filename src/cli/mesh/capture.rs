//! Whether rules are in force, connections of those who are captured really come to the process, and its own do not.
//! It must not change rules; it asks the kernel, and has small processes connect to where nobody is.
//! Part of `windrose mesh check`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Args;
use socket2::{Domain, Socket, Type};

use super::findings::{Findings, Word};
use super::Scene;
use crate::cli::capture::{self, Record};

/// Checks what is recorded, and whether anything should be.
pub(super) fn check(scene: &Scene<'_>, is_alive: bool, found: &mut Findings) {
    let captures = scene
        .config
        .listeners
        .iter()
        .any(|one| one.capture.is_some());
    let records = capture::records(scene.state);
    match (captures, records.is_empty()) {
        (false, true) => return,
        (false, false) => {
            let remedy =
                "remove them with `windrose capture remove`, or set `capture` on a listener";
            let fact = "rules are recorded, but no listener captures";
            found.add(AREA, Word::Wrong, fact, remedy);
            return;
        }
        (true, true) => {
            let fact = format!("no rules are recorded in {}", scene.state.display());
            let remedy =
                "put them in force with `windrose capture apply`, or name the folder with --state";
            found.add(AREA, Word::Wrong, fact, remedy);
        }
        (true, false) => {}
    }
    for record in &records {
        in_force(record, found);
        if is_alive {
            arrives(scene, record, found);
        }
        loops(scene, record, found);
    }
    workloads(scene, &records, found);
    if is_alive {
        looped(scene, found);
    }
}

fn in_force(record: &Record, found: &mut Findings) {
    let name = &record.name;
    match record.is_in_force() {
        Ok(true) => match record.lost_group() {
            Some(fact) => {
                let remedy = "`windrose capture apply` again takes the group that there is now";
                found.add(AREA, Word::Wrong, fact, remedy);
            }
            None => found.ok(AREA, format!("the rules \"{name}\" are in force")),
        },
        Ok(false) => {
            let fact = format!("the rules \"{name}\" are recorded, but gone");
            let remedy = "`windrose capture apply` puts them in force again";
            found.add(AREA, Word::Wrong, fact, remedy);
        }
        Err(problem) => {
            let fact = format!("whether the rules \"{name}\" are in force: {problem}");
            found.add(AREA, Word::NotProven, fact, AS_ROOT);
        }
    }
}

/// Whether a connection of those who are captured comes to this process.
fn arrives(scene: &Scene<'_>, record: &Record, found: &mut Findings) {
    let canary = Canary::captured(record);
    let who = canary.who();
    let before = arrivals(scene);
    let reached = match canary.send(record) {
        Ok(reached) => reached,
        Err(problem) => {
            let fact = format!("whether a connection of {who} is captured: {problem}");
            return found.add(AREA, Word::NotProven, fact, AS_ROOT);
        }
    };
    match (reached, arrivals(scene) > before) {
        (true, true) => found.ok(AREA, format!("a connection of {who} was captured")),
        (true, false) => found.add(
            AREA,
            Word::Wrong,
            format!("a connection of {who} to {NOWHERE} was taken, but not by this process"),
            "another rule or process captures it; look at `nft list ruleset`",
        ),
        (false, _) => found.add(
            AREA,
            Word::Wrong,
            format!("a connection of {who} was not captured"),
            "look for rules that come before ours: `nft list ruleset`",
        ),
    }
}

/// Whether the process's own connections are left alone.
fn loops(scene: &Scene<'_>, record: &Record, found: &mut Findings) {
    let runs_as = capture::user_of_process(scene.config);
    let exempt = |user: u32| record.proxy == Some(user) || record.user.is_some_and(|it| it != user);
    if let (Some(user), None) = (runs_as, record.mark) {
        if !exempt(user) {
            let fact = format!(
                "the process runs as user {user}, whose connections the rules \"{}\" capture: they would come back to it",
                record.name
            );
            let remedy =
                "`windrose capture apply` with --proxy-user, or set `server.mark` and apply again";
            return found.add(AREA, Word::Wrong, fact, remedy);
        }
    }
    let Some(canary) = Canary::exempt(record, runs_as) else {
        let fact = format!(
            "whether the rules \"{}\" leave the process's own connections alone: it is not known which user it runs as",
            record.name
        );
        let remedy = "set `server.pid_file`, or apply the rules again with --proxy-user";
        return found.add(AREA, Word::NotProven, fact, remedy);
    };
    let who = canary.who();
    match canary.send(record) {
        Ok(false) => found.ok(
            AREA,
            format!("a connection of {who}, as the process makes them, was left alone"),
        ),
        Ok(true) => found.add(
            AREA,
            Word::Wrong,
            format!("a connection of {who}, as the process makes them, was captured: it would come back to it"),
            "`windrose capture apply` with --proxy-user, or set `server.mark` and apply again",
        ),
        Err(problem) => {
            let fact = format!("whether a connection of {who} is left alone: {problem}");
            found.add(AREA, Word::NotProven, fact, AS_ROOT);
        }
    }
}

/// Workloads that are known by user or control group, and whose connections nothing captures.
fn workloads(scene: &Scene<'_>, records: &[Record], found: &mut Findings) {
    let identity = scene.config.identity.iter();
    for workload in identity.flat_map(|identity| &identity.workloads) {
        let by = &workload.matches;
        let everybody = |record: &&Record| record.user.is_none() && record.cgroup.is_none();
        let of_user = |user: &u32| {
            let mut all = records.iter();
            all.any(|record| record.user == Some(*user) || everybody(&record))
        };
        let of_group = |group: &String| {
            let group = group.trim_matches('/');
            let mut all = records.iter();
            all.any(|record| {
                let captured = record.cgroup.as_deref();
                let is_in = captured.is_some_and(|outer| {
                    let below = group.strip_prefix(outer);
                    below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                });
                is_in || everybody(&record)
            })
        };
        let is_known = !(by.users.is_empty() && by.cgroups.is_empty());
        let is_captured = by.users.iter().any(of_user) || by.cgroups.iter().any(of_group);
        if is_known && !is_captured && by.listeners.is_empty() {
            let fact = format!(
                "no rules are for the user or control group of workload {}: its connections go past the proxy",
                workload.name
            );
            let remedy = "`windrose capture apply --name NAME` with its --user or --cgroup";
            found.add(AREA, Word::Warning, fact, remedy);
        }
    }
}

/// Connections that came back since the process started.
fn looped(scene: &Scene<'_>, found: &mut Findings) {
    let mark = "cause=\"capture_loop\"";
    let count = scene.metric("windrose_connection_failures_total", mark);
    if count > 0.0 {
        let fact =
            format!("{count} connections were refused as `capture_loop` since the process started");
        let remedy = "`windrose why capture_loop` says what to look at";
        found.add(AREA, Word::Warning, fact, remedy);
    }
}

fn arrivals(scene: &Scene<'_>) -> f64 {
    scene.metric("windrose_connections_total", "mesh-outbound")
}

/// A connection to where nobody is, made by a process of its own.
#[derive(Args)]
pub(in crate::cli) struct Canary {
    /// Become this user first.
    #[arg(long)]
    user: Option<u32>,
    /// Join this control group first.
    #[arg(long)]
    cgroup: Option<String>,
    /// Mark the connection.
    #[arg(long)]
    mark: Option<u32>,
}

impl Canary {
    /// One that the rules are for.
    fn captured(record: &Record) -> Canary {
        Canary {
            user: record.user.or_else(|| Some(somebody(record))),
            cgroup: record.cgroup.clone(),
            mark: None,
        }
    }

    /// One as the process makes them; `None` where that is not known.
    fn exempt(record: &Record, runs_as: Option<u32>) -> Option<Canary> {
        let user = runs_as.or(record.proxy);
        let is_known = user.is_some() || record.mark.is_some();
        is_known.then(|| Canary {
            user: user.or(record.user),
            cgroup: None,
            mark: record.mark,
        })
    }

    fn who(&self) -> String {
        match (&self.user, &self.cgroup, self.mark) {
            (_, _, Some(mark)) => format!("mark {mark:#x}"),
            (_, Some(group), None) => format!("control group {group}"),
            (Some(user), None, None) => format!("user {user}"),
            (None, None, None) => "anybody".to_owned(),
        }
    }

    /// Whether somebody took it.
    fn send(&self, record: &Record) -> Result<bool, String> {
        let binary = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = match &record.netns {
            None => Command::new(binary),
            Some(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name]).arg(binary);
                command
            }
        };
        command.arg("probe-connection");
        let options = [
            ("--user", self.user.map(|it| it.to_string())),
            ("--cgroup", self.cgroup.clone()),
            ("--mark", self.mark.map(|it| it.to_string())),
        ];
        for (option, value) in options {
            if let Some(value) = value {
                command.args([option, &value]);
            }
        }
        let output = command.output().map_err(|error| error.to_string())?;
        match output.status.code() {
            Some(TAKEN) => Ok(true),
            Some(NOT_TAKEN) => Ok(false),
            _ => {
                let said = String::from_utf8_lossy(&output.stderr);
                Err(said.lines().next().unwrap_or("it was killed").to_owned())
            }
        }
    }

    /// What the process of its own does. A control group and a mark need root, so they come before the user.
    pub(in crate::cli) fn fly(&self) -> ExitCode {
        match self.try_fly() {
            Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        }
    }

    fn try_fly(&self) -> io::Result<i32> {
        if let Some(group) = &self.cgroup {
            let file = format!("/sys/fs/cgroup/{group}/cgroup.procs");
            std::fs::write(file, std::process::id().to_string())?;
        }
        // A mark is the socket's, so whoever made it does not matter.
        if let (Some(user), None) = (self.user, self.mark) {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("probe-connection").uid(user).gid(user);
            return Ok(command.status()?.code().unwrap_or(1));
        }
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if let Some(mark) = self.mark {
            socket.set_mark(mark)?;
        }
        let taken = socket.connect_timeout(&NOWHERE.into(), PATIENCE).is_ok();
        Ok(if taken { TAKEN } else { NOT_TAKEN })
    }
}

/// Any user but the proxy's.
fn somebody(record: &Record) -> u32 {
    match record.proxy {
        Some(NOBODY) => NOBODY - 1,
        _ => NOBODY,
    }
}

const AREA: &str = "capture";
const AS_ROOT: &str = "run this as root: it asks the kernel, and connects as other users";
/// An address of documentation (RFC 5737) that nothing answers at: who connects all the same was captured.
const NOWHERE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 254)), 80);
const PATIENCE: Duration = Duration::from_secs(2);
const NOBODY: u32 = 65_534;
/// Exit codes that no shell and no failure gives.
const TAKEN: i32 = 10;
const NOT_TAKEN: i32 = 11;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &str) -> Record {
        let base = r#"{"name": "x", "backend": "nft", "tproxy": false, "rules": """#;
        serde_json::from_str(&format!("{base}{text}}}")).unwrap()
    }

    #[test]
    fn a_canary_is_one_of_those_who_are_captured() {
        let of = |text: &str| Canary::captured(&record(text)).who();

        assert_eq!(of(r#", "user": 7"#), "user 7");
        assert_eq!(of(r#", "cgroup": "a/b""#), "control group a/b");
        assert_eq!(of(r#", "netns": "n""#), "user 65534");
        assert_eq!(of(r#", "netns": "n", "proxy": 65534"#), "user 65533");
    }

    #[test]
    fn the_process_is_known_by_its_mark_or_its_user() {
        let of = |text: &str, runs_as| {
            let canary = Canary::exempt(&record(text), runs_as);
            canary.map(|canary| canary.who())
        };

        assert_eq!(of("", None), None);
        assert_eq!(of(r#", "proxy": 9"#, None).as_deref(), Some("user 9"));
        assert_eq!(of("", Some(8)).as_deref(), Some("user 8"));
        assert_eq!(
            of(r#", "mark": 119"#, Some(8)).as_deref(),
            Some("mark 0x77")
        );
    }
}
