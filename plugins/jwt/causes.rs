//! Why a token is refused, in as many words as lead to different next steps.
//! It must not know how tokens are read.
//! Answered by the plugin; each has its own description in `WWW-Authenticate`.

use crate::contract::{Blame, Cause};

macro_rules! refusals {
    ($($(#[$doc:meta])* $id:ident = $name:literal, $explanation:literal, $next:literal;)*) => {
        $($(#[$doc])* pub static $id: Cause = Cause {
            name: $name, blame: Blame::Client, status: 401, title: "Unauthorized",
            explanation: $explanation, next_step: $next,
        };)*
    };
}

refusals! {
    /// No token came.
    MISSING = "auth.jwt_missing",
        "The request has no token where a `jwt` plugin looks for one.",
        "Send the token in one of the places of the plugin's `from`, such as `Authorization: Bearer TOKEN`. If the client did, look for a proxy in front that removes the field.";
    /// What came is no token.
    MALFORMED = "auth.jwt_malformed",
        "What came is not one signed token: it is longer than `max_token_bytes`, came several times, does not have three parts in base64url without padding, holds JSON with a member twice, is encrypted or nested, or names extensions (`crit`) that are not known here.",
        "Decode the token's first two parts by hand and compare. Tokens that identity providers make are taken; a proxy or script in front may have cut it.";
    /// The algorithm is not one that is taken.
    ALGORITHM = "auth.jwt_algorithm",
        "The token says to be signed with an algorithm that the plugin does not take, that is not for the key it names, or with none at all.",
        "Compare `alg` in the token's header with the plugin's `algorithms` and the kind of its keys. A public key is never used as a secret, and unsigned tokens are never taken.";
    /// No key has the name.
    KEY_UNKNOWN = "auth.jwt_key_unknown",
        "No key of the plugin has the name (`kid`) that the token gives, or the token gives none and there are too many keys to try.",
        "Compare `kid` in the token's header with the issuer's keys: the token may be another issuer's, or older than a change of keys.";
    /// The signature is wrong.
    SIGNATURE = "auth.jwt_signature",
        "The token's signature is not one of the plugin's keys.",
        "The token was changed on its way or made by somebody else, or the keys in the configuration are not the issuer's.";
    /// It is over.
    EXPIRED = "auth.jwt_expired",
        "The token's `exp` lies further back than `clock_skew`.",
        "The client has to get another token. If it just did, compare the clocks of the issuer and of this machine.";
    /// It has not begun.
    NOT_YET = "auth.jwt_not_yet_valid",
        "The token's `nbf` or `iat` lies further ahead than `clock_skew`.",
        "Compare the clocks of the issuer and of this machine.";
    /// Somebody else issued it.
    ISSUER = "auth.jwt_issuer",
        "The token's `iss` is missing or not among the plugin's `issuer`.",
        "Compare both, letter by letter: a slash at the end counts.";
    /// It is for somebody else.
    AUDIENCE = "auth.jwt_audience",
        "The token's `aud` is missing or names none of the plugin's `audience`.",
        "The client has to ask the issuer for a token for this service; compare `aud` with `audience`.";
    /// A claim is not there, or not as it has to be.
    CLAIM = "auth.jwt_claim",
        "A claim that the plugin needs is missing, has another value than is asked for, or is not of the type it has to be; or the token is of another type (`typ`).",
        "Compare the token's claims with `required`, `values`, `typ` and `consumer.claim`; `exp` is needed unless `require_exp` is off.";
}

/// Nobody is known by what the token says.
pub static CONSUMER: Cause = Cause {
    name: "auth.jwt_consumer",
    blame: Blame::Policy,
    status: 403,
    title: "Forbidden",
    explanation: "The token is right, and nobody among `consumers` is who it names.",
    next_step:
        "Compare the claim of `consumer.claim` with the names, or the `subjects`, of `consumers`.",
};

/// The token does not reach far enough.
pub static SCOPE: Cause = Cause {
    name: "auth.jwt_scope",
    blame: Blame::Policy,
    status: 403,
    title: "Forbidden",
    explanation:
        "The token is right, and its `scope` (or `scp`) does not hold all of the plugin's `scopes`.",
    next_step:
        "The client has to ask the issuer for a token with these scopes; the answer names them.",
};

/// The issuer's keys are not there.
pub static KEYS_UNAVAILABLE: Cause = Cause {
    name: "auth.keys_unavailable",
    blame: Blame::Dependency,
    status: 503,
    title: "Service unavailable",
    explanation: "The issuer's keys could not be got since the proxy started, so no token can be verified. Keys that were got once are used on when the issuer fails.",
    next_step: "Look at the log for why: the address of the keys, its certificate, the network. The keys are asked for again and again.",
};

/// Every one of them.
pub(super) const ALL: &[&Cause] = &[
    &MISSING,
    &MALFORMED,
    &ALGORITHM,
    &KEY_UNKNOWN,
    &SIGNATURE,
    &EXPIRED,
    &NOT_YET,
    &ISSUER,
    &AUDIENCE,
    &CLAIM,
    &CONSUMER,
    &SCOPE,
    &KEYS_UNAVAILABLE,
];
