//! Bounds what a GraphQL request may ask for: depth, cost, aliases, tokens and more, before a service has to find out.
//! It must not know a schema; lists are as long as their arguments say.
//! Called by the chain of a route that leads to a GraphQL service; name it after plugins that authenticate.

mod causes;
mod measure;
mod operations;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, UPGRADE};
use http::{HeaderValue, Method};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::contract::{
    Answer, Build, Cause, Counter, Hooks, Plugin, PluginDef, Problem, Request, Safety, Size,
    Verdict,
};
pub use causes::*;
use measure::{Law, Measured, Over};
use operations::{Asked, Operation, Source};

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// Settings of `graphql_limits`. Requests come by GET (`query`, `variables` and so on in the query) or POST, as JSON or
/// `application/graphql`; bodies in gzip, br or zstd are looked at without their coding. A request that means different things to
/// different readers is refused: members or parameters that are there twice, a POST with a `query` in its URL as well, another method
/// with a body, which some services read all the same. Every operation of a document has to be within the limits, whichever `operationName` chooses.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Fields within fields, fragments expanded. Default: 15, at most 100.
    pub depth: u32,
    /// What an operation may cost, and a batch in all: each field costs 1, or what `costs` says, and what is in a list is counted as
    /// often as the list is long. Default: 5000.
    pub cost: u64,
    /// The cost of single fields by name, such as `{search: 20}`. Default: none.
    pub costs: BTreeMap<String, u64>,
    /// Arguments that say how long a list is. Default: `[first, last]`.
    pub list_arguments: Vec<String>,
    /// How long a list is taken for at least whose argument is negative, or no number, or a variable without one. Default: 100.
    pub assumed_list: u64,
    /// Names given to fields in a document. Default: 30.
    pub aliases: u32,
    /// Fields at the top of an operation, fragments expanded. Default: 20.
    pub root_fields: u32,
    /// Directives in a document. Default: 50.
    pub directives: u32,
    /// Tokens of a document, without commas and remarks. Default: 2000, at most 20000.
    pub tokens: u32,
    /// Operations in one request, as a JSON array; 1 is no batches. Default: 1, at most 100.
    pub batch: usize,
    /// Whether the schema may be asked for (`__schema`, `__type`). Default: `false`.
    pub introspection: bool,
    /// What becomes of requests without the text of a query, such as those that name one by its hash: `refuse` or `pass`. What passes
    /// is not looked at: the service should know such queries from its own build, not from clients. Default: `refuse`.
    pub persisted: Fate,
    /// What becomes of WebSockets, whose messages are not looked at: `refuse` or `pass`. Default: `refuse`.
    pub websockets: Fate,
    /// What becomes of bodies of other media types, such as forms with files: `refuse` or `pass`, unjudged. Default: `refuse`.
    pub others: Fate,
    /// The most bytes of a request's body, as it comes and without its coding. Default: 256KiB, at most 16MiB.
    pub max: Size,
}

/// What becomes of what is not judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is refused.
    #[default]
    Refuse,
    /// It goes on.
    Pass,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            depth: 15,
            cost: 5000,
            costs: BTreeMap::new(),
            list_arguments: vec!["first".to_owned(), "last".to_owned()],
            assumed_list: 100,
            aliases: 30,
            root_fields: 20,
            directives: 50,
            tokens: 2000,
            batch: 1,
            introspection: false,
            persisted: Fate::Refuse,
            websockets: Fate::Refuse,
            others: Fate::Refuse,
            max: Size(256 << 10),
        }
    }
}

impl Plugin for Config {
    const KIND: &'static str = "graphql_limits";
    const ABOUT: &'static str = "bound depth, cost and more of GraphQL requests";
    const EXAMPLE: &'static str = "depth: 10\ncost: 1000\ncosts: {search: 20}\nlist_arguments: [first, last, limit]\nbatch: 5\nintrospection: true";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[
        &MALFORMED,
        &DEPTH,
        &COST,
        &ALIASES,
        &ROOT_FIELDS,
        &DIRECTIVES,
        &TOKENS,
        &BATCH,
        &FRAGMENT,
        &INTROSPECTION,
        &PERSISTED,
        &WEBSOCKET,
        &GET_MUTATION,
        &UNSUPPORTED,
        &TOO_LARGE,
    ];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let problems = self.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let most = self.max.0;
        let gate = Arc::new(Gate {
            law: Law {
                depth: self.depth,
                costs: self.costs.clone(),
                list_arguments: self.list_arguments.iter().cloned().collect::<BTreeSet<_>>(),
                assumed_list: self.assumed_list,
                tokens: self.tokens,
            },
            refused: build.counter("refused"),
            config: self,
        });
        let asked = gate.clone();
        Ok(Hooks::new()
            .on_request(move |request| gate.check(request))
            .with_whole_body_where(most, &TOO_LARGE, move |request| {
                let is_judged = operations::is_judged(&request.head.headers);
                (request.head.method == Method::POST || request.client.sends_body)
                    && (is_judged || asked.config.others == Fate::Refuse)
            }))
    }
}

