//! Commands that need no running process: check, show, schema, plugins.
//! It must not judge configurations itself; `config` does.
//! Called by `cli`.

use std::path::Path;
use std::process::ExitCode;

use windrose_plugins::contract::StateRegistry;
use windrose_plugins::PluginDef;

use crate::config::report::Report;
use crate::config::{self, print, Resources};
use crate::observe::metrics::Metrics;
use crate::snapshot::endpoint::Endpoints;

/// Checks a configuration as a start would, tests included.
pub(super) fn check(path: &Path, plugins: &[PluginDef], json: bool) -> ExitCode {
    let outcome = config::load(path, plugins).and_then(|loaded| {
        let warnings = loaded.warnings.clone();
        let tests = loaded.config.tests.len();
        let resources = Resources {
            plugins,
            metrics: Metrics::new(1000),
            endpoints: &Endpoints::default(),
            states: &StateRegistry::default(),
            previous: None,
        };
        config::build_loaded(loaded, path, &resources)?;
        Ok((warnings, tests))
    });
    match outcome {
        Ok((warnings, tests)) => {
            told(&warnings, json);
            if !json {
                let (_, count) = warnings.counts();
                println!(
                    "{}: ok, {tests} tests pass, {count} warnings",
                    path.display()
                );
            }
            ExitCode::SUCCESS
        }
        Err(report) => {
            told(&report, json);
            if !json {
                let (errors, warnings) = report.counts();
                eprintln!("{}: {errors} errors, {warnings} warnings", path.display());
            }
            ExitCode::FAILURE
        }
    }
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
