//! Puts rules in force and takes them away: nft, or iptables where it is missing, and ip for TPROXY's routes.
//! It must not know why rules are wanted.
//! Called by `windrose capture`.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde::{Deserialize, Serialize};

use super::rules::{route_mark, table, undo_nft, Family, Wanted, MARK_MASK};

/// What speaks to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Backend {
    /// One transaction of nftables.
    Nft,
    /// iptables, for each family of addresses.
    Iptables,
}

/// A network namespace's rules.
pub(super) struct Kernel {
    pub(super) netns: Option<String>,
    pub(super) backend: Backend,
}

/// What takes a step back.
pub(super) enum Undo {
    /// Arguments of `ip`.
    Route(Vec<String>),
    /// The chains of a family as they were, for its iptables-restore; `None` where there were none.
    Chains {
        name: String,
        family: Family,
        text: Option<String>,
    },
}

impl Kernel {
    /// Of a namespace, or of this process's own.
    pub(super) fn new(netns: Option<String>, iptables: bool) -> Result<Kernel, String> {
        let backend = match (iptables, is_there("nft"), is_there("iptables-restore")) {
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

    /// Whether its namespace is no more, and its rules with it.
    pub(super) fn is_gone(&self) -> bool {
        let netns = self.netns.as_ref();
        netns.is_some_and(|name| !Path::new(&folder(name)).exists())
    }

    /// Puts rules in force in place of those of the same name. Where it cannot, what was there before stays.
    ///
    /// # Errors
    /// What the kernel refused, and what could not be taken back.
    pub(super) fn put(&self, wanted: &Wanted) -> Result<(), String> {
        let mut undo = Vec::new();
        let put = self.route(wanted, &mut undo);
        let put = put.and_then(|()| match self.backend {
            Backend::Nft => self.run("nft", &words("-f -"), &wanted.nft()).map(drop),
            Backend::Iptables => self.put_chains(wanted, &mut undo),
        });
        put.map_err(|fact| {
            let steps = undo.iter().rev();
            let failed = steps.filter_map(|step| self.take_back(step).err());
            let failed = failed.map(|fact| format!("what was done is still in force: {fact}"));
            let facts: Vec<String> = std::iter::once(fact).chain(failed).collect();
            facts.join("\n")
        })
    }

    /// Takes away what rules of the same name need no more: of the other backend, of families, of TPROXY.
    ///
    /// # Errors
    /// What could not be removed; the new rules are in force all the same.
    pub(super) fn clear(&self, wanted: &Wanted) -> Result<(), String> {
        let name = &wanted.name;
        for family in Family::ALL {
            if !wanted.routes(family) {
                self.unroute(name, family);
            }
            if self.backend == Backend::Nft || !wanted.takes(family) {
                self.remove_chains(name, family)?;
            }
        }
        match self.backend {
            Backend::Iptables => self.remove_table(name),
            Backend::Nft => Ok(()),
        }
    }

    /// Removes what a capture of this name put there, however much of it is left and whichever backend did.
    ///
    /// # Errors
    /// What could not be removed.
    pub(super) fn remove(&self, name: &str) -> Result<(), String> {
        let table = self.remove_table(name);
        for family in Family::ALL {
            self.unroute(name, family);
            self.remove_chains(name, family)?;
        }
        table
    }

    /// Whether the kernel has the rules of a capture.
    ///
    /// # Errors
    /// Why it cannot be asked.
    pub(super) fn has(&self, name: &str) -> Result<bool, String> {
        match self.backend {
            Backend::Nft => self.has_table(name),
            Backend::Iptables => {
                let mut all = Family::ALL.iter();
                all.try_fold(false, |has, family| {
                    Ok(has || self.has_chains(name, *family)?)
                })
            }
        }
    }

    /// Asks the kernel whether it would take rules; nothing is changed.
    ///
    /// # Errors
    /// Why not, or why it cannot be asked.
    pub(super) fn try_out(&self, wanted: &Wanted) -> Result<(), String> {
        match self.backend {
            Backend::Nft => self.run("nft", &words("-c -f -"), &wanted.nft()).map(drop),
            Backend::Iptables => self.try_chains(wanted),
        }
    }

    /// The routes that TPROXY needs, as arguments of `ip`; none without it.
    pub(super) fn routes(&self, wanted: &Wanted) -> Vec<Vec<String>> {
        let families = Family::ALL.into_iter();
        let families = families.filter(|family| wanted.routes(*family));
        families
            .flat_map(|family| routes(&wanted.name, family))
            .collect()
    }

    fn route(&self, wanted: &Wanted, undo: &mut Vec<Undo>) -> Result<(), String> {
        for command in self.routes(wanted) {
            match self.run("ip", &command, "") {
                Ok(_) => undo.push(Undo::Route(without(&command))),
                // Of an earlier capture of this name, whose connections need it now.
                Err(fact) if fact.contains("File exists") => {}
                Err(fact) => return Err(fact),
            }
        }
        Ok(())
    }

    fn unroute(&self, name: &str, family: Family) {
        for command in routes(name, family) {
            // Mostly there is none.
            let _ = self.run("ip", &without(&command), "");
        }
    }

    fn take_back(&self, step: &Undo) -> Result<(), String> {
        match step {
            Undo::Route(command) => self.run("ip", command, "").map(drop),
            Undo::Chains { name, family, text } => self.restore(name, *family, text.as_deref()),
        }
    }

    fn has_table(&self, name: &str) -> Result<bool, String> {
        let table = table(name);
        was_found(self.run("nft", &words(&format!("list table inet {table}")), ""))
    }

    fn remove_table(&self, name: &str) -> Result<(), String> {
        let is_needless = self.backend == Backend::Iptables && !is_there("nft");
        if is_needless || !self.has_table(name)? {
            return Ok(());
        }
        self.run("nft", &words("-f -"), &undo_nft(name)).map(drop)
    }

    /// What a command printed.
    pub(super) fn run(
        &self,
        program: &str,
        arguments: &[String],
        input: &str,
    ) -> Result<String, String> {
        let mut command = match &self.netns {
            None => Command::new(path(program)),
            Some(name) => {
                // Not `ip netns exec`, which hides the control groups that rules may name.
                let mut command = Command::new(path("nsenter"));
                command.arg(format!("--net={}", folder(name)));
                command.arg(path(program));
                command
            }
        };
        let spoken = speak(command.args(arguments), input);
        let output = spoken.map_err(|error| format!("{program} cannot be run: {error}"))?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => {
                let said = String::from_utf8_lossy(&output.stderr);
                let line = arguments.join(" ");
                Err(format!("{program} {line} refused: {}", said.trim()))
            }
        }
    }
}

/// Whether something was listed; what is not there cannot be.
pub(super) fn was_found(listed: Result<String, String>) -> Result<bool, String> {
    let forbidden = ["not permitted", "ermission denied", "cannot be run"];
    match listed {
        Ok(_) => Ok(true),
        Err(fact) if forbidden.iter().any(|word| fact.contains(word)) => Err(fact),
        Err(_) => Ok(false),
    }
}

/// Where `ip netns` keeps a namespace.
fn folder(netns: &str) -> String {
    format!("/run/netns/{netns}")
}

fn routes(name: &str, family: Family) -> [Vec<String>; 2] {
    let mark = route_mark(name);
    let table = 0x0044_0000 | (mark >> 16);
    let (flag, all) = match family {
        Family::V4 => ("-4", "0.0.0.0/0"),
        Family::V6 => ("-6", "::/0"),
    };
    // Its place is said, since without one the kernel adds a second rule of the same words.
    let mark = format!("{mark:#x}/{MARK_MASK:#x}");
    [
        words(&format!(
            "{flag} rule add pref {PLACE} fwmark {mark} lookup {table}"
        )),
        words(&format!(
            "{flag} route add local {all} dev lo table {table}"
        )),
    ]
}

/// Before the rules of VPNs, which mostly begin in the thousands, and after the kernel's first.
const PLACE: u32 = 90;

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

pub(super) fn words(line: &str) -> Vec<String> {
    line.split_ascii_whitespace().map(str::to_owned).collect()
}

pub(super) fn is_there(program: &str) -> bool {
    path(program).contains('/')
}

/// These commands are often not in the path of users.
fn path(program: &str) -> String {
    let folders = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin"];
    let mut paths = folders.iter().map(|folder| format!("{folder}/{program}"));
    let path = paths.find(|path| Path::new(path).exists());
    path.unwrap_or_else(|| program.to_owned())
}