impl Config {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let bounds = [
            ("depth", u64::from(self.depth), 100),
            ("tokens", u64::from(self.tokens), 20_000),
            ("batch", self.batch as u64, 100),
            ("max", self.max.0, 16 << 20),
        ];
        for (path, value, most) in bounds {
            if !(1..=most).contains(&value) {
                let fact = format!("must be from 1 to {most}, found {value}");
                problems.push(Problem::at(path, fact).help("leave it out for the default"));
            }
        }
        if self.cost == 0 {
            let problem = Problem::at("cost", "must be at least 1, found 0");
            problems.push(problem.help("every field costs something"));
        }
        let is_name = |name: &str| {
            let begins = |c: char| c.is_ascii_alphabetic() || c == '_';
            name.starts_with(begins) && name.chars().all(|c| begins(c) || c.is_ascii_digit())
        };
        for name in self.costs.keys().filter(|name| !is_name(name)) {
            let fact = format!("\"{name}\" is no name of a field");
            problems.push(
                Problem::at(format!("costs.{name}"), fact).help("write letters, digits and `_`"),
            );
        }
        for (at, name) in self.list_arguments.iter().enumerate() {
            if !is_name(name) {
                let fact = format!("\"{name}\" is no name of an argument");
                let problem = Problem::at(format!("list_arguments[{at}]"), fact);
                problems.push(problem.help("write letters, digits and `_`"));
            }
        }
        problems
    }
}

struct Gate {
    law: Law,
    config: Config,
    refused: Counter,
}

/// Why a request is refused, and by which of its numbers.
struct Refused {
    cause: &'static Cause,
    limit: Option<u64>,
}

impl From<&'static Cause> for Refused {
    fn from(cause: &'static Cause) -> Refused {
        Refused { cause, limit: None }
    }
}

impl Gate {
    fn check(&self, request: &mut Request<'_>) -> Verdict {
        match self.judge(request) {
            Ok(()) => Verdict::Continue,
            Err(refused) => {
                if request.effects.is_live() {
                    (self.refused)(1);
                }
                answer(&refused, request).into()
            }
        }
    }

    fn judge(&self, request: &Request<'_>) -> Result<(), Refused> {
        if request.head.headers.contains_key(UPGRADE) {
            return match self.config.websockets {
                Fate::Refuse => Err((&WEBSOCKET).into()),
                Fate::Pass => Ok(()),
            };
        }
        let Asked { source, operations } = match operations::asked(request, self.config.max.0) {
            Ok(Some(asked)) => asked,
            Ok(None) => return Ok(()),
            Err(cause) if *cause == UNSUPPORTED && self.config.others == Fate::Pass => {
                return Ok(())
            }
            Err(cause) => return Err(cause.into()),
        };
        if operations.len() > self.config.batch {
            return Err(over(&BATCH, self.config.batch as u64));
        }
        let mut cost = 0_u64;
        for operation in &operations {
            let measured = self.measured(operation)?;
            let Some(measured) = measured else {
                continue;
            };
            if source == Source::Url && measured.changes {
                return Err((&GET_MUTATION).into());
            }
            cost = cost.saturating_add(measured.cost);
            self.within(&measured, cost)?;
        }
        Ok(())
    }

    /// `None` for a query that is only named, where those pass.
    fn measured(&self, operation: &Operation) -> Result<Option<Measured>, Refused> {
        let Some(query) = &operation.query else {
            return match self.config.persisted {
                Fate::Refuse => Err((&PERSISTED).into()),
                Fate::Pass => Ok(None),
            };
        };
        let measured = measure::measured(query, &operation.variables, &self.law);
        measured.map(Some).map_err(|wrong| match wrong {
            Over::Tokens => over(&TOKENS, u64::from(self.config.tokens)),
            Over::Depth => over(&DEPTH, u64::from(self.config.depth)),
            Over::Syntax => (&MALFORMED).into(),
            Over::Fragment => (&FRAGMENT).into(),
        })
    }

    fn within(&self, measured: &Measured, cost: u64) -> Result<(), Refused> {
        let config = &self.config;
        if measured.asks_schema && !config.introspection {
            return Err((&INTROSPECTION).into());
        }
        let bounds = [
            (&ALIASES, measured.aliases, u64::from(config.aliases)),
            (
                &DIRECTIVES,
                measured.directives,
                u64::from(config.directives),
            ),
            (
                &ROOT_FIELDS,
                measured.root_fields,
                u64::from(config.root_fields),
            ),
            (&COST, cost, config.cost),
        ];
        match bounds.into_iter().find(|(_, value, most)| value > most) {
            Some((cause, _, most)) => Err(over(cause, most)),
            None => Ok(()),
        }
    }
}

fn over(cause: &'static Cause, limit: u64) -> Refused {
    Refused {
        cause,
        limit: Some(limit),
    }
}

/// An answer in the form that GraphQL clients read, in the newer media type for those that name it.
fn answer(refused: &Refused, request: &Request<'_>) -> Answer {
    let cause = refused.cause;
    let mut extensions = json!({"code": cause.name, "request_id": request.client.request_id});
    if let Some(limit) = refused.limit {
        extensions["limit"] = limit.into();
    }
    let body =
        json!({"errors": [{"message": cause.title, "extensions": extensions}], "why": cause.name});
    let takes_new = request.head.headers.get_all(ACCEPT).iter().any(|value| {
        let text = value.to_str().unwrap_or_default().to_ascii_lowercase();
        text.contains("application/graphql-response+json")
    });
    let kind = match takes_new {
        true => "application/graphql-response+json",
        false => "application/json",
    };
    let mut answer = Answer::of(cause);
    answer.body = Some((
        HeaderValue::from_static(kind),
        Bytes::from(body.to_string()),
    ));
    answer.with(CACHE_CONTROL, HeaderValue::from_static("no-store"))
}
