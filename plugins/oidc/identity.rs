//! Whether an identity (`id_token`) is this provider's, for this client, of this login (OpenID Connect Core section 3.1.3.7).
//! It must not know sessions; signatures, keys and claims are judged as `jwt` does.
//! Asked when a login is completed and when a refresh brings another identity.

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine;
use openssl::hash::{hash, MessageDigest};
use serde_json::Value;

use super::causes;
use super::sealed::same;
use super::settings::Config;
use crate::contract::{Cause, Claims, Clock};
use crate::jwt::causes as of_jwt;
use crate::jwt::claims::Demands;
use crate::jwt::token::{same_type, Token};
use crate::keys::{Algorithm, KeySet};

/// What is asked of identities.
pub(super) struct Judge {
    client: String,
    algorithms: Vec<Algorithm>,
    demands: Demands,
    clock: Clock,
}

/// An identity that is right.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) claims: Claims,
    algorithm: Algorithm,
}

impl Judge {
    pub(super) fn new(config: &Config, clock: Clock) -> Judge {
        Judge {
            client: config.client.id.clone(),
            algorithms: config.algorithms.clone(),
            demands: Demands {
                issuers: vec![config.issuer.clone()],
                audiences: vec![config.client.id.clone()],
                skew: config.clock_skew.0,
                needs_end: true,
                required: ["sub", "iat"].map(str::to_owned).into(),
                ..Demands::default()
            },
            clock,
        }
    }

    /// # Errors
    /// What is wrong with it.
    pub(super) fn verify(&self, text: &str, keys: &KeySet) -> Result<Identity, &'static Cause> {
        let token = Token::signed(text.as_bytes(), keys, &self.algorithms).map_err(ours)?;
        // Access tokens and the like say so (RFC 9068 section 2.1).
        if token
            .kind
            .as_deref()
            .is_some_and(|kind| !same_type(kind, "jwt"))
        {
            return Err(&causes::TOKEN);
        }
        let claims = token.claims().map_err(ours)?;
        let span = self.demands.judge(&claims).map_err(ours)?;
        span.holds(self.clock.unix()).map_err(ours)?;
        let subject = claims.get("sub").and_then(Value::as_str);
        if !subject.is_some_and(|subject| (1..=255).contains(&subject.len())) {
            return Err(&causes::TOKEN_CLAIM);
        }
        self.authorized(&claims)?;
        Ok(Identity {
            claims,
            algorithm: token.algorithm,
        })
    }

    /// Who asked for it, where it is for several.
    fn authorized(&self, claims: &Claims) -> Result<(), &'static Cause> {
        let several = claims.get("aud").and_then(Value::as_array);
        let is_for_several = several.is_some_and(|all| all.len() > 1);
        match claims.get("azp") {
            None if !is_for_several => Ok(()),
            Some(Value::String(azp)) if *azp == self.client => Ok(()),
            None | Some(_) => Err(&causes::TOKEN_AUDIENCE),
        }
    }
}

impl Identity {
    /// # Errors
    /// That it is another login's.
    pub(super) fn is_of_login(&self, nonce: &str) -> Result<(), &'static Cause> {
        let own = self.claims.get("nonce").and_then(Value::as_str);
        match own.is_some_and(|own| same(own, nonce)) {
            true => Ok(()),
            false => Err(&causes::NONCE),
        }
    }

    /// # Errors
    /// That it came with another access token. Where it does not say, nothing is known.
    pub(super) fn is_with(&self, access: &str) -> Result<(), &'static Cause> {
        let (Some(told), Some(digest)) = (self.claims.get("at_hash"), self.digest()) else {
            return Ok(());
        };
        let digest = hash(digest, access.as_bytes()).map_err(|_| &causes::AT_HASH)?;
        let half = URL_SAFE_NO_PAD.encode(&digest[..digest.len() / 2]);
        match told.as_str().is_some_and(|told| same(told, &half)) {
            true => Ok(()),
            false => Err(&causes::AT_HASH),
        }
    }

    /// That of its algorithm; for EdDSA nobody has agreed on one.
    fn digest(&self) -> Option<MessageDigest> {
        match &self.algorithm.name()[2..] {
            "256" => Some(MessageDigest::sha256()),
            "384" => Some(MessageDigest::sha384()),
            "512" => Some(MessageDigest::sha512()),
            _ => None,
        }
    }

    /// Whether it is about the same user as these claims.
    pub(super) fn is_of(&self, claims: &Claims) -> bool {
        self.claims.get("sub") == claims.get("sub")
    }
}

/// The same in the words of a login.
fn ours(cause: &'static Cause) -> &'static Cause {
    let pairs: [(&Cause, &'static Cause); 9] = [
        (&of_jwt::MALFORMED, &causes::TOKEN),
        (&of_jwt::ALGORITHM, &causes::TOKEN_ALGORITHM),
        (&of_jwt::KEY_UNKNOWN, &causes::TOKEN_KEY),
        (&of_jwt::SIGNATURE, &causes::TOKEN_SIGNATURE),
        (&of_jwt::EXPIRED, &causes::TOKEN_EXPIRED),
        (&of_jwt::NOT_YET, &causes::TOKEN_EARLY),
        (&of_jwt::ISSUER, &causes::TOKEN_ISSUER),
        (&of_jwt::AUDIENCE, &causes::TOKEN_AUDIENCE),
        (&of_jwt::CLAIM, &causes::TOKEN_CLAIM),
    ];
    let found = pairs.into_iter().find(|(theirs, _)| *theirs == cause);
    found.map_or(&causes::TOKEN, |(_, own)| own)
}
