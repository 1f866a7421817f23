//! The view of plugin instances: how each takes part, what it did, and what it would have done.
//! It must not run any plugin.
//! Called by `admin`.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use super::state::rfc3339;
use crate::control::tasks::TaskView;
use crate::snapshot::chain::{Chain, Instance, Mode};
use crate::snapshot::shadow::Example;
use crate::snapshot::Snapshot;

#[derive(Serialize)]
pub(super) struct Plugins {
    plugins: Vec<PluginView>,
}

#[derive(Serialize)]
struct PluginView {
    name: String,
    kind: &'static str,
    /// Where it is written.
    place: String,
    /// `enforce` or `shadow`.
    mode: &'static str,
    /// `closed` or `open`.
    on_error: &'static str,
    /// Listeners and routes that use it.
    used_by: Vec<String>,
    /// Answers it made since the process started, as the next two.
    answers: u64,
    /// Answers it would have made while in the shadow.
    would_answers: u64,
    failures: u64,
    /// The last answers it would have made since the last reload.
    examples: Vec<ExampleView>,
    /// Its background tasks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    background: Vec<BackgroundView>,
}

#[derive(Serialize)]
struct BackgroundView {
    task: &'static str,
    /// `runs`, or `waits` after it ended by itself.
    state: &'static str,
    /// How often it was begun again since the last reload.
    begun_again: u64,
}

#[derive(Serialize)]
struct ExampleView {
    at: String,
    /// Null where only a connection or a piece of a body was seen.
    request_id: Option<String>,
    cause: &'static str,
}

/// Every instance in use, in the order of listeners and rules.
pub(super) fn view(snapshot: &Snapshot, tasks: &[TaskView]) -> Plugins {
    let mut used = Used::default();
    for listener in &snapshot.listeners {
        let user = format!("listener {}", listener.name);
        used.add(&listener.chain, &user);
    }
    for rule in &snapshot.rules {
        let user = format!("route {}", rule.route);
        used.add(&rule.chain, &user);
    }
    let plugins = used.list.into_iter();
    Plugins {
        plugins: plugins
            .map(|(one, used_by)| plugin(one, used_by, tasks))
            .collect(),
    }
}

/// Instances with their users, and where each one stands in the list.
#[derive(Default)]
struct Used<'s> {
    list: Vec<(&'s Instance, Vec<String>)>,
    places: HashMap<*const Instance, usize>,
}

impl<'s> Used<'s> {
    /// Adds the instances of a chain; one that is used in several lists is shown once.
    fn add(&mut self, chain: &'s Chain, user: &str) {
        for one in &chain.all {
            let next = self.list.len();
            let at = *self.places.entry(Arc::as_ptr(one)).or_insert(next);
            if at == next {
                self.list.push((one, Vec::new()));
            }
            let users = &mut self.list[at].1;
            if users.last().is_none_or(|last| last != user) {
                users.push(user.to_owned());
            }
        }
    }
}

fn plugin(one: &Instance, used_by: Vec<String>, tasks: &[TaskView]) -> PluginView {
    let own = tasks.iter().filter(|task| *task.plugin == *one.name);
    let background = |task: &TaskView| BackgroundView {
        task: task.name,
        state: if task.waits { "waits" } else { "runs" },
        begun_again: task.begun_again,
    };
    PluginView {
        name: one.name.to_string(),
        kind: one.kind,
        place: one.place.to_string(),
        mode: match one.mode {
            Mode::Enforce => "enforce",
            Mode::Shadow => "shadow",
        },
        on_error: match one.fails_open {
            true => "open",
            false => "closed",
        },
        used_by,
        answers: one.answered.get(),
        would_answers: one.would_answer.get(),
        failures: one.failed.get(),
        examples: one.examples.all().iter().map(example).collect(),
        background: own.map(background).collect(),
    }
}

fn example(example: &Example) -> ExampleView {
    let id = Some(example.request_id.to_string());
    ExampleView {
        at: rfc3339(example.at),
        request_id: id.filter(|id| !id.is_empty()),
        cause: example.cause.name,
    }
}
