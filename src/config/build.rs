//! All the way from a file to a snapshot: load, compile, run the configuration's own tests.
//! It must not publish anything.
//! Called at start, by `control::reload`, and by `windrose check`.

use std::path::Path;
use std::sync::Arc;

use windrose_plugins::contract::StateRegistry;
use windrose_plugins::PluginDef;

use super::compile::{compile, Means, Origin};
use super::report::{Report, Severity};
use super::schema::Config;
use super::source::Document;
use super::{cases, load, print, Loaded};
use crate::observe::metrics::Metrics;
use crate::snapshot::endpoint::Endpoints;
use crate::snapshot::Snapshot;

/// What a snapshot is built with besides text.
pub struct Resources<'a> {
    /// The plugins compiled in.
    pub plugins: &'a [PluginDef],
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Endpoints of the process.
    pub endpoints: &'a Endpoints,
    /// State of plugins.
    pub states: &'a StateRegistry,
    /// The snapshot in force.
    pub previous: Option<&'a Snapshot>,
}

/// A configuration and what it became.
pub struct Built {
    /// As written, with defaults.
    pub config: Config,
    /// Ready to publish.
    pub snapshot: Snapshot,
}

/// Builds a file.
///
/// # Errors
/// Everything that is wrong, and tests of the configuration that fail.
pub fn build(path: &Path, resources: &Resources<'_>) -> Result<Built, Report> {
    build_loaded(load(path, resources.plugins)?, path, resources)
}

/// Builds what was loaded.
///
/// # Errors
/// As [`build`].
pub fn build_loaded(
    loaded: Loaded,
    path: &Path,
    resources: &Resources<'_>,
) -> Result<Built, Report> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let means = Means {
        plugins: resources.plugins,
        metrics: resources.metrics.clone(),
        endpoints: resources.endpoints,
        states: resources.states,
        previous: resources.previous,
        folder,
    };
    let warnings = loaded.warnings.findings().iter();
    let origin = Origin {
        digest: loaded.document.digest().to_owned(),
        effective: print::show(&loaded),
        warnings: warnings
            .filter(|finding| finding.severity == Severity::Warning)
            .map(ToString::to_string)
            .collect(),
        place: Box::new(place_of(loaded.document.clone())),
    };
    let located = |mut report: Report| {
        report.locate(|path| loaded.document.place(path));
        report
    };
    let snapshot = compile(&loaded.config, origin, &means).map_err(located)?;
    let mut report = Report::new();
    cases::run(&loaded.config, &snapshot, &mut report);
    match report.has_errors() {
        true => Err(located(report)),
        false => Ok(Built {
            config: loaded.config,
            snapshot,
        }),
    }
}

fn place_of(document: Document) -> impl Fn(&str) -> String {
    move |path| {
        document.place(path).map_or(String::new(), |place| {
            format!("{}:{}", place.file, place.line)
        })
    }
}

/// The digest of what is on disk now; `None` if it cannot be read.
pub fn digest(path: &Path) -> Option<String> {
    Document::read(path)
        .ok()
        .map(|document| document.digest().to_owned())
}
