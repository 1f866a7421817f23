//! What becomes of a body: a JSON document patched, or a new body rendered.
//! It must not know whether it is a request's or a response's.
//! Built and called by both sides of `body`.

use bytes::Bytes;
use http::HeaderValue;
use json_patch::Patch;
use serde_json::{Map, Value};

use super::template::{Settings, Template, Unrendered};
use crate::contract::{Build, Problem};

/// A change that was compiled.
pub(super) enum Change {
    /// `merge` first, then `patch`.
    Patches {
        /// RFC 7396.
        merge: Option<Value>,
        /// RFC 6902.
        patch: Patch,
    },
    /// A new body.
    Template(Box<Template>),
}

/// Why a body does not change.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unchanged {
    /// It is not JSON.
    Malformed,
    /// It does not have what the change needs.
    Unfit,
    /// It would become too large.
    TooLarge,
    /// The change itself is wrong.
    Failed(String),
}

/// What a block of settings says.
pub(super) struct Block<'a> {
    pub(super) path: &'static str,
    pub(super) merge: Option<&'a Map<String, Value>>,
    pub(super) patch: &'a [Value],
    pub(super) template: Option<&'a Settings>,
    /// The most bytes that a body may become.
    pub(super) most: u64,
}

impl Change {
    /// The change that a block asks for; `None` where it has problems.
    pub(super) fn of(
        block: &Block<'_>,
        build: &Build<'_>,
        problems: &mut Vec<Problem>,
    ) -> Option<Change> {
        let path = block.path;
        let patches = block.merge.is_some() || !block.patch.is_empty();
        match (block.template, patches) {
            (None, false) => {
                let problem = Problem::at(path, "changes nothing");
                problems.push(problem.help("give `merge`, `patch` or both, or a `template`"));
                None
            }
            (Some(_), true) => {
                let fact = "makes a new body, which `merge` and `patch` would not see";
                let problem = Problem::at(format!("{path}.template"), fact);
                problems.push(
                    problem.help(
                        "write their outcome into the template, or use a second `body` plugin",
                    ),
                );
                None
            }
            (Some(settings), false) => {
                let path = format!("{path}.template");
                let template = Template::of(&path, settings, block.most, build);
                let template = template.map_err(|problem| problems.push(problem)).ok()?;
                Some(Change::Template(Box::new(template)))
            }
            (None, true) => {
                let patch = patch(path, block.patch, problems)?;
                let merge = block.merge.cloned().map(Value::Object);
                Some(Change::Patches { merge, patch })
            }
        }
    }

    /// Whether it reads the body that is there.
    pub(super) fn reads_body(&self, variable: &str) -> bool {
        match self {
            Change::Patches { .. } => true,
            Change::Template(template) => template.asks(variable),
        }
    }

    /// Whether a template asks for something of this, such as `response`.
    pub(super) fn asks(&self, variable: &str) -> bool {
        matches!(self, Change::Template(template) if template.asks(variable))
    }

    /// Whether a template names this, or something in it.
    pub(super) fn asks_for_exactly(&self, variable: &str) -> bool {
        matches!(self, Change::Template(template) if template.names(variable))
    }

    /// What the body becomes, and its media type where that changes. `facts` are what a template sees, given the document.
    pub(super) fn apply(
        &self,
        document: Option<Value>,
        most: u64,
        facts: impl FnOnce(Option<Value>) -> Value,
    ) -> Result<(Bytes, Option<HeaderValue>), Unchanged> {
        match self {
            Change::Patches { merge, patch } => {
                let mut document = document.ok_or(Unchanged::Malformed)?;
                if let Some(merge) = merge {
                    json_patch::merge(&mut document, merge);
                }
                json_patch::patch(&mut document, patch).map_err(|_| Unchanged::Unfit)?;
                let changed = serde_json::to_vec(&document).map_err(|_| Unchanged::Unfit)?;
                match changed.len() as u64 > most {
                    true => Err(Unchanged::TooLarge),
                    false => Ok((changed.into(), None)),
                }
            }
            Change::Template(template) => match template.render(&facts(document)) {
                Ok(rendered) => Ok((rendered.into(), Some(template.media.clone()))),
                Err(Unrendered::Undefined) => Err(Unchanged::Unfit),
                Err(Unrendered::TooLarge) => Err(Unchanged::TooLarge),
                Err(Unrendered::Failed(why)) => Err(Unchanged::Failed(why)),
            },
        }
    }
}

fn patch(path: &str, operations: &[Value], problems: &mut Vec<Problem>) -> Option<Patch> {
    if operations.len() > MOST_OPERATIONS {
        let fact = format!(
            "has {} operations; {MOST_OPERATIONS} are the most",
            operations.len()
        );
        problems.push(Problem::at(format!("{path}.patch"), fact));
        return None;
    }
    let before = problems.len();
    let mut patch = Vec::new();
    for (at, operation) in operations.iter().enumerate() {
        match serde_json::from_value(operation.clone()) {
            Ok(operation) => patch.push(operation),
            Err(error) => problems.push(
                Problem::at(format!("{path}.patch[{at}]"), format!("is no operation: {error}"))
                    .help("write `{op: add, path: /a/b, value: 1}`; known: add, remove, replace, move, copy, test"),
            ),
        }
    }
    (problems.len() == before).then_some(Patch(patch))
}

const MOST_OPERATIONS: usize = 100;
