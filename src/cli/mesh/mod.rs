//! `windrose mesh check`: proves from inside that a node of the mesh works, and says what to do where it does not.
//! It must not change anything; it asks the running process, the kernel and the peers.
//! Called by `cli`.

mod findings;
mod probes;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use windrose_plugins::PluginDef;

use findings::{Findings, Word};
pub(super) use probes::connects;

use crate::config;

/// What to do about the mesh.
#[derive(Subcommand)]
pub(super) enum Act {
    /// Check the process, capture, certificates, clocks, decisions and peers of this node; exit code 0 if nothing is wrong.
    Check(Wish),
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

/// Exit code 0 nothing is wrong, 1 something is, 2 the configuration cannot be read.
pub(super) fn run(path: &Path, act: &Act, plugins: &[PluginDef]) -> ExitCode {
    let Act::Check(wish) = act;
    let loaded = match config::load(path, plugins) {
        Ok(loaded) => loaded,
        Err(report) => {
            eprintln!("{report}");
            return ExitCode::from(2);
        }
    };
    let config = &loaded.config;
    let mut found = Findings::default();
    let is_alive = probes::process(path, &mut found);
    probes::capture(path, config, &wish.state, &mut found);
    if is_alive {
        probes::certificates(path, config, &mut found);
        probes::decisions(path, config, &mut found);
    }
    probes::peers(config, &mut found);
    match wish.json {
        true => println!("{}", found.json()),
        false => print!("{}", found.text()),
    }
    match found.worst() {
        Word::Wrong => ExitCode::FAILURE,
        Word::Well | Word::Skipped | Word::Doubt => ExitCode::SUCCESS,
    }
}
