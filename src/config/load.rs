//! From a file to a checked configuration: read, compare with the schema, decode, apply rules, lint.
//! It must not know what is compiled from it.
//! Called by the command line and by `control::reload`.

use std::path::Path;

use serde::de::DeserializeOwned;
use windrose_plugins::contract::PluginDef;

use super::quarantine::Ward;
use super::report::Report;
use super::schema::Config;
use super::source::Document;
use super::{check, decode, lint, rules, services};

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

/// Loads a file with everything it includes.
///
/// # Errors
/// Everything that is wrong, located and in the order of the text.
pub fn load(path: &Path, plugins: &[PluginDef]) -> Result<Loaded, Report> {
    judge(Document::read(path)?, plugins, &Ward::default())
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
    judge(Document::read_text(name, text)?, plugins, &Ward::default())
}

/// Judges what was read, without the objects that are set apart.
pub(super) fn judge(
    document: Document,
    plugins: &[PluginDef],
    ward: &Ward,
) -> Result<Loaded, Report> {
    let masked = ward.mask(document);
    let document = &masked.document;
    let mut report = Report::new();
    check::check(document, plugins, &mut report);
    let mut config = decode::decode(document, &mut report);
    // Rules look at the whole: with parts missing they would complain about the gaps.
    if !report.has_errors() {
        masked.mark(&mut config);
        let generated = services::generate(&mut config);
        rules::check(&config, &mut report);
        // Lints do so even of objects that are set apart: what only a broken route uses is not unused.
        if ward.is_empty() {
            lint::check(&config, &mut report);
        }
        generated.place(&mut report);
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

#[cfg(test)]
mod tests;
