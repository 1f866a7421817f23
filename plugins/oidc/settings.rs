//! Settings of `oidc`: what operators write, and what each part means.
//! It must not know how logins work; `gate` makes the plugin of them.
//! Decoded by the contract.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{Size, Target, Texts, Time};
use crate::jwt::Consumer;
use crate::keys::Algorithm;

/// Settings of `oidc`. Browsers without a session are sent to the provider, come back to `callback.path` and get a session in
/// encrypted cookies. The list that holds this plugin has to see `callback.path` and `logout.path` as well: put it on the listener,
/// or on a route for all of the site. One instance is for one provider; name an instance under `plugins` to use it on several
/// routes, for each instance has sessions of its own unless `issuer`, `client.id`, `cookie` and `secrets` are the same.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The provider, as it calls itself in `iss`, letter by letter, such as `https://id.example.com`.
    pub issuer: String,
    /// Where the provider describes itself (OpenID Connect Discovery 1.0 section 4): a URL, or `{url: …, pool: …}`. What is there
    /// has to name `issuer`. Default: `issuer` followed by `/.well-known/openid-configuration`.
    #[serde(default)]
    pub discovery: Option<Target>,
    /// The provider's keys (`jwks_uri`), where they are at another scheme, host and port than `discovery`. Default: as it says.
    #[serde(default)]
    pub jwks: Option<Target>,
    /// The provider's token endpoint, where it is at another scheme, host and port than `discovery`. Default: as it says.
    #[serde(default)]
    pub token_endpoint: Option<Target>,
    /// The provider's userinfo endpoint, likewise, for `userinfo`. Default: as it says.
    #[serde(default)]
    pub userinfo_endpoint: Option<Target>,
    /// After which time description and keys are got again beside the traffic, from `10s` to `1d`. Default: `10m`.
    #[serde(default = "ten_minutes")]
    pub refresh: Time,
    /// How long both are used on while the provider fails, at least as long as `refresh`. Default: `1d`.
    #[serde(default = "one_day")]
    pub keep: Time,
    /// How long a call to the provider may take, from `100ms` to `30s`. Default: `5s`.
    #[serde(default = "five_seconds")]
    pub timeout: Time,
    /// Who the proxy is at the provider.
    pub client: Client,
    /// Secrets that seal cookies, each of 32 to 1024 bytes; write `${env:NAME}` or `${file:PATH}`. The first one seals, all of them
    /// open: put a new one first, and take the old one away when sessions with it have ended. From 1 to 4. All proxies of a site
    /// need the same. Sealed are AES-256-GCM, with a key of its own for each cookie.
    pub secrets: Texts,
    /// Where browsers reach the site: one or several of `https://HOST` or `http://HOST`, with a port where it is not the usual one,
    /// each host once. Requests for other hosts are refused, for the provider would send users there. With `https`, cookies are
    /// `Secure` and begin with `__Host-`; `http` is for trying things out.
    pub origins: Texts,
    /// What the provider is asked for; has to have `openid`. `offline_access` asks for refresh tokens at most providers.
    /// Default: `[openid]`.
    #[serde(default = "openid")]
    pub scopes: Vec<String>,
    /// Further parameters that browsers take to the provider, such as `{prompt: login}`. Not those that logins are made of.
    /// At most 16. Default: none.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// Algorithms that identities may be signed with. `none` and those with secrets are never taken. Default: `[RS256, PS256,
    /// ES256, ES384, ES512, EdDSA]`, as far as a key of the provider is for them.
    #[serde(default = "algorithms")]
    pub algorithms: Vec<Algorithm>,
    /// How much clocks may differ, at most `10m`. Default: `30s`.
    #[serde(default = "thirty_seconds")]
    pub clock_skew: Time,
    /// Where the provider sends browsers back to.
    #[serde(default)]
    pub callback: Callback,
    /// How logins begin.
    #[serde(default)]
    pub login: Login,
    /// How long sessions last, and what they may hold.
    #[serde(default)]
    pub session: Session,
    /// How sessions end before their time.
    #[serde(default)]
    pub logout: Logout,
    /// The name of the session's cookie, without `__Host-`: letters, digits, `-` and `_`, at most 32. Logins under way have cookies
    /// that begin with it. None of them goes on to the service. Instances for several providers at one host need several names.
    /// Default: `oidc`.
    #[serde(default = "oidc")]
    pub cookie: String,
    /// What becomes of requests without a session: `auto` sends pages to the provider (GET and HEAD with `Sec-Fetch-Mode:
    /// navigate`, or without that field an `Accept` that has `text/html` and no `X-Requested-With`), and answers 401 to the rest,
    /// scripts above all; `refuse` always answers 401; `pass` lets all go on, unproven, for a later plugin or a policy to judge.
    /// Sessions that are wrong or over are none. Default: `auto`.
    #[serde(default)]
    pub unauthenticated: Unauthenticated,
    /// Whom a session proves. Default: `{claim: sub, by: name}`.
    #[serde(default)]
    pub consumer: Consumer,
    /// What a user has to have; else the answer is 403, also in a session.
    #[serde(default)]
    pub require: Require,
    /// Fields that the service gets, and the claim that each carries, such as `{x-user: sub, x-mail: email}`; a claim inside
    /// another one by its place (`/realm_access/roles`). Copies that clients send, also spelled with `_`, are removed. Lists have
    /// commas between, objects are JSON. At most 32. Default: none.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The field that takes the access token to the service: `authorization` with `Bearer` before it, any other as it is. Copies
    /// that clients send are removed. Without it the token is kept only to ask for the next one. Default: it is not sent.
    #[serde(default)]
    pub access_token_header: Option<String>,
    /// Asks the provider about the user after a login. What it says are claims as well, where the identity does not say the same;
    /// they stay as they are until the next login. Default: `false`.
    #[serde(default)]
    pub userinfo: bool,
    /// What the answer 401 calls the place. Default: `Restricted`.
    #[serde(default = "restricted")]
    pub realm: String,
}

