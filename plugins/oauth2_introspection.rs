//! Asks an authorization server whether an access token is active (RFC 7662), and proves the caller to be whom it was given to.
//! It must not know what tokens look like inside; whatever it knows of one the server has said.
//! Called by the chain of a listener or route that names it.

mod client;
mod said;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::cached::{Cached, Given, Key, Kind};
use crate::contract::{
    field_name, field_value, Answer, Blame, Build, CallFailure, Caller, Cause, Clock, Counter,
    Effects, Hooks, Plugin, PluginDef, Principal, Problem, Request, Safety, Shared, Side, Target,
    Time, Verdict,
};
use crate::granted::{Granted, Names};
use client::Credentials;
use said::Said;

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// No token came.
pub static MISSING: Cause = Cause {
    name: "auth.introspection_missing",
    blame: Blame::Client,
    status: 401,
    title: "Unauthorized",
    explanation: "The request has no bearer token where an `oauth2_introspection` plugin looks for one.",
    next_step: "Send `Authorization: Bearer TOKEN`. If the client did, look for a proxy in front that removes the field.",
};

/// The token is not active.
pub static INACTIVE: Cause = Cause {
    name: "auth.introspection_inactive",
    blame: Blame::Client,
    status: 401,
    title: "Unauthorized",
    explanation: "The authorization server says that the token is not active, it has ended or not begun, it is for another audience or of another issuer, or what came is no token.",
    next_step: "Get a new token. If it is new, ask the authorization server's introspection endpoint yourself, and compare `aud` and `iss` with the plugin's settings and the clocks of both.",
};

/// The token's scopes do not suffice.
pub static SCOPE: Cause = Cause {
    name: "auth.introspection_scope",
    blame: Blame::Policy,
    status: 403,
    title: "Forbidden",
    explanation: "The token is active and lacks a scope that the plugin's `scopes` require.",
    next_step: "Get a token with the scopes that the answer's `WWW-Authenticate` names.",
};

/// The authorization server said nothing that can be used.
pub static UNAVAILABLE: Cause = Cause {
    name: "auth.introspection_unavailable",
    blame: Blame::Dependency,
    status: 503,
    title: "Service unavailable",
    explanation: "The authorization server could not be reached, did not answer in time, refused the proxy itself, or answered with something that is no introspection response. Nothing is known of the token.",
    next_step: "The error log says which. 401 or 403 means that `client` is wrong; else look at the server and at its pool in /pools on the admin address.",
};

/// Settings of `oauth2_introspection`. The server is asked once for each token and then when what it said no longer holds; requests
/// with the same token meanwhile wait for that one answer. Tokens are kept as SHA-256 only.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The introspection endpoint: a URL, or `{url: ..., pool: ...}`.
    pub service: Target,
    /// Who the proxy is at the authorization server. Default: nobody, which hardly a server allows.
    #[serde(default)]
    pub client: Option<Client>,
    /// Time for the whole answer. Default: 5s, at most 60s.
    #[serde(default = "five_seconds")]
    pub timeout: Time,
    /// The field that has the token: after `Bearer` in `authorization`, as it is in any other. Default: authorization.
    #[serde(default = "authorization")]
    pub header: String,
    /// Scopes that a token must have, all of them. Default: none.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Audiences of which a token's `aud` must have one. Default: any.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// What a token's `iss` must be. Default: anything.
    #[serde(default)]
    pub issuer: Option<String>,
    /// Members of the answer of which the first that is there names the consumer, for later plugins, policies and logs. Default:
    /// `[sub, client_id]`. Name only members whose values the server gives out: a name that people choose could be somebody else's
    /// here. A token without any of them is active and nobody's.
    #[serde(default = "subject")]
    pub principal: Vec<String>,
    /// Fields that the service behind the proxy gets, by name, each with the member of the answer that it says, such as
    /// `{x-user: sub, x-scopes: scope}`. What a client sends under these names is removed. Texts, numbers and `true` or `false` are
    /// sent as they are, lists with spaces between, what a field cannot carry percent-encoded; anything else and values beyond 4 KiB
    /// are not sent. At most 64. Default: none.
    #[serde(default)]
    pub claims: BTreeMap<String, String>,
    /// How long what the server says of a token holds; never beyond the token's `exp`. A token that is revoked is let in for so long.
    /// Default: 1m, at most 1h; 0s asks for each request.
    #[serde(default = "a_minute")]
    pub cache: Time,
    /// How long the server's word that a token is not active holds. Default: 10s, at most 1h.
    #[serde(default = "ten_seconds")]
    pub negative_cache: Time,
    /// Tokens whose answers are kept; the oldest goes first. So many that are active, and so many that are not. Default: 10000, at
    /// most 1000000; about 1 KiB each.
    #[serde(default = "ten_thousand")]
    pub cache_size: usize,
    /// Sends the token on to the service. Default: `false`, so that tokens end here.
    #[serde(default)]
    pub forward_credentials: bool,
    /// Lets a request without any token go on, unproven, for a later plugin or a policy to judge. Default: `false`.
    #[serde(default)]
    pub optional: bool,
    /// What the answer 401 calls the place. Default: `Restricted`.
    #[serde(default = "restricted")]
    pub realm: String,
}

