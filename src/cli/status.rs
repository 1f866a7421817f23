//! `windrose status`: one screen that says whether all is well.
//! It must not judge anything; the running process does, and this draws what it says.
//! Called by `cli`; exit code 0 for well, 1 for something that needs attention, 2 for no process that answers.

use std::fmt::{Display, Write};
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::client::{admin, ask};

/// How to show it.
#[derive(Args)]
pub(super) struct Look {
    /// Print what the process says as JSON.
    #[arg(long)]
    json: bool,
    /// Show it again every two seconds.
    #[arg(long, conflicts_with = "json")]
    watch: bool,
}

/// Shows how the running process is.
pub(super) fn status(path: &Path, look: &Look) -> ExitCode {
    loop {
        let code = show(path, look);
        if !look.watch {
            return code;
        }
        std::thread::sleep(Duration::from_secs(2));
    }
}

fn show(path: &Path, look: &Look) -> ExitCode {
    let answer = admin(path).and_then(|bind| ask(&bind, "GET", "/status"));
    let (status, view) = match answer {
        Ok(answer) => answer,
        Err(problem) => return unreachable(&problem),
    };
    if status != 200 {
        return unreachable("the process that runs does not know /status; is it an older one?");
    }
    let is_terminal = std::io::stdout().is_terminal();
    let paint = match is_terminal && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty()) {
        true => Paint::Colour,
        false => Paint::Plain,
    };
    if look.json {
        println!("{view:#}");
    } else {
        let clear = if look.watch && is_terminal { CLEAR } else { "" };
        print!("{clear}{}", render(&view, paint));
    }
    match view["well"] == true {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn unreachable(problem: &str) -> ExitCode {
    eprintln!("{problem}");
    ExitCode::from(2)
}

/// Whether words are coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Paint {
    Plain,
    Colour,
}

impl Paint {
    fn of(self, colour: &str, text: &str) -> String {
        match self {
            Paint::Plain => text.to_owned(),
            Paint::Colour => format!("\x1b[{colour}m{text}\x1b[0m"),
        }
    }
}

/// The screen.
fn render(view: &Value, paint: Paint) -> String {
    let mut screen = Screen {
        text: String::new(),
        paint,
    };
    screen.attention(view);
    screen.process(view);
    screen.listeners(view);
    screen.certificates(view);
    screen.pools(view);
    screen.stores(view);
    screen.traffic(&view["traffic"]);
    screen.reloads(view);
    screen.quarantined(view);
    screen.text
}

struct Screen {
    text: String,
    paint: Paint,
}

