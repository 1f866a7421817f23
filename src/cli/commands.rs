//! Commands that need no running process: check, show, schema, plugins.
//! It must not judge configurations itself; `config` does.
//! Called by `cli`.

use std::path::Path;
use std::process::ExitCode;

use windrose_plugins::contract::StateRegistry;
use windrose_plugins::PluginDef;

use super::junit;
use crate::config::report::Report;
use crate::config::{self, print, Resources};
use crate::observe::metrics::Metrics;
use crate::snapshot::endpoint::Endpoints;

/// Checks a configuration as a start would, tests included.
pub(super) fn check(
    path: &Path,
    plugins: &[PluginDef],
    json: bool,
    junit: Option<&Path>,
) -> ExitCode {
    let mut tests = Vec::new();
    let outcome = config::load(path, plugins).and_then(|loaded| {
        let warnings = loaded.warnings.clone();
        let all = loaded.config.all_tests();
        tests = all.map(|(path, test, _)| (path, test.title())).collect();
        dry_resources(plugins, |resources| {
            config::build_loaded(loaded, path, resources)
        })?;
        Ok(warnings)
    });
    let passed = outcome.is_ok();
    let report = outcome.unwrap_or_else(|report| report);
    told(&report, json);
    if !json {
        summary(path, passed, tests.len(), &report);
    }
    let written = junit.map_or(Ok(()), |file| junit::write(file, path, &tests, &report));
    if let Err(problem) = &written {
        eprintln!("{problem}");
    }
    match passed && written.is_ok() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn summary(path: &Path, passed: bool, tests: usize, report: &Report) {
    let (errors, warnings) = report.counts();
    let path = path.display();
    match passed {
        true => println!("{path}: ok, {tests} tests pass, {warnings} warnings"),
        false => eprintln!("{path}: {errors} errors, {warnings} warnings"),
    }
}

/// What building needs where nothing is running.
pub(super) fn dry_resources<T>(
    plugins: &[PluginDef],
    build: impl FnOnce(&Resources<'_>) -> T,
) -> T {
    build(&Resources {
        plugins,
        metrics: Metrics::new(1000),
        endpoints: &Endpoints::default(),
        states: &StateRegistry::default(),
        previous: None,
    })
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
