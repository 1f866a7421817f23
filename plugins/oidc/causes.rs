//! Why a login, a session or a request is refused, in as many words as lead to different next steps.
//! It must not know how any of it is found out.
//! Answered by the rest of `oidc`. That a provider cannot be asked is never among the refusals.

use crate::contract::{Blame, Cause};

macro_rules! causes {
    ($($(#[$doc:meta])* $id:ident = $name:literal, $blame:ident, $status:literal, $title:literal, $explanation:literal, $next:literal;)*) => {
        $($(#[$doc])* pub static $id: Cause = Cause {
            name: $name, blame: Blame::$blame, status: $status, title: $title,
            explanation: $explanation, next_step: $next,
        };)*

        /// All of them.
        pub(super) static ALL: &[&Cause] = &[$(&$id),*];
    };
}

causes! {
    /// Sent to the provider.
    LOGIN = "auth.oidc_login", Client, 302, "Found",
        "Nobody is logged in, or no longer, and the browser was sent to the provider to log in.",
        "Nothing: this is how a login begins. Requests of scripts get 401 instead, see the plugin's `unauthenticated`.";
    /// Logged in, and sent back to where it began.
    LOGGED_IN = "auth.oidc_logged_in", Client, 302, "Found",
        "A login was completed, and the browser was sent back to the page where it began.",
        "Nothing: this is how a login ends.";
    /// Logged out.
    LOGGED_OUT = "auth.oidc_logged_out", Client, 302, "Found",
        "The session was ended by the plugin's `logout.path`, and the browser was sent on.",
        "Nothing: this is how a session ends.";
    /// No session, and no browser to send away.
    MISSING = "auth.oidc_missing", Client, 401, "Unauthorized",
        "The request has no session, and is none that a browser could be sent away with: a script's, or one that changes something.",
        "Let the page be loaded anew, which begins a login; a script sees the 401 and can do that. `unauthenticated` says what counts as a page.";
    /// The cookie is none of ours.
    SESSION = "auth.oidc_session", Client, 401, "Unauthorized",
        "The session's cookie was changed, cut, made for something else, or sealed with a secret that is no longer among `secrets`.",
        "Log in again. If it happens to everybody after a change of `secrets`, keep the old one behind the new one until sessions have ended. Some proxies in front cut long cookies.";
    /// The session is over.
    SESSION_EXPIRED = "auth.oidc_session_expired", Client, 401, "Unauthorized",
        "The session is older than `session.absolute`, was not used for `session.idle`, or its access token has ended, is forwarded, and there is nothing to get another one with.",
        "Log in again. For longer sessions raise the two times, or let the provider give refresh tokens (`scopes: [openid, offline_access]`).";
    /// Somebody logged out of it.
    SESSION_ENDED = "auth.oidc_session_ended", Client, 401, "Unauthorized",
        "The session was logged out of, and its cookie came again.",
        "Log in again. A cookie that comes back after a logout was kept by something else than the browser: find out who has it.";
    /// The provider gives no more tokens for it.
    REFRESH = "auth.oidc_refresh", Client, 401, "Unauthorized",
        "The session's access token ended, and the provider refused to give another one: the refresh token was withdrawn, has ended, or was used by another proxy meanwhile.",
        "Log in again. Where several proxies serve one session, let the provider allow a refresh token to be used again for some seconds.";
    /// The host is none of the settings'.
    ORIGIN = "auth.oidc_origin", Client, 403, "Forbidden",
        "The request is for a host that is none of the plugin's `origins`, or came in the clear for one that is https.",
        "Name the origin, or keep the plugin off routes of other hosts. Behind a proxy that ends TLS, list it in the listener's `trusted_proxies`.";
    /// What came back from the provider is none.
    CALLBACK = "auth.oidc_callback", Client, 400, "Bad request",
        "What came to `callback.path` is not what a provider sends back: a parameter is missing, there twice or too long, or the method is not GET.",
        "Begin at the page itself, not at this address. `response_mode` of the provider has to be `query`.";
    /// The login was not begun by this browser.
    STATE = "auth.oidc_state", Client, 400, "Bad request",
        "The browser has no login under way with the `state` that came back: it was begun in another browser or session, completed before, pushed out by later ones (`login.most`), or somebody made the browser come here.",
        "Begin at the page itself. If all logins end so, look for something that removes cookies, and whether the login began at the same host.";
    /// It took too long.
    LOGIN_EXPIRED = "auth.oidc_login_expired", Client, 400, "Bad request",
        "More time than `login.timeout` has gone by since the login began.",
        "Begin at the page itself.";
    /// Another provider answers.
    ISSUER = "auth.oidc_issuer", Client, 400, "Bad request",
        "What came back names another issuer (`iss`, RFC 9207) than the one that the browser was sent to, or names none though this one always does.",
        "Somebody may have mixed up two providers (RFC 9700 section 4.4). If not, compare `issuer` with what the provider says of itself.";
    /// The provider let nobody in.
    DENIED = "auth.oidc_denied", Client, 403, "Forbidden",
        "The provider did not log the user in: access was denied, or something would have had to be asked of the user that was not.",
        "The provider's log says why. The user may lack an assignment there, or have refused.";
    /// The provider says that it failed.
    PROVIDER = "auth.oidc_provider_error", Dependency, 502, "Bad gateway",
        "The provider sent the browser back with an error other than a refusal: it failed, or does not take what was asked for.",
        "The address that the browser shows has the error's name (`error`). `invalid_scope` and `unauthorized_client` are about `scopes` and how the client is registered there.";
    /// The code is none.
    CODE = "auth.oidc_code", Client, 400, "Bad request",
        "The provider gave no tokens for the code: it was used before, has ended, or is another login's.",
        "Begin at the page itself. A code that works once in two times is used by two proxies.";
    /// The provider does not know the proxy.
    CLIENT = "auth.oidc_client_refused", Proxy, 503, "Service unavailable",
        "The provider refuses the proxy itself: `client` is not what is registered there.",
        "Compare `client.id`, `client.secret` and `client.send` with the registration.";
    /// The provider cannot be asked.
    UNAVAILABLE = "auth.oidc_unavailable", Dependency, 503, "Service unavailable",
        "The provider could not be reached, did not answer in time, or answered with something that cannot be used; or its description or keys never came. Nothing is known of the user. What becomes of requests says `on_error`.",
        "The error log says which call failed and how; look at the provider and at its pool in /pools on the admin address.";
    /// The system gives no random numbers.
    RANDOM = "auth.oidc_random", Proxy, 500, "Internal error",
        "The system gives no random numbers, so no login or session can be made that nobody could guess.",
        "Look at the machine: this does not happen on one that works.";
    /// The identity is no token.
    TOKEN = "auth.oidc_token_malformed", Dependency, 502, "Bad gateway",
        "The provider gave no identity (`id_token`) that can be read as one signed token.",
        "Encrypted identities are not taken: let the provider only sign them.";
    /// The identity is signed otherwise.
    TOKEN_ALGORITHM = "auth.oidc_token_algorithm", Dependency, 502, "Bad gateway",
        "The identity is signed with an algorithm that is not among `algorithms`, with none, or with one that its key is not for.",
        "Compare `alg` of the identity with the setting. Identities signed with the client's secret (HS256) are not taken.";
    /// No key has the name.
    TOKEN_KEY = "auth.oidc_token_key", Dependency, 502, "Bad gateway",
        "The identity names a key that the provider does not publish, also after its keys were got again.",
        "Compare `kid` with the provider's `jwks_uri`.";
    /// The signature is wrong.
    TOKEN_SIGNATURE = "auth.oidc_token_signature", Dependency, 502, "Bad gateway",
        "The identity's signature was not made with a key of the provider.",
        "Somebody between the proxy and the provider changes answers, or `issuer` is not who answers.";
    /// Another issuer's.
    TOKEN_ISSUER = "auth.oidc_token_issuer", Dependency, 502, "Bad gateway",
        "The identity's `iss` is not the plugin's `issuer`.",
        "Compare both, letter by letter: a slash at the end counts.";
    /// For somebody else.
    TOKEN_AUDIENCE = "auth.oidc_token_audience", Dependency, 502, "Bad gateway",
        "The identity is for another client: `aud` does not name `client.id`, or `azp` names another one.",
        "Somebody tries an identity that was given to another service, or `client.id` is wrong.";
    /// Over already.
    TOKEN_EXPIRED = "auth.oidc_token_expired", Dependency, 502, "Bad gateway",
        "The identity that came had ended already.",
        "Compare the clocks of the provider and of this machine, and `clock_skew`.";
    /// Not begun.
    TOKEN_EARLY = "auth.oidc_token_early", Dependency, 502, "Bad gateway",
        "The identity that came begins in the future.",
        "Compare the clocks of the provider and of this machine, and `clock_skew`.";
    /// A claim that it must have is missing.
    TOKEN_CLAIM = "auth.oidc_token_claim", Dependency, 502, "Bad gateway",
        "The identity lacks a claim that every one has (`sub`, `exp`, `iat`), or one has a type that it cannot have.",
        "The provider does not keep to OpenID Connect Core section 2.";
    /// Another login's.
    NONCE = "auth.oidc_nonce", Client, 400, "Bad request",
        "The identity is another login's: its `nonce` is missing or not the one that this login began with.",
        "Somebody may have put a stolen code into the browser. Begin at the page itself.";
    /// Of another access token.
    AT_HASH = "auth.oidc_at_hash", Dependency, 502, "Bad gateway",
        "The access token is not the one that the identity was given with (`at_hash`).",
        "Somebody between the proxy and the provider changes answers.";
    /// Of another user.
    SUBJECT = "auth.oidc_subject", Dependency, 502, "Bad gateway",
        "The provider's answer about the user (`userinfo`), or an identity that came with a refresh, is about another one than the session's.",
        "The provider's answers are mixed up, or somebody changes them (OpenID Connect Core sections 5.3.2 and 12.2).";
    /// More than cookies may hold.
    SIZE = "auth.oidc_session_size", Proxy, 500, "Internal error",
        "What the provider gave does not fit into a session of `session.most_bytes`.",
        "Ask for fewer scopes, let the provider put fewer claims into tokens, turn `userinfo` or `access_token_header` off, or raise `session.most_bytes`; the listener's `limits.header_bytes` has to have room for it.";
    /// The user may not.
    CLAIM = "auth.oidc_claim", Policy, 403, "Forbidden",
        "The user is logged in, and a claim that `require.claims` asks for is missing or has another value, or no claim names the user.",
        "Compare the user's claims at the provider with `require.claims` and `consumer.claim`. Groups are often another scope, or only in `userinfo`.";
    /// The user did not give as much.
    SCOPE = "auth.oidc_scope", Policy, 403, "Forbidden",
        "The user is logged in, and the provider did not grant all of `require.scopes`.",
        "Ask for them in `scopes`; the user may have to agree.";
    /// Nobody is known by it.
    CONSUMER = "auth.oidc_consumer", Policy, 403, "Forbidden",
        "The user is logged in, and nobody among `consumers` is whom `consumer.claim` names.",
        "Compare the claim with the names, or the `subjects`, of `consumers`.";
    /// Another site wants it, or it is asked for in another way.
    LOGOUT = "auth.oidc_logout_foreign", Client, 403, "Forbidden",
        "Another site made the browser ask for a logout, or the method is neither GET nor POST.",
        "Log out by a link or form of the page itself.";
}
