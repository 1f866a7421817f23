//! Tells a syslog server of every request that is over, as RFC 5424 writes it: by a background task, never in a request's way.
//! It must not hold a request up: what the queue has no room for is counted and dropped.
//! Called by the chain of a listener or route that names it.

mod message;
mod sender;
mod server;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::contract::{
    Build, Cause, Counter, Effects, Hooks, Plugin, PluginDef, Problem, Safety, Shared, WireSettings,
};
use crate::logged::queue::{Queue, Room};
use crate::logged::Only;

use message::Messages;
use sender::Sender;

pub use settings::{Config, Facility, Format, Severities, Severity};

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

impl Plugin for Config {
    const KIND: &'static str = "log_syslog";
    const ABOUT: &'static str = "tell a syslog server of every request";
    const EXAMPLE: &'static str = "server: tls://logs.example
facility: local3
severity: {errors: warning}
format: structured";
    const SAFETY: Safety = Safety::Convenience;
    const CAUSES: &'static [&'static Cause] = &[];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let mut problems = Vec::new();
        let far = self.far(build, &mut problems);
        let names = self.judge(far.as_ref(), &mut problems);
        let (Some(far), true) = (far, problems.is_empty()) else {
            return Err(problems);
        };
        let has_datagrams = far.has_datagrams();
        let messages = Messages::new(&self, names, has_datagrams, build);
        let wires = build.wires(&WireSettings {
            far,
            timeout: self.timeout.0,
        });
        // Only what stands in `ca` can be wrong with it.
        let at_ca = |problem: Problem| {
            vec![Problem {
                path: "ca".to_owned(),
                ..problem
            }]
        };
        let wires = wires.map_err(at_ca)?;
        let queue = build.shared("the queue", Arc::<Queue>::default);
        let sender = Arc::new(Sender {
            wires,
            queue: queue.clone(),
            batch: if has_datagrams { 1 } else { self.batch },
            has_datagrams,
            logged: build.counter("logged"),
            lost: build.counter("lost"),
            failed: build.counter("failed"),
        });
        let log = Log {
            messages,
            only: self.only,
            room: Room {
                most: self.queue,
                bytes: usize::try_from(self.queue_size.0).unwrap_or(usize::MAX),
                batch: 1,
            },
            queue,
            dropped: build.counter("dropped"),
            cut: build.counter("cut"),
        };
        Ok(log.hooks().background("send", move |life| {
            let sender = sender.clone();
            async move { sender.live(life).await }
        }))
    }
}

/// What puts messages into the queue.
struct Log {
    messages: Messages,
    only: Only,
    room: Room,
    queue: Shared<Arc<Queue>>,
    dropped: Counter,
    cut: Counter,
}

impl Log {
    fn hooks(self) -> Hooks {
        Hooks::new().on_finish(move |finished| {
            if !self.only.takes(finished.status) {
                return;
            }
            let message = self.messages.of(finished);
            if message.is_cut {
                (self.cut)(1);
            }
            // Only traffic comes to its end.
            let push = |queue: &Arc<Queue>| queue.push(message.text, &self.room);
            if self.queue.with(Effects::Live, push) != Ok(true) {
                (self.dropped)(1);
            }
        })
    }
}
