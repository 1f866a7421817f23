//! `windrose who-can`: who may call something, by edge and mesh rules together, with the line that decides.
//! It must not decide; each caller is explained, on a configuration or on the running process.
//! Called by `cli`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use windrose_plugins::PluginDef;

use super::connection;
use super::explain::{ask, Asking, Trouble};
use crate::config::{self, schema::Config};
use crate::explain::{Explanation, Question};

/// What is called.
#[derive(Args)]
pub(super) struct Wish {
    /// The method; `connect` for a connection passed through as bytes.
    method: String,
    /// The service and path, as `payments/charge`, or an address such as `https://shop.example/cart`. With `connect` the service and
    /// perhaps its port, as `db:5432`; or `ADDRESS:PORT`, `LISTENER/ADDRESS:PORT`, a route for bytes or a listener.
    target: String,
    /// The listener that gets it. Default: the one at the address's port, else the first with role ingress.
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// Ask the running process.
    #[arg(long)]
    live: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// One caller's answer.
#[derive(Serialize)]
struct Answer {
    /// A principal or pattern of the configuration, `anyone else` or `nobody proven`.
    who: String,
    /// Whether it gets through.
    can: bool,
    /// What decides.
    by: String,
    /// Where that is written.
    place: String,
}

/// Exit code 0 if somebody can, 1 if nobody can, 2 if the question makes no sense.
pub(super) fn run(path: &Path, wish: &Wish, plugins: &[PluginDef]) -> ExitCode {
    match answers(path, wish, plugins) {
        Ok(answers) => {
            told(&answers, wish);
            match answers.iter().any(|answer| answer.can) {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            }
        }
        Err(Trouble::Question(problem)) => {
            eprintln!("{problem}");
            ExitCode::from(2)
        }
        Err(Trouble::Configuration(problem)) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn answers(path: &Path, wish: &Wish, plugins: &[PluginDef]) -> Result<Vec<Answer>, Trouble> {
    let loaded =
        config::load(path, plugins).map_err(|report| Trouble::Configuration(report.to_string()))?;
    let asked = asked(&loaded.config, wish).map_err(Trouble::Question)?;
    let callers = callers(&loaded.config);
    let questions = callers.iter().map(|(_, principal)| Question {
        principal: principal.clone(),
        ..asked.clone()
    });
    let asking = match wish.live {
        true => Asking::Live,
        false => Asking::Offline(plugins),
    };
    let explained = ask(path, questions.collect(), &asking)?;
    let names = callers.into_iter().map(|(who, _)| who);
    Ok(names
        .zip(explained.iter())
        .map(|(who, told)| answer(who, told))
        .collect())
}

/// What is asked, whoever calls.
fn asked(config: &Config, wish: &Wish) -> Result<Question, String> {
    if wish.method.eq_ignore_ascii_case("connect") {
        return connection::question(config, &wish.target, wish.listener.as_deref());
    }
    Ok(Question {
        method: wish.method.to_ascii_uppercase(),
        url: match wish.target.contains("://") {
            true => wish.target.clone(),
            false => format!("http://{}", wish.target.replacen(":/", "/", 1)),
        },
        listener: wish.listener.clone(),
        ..Question::default()
    })
}

fn answer(who: String, told: &Explanation) -> Answer {
    let outcome = &told.outcome;
    let cause = outcome.cause.as_deref().unwrap_or_default();
    let is_answer = matches!(cause, "" | "route.respond" | "route.redirect");
    let ruling = told.ruling.as_ref();
    let (by, place) = match (ruling, is_answer) {
        (Some(ruling), true) => (ruling.says.clone(), ruling.place.clone()),
        (Some(ruling), false) if ruling.verdict == "deny" => {
            (format!("{cause}: {}", ruling.says), ruling.place.clone())
        }
        (_, false) => (
            format!("refused with cause {cause}"),
            outcome.place.clone().unwrap_or_default(),
        ),
        (None, true) => {
            let route = outcome.route.as_deref().unwrap_or_default();
            let words = format!("no policy is for it; route {route} takes it");
            (words, outcome.place.clone().unwrap_or_default())
        }
    };
    Answer {
        who,
        can: is_answer,
        by,
        place,
    }
}

/// Whom to ask about: every principal or pattern that the configuration names, each with one that fits it; then everybody else.
fn callers(config: &Config) -> Vec<(String, Option<String>)> {
    let mut named = BTreeSet::new();
    let identity = config.identity.as_ref();
    let domain = identity.map_or("any.invalid", |identity| &identity.trust_domain);
    for rule in config.policies.iter().flat_map(|policy| &policy.rules) {
        let from = &rule.from;
        let plain = from.principals.iter().chain(&from.not_principals);
        named.extend(
            plain
                .filter(|it| *it != "*")
                .map(|it| (it.clone(), it.clone())),
        );
        let parts = from.namespaces.iter().chain(&from.not_namespaces);
        named.extend(parts.map(|it| {
            let id = format!("spiffe://{domain}/ns/{it}/sa/{SOMEONE}");
            (format!("namespace {it}"), id)
        }));
        named.extend(from.service_accounts.iter().map(|it| {
            let (namespace, account) = it.split_once('/').unwrap_or((SOMEONE, it));
            let id = format!("spiffe://{domain}/ns/{namespace}/sa/{account}");
            (format!("service account {it}"), id)
        }));
        let domains = from.trust_domains.iter().chain(&from.not_trust_domains);
        named.extend(domains.map(|it| {
            let id = format!("spiffe://{it}/ns/{SOMEONE}/sa/{SOMEONE}");
            (format!("trust domain {it}"), id)
        }));
        let consumers = from.consumers.iter();
        named.extend(consumers.map(|it| (format!("consumer:{it}"), format!("consumer:{it}"))));
    }
    let matches = config.routes.iter().flat_map(|route| &route.rules);
    let matches = matches.flat_map(|rule| &rule.matches);
    let principals = matches.flat_map(|found| &found.principals);
    named.extend(principals.map(|it| (it.clone(), it.clone())));
    let workloads = identity.map_or(&[][..], |identity| &identity.workloads);
    named.extend(workloads.iter().map(|it| (it.id.clone(), it.id.clone())));
    let one = |(who, id): (String, String)| (who, Some(id.replace('*', SOMEONE)));
    let mut all: Vec<_> = named.into_iter().map(one).collect();
    let other = format!("spiffe://other.invalid/ns/{SOMEONE}/sa/{SOMEONE}");
    all.push(("anyone else who is proven".to_owned(), Some(other)));
    all.push(("nobody proven".to_owned(), None));
    all
}

/// Stands for any name in an id that is asked about.
const SOMEONE: &str = "_someone_";

fn told(answers: &[Answer], wish: &Wish) {
    if wish.json {
        let text = serde_json::to_string_pretty(answers);
        println!("{}", text.unwrap_or_default());
        return;
    }
    let width = answers.iter().map(|it| it.who.len()).max().unwrap_or(0);
    for it in answers {
        let can = if it.can { "yes" } else { "no " };
        println!("{can} {:width$}  {}  {}", it.who, it.by, it.place);
    }
}
