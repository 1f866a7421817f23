//! Commands that need no running process: check, show, schema, plugins, why.
//! It must not judge configurations itself; `config` does.
//! Called by `cli`.

use std::path::Path;
use std::process::ExitCode;

use windrose_plugins::contract::{builtin_causes, StateRegistry};
use windrose_plugins::PluginDef;

use crate::config::report::Report;
use crate::config::{self, print, Resources};
use crate::observe::metrics::Metrics;
use crate::snapshot::endpoint::Endpoints;

/// How a check is made and told.
#[derive(Clone, Copy)]
pub(super) struct Judging {
    /// Findings as JSON.
    pub(super) json: bool,
    /// Refuses only what `run` would refuse.
    pub(super) as_run: bool,
}

impl Judging {
    /// For people, and everything counts.
    pub(super) const STRICT: Judging = Judging {
        json: false,
        as_run: false,
    };
}

/// Checks a configuration as a start would, tests included.
pub(super) fn check(path: &Path, plugins: &[PluginDef], judging: Judging) -> ExitCode {
    let Judging { json, as_run } = judging;
    let resources = Resources {
        plugins,
        metrics: Metrics::new(1000),
        endpoints: &Endpoints::default(),
        states: &StateRegistry::default(),
        previous: None,
    };
    match config::build(path, &resources) {
        Ok(built) if built.quarantined.is_empty() => {
            told(&built.warnings, json);
            if !json {
                let (_, count) = built.warnings.counts();
                let tests = built.config.tests.len();
                println!(
                    "{}: ok, {tests} tests pass, {count} warnings",
                    path.display()
                );
            }
            ExitCode::SUCCESS
        }
        // What `run` would only quarantine is an error here all the same: a check is there to keep it from going live.
        Ok(built) => match (refused(&built.quarantined, path, json), as_run) {
            (_, true) => ExitCode::SUCCESS,
            (refused, false) => refused,
        },
        Err(report) => refused(&report, path, json),
    }
}

fn refused(report: &Report, path: &Path, json: bool) -> ExitCode {
    told(report, json);
    if !json {
        let (errors, warnings) = report.counts();
        eprintln!("{}: {errors} errors, {warnings} warnings", path.display());
    }
    ExitCode::FAILURE
}

fn told(report: &Report, json: bool) {
    if json {
        println!("{}", serde_json::json!({ "findings": report.findings() }));
    } else if !report.is_empty() {
        eprintln!("{report}");
    }
}

/// Prints the effective configuration.
pub(super) fn show(path: &Path, plugins: &[PluginDef]) -> ExitCode {
    match config::load(path, plugins) {
        Ok(loaded) => {
            told(&loaded.warnings, false);
            print!("{}", print::show(&loaded));
            ExitCode::SUCCESS
        }
        Err(report) => {
            told(&report, false);
            ExitCode::FAILURE
        }
    }
}

/// Prints the JSON Schema.
pub(super) fn schema(plugins: &[PluginDef]) -> ExitCode {
    println!("{:#}", print::json_schema(plugins));
    ExitCode::SUCCESS
}

/// Lists plugins or prints a manual.
pub(super) fn plugins(kind: Option<&str>, plugins: &[PluginDef]) -> ExitCode {
    let Some(kind) = kind else {
        print!("{}", print::plugin_list(plugins));
        return ExitCode::SUCCESS;
    };
    match plugins.iter().find(|plugin| plugin.kind == kind) {
        Some(plugin) => {
            print!("{}", print::plugin_manual(plugin));
            ExitCode::SUCCESS
        }
        None => {
            let kinds: Vec<&str> = plugins.iter().map(|plugin| plugin.kind).collect();
            eprintln!(
                "no plugin is of kind \"{kind}\"\n  help: there are {}",
                kinds.join(", ")
            );
            ExitCode::from(2)
        }
    }
}

/// Explains a cause.
pub(super) fn why(name: &str, plugins: &[PluginDef]) -> ExitCode {
    let of_plugins = plugins.iter().flat_map(|plugin| plugin.causes);
    let mut all = builtin_causes().iter().chain(of_plugins);
    match all.find(|cause| cause.name == name) {
        Some(cause) => {
            println!(
                "{} (status {}, blame {})\n",
                cause.name,
                cause.status,
                cause.blame.as_str()
            );
            println!("{}\n\nNext: {}", cause.explanation, cause.next_step);
            ExitCode::SUCCESS
        }
        None => {
            let near = builtin_causes().iter().max_by(|a, b| {
                strsim::jaro_winkler(a.name, name).total_cmp(&strsim::jaro_winkler(b.name, name))
            });
            let near = near.map_or(String::new(), |cause| {
                format!("\n  help: did you mean \"{}\"?", cause.name)
            });
            eprintln!("no cause is named \"{name}\"{near}");
            ExitCode::from(2)
        }
    }
}