/// Who the proxy is at the authorization server.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// Its `client_id`.
    pub id: String,
    /// Its secret; write `${env:NAME}` or `${file:PATH}`.
    pub secret: String,
    /// `basic` sends both in `Authorization`, `post` in the body. Default: basic.
    #[serde(default)]
    pub send: SendAs,
}

/// How a client proves itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SendAs {
    /// In `Authorization`.
    #[default]
    Basic,
    /// In the body.
    Post,
}

fn five_seconds() -> Time {
    Time::secs(5)
}

fn ten_seconds() -> Time {
    Time::secs(10)
}

fn a_minute() -> Time {
    Time::secs(60)
}

fn authorization() -> String {
    "authorization".to_owned()
}

fn subject() -> Vec<String> {
    ["sub", "client_id"].map(str::to_owned).into()
}

fn ten_thousand() -> usize {
    10_000
}

fn restricted() -> String {
    "Restricted".to_owned()
}

/// Longer ones are no tokens: hashing and sending on what a stranger sends has a bound.
const LONGEST_TOKEN: usize = 16 << 10;

impl Plugin for Config {
    const KIND: &'static str = "oauth2_introspection";
    const ABOUT: &'static str = "ask an authorization server about a token";
    const EXAMPLE: &'static str = "service: https://idp.example/oauth2/introspect
client: {id: gateway, secret: an example}
scopes: [orders]
claims: {x-user: sub}";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[&MISSING, &INACTIVE, &SCOPE, &UNAVAILABLE];
    const ABSENT: Option<&'static Cause> = Some(&MISSING);

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let forwards = self.forward_credentials;
        let gate = Arc::new(Gate::of(self, build)?);
        let header = (!forwards).then(|| gate.header.clone());
        let hooks = Hooks::new().with_credentials([gate.header.as_str().to_owned()]);
        let hooks = gate.granted.clone().attach(hooks, header);
        Ok(hooks.on_request_async(move |request| {
            let gate = gate.clone();
            Box::pin(async move { gate.check(request).await })
        }))
    }
}

type Tokens = Arc<Cached<Arc<Said>, CallFailure>>;

struct Gate {
    caller: Caller,
    credentials: Credentials,
    config: Config,
    header: HeaderName,
    granted: Granted,
    claims: Vec<(HeaderName, String)>,
    tokens: Shared<Tokens>,
    clock: Clock,
    realm: String,
    refused: Counter,
}

