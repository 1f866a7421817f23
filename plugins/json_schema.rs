//! Checks JSON bodies against a JSON Schema: of requests before they go upstream, of responses as they come.
//! It must not change a body, nor repeat its values in an answer.
//! Called by the chain of a listener or route; name it after plugins that authenticate, as bodies are held in memory.

mod causes;
mod responses;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::HeaderMap;

use crate::codec::whole::{plain, NotPlain};
use crate::contract::{
    Build, Cause, Counter, Hooks, Plugin, PluginDef, Problem, Request, Safety, Verdict,
};
use crate::json::{bounded, Flaw};
use crate::media::{self, Kind};
use crate::schema::refusal::Refusal;
use crate::schema::responses::{attach, Terms};
use crate::schema::{Said, Schema};
pub use causes::*;
use responses::ByType;
pub use settings::{Config, Dialect, OfResponses, OnMismatch, Others};

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

impl Plugin for Config {
    const KIND: &'static str = "json_schema";
    const ABOUT: &'static str = "check JSON bodies against a JSON Schema";
    const EXAMPLE: &'static str = "schema:\n  type: object\n  required: [sku]\n  properties: {sku: {type: string, maxLength: 40}, count: {type: integer, minimum: 1}}\n  additionalProperties: false\nrequired: true\nmax: 64KiB";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[
        &MISMATCH,
        &MALFORMED,
        &DUPLICATE,
        &TOO_DEEP,
        &TOO_COSTLY,
        &MISSING,
        &UNSUPPORTED,
        &TOO_LARGE,
        &RESPONSE,
    ];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let mut problems = self.problems();
        let types = self.types(&mut problems);
        let request = self.request_schema(build, &mut problems);
        let response = self.response_schema(build, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut hooks = Hooks::new();
        if let Some(schema) = request {
            let gate = Arc::new(Gate::of(&self, schema, types.clone(), build));
            let asked = gate.clone();
            let wants = move |request: &Request<'_>| asked.wants(&request.head.headers);
            hooks = hooks
                .on_request(move |request| gate.check(request))
                .with_whole_body_where(self.max.0, &TOO_LARGE, wants);
        }
        if let (Some(schema), Some(settings)) = (response, &self.response) {
            let most = settings.max.0;
            let terms = Terms {
                on_mismatch: settings.on_mismatch,
                most,
                cause: &RESPONSE,
            };
            let judge = ByType {
                schema,
                types,
                most,
            };
            hooks = attach(hooks, judge, terms, build);
        }
        Ok(hooks)
    }
}

/// What bodies of requests have to be.
struct Gate {
    schema: Schema,
    types: Vec<Kind>,
    others: Others,
    is_required: bool,
    most: u64,
    depth: usize,
    errors: usize,
    status: u16,
    refused: Counter,
}

impl Gate {
    fn of(config: &Config, schema: Schema, types: Vec<Kind>, build: &Build<'_>) -> Gate {
        Gate {
            schema,
            types,
            others: config.others,
            is_required: config.required,
            most: config.max.0,
            depth: config.depth,
            errors: config.errors,
            status: config.status,
            refused: build.counter("refused"),
        }
    }

    /// Whether a body has to be read: those of other types that pass stream on.
    fn wants(&self, headers: &HeaderMap) -> bool {
        self.others == Others::Refuse || self.is_required || self.is_ours(headers)
    }

    fn is_ours(&self, headers: &HeaderMap) -> bool {
        is_of(&self.types, headers) && media::is_read_as_utf8(headers)
    }

    fn check(&self, request: &mut Request<'_>) -> Verdict {
        match self.refusal(request) {
            None => Verdict::Continue,
            Some(refusal) => {
                if request.effects.is_live() {
                    (self.refused)(1);
                }
                refusal.answer(request.client.request_id).into()
            }
        }
    }

    fn refusal(&self, request: &Request<'_>) -> Option<Refusal> {
        let body = request.body.as_ref()?.bytes();
        let headers = &request.head.headers;
        if body.is_empty() {
            return self.is_required.then(|| Refusal::of(&MISSING));
        }
        if !self.is_ours(headers) {
            return (self.others == Others::Refuse).then(|| Refusal::of(&UNSUPPORTED));
        }
        let body = match plain(headers, body, self.most) {
            Ok(body) => body,
            Err(wrong) => return Some(Refusal::of(not_plain(wrong))),
        };
        let value = match bounded(&body, self.depth) {
            Ok(value) => value,
            Err(flaw) => return Some(Refusal::of(flawed(flaw))),
        };
        match self.schema.check(&value, body.len(), self.errors) {
            Said::Fits => None,
            Said::TooCostly => Some(Refusal::of(&TOO_COSTLY)),
            Said::Unfit(found, is_more) => {
                let refusal = Refusal::of(&MISMATCH).with_status(self.status);
                Some(refusal.with_findings(found, is_more))
            }
        }
    }
}

/// Whether the fields say one of the types, once.
fn is_of(types: &[Kind], headers: &HeaderMap) -> bool {
    let is_one = headers.get_all(CONTENT_TYPE).iter().count() == 1;
    let kind = media::of(headers).filter(|_| is_one);
    kind.is_some_and(|kind| types.iter().any(|pattern| pattern.is(&kind)))
}

fn not_plain(wrong: NotPlain) -> &'static Cause {
    match wrong {
        NotPlain::Unknown => &UNSUPPORTED,
        NotPlain::Malformed => &MALFORMED,
        NotPlain::TooLarge => &TOO_LARGE,
    }
}

fn flawed(flaw: Flaw) -> &'static Cause {
    match flaw {
        Flaw::Twice => &DUPLICATE,
        Flaw::Deep => &TOO_DEEP,
        Flaw::Syntax | Flaw::Large => &MALFORMED,
    }
}
