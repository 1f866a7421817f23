//! Asks for requests that are signed, by HTTP Message Signatures (RFC 9421) or a simple scheme, and proves whose key it was.
//! It must not know what the consumer may do, nor keep a body: digests are compared while it passes.
//! Called by the chain of a listener or route that names it.

mod base;
pub mod causes;
mod digest;
mod nonces;
mod settings;
mod simple;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::header::WWW_AUTHENTICATE;
use http::HeaderValue;

use crate::contract::{
    Answer, Build, Cause, Clock, Consumers, Counter, Effects, Hooks, Plugin, PluginDef, Principal,
    Problem, Request, Safety, Shared, Slot, Unknown, Verdict,
};

use base::Signature;
use digest::Expected;
use nonces::Nonces;
pub use settings::{Config, DigestRule, Scheme};

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

impl Plugin for Config {
    const KIND: &'static str = "hmac_auth";
    const ABOUT: &'static str = "ask for signed requests (RFC 9421, or a simple HMAC scheme)";
    const EXAMPLE: &'static str = "scheme: rfc9421\ncover: ['@method', '@authority', '@path', '@query']\nmax_age: 2m\nrequire_nonce: true";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = causes::ALL;
    const ABSENT: Option<&'static Cause> = Some(&causes::MISSING);

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let gate = Arc::new(self.gate(build)?);
        let (asking, slot) = (gate.clone(), gate.digest);
        let mut hooks = Hooks::new().on_request(move |request| asking.check(request));
        if self.digest != DigestRule::Ignored {
            let refusing = gate.clone();
            hooks = hooks.on_request_body(move |slots, piece, last| {
                let Some(expected) = slots.value_mut::<Expected>(slot) else {
                    return Verdict::Continue;
                };
                match expected.take(piece.as_deref().unwrap_or_default(), last) {
                    true => Verdict::Continue,
                    false => refusing.answer(&causes::DIGEST),
                }
            });
        }
        let forwards = self.forward_credentials;
        Ok(hooks.on_upstream_request(move |request| {
            if let Some(expected) = request.slots.value_mut(slot) {
                expected.begin();
            }
            // Not in the request hook: another plugin of the chain may still want to read the signature.
            if !forwards {
                for name in gate.own_fields() {
                    request.head.remove_header(*name);
                }
            }
            Verdict::Continue
        }))
    }
}

struct Gate {
    scheme: Scheme,
    /// Components that a signature has to cover.
    cover: Vec<String>,
    tag: Option<String>,
    max_age: Duration,
    skew: Duration,
    needs_nonce: bool,
    digest_rule: DigestRule,
    optional: bool,
    consumers: Arc<Consumers>,
    nonces: Shared<Nonces>,
    digest: Slot<Expected>,
    clock: Clock,
    challenge: HeaderValue,
    refused: Counter,
}

/// Why a request is not let through.
enum Stop {
    Refused(&'static Cause),
    Busy,
    Unknown(Unknown),
}

impl From<&'static Cause> for Stop {
    fn from(cause: &'static Cause) -> Stop {
        Stop::Refused(cause)
    }
}

