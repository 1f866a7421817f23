//! A proxy whose plugin `failing` does its work badly: it panics at once, while it waits, or as the answer passes.
//! It must not do anything else than the real one.
//! Built as an example, started by tests of plugins.

use schemars::JsonSchema;
use serde::Deserialize;
use windrose_plugins::contract::*;

const PLUGIN: PluginDef = PluginDef::of::<Failing>();

/// When to panic.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Moment {
    Request,
    Waiting,
    Response,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Failing {
    /// When to panic.
    at: Moment,
}

impl Plugin for Failing {
    const KIND: &'static str = "failing";
    const ABOUT: &'static str = "panic";
    const EXAMPLE: &'static str = "at: request";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[];

    fn build(self, _: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let hooks = Hooks::new();
        Ok(match self.at {
            Moment::Request => hooks.on_request(|_| panic!("at a request")),
            Moment::Waiting => hooks.on_request_async(|_| {
                Box::pin(async {
                    tokio::task::yield_now().await;
                    panic!("after a wait")
                })
            }),
            Moment::Response => hooks.on_response(|_| panic!("at a response")),
        })
    }
}

fn main() -> std::process::ExitCode {
    windrose::main(&[windrose_plugins::BUILTIN, &[PLUGIN]])
}
