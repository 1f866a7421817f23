//! Why a signed request is refused.
//! It must not know schemes.
//! Answered by the plugin.

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
    /// It is not signed.
    MISSING = "auth.signature_missing",
        "The request has no signature, or none with the plugin's `tag`.",
        "Sign it: the fields `Signature-Input` and `Signature` (RFC 9421), or `Authorization: HMAC-SHA256 ID:CODE` with `scheme: simple`.";
    /// What came is no signature.
    MALFORMED = "auth.signature_malformed",
        "The signature cannot be read: its fields are no dictionaries, it covers something twice or something that is not known here, it has no `keyid` or `created`, or there are more than 4.",
        "Compare with RFC 9421 section 4; component parameters other than `name` of `@query-param` are not taken.";
    /// Nobody has the key.
    KEY = "auth.signature_key",
        "No consumer has a key of the name that the signature gives.",
        "Compare `keyid` with the `signing_keys` of `consumers`.";
    /// It is wrong.
    WRONG = "auth.signature_wrong",
        "The signature is not one of the named key over this request, or is of another algorithm than that key's.",
        "Compare the signature base that the client made with the request as it came here: a proxy in between may change host, path or fields.";
    /// It is too old, over or from the future.
    TIME = "auth.signature_time",
        "The signature was made longer ago than `max_age`, is over (`expires`), or is from the future; `clock_skew` is allowed.",
        "Compare the clocks of the client and of this machine. Signatures are made for one request and sent at once.";
    /// It does not cover enough.
    UNCOVERED = "auth.signature_uncovered",
        "The signature does not cover all that the plugin's `cover` asks for, or the body (`digest`), or has no nonce; or a field that it covers is not there.",
        "Let the client sign these components too.";
    /// It came before.
    REPLAYED = "auth.signature_replayed",
        "A request with this nonce was let through before.",
        "Clients that try again have to sign again, with another nonce. Otherwise somebody repeats what was sent.";
    /// The body is another one.
    DIGEST = "auth.signature_digest",
        "The body is not the one whose digest was signed (`Content-Digest`, RFC 9530), or the field has no digest by sha-256 or sha-512.",
        "Something changed the body on its way, or the client signed another one.";
}

/// There is no room for the nonce.
pub static BUSY: Cause = Cause {
    name: "auth.signature_busy",
    blame: Blame::Proxy,
    status: 503,
    title: "Service unavailable",
    explanation: "As many nonces are remembered as `max_nonces` allows, and all of them could still be repeated.",
    next_step: "Raise `max_nonces`, shorten `max_age`, or limit the rate of requests before the plugin.",
};

/// Every one of them.
pub(super) const ALL: &[&Cause] = &[
    &MISSING, &MALFORMED, &KEY, &WRONG, &TIME, &UNCOVERED, &REPLAYED, &DIGEST, &BUSY,
];
