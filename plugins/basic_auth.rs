//! Asks for a user name and password (RFC 7617) and proves the caller to be a consumer of that name.
//! It must not know what the consumer may do; that is for policies and later plugins to say.
//! Called by the chain of a listener or route that names it.

mod hash;
#[cfg(test)]
mod tests;
mod users;
mod verified;

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::contract::{
    field_value, Answer, Blame, Build, Cause, Clock, Counter, Effects, Hooks, Plugin, PluginDef,
    Principal, Problem, Request, Safety, Shared, Time, Verdict,
};

use users::Users;
use verified::Verified;

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// No credentials came.
pub static MISSING: Cause = Cause {
    name: "auth.basic_missing",
    blame: Blame::Client,
    status: 401,
    title: "Unauthorized",
    explanation: "The request has no `Authorization` field with the Basic scheme, and a `basic_auth` plugin asks for one. Browsers send their first request like this and then ask their user.",
    next_step: "Send the credentials, such as `curl -u NAME:PASSWORD`. If the client did, look for a proxy in front that removes the field.",
};

/// The credentials are not right.
pub static WRONG: Cause = Cause {
    name: "auth.basic_wrong",
    blame: Blame::Client,
    status: 401,
    title: "Unauthorized",
    explanation: "The user is unknown, the password does not match, or the `Authorization` field cannot be decoded. Which one is not said, so that nobody can find out names.",
    next_step: "Check the name and password against the plugin's `users` or `htpasswd`; `htpasswd -v FILE NAME` does it by hand.",
};

/// Too many verifications at once.
pub static BUSY: Cause = Cause {
    name: "auth.basic_busy",
    blame: Blame::Proxy,
    status: 503,
    title: "Service unavailable",
    explanation: "As many passwords are being verified, and as many requests wait for it, as the `basic_auth` plugin allows. Verified credentials are remembered, so this is a flood of new or wrong ones.",
    next_step: "Look for clients that guess passwords and put a `rate_limit` by `client_ip` before the plugin; otherwise raise `max_running` and `max_waiting`, or lower the cost of the hashes.",
};

/// Settings of `basic_auth`. Users come from `users`, `htpasswd` and the `password` of `consumers`; hashes are bcrypt's or Argon2's
/// (RFC 9106; `$argon2id$` or `$argon2i$`, version 19, at most 256 MiB, 2 GiB over all passes, 16 lanes).
///
/// Give every user a hash of the same cost: unknown names take as long as the costliest user, cheaper ones less.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Users and their hashes, by name. `htpasswd -nbB NAME PASSWORD` prints one of bcrypt, which begins with `$2y$`, `$2b$` or
    /// `$2a$` and of which only the first 72 bytes of a password count; `printf %s PASSWORD | argon2 SALT -id -e` one of Argon2.
    /// Default: none.
    #[serde(default)]
    pub users: BTreeMap<String, String>,
    /// A file as `htpasswd -B` writes it, where hashes of Argon2 may stand as well, relative to the configuration's folder. Read on load and reload only.
    /// Default: none.
    #[serde(default)]
    pub htpasswd: Option<String>,
    /// What browsers show when they ask for the password. Default: `Restricted`.
    #[serde(default = "restricted")]
    pub realm: String,
    /// Sends the `Authorization` field on to the service. Default: `false`, so that passwords end here.
    #[serde(default)]
    pub forward_credentials: bool,
    /// How long right credentials are remembered, as a keyed hash, so that not every request is hashed; a
    /// changed hash is noticed on reload at once. `0s` remembers nothing. Default: `5m`.
    #[serde(default = "five_minutes")]
    pub remember: Time,
    /// How many passwords are verified at once, on threads of their own; each keeps a core busy for 50 ms and more, and with
    /// Argon2 takes the memory that its hash says.
    /// Default: half of the cores, at least 1.
    #[serde(default)]
    pub max_running: Option<u16>,
    /// How many requests may wait for a verification beyond those; more are answered 503. Default: 64.
    #[serde(default = "sixty_four")]
    pub max_waiting: u16,
}

