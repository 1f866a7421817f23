//! Lets requests in or keeps them out by expressions in CEL over the request, who calls and what their token says.
//! It must not prove who calls; a plugin before it does.
//! Called by the chain of a listener or route that names it, after plugins that authenticate.

pub(crate) mod subject;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{
    Answer, Blame, Build, Cause, Consumers, Counter, Hooks, Plugin, PluginDef, Problem, Request,
    Safety, Texts, Verdict,
};
use crate::expression::Expression;

use subject::{Subject, VOCABULARY};

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// An expression says no.
pub static DENIED: Cause = Cause {
    name: "policy_denied.cel",
    blame: Blame::Policy,
    status: 403,
    title: "Forbidden",
    explanation: "An expression under `deny` of a `cel` plugin is true for the request, or there are some under `allow` and none is.",
    next_step: "`windrose explain` with the request shows the plugin; compare its expressions with the request, the principal in the access log, and the claims of its token.",
};

/// An expression has no outcome.
pub static FAILED: Cause = Cause {
    name: "policy_failed.cel",
    blame: Blame::Policy,
    status: 403,
    title: "Forbidden",
    explanation: "An expression of a `cel` plugin has no outcome for the request: it reads a field or claim that is not there, or compares what cannot be compared. Nobody is let in by that.",
    next_step: "The log has the reason. Ask with `has(request.headers.name)`, `'name' in request.headers` or `has(claims.name)` before reading what may be missing.",
};

/// Settings of `cel`. Who is denied is refused, whatever else allows; where anything allows, everything else is refused.
///
/// Expressions ask about `request.method`, `request.host`, `request.path`, `request.query`, `request.headers` (by name in lower
/// case), `source.principal`, `source.consumer`, `source.groups`, `source.metadata` (of the consumer), `source.address`,
/// `source.secure`, `destination.listener`, `destination.route`, `claims` (of the token that `jwt` has verified; empty for none),
/// and, of the certificate that the other end of the connection has shown, `connection.certificate.subject`, `issuer`,
/// `common_name`, `serial`, `fingerprint` (texts) and `dns`, `uris`, `emails` (lists); empty where there is none. Only what they ask for is found out. Functions: `contains`, `startsWith`, `endsWith`, `size`, `int`, `string`,
/// `has`, `in`, and `all`, `exists`, `exists_one` over lists and maps, one not inside another.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Expressions of which one has to be true, each of at most 2048 bytes and 200 parts; at most 32. Default: none, so that
    /// everybody is let in who is not denied.
    #[serde(default)]
    pub allow: Texts,
    /// Expressions none of which may be true; they are asked first. At most 32. Default: none.
    #[serde(default)]
    pub deny: Texts,
}

impl Plugin for Config {
    const KIND: &'static str = "cel";
    const ABOUT: &'static str = "let requests in or keep them out by CEL expressions";
    const EXAMPLE: &'static str = "deny: request.method == 'DELETE' && !('staff' in source.groups)\nallow:\n- has(claims.tenant) && request.path.startsWith('/' + string(claims.tenant) + '/')\n- source.address == '127.0.0.1'";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[&DENIED, &FAILED];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let mut problems = Vec::new();
        let allow = compiled("allow", &self.allow, &mut problems);
        let deny = compiled("deny", &self.deny, &mut problems);
        if self.allow.0.is_empty() && self.deny.0.is_empty() {
            let problem = Problem::at("", "there is no expression");
            problems.push(problem.help("give some under `allow` or `deny`, or remove the plugin"));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let gate = Gate {
            allow,
            deny,
            consumers: build.consumers.clone(),
            refused: build.counter("refused"),
        };
        Ok(Hooks::new().on_request(move |request| gate.check(request)))
    }
}

fn compiled(list: &str, texts: &Texts, problems: &mut Vec<Problem>) -> Vec<Expression> {
    if texts.0.len() > MOST {
        let fact = format!("has {} expressions; {MOST} are the most", texts.0.len());
        problems.push(Problem::at(list, fact).help("join some with `||`"));
        return Vec::new();
    }
    let mut all = Vec::new();
    for (at, text) in texts.0.iter().enumerate() {
        match Expression::new(text, &VOCABULARY) {
            Ok(expression) => all.push(expression),
            Err(fact) => {
                let fact = format!("the expression cannot be used: {fact}");
                problems.push(Problem::at(format!("{list}[{at}]"), fact));
            }
        }
    }
    all
}

const MOST: usize = 32;

struct Gate {
    allow: Vec<Expression>,
    deny: Vec<Expression>,
    consumers: Arc<Consumers>,
    refused: Counter,
}

/// Why a list has no outcome.
struct Silent(String);

impl Gate {
    fn check(&self, request: &Request<'_>) -> Verdict {
        let subject = Subject::of(request, &self.consumers);
        let is_let_in = any("deny", &self.deny, &subject).and_then(|is_denied| match is_denied {
            true => Ok(false),
            false if self.allow.is_empty() => Ok(true),
            false => any("allow", &self.allow, &subject),
        });
        match is_let_in {
            Ok(true) => Verdict::Continue,
            Ok(false) => {
                if request.effects.is_live() {
                    (self.refused)(1);
                }
                Answer::of(&DENIED).into()
            }
            Err(Silent(reason)) => Verdict::Failed {
                cause: &FAILED,
                reason,
            },
        }
    }
}

/// Whether one of them is true. One that has no outcome counts for nothing where another one is true.
fn any(list: &str, all: &[Expression], subject: &Subject<'_>) -> Result<bool, Silent> {
    let mut silent = None;
    for (at, expression) in all.iter().enumerate() {
        match expression.holds(subject) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(why) => {
                silent.get_or_insert_with(|| Silent(format!("{list}[{at}]: {}", why.0)));
            }
        }
    }
    silent.map_or(Ok(false), Err)
}
