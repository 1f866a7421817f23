//! Commands that speak to the running process: reload, upgrade, ready.
//! It must not act itself; the process does and says what came of it.
//! Called by `cli`; finds the process by the admin address and pid file of the configuration.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config::schema::{Config, Server};
use crate::config::{boot, load_section};
use crate::snapshot::listener::Bind;

/// Reloads and waits.
pub(super) fn reload(path: &Path) -> ExitCode {
    match admin(path).and_then(|bind| ask(&bind, "POST", "/reload")) {
        Ok((status, body)) => tell_reload(status, &body),
        Err(problem) => failed(&problem),
    }
}

/// Prints what came of a reload.
pub(super) fn tell_reload(status: u16, body: &Value) -> ExitCode {
    let lines = |key: &str| -> Vec<String> {
        let all = body[key].as_array().into_iter().flatten();
        all.map(|line| line.as_str().unwrap_or_default().to_owned())
            .collect()
    };
    let generation = &body["generation"];
    if status == 200 {
        let changes = lines("changes");
        changes.iter().for_each(|change| println!("{change}"));
        let quarantined = lines("quarantined");
        quarantined
            .iter()
            .for_each(|object| eprintln!("warning: {object}"));
        match changes.is_empty() {
            true => println!("nothing changed; generation {generation} runs"),
            false => println!(
                "reloaded; generation {generation} runs, {} changes",
                changes.len()
            ),
        }
        return ExitCode::SUCCESS;
    }
    lines("problems")
        .iter()
        .for_each(|problem| eprintln!("{problem}"));
    if let Some(error) = body["error"].as_str() {
        return failed(error);
    }
    eprintln!("refused; generation {generation} still runs");
    ExitCode::FAILURE
}

/// Asks for readiness.
pub(super) fn ready(path: &Path) -> ExitCode {
    match admin(path).and_then(|bind| ask(&bind, "GET", "/readyz")) {
        Ok((200, body)) => {
            match body["quarantined"].as_u64() {
                Some(count) if count > 0 => println!("ready; quarantined: {count}"),
                _ => println!("ready"),
            }
            ExitCode::SUCCESS
        }
        Ok((_, body)) => failed(body["reason"].as_str().unwrap_or("not ready")),
        Err(problem) => failed(&problem),
    }
}

/// Starts this binary in place of the running one and waits until it serves.
pub(super) fn upgrade(path: &Path) -> ExitCode {
    match try_upgrade(path) {
        Ok((old, new)) => {
            println!("upgraded: process {new} took over from {old}");
            ExitCode::SUCCESS
        }
        Err(problem) => failed(&problem),
    }
}

fn try_upgrade(path: &Path) -> Result<(i32, i32), String> {
    // The process itself judges the rest, and says what it refuses.
    let server: Server = section(path, "server")?;
    let file = server
        .pid_file
        .ok_or("`server.pid_file` is not set, so the process cannot be found")?;
    let read = || {
        std::fs::read_to_string(&file)
            .ok()
            .and_then(|pid| pid.trim().parse::<i32>().ok())
    };
    let old = read().ok_or_else(|| format!("\"{file}\" holds no process id; is it running?"))?;
    let on_probation = admin(path)
        .and_then(|bind| ask(&bind, "GET", "/probation"))
        .is_ok_and(|(_, body)| body["on_probation"].is_object());
    if on_probation {
        return Err("a configuration is on probation, and another process would read it as if confirmed\n  help: `windrose confirm` or `windrose rollback` first".to_owned());
    }
    let process = rustix::process::Pid::from_raw(old).ok_or("a process id is above zero")?;
    rustix::process::kill_process(process, rustix::process::Signal::USR2)
        .map_err(|error| format!("process {old} cannot be told: {error}"))?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        let new = read().filter(|new| *new != old);
        if let Some(new) = new.filter(|_| ready(path) == ExitCode::SUCCESS) {
            return Ok((old, new));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(format!(
        "process {old} did not hand over within 30 s; its log says why, and it still serves"
    ))
}

pub(super) fn failed(problem: &str) -> ExitCode {
    eprintln!("{problem}");
    ExitCode::FAILURE
}

/// The admin address. Only this section is read: the rest may be broken, and the running process is to say so; and a large
/// configuration would be judged twice.
pub(super) fn admin(path: &Path) -> Result<Bind, String> {
    let config = Config {
        admin: section(path, "admin")?,
        ..Config::default()
    };
    boot::admin_bind(&config).ok_or_else(|| match config.admin.bind.as_str() {
        "off" => {
            "`admin.bind` is off, so the process cannot be asked; send it SIGHUP and read its log"
                .to_owned()
        }
        other => format!(
            "{}: admin.bind: \"{other}\" is not an address, so the process cannot be asked",
            path.display()
        ),
    })
}

/// Posts a document to the running process and reads the answer.
pub(super) fn post(path: &Path, target: &str, body: &str) -> Result<(u16, Value), String> {
    exchange(&admin(path)?, "POST", target, body)
}

fn section<T: DeserializeOwned + Default>(path: &Path, key: &'static str) -> Result<T, String> {
    load_section(path, key).map_err(|report| report.to_string())
}

pub(super) fn ask(bind: &Bind, method: &str, target: &str) -> Result<(u16, Value), String> {
    exchange(bind, method, target, "")
}

/// What a page says that is no JSON.
pub(super) fn text(bind: &Bind, target: &str) -> Result<String, String> {
    let request = format!("GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    sent(bind, &request, patience(target)).map_err(|error| format!("{bind}: {error}"))
}

fn exchange(bind: &Bind, method: &str, target: &str, body: &str) -> Result<(u16, Value), String> {
    let length = body.len();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nhost: localhost\r\nx-windrose-admin: reload\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    let text = sent(bind, &request, patience(target)).map_err(|error| {
        format!(
            "{bind} does not answer: {error}\n  help: is windrose running with this configuration?"
        )
    })?;
    let status = text
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, serde_json::from_str(body).unwrap_or(Value::Null)))
}

