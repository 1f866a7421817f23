//! `windrose capture`: brings connections of applications that know nothing of it to the proxy, and takes that back.
//! It must not know how the rules read; `rules` writes them.
//! Called by `cli`; nothing else of the binary touches the kernel's rules.

mod kernel;
mod rules;
mod wish;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use windrose_plugins::PluginDef;

use kernel::{Backend, Kernel};
use rules::{Takers, Wanted, Whom};
pub(super) use wish::Wish;

/// What to do with rules.
#[derive(Subcommand)]
pub(super) enum Act {
    /// Print the rules and what they would do; changes nothing.
    Plan(Wish),
    /// Put the rules in force, in place of those of the same name.
    Apply(Wish),
    /// Take the rules away, whether or not the process that they lead to still runs.
    Remove(Place),
}

/// Which rules.
#[derive(Args)]
pub(super) struct Place {
    /// Tells several captures on one machine apart: lower case letters, digits and `_`, at most 15.
    #[arg(long, default_value = "default", value_name = "NAME")]
    name: String,
    /// The network namespace, as `ip netns` names it. Default: the one this command runs in.
    #[arg(long, value_name = "NAME")]
    netns: Option<String>,
    /// Where it is recorded what is in force.
    #[arg(long, default_value = "/run/windrose", value_name = "FOLDER")]
    state: PathBuf,
    /// Use iptables though nftables is there.
    #[arg(long)]
    iptables: bool,
}

impl Place {
    fn record(&self) -> PathBuf {
        let namespace = self.netns.as_deref().unwrap_or("-");
        self.state
            .join(format!("capture-{namespace}-{}.json", self.name))
    }

    fn kernel(&self) -> Result<Kernel, String> {
        let is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if self.name.is_empty() || self.name.len() > 15 || !self.name.chars().all(is_good) {
            return Err(format!(
                "the name \"{}\" is not 1 to 15 lower case letters, digits and `_`",
                self.name
            ));
        }
        Kernel::new(self.netns.clone(), self.iptables)
    }
}

/// What was put in force.
#[derive(Serialize, Deserialize)]
pub(super) struct Record {
    /// The capture's name.
    pub(super) name: String,
    netns: Option<String>,
    backend: Backend,
    tproxy: bool,
    /// The user whose connections are captured, if it is for one.
    pub(super) user: Option<u32>,
    rules: String,
}

impl Record {
    /// Whether the kernel still has the rules.
    ///
    /// # Errors
    /// Why it cannot be asked.
    pub(super) fn is_in_force(&self) -> Result<bool, String> {
        let iptables = self.backend == Backend::Iptables;
        Kernel::new(self.netns.clone(), iptables)?.has(&self.name)
    }
}

/// What is recorded in a folder.
pub(super) fn records(state: &Path) -> Vec<Record> {
    let entries = std::fs::read_dir(state).into_iter().flatten().flatten();
    let texts = entries.filter_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_record = name.starts_with("capture-") && name.ends_with(".json");
        is_record.then(|| std::fs::read_to_string(entry.path()).ok())?
    });
    texts
        .filter_map(|text| serde_json::from_str(&text).ok())
        .collect()
}

/// Exit code 0 done, 1 refused by the kernel, 2 not understood.
pub(super) fn run(config: &Path, act: &Act, plugins: &[PluginDef]) -> ExitCode {
    let (done, problem) = match act {
        Act::Plan(wish) => (plan(config, wish, plugins), 2),
        Act::Apply(wish) => (apply(config, wish, plugins), 1),
        Act::Remove(place) => (remove(place), 1),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(fact) => {
            eprintln!("{fact}");
            ExitCode::from(problem)
        }
    }
}

fn plan(config: &Path, wish: &Wish, plugins: &[PluginDef]) -> Result<(), String> {
    let kernel = wish.place.kernel()?;
    let wanted = wish.wanted(config, plugins)?;
    for sentence in sentences(&wanted, &wish.place) {
        println!("# {sentence}");
    }
    match kernel.backend {
        Backend::Nft => print!("{}", wanted.nft()),
        Backend::Iptables => {
            println!("# iptables-restore");
            print!("{}", wanted.iptables(true));
            println!("# ip6tables-restore");
            print!("{}", wanted.iptables(false));
        }
    }
    for command in kernel.routes(&wanted) {
        println!("# ip {}", command.join(" "));
    }
    Ok(())
}

fn apply(config: &Path, wish: &Wish, plugins: &[PluginDef]) -> Result<(), String> {
    let kernel = wish.place.kernel()?;
    let wanted = wish.wanted(config, plugins)?;
    // First the record: rules that nobody remembers are worse than a record of rules that are not there.
    let record = Record {
        name: wanted.name.clone(),
        netns: wish.place.netns.clone(),
        user: match wanted.whom {
            Whom::User(user) => Some(user),
            Whom::Cgroup(_) | Whom::Everybody => None,
        },
        backend: kernel.backend,
        tproxy: wanted.outbound.has(true) || wanted.inbound.has(true),
        rules: match kernel.backend {
            Backend::Nft => wanted.nft(),
            Backend::Iptables => wanted.iptables(true) + &wanted.iptables(false),
        },
    };
    let path = wish.place.record();
    let text = serde_json::to_string_pretty(&record).map_err(|error| error.to_string())?;
    let written = std::fs::create_dir_all(&wish.place.state);
    let written = written.and_then(|()| std::fs::write(&path, text));
    written.map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    kernel.apply(&wanted)?;
    for sentence in sentences(&wanted, &wish.place) {
        println!("{sentence}");
    }
    Ok(())
}

fn remove(place: &Place) -> Result<(), String> {
    let kernel = place.kernel()?;
    let path = place.record();
    let record = std::fs::read_to_string(&path).ok();
    let record: Option<Record> = record.and_then(|text| serde_json::from_str(&text).ok());
    let backend = record.map_or(kernel.backend, |record| record.backend);
    Kernel { backend, ..kernel }.remove(&place.name)?;
    let _ = std::fs::remove_file(path);
    println!("connections go where they are going again");
    Ok(())
}

/// What the rules do, in words.
fn sentences(wanted: &Wanted, place: &Place) -> Vec<String> {
    let whose = match &wanted.whom {
        Whom::User(user) => format!("of user {user}"),
        Whom::Cgroup(path) => format!("of the control group {path}"),
        Whom::Everybody => match &place.netns {
            Some(name) => format!("of the network namespace {name}"),
            None => "of everybody".to_owned(),
        },
    };
    let mut all = Vec::new();
    let mut told = |what: &str, takers: Takers| {
        for (family, taker) in [("IPv4", takers.v4), ("IPv6", takers.v6)] {
            let Some(taker) = taker else { continue };
            let how = if taker.is_tproxy {
                "TPROXY"
            } else {
                "REDIRECT"
            };
            all.push(format!(
                "{what} over {family} goes to the listener at port {} ({how})",
                taker.port
            ));
        }
    };
    told(&format!("TCP {whose} that goes out"), wanted.outbound);
    told("TCP that comes in", wanted.inbound);
    for (family, taker) in [("IPv4", wanted.outbound.v4), ("IPv6", wanted.outbound.v6)] {
        if taker.is_none() {
            all.push(format!(
                "{family} is NOT captured when it goes out: no capturing mesh-outbound listener is bound for it"
            ));
        }
    }
    all.push(
        "left alone: UDP and DNS, what a machine says to itself, and the proxy's own connections"
            .into(),
    );
    all
}
