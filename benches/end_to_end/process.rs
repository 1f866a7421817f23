//! Processes under measurement: started, read from `/proc`, ended.
//! It must not know what they serve.
//! Used by every part of the bench; dropping a [`Process`] ends it.

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A process with all it started, such as nginx with its worker.
pub(crate) struct Process(Child);

impl Process {
    /// Starts a command and waits until it listens.
    pub(crate) fn start(
        mut command: Command,
        log: &Path,
        port: u16,
    ) -> Result<Process, Box<dyn Error>> {
        let output = fs::File::create(log)?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let mut process = Process(command.spawn()?);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(address).is_err() {
            if process.0.try_wait()?.is_some() || Instant::now() > deadline {
                let said = fs::read_to_string(log).unwrap_or_default();
                return Err(format!("{command:?} does not listen: {said}").into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(process)
    }

    /// Ends it without a word, as `kill -9` does.
    pub(crate) fn kill(mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// CPU time so far, of living processes. Resolution is one tick, 10 ms.
    pub(crate) fn cpu(&self) -> Duration {
        let ticks: u64 = self.tree().iter().map(|(_, stat)| stat.ticks).sum();
        Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
    }

    /// Resident memory in bytes. Pages that processes share count for each, so use differences.
    pub(crate) fn resident(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The part of it that is the process's own, in bytes: the rest are pages of files, most of them code.
    pub(crate) fn anonymous(&self) -> u64 {
        self.status("RssAnon:")
    }

    fn status(&self, key: &str) -> u64 {
        let of = |pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            kib.unwrap_or(0) * 1024
        };
        self.tree().iter().map(|(pid, _)| of(pid)).sum()
    }

    fn tree(&self) -> Vec<(u32, Stat)> {
        let all = stats();
        let root = self.0.id();
        let belongs = |mut pid: u32| loop {
            match all.get(&pid) {
                _ if pid == root => return true,
                Some(stat) => pid = stat.parent,
                None => return false,
            }
        };
        let own = all.iter().filter(|(pid, _)| belongs(**pid));
        own.map(|(pid, stat)| (*pid, *stat)).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // TERM first, so that a master ends its workers.
        if let Some(pid) = rustix::process::Pid::from_raw(self.0.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let deadline = Instant::now() + Duration::from_secs(1);
        while Instant::now() < deadline {
            if matches!(self.0.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        for (pid, _) in self.tree() {
            if let Some(pid) = rustix::process::Pid::from_raw(pid as i32) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        let _ = self.0.wait();
    }
}

#[derive(Clone, Copy)]
struct Stat {
    parent: u32,
    ticks: u64,
}

fn stats() -> HashMap<u32, Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before the last `)` may hold spaces; field 3 follows it.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let stat = Stat {
            parent: number(1)? as u32,
            ticks: number(11)? + number(12)?,
        };
        Some((pid, stat))
    })
    .collect()
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// `USER_HZ`, which Linux keeps at 100 for programs on every common architecture.
const TICKS_PER_SECOND: u64 = 100;
