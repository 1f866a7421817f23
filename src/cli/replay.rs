//! `windrose replay`: the decisions of a recorder's bundle made again, on a configuration of choice.
//! It must not decide; `explain` does.
//! Called by `cli`; `plan` reads bundles through it, too.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::{json, Value};
use windrose_plugins::PluginDef;

use super::client;
use super::explain::snapshot;
use crate::explain::{explain, Explanation, PluginSeen, Question};
use crate::observe::recorder::Record;

/// Which decisions.
#[derive(Args)]
pub(super) struct Wish {
    /// A bundle, as `windrose bundle` writes it.
    bundle: PathBuf,
    /// Only the request of this id.
    #[arg(long, value_name = "REQUEST-ID")]
    id: Option<String>,
    /// Print the decisions that come out as recorded as tests for the configuration.
    #[arg(long)]
    as_test: bool,
}

/// Exit code 0 if every decision is the recorded one, 1 if some differ or the configuration cannot run, 2 if the bundle is none.
pub(super) fn run(path: &Path, wish: &Wish, plugins: &[PluginDef]) -> ExitCode {
    let records = match from_file(&wish.bundle) {
        Ok(records) => records,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    let wanted = |record: &&Record| wish.id.as_ref().is_none_or(|id| *id == record.request_id);
    let records: Vec<&Record> = records.iter().filter(wanted).collect();
    if records.is_empty() && wish.id.is_some() {
        eprintln!("no record of the bundle has this id");
        return ExitCode::from(2);
    }
    match snapshot(path, plugins) {
        Ok(snapshot) => {
            let explain = |question: &Question| explain(&snapshot, question, false);
            match wish.as_test {
                true => as_tests(&records, explain),
                false => again(&records, explain),
            }
        }
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// How a decision compares with the recorded one.
enum Compared {
    Same,
    /// In words.
    Differs(String),
    /// It depends on what only the process knew at the time, such as a rate.
    Unknown,
}

fn compared(
    record: &Record,
    explain: impl Fn(&Question) -> Result<Explanation, String>,
) -> Compared {
    // Refused before anybody knew its host.
    if record.request.authority.is_empty() {
        return Compared::Unknown;
    }
    let explanation = match explain(&Question::recorded(record)) {
        Ok(explanation) => explanation,
        Err(problem) => return Compared::Differs(problem),
    };
    let is_unknown = |plugin: &PluginSeen| plugin.says.starts_with("is unknown");
    match difference(record, &explanation) {
        None => Compared::Same,
        Some(_) if explanation.plugins.iter().any(is_unknown) => Compared::Unknown,
        Some(difference) => Compared::Differs(difference),
    }
}

fn again(
    records: &[&Record],
    explain: impl Fn(&Question) -> Result<Explanation, String> + Copy,
) -> ExitCode {
    let (mut same, mut unknown) = (0, 0);
    for record in records {
        match compared(record, explain) {
            Compared::Same => same += 1,
            Compared::Unknown => unknown += 1,
            Compared::Differs(difference) => {
                let (id, question) = (&record.request_id, Question::recorded(record));
                println!("{id}  {} {}", question.method, question.url);
                println!("    {difference}");
            }
        }
    }
    let all = records.len();
    println!("{same} of {all} decisions are the recorded ones");
    if unknown > 0 {
        println!(
            "{unknown} depend on what only the process had: a rate, or a request without a host"
        );
    }
    match same + unknown == all {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Prints tests of the decisions that come out as recorded; others could not pass.
fn as_tests(
    records: &[&Record],
    explain: impl Fn(&Question) -> Result<Explanation, String> + Copy,
) -> ExitCode {
    // As the test asks: without what was redacted.
    let explain = |question: &Question| {
        let mut asked = question.clone();
        asked.headers.retain(|(_, value)| !value.contains("***"));
        explain(&asked)
    };
    let is_same = |record: &&&Record| matches!(compared(record, explain), Compared::Same);
    let kept: Vec<&Record> = records.iter().filter(is_same).copied().collect();
    print!("{}", tests(&kept));
    let left = records.len() - kept.len();
    if left > 0 {
        eprintln!("{left} records left out: they are decided otherwise now, or depend on state");
    }
    ExitCode::SUCCESS
}

/// What differs, in words. Causes of what happened after the decision, such as a refused connection, are not decided again.
fn difference(record: &Record, explanation: &Explanation) -> Option<String> {
    let outcome = &explanation.outcome;
    let name = |name: &Option<String>| name.clone().unwrap_or("none".to_owned());
    let (was, is) = (name(&record.decision.route), name(&outcome.route));
    if was != is {
        return Some(format!("route {was} was met, now {is}"));
    }
    if let Some(pool) = &record.decision.pool {
        let pools: Vec<&str> = outcome.pools.iter().map(|one| one.name.as_str()).collect();
        if !pools.contains(&pool.as_str()) {
            let now = match (pools.is_empty(), &outcome.cause) {
                (false, _) => format!("to {}", pools.join(" or ")),
                (true, cause) => format!("answered with {}", name(cause)),
            };
            return Some(format!("went to pool {pool}, now {now}"));
        }
        return None;
    }
    let (was, is) = (name(&record.answer.cause), name(&outcome.cause));
    (was != is).then(|| format!("was answered with {was}, now {is}"))
}

/// The records as tests of a configuration, in YAML.
fn tests(records: &[&Record]) -> String {
    let tests = records.iter().map(|record| test(record));
    let tests = json!({ "tests": tests.collect::<Vec<_>>() });
    serde_yaml::to_string(&tests).unwrap_or_default()
}

fn test(record: &Record) -> Value {
    let question = Question::recorded(record);
    let headers: serde_json::Map<String, Value> = question
        .headers
        .iter()
        .filter(|(name, value)| name != "host" && !value.contains("***"))
        .map(|(name, value)| (name.clone(), value.clone().into()))
        .collect();
    let mut request = json!({
        "method": question.method, "url": question.url, "listener": question.listener,
        "from": question.from, "principal": question.principal, "sni": question.sni,
    });
    prune(&mut request);
    if !headers.is_empty() {
        request["headers"] = headers.into();
    }
    let decision = &record.decision;
    let answered = decision.pool.is_none();
    let mut expect = json!({
        "route": decision.route, "pool": decision.pool,
        "cause": record.answer.cause.as_ref().filter(|_| answered),
        "status": Some(record.answer.status).filter(|_| answered),
    });
    prune(&mut expect);
    json!({"name": record.request_id, "request": request, "expect": expect})
}

fn prune(value: &mut Value) {
    if let Some(members) = value.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
}

/// The records of a bundle.
///
/// # Errors
/// When it is none.
pub(super) fn from_file(path: &Path) -> Result<Vec<Record>, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let bundle: Value = serde_json::from_str(&text)
        .map_err(|error| format!("{} is no bundle: {error}", path.display()))?;
    records(bundle).map_err(|problem| format!("{}: {problem}", path.display()))
}

/// The records of the running process.
///
/// # Errors
/// When it cannot be asked.
pub(super) fn from_process(path: &Path) -> Result<Vec<Record>, String> {
    let (_, bundle) = client::ask(&client::admin(path)?, "GET", "/recorder/bundle")?;
    records(bundle)
}

fn records(mut bundle: Value) -> Result<Vec<Record>, String> {
    let format = bundle["format"].as_u64();
    if format != Some(1) {
        return Err("this is no bundle of a form known here (1)".to_owned());
    }
    serde_json::from_value(bundle["records"].take())
        .map_err(|error| format!("a record is not as it should be: {error}"))
}
