//! Asks for an API key and proves the caller to be the consumer who has it.
//! It must not know keys, only their hashes, nor what the consumer may do.
//! Called by the chain of a listener or route that names it.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::header::WWW_AUTHENTICATE;
use http::HeaderValue;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{
    field_value, key_hash, Answer, Blame, Build, Cause, Consumers, Counter, Effects, Hooks, Plugin,
    PluginDef, Principal, Problem, Request, Safety, Verdict,
};
use crate::place::{Found, Place, Places};

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// No key came.
pub static MISSING: Cause = Cause {
    name: "auth.key_missing",
    blame: Blame::Client,
    status: 401,
    title: "Unauthorized",
    explanation: "The request has no API key where a `key_auth` plugin looks for one.",
    next_step: "Send the key in one of the places of the plugin's `from`, such as `curl -H 'x-api-key: KEY'`. If the client did, look for a proxy in front that removes the field.",
};

/// The key is nobody's.
pub static WRONG: Cause = Cause {
    name: "auth.key_wrong",
    blame: Blame::Client,
    status: 401,
    title: "Unauthorized",
    explanation: "No consumer has the API key that came, or one place held several keys.",
    next_step: "Compare the key's SHA-256 (`printf %s KEY | sha256sum`) with `keys` of the consumer it should belong to.",
};

/// Settings of `key_auth`. The keys are those of `consumers`, where their SHA-256 is written: a key has to be random, at least
/// 128 bits of it, for then nobody can guess what was hashed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to look, in this order; the first place that holds a key decides, and one that holds several is refused. At most 8.
    /// Of `authorization`, the key is what follows `Bearer`, `Key` or `ApiKey`. Default: `[{header: x-api-key}]`.
    /// Keys in queries end up in logs and histories: Windrose hides them, others may not.
    #[serde(default = "in_a_field")]
    pub from: Vec<Place>,
    /// Sends the key on to the service. Default: `false`, so that keys end here.
    #[serde(default)]
    pub forward_credentials: bool,
    /// Lets a request without any key go on, unproven, for a later plugin or a policy to judge. A wrong key is refused all the
    /// same. Default: `false`.
    #[serde(default)]
    pub optional: bool,
    /// What the answer 401 calls the place. Default: `Restricted`.
    #[serde(default = "restricted")]
    pub realm: String,
}

fn in_a_field() -> Vec<Place> {
    vec![Place::Header("x-api-key".to_owned())]
}

fn restricted() -> String {
    "Restricted".to_owned()
}

/// Longer ones are no keys: hashing what a stranger sends has a bound.
const LONGEST_KEY: usize = 4096;

/// What may stand before a key in `authorization`.
const SCHEMES: [&str; 3] = ["Bearer", "Key", "ApiKey"];

impl Plugin for Config {
    const KIND: &'static str = "key_auth";
    const ABOUT: &'static str = "ask for an API key of a consumer";
    const EXAMPLE: &'static str = "from: [{header: x-api-key}, {query: api_key}]";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[&MISSING, &WRONG];
    const ABSENT: Option<&'static Cause> = Some(&MISSING);

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let gate = Arc::new(Gate::of(&self, build)?);
        let asking = gate.clone();
        let hooks = Hooks::new().with_credentials(gate.places.names());
        let hooks = hooks.on_request(move |request| asking.check(request));
        // Not in the request hook: another plugin of the chain may still want to read the key.
        Ok(match self.forward_credentials {
            true => hooks,
            false => hooks.on_upstream_request(move |request| {
                gate.places.clear(request.head);
                Verdict::Continue
            }),
        })
    }
}

struct Gate {
    places: Places,
    consumers: Arc<Consumers>,
    challenge: HeaderValue,
    optional: bool,
    refused: Counter,
}

impl Gate {
    fn of(config: &Config, build: &Build<'_>) -> Result<Gate, Vec<Problem>> {
        let mut problems = Vec::new();
        let places = Places::of(&config.from, &SCHEMES, &mut problems);
        if !build.consumers.have_keys() {
            problems.push(
                Problem::at("", "no consumer has a key, so nobody could be proven")
                    .help("give `consumers` some `keys`: the SHA-256 of each, in hex"),
            );
        }
        let escaped = config.realm.replace('\\', "\\\\").replace('"', "\\\"");
        let challenge = field_value("realm", &format!("ApiKey realm=\"{escaped}\""));
        let challenge = challenge.map_err(|problem| problems.push(problem));
        match challenge {
            Ok(challenge) if problems.is_empty() => Ok(Gate {
                places,
                consumers: build.consumers.clone(),
                challenge,
                optional: config.optional,
                refused: build.counter("refused"),
            }),
            _ => Err(problems),
        }
    }

    fn check(&self, request: &mut Request<'_>) -> Verdict {
        let known = match self.places.look(request.head) {
            Found::Nothing if self.optional => return Verdict::Continue,
            Found::Nothing => return self.refuse(&MISSING, request.effects),
            Found::Several => None,
            Found::One(key) if key.len() > LONGEST_KEY => None,
            Found::One(key) => self.consumers.with_key(&key_hash(&key)),
        };
        match known {
            Some(consumer) => {
                *request.principal = Some(Principal::consumer(consumer.name.clone()));
                Verdict::Continue
            }
            None => self.refuse(&WRONG, request.effects),
        }
    }

    fn refuse(&self, cause: &'static Cause, effects: Effects) -> Verdict {
        if effects.is_live() {
            (self.refused)(1);
        }
        let answer = Answer::of(cause).with(WWW_AUTHENTICATE, self.challenge.clone());
        answer.into()
    }
}