impl Plugin for Config {
    const KIND: &'static str = "basic_auth";
    const ABOUT: &'static str = "ask for a user name and password";
    const EXAMPLE: &'static str = "users:\n  ann: $2y$10$ydsnzzd7ftSNzzxnMi0rsOKhFYrR9TJLeY9pCZiVCu9Z7gU8nI3FS\nrealm: Orders";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[&MISSING, &WRONG, &BUSY];
    const ABSENT: Option<&'static Cause> = Some(&MISSING);

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let mut problems = Vec::new();
        let users = Users::of(&self, build, &mut problems);
        let challenge = challenge(&self.realm, &mut problems);
        if self.max_running == Some(0) {
            problems.push(
                Problem::at("max_running", "must be at least 1, found 0")
                    .help("leave it out for half of the cores"),
            );
        }
        let Some(challenge) = challenge.filter(|_| problems.is_empty()) else {
            return Err(problems);
        };
        let running = self.max_running.map_or_else(half_of_the_cores, usize::from);
        let gate = Arc::new(Gate {
            users: Arc::new(users),
            challenge,
            remember: self.remember,
            verified: build.shared("the remembered credentials", Verified::new),
            clock: build.clock.clone(),
            running: Arc::new(Semaphore::new(running)),
            present: Arc::new(Semaphore::new(running + usize::from(self.max_waiting))),
            hashed: build.counter("hashed"),
            refused: build.counter("refused"),
            busy: build.counter("busy"),
        });
        let hooks = Hooks::new().on_request_async(move |request| {
            let gate = gate.clone();
            Box::pin(async move { gate.check(request).await })
        });
        // Not in the request hook: another plugin of the chain may still want to read the field.
        Ok(match self.forward_credentials {
            true => hooks,
            false => hooks.on_upstream_request(|request| {
                request.head.remove_header(&AUTHORIZATION);
                Verdict::Continue
            }),
        })
    }
}

fn restricted() -> String {
    "Restricted".to_owned()
}

fn five_minutes() -> Time {
    Time::secs(300)
}

fn sixty_four() -> u16 {
    64
}

fn half_of_the_cores() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).max(1)
}

fn challenge(realm: &str, problems: &mut Vec<Problem>) -> Option<HeaderValue> {
    let escaped = realm.replace('\\', "\\\\").replace('"', "\\\"");
    let challenge = format!("Basic realm=\"{escaped}\", charset=\"UTF-8\"");
    match field_value("realm", &challenge) {
        Ok(challenge) => Some(challenge),
        Err(_) => {
            problems.push(
                Problem::at("realm", format!("{realm:?} holds control characters"))
                    .help("write plain text without line breaks"),
            );
            None
        }
    }
}

/// What a client claims.
struct Credentials {
    name: String,
    password: Vec<u8>,
}

/// What came of a claim.
enum Outcome {
    Right,
    Wrong,
    Busy,
}

struct Gate {
    users: Arc<Users>,
    challenge: HeaderValue,
    remember: Time,
    verified: Shared<Verified>,
    clock: Clock,
    running: Arc<Semaphore>,
    /// Running and waiting together.
    present: Arc<Semaphore>,
    hashed: Counter,
    refused: Counter,
    busy: Counter,
}

impl Gate {
    async fn check(&self, request: &mut Request<'_>) -> Verdict {
        let credentials = match read(&request.head.headers) {
            Ok(credentials) => credentials,
            Err(cause) => return self.refuse(cause, request.effects),
        };
        match self.verify(&credentials, request.effects).await {
            Outcome::Right => {
                *request.principal = Some(Principal::consumer(credentials.name));
                Verdict::Continue
            }
            Outcome::Wrong => self.refuse(&WRONG, request.effects),
            Outcome::Busy => {
                (self.busy)(1);
                Verdict::Failed {
                    cause: &BUSY,
                    reason: "too many passwords are waiting to be verified".to_owned(),
                }
            }
        }
    }

