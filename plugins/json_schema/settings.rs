//! The settings of `json_schema`, and what is made of them.
//! They must not know messages.
//! Read while the plugin is built.

use std::path::Path;
use std::sync::Arc;

use jsonschema::{Draft, PatternCache};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::contract::{Build, Problem, Size};
use crate::media::{self, Kind};
use crate::schema::beside::{self, Beside};
use crate::schema::bounds::{one_mib, sixty_four, ten, unprocessable, yes, Bounds};
pub use crate::schema::responses::OnMismatch;
use crate::schema::{Reading, Schema};

/// Settings of `json_schema`. Bodies in gzip, br or zstd are looked at without their coding and go on as they came. A body that has a
/// member twice, or is no JSON in UTF-8, is refused whatever the schema says. Integers beyond 64 bits are compared as floating point
/// numbers. Schemas refer to themselves and to files beside them; nothing is fetched. Patterns are those of linear time: without
/// looking around and back references. The format `regex` is not checked.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The schema of request bodies. Default: none, or that of `file`.
    #[serde(default)]
    pub schema: Option<Value>,
    /// A file with the schema, in JSON or YAML, relative to the configuration's folder. Read on load and reload only, as are files
    /// that it refers to, which must lie beside it or below. Default: none.
    #[serde(default)]
    pub file: Option<String>,
    /// The dialect of schemas that do not name theirs in `$schema`. Default: `2020-12`.
    #[serde(default)]
    pub draft: Option<Dialect>,
    /// Whether the formats that JSON Schema names (`date-time`, `email`, `uuid`, `ipv4` and so on) are rules; others are remarks.
    /// Default: `true`.
    #[serde(default = "yes")]
    pub formats: bool,
    /// Media types that are checked, each with at most one `*`. Default: `[application/json, "application/*+json"]`.
    #[serde(default = "json")]
    pub types: Vec<String>,
    /// What becomes of requests with bodies of other types: `refuse` or `pass`. With `pass` a client chooses by its `Content-Type`
    /// whether its body is checked. Default: `refuse`.
    #[serde(default)]
    pub others: Others,
    /// Whether requests without a body are refused. Default: `false`.
    #[serde(default)]
    pub required: bool,
    /// The most bytes of a request's body, as it comes and without its coding. Bodies are held in memory until their request is over.
    /// Default: 1MiB, at most 64MiB.
    #[serde(default = "one_mib")]
    pub max: Size,
    /// How deep bodies may be nested. Default: 64, at most 127.
    #[serde(default = "sixty_four")]
    pub depth: usize,
    /// How many mismatches an answer lists, each by a JSON pointer and what the schema wants, never by a value; 0 lists none.
    /// Default: 10, at most 100.
    #[serde(default = "ten")]
    pub errors: usize,
    /// The status of bodies that do not fit: 422 or 400. Default: 422.
    #[serde(default = "unprocessable")]
    pub status: u16,
    /// Checks responses as well. Default: they are not looked at.
    #[serde(default)]
    pub response: Option<OfResponses>,
}

/// How responses are checked: those with a status of 200 to 299 and one of `types`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OfResponses {
    /// The schema of response bodies. Default: none, or that of `file`.
    #[serde(default)]
    pub schema: Option<Value>,
    /// A file with the schema. Default: none.
    #[serde(default)]
    pub file: Option<String>,
    /// What becomes of responses that do not fit: `report` counts them as `response_mismatch`; `refuse` holds responses back until they
    /// were looked at, and answers with the cause `json_schema.response` in their place. Default: `report`.
    #[serde(default)]
    pub on_mismatch: OnMismatch,
    /// The most bytes that are looked at; larger bodies go on, counted as `response_unchecked`. Default: 1MiB, at most 64MiB.
    #[serde(default = "one_mib")]
    pub max: Size,
}

/// A dialect of JSON Schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Dialect {
    /// Draft 4.
    #[serde(rename = "draft-04")]
    Draft4,
    /// Draft 6.
    #[serde(rename = "draft-06")]
    Draft6,
    /// Draft 7.
    #[serde(rename = "draft-07")]
    Draft7,
    /// 2019-09.
    #[serde(rename = "2019-09")]
    Of2019,
    /// 2020-12.
    #[serde(rename = "2020-12")]
    Of2020,
}

impl Dialect {
    fn draft(self) -> Draft {
        match self {
            Dialect::Draft4 => Draft::Draft4,
            Dialect::Draft6 => Draft::Draft6,
            Dialect::Draft7 => Draft::Draft7,
            Dialect::Of2019 => Draft::Draft201909,
            Dialect::Of2020 => Draft::Draft202012,
        }
    }
}

