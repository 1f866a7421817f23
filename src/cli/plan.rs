//! `windrose plan`: what a new configuration would change, before it runs.
//! It must not change anything, nor judge: `config` compares.
//! Called by `cli`.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use windrose_plugins::PluginDef;

use super::commands::dry_resources;
use super::replay;
use crate::config::plan::{self, changes, order, Change, Moved, Replayed};
use crate::config::report::{Report, Severity};
use crate::config::source::Document;
use crate::config::{self, Built};
use crate::explain::{explain, Question};
use crate::snapshot::secrets::Secrets;

/// What to compare.
#[derive(Args)]
pub(super) struct Wish {
    /// The new configuration; `-c` names the one it is compared with.
    new: PathBuf,
    /// Decide the requests of a recorder's bundle with both.
    #[arg(long, value_name = "FILE", conflicts_with = "live")]
    bundle: Option<PathBuf>,
    /// Decide the requests that the running process recorded with both.
    #[arg(long)]
    live: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A plan as data.
#[derive(Serialize)]
struct Plan {
    changes: Vec<Change>,
    moved: Vec<Moved>,
    /// How many policies there are now and then, if something about them changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    policies: Option<[String; 2]>,
    /// Warnings that only the new configuration has, such as of routes in the shadow of others.
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<Replayed>,
}

/// Exit code 0 with the plan, 1 when one of the configurations cannot run or the process cannot be asked, 2 when the bundle is none.
pub(super) fn run(path: &Path, wish: &Wish, plugins: &[PluginDef]) -> ExitCode {
    let questions = match recorded(path, wish) {
        Ok(questions) => questions,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(if wish.live { 1 } else { 2 });
        }
    };
    match make(path, wish, questions, plugins) {
        Ok(plan) => {
            match wish.json {
                true => println!(
                    "{}",
                    serde_json::to_string_pretty(&plan).unwrap_or_default()
                ),
                false => print!("{}", text(&plan)),
            }
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// A configuration, built, and its warnings.
struct Side {
    built: Built,
    document: Document,
    warnings: Vec<String>,
}

fn side(path: &Path, plugins: &[PluginDef]) -> Result<Side, String> {
    let read = || {
        let document = Document::read(path)?;
        let built = dry_resources(plugins, |resources| {
            config::build_document(&document, path, resources)
        })?;
        Ok((document, built))
    };
    let (document, built) = read().map_err(|report: Report| report.to_string())?;
    let findings = built.warnings.findings().iter();
    let findings = findings.filter(|finding| finding.severity == Severity::Warning);
    let warnings = findings.map(|finding| format!("{}: {}", finding.path, finding.fact));
    let quarantined = built.snapshot.quarantined.iter().map(ToString::to_string);
    Ok(Side {
        warnings: warnings.chain(quarantined).collect(),
        document,
        built,
    })
}

fn make(
    path: &Path,
    wish: &Wish,
    questions: Option<Vec<Question>>,
    plugins: &[PluginDef],
) -> Result<Plan, String> {
    let old = side(path, plugins)?;
    let new = side(&wish.new, plugins)?;
    let is_new = |warning: &&String| !old.warnings.contains(warning);
    let changes = changes(
        plan::Side::of(&old.built.config, &old.document),
        plan::Side::of(&new.built.config, &new.document),
    );
    let judges_otherwise = changes.iter().any(Change::is_of_policies);
    let mut plan = Plan {
        policies: judges_otherwise
            .then(|| [&old, &new].map(|side| plan::counted(&side.built.config))),
        changes,
        moved: order(&old.built.snapshot, &new.built.snapshot),
        warnings: new.warnings.iter().filter(is_new).cloned().collect(),
        requests: questions.map(|asked| replayed(&asked, &old.built, &new.built)),
    };
    for side in [&old, &new] {
        hide(&mut plan, &side.built.snapshot.secrets);
    }
    Ok(plan)
}

/// What a rule matches and where it redirects may hold secrets; values that differ are told without them already.
fn hide(plan: &mut Plan, secrets: &Secrets) {
    for moved in &mut plan.moved {
        moved.matches = secrets.hidden(&moved.matches);
        for rule in &mut moved.now_before {
            *rule = secrets.hidden(rule);
        }
    }
    for group in plan.requests.iter_mut().flat_map(|all| &mut all.groups) {
        group.change = secrets.hidden(&group.change);
    }
    for effect in plan.changes.iter_mut().flat_map(|one| &mut one.effects) {
        *effect = secrets.hidden(effect);
    }
}

fn replayed(questions: &[Question], old: &Built, new: &Built) -> Replayed {
    let old = |question: &Question| explain(&old.snapshot, question, false);
    let new = |question: &Question| explain(&new.snapshot, question, false);
    plan::replay(questions, old, new)
}

/// Differences of one object on the page.
const MOST_DETAILS: usize = 100;

fn text(plan: &Plan) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    if plan.changes.is_empty() {
        text.push_str("nothing changes\n");
    }
    for change in &plan.changes {
        let _ = writeln!(text, "{change}");
        for detail in change.details.iter().take(MOST_DETAILS) {
            let value = |value: &Option<String>| value.clone().unwrap_or("nothing".to_owned());
            let (old, new) = (value(&detail.old), value(&detail.new));
            let _ = writeln!(text, "    {}: {old} -> {new}", detail.path);
        }
        if let more @ 1.. = change.details.len().saturating_sub(MOST_DETAILS) {
            let _ = writeln!(text, "    and {more} more; --json has all");
        }
    }
    if let Some([before, after]) = &plan.policies {
        let _ = writeln!(text, "policies: {after}");
        let _ = writeln!(text, "    before: {before}");
        if plan.requests.is_none() {
            let advice = "which recorded requests that is: `--live` or `--bundle FILE`";
            let _ = writeln!(text, "    {advice}");
        }
    }
    for moved in &plan.moved {
        let before = moved.now_before.join(", ");
        let _ = writeln!(
            text,
            "listener \"{}\": route \"{}\" ({}, {}) is tried {} now    {}",
            moved.listener,
            moved.route,
            moved.host,
            moved.matches,
            match before.is_empty() {
                true => "later".to_owned(),
                false => format!("before {before}"),
            },
            moved.place
        );
    }
    for warning in &plan.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    if let Some(requests) = &plan.requests {
        traffic(&mut text, requests);
    }
    text
}

fn traffic(text: &mut String, replayed: &Replayed) {
    let percent = |part: usize| 100.0 * part as f64 / replayed.requests.max(1) as f64;
    let _ = writeln!(
        text,
        "\n{:.1} % of {} recorded requests change ({})",
        percent(replayed.changed),
        replayed.requests,
        replayed.changed
    );
    for group in &replayed.groups {
        let _ = writeln!(text, "  {:.1} %  {}", percent(group.requests), group.change);
        for example in &group.examples {
            let _ = writeln!(text, "           {example}");
        }
    }
    judged(text, replayed);
    if replayed.skipped > 0 {
        let _ = writeln!(text, "  {} could not be asked again", replayed.skipped);
    }
}

/// What policies would judge otherwise.
fn judged(text: &mut String, replayed: &Replayed) {
    let kinds = [
        ("newly denied", &replayed.denied),
        ("newly allowed", &replayed.allowed),
    ];
    for (word, ruled) in kinds {
        for one in ruled {
            let by = match word {
                "newly denied" => "by",
                _ => "no longer denied by",
            };
            let _ = writeln!(text, "  {word}: {}, {by} {}", one.requests, one.by);
            for example in &one.examples {
                let _ = writeln!(text, "           {example}");
            }
        }
    }
}

/// The requests to decide again, if any were asked for.
fn recorded(path: &Path, wish: &Wish) -> Result<Option<Vec<Question>>, String> {
    let records = match (&wish.bundle, wish.live) {
        (Some(file), _) => replay::from_file(file)?,
        (None, true) => replay::from_process(path)?,
        (None, false) => return Ok(None),
    };
    Ok(Some(records.iter().map(Question::recorded).collect()))
}
