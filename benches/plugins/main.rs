//! Question: how many instructions does each built-in plugin cost a request that it lets go on?
//! It must not measure the proxy around it: the test kit calls the hooks, with a request made anew for each turn.
//! Run by hand; it needs valgrind, under which it runs itself once with a plugin and once without, about five minutes for all:
//!
//! ```text
//! cargo bench -p windrose-plugins --bench plugins                      # every plugin
//! cargo bench -p windrose-plugins --bench plugins -- jwt compress:br   # these
//! cargo bench -p windrose-plugins --bench plugins -- checked           # none, but that each does its work: no valgrind
//! ```
//!
//! The number is the mean of a thousand turns, after some that are not counted, less that of the same turns without hooks: what the
//! plugin does in user code on the request, on its way upstream, on the response and at the end. Making and copying heads is in
//! neither. Bodies of 1 KiB, in one piece, pass where a plugin is about bodies; `scenes` says which, and with which settings.
//! What a plugin remembers, it remembers: tokens and passwords were verified before. Where it asks somebody, the kit's scripted answer
//! and its record of the question are in the number, and a connection is not. Work on other threads and in tasks is not in it.
//! What callgrind counts is no time: it knows no processor's own SHA-256, which is hashed in software then, and counts each byte that a
//! long `memset` clears as an instruction.

mod bodies;
mod credentials;
mod messages;
mod scenes;
mod services;
mod stage;

use std::error::Error;
use std::process::Command;

use windrose_plugins::BUILTIN;

use stage::Stage;

/// The binary's own allocator counts otherwise than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, scene, with] = &arguments[..] {
        if word == "turns" {
            let stage = scenes::stage(scene).ok_or("no such scene")?;
            stage.run(with == "hooks");
            return Ok(());
        }
    }
    let wanted: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let wanted: Vec<&str> = wanted
        .into_iter()
        .filter(|one| !one.starts_with("--"))
        .collect();
    let is_checked = wanted == ["checked"];
    let is_wanted = |scene: &str| {
        let kind = scene.split(':').next();
        wanted.is_empty()
            || is_checked
            || wanted.iter().any(|one| *one == scene || Some(*one) == kind)
    };
    for scene in BUILTIN.iter().flat_map(|plugin| scenes::of(plugin.kind)) {
        if !is_wanted(&scene) {
            continue;
        }
        let stage = scenes::stage(&scene).ok_or("no such scene")?;
        let said = stage.says();
        match is_checked {
            true => println!("{scene}{said}"),
            false => println!("{:>9} {scene}{said}", cost(&scene)?),
        }
    }
    Ok(())
}

/// Instructions of a turn that are the plugin's.
fn cost(scene: &str) -> Result<u64, Box<dyn Error>> {
    let with = counted(scene, "hooks")?;
    let without = counted(scene, "nothing")?;
    Ok(with.saturating_sub(without) / Stage::TURNS)
}

/// Instructions of all turns that count, as valgrind sees them.
fn counted(scene: &str, with: &str) -> Result<u64, Box<dyn Error>> {
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args([
            "--collect-atstart=no",
            "--toggle-collect=*turns_that_count*",
        ])
        .arg(std::env::current_exe()?)
        .args(["turns", scene, with])
        .output()?;
    let said = String::from_utf8_lossy(&run.stderr);
    let line = said.lines().find_map(|line| line.split_once("Collected :"));
    let (_, number) = line.ok_or_else(|| format!("valgrind counted nothing: {said}"))?;
    Ok(number.trim().parse()?)
}
