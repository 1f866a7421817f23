//! `windrose capture`: brings connections of applications that know nothing of it to the proxy, and takes that back.
//! It must not know how the rules read; `rules` writes them.
//! Called by `cli`; nothing else of the binary touches the kernel's rules.

mod chains;
mod group;
mod kernel;
mod record;
mod rules;
mod wish;
mod words;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use windrose_plugins::PluginDef;

use kernel::{Backend, Kernel};
pub(super) use record::{records, Record};
use rules::{Family, Wanted};
pub(super) use wish::{user_of_process, Wish};

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
        match &self.netns {
            Some(name) if !is_namespace(name) => Err(format!(
                "\"{}\" names no network namespace; `ip netns` lists them",
                name.escape_debug()
            )),
            _ => Kernel::new(self.netns.clone(), self.iptables),
        }
    }

    /// Where the rules go.
    fn kernel_there(&self) -> Result<Kernel, String> {
        let kernel = self.kernel()?;
        match kernel.is_gone() {
            true => Err(format!(
                "no network namespace is named \"{}\"; `ip netns` lists them",
                self.netns.as_deref().unwrap_or_default()
            )),
            false => Ok(kernel),
        }
    }
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
    let kernel = wish.place.kernel_there()?;
    let wanted = wish.wanted(config, plugins)?;
    let earlier = record::read(&wish.place.record());
    let lost = earlier.as_ref().and_then(Record::lost_group);
    let sentences = words::sentences(&wanted, wish.place.netns.as_deref());
    for sentence in sentences.iter().chain(&lost) {
        println!("# {sentence}");
    }
    print!("{}", text(&kernel, &wanted));
    for command in kernel.routes(&wanted) {
        println!("# ip {}", command.join(" "));
    }
    match kernel.try_out(&wanted) {
        Ok(()) => println!("# the kernel would take these rules"),
        Err(fact) => {
            let fact = fact.lines().collect::<Vec<_>>().join("; ");
            println!("# the kernel would NOT take these rules: {fact}");
        }
    }
    Ok(())
}

fn apply(config: &Path, wish: &Wish, plugins: &[PluginDef]) -> Result<(), String> {
    let kernel = wish.place.kernel_there()?;
    let wanted = wish.wanted(config, plugins)?;
    // First the record: rules that nobody remembers are worse than a record of rules that are not there.
    let record = Record::new(&kernel, &wanted, text(&kernel, &wanted));
    let path = wish.place.record();
    let before = std::fs::read(&path).ok();
    let text = serde_json::to_string_pretty(&record).map_err(|error| error.to_string())?;
    let written = std::fs::create_dir_all(&wish.place.state);
    let written = written.and_then(|()| std::fs::write(&path, text));
    written.map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    kernel.put(&wanted).map_err(|fact| {
        let back = match before {
            Some(text) => std::fs::write(&path, text),
            None => std::fs::remove_file(&path),
        };
        match back {
            Ok(()) => fact,
            Err(error) => format!("{fact}\n{} is wrong now: {error}", path.display()),
        }
    })?;
    kernel.clear(&wanted)?;
    for sentence in words::sentences(&wanted, wish.place.netns.as_deref()) {
        println!("{sentence}");
    }
    Ok(())
}

fn remove(place: &Place) -> Result<(), String> {
    let path = place.record();
    let record = record::read(&path);
    let kernel = place.kernel()?;
    if kernel.is_gone() && record.is_some() {
        let _ = std::fs::remove_file(path);
        println!("the network namespace is gone, and the rules with it");
        return Ok(());
    }
    let kernel = place.kernel_there()?;
    let backend = record.map_or(kernel.backend, |record| record.backend);
    Kernel { backend, ..kernel }.remove(&place.name)?;
    let _ = std::fs::remove_file(path);
    println!("connections go where they are going again");
    Ok(())
}

/// The rules as the kernel's tools read them.
fn text(kernel: &Kernel, wanted: &Wanted) -> String {
    match kernel.backend {
        Backend::Nft => wanted.nft(),
        Backend::Iptables => {
            let families = Family::ALL.into_iter();
            let families = families.filter(|family| wanted.takes(*family));
            let of = |family: Family| format!("# {}\n{}", family.name(), wanted.iptables(family));
            families.map(of).collect()
        }
    }
}

/// Whether a namespace can have this name, which becomes part of paths.
fn is_namespace(name: &str) -> bool {
    let is_strange = |c: char| c == '/' || c == '"' || c.is_control();
    !name.is_empty() && !name.starts_with(['-', '.']) && !name.contains(is_strange)
}
