//! Everything that is wrong with a configuration, each with place, path, fact and remedy.
//! It must not know rules; it collects and prints.
//! Filled by every step from `source` to `compile`; printed by the command line, the log and the admin address.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The configuration cannot run.
    Error,
    /// It can, but someone should look.
    Warning,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Place {
    /// The file, as the user named it.
    pub file: Arc<str>,
    /// Line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file),
            line => write!(f, "{}:{line}:{}", self.file, self.column),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Where it stands; filled in by [`Report::locate`] when only the path was known.
    pub place: Option<Place>,
    /// Path in the configuration, such as `routes[3].rules[0].pool`; empty for the whole.
    pub path: String,
    /// What is wrong.
    pub fact: String,
    /// What to do; empty when the fact says it.
    pub remedy: String,
    /// What running does about it, with `on_invalid: quarantine`; empty without.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub effect: String,
}

impl Finding {
    /// An error at a path.
    pub fn error(
        path: impl Into<String>,
        fact: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding {
            severity: Severity::Error,
            place: None,
            path: path.into(),
            fact: fact.into(),
            remedy: remedy.into(),
            effect: String::new(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.fact)?;
        if !self.remedy.is_empty() {
            write!(f, "\n  help: {}", self.remedy)?;
        }
        if !self.effect.is_empty() {
            write!(f, "\n  run: {}", self.effect)?;
        }
        Ok(())
    }
}

/// Whether a path leads to a value or into it.
pub(in crate::config) fn is_within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// All findings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    findings: Vec<Finding>,
}

impl Report {
    /// These findings.
    pub fn of(findings: Vec<Finding>) -> Report {
        Report { findings }
    }

    /// Nothing found yet.
    pub fn new() -> Report {
        Report::default()
    }

    /// Gives findings other paths, where there are others.
    pub fn rename(&mut self, other: impl Fn(&str) -> Option<String>) {
        for finding in &mut self.findings {
            if let Some(path) = other(&finding.path) {
                finding.path = path;
            }
        }
    }

    /// Adds an error at a path.
    pub fn error(
        &mut self,
        path: impl Into<String>,
        fact: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(Severity::Error, path.into(), fact.into(), remedy.into());
    }

    /// Adds a warning at a path.
    pub fn warning(
        &mut self,
        path: impl Into<String>,
        fact: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(Severity::Warning, path.into(), fact.into(), remedy.into());
    }

    /// Adds an error at a place.
    pub fn error_at(
        &mut self,
        place: Place,
        path: impl Into<String>,
        fact: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(Severity::Error, path.into(), fact.into(), remedy.into());
        if let Some(last) = self.findings.last_mut() {
            last.place = Some(place);
        }
    }

    fn add(&mut self, severity: Severity, path: String, fact: String, remedy: String) {
        self.findings.push(Finding {
            severity,
            place: None,
            path,
            fact,
            remedy,
            effect: String::new(),
        });
    }

    /// Takes over the findings of another report.
    pub fn absorb(&mut self, other: Report) {
        self.findings.extend(other.findings);
    }

    /// Leaves out the findings at some paths.
    pub fn without(&mut self, is_out: impl Fn(&str) -> bool) {
        self.findings.retain(|finding| !is_out(&finding.path));
    }

    /// The paths of errors.
    pub fn error_paths(&self) -> impl Iterator<Item = &str> {
        let findings = self.findings.iter();
        let errors = findings.filter(|finding| finding.severity == Severity::Error);
        errors.map(|finding| finding.path.as_str())
    }

    /// Whether there are so many findings that more help nobody.
    pub fn is_full(&self) -> bool {
        self.findings.len() >= MOST_FINDINGS
    }

    /// Fills in places for findings that only have a path, then orders by place and drops repetitions.
    pub fn locate(&mut self, place: impl Fn(&str) -> Option<Place>) {
        for finding in self
            .findings
            .iter_mut()
            .filter(|finding| finding.place.is_none())
        {
            finding.place = place(&finding.path);
        }
        let mut seen = HashSet::new();
        self.findings.retain(|finding| seen.insert(finding.clone()));
        self.findings.sort_by(|a, b| a.place.cmp(&b.place));
    }

    /// Whether the configuration cannot run.
    pub fn has_errors(&self) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.severity == Severity::Error)
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// Every finding, to keep.
    pub fn into_findings(self) -> Vec<Finding> {
        self.findings
    }

    /// Every finding.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Errors and warnings counted.
    pub fn counts(&self) -> (usize, usize) {
        let errors = self
            .findings
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
            .count();
        (errors, self.findings.len() - errors)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, finding) in self.findings.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            finding.fmt(f)?;
        }
        Ok(())
    }
}

/// Enough to repair; a file of the wrong sort would fill the screen for hours.
const MOST_FINDINGS: usize = 200;
