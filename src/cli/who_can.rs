//! `windrose who-can`: who may call something, by edge and mesh rules together, with the line that decides.
//! It must not decide; each caller is explained, on a configuration or on the running process.
//! Called by `cli`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use windrose_plugins::PluginDef;

use super::connection;
use super::explain::{ask, fields, Asking, Trouble};
use crate::config;
use crate::config::schema::{Config, Listener, Protocol, Role};
use crate::explain::{Explanation, Question};

/// What is called.
#[derive(Args)]
pub(super) struct Wish {
    /// The method; `connect` for a connection passed through as bytes.
    method: String,
    /// The service and path, as `payments/charge`, or an address such as `https://shop.example/cart`. With `connect` the service and
    /// perhaps its port, as `db:5432`; or `ADDRESS:PORT`, `LISTENER/ADDRESS:PORT`, a route for bytes or a listener.
    target: String,
    /// The listener that gets it. Default: each one with a route for it, as the edge and the mesh have rules of their own; with
    /// `connect` the one that leads there.
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// The client's address, for rules that ask for it. Default: 192.0.2.1, an address that nobody has.
    #[arg(long, value_name = "ADDRESS")]
    from: Option<IpAddr>,
    /// A field, for rules that ask for it; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    headers: Vec<String>,
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
    /// The listener that was asked.
    listener: String,
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
    let places = places(&loaded.config, &asked);
    let questions = places.iter().flat_map(|place| {
        callers.iter().map(|(_, principal)| Question {
            principal: principal.clone(),
            listener: place.clone(),
            ..asked.clone()
        })
    });
    let asking = match wish.live {
        true => Asking::Live,
        false => Asking::Offline(plugins),
    };
    let explained = ask(path, questions.collect(), &asking)?;
    let mut each: Vec<&[Explanation]> = explained.chunks(callers.len()).collect();
    // Whoever has no route for it has no say in it; if nobody has one, the first says so.
    let takes = |all: &&[Explanation]| all.iter().any(|told| !is_elsewhere(told));
    if each.iter().any(takes) {
        each.retain(takes);
    } else {
        each.truncate(1);
    }
    let answers = each.iter().flat_map(|all| {
        let names = callers.iter().map(|(who, _)| who.clone());
        names.zip(all.iter()).map(|(who, told)| answer(who, told))
    });
    Ok(answers.collect())
}

/// Listeners to ask: the one that is named, else each that serves requests. One that leads to a single service is only asked about
/// that service.
fn places(config: &Config, asked: &Question) -> Vec<Option<String>> {
    if asked.tcp || asked.listener.is_some() {
        return vec![asked.listener.clone()];
    }
    let rest = asked.url.split("://").nth(1).unwrap_or_default();
    let host = rest.split(['/', ':', '?']).next().unwrap_or_default();
    let serves = |listener: &&Listener| {
        let is_bytes = matches!(
            listener.protocol,
            Some(Protocol::Tcp | Protocol::TlsPassthrough)
        );
        let service = listener.service.as_deref();
        !is_bytes && service.is_none_or(|service| service.eq_ignore_ascii_case(host))
    };
    let mut listeners: Vec<&Listener> = config.listeners.iter().filter(serves).collect();
    listeners.sort_by_key(|listener| listener.role != Role::Ingress);
    let names = listeners.iter().map(|one| Some(one.name.clone()));
    match listeners.is_empty() {
        true => vec![None],
        false => names.collect(),
    }
}

/// Whether the listener has no rule for it at all.
fn is_elsewhere(told: &Explanation) -> bool {
    let cause = told.outcome.cause.as_deref();
    matches!(cause, Some("no_route" | "destination_unknown"))
}

/// What is asked, whoever calls.
fn asked(config: &Config, wish: &Wish) -> Result<Question, String> {
    if wish.method.eq_ignore_ascii_case("connect") {
        let asked = connection::question(config, &wish.target, wish.listener.as_deref())?;
        return match wish.headers.is_empty() {
            true => Ok(Question {
                from: wish.from,
                ..asked
            }),
            false => Err("a connection has no fields: leave `--header` out".to_owned()),
        };
    }
    Ok(Question {
        method: wish.method.to_ascii_uppercase(),
        url: match wish.target.contains("://") {
            true => wish.target.clone(),
            false => format!("http://{}", wish.target.replacen(":/", "/", 1)),
        },
        listener: wish.listener.clone(),
        from: wish.from,
        headers: fields(&wish.headers)?,
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
        listener: told.listener.name.to_string(),
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
    let other = |domain: &str| Some(format!("spiffe://{domain}/ns/{SOMEONE}/sa/{SOMEONE}"));
    if identity.is_some() {
        all.push((format!("anyone else of {domain}"), other(domain)));
    }
    all.push((
        "anyone else who is proven".to_owned(),
        other("other.invalid"),
    ));
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
    let mut at = "";
    for it in answers {
        if it.listener != at {
            at = &it.listener;
            println!("at listener {at}:");
        }
        let can = if it.can { "yes" } else { "no " };
        println!("{can} {:width$}  {}  {}", it.who, it.by, it.place);
    }
    let from = wish
        .from
        .map_or("192.0.2.1".to_owned(), |from| from.to_string());
    let fields = match wish.headers.len() {
        0 => "without fields".to_owned(),
        1 => "with 1 field".to_owned(),
        count => format!("with {count} fields"),
    };
    println!("asked as coming from {from} {fields}; --from and --header ask otherwise");
}