/// Who the proxy is at the provider.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// Its `client_id`.
    pub id: String,
    /// Its secret; write `${env:NAME}` or `${file:PATH}`. For `basic` and `post`. Default: none, for public clients.
    #[serde(default)]
    pub secret: Option<String>,
    /// Its private key in PEM, for `private_key_jwt`: RSA of at least 2048 bits, P-256 or Ed25519. Write `${file:PATH}`. Default:
    /// none.
    #[serde(default)]
    pub private_key: Option<String>,
    /// What the provider calls that key (`kid`). Default: nothing.
    #[serde(default)]
    pub key_id: Option<String>,
    /// How it proves itself (OpenID Connect Core section 9): `basic` in `Authorization`, `post` in the body, `private_key_jwt`, or
    /// `none`. Default: `basic` with a `secret`, `private_key_jwt` with a `private_key`, else `none`.
    #[serde(default)]
    pub send: Option<ClientProof>,
}

/// How a client proves itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientProof {
    /// In `Authorization`.
    Basic,
    /// In the body.
    Post,
    /// By a token that its key has signed (RFC 7523).
    PrivateKeyJwt,
    /// Not at all; PKCE stands for it.
    None,
}

/// Where the provider sends browsers back to.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Callback {
    /// The path; with each of `origins` before it, it has to be registered as `redirect_uri` at the provider. Nothing of the service
    /// is served there. Default: `/oauth2/callback`.
    #[serde(default = "callback_path")]
    pub path: String,
}

/// How logins begin.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// How long a login may take, from `1m` to `1h`. Default: `10m`.
    #[serde(default = "ten_minutes")]
    pub timeout: Time,
    /// How many logins a browser may have under way, such as one in each tab; each is a cookie of about 500 bytes. A further one
    /// pushes the oldest out. From 1 to 16. Default: 6.
    #[serde(default = "six")]
    pub most: usize,
}

