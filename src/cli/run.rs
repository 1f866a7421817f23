//! `windrose run`: logging, then the server.
//! It must not know what the server is made of.
//! Also what runs when no command is given.

use std::path::PathBuf;
use std::process::ExitCode;

use windrose_plugins::PluginDef;

use crate::app::{self, Start};

/// Runs until told to stop.
pub(super) fn run(path: PathBuf, plugins: &'static [PluginDef], upgrade: bool) -> ExitCode {
    // Pingora reports per connection and per request at these levels; our access log and events say the same once.
    let quiet = "info,pingora=off,pingora_core=off,pingora_proxy=off,pingora_load_balancing=off,h2=off,hickory_resolver=off,hickory_proto=off,hickory_net=off";
    let mut logger =
        env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(quiet));
    logger.format_timestamp_millis().init();
    match app::run(Start {
        path,
        plugins,
        upgrade,
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problems) => {
            problems.iter().for_each(|problem| eprintln!("{problem}"));
            ExitCode::FAILURE
        }
    }
}