impl Gate {
    fn own_fields(&self) -> &'static [&'static str] {
        match self.scheme {
            Scheme::Rfc9421 => &["signature", "signature-input"],
            Scheme::Simple => &["authorization"],
        }
    }

    fn check(&self, request: &mut Request<'_>) -> Verdict {
        let outcome = match self.scheme {
            Scheme::Rfc9421 => self.signatures(request),
            Scheme::Simple => simple::verify(self, request),
        };
        let name = match outcome {
            Ok(name) => name,
            Err(Stop::Refused(cause)) if *cause == causes::MISSING && self.optional => {
                return Verdict::Continue;
            }
            Err(Stop::Refused(cause)) => return self.refuse(cause, request.effects),
            Err(Stop::Busy) => {
                return Verdict::Failed {
                    cause: &causes::BUSY,
                    reason: "no room for more nonces that are still valid".to_owned(),
                }
            }
            Err(Stop::Unknown(what)) => return Verdict::Unknown(what),
        };
        *request.principal = Some(Principal::consumer(name));
        Verdict::Continue
    }

    fn refuse(&self, cause: &'static Cause, effects: Effects) -> Verdict {
        if effects.is_live() {
            (self.refused)(1);
        }
        self.answer(cause)
    }

    fn answer(&self, cause: &'static Cause) -> Verdict {
        let answer = Answer::of(cause).with(WWW_AUTHENTICATE, self.challenge.clone());
        answer.into()
    }

    /// The consumer of the first signature that is right.
    fn signatures(&self, request: &mut Request<'_>) -> Result<String, Stop> {
        let all = Signature::all(&request.head.headers)?;
        let mut why = None;
        for signature in all {
            if self.tag.is_some() && self.tag.as_deref() != signature.tag() {
                continue;
            }
            match self.one(request, &signature) {
                Ok(name) => {
                    let covers = signature.covers("content-digest");
                    self.body(request, covers)?;
                    return Ok(name);
                }
                Err(stop) => why = why.or(Some(stop)),
            }
        }
        Err(why.unwrap_or(Stop::Refused(&causes::MISSING)))
    }

    fn one(&self, request: &Request<'_>, signature: &Signature) -> Result<String, Stop> {
        let id = signature.key_id().ok_or(&causes::MALFORMED)?;
        let (consumer, key) = self.consumers.with_signing_key(id).ok_or(&causes::KEY)?;
        if signature
            .algorithm()
            .is_some_and(|name| name != key.algorithm())
        {
            return Err(Stop::Refused(&causes::WRONG));
        }
        let has_query = request.head.uri.query().is_some();
        let lacks = |one: &&String| !(signature.satisfies(one) || **one == "@query" && !has_query);
        if self.cover.iter().any(|one| lacks(&one)) {
            return Err(Stop::Refused(&causes::UNCOVERED));
        }
        let nonce = signature.nonce();
        if self.needs_nonce && nonce.is_none() {
            return Err(Stop::Refused(&causes::UNCOVERED));
        }
        let created = signature.created().ok_or(&causes::MALFORMED)?;
        self.in_time(created, signature.expires())?;
        let base = signature.base(request).ok_or(&causes::UNCOVERED)?;
        if !key.verifies(base.as_bytes(), signature.bytes()) {
            return Err(Stop::Refused(&causes::WRONG));
        }
        if let Some(nonce) = nonce {
            self.first_time(id, nonce, created, request.effects)?;
        }
        Ok(consumer.name.clone())
    }

    /// Whether something made then is of now.
    fn in_time(&self, created: u64, expires: Option<u64>) -> Result<(), Stop> {
        let (now, made) = (self.clock.unix(), Duration::from_secs(created));
        let is_old = now > made.saturating_add(self.max_age).saturating_add(self.skew);
        let is_early = made > now.saturating_add(self.skew);
        let is_over =
            expires.is_some_and(|end| now >= Duration::from_secs(end).saturating_add(self.skew));
        match is_old || is_early || is_over {
            true => Err(Stop::Refused(&causes::TIME)),
            false => Ok(()),
        }
    }

    /// Whether nobody has sent this nonce before. Asked last: only who has the key fills the memory.
    fn first_time(
        &self,
        id: &str,
        nonce: &str,
        created: u64,
        effects: Effects,
    ) -> Result<(), Stop> {
        let until = Duration::from_secs(created).saturating_add(self.max_age);
        let until = until.saturating_add(self.skew);
        let now = self.clock.unix();
        let outcome = self
            .nonces
            .with(effects, |all| all.first_time(id, nonce, until, now));
        match outcome {
            Ok(Some(true)) => Ok(()),
            Ok(Some(false)) => Err(Stop::Refused(&causes::REPLAYED)),
            Ok(None) => Err(Stop::Busy),
            Err(unknown) => Err(Stop::Unknown(unknown)),
        }
    }

    /// Gets ready for the body, whose digest was signed or was not.
    fn body(&self, request: &mut Request<'_>, is_covered: bool) -> Result<(), Stop> {
        if self.digest_rule == DigestRule::Ignored {
            return Ok(());
        }
        let (headers, has_body) = (&request.head.headers, request.client.sends_body);
        if has_body && !is_covered && self.digest_rule == DigestRule::Required {
            return Err(Stop::Refused(&causes::UNCOVERED));
        }
        if is_covered {
            let expected = Expected::of(headers).ok_or(&causes::DIGEST)?;
            match has_body {
                true => request.slots.put(self.digest, expected),
                false if !expected.is_of_nothing() => return Err(Stop::Refused(&causes::DIGEST)),
                false => {}
            }
        }
        Ok(())
    }
}
