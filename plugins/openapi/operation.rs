//! One operation: what its requests need to be, and what its responses are.
//! It must not know paths; the gate finds it.
//! Compiled while the plugin is built.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use http::header::COOKIE;
use http::HeaderMap;

use super::content::Content;
use super::documents::{Flaw, Node};
use super::mock::Mock;
use super::parameter::{Given, In, Parameter};
use super::{Compiler, Wrong};
use crate::query::{decoded, pairs};

/// An operation.
pub(super) struct Operation {
    parameters: Vec<Parameter>,
    pub(super) body: Option<Body>,
    pub(super) responses: Option<Responses>,
    pub(super) mock: Option<Mock>,
}

/// What a request's body may be.
pub(super) struct Body {
    pub(super) is_required: bool,
    pub(super) content: Content,
}

/// Responses by status: `200`, `2XX` or `default`.
pub(super) struct Responses(BTreeMap<String, Option<Content>>);

impl Responses {
    /// What a response of this status may hold: `None` where it is not declared at all, `Some(None)` where it has no content.
    pub(super) fn of_status(&self, status: u16) -> Option<Option<&Content>> {
        let found = self.0.get(&status.to_string());
        let found = found.or_else(|| self.0.get(&format!("{}XX", status / 100)));
        let found = found.or_else(|| self.0.get("default"))?;
        Some(found.as_ref())
    }
}

impl Operation {
    /// Compiles one with the parameters of its path.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn of(
        path_item: &Node<'_>,
        operation: &Node<'_>,
        names: &[String],
        compiler: &Compiler<'_>,
    ) -> Result<Operation, Flaw> {
        let parameters = parameters(path_item, operation, names, compiler)?;
        let body = match operation.member("requestBody") {
            Some(body) => Some(body_of(body, compiler)?),
            None => None,
        };
        Ok(Operation {
            parameters,
            body,
            responses: match compiler.responses {
                true => Some(compiler.for_responses(|| responses(operation, compiler))?),
                false => None,
            },
            mock: match compiler.mock {
                true => Some(Mock::of(operation, compiler)?),
                false => None,
            },
        })
    }

    /// What is wrong with a request's parameters, at most so much of it.
    pub(super) fn wrong_parameters(
        &self,
        given: &Given<'_>,
        unknown: Unknown,
        most: usize,
    ) -> Vec<Wrong> {
        let judged = self
            .parameters
            .iter()
            .filter_map(|one| one.check(given, most));
        let unknown = (unknown == Unknown::Reject).then(|| self.unknown(given));
        judged
            .chain(unknown.into_iter().flatten())
            .take(most.max(1))
            .collect()
    }

    /// Query parameters that are not declared. Their names are the client's, so they are counted and not repeated.
    fn unknown(&self, given: &Given<'_>) -> Option<Wrong> {
        let is_known = |name: &[u8]| self.parameters.iter().any(|one| one.takes(name));
        let unknown = given
            .query
            .iter()
            .filter(|(name, _)| !is_known(name))
            .count();
        (unknown > 0).then(|| Wrong {
            parameter: "query".to_owned(),
            detail: format!("has {unknown} parameters that are not declared"),
        })
    }
}

/// What becomes of parameters that are not declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    Pass,
    Reject,
}

/// What a request has under the names of parameters.
pub(super) fn given<'r>(
    names: &'r [String],
    values: &[&'r str],
    query: &'r str,
    headers: &'r HeaderMap,
) -> Given<'r> {
    let names = names.iter().map(String::as_str);
    let cookies = headers.get_all(COOKIE).iter();
    let cookies = cookies.filter_map(|value| std::str::from_utf8(value.as_bytes()).ok());
    let cookies = cookies.flat_map(|text| text.split(';'));
    let cookies = cookies.filter_map(|pair| pair.trim().split_once('='));
    Given {
        path: names.zip(values.iter().copied()).collect(),
        query: pairs(query)
            .map(|(name, value)| -> (Cow<'r, [u8]>, &'r str) { (decoded(name), value) })
            .collect(),
        headers,
        cookies: cookies.collect(),
    }
}

/// The operation's own parameters, and those of its path that it does not declare anew.
fn parameters(
    path_item: &Node<'_>,
    operation: &Node<'_>,
    names: &[String],
    compiler: &Compiler<'_>,
) -> Result<Vec<Parameter>, Flaw> {
    let documents = compiler.documents;
    let mut all: Vec<Parameter> = Vec::new();
    let mut own = BTreeSet::new();
    for (level, of) in [operation, path_item].into_iter().enumerate() {
        for node in of.member("parameters").iter().flat_map(Node::items) {
            let node = documents.follow(node)?;
            let key = (
                node.text("in").unwrap_or_default().to_owned(),
                node.text("name").unwrap_or_default().to_owned(),
            );
            let is_new = own.insert(key);
            match (is_new, level) {
                (false, 0) => return Err(documents.flaw(&node, "the parameter is declared twice")),
                (false, _) => continue,
                (true, _) => all.extend(Parameter::of(&node, compiler)?),
            }
        }
    }
    let declared: BTreeSet<&str> = all
        .iter()
        .filter(|one| one.place == In::Path)
        .map(|one| one.name.as_str())
        .collect();
    let written: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    if let Some(missing) = written.difference(&declared).next() {
        let fact = format!("the path's parameter \"{missing}\" is not declared");
        return Err(documents.flaw(operation, fact));
    }
    if let Some(idle) = declared.difference(&written).next() {
        let fact = format!("the path parameter \"{idle}\" is not in the path");
        return Err(documents.flaw(operation, fact));
    }
    Ok(all)
}

fn body_of(body: Node<'_>, compiler: &Compiler<'_>) -> Result<Body, Flaw> {
    let body = compiler.documents.follow(body)?;
    let content = body.member("content");
    let content = content.ok_or_else(|| {
        compiler
            .documents
            .flaw(&body, "a request's body needs `content`")
    })?;
    Ok(Body {
        is_required: body.is("required"),
        content: Content::of(&content, compiler)?,
    })
}

fn responses(operation: &Node<'_>, compiler: &Compiler<'_>) -> Result<Responses, Flaw> {
    let mut all = BTreeMap::new();
    for (status, response) in operation.member("responses").iter().flat_map(Node::members) {
        if status.starts_with("x-") {
            continue;
        }
        if !is_status(status) {
            let fact = "is no status: write one such as 200, a range such as 2XX, or default";
            return Err(compiler.documents.flaw(&response, fact));
        }
        let response = compiler.documents.follow(response)?;
        let content = response.member("content");
        let content = content
            .map(|content| Content::of(&content, compiler))
            .transpose()?;
        all.insert(status.to_owned(), content);
    }
    Ok(Responses(all))
}

/// `200`, `2XX` or `default`.
pub(super) fn is_status(text: &str) -> bool {
    let bytes = text.as_bytes();
    text == "default"
        || bytes.len() == 3
            && (b'1'..=b'5').contains(&bytes[0])
            && (&bytes[1..] == b"XX" || bytes[1..].iter().all(u8::is_ascii_digit))
}
