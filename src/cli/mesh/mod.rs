//! `windrose mesh`: proves from inside that a node of the mesh works, and says what to do where it does not.
//! It must not change anything; it asks the running process, the kernel and the peers.
//! Called by `cli`.

mod capture;
mod certificates;
mod clocks;
mod findings;
mod peers;
mod policies;
mod process;
mod status;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;
use windrose_plugins::PluginDef;

pub(super) use capture::Canary;
use findings::{Findings, Word};

use super::client;
use crate::config;
use crate::config::schema::Config;

/// What to do about the mesh.
#[derive(Subcommand)]
pub(super) enum Act {
    /// Prove the process, capture, certificates, clocks, policies and peers of this node. Exit code 0 if nothing is wrong (warnings,
    /// and what could not be proven, are told), 1 if something is, 2 if the configuration cannot be read.
    Check(Wish),
    /// Show the mesh as this node sees it on one screen: workloads and when their certificates end, whether plaintext may be refused,
    /// and who calls what, from both sides. Exit code 0 if all is well, 1 for an alarm of certificates, 2 if no process answers.
    Status(status::Look),
}

/// How to check.
#[derive(Args)]
pub(super) struct Wish {
    /// Where `windrose capture apply` recorded what is in force.
    #[arg(long, default_value = "/run/windrose", value_name = "FOLDER")]
    state: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What is looked at: a configuration, and the process that should run with it.
struct Scene<'a> {
    path: &'a Path,
    config: &'a Config,
    /// Of what is on disk.
    digest: &'a str,
    /// Where `windrose capture apply` records.
    state: &'a Path,
}

impl Scene<'_> {
    /// A view of the process.
    fn view(&self, target: &str) -> Result<Value, String> {
        match client::admin(self.path).and_then(|bind| client::ask(&bind, "GET", target))? {
            (200, view) => Ok(view),
            (status, _) => Err(older(target, status)),
        }
    }

    /// What the process does when told.
    fn told(&self, target: &str, body: &str) -> Result<Value, String> {
        match client::post(self.path, target, body)? {
            (200, view) => Ok(view),
            (status, view) => {
                let error = view["error"].as_str().map(str::to_owned);
                Err(error.unwrap_or_else(|| older(target, status)))
            }
        }
    }

    /// The sum of a metric's series whose line has this mark.
    fn metric(&self, name: &str, mark: &str) -> f64 {
        let text = client::admin(self.path).and_then(|bind| client::text(&bind, "/metrics"));
        let text = text.unwrap_or_default();
        let lines = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(mark)
        });
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}

fn older(target: &str, status: u16) -> String {
    format!("the process that runs answers {target} with {status}; is it an older one?")
}

/// Exit code 0 nothing is wrong, 1 something is, 2 the configuration cannot be read.
pub(super) fn run(path: &Path, act: &Act, plugins: &[PluginDef]) -> ExitCode {
    let wish = match act {
        Act::Check(wish) => wish,
        Act::Status(look) => return status::status(path, look),
    };
    let loaded = match config::load(path, plugins) {
        Ok(loaded) => loaded,
        Err(report) => {
            eprintln!("{report}");
            return ExitCode::from(2);
        }
    };
    let scene = Scene {
        path,
        config: &loaded.config,
        digest: loaded.document.digest(),
        state: &wish.state,
    };
    let found = check(&scene);
    match wish.json {
        true => println!("{}", found.json()),
        false => print!("{}", found.text()),
    }
    match found.worst() {
        Word::Wrong => ExitCode::FAILURE,
        Word::Ok | Word::NotProven | Word::Warning => ExitCode::SUCCESS,
    }
}

fn check(scene: &Scene<'_>) -> Findings {
    let mut found = Findings::default();
    let is_alive = process::check(scene, &mut found);
    capture::check(scene, is_alive, &mut found);
    if !is_alive {
        let remedy = "start the process; it holds the keys that peers are shown";
        for area in ["certificates", "policies", "peers"] {
            found.add(area, Word::NotProven, "no process answers", remedy);
        }
        peers::plain(scene, &mut found);
        return found;
    }
    let certs = certificates::check(scene, &mut found);
    policies::check(scene, &mut found);
    let proven = peers::mutual(scene, &mut found);
    let told = peers::plain(scene, &mut found);
    clocks::check(certs.as_ref(), proven.as_ref(), &told, &mut found);
    found
}

fn each(value: &Value) -> impl Iterator<Item = &Value> + Clone {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}
