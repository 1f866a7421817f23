//! Checks requests, and responses where asked, against an OpenAPI document; or answers with its examples.
//! It must not change a message, nor repeat a value of it in an answer.
//! Called by the chain of a listener or route; name it after plugins that authenticate, and after `cors`.

mod causes;
mod compiler;
mod content;
pub mod documents;
mod mock;
mod operation;
pub mod outline;
mod parameter;
pub mod paths;
mod prepare;
mod responses;
mod sample;
pub mod servers;
mod settings;
mod shape;
mod style;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method};

use crate::codec::whole::{plain, NotPlain};
use crate::contract::{
    Build, Cause, Counter, Hooks, Plugin, PluginDef, Problem, Request, Safety, Slot, Verdict,
};
use crate::json::{bounded, Flaw};
use crate::media;
use crate::schema::refusal::Refusal;
use crate::schema::responses::{attach, Terms};
use crate::schema::{Said, Schema};
pub use causes::*;
use compiler::{compiled, Compiler, Methods};
use content::{form_value, FormFlaw, Looks};
use operation::{given, Body, Operation, Unknown};
use paths::Paths;
use responses::ByOperation;
pub use settings::{Config, Fate, Leniency, OfResponses, Undeclared};

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// What is wrong with a parameter.
#[derive(Debug, PartialEq, Eq)]
struct Wrong {
    /// Where it stands and its name in the document, such as `query.limit`.
    parameter: String,
    detail: String,
}

impl Plugin for Config {
    const KIND: &'static str = "openapi";
    const ABOUT: &'static str = "check requests against an OpenAPI document, or mock its service";
    const EXAMPLE: &'static str = "document:\n  openapi: 3.1.0\n  info: {title: pets, version: '1'}\n  servers: [{url: https://pets.test/v1}]\n  paths:\n    /pets/{id}:\n      get:\n        parameters:\n          - {name: id, in: path, required: true, schema: {type: integer}}\n          - {name: fields, in: query, explode: false, schema: {type: array, items: {enum: [name, tag]}}}\n        responses: {'200': {description: one}}\nundeclared: {parameters: reject}";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[
        &NO_PATH,
        &NO_METHOD,
        &PARAMETER,
        &MISMATCH,
        &MALFORMED,
        &DUPLICATE,
        &TOO_DEEP,
        &TOO_COSTLY,
        &MISSING,
        &UNDECLARED_BODY,
        &UNSUPPORTED,
        &TOO_LARGE,
        &RESPONSE,
        &MOCK,
        &NO_EXAMPLE,
        &NOT_ACCEPTABLE,
    ];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let mut problems = self.problems();
        let paths = match self.documents(build) {
            Ok((documents, setting)) => compiled(&documents, &self.wish()).map_err(|flaws| {
                let located = flaws
                    .into_iter()
                    .map(|flaw| Problem::at(setting, flaw.to_string()).help(settings::HELP));
                problems.extend(located);
            }),
            Err(problem) => {
                problems.push(problem);
                Err(())
            }
        };
        let (Ok(paths), true) = (paths, problems.is_empty()) else {
            return Err(problems);
        };
        let gate = Arc::new(Gate::of(&self, paths, build));
        let asked = gate.clone();
        let found = gate.found;
        let hooks = Hooks::new()
            .on_request(move |request| gate.check(request))
            .with_whole_body_where(self.max.0, &TOO_LARGE, move |request| asked.wants(request));
        Ok(match self.responses.on_mismatch() {
            Some(on_mismatch) => {
                let most = self.max_response.0;
                let terms = Terms {
                    on_mismatch,
                    most,
                    cause: &RESPONSE,
                };
                attach(hooks, ByOperation { found, most }, terms, build)
            }
            None => hooks,
        })
    }
}

/// What requests have to be.
struct Gate {
    paths: Paths<Methods>,
    undeclared: Undeclared,
    most: u64,
    depth: usize,
    errors: usize,
    status: u16,
    /// The operation of a request, for its response.
    found: Slot<Arc<Operation>>,
    refused: Counter,
    mocked: Counter,
}

