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

use crate::config::boot;
use crate::config::schema::{Config, Server};
use crate::config::source::Document;
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
    boot::admin_bind(&config).ok_or_else(|| {
        "`admin.bind` is off, so the process cannot be asked; send it SIGHUP and read its log"
            .to_owned()
    })
}

/// Posts a document to the running process and reads the answer.
pub(super) fn post(path: &Path, target: &str, body: &str) -> Result<(u16, Value), String> {
    exchange(&admin(path)?, "POST", target, body)
}

fn section<T: DeserializeOwned + Default>(path: &Path, key: &str) -> Result<T, String> {
    let document = Document::read(path).map_err(|report| report.to_string())?;
    let written = document.value().get(key).cloned().unwrap_or_default();
    Ok(serde_yaml::from_value(written).unwrap_or_default())
}

pub(super) fn ask(bind: &Bind, method: &str, target: &str) -> Result<(u16, Value), String> {
    exchange(bind, method, target, "")
}

fn exchange(bind: &Bind, method: &str, target: &str, body: &str) -> Result<(u16, Value), String> {
    let exchange = || -> io::Result<String> {
        let length = body.len();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nhost: localhost\r\nx-windrose-admin: reload\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        match bind {
            Bind::Tcp(address) => talk(
                TcpStream::connect_timeout(address, Duration::from_secs(2))?,
                &request,
            ),
            Bind::Unix(path) => talk(UnixStream::connect(path)?, &request),
        }
    };
    let text = exchange().map_err(|error| {
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

/// One exchange; an answer is bounded, and a reload may wait for discovery and large configurations.
fn talk(mut stream: impl Read + Write, request: &str) -> io::Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LARGEST_ANSWER).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A bundle of the largest recorder.
const LARGEST_ANSWER: u64 = 256 << 20;