impl Screen {
    fn line(&mut self, line: impl Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn head(&mut self, words: &str) {
        let words = self.paint.of(BOLD, words);
        self.line(format_args!("\n{words}"));
    }

    fn attention(&mut self, view: &Value) {
        let all = list(&view["attention"]);
        let is_bad = all.iter().any(|one| one["severity"] == "error");
        let (colour, words) = match all.len() {
            0 => (GREEN, "all is well".to_owned()),
            1 => (worst(is_bad), "1 thing needs attention".to_owned()),
            many => (worst(is_bad), format!("{many} things need attention")),
        };
        let words = self.paint.of(colour, &words);
        self.line(words);
        for one in all {
            let severity = word(&one["severity"]);
            let padded = format!("{severity:7}");
            let severity = self.paint.of(worst(severity == "error"), &padded);
            self.line(format_args!("  {severity}  {}", word(&one["what"])));
        }
    }

    fn process(&mut self, view: &Value) {
        let up = span(number(&view["uptime_seconds"]));
        self.head(&format!(
            "windrose {}, pid {}, up {up}",
            word(&view["version"]),
            view["pid"]
        ));
        let disk = match view["config"]["disk"].as_str() {
            Some("same") => "the same on disk",
            Some("refused") => "on disk one that was refused or rolled back",
            _ => "another one on disk",
        };
        self.line(format_args!(
            "  generation {}, live since {}, {disk}",
            view["generation"],
            word(&view["live_since"])
        ));
        let probation = &view["probation"];
        if probation.is_object() {
            self.line(format_args!(
                "  on probation: {} s left, then generation {} comes back; 5xx may rise by {}",
                probation["seconds_left"],
                probation["fallback_generation"],
                percent(&probation["max_5xx_rise"])
            ));
        }
        match list(&view["warnings"]).len() {
            0 => {}
            some => self.line(format_args!("  warnings of `windrose check`: {some}")),
        }
        match view["background_tasks"].as_u64() {
            None | Some(0) => {}
            Some(some) => self.line(format_args!("  background tasks of plugins: {some}")),
        }
    }

    fn listeners(&mut self, view: &Value) {
        let row = |one: &Value| {
            let state = match one["state"].as_str() {
                Some("listening") | None => String::new(),
                Some(state) => format!(", {state}"),
            };
            vec![
                word(&one["name"]),
                word(&one["role"]),
                word(&one["protocol"]),
                word(&one["bind"]),
                format!("{} connections{state}", one["open_connections"]),
            ]
        };
        self.table("listeners", &view["listeners"], row);
    }

    fn certificates(&mut self, view: &Value) {
        let row = |one: &Value| {
            let when = match one["expires_in_days"].as_i64().unwrap_or(0) {
                days if days < 0 => "expired".to_owned(),
                1 => "expires in 1 day".to_owned(),
                days => format!("expires in {days} days"),
            };
            vec![
                word(&one["subject"]),
                word(&one["listener"]),
                format!("{when}, {}", word(&one["not_after"])),
            ]
        };
        self.table("certificates", &view["certificates"], row);
    }

    fn pools(&mut self, view: &Value) {
        let row = |one: &Value| {
            let out = list(&one["out"]);
            let out: Vec<String> = out
                .iter()
                .map(|out| format!("{} ({})", word(&out["endpoint"]), word(&out["why"])))
                .collect();
            vec![
                word(&one["name"]),
                format!("{}/{}", one["available"], one["total"]),
                out.join(", "),
            ]
        };
        self.table("pools", &view["pools"], row);
    }

    fn stores(&mut self, view: &Value) {
        let row = |one: &Value| {
            let state = match one["connected"] == true {
                true => format!("connected since {}", word(&one["since"])),
                false => format!("not connected: {}", word(&one["problem"])),
            };
            vec![word(&one["name"]), word(&one["address"]), state]
        };
        self.table("stores", &view["stores"], row);
    }

    fn traffic(&mut self, traffic: &Value) {
        let seconds = number(&traffic["seconds"]);
        self.head(&format!("requests of the last {}", ago(seconds)));
        self.line(format_args!(
            "  {}, {:.1} per second, 5xx {}",
            traffic["requests"],
            number(&traffic["per_second"]),
            percent(&traffic["share_5xx"])
        ));
        let row = |one: &Value| {
            vec![
                word(&one["cause"]),
                one["count"].to_string(),
                percent(&one["share"]),
            ]
        };
        self.rows(&traffic["causes"], row);
    }

    fn reloads(&mut self, view: &Value) {
        let row = |one: &Value| {
            vec![
                word(&one["at"]),
                format!("generation {}", one["generation"]),
                word(&one["outcome"]),
            ]
        };
        self.table("configuration", &view["reloads"], row);
    }

    fn quarantined(&mut self, view: &Value) {
        self.table("quarantined", &view["quarantined"], |one| vec![word(one)]);
    }

    fn table(&mut self, head: &str, all: &Value, row: impl Fn(&Value) -> Vec<String>) {
        if !list(all).is_empty() {
            self.head(head);
            self.rows(all, row);
        }
    }

    /// Columns as wide as their widest value; a screen's worth of rows.
    fn rows(&mut self, all: &Value, row: impl Fn(&Value) -> Vec<String>) {
        let all = list(all);
        let rows: Vec<Vec<String>> = all.iter().take(MOST_ROWS).map(row).collect();
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let widest = |at: usize| {
            let cells = rows.iter().filter_map(|row| row.get(at));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(widest).collect();
        for row in &rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(line, "  {cell:width$}");
            }
            self.line(line.trim_end());
        }
        if all.len() > MOST_ROWS {
            self.line(format_args!("  and {} more", all.len() - MOST_ROWS));
        }
    }
}

fn worst(is_bad: bool) -> &'static str {
    match is_bad {
        true => RED,
        false => YELLOW,
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

fn percent(value: &Value) -> String {
    format!("{:.1} %", number(value) * 100.0)
}

/// Text as one line. Names of certificates come from elsewhere; none of them may steer the terminal.
fn word(value: &Value) -> String {
    let text = value.as_str().unwrap_or("?");
    let line = text.lines().next().unwrap_or("");
    line.replace(char::is_control, "?")
}

/// A time in words that need not be exact.
fn ago(seconds: f64) -> String {
    match seconds {
        few if few < 90.0 => format!("{few:.0} s"),
        many => format!("{:.0} min", many / 60.0),
    }
}

/// A time in its two largest units.
fn span(seconds: f64) -> String {
    let seconds = seconds as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

const BOLD: &str = "1";
const RED: &str = "1;31";
const GREEN: &str = "1;32";
const YELLOW: &str = "1;33";
const CLEAR: &str = "\x1b[H\x1b[2J";
/// Rows of a table on the screen.
const MOST_ROWS: usize = 15;

#[cfg(test)]
mod tests;
