//! A proxy with plugins for tests: `failing` does its work badly, `asking` calls a service for each request, `ticking` has a task.
//! It must not do anything else than the real one.
//! Built as an example, started by tests of plugins.

use std::time::Duration;

use http::HeaderValue;
use schemars::JsonSchema;
use serde::Deserialize;
use windrose_plugins::contract::*;

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

static NOT_ASKED: Cause = Cause {
    name: "test.not_asked",
    blame: Blame::Dependency,
    status: 503,
    title: "Service unavailable",
    explanation: "The service that `asking` asks did not answer.",
    next_step: "Look at the service.",
};

/// Tells the service behind the proxy what another one said.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Asking {
    /// Whom to ask.
    service: Target,
    /// How long.
    timeout: Time,
}

impl Plugin for Asking {
    const KIND: &'static str = "asking";
    const ABOUT: &'static str = "ask a service";
    const EXAMPLE: &'static str = "{service: 'http://a/', timeout: 1s}";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[&NOT_ASKED];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let caller = build.caller("service", &self.service);
        let caller = caller.map_err(|problem| vec![problem])?;
        Ok(Hooks::new().on_request_async(move |request| {
            let caller = caller.clone();
            Box::pin(async move {
                let call = caller.get().within(self.timeout.0).at_most(100).of(request);
                match caller.call(request.effects, call).await {
                    Ok(reply) => {
                        let said =
                            format!("{} {}", reply.status, String::from_utf8_lossy(&reply.body));
                        let value = HeaderValue::from_str(&said).expect("plain text");
                        request
                            .head
                            .insert_header("x-said", value)
                            .expect("a field");
                        Verdict::Continue
                    }
                    Err(failure) => caller.failed(failure, &NOT_ASKED),
                }
            })
        }))
    }
}

/// Tells a service that it lives, and when it ends.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Ticking {
    /// Whom to tell.
    service: Target,
    /// Said in each message.
    word: String,
    /// Panics after the first message.
    #[serde(default)]
    dies: bool,
}

impl Plugin for Ticking {
    const KIND: &'static str = "ticking";
    const ABOUT: &'static str = "tell a service that it lives";
    const EXAMPLE: &'static str = "{service: 'http://a/', word: a}";
    const SAFETY: Safety = Safety::Convenience;
    const CAUSES: &'static [&'static Cause] = &[];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let caller = build.caller("service", &self.service);
        let caller = caller.map_err(|problem| vec![problem])?;
        let hooks = Hooks::new().on_request(|_| Verdict::Continue);
        Ok(hooks.background("tick", move |life| {
            let (caller, word, dies) = (caller.clone(), self.word.clone(), self.dies);
            async move {
                let say = |what: &str| {
                    let call = caller.get().at(format!("/{word}/{what}"));
                    caller.call(Effects::Live, call)
                };
                let _ = say("begins").await;
                assert!(!dies, "it was told to");
                while life.rest(Duration::from_millis(20)).await {
                    let _ = say("lives").await;
                }
                let _ = say("ends").await;
            }
        }))
    }
}

const PLUGINS: &[PluginDef] = &[
    PluginDef::of::<Asking>(),
    PluginDef::of::<Failing>(),
    PluginDef::of::<Ticking>(),
];

fn main() -> std::process::ExitCode {
    windrose::main(&[windrose_plugins::BUILTIN, PLUGINS])
}
