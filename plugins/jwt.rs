//! Asks for a token that an issuer has signed (JWT, RFC 7519) and proves the caller to be who it names.
//! It must not believe anything of a token before its signature, nor know what the caller may do.
//! Called by the chain of a listener or route that names it.

pub mod causes;
mod claims;
mod remembered;
mod settings;
mod source;
#[cfg(test)]
mod tests;
mod token;

use std::sync::Arc;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderName, HeaderValue};

use crate::contract::{
    Answer, Build, Cause, Claims, Clock, Consumers, Counter, Effects, Hooks, Plugin, PluginDef,
    Principal, Problem, Request, Safety, Verdict,
};
use crate::keys::{Algorithm, KeySet, Pick};
use crate::place::{Found, Places};

use claims::{Demands, Span};
use remembered::Remembered;
pub use settings::{By, Config, Consumer};
pub use source::{Encoding, KeySource};
use token::{same_type, Token};

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

impl Plugin for Config {
    const KIND: &'static str = "jwt";
    const ABOUT: &'static str = "ask for a signed token (JWT) of an issuer";
    const EXAMPLE: &'static str = "issuer: https://id.example.com\naudience: orders\nkeys: [{jwk: {kty: OKP, crv: Ed25519, x: 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo}}]";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = causes::ALL;

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let gate = Arc::new(self.gate(build)?);
        let asking = gate.clone();
        let hooks = Hooks::new().on_request(move |request| asking.check(request));
        // Not in the request hook: another plugin of the chain may still want to read the token.
        Ok(match self.forward_credentials {
            true => hooks,
            false => hooks.on_upstream_request(move |request| {
                gate.places.clear(request.head);
                Verdict::Continue
            }),
        })
    }
}

/// What a token that is right has proven.
#[derive(Debug)]
struct Proven {
    span: Span,
    principal: Principal,
    fields: Vec<(HeaderName, HeaderValue)>,
}

/// What comes before a signature is verified.
struct Gate {
    places: Places,
    optional: bool,
    longest: usize,
    /// Empty for whatever the keys are for.
    algorithms: Vec<Algorithm>,
    kinds: Vec<String>,
    demands: Demands,
    consumer: Consumer,
    consumers: Arc<Consumers>,
    fields: Vec<(HeaderName, String)>,
    keys: Arc<KeySet>,
    remembered: Remembered,
    clock: Clock,
    challenges: Challenges,
    refused: Counter,
    verified: Counter,
}

impl Gate {
    fn check(&self, request: &mut Request<'_>) -> Verdict {
        // Whatever comes of the token: what these fields say to the service, no client has said.
        for (name, _) in &self.fields {
            request.head.remove_header(name);
        }
        let outcome = match self.places.look(request.head) {
            Found::Nothing if self.optional => return Verdict::Continue,
            Found::Nothing => Err(&causes::MISSING),
            Found::Several => Err(&causes::MALFORMED),
            Found::One(token) if token.len() > self.longest => Err(&causes::MALFORMED),
            Found::One(token) => self.prove(&token, request.effects),
        };
        match outcome {
            Ok(proven) => {
                *request.principal = Some(proven.principal.clone());
                for (name, value) in &proven.fields {
                    let set = request.head.insert_header(name.clone(), value.clone());
                    debug_assert!(set.is_ok(), "both were parsed");
                }
                Verdict::Continue
            }
            Err(cause) => self.refuse(cause, request.effects),
        }
    }

    fn refuse(&self, cause: &'static Cause, effects: Effects) -> Verdict {
        if effects.is_live() {
            (self.refused)(1);
        }
        let challenge = self.challenges.of(cause);
        Answer::of(cause).with(WWW_AUTHENTICATE, challenge).into()
    }

    /// What the token proves. Only traffic remembers.
    fn prove(&self, token: &[u8], effects: Effects) -> Result<Arc<Proven>, &'static Cause> {
        let now = self.clock.unix();
        if !effects.is_live() {
            return Ok(Arc::new(self.verify(token)?));
        }
        let name = Remembered::name(token);
        if let Some(proven) = self.remembered.recall(&name, now) {
            return Ok(proven);
        }
        (self.verified)(1);
        let proven = Arc::new(self.verify(token)?);
        self.remembered.keep(name, proven.clone(), now);
        Ok(proven)
    }

    fn verify(&self, text: &[u8]) -> Result<Proven, &'static Cause> {
        let token = Token::read(text)?;
        let is_taken = self.algorithms.is_empty() || self.algorithms.contains(&token.algorithm);
        if !is_taken {
            return Err(&causes::ALGORITHM);
        }
        let keys = match self.keys.pick(token.algorithm, token.key.as_deref()) {
            Pick::Keys(keys) => keys,
            Pick::NotForThis => return Err(&causes::ALGORITHM),
            Pick::NoSuchId | Pick::TooMany => return Err(&causes::KEY_UNKNOWN),
        };
        let signs =
            |key: &&crate::keys::Key| key.verifies(token.algorithm, token.signed, &token.signature);
        if !keys.iter().any(signs) {
            return Err(&causes::SIGNATURE);
        }
        self.believe(&token)
    }

    /// What a token says whose signature is right.
    fn believe(&self, token: &Token<'_>) -> Result<Proven, &'static Cause> {
        let claims = token.claims()?;
        let kind = token.kind.as_deref().unwrap_or_default();
        if !self.kinds.is_empty() && !self.kinds.iter().any(|one| same_type(one, kind)) {
            return Err(&causes::CLAIM);
        }
        let span = self.demands.judge(&claims)?;
        span.holds(self.clock.unix())?;
        let fields = claims::fields(&claims, &self.fields);
        let name = self.who(&claims)?;
        let principal = Principal {
            claims: Some(Arc::new(claims)),
            ..Principal::consumer(name)
        };
        Ok(Proven {
            span,
            principal,
            fields,
        })
    }

    /// The name of the consumer whom the claims mean.
    fn who(&self, claims: &Claims) -> Result<String, &'static Cause> {
        let name = claims::find(claims, &self.consumer.claim).and_then(|claim| claim.as_str());
        let name = name.filter(|name| !name.is_empty() && name.len() <= LONGEST_NAME);
        let name = name.filter(|name| !name.contains(char::is_control));
        let name = name.ok_or(&causes::CLAIM)?;
        match self.consumer.by {
            By::Name if !self.consumer.required => Ok(name.to_owned()),
            By::Name => match self.consumers.named(name) {
                Some(consumer) => Ok(consumer.name.clone()),
                None => Err(&causes::CONSUMER),
            },
            By::Subject => {
                let issuer = claims.get("iss").and_then(|issuer| issuer.as_str());
                let found = self
                    .consumers
                    .with_subject(issuer.unwrap_or_default(), name);
                found.map(|one| one.name.clone()).ok_or(&causes::CONSUMER)
            }
        }
    }
}

/// What `WWW-Authenticate` says (RFC 6750 section 3), by cause. Made once: a refusal must not cost much.
struct Challenges {
    bare: HeaderValue,
    wrong: Vec<(&'static Cause, HeaderValue)>,
}

impl Challenges {
    fn of(&self, cause: &'static Cause) -> HeaderValue {
        let wrong = self.wrong.iter().find(|(one, _)| *one == cause);
        wrong.map_or(&self.bare, |(_, value)| value).clone()
    }
}

/// Bytes of a name: it goes into logs and metrics of later plugins.
const LONGEST_NAME: usize = 256;
