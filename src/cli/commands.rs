//! Commands that need no running process: check, show, schema, plugins.
//! It must not judge configurations itself; `config` does.
//! Called by `cli`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use windrose_plugins::contract::StateRegistry;
use windrose_plugins::PluginDef;

use super::junit;
use crate::config::report::Report;
use crate::config::{self, manual, print, Resources};
use crate::observe::metrics::Metrics;
use crate::snapshot::call::OutOfReach;
use crate::snapshot::endpoint::Endpoints;

/// How a check is made and told.
#[derive(Clone, Copy, Default)]
pub(super) struct Judging<'a> {
    /// Findings as JSON.
    pub(super) json: bool,
    /// Where the outcome of tests goes, in JUnit's form.
    pub(super) junit: Option<&'a Path>,
    /// Refuses only what `run` would refuse.
    pub(super) as_run: bool,
}

/// Checks a configuration as a start would, tests included.
pub(super) fn check(path: &Path, plugins: &[PluginDef], judging: Judging<'_>) -> ExitCode {
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
    let (passed, report) = match outcome {
        Ok(warnings) => (true, warnings),
        // What `run` would only quarantine is an error here all the same: a check is there to keep it from going live.
        // But it says of each error what `run` would do.
        Err(_) => match dry_resources(plugins, |resources| config::build(path, resources)) {
            Ok(built) => (judging.as_run, built.quarantined),
            Err(report) => (false, report),
        },
    };
    told(&report, judging.json);
    if !judging.json {
        summary(path, passed, tests.len(), &report);
    }
    let written = judging
        .junit
        .map_or(Ok(()), |file| junit::write(file, path, &tests, &report));
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
    let warned = counted(warnings, "warning", "warnings");
    match passed {
        true if errors > 0 => {
            let what = counted(errors, "error quarantines", "errors quarantine");
            println!("{path}: runs, with what {what}");
        }
        true => {
            let passing = counted(tests, "test passes", "tests pass");
            println!("{path}: ok, {passing}, {warned}");
        }
        false => eprintln!("{path}: {}, {warned}", counted(errors, "error", "errors")),
    }
}

fn counted(count: usize, one: &str, many: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {many}"),
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
        identities: &Default::default(),
        states: &StateRegistry::default(),
        exchange: Arc::new(OutOfReach),
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
        print!("{}", manual::plugin_list(plugins));
        return ExitCode::SUCCESS;
    };
    match plugins.iter().find(|plugin| plugin.kind == kind) {
        Some(plugin) => {
            print!("{}", manual::plugin_manual(plugin));
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