impl Gate {
    fn of(config: Config, build: &Build<'_>) -> Result<Gate, Vec<Problem>> {
        let mut problems = Vec::new();
        bounds(&config, &mut problems);
        let mut claims = Vec::new();
        for (name, member) in &config.claims {
            match field_name(Side::Response, &format!("claims.{name}"), name) {
                Ok(name) => claims.push((name, member.clone())),
                Err(problem) => problems.push(problem),
            }
        }
        let written: Vec<String> = config.claims.keys().cloned().collect();
        let names = Names::of(Side::Response, "claims", &written, &mut Vec::new());
        let header = field_name(Side::Request, "header", &config.header);
        let header = header.map_err(|problem| problems.push(problem));
        let escaped = config.realm.replace('\\', "\\\\").replace('"', "\\\"");
        let realm = field_value("realm", &escaped);
        let realm = realm.map_err(|problem| problems.push(problem));
        let caller = build.caller("service", &config.service);
        let caller = caller.map_err(|problem| problems.push(problem));
        let credentials = Credentials::of(config.client.as_ref());
        let credentials = credentials.map_err(|problem| problems.push(problem));
        let (Ok(header), Ok(_), Ok(caller), Ok(credentials), true) =
            (header, realm, caller, credentials, problems.is_empty())
        else {
            return Err(problems);
        };
        Ok(Gate {
            caller,
            credentials,
            header,
            granted: Granted::new(names, build.slot()),
            claims,
            tokens: build.shared("the authorization server", Tokens::default),
            clock: build.clock.clone(),
            realm: escaped,
            refused: build.counter("refused"),
            config,
        })
    }

    async fn check(&self, request: &mut Request<'_>) -> Verdict {
        self.granted.strip(request);
        let token = match self.token(request) {
            Found::Nothing if self.config.optional => return Verdict::Continue,
            Found::Nothing => return self.refuse(&MISSING, request.effects),
            Found::Wrong => return self.refuse(&INACTIVE, request.effects),
            Found::Token(token) => token,
        };
        let said = match self.said(&token, request).await {
            Ok(said) => said,
            Err(failure) => return self.caller.failed(failure, &UNAVAILABLE),
        };
        if !self.is_for_us(&said) {
            return self.refuse(&INACTIVE, request.effects);
        }
        if !self.config.scopes.iter().all(|scope| said.has_scope(scope)) {
            return self.refuse(&SCOPE, request.effects);
        }
        let mut names = self.config.principal.iter();
        if let Some(name) = names.find_map(|member| said.name(member)) {
            *request.principal = Some(Principal {
                claims: Some(said.members.clone()),
                ..Principal::consumer(name)
            });
        }
        let claims = self.claims.iter();
        let fields = claims.filter_map(|(name, member)| Some((name.clone(), said.field(member)?)));
        self.granted.grant(request, fields.collect());
        Verdict::Continue
    }

    fn token(&self, request: &Request<'_>) -> Found {
        let mut values = request.head.headers.get_all(&self.header).iter();
        let value = match (values.next(), values.next()) {
            (None, _) => return Found::Nothing,
            // Which of them would the service believe?
            (Some(_), Some(_)) => return Found::Wrong,
            (Some(value), None) => value.as_bytes(),
        };
        let token = match self.header == AUTHORIZATION {
            false => value.trim_ascii(),
            true => match value.split_at_checked(BEARER.len()) {
                Some((scheme, token)) if scheme.eq_ignore_ascii_case(BEARER) => token.trim_ascii(),
                // Another scheme is for somebody else.
                _ => return Found::Nothing,
            },
        };
        let is_plain = token.iter().all(|byte| (b'!'..=b'~').contains(byte));
        match std::str::from_utf8(token) {
            Ok("") => Found::Nothing,
            Ok(token) if is_plain && token.len() <= LONGEST_TOKEN => Found::Token(token.to_owned()),
            Ok(_) | Err(_) => Found::Wrong,
        }
    }

    /// What the server says, or said not long ago.
    async fn said(&self, token: &str, request: &Request<'_>) -> Result<Arc<Said>, CallFailure> {
        let call = self.credentials.question(&self.caller, token);
        let call = call.within(self.config.timeout.0).of(request);
        let effects = request.effects;
        let ask = || async {
            let reply = self.caller.call(effects, call).await?;
            let said = Said::of(&reply).map_err(CallFailure::Broken)?;
            Ok(self.given(said))
        };
        let Ok(tokens) = self.tokens.with(effects, Tokens::clone) else {
            return ask().await.map(|given| given.value);
        };
        let most = self.config.cache_size;
        tokens.get(self.key(token), &self.clock, most, ask).await
    }

