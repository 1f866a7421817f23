//! `windrose reload`, also on probation, and what ends a probation: `confirm` and `rollback`.
//! It must not judge anything; the running process does and says what came of it.
//! Called by `cli`; exit code 0 for in force or confirmed, 1 for refused or rolled back.

use std::io::{self, BufRead, IsTerminal};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use windrose_plugins::contract::{Percent, Time};

use super::client::{self, admin, ask, failed};
use crate::snapshot::listener::Bind;

/// How a reload may be taken back.
#[derive(Args)]
pub(super) struct Probation {
    /// Put the configuration on probation: it is rolled back unless `windrose confirm` comes within this time, or Enter here.
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "60s", value_parser = time)]
    confirm: Option<Time>,
    /// By how many percentage points the share of 5xx, or of any one cause, may rise before it is rolled back by itself.
    /// At least 50 requests have to be seen, and the share has to more than double or rise by 30 points.
    #[arg(long, value_name = "SHARE", default_value = "5%", requires = "confirm", value_parser = percent)]
    max_5xx_rise: Percent,
    /// Return as soon as it is live on probation.
    #[arg(long, requires = "confirm")]
    detach: bool,
    /// Take a line of an input that is no terminal for Enter, too: a script's input may have lines that mean something else.
    #[arg(long, requires = "confirm", hide = true)]
    confirm_by_line: bool,
    /// Go back at once to the configuration before the one on probation.
    #[arg(long, conflicts_with = "confirm")]
    rollback: bool,
}

/// The process bounds it, too; here it is a mistake in the command.
fn time(text: &str) -> Result<Time, String> {
    let time: Time = text.parse()?;
    match (Time::secs(1)..=Time::secs(86_400)).contains(&time) {
        true => Ok(time),
        false => Err("a probation takes from 1s to 24h".to_owned()),
    }
}

fn percent(text: &str) -> Result<Percent, String> {
    Percent::try_from(text.to_owned())
}

/// Reloads, on probation if asked to, and waits for what becomes of it.
pub(super) fn reload(path: &Path, probation: &Probation) -> ExitCode {
    match probation.confirm {
        _ if probation.rollback => roll_back(path),
        None => client::reload(path),
        Some(time) => try_out(path, time, probation).unwrap_or_else(|problem| failed(&problem)),
    }
}

/// Keeps what is on probation.
pub(super) fn confirm(path: &Path) -> ExitCode {
    end(path, "/confirm")
}

/// Ends a probation by going back.
pub(super) fn roll_back(path: &Path) -> ExitCode {
    end(path, "/rollback")
}

fn end(path: &Path, target: &str) -> ExitCode {
    let (status, body) = match admin(path).and_then(|bind| ask(&bind, "POST", target)) {
        Ok(answer) => answer,
        Err(problem) => return failed(&problem),
    };
    let lines = |key: &str| {
        let all = body[key].as_array().into_iter().flatten();
        let all: Vec<&str> = all.filter_map(Value::as_str).collect();
        all.join("\n")
    };
    if status != 200 {
        return failed(&lines("problems"));
    }
    println!(
        "{}; generation {} runs",
        lines("changes"),
        body["generation"]
    );
    ExitCode::SUCCESS
}

fn try_out(path: &Path, time: Time, probation: &Probation) -> Result<ExitCode, String> {
    let bind = admin(path)?;
    let rise = String::from(probation.max_5xx_rise).replace('%', "%25");
    let target = format!("/reload?confirm={time}&max_5xx_rise={rise}");
    let (status, body) = ask(&bind, "POST", &target)?;
    let told = client::tell_reload(status, &body);
    let Some(generation) = body["probation"]["generation"].as_u64() else {
        return Ok(told);
    };
    if status != 200 {
        return Ok(told);
    }
    println!(
        "generation {generation} is live on probation; it goes back to generation {} in {} s unless confirmed:\n  windrose confirm -c {}",
        body["probation"]["fallback_generation"],
        body["probation"]["seconds_left"],
        path.display()
    );
    if probation.detach {
        return Ok(ExitCode::SUCCESS);
    }
    let listens = io::stdin().is_terminal() || probation.confirm_by_line;
    match listens {
        true => println!("or press Enter; Ctrl-C leaves it on probation"),
        false => println!("Ctrl-C leaves it on probation"),
    }
    let entered = listens.then(entered);
    wait(&bind, generation, entered)
}

/// Waits until the probation of a generation is over, and tells what came of it.
fn wait(
    bind: &Bind,
    generation: u64,
    mut entered: Option<Receiver<()>>,
) -> Result<ExitCode, String> {
    loop {
        let (_, body) = ask(bind, "GET", "/probation")?;
        if body["on_probation"]["generation"] != generation {
            return Ok(outcome(&body["last"], generation));
        }
        let Some(told) = &entered else {
            std::thread::sleep(LOOK);
            continue;
        };
        match told.recv_timeout(LOOK) {
            // Another may have taken its place since the last look.
            Ok(()) => drop(ask(
                bind,
                "POST",
                &format!("/confirm?generation={generation}"),
            )?),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => entered = None,
        }
    }
}

/// Tells when somebody presses Enter; falls silent at the end of the input.
fn entered() -> Receiver<()> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        if io::stdin().lock().read_line(&mut line).unwrap_or(0) > 0 {
            let _ = tell.send(());
        }
    });
    told
}

fn outcome(last: &Value, generation: u64) -> ExitCode {
    let words = last["outcome"].as_str().unwrap_or_default();
    if last["generation"] != generation {
        return failed(&format!(
            "what became of generation {generation} is not known any more; `windrose status` shows what runs"
        ));
    }
    if last["confirmed"] != true {
        return failed(words);
    }
    println!("{words}");
    ExitCode::SUCCESS
}

/// How often the process is asked.
const LOOK: Duration = Duration::from_millis(500);
