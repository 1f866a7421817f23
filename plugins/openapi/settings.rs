//! The settings of `openapi`, and the document that they name.
//! They must not know messages.
//! Read while the plugin is built.

use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::compiler::Wish;
use super::documents::{Documents, Flaw};
use crate::contract::{Build, Problem, Size};
use crate::schema::bounds::{one_mib, sixty_four, ten, unprocessable, yes, Bounds};
use crate::schema::responses::OnMismatch;

/// Settings of `openapi`. The document is OpenAPI 3.1 or 3.0, with `$ref` into itself and to files beside it or below; nothing is
/// fetched. Judged are path, method, parameters in all styles that the specification defines, and bodies: JSON by its schema, forms
/// (`application/x-www-form-urlencoded`) by theirs, other media types by their name only. Not judged are `security`, hosts of
/// `servers`, response fields, links, callbacks and webhooks. What is not supported in a document is an error that names its place.
/// Schemas are read as `json_schema` reads them; what is `readOnly` and `required` need not be in requests.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The document, in JSON or YAML, relative to the configuration's folder; at most 16 MiB. Read on load and reload only, as are
    /// files that it refers to. Default: none, or `document`.
    #[serde(default)]
    pub file: Option<String>,
    /// The document itself. Default: none, or that of `file`.
    #[serde(default)]
    pub document: Option<Value>,
    /// Where the document's paths begin, such as `[/v1]`; `[/]` for the root. Default: the paths of its `servers`, their variables
    /// filled in with each value of `enum` and the default.
    #[serde(default)]
    pub base_paths: Option<Vec<String>>,
    /// What becomes of requests with something the document does not have.
    #[serde(default)]
    pub undeclared: Undeclared,
    /// Whether the formats that JSON Schema names are rules; others are remarks. Default: `true`.
    #[serde(default = "yes")]
    pub formats: bool,
    /// The most bytes of a request's body that is looked into, as it comes and without its coding; other bodies stream on. Default:
    /// 1MiB, at most 64MiB.
    #[serde(default = "one_mib")]
    pub max: Size,
    /// How deep JSON may be nested. Default: 64, at most 127.
    #[serde(default = "sixty_four")]
    pub depth: usize,
    /// How many mismatches an answer lists, never with a value; 0 lists none. Default: 10, at most 100.
    #[serde(default = "ten")]
    pub errors: usize,
    /// The status of bodies that do not fit: 422 or 400. Default: 422.
    #[serde(default = "unprocessable")]
    pub status: u16,
    /// Whether responses are checked, by status, media type and JSON schema: `off`, `report` counts what is not declared or does not
    /// fit (`response_mismatch`), `refuse` holds responses back until they were looked at, and answers with the cause
    /// `openapi.response` in their place. Default: `off`.
    #[serde(default)]
    pub responses: OfResponses,
    /// The most bytes of a response's body that are looked at; larger ones go on, counted as `response_unchecked`. Default: 1MiB, at
    /// most 64MiB.
    #[serde(default = "one_mib")]
    pub max_response: Size,
    /// Answers requests that are right with the document's examples, or samples of its schemas, in place of the service. The request
    /// chooses by `Accept` and `Prefer: code=404, example=name`. Default: `false`.
    #[serde(default)]
    pub mock: bool,
}

/// What becomes of requests with something the document does not have: `reject` or `pass`.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Undeclared {
    /// Paths. Default: `reject`, with 404.
    pub paths: Fate,
    /// Methods of paths that are declared; `HEAD` is as `GET` where it is not. Default: `reject`, with 405 and `Allow`.
    pub methods: Fate,
    /// Parameters of the query. Default: `pass`.
    pub parameters: Leniency,
    /// Bodies of operations that declare none. Default: `pass`.
    pub bodies: Leniency,
}

/// What is rejected unless it is let through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is refused.
    #[default]
    Reject,
    /// It goes on unjudged.
    Pass,
}

/// What goes on unless it is rejected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Leniency {
    /// It goes on unjudged.
    #[default]
    Pass,
    /// It is refused.
    Reject,
}

/// Whether responses are checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OfResponses {
    /// They are not.
    #[default]
    Off,
    /// What does not fit is counted.
    Report,
    /// What does not fit is refused.
    Refuse,
}

impl OfResponses {
    pub(super) fn on_mismatch(self) -> Option<OnMismatch> {
        match self {
            OfResponses::Off => None,
            OfResponses::Report => Some(OnMismatch::Report),
            OfResponses::Refuse => Some(OnMismatch::Refuse),
        }
    }
}

impl Config {
    /// What is wrong with single settings.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        Bounds {
            sizes: &[("max", self.max), ("max_response", self.max_response)],
            depth: self.depth,
            errors: self.errors,
            status: self.status,
        }
        .judge(&mut problems);
        if self.mock && self.responses != OfResponses::Off {
            let fact = "a mock has no responses of a service to check";
            problems.push(Problem::at("responses", fact).help("leave it out, or `mock`"));
        }
        for (at, base) in self.base_paths.iter().flatten().enumerate() {
            if !base.starts_with('/') {
                let fact = format!("\"{base}\" does not begin with \"/\"");
                problems.push(
                    Problem::at(format!("base_paths[{at}]"), fact).help("write [/] for the root"),
                );
            }
        }
        if self.base_paths.as_ref().is_some_and(Vec::is_empty) {
            problems.push(Problem::at("base_paths", "names none").help("write [/] for the root"));
        }
        problems
    }

    /// Reads the document.
    pub(super) fn documents(
        &self,
        build: &Build<'_>,
    ) -> Result<(Documents, &'static str), Problem> {
        let located =
            |path: &'static str| move |flaw: Flaw| Problem::at(path, flaw.to_string()).help(HELP);
        match (&self.file, &self.document) {
            (Some(_), Some(_)) => {
                let problem = Problem::at("file", "a document is given as well");
                Err(problem.help("keep `file` or `document`"))
            }
            (None, None) => {
                Err(Problem::at("file", "no document is given").help("give `file` or `document`"))
            }
            (Some(file), None) => {
                let read = Documents::read(&build.path(file)).map_err(located("file"))?;
                Ok((read, "file"))
            }
            (None, Some(document)) => {
                let folder: &Path = build.folder;
                let read = Documents::of(document.clone(), "document", folder);
                Ok((read.map_err(located("document"))?, "document"))
            }
        }
    }

    pub(super) fn wish(&self) -> Wish {
        Wish {
            formats: self.formats,
            responses: self.responses != OfResponses::Off,
            mock: self.mock,
            // What is wrong with them is told where they stand.
            base_paths: self.base_paths.clone().and_then(|mut bases| {
                bases.retain(|base| base.starts_with('/'));
                (!bases.is_empty()).then_some(bases)
            }),
        }
    }
}

pub(super) const HELP: &str =
    "correct the document at that place; `openapi` checks requests against all of it or not at all";