/// What becomes of bodies that are not checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Others {
    /// They are refused.
    #[default]
    Refuse,
    /// They go on.
    Pass,
}

fn json() -> Vec<String> {
    vec![
        "application/json".to_owned(),
        "application/*+json".to_owned(),
    ]
}

impl Config {
    /// What is wrong with single settings.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut sizes = vec![("max", self.max)];
        sizes.extend(self.response.iter().map(|it| ("response.max", it.max)));
        Bounds {
            sizes: &sizes,
            depth: self.depth,
            errors: self.errors,
            status: self.status,
        }
        .judge(&mut problems);
        if self.schema.is_none() && self.file.is_none() && self.response.is_none() {
            problems.push(
                Problem::at("", "checks nothing").help("give `schema`, `file` or `response`"),
            );
        }
        problems
    }

    /// The patterns of media types.
    pub(super) fn types(&self, problems: &mut Vec<Problem>) -> Vec<Kind> {
        let mut types = Vec::new();
        for (at, text) in self.types.iter().enumerate() {
            match Kind::of(text) {
                Some(kind) => types.push(kind),
                None => problems.push(
                    Problem::at(
                        format!("types[{at}]"),
                        format!("\"{text}\" is not a media type"),
                    )
                    .help(media::HELP),
                ),
            }
        }
        if self.types.is_empty() {
            problems.push(Problem::at("types", "names none").help("leave it out for JSON"));
        }
        types
    }

    pub(super) fn request_schema(
        &self,
        build: &Build<'_>,
        problems: &mut Vec<Problem>,
    ) -> Option<Schema> {
        self.read("", (&self.schema, &self.file), build, problems)
    }

    pub(super) fn response_schema(
        &self,
        build: &Build<'_>,
        problems: &mut Vec<Problem>,
    ) -> Option<Schema> {
        let response = self.response.as_ref()?;
        if response.schema.is_none() && response.file.is_none() {
            problems.push(Problem::at("response", "has no schema").help("give `schema` or `file`"));
        }
        self.read(
            "response.",
            (&response.schema, &response.file),
            build,
            problems,
        )
    }

    fn read(
        &self,
        below: &str,
        source: (&Option<Value>, &Option<String>),
        build: &Build<'_>,
        problems: &mut Vec<Problem>,
    ) -> Option<Schema> {
        let read = match source {
            (None, None) => return None,
            (Some(_), Some(_)) => Err(Problem::at(
                format!("{below}file"),
                "a schema is given as well",
            )
            .help("keep `schema` or `file`")),
            (Some(schema), None) => self.inline(&format!("{below}schema"), schema, build),
            (None, Some(file)) => self.of_file(&format!("{below}file"), file, build),
        };
        read.map_err(|problem| problems.push(problem)).ok()
    }

    fn inline(&self, path: &str, schema: &Value, build: &Build<'_>) -> Result<Schema, Problem> {
        let address = beside::address("schema");
        Schema::of(schema, &address, &self.reading(schema, build.folder)).map_err(|wrong| {
            let below = wrong.pointer.replace('/', ".");
            Problem::at(format!("{path}{below}"), wrong.fact).help(HELP)
        })
    }

    fn of_file(&self, path: &str, file: &str, build: &Build<'_>) -> Result<Schema, Problem> {
        let full = build.path(file);
        let schema = beside::read(&full).map_err(|fact| Problem::at(path, fact))?;
        let folder = full.parent().unwrap_or(Path::new("."));
        let name = full.file_name().unwrap_or_default().to_string_lossy();
        let reading = self.reading(&schema, folder);
        Schema::of(&schema, &beside::address(&name), &reading).map_err(|wrong| {
            let at = match wrong.pointer.as_str() {
                "" => file.to_owned(),
                pointer => format!("{file} at {pointer}"),
            };
            Problem::at(path, format!("{at}: {}", wrong.fact)).help(HELP)
        })
    }

    fn reading(&self, schema: &Value, folder: &Path) -> Reading {
        let names_its_own = schema.get("$schema").is_some();
        let draft = self.draft.filter(|_| !names_its_own).map(Dialect::draft);
        Reading {
            draft,
            formats: self.formats,
            others: Arc::new(Beside::of(folder, |document| document)),
            patterns: PatternCache::new(),
        }
    }
}

const HELP: &str = "correct the schema; what it refers to has to be in it or in a file beside it";
