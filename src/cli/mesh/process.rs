//! Whether the process is there, ready, and runs with the configuration that is on disk.
//! It must not judge the configuration.
//! Part of `windrose mesh check`.

use super::findings::{Findings, Word};
use super::{text, Scene};
use crate::cli::client;

/// Whether a process answers.
pub(super) fn check(scene: &Scene<'_>, found: &mut Findings) -> bool {
    let asked = client::admin(scene.path).and_then(|bind| client::ask(&bind, "GET", "/readyz"));
    match asked {
        Ok((200, _)) => found.ok("process", "is ready"),
        Ok((_, body)) => {
            let reason = body["reason"].as_str().unwrap_or("it does not say why");
            let remedy = "`windrose status` says what needs attention";
            let fact = format!("is not ready: {reason}");
            found.add("process", Word::Wrong, fact, remedy);
        }
        Err(problem) => {
            let remedy = "start it with this configuration";
            found.add("process", Word::Wrong, problem, remedy);
            return false;
        }
    }
    configuration(scene, found);
    true
}

/// Whether what is checked is what runs: everything that follows reads both.
fn configuration(scene: &Scene<'_>, found: &mut Findings) {
    let running = match scene.view("/config?format=json") {
        Ok(running) => running,
        Err(problem) => return found.add("configuration", Word::NotProven, problem, ""),
    };
    let generation = &running["generation"];
    if text(&running["digest"]) == scene.digest {
        let fact = format!("what is on disk runs, as generation {generation}");
        found.ok("configuration", fact);
    } else {
        let fact = format!("what is on disk is not what runs (generation {generation})");
        let remedy = "`windrose plan` says what would change, `windrose reload` puts it in force";
        found.add("configuration", Word::Warning, fact, remedy);
    }
    for one in super::each(&running["quarantined"]) {
        let fact = format!(
            "{} \"{}\" is broken and answered for with 503",
            text(&one["kind"]),
            text(&one["name"])
        );
        let remedy = "`windrose check` says what is wrong with it";
        found.add("configuration", Word::Wrong, fact, remedy);
    }
}
