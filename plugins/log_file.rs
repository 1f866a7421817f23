//! Writes a line of JSON to a file for each request that is over: what the access log says, of one listener or route alone.
//! It must not know what is in a line; the proxy writes it, secrets in queries redacted.
//! Called by the chain of a listener or route when a request is over.

#[cfg(test)]
mod tests;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{
    Build, Cause, Counter, Effects, Finished, Hooks, Plugin, PluginDef, Problem, Safety, Shared,
};

use writer::{Counters, Writers};

pub use crate::logged::Only;

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// Settings of `log_file`. The file is opened with the first line and made if it is not there; its folder has to be. When it is
/// renamed or removed, as log rotation does, a new one is made within a second, and with SIGUSR1 before the next line. What waits
/// survives a reload; at the end of the process there are five seconds to write it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The file, relative to the configuration's folder. Instances that write to the same file must be one: name it under
    /// `plugins`.
    pub path: String,
    /// Which requests are written: `all`, `errors` (status 400 and more, and those without a status), or `failures` (500
    /// and more). Default: `all`.
    #[serde(default)]
    pub only: Only,
    /// How many lines may wait to be written; more are dropped and counted as the event `dropped`. 1 to 1 000 000.
    /// Default: 10 000, of about 500 bytes each.
    #[serde(default = "many")]
    pub queue: usize,
}

impl Plugin for Config {
    const KIND: &'static str = "log_file";
    const ABOUT: &'static str = "write a line of JSON for each request of a listener or route";
    const EXAMPLE: &'static str = "path: orders.jsonl\nonly: errors";
    const SAFETY: Safety = Safety::Convenience;
    const CAUSES: &'static [&'static Cause] = &[];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let mut problems = Vec::new();
        if self.path.is_empty() || self.path.ends_with('/') {
            problems.push(
                Problem::at("path", format!("\"{}\" names no file", self.path))
                    .help("write a path such as \"orders.jsonl\""),
            );
        }
        if !(1..=1_000_000).contains(&self.queue) {
            problems.push(
                Problem::at(
                    "queue",
                    format!("must be from 1 to 1000000, found {}", self.queue),
                )
                .help("leave it out for 10000"),
            );
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let log = Log {
            path: build.path(&self.path),
            queue: self.queue,
            only: self.only,
            writers: build.shared("the file's writer", Writers::default),
            counters: Counters {
                written: build.counter("written"),
                failed: build.counter("failed"),
            },
            dropped: build.counter("dropped"),
        };
        let (reopened, ended) = (log.writers.clone(), log.writers.clone());
        let hooks = Hooks::new()
            .on_finish(move |finished| log.write(finished))
            // Only the process with the traffic hears signals and runs tasks.
            .on_reopen(move || drop(reopened.with(Effects::Live, Writers::reopen)));
        Ok(hooks.background("write", move |life| {
            let writers = ended.clone();
            async move {
                life.over().await;
                if let Ok(Some(writer)) = writers.with(Effects::Live, Writers::current) {
                    writer.written().await;
                }
            }
        }))
    }
}

fn many() -> usize {
    10_000
}

struct Log {
    path: PathBuf,
    queue: usize,
    only: Only,
    writers: Shared<Writers>,
    counters: Counters,
    dropped: Counter,
}

impl Log {
    fn write(&self, finished: &Finished<'_>) {
        if !self.only.takes(finished.status) {
            return;
        }
        let mut line = Vec::with_capacity(512);
        (finished.line)(&mut line);
        let writer = self.writers.with(Effects::Live, |writers| {
            writers.of(&self.path, self.queue, &self.counters)
        });
        let took = writer.is_ok_and(|writer: Arc<writer::Writer>| writer.take(line));
        if !took {
            (self.dropped)(1);
        }
    }
}
