//! `windrose explain`: where a request would go and why, on a configuration or on the running process.
//! It must not decide; it asks `explain` or the admin address and renders what comes back.
//! Called by `cli`.

mod render;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base64::Engine as _;
use clap::Args;
use windrose_plugins::PluginDef;

use super::commands::dry_resources;
use super::{client, connection};
use crate::config;
use crate::explain::{explain, Explanation, Question};
use crate::snapshot::Snapshot;

/// A request, as on the command line.
#[derive(Args)]
pub(super) struct Wish {
    /// The method.
    #[arg(required_unless_present = "tcp")]
    method: Option<String>,
    /// The address, such as `https://shop.example/cart?id=1`.
    #[arg(required_unless_present = "tcp")]
    url: Option<String>,
    /// Explain a connection passed through as bytes instead: `LISTENER/ADDRESS:PORT`, where it was going; or `ADDRESS:PORT`,
    /// `SERVICE[:PORT]`, a route for bytes or a listener. `--sni` is the name it asks for, if it is TLS.
    #[arg(long, value_name = "CONNECTION", conflicts_with_all = ["method", "url", "headers", "body", "path", "destination"])]
    tcp: Option<String>,
    /// A field, as `Name: value`; may be given several times.
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    headers: Vec<String>,
    /// The peer's address. Default: 192.0.2.1.
    #[arg(long, value_name = "ADDRESS")]
    from: Option<IpAddr>,
    /// The name asked for in TLS. Default: the host of an https address.
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
    /// The principal that was proven: `consumer:NAME`, `certificate:NAME` or a SPIFFE ID.
    #[arg(long = "as", value_name = "PRINCIPAL")]
    principal: Option<String>,
    /// Where the connection was going, as `ip:port`: what a captured connection's application dialled. Default: the listener's address.
    #[arg(long, value_name = "ADDRESS")]
    destination: Option<SocketAddr>,
    /// The listener. Default: the one at the address's port, else the first with role ingress.
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// A file with the body; hooks on bodies see it in one piece. At most 32 KiB.
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// Walk several hops: listeners in order, as `LISTENER` or `FILE:LISTENER` of another configuration.
    #[arg(long, value_name = "HOPS", value_delimiter = ',')]
    path: Vec<String>,
    /// Ask the running process, with the health and limits it has now.
    #[arg(long)]
    live: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const MOST_BODY: usize = 32 << 10;

/// Exit code 0 if the request goes on or is answered as the rule says, 1 if it is refused, 2 if the question makes no sense.
pub(super) fn run(path: &Path, wish: Wish, plugins: &[PluginDef]) -> ExitCode {
    let asked = match &wish.tcp {
        Some(text) => connection(path, text, &wish, plugins),
        None => question(&wish),
    };
    let answered = asked.and_then(|question| {
        let hops = hops(&wish, path);
        walk(&wish, &hops, question, plugins)
    });
    match answered {
        Ok(explanations) => told(&explanations, wish.json),
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

/// Why there is no explanation.
pub(super) enum Trouble {
    Question(String),
    Configuration(String),
}

fn told(explanations: &[Explanation], json: bool) -> ExitCode {
    if json {
        let text = match explanations {
            [one] => serde_json::to_string_pretty(one),
            all => serde_json::to_string_pretty(all),
        };
        println!("{}", text.unwrap_or_default());
    } else {
        let texts: Vec<String> = explanations.iter().map(render::text).collect();
        print!("{}", texts.join("\n"));
    }
    let refused = explanations.last().is_some_and(|last| {
        let outcome = &last.outcome;
        let is_closed = outcome.status.is_none() && outcome.cause.is_some();
        let is_error = outcome.status.is_some_and(|status| status >= 400);
        is_closed || is_error && outcome.cause.as_deref() != Some("route.respond")
    });
    if refused {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn connection(
    path: &Path,
    text: &str,
    wish: &Wish,
    plugins: &[PluginDef],
) -> Result<Question, Trouble> {
    let loaded =
        config::load(path, plugins).map_err(|report| Trouble::Configuration(report.to_string()))?;
    let asked = connection::question(&loaded.config, text, wish.listener.as_deref());
    let asked = asked.map_err(Trouble::Question)?;
    Ok(Question {
        from: wish.from,
        sni: wish.sni.clone().or(asked.sni),
        principal: wish.principal.clone(),
        ..asked
    })
}

/// Fields as they are given to `-H`.
pub(super) fn fields(lines: &[String]) -> Result<Vec<(String, String)>, String> {
    let fields = lines.iter().map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    });
    let fields: Option<Vec<_>> = fields.collect();
    fields.ok_or_else(|| "a field is written as -H \"Name: value\"".to_owned())
}

fn question(wish: &Wish) -> Result<Question, Trouble> {
    let headers = fields(&wish.headers).map_err(Trouble::Question)?;
    let body = wish.body.as_deref().map(body).transpose()?;
    Ok(Question {
        method: wish
            .method
            .as_deref()
            .unwrap_or_default()
            .to_ascii_uppercase(),
        url: wish.url.clone().unwrap_or_default(),
        headers,
        from: wish.from,
        sni: wish.sni.clone(),
        principal: wish.principal.clone(),
        listener: wish.listener.clone(),
        destination: wish.destination,
        body,
        tcp: false,
    })
}

fn body(path: &Path) -> Result<String, Trouble> {
    let bytes = std::fs::read(path).map_err(|error| {
        Trouble::Question(format!("{} cannot be read: {error}", path.display()))
    })?;
    if bytes.len() > MOST_BODY {
        let problem = format!("{} is larger than 32 KiB", path.display());
        return Err(Trouble::Question(problem));
    }
    Ok(base64::engine::general_purpose::STANDARD.encode(bytes))
}

/// One hop: whose configuration, and which listener of it.
struct Hop {
    config: PathBuf,
    listener: Option<String>,
}

fn hops(wish: &Wish, config: &Path) -> Vec<Hop> {
    let hop = |text: &String| match text.rsplit_once(':') {
        Some((file, listener)) => Hop {
            config: file.into(),
            listener: Some(listener.to_owned()),
        },
        None => Hop {
            config: config.to_owned(),
            listener: Some(text.clone()),
        },
    };
    if wish.path.is_empty() {
        let listener = wish.listener.clone();
        return vec![Hop {
            config: config.to_owned(),
            listener,
        }];
    }
    wish.path.iter().map(hop).collect()
}

fn walk(
    wish: &Wish,
    hops: &[Hop],
    mut question: Question,
    plugins: &[PluginDef],
) -> Result<Vec<Explanation>, Trouble> {
    let mut told: Vec<Explanation> = Vec::new();
    for hop in hops {
        if let Some(before) = told.last() {
            let Some(next) = onward(before, &question) else {
                break;
            };
            question = next;
        }
        question.listener = hop.listener.clone().or(question.listener);
        let explanation = match wish.live {
            true => live(&hop.config, &question)?,
            false => offline(&hop.config, &question, plugins)?,
        };
        told.push(explanation);
    }
    Ok(told)
}

/// The request as the next hop gets it; `None` if it ended here.
fn onward(before: &Explanation, asked: &Question) -> Option<Question> {
    let outcome = &before.outcome;
    let host = outcome.host.as_ref()?;
    let path = outcome.path.as_ref()?;
    let query = asked.url.split_once('?').map(|(_, query)| query);
    let query = query.map_or(String::new(), |query| format!("?{query}"));
    Some(Question {
        url: format!("http://{host}{path}{query}"),
        headers: outcome.headers.clone(),
        from: Some(IpAddr::from([127, 0, 0, 1])),
        sni: None,
        principal: None,
        destination: None,
        ..asked.clone()
    })
}

fn offline(
    path: &Path,
    question: &Question,
    plugins: &[PluginDef],
) -> Result<Explanation, Trouble> {
    let snapshot = snapshot(path, plugins).map_err(Trouble::Configuration)?;
    let explained = explain(&snapshot, question, false);
    let shown = explained.and_then(|explanation| snapshot.secrets.hidden_in(explanation));
    shown.map_err(Trouble::Question)
}

/// Who answers.
pub(super) enum Asking<'a> {
    /// The configuration, with these plugins.
    Offline(&'a [PluginDef]),
    /// The running process.
    Live,
}

/// Explains several requests.
pub(super) fn ask(
    path: &Path,
    questions: Vec<Question>,
    asking: &Asking<'_>,
) -> Result<Vec<Explanation>, Trouble> {
    let plugins = match asking {
        Asking::Live => return questions.iter().map(|it| live(path, it)).collect(),
        Asking::Offline(plugins) => plugins,
    };
    let snapshot = snapshot(path, plugins).map_err(Trouble::Configuration)?;
    let told = questions.iter().map(|question| {
        let explained = explain(&snapshot, question, false);
        let shown = explained.and_then(|it| snapshot.secrets.hidden_in(it));
        shown.map_err(Trouble::Question)
    });
    told.collect()
}

/// A configuration's snapshot, of which nothing runs.
///
/// # Errors
/// Every problem, as printed.
pub(super) fn snapshot(path: &Path, plugins: &[PluginDef]) -> Result<Snapshot, String> {
    let built = dry_resources(plugins, |resources| config::build(path, resources));
    built
        .map(|built| built.snapshot)
        .map_err(|report| report.to_string())
}

fn live(path: &Path, question: &Question) -> Result<Explanation, Trouble> {
    let body = serde_json::to_string(question).unwrap_or_default();
    let (status, answer) = client::post(path, "/explain", &body).map_err(Trouble::Configuration)?;
    if status != 200 {
        let error = answer["error"]
            .as_str()
            .unwrap_or("the process does not answer this");
        return Err(Trouble::Question(error.to_owned()));
    }
    serde_json::from_value(answer).map_err(|error| {
        Trouble::Configuration(format!("the process is of another version: {error}"))
    })
}