/// How long sessions last, and what they may hold.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// How long a session lasts without being used, from `1m` to `absolute`. The cookie is written anew after a tenth of it.
    /// Default: `1h`.
    #[serde(default = "one_hour")]
    pub idle: Time,
    /// How long a session lasts at all, from `1m` to `90d`. Default: `12h`.
    #[serde(default = "twelve_hours")]
    pub absolute: Time,
    /// Whether tokens are renewed by the refresh token when the access token ends, if the provider gave one: once for a session,
    /// however many requests want it; they wait for it. What the provider refuses ends the session, so that users who were shut out
    /// there are shut out here. While it cannot be asked the plugin fails, see `on_error`. Default: `true`.
    #[serde(default = "yes")]
    pub refresh: bool,
    /// Bytes of a session in cookies, from `4KiB` to `32KiB`; a larger one is refused. Sessions beyond 3800 bytes take several
    /// cookies, and the listener's `limits.header_bytes` has to have room for them. Default: `16KiB`.
    #[serde(default = "sixteen_kib")]
    pub most_bytes: Size,
}

/// How sessions end before their time.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Logout {
    /// The path of a link or form that logs out. Nothing of the service is served there. Other sites cannot use it in browsers that
    /// send `Sec-Fetch-Site`. Default: `/oauth2/logout`.
    #[serde(default = "logout_path")]
    pub path: String,
    /// Whether the user is logged out at the provider as well, where it has an `end_session_endpoint` (OpenID Connect RP-Initiated
    /// Logout 1.0); it sends the browser back to `after`. Default: `true`.
    #[serde(default = "yes")]
    pub provider: bool,
    /// Where the browser goes after it: a path of the site, which for the provider has to be registered with the origin before it as
    /// `post_logout_redirect_uri`. One that needs a session begins the next login at once. Default: `/`.
    #[serde(default = "root")]
    pub after: String,
}

/// What becomes of requests without a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unauthenticated {
    /// Pages begin a login, the rest is refused.
    #[default]
    Auto,
    /// All are refused.
    Refuse,
    /// All go on.
    Pass,
}

/// What a user has to have.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Require {
    /// Claims that have to be, or as lists hold, one of some values, such as `{groups: [staff, admin]}`; a claim inside another one
    /// by its place. Default: none.
    #[serde(default)]
    pub claims: BTreeMap<String, Texts>,
    /// Scopes that the provider has to have granted, all of them. A provider that does not say what it granted granted what was
    /// asked for. Default: none.
    #[serde(default)]
    pub scopes: Vec<String>,
}

impl Default for Callback {
    fn default() -> Callback {
        Callback {
            path: callback_path(),
        }
    }
}

impl Default for Login {
    fn default() -> Login {
        Login {
            timeout: ten_minutes(),
            most: six(),
        }
    }
}

impl Default for Session {
    fn default() -> Session {
        Session {
            idle: one_hour(),
            absolute: twelve_hours(),
            refresh: true,
            most_bytes: sixteen_kib(),
        }
    }
}

impl Default for Logout {
    fn default() -> Logout {
        Logout {
            path: logout_path(),
            provider: true,
            after: root(),
        }
    }
}

fn ten_minutes() -> Time {
    Time::secs(600)
}

fn one_hour() -> Time {
    Time::secs(3600)
}

fn twelve_hours() -> Time {
    Time::secs(12 * 3600)
}

fn one_day() -> Time {
    Time::secs(86_400)
}

fn five_seconds() -> Time {
    Time::secs(5)
}

fn thirty_seconds() -> Time {
    Time::secs(30)
}

fn openid() -> Vec<String> {
    vec!["openid".to_owned()]
}

fn algorithms() -> Vec<Algorithm> {
    vec![
        Algorithm::RS256,
        Algorithm::PS256,
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::ES512,
        Algorithm::EdDSA,
    ]
}

fn callback_path() -> String {
    "/oauth2/callback".to_owned()
}

fn logout_path() -> String {
    "/oauth2/logout".to_owned()
}

fn root() -> String {
    "/".to_owned()
}

fn oidc() -> String {
    "oidc".to_owned()
}

fn six() -> usize {
    6
}

fn yes() -> bool {
    true
}

fn sixteen_kib() -> Size {
    Size(16 * 1024)
}

fn restricted() -> String {
    "Restricted".to_owned()
}
