//! `windrose cache`: what the caches of the running process hold, and purging them.
//! It must not know how responses are stored; the process does it.
//! Called by `cli`.

use std::path::Path;
use std::process::ExitCode;

use clap::{ArgGroup, Args, Subcommand};
use serde_json::Value;

use super::client::{admin, ask, failed};

/// What to do with the caches.
#[derive(Subcommand)]
pub(super) enum Act {
    /// Show what each cache holds.
    Show,
    /// Take stored responses out, in every cache or one; exit code 0 also if there were none.
    Purge(Wish),
}

/// What is purged.
#[derive(Args)]
#[command(group(ArgGroup::new("what").required(true).args(["url", "tag", "all"])))]
pub(super) struct Wish {
    /// Everything stored of this URL, such as `https://shop.example.com/a?b=1`.
    #[arg(long)]
    url: Option<String>,
    /// Everything that carries this tag.
    #[arg(long)]
    tag: Option<String>,
    /// Everything.
    #[arg(long)]
    all: bool,
    /// Only in the cache of this plugin instance.
    #[arg(long)]
    plugin: Option<String>,
}

pub(super) fn run(path: &Path, act: &Act) -> ExitCode {
    let outcome = match act {
        Act::Show => show(path),
        Act::Purge(wish) => purge(path, wish),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => failed(&problem),
    }
}

fn show(path: &Path) -> Result<(), String> {
    let (_, body) = ask(&admin(path)?, "GET", "/cache")?;
    let all = body["caches"].as_array().into_iter().flatten();
    let lines: Vec<String> = all.map(line).collect();
    match lines.is_empty() {
        true => println!("no cache is in use"),
        false => lines.iter().for_each(|line| println!("{line}")),
    }
    Ok(())
}

fn line(cache: &Value) -> String {
    let name = cache["name"].as_str().unwrap_or_default();
    let (objects, bytes, most) = (&cache["objects"], &cache["bytes"], &cache["most_bytes"]);
    format!("{name}: {objects} responses, {bytes} of {most} bytes")
}

fn purge(path: &Path, wish: &Wish) -> Result<(), String> {
    let what = match (&wish.url, &wish.tag) {
        (Some(url), _) => format!("url={}", encoded(url)),
        (None, Some(tag)) => format!("tag={}", encoded(tag)),
        (None, None) => "all".to_owned(),
    };
    let only = wish.plugin.as_deref().map(encoded);
    let only = only.map_or(String::new(), |name| format!("&plugin={name}"));
    match ask(&admin(path)?, "POST", &format!("/cache/purge?{what}{only}"))? {
        (200, body) => {
            println!("purged {}", body["purged"]);
            Ok(())
        }
        (_, body) => Err(body["error"].as_str().unwrap_or("not purged").to_owned()),
    }
}

fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}
