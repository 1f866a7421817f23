//! Asks for a token that an issuer has signed (JWT, RFC 7519) and proves the caller to be who it names.
//! It must not believe anything of a token before its signature, nor know what the caller may do.
//! Called by the chain of a listener or route that names it.

pub mod causes;
pub(crate) mod claims;
mod remembered;
mod remote;
pub(crate) mod settings;
mod source;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod token;

use std::borrow::Cow;
use std::sync::Arc;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderName, HeaderValue};

use crate::contract::{
    Answer, Build, Cause, Clock, Consumers, Counter, Effects, Hooks, Plugin, PluginDef, Principal,
    Problem, Request, Safety, Verdict,
};
use crate::granted::Granted;
use crate::keys::{Algorithm, KeySet};
use crate::place::{Found, Places};

use claims::{Demands, Span};
use remembered::Remembered;
pub use remote::Jwks;
use remote::{Keys, Remote};
pub use settings::{By, Config, Consumer};
pub use source::KeySource;
use token::{same_type, Token};

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

impl Plugin for Config {
    const KIND: &'static str = "jwt";
    const ABOUT: &'static str = "ask for a signed token (JWT) of an issuer";
    const EXAMPLE: &'static str = "issuer: https://id.example.com\naudience: orders\nkeys: [{jwk: {kty: OKP, crv: Ed25519, x: 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo}}]";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = causes::ALL;
    const ABSENT: Option<&'static Cause> = Some(&causes::MISSING);

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let (gate, keys) = self.gate(build)?;
        let gate = Arc::new(gate);
        let asking = gate.clone();
        let hooks = match keys {
            Source::Fixed(set) => {
                let keys = Keys {
                    value: set,
                    number: 0,
                };
                Hooks::new().on_request(move |request| asking.check(&keys, request))
            }
            Source::Remote(remote) => {
                let task = remote.clone();
                let hooks = Hooks::new().background("keys", move |life| task.clone().run(life));
                hooks.on_request_async(move |request| {
                    let (gate, remote) = (asking.clone(), remote.clone());
                    Box::pin(async move { gate.check_at(&remote, request).await })
                })
            }
        };
        let hooks = hooks.with_credentials(gate.places.names());
        // Not in the request hook: another plugin of the chain may still want to read the token.
        let forwards = self.forward_credentials;
        if forwards && gate.fields.is_empty() {
            return Ok(hooks);
        }
        let hooks = gate.granted.tell(hooks);
        Ok(hooks.on_upstream_request(move |request| {
            if !forwards {
                gate.places.clear(request.head);
            }
            gate.granted.apply(request);
            Verdict::Continue
        }))
    }
}

/// Where the keys are.
enum Source {
    Fixed(Arc<KeySet>),
    Remote(Arc<Remote>),
}

/// What a token that is right has proven.
#[derive(Debug)]
struct Proven {
    /// To which set of keys.
    keys: u64,
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
    /// Whatever comes of the token: what these fields say to the service, no client has said.
    granted: Granted,
    remembered: Remembered,
    clock: Clock,
    challenges: Challenges,
    refused: Counter,
    verified: Counter,
}

impl Gate {
    /// With keys that are there.
    fn check(&self, keys: &Keys, request: &mut Request<'_>) -> Verdict {
        self.granted.strip(request);
        let outcome = match self.present(request) {
            Ok(Some(token)) => self.prove(&token, keys, request.effects),
            Ok(None) => return Verdict::Continue,
            Err(cause) => Err(cause),
        };
        self.settle(outcome, request)
    }

    /// With keys that may have to be waited for.
    async fn check_at(&self, remote: &Remote, request: &mut Request<'_>) -> Verdict {
        self.granted.strip(request);
        let effects = request.effects;
        let token = match self.present(request) {
            Ok(Some(token)) => token.into_owned(),
            Ok(None) => return Verdict::Continue,
            Err(cause) => return self.settle(Err(cause), request),
        };
        let keys = match remote.keys(effects).await {
            Ok(Some(keys)) => keys,
            Ok(None) => {
                return Verdict::Failed {
                    cause: &causes::KEYS_UNAVAILABLE,
                    reason: remote.reason(),
                }
            }
            Err(unknown) => return Verdict::Unknown(unknown),
        };
        let mut outcome = self.prove(&token, &keys, effects);
        let is_unknown = outcome
            .as_ref()
            .is_err_and(|cause| **cause == causes::KEY_UNKNOWN);
        if is_unknown {
            if let Some(keys) = remote.newer(effects).await {
                outcome = self.prove(&token, &keys, effects);
            }
        }
        self.settle(outcome, request)
    }

    /// The token that came; none where none has to.
    fn present<'r>(
        &self,
        request: &'r Request<'_>,
    ) -> Result<Option<Cow<'r, [u8]>>, &'static Cause> {
        match self.places.look(request.head) {
            Found::Nothing if self.optional => Ok(None),
            Found::Nothing => Err(&causes::MISSING),
            Found::One(token) if token.len() <= self.longest => Ok(Some(token)),
            Found::One(_) | Found::Several => Err(&causes::MALFORMED),
        }
    }

    fn settle(
        &self,
        outcome: Result<Arc<Proven>, &'static Cause>,
        request: &mut Request<'_>,
    ) -> Verdict {
        match outcome {
            Ok(proven) => {
                *request.principal = Some(proven.principal.clone());
                if !proven.fields.is_empty() {
                    self.granted.grant(request, proven.fields.clone());
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
    fn prove(
        &self,
        token: &[u8],
        keys: &Keys,
        effects: Effects,
    ) -> Result<Arc<Proven>, &'static Cause> {
        let now = self.clock.unix();
        if !effects.is_live() {
            return Ok(Arc::new(self.verify(token, keys)?));
        }
        let name = Remembered::name(token);
        if let Some(proven) = self.remembered.recall(&name, keys.number, now) {
            return Ok(proven);
        }
        (self.verified)(1);
        let proven = Arc::new(self.verify(token, keys)?);
        self.remembered.keep(name, proven.clone(), now);
        Ok(proven)
    }

    fn verify(&self, text: &[u8], keys: &Keys) -> Result<Proven, &'static Cause> {
        let token = Token::signed(text, &keys.value, &self.algorithms)?;
        self.believe(&token, keys.number)
    }

    /// What a token says whose signature is right.
    fn believe(&self, token: &Token<'_>, keys: u64) -> Result<Proven, &'static Cause> {
        let claims = token.claims()?;
        let kind = token.kind.as_deref().unwrap_or_default();
        if !self.kinds.is_empty() && !self.kinds.iter().any(|one| same_type(one, kind)) {
            return Err(&causes::CLAIM);
        }
        let span = self.demands.judge(&claims)?;
        span.holds(self.clock.unix())?;
        let fields = claims::fields(&claims, &self.fields);
        let name = claims::who(&self.consumer, &self.consumers, &claims)?;
        let principal = Principal {
            claims: Some(Arc::new(claims)),
            ..Principal::consumer(name)
        };
        Ok(Proven {
            keys,
            span,
            principal,
            fields,
        })
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
