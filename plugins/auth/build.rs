//! Building the plugins inside an `auth`: each through its table line, under a name and a path of its own.
//! It must not know any kind, but refuses those that do more than authenticate.
//! Called while an `auth` is built.

use super::{Asked, Begin, Config, Need, One};
use crate::contract::{
    did_you_mean, BodyHook, Build, Hooks, Problem, RequestHook, ResponseHook, Slots,
};

/// The hooks of all of them, by what they are for.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) requests: Vec<Asked>,
    /// Each with the place of its plugin.
    pub(super) upstream: Vec<(usize, RequestHook)>,
    pub(super) bodies: Vec<BodyHook<Slots>>,
    /// Of those that keep something at the client, such as a session.
    pub(super) responses: Vec<ResponseHook>,
    pub(super) tasks: Vec<Begin>,
    /// What carries their credentials.
    pub(super) credentials: Vec<String>,
    /// Whether one of them has nothing to do where clients show no certificates.
    pub(super) client_certificates: bool,
}

impl Parts {
    pub(super) fn of(config: &Config, build: &Build<'_>) -> Result<Parts, Vec<Problem>> {
        let (mut parts, mut problems) = (Parts::default(), Vec::new());
        if !(2..=MOST).contains(&config.of.len()) {
            let fact = format!("has {} plugins", config.of.len());
            let problem = Problem::at("of", fact);
            problems.push(problem.help("give from 2 to 8; one alone needs no `auth`"));
        }
        if config.optional && config.need == Need::All {
            let problem = Problem::at("optional", "is for `need: any`");
            problems.push(problem.help("remove it, or make one of the plugins optional"));
        }
        for (at, one) in config.of.iter().enumerate() {
            match built(one, at, build) {
                Ok((kind, hooks)) => parts.add(kind, format!("of[{at}]"), hooks),
                Err(more) => problems.extend(more),
            }
        }
        match problems.is_empty() {
            true => Ok(parts),
            false => Err(problems),
        }
    }

    fn add(&mut self, kind: &'static str, path: String, hooks: Hooks) {
        let (at, granted) = (self.requests.len(), hooks.granted);
        let asked = |hook| Asked {
            kind,
            path,
            hook,
            granted,
        };
        self.client_certificates |= hooks.client_certificates;
        self.requests.extend(hooks.request.map(asked));
        let upstream = hooks.upstream_request.map(|hook| (at, hook));
        self.upstream.extend(upstream);
        self.credentials.extend(hooks.credentials);
        self.bodies.extend(hooks.request_body);
        self.responses.extend(hooks.response);
        self.tasks
            .extend(hooks.background.into_iter().map(|task| task.begin));
    }
}

fn built(one: &One, at: usize, build: &Build<'_>) -> Result<(&'static str, Hooks), Vec<Problem>> {
    let path = format!("of[{at}]");
    let Some(def) = build.plugins.iter().find(|def| def.kind == one.kind) else {
        let fact = format!("no plugin is of kind \"{}\"", one.kind);
        let guess = did_you_mean(&one.kind, build.plugins.iter().map(|def| def.kind));
        let remedy = guess.map_or_else(
            || "`windrose plugins` lists them".to_owned(),
            |guess| format!("did you mean \"{guess}\"?"),
        );
        return Err(vec![Problem::at(format!("{path}.kind"), fact).help(remedy)]);
    };
    let below = |problem: Problem| {
        let path = match problem.path.as_str() {
            "" => format!("{path}.config"),
            inner if inner.starts_with('[') => format!("{path}.config{inner}"),
            inner => format!("{path}.config.{inner}"),
        };
        Problem { path, ..problem }
    };
    let settings = serde_yaml::to_value(&one.config);
    let settings = settings.map_err(|error| vec![Problem::at(path.clone(), error.to_string())])?;
    let name = format!("{}.{at}.{}", build.instance, one.kind);
    let inner = Build {
        instance: &name,
        clock: build.clock.clone(),
        ..*build
    };
    let hooks = (def.build)(settings, &inner);
    let hooks = hooks.map_err(|problems| problems.into_iter().map(below).collect::<Vec<_>>())?;
    // One that says 401 of its own where no credentials came may keep a session at the client; what others do to responses is no
    // part of a proof.
    let touches_responses = hooks.response.is_some() && def.absent.is_none();
    let (fact, remedy) = match (only_authenticates(&hooks), touches_responses) {
        (true, false) => return Ok((def.kind, hooks)),
        (true, true) => (
            "changes responses, too",
            "leave its `response_headers` empty if it has some, or put it into the list of plugins, before or after `auth`",
        ),
        (false, _) => (
            "does something else than authenticate",
            "put it into the list of plugins, before or after `auth`",
        ),
    };
    let problem = Problem::at(format!("{path}.kind"), format!("`{}` {fact}", one.kind));
    Err(vec![problem.help(remedy)])
}

fn only_authenticates(hooks: &Hooks) -> bool {
    hooks.request.is_some()
        && hooks.whole_body.is_none()
        && hooks.connection.is_none()
        && !matches!(hooks.upstream_request, Some(RequestHook::Async(_)))
        && hooks.response_body.is_none()
        && hooks.held_response.is_none()
        && hooks.response_trailers.is_none()
        && hooks.finish.is_none()
        && hooks.cache.is_none()
}

const MOST: usize = 8;