/// What the document has for a request.
enum Found<'g, 'r> {
    Operation(&'g Arc<Operation>, &'g [String], Vec<&'r str>),
    NoMethod(&'g Methods),
    NoPath,
}

impl Gate {
    fn of(config: &Config, paths: Paths<Methods>, build: &Build<'_>) -> Gate {
        Gate {
            paths,
            undeclared: config.undeclared,
            most: config.max.0,
            depth: config.depth,
            errors: config.errors,
            status: config.status,
            found: build.slot(),
            refused: build.counter("refused"),
            mocked: build.counter("mocked"),
        }
    }

    fn find<'r>(&self, path: &'r str, method: &Method) -> Found<'_, 'r> {
        let Some((methods, values)) = self.paths.find(path) else {
            return Found::NoPath;
        };
        let of = |wanted: &Method| methods.all.iter().find(|(known, _)| known == wanted);
        let found = of(method);
        // RFC 9110 section 9.3.2: HEAD is GET without the body of its answer.
        let found = found.or_else(|| of(&Method::GET).filter(|_| *method == Method::HEAD));
        match found {
            Some((_, operation)) => Found::Operation(operation, &methods.names, values),
            None => Found::NoMethod(methods),
        }
    }

    /// Whether a body is looked into, so that it has to be read.
    fn wants(&self, request: &Request<'_>) -> bool {
        let Found::Operation(operation, ..) = self.find(request.client.path, &request.head.method)
        else {
            return false;
        };
        let looks = operation
            .body
            .as_ref()
            .and_then(|body| looks(body, &request.head.headers));
        let may_have = operation.body.is_some() || self.undeclared.bodies == Leniency::Reject;
        matches!(looks, Some(Looks::Json(_) | Looks::Form(_)))
            || (may_have && says_nothing_of_a_body(request))
    }

    fn check(&self, request: &mut Request<'_>) -> Verdict {
        let (refusal, operation) = match self.find(request.client.path, &request.head.method) {
            Found::NoPath if self.undeclared.paths == Fate::Pass => (None, None),
            Found::NoPath => (Some(Refusal::of(&NO_PATH)), None),
            Found::NoMethod(_) if self.undeclared.methods == Fate::Pass => (None, None),
            Found::NoMethod(methods) => (Some(no_method(methods)), None),
            Found::Operation(operation, names, values) => {
                let refusal = self.judge(operation, names, &values, request);
                (refusal, Some(operation.clone()))
            }
        };
        let is_live = request.effects.is_live();
        match (refusal, operation) {
            (Some(refusal), _) => {
                if is_live {
                    (self.refused)(1);
                }
                refusal.answer(request.client.request_id).into()
            }
            (None, Some(operation)) => self.answer(operation, request),
            (None, None) => Verdict::Continue,
        }
    }

    /// A request that is right goes on, or is answered by the document.
    fn answer(&self, operation: Arc<Operation>, request: &mut Request<'_>) -> Verdict {
        if let Some(mock) = &operation.mock {
            if request.effects.is_live() {
                (self.mocked)(1);
            }
            return match mock.answer(&request.head.headers) {
                Ok(answer) => answer.into(),
                Err(cause) => Refusal::of(cause).answer(request.client.request_id).into(),
            };
        }
        if operation.responses.is_some() {
            request.slots.put(self.found, operation);
        }
        Verdict::Continue
    }

    fn judge(
        &self,
        operation: &Operation,
        names: &[String],
        values: &[&str],
        request: &Request<'_>,
    ) -> Option<Refusal> {
        let headers = &request.head.headers;
        let query = request.head.uri.query().unwrap_or("");
        let given = given(names, values, query, headers);
        let unknown = match self.undeclared.parameters {
            Leniency::Pass => Unknown::Pass,
            Leniency::Reject => Unknown::Reject,
        };
        let wrong = operation.wrong_parameters(&given, unknown, self.errors);
        if !wrong.is_empty() {
            let listed = wrong.iter().take(self.errors);
            return Some(listed.fold(Refusal::of(&PARAMETER), |refusal, wrong| {
                refusal.with_parameter(&wrong.parameter, &wrong.detail)
            }));
        }
        match &operation.body {
            Some(body) => self.judge_body(body, request),
            None => {
                let is_refused = self.undeclared.bodies == Leniency::Reject && has_body(request);
                is_refused.then(|| Refusal::of(&UNDECLARED_BODY))
            }
        }
    }

    fn judge_body(&self, body: &Body, request: &Request<'_>) -> Option<Refusal> {
        let headers = &request.head.headers;
        if !has_body(request) {
            return body.is_required.then(|| Refusal::of(&MISSING));
        }
        let Some(looks) = looks(body, headers) else {
            return Some(Refusal::of(&UNSUPPORTED));
        };
        let Some(whole) = &request.body else {
            return None;
        };
        let bytes = match plain(headers, whole.bytes(), self.most) {
            Ok(bytes) => bytes,
            Err(NotPlain::Unknown) => return Some(Refusal::of(&UNSUPPORTED)),
            Err(NotPlain::Malformed) => return Some(Refusal::of(&MALFORMED)),
            Err(NotPlain::TooLarge) => return Some(Refusal::of(&TOO_LARGE)),
        };
        match looks {
            Looks::Presence => None,
            Looks::Json(schema) => match bounded(&bytes, self.depth) {
                Err(flaw) => Some(Refusal::of(flawed(flaw))),
                Ok(value) => self.fits(schema.as_ref()?, &value, bytes.len()),
            },
            Looks::Form(form) => {
                let (schema, shape) = &**form;
                match form_value(&bytes, shape) {
                    Err(FormFlaw::Malformed) => Some(Refusal::of(&MALFORMED)),
                    Err(FormFlaw::Twice) => Some(Refusal::of(&DUPLICATE)),
                    Ok(value) => self.fits(schema, &value, bytes.len()),
                }
            }
        }
    }

    fn fits(&self, schema: &Schema, value: &serde_json::Value, bytes: usize) -> Option<Refusal> {
        match schema.check(value, bytes, self.errors) {
            Said::Fits => None,
            Said::TooCostly => Some(Refusal::of(&TOO_COSTLY)),
            Said::Unfit(found, is_more) => {
                let refusal = Refusal::of(&MISMATCH).with_status(self.status);
                Some(refusal.with_findings(found, is_more))
            }
        }
    }
}

/// What is looked at in a body of the type that the fields say, once.
fn looks<'b>(body: &'b Body, headers: &HeaderMap) -> Option<&'b Looks> {
    let is_one = headers.get_all(CONTENT_TYPE).iter().count() == 1;
    let kind = media::of(headers).filter(|_| is_one)?;
    let looks = body.content.media(&kind).map(|media| &media.looks);
    looks.filter(|looks| matches!(looks, Looks::Presence) || media::is_read_as_utf8(headers))
}