    /// How long it holds.
    fn given(&self, said: Said) -> Given<Arc<Said>> {
        let (kind, holds) = match said.left(self.clock.unix()) {
            Some(left) => (Kind::Good, self.config.cache.0.min(left)),
            None => (Kind::Bad, self.config.negative_cache.0),
        };
        Given {
            value: Arc::new(said),
            kind,
            holds,
        }
    }

    /// What another server said of the token, or to another client, is not found under it.
    fn key(&self, token: &str) -> Key {
        let id = self.config.client.as_ref().map_or("", |client| &client.id);
        let mut hash = Sha256::new();
        for part in [self.caller.about(), self.caller.path(), id, token] {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }

    /// Whether the token is active, now and for this place.
    fn is_for_us(&self, said: &Said) -> bool {
        let issuer = self.config.issuer.as_deref();
        let audiences = &self.config.audiences;
        said.left(self.clock.unix()).is_some()
            && issuer.is_none_or(|issuer| said.text("iss") == Some(issuer))
            && (audiences.is_empty() || audiences.iter().any(|one| said.is_for(one)))
    }

    fn refuse(&self, cause: &'static Cause, effects: Effects) -> Verdict {
        if effects.is_live() {
            (self.refused)(1);
        }
        let realm = &self.realm;
        let challenge = match cause.name {
            name if name == MISSING.name => format!("Bearer realm=\"{realm}\""),
            name if name == SCOPE.name => {
                let scopes = self.config.scopes.join(" ");
                format!(
                    "Bearer realm=\"{realm}\", error=\"insufficient_scope\", scope=\"{scopes}\""
                )
            }
            _ => format!("Bearer realm=\"{realm}\", error=\"invalid_token\""),
        };
        let answer = Answer::of(cause);
        match HeaderValue::from_str(&challenge) {
            Ok(challenge) => answer.with(WWW_AUTHENTICATE, challenge).into(),
            // Realm and scopes were seen to be plain when it was built.
            Err(_) => answer.into(),
        }
    }
}

enum Found {
    Nothing,
    /// Something that is no token, or several.
    Wrong,
    Token(String),
}

const BEARER: &[u8] = b"Bearer ";

fn bounds(config: &Config, problems: &mut Vec<Problem>) {
    let time = config.timeout;
    if time > Time::secs(60) || time < Time::millis(1) {
        let fact = format!("must be from 1ms to 60s, found {time}");
        problems.push(Problem::at("timeout", fact).help("leave it out for 5s"));
    }
    for (path, time) in [
        ("cache", config.cache),
        ("negative_cache", config.negative_cache),
    ] {
        if time > Time::secs(3600) {
            let fact = format!("must be at most 1h, found {time}");
            let remedy = "a token that is revoked would be let in for so long";
            problems.push(Problem::at(path, fact).help(remedy));
        }
    }
    if !(1..=1_000_000).contains(&config.cache_size) {
        let fact = format!("must be from 1 to 1000000, found {}", config.cache_size);
        problems.push(Problem::at("cache_size", fact).help("to keep nothing write `cache: 0s`"));
    }
    // RFC 6749 section 3.3.
    let is_scope = |scope: &String| {
        let plain = |byte: u8| (b'!'..=b'~').contains(&byte) && byte != b'"' && byte != b'\\';
        !scope.is_empty() && scope.bytes().all(plain)
    };
    for (at, scope) in config
        .scopes
        .iter()
        .enumerate()
        .filter(|(_, scope)| !is_scope(scope))
    {
        let fact = format!("{scope:?} is no scope");
        let remedy = "write one scope for each item, without spaces and quotes";
        problems.push(Problem::at(format!("scopes[{at}]"), fact).help(remedy));
    }
    if config.claims.len() > 64 {
        let fact = format!("has {} fields, more than 64", config.claims.len());
        problems.push(Problem::at("claims", fact).help("send fewer"));
    }
}