    fn refuse(&self, cause: &'static Cause, effects: Effects) -> Verdict {
        if effects.is_live() {
            (self.refused)(1);
        }
        let answer = Answer::of(cause).with(WWW_AUTHENTICATE, self.challenge.clone());
        answer.into()
    }

    async fn verify(&self, credentials: &Credentials, effects: Effects) -> Outcome {
        // A dry run neither trusts nor fills the memory and takes nobody's place: it just hashes.
        if !effects.is_live() {
            return self.hash(credentials, None).await;
        }
        if self.is_remembered(credentials, effects) {
            return Outcome::Right;
        }
        let Ok(place) = self.present.clone().try_acquire_owned() else {
            return Outcome::Busy;
        };
        let Ok(turn) = self.running.clone().acquire_owned().await else {
            return Outcome::Busy;
        };
        // Whoever came with the same credentials first may have finished meanwhile.
        if self.is_remembered(credentials, effects) {
            return Outcome::Right;
        }
        (self.hashed)(1);
        let outcome = self.hash(credentials, Some((place, turn))).await;
        if matches!(outcome, Outcome::Right) {
            self.keep(credentials, effects);
        }
        outcome
    }

    /// Hashes on a thread that may block. The permits go with it: a client that leaves does not end the work.
    async fn hash(
        &self,
        credentials: &Credentials,
        permits: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
    ) -> Outcome {
        let is_live = permits.is_some();
        let users = self.users.clone();
        let (name, password) = (credentials.name.clone(), credentials.password.clone());
        let work = move || {
            let is_right = users.verify(&name, &password);
            drop(permits);
            is_right
        };
        let is_right = match Handle::try_current() {
            Ok(runtime) if is_live => runtime.spawn_blocking(work).await,
            // Whoever runs a dry run waits for it, with a runtime or without.
            Ok(_) | Err(_) => Ok(work()),
        };
        match is_right {
            Ok(true) => Outcome::Right,
            Ok(false) => Outcome::Wrong,
            // The runtime is shutting down.
            Err(_) => Outcome::Busy,
        }
    }

    fn is_remembered(&self, credentials: &Credentials, effects: Effects) -> bool {
        let Some(hash) = self.users.hash_of(&credentials.name) else {
            return false;
        };
        let now = self.clock.elapsed();
        let knows = |verified: &Verified| verified.knows(credentials, hash, now);
        self.verified.with(effects, knows).unwrap_or(false)
    }

    fn keep(&self, credentials: &Credentials, effects: Effects) {
        let Some(hash) = self.users.hash_of(&credentials.name) else {
            return;
        };
        if !self.remember.0.is_zero() {
            let until = self.clock.elapsed() + self.remember.0;
            let keep = |verified: &Verified| verified.keep(credentials, hash, until);
            // Only a dry run could say no, and it does not get here.
            let _ = self.verified.with(effects, keep);
        }
    }
}

fn read(headers: &HeaderMap) -> Result<Credentials, &'static Cause> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let field = fields.next().ok_or(&MISSING)?;
    // Two fields could mean one user here and another one at the service.
    if fields.next().is_some() {
        return Err(&WRONG);
    }
    let text = field.to_str().map_err(|_| &WRONG)?;
    let (scheme, encoded) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(&MISSING);
    }
    let decoded = STANDARD.decode(encoded.trim()).map_err(|_| &WRONG)?;
    // The name ends at the first colon; the password may hold more of them (RFC 7617 section 2).
    let colon = decoded.iter().position(|byte| *byte == b':');
    let (name, password) = decoded.split_at(colon.ok_or(&WRONG)?);
    Ok(Credentials {
        name: String::from_utf8(name.to_vec()).map_err(|_| &WRONG)?,
        password: password[1..].to_vec(),
    })
}