/// Whether a request has a body: as it was read, or as far as is known before.
fn has_body(request: &Request<'_>) -> bool {
    match &request.body {
        Some(body) => !body.bytes().is_empty(),
        None => request.client.sends_body,
    }
}

/// Whether only reading tells whether there is a body: over HTTP/2 one needs no field, and a stream that goes on may end empty.
fn says_nothing_of_a_body(request: &Request<'_>) -> bool {
    let fields = [CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING];
    let says = |name| request.head.headers.contains_key(name);
    request.client.sends_body && !fields.into_iter().any(says)
}

fn no_method(methods: &Methods) -> Refusal {
    let mut names: Vec<&str> = methods
        .all
        .iter()
        .map(|(method, _)| method.as_str())
        .collect();
    if names.contains(&"GET") && !names.contains(&"HEAD") {
        names.push("HEAD");
    }
    names.sort_unstable();
    let refusal = Refusal::of(&NO_METHOD);
    match HeaderValue::from_str(&names.join(", ")) {
        Ok(names) => refusal.with_header(ALLOW, names),
        Err(_) => refusal,
    }
}

fn flawed(flaw: Flaw) -> &'static Cause {
    match flaw {
        Flaw::Twice => &DUPLICATE,
        Flaw::Deep => &TOO_DEEP,
        Flaw::Syntax | Flaw::Large => &MALFORMED,
    }
}
