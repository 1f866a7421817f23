//! From a file to a checked configuration: read, compare with the schema, decode, apply rules, lint. All that is wrong is found at once.
//! It must not know what is compiled from it; where something is wrong it only asks what else would be.
//! Called by the command line and by `control::reload`.

use std::path::Path;

use serde::de::DeserializeOwned;
use windrose_plugins::contract::PluginDef;

use super::quarantine::Ward;
use super::report::{is_within, Finding, Report};
use super::schema::Config;
use super::source::Document;
use super::{check, compile, decode, lint, rules, services};

/// A configuration without errors.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What was written, with defaults.
    pub config: Config,
    /// The text it came from: places, digest, files to watch.
    pub document: Document,
    /// What someone should look at.
    pub warnings: Report,
}

impl Loaded {
    /// Errors that were found later, and the warnings that still hold beside them: with something broken, less can be said to be unused.
    pub(super) fn beside(mut self, mut errors: Report) -> Report {
        errors
            .error_paths()
            .for_each(|path| self.config.gaps.add(path));
        let mut still = Report::new();
        lint::check(&self.config, &mut still);
        let holds = |warning: &Finding| {
            let mut still = still.findings().iter();
            !lint::is_lint(warning) || still.any(|one| one.fact == warning.fact)
        };
        let warnings = self.warnings.into_findings().into_iter();
        errors.absorb(Report::of(warnings.filter(holds).collect()));
        errors.locate(|path| self.document.place(path));
        errors
    }
}

/// Loads a file with everything it includes.
///
/// # Errors
/// Everything that is wrong, located and in the order of the text.
pub fn load(path: &Path, plugins: &[PluginDef]) -> Result<Loaded, Report> {
    judge(
        Document::read(path)?,
        folder(path),
        plugins,
        &Ward::default(),
    )
}

/// The folder that paths in a configuration are relative to.
pub(super) fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// Loads one section of a file, whatever is wrong with the rest.
///
/// # Errors
/// What is wrong with the section, located, or what keeps it from being found.
pub fn load_section<T: DeserializeOwned + Default>(
    path: &Path,
    key: &'static str,
) -> Result<T, Report> {
    let document = Document::read_section(path, key)?;
    let mut report = Report::new();
    let section = decode::section(&document, key, &mut report);
    report.locate(|path| document.place(path));
    match report.has_errors() {
        true => Err(report),
        false => Ok(section),
    }
}

/// Loads text as if it stood in a file of this name in the current folder.
///
/// # Errors
/// Everything that is wrong, located and in the order of the text.
pub fn load_text(name: &str, text: &str, plugins: &[PluginDef]) -> Result<Loaded, Report> {
    let document = Document::read_text(name, text)?;
    judge(document, Path::new(""), plugins, &Ward::default())
}

/// Judges what was read, without the objects that are set apart.
pub(super) fn judge(
    document: Document,
    folder: &Path,
    plugins: &[PluginDef],
    ward: &Ward,
) -> Result<Loaded, Report> {
    let masked = ward.mask(document);
    let document = &masked.document;
    let mut report = Report::new();
    check::check(document, plugins, &mut report);
    let mut config = decode::decode(document, &mut report);
    // Past what anyone repairs at once the rest was not even looked at.
    if !report.is_full() {
        masked.mark(&mut config);
        report = meaning(&mut config, ward, report);
        if report.has_errors() {
            further(&config, folder, plugins, &mut report);
        }
    }
    report.locate(|path| document.place(path));
    match report.has_errors() {
        true => Err(report),
        false => Ok(Loaded {
            config,
            document: masked.document,
            warnings: report,
        }),
    }
}

/// Adds what rules and lints find in what was decoded, generated parts included. What is missing is told already, and nobody
/// complains of it.
fn meaning(config: &mut Config, ward: &Ward, shape: Report) -> Report {
    let mut report = Report::new();
    let generated = services::generate(config);
    rules::check(config, &mut report);
    report.without(|path| config.gaps.covers(path));
    let wrong = shape.error_paths().chain(report.error_paths());
    wrong.for_each(|path| config.gaps.add(path));
    // Lints complain even of objects that are set apart: what only a broken route uses is not unused.
    if ward.is_empty() {
        lint::check(config, &mut report);
    }
    generated.place(&mut report);
    report.absorb(shape);
    report
}

/// What compiling finds beside other errors, unless those are why: a whole is not to blame for its parts, nor told to be wrong twice.
fn further(config: &Config, folder: &Path, plugins: &[PluginDef], report: &mut Report) {
    let mut found = compile::problems(config, plugins, folder);
    let known: Vec<String> = report.error_paths().map(str::to_owned).collect();
    found.without(|path| known.iter().any(|known| is_within(known, path)));
    report.absorb(found);
}

#[cfg(test)]
mod tests;