/// How long an answer may be silent: a reload waits for discovery and large configurations, proofs for peers.
fn patience(target: &str) -> Duration {
    let path = target.split('?').next().unwrap_or_default();
    Duration::from_secs(match path {
        "/reload" | "/explain" | "/mesh/probe" => 300,
        _ => 10,
    })
}

fn sent(bind: &Bind, request: &str, patience: Duration) -> io::Result<String> {
    let answer = match bind {
        Bind::Tcp(address) => {
            let stream = TcpStream::connect_timeout(address, Duration::from_secs(2))?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            talk(stream, request)
        }
        Bind::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            talk(stream, request)
        }
    };
    // The system's word for it is "resource temporarily unavailable".
    answer.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => io::Error::new(
            io::ErrorKind::TimedOut,
            format!("nothing came within {} s", patience.as_secs()),
        ),
        _ => error,
    })
}

/// One exchange; an answer is bounded.
fn talk(mut stream: impl Read + Write, request: &str) -> io::Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LARGEST_ANSWER).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A bundle of the largest recorder.
const LARGEST_ANSWER: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::TcpListener;

    use tempfile::TempDir;

    use super::*;

    /// The admin address of a configuration, and of files beside it.
    fn found(text: &str, others: &[(&str, &str)]) -> Result<String, String> {
        let folder = TempDir::new().unwrap();
        for (name, text) in [("gw.yaml", text)].iter().chain(others) {
            fs::write(folder.path().join(name), text).unwrap();
        }
        admin(&folder.path().join("gw.yaml")).map(|bind| bind.to_string())
    }

    const ADDRESS: &str = "127.0.0.1:4321";

    #[test]
    fn what_is_wrong_elsewhere_does_not_hide_the_admin_address() {
        let elsewhere = [
            "pools: [{name: '${env:WINDROSE_TEST_NOT_SET}'}]",
            "pools: ['${file:missing.txt}']",
            "polls: {unknown: [key]}",
            "routes: 5",
            "routes: [{a: 1, a: 2}]",
            "include: [missing.yaml, '${env:WINDROSE_TEST_NOT_SET}']",
        ];

        for wrong in elsewhere {
            let admin = "admin: {bind: '127.0.0.1:4321'}";
            for text in [format!("{wrong}\n{admin}\n"), format!("{admin}\n{wrong}\n")] {
                assert_eq!(found(&text, &[]).as_deref(), Ok(ADDRESS), "{text}");
            }
        }
    }

    #[test]
    fn an_included_file_may_have_the_admin_address() {
        let more = "pools: ['${env:WINDROSE_TEST_NOT_SET}']\nadmin: {bind: '${env:WINDROSE_TEST_NOT_SET:-127.0.0.1:4321}'}\n";

        let bind = found("include: [more.yaml]\npools: 5\n", &[("more.yaml", more)]);
        let missing = found("include: [more.yaml]\n", &[]).unwrap_err();

        assert_eq!(bind.as_deref(), Ok(ADDRESS));
        assert!(missing.contains("gw.yaml:1:"), "{missing}");
    }

    #[test]
    fn what_is_wrong_with_the_admin_section_is_told_with_its_place() {
        let wrong = [
            ("admin: {bind: [1]}", "gw.yaml:1:15: admin.bind: "),
            ("admin: {bnid: off}", "unknown field `bnid`"),
            (
                "admin: {bind: '${env:WINDROSE_TEST_NOT_SET}'}",
                "WINDROSE_TEST_NOT_SET is not set",
            ),
            ("admin: {bind: nowhere}", "gw.yaml: admin.bind: \"nowhere\""),
            ("admin: {bind: '127.0.0.1:1'}\nadmin: {}", "given twice"),
            ("admin: {bind: '127.0.0.1:1'}\npools: [", "is not YAML"),
        ];

        for (text, expected) in wrong {
            let problem = found(text, &[]).unwrap_err();
            assert!(problem.contains(expected), "{text}: {problem}");
            assert!(problem.contains("gw.yaml:"), "{text}: {problem}");
        }
    }

    #[test]
    fn a_process_that_is_stuck_is_not_waited_for_forever() {
        let stuck = TcpListener::bind("127.0.0.1:0").unwrap();
        let bind = Bind::Tcp(stuck.local_addr().unwrap());

        let error = sent(&bind, "GET / HTTP/1.1\r\n\r\n", Duration::from_millis(50)).unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(patience("/status"), Duration::from_secs(10));
        assert_eq!(patience("/reload?confirm=1m"), Duration::from_secs(300));
    }
}
