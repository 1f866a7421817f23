//! The commands that change the kernel's rules: nft, or iptables-restore where it is missing, and ip for TPROXY's routes.
//! It must not know why rules are wanted.
//! Called by `windrose capture`.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde::{Deserialize, Serialize};

use super::rules::{chains, route_mark, table, undo_nft, Wanted};

/// What speaks to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Backend {
    /// One transaction of nftables.
    Nft,
    /// iptables, for both families.
    Iptables,
}

/// A network namespace's rules.
pub(super) struct Kernel {
    pub(super) netns: Option<String>,
    pub(super) backend: Backend,
}

const BOTH: [(bool, &str, &str); 2] = [
    (true, "iptables", "iptables-restore"),
    (false, "ip6tables", "ip6tables-restore"),
];

impl Kernel {
    /// Of a namespace, or of this process's own.
    pub(super) fn new(netns: Option<String>, iptables: bool) -> Result<Kernel, String> {
        let backend = match (iptables, found("nft"), found("iptables-restore")) {
            (false, true, _) => Backend::Nft,
            (true, _, true) | (false, false, true) => Backend::Iptables,
            (true, _, false) => return Err("iptables-restore is not installed".into()),
            (false, false, false) => {
                return Err(
                    "neither nft nor iptables-restore is installed; the package is `nftables`"
                        .into(),
                )
            }
        };
        Ok(Kernel { netns, backend })
    }

    /// Puts rules in force in place of those of the same name.
    pub(super) fn apply(&self, wanted: &Wanted) -> Result<(), String> {
        for command in self.routes(wanted) {
            // What is there already is what was wanted.
            let _ = self.run("ip", &without(&command), "");
            self.run("ip", &command, "")?;
        }
        match self.backend {
            Backend::Nft => self.run("nft", &words("-f -"), &wanted.nft()),
            Backend::Iptables => self.apply_iptables(wanted),
        }
    }

    fn apply_iptables(&self, wanted: &Wanted) -> Result<(), String> {
        if wanted.outbound.has(true) || wanted.inbound.has(true) {
            return Err(
                "TPROXY is set up with nftables only; install it, or use `capture: redirect`"
                    .into(),
            );
        }
        let [out, inn] = chains(&wanted.name);
        for (is_v4, tables, restore) in BOTH {
            self.run(restore, &words("--noflush"), &wanted.iptables(is_v4))?;
            for (hook, chain) in [("OUTPUT", &out), ("PREROUTING", &inn)] {
                let jump = format!("{hook} -p tcp -j {chain}");
                if self
                    .run(tables, &words(&format!("-t nat -C {jump}")), "")
                    .is_err()
                {
                    self.run(tables, &words(&format!("-t nat -A {jump}")), "")?;
                }
            }
        }
        Ok(())
    }

    /// Removes what a capture of this name put there, however much of it is left.
    pub(super) fn remove(&self, name: &str) -> Result<(), String> {
        let removed = match self.backend {
            Backend::Nft => self.run("nft", &words("-f -"), &undo_nft(name)),
            Backend::Iptables => self.remove_iptables(name),
        };
        for command in routes(name) {
            let _ = self.run("ip", &without(&command), "");
        }
        removed
    }

    /// Whether the kernel has the rules of a capture.
    pub(super) fn has(&self, name: &str) -> Result<bool, String> {
        let table = table(name);
        let [out, _] = chains(name);
        let asked = match self.backend {
            Backend::Nft => self.run("nft", &words(&format!("list table inet {table}")), ""),
            Backend::Iptables => self.run("iptables", &words(&format!("-t nat -S {out}")), ""),
        };
        match asked {
            Ok(()) => Ok(true),
            Err(fact) if fact.contains("ermitted") || fact.contains("cannot be run") => Err(fact),
            Err(_) => Ok(false),
        }
    }

    fn remove_iptables(&self, name: &str) -> Result<(), String> {
        let [out, inn] = chains(name);
        for (_, tables, _) in BOTH {
            for (hook, chain) in [("OUTPUT", &out), ("PREROUTING", &inn)] {
                let mut jumps = 0..MOST_JUMPS;
                let jump = words(&format!("-t nat -D {hook} -p tcp -j {chain}"));
                while jumps.next().is_some() && self.run(tables, &jump, "").is_ok() {}
                if self
                    .run(tables, &words(&format!("-t nat -F {chain}")), "")
                    .is_ok()
                {
                    self.run(tables, &words(&format!("-t nat -X {chain}")), "")?;
                }
            }
        }
        Ok(())
    }

    /// The routes that TPROXY needs, as arguments of `ip`; none without it.
    pub(super) fn routes(&self, wanted: &Wanted) -> Vec<Vec<String>> {
        match wanted.outbound.has(true) || wanted.inbound.has(true) {
            true => routes(&wanted.name),
            false => Vec::new(),
        }
    }

    fn run(&self, program: &str, arguments: &[String], input: &str) -> Result<(), String> {
        let mut command = match &self.netns {
            None => Command::new(path(program)),
            Some(name) => {
                let mut command = Command::new(path("ip"));
                command.args(["netns", "exec", name]).arg(path(program));
                command
            }
        };
        let spoken = speak(command.args(arguments), input);
        let output = spoken.map_err(|error| format!("{program} cannot be run: {error}"))?;
        match output.status.success() {
            true => Ok(()),
            false => {
                let said = String::from_utf8_lossy(&output.stderr);
                let line = arguments.join(" ");
                Err(format!("{program} {line} refused: {}", said.trim()))
            }
        }
    }
}

const MOST_JUMPS: usize = 16;

fn routes(name: &str) -> Vec<Vec<String>> {
    let mark = route_mark(name);
    let table = mark & 0x00ff_ffff;
    let of = |family: &str, all: &str| {
        [
            words(&format!(
                "{family} rule add fwmark {mark:#x} lookup {table}"
            )),
            words(&format!(
                "{family} route add local {all} dev lo table {table}"
            )),
        ]
    };
    [of("-4", "0.0.0.0/0"), of("-6", "::/0")].concat()
}

/// The command that takes back what `ip … add …` does.
fn without(command: &[String]) -> Vec<String> {
    let undo = |word: &String| match word.as_str() {
        "add" => "del".to_owned(),
        word => word.to_owned(),
    };
    command.iter().map(undo).collect()
}

fn speak(command: &mut Command, input: &str) -> std::io::Result<Output> {
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = child.spawn()?;
    if let Some(mut pipe) = child.stdin.take() {
        // One that ends without reading says why itself.
        let _ = pipe.write_all(input.as_bytes());
    }
    child.wait_with_output()
}

fn words(line: &str) -> Vec<String> {
    line.split_ascii_whitespace().map(str::to_owned).collect()
}

fn found(program: &str) -> bool {
    path(program).contains('/')
}

/// These commands are often not in the path of users.
fn path(program: &str) -> String {
    let folders = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin"];
    let mut paths = folders.iter().map(|folder| format!("{folder}/{program}"));
    let path = paths.find(|path| std::path::Path::new(path).exists());
    path.unwrap_or_else(|| program.to_owned())
}
