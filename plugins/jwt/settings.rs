//! Settings of `jwt`, and what is wrong with them.
//! It must not know tokens.
//! Decoded by the contract; made into a gate by the plugin.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use super::claims::Demands;
use super::remembered::Remembered;
use super::remote::{Jwks, Remote};
use super::source::{self, KeySource};
use super::{causes, Challenges, Gate, Source};
use crate::contract::{field_name, field_value, Build, Cause, Problem, Side, Size, Texts, Time};
use crate::granted::{Granted, Names};
use crate::keys::Algorithm;
use crate::place::{Place, Places};

/// Settings of `jwt`. One instance believes one issuer: for several, put an instance for each into an `auth` with `any`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The issuer, as tokens write it in `iss`: one of these, letter by letter. `any` looks at nobody's: only for keys with
    /// which nobody else signs anything.
    pub issuer: Texts,
    /// Whom tokens have to be for: one of these has to be in `aud`. `any` takes tokens that are for other services, too.
    pub audience: Texts,
    /// The issuer's keys, of which the right one is found by the token's `kid` and `alg`. At most 100. Exactly one of `keys` and
    /// `jwks` is given. Default: none.
    #[serde(default)]
    pub keys: Vec<KeySource>,
    /// The issuer's keys by URL, instead of `keys`. They are got beside the traffic. Default: none.
    #[serde(default)]
    pub jwks: Option<Jwks>,
    /// The only algorithms that are taken, of HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384,
    /// ES512 and EdDSA (Ed25519, Ed448). Default: those that fit `keys`. `none` is never taken.
    #[serde(default)]
    pub algorithms: Vec<Algorithm>,
    /// Where to look, in this order; the first place that holds a token decides. At most 8. Of `authorization`, the token is
    /// what follows `Bearer`. Default: `[{header: authorization}]`.
    #[serde(default = "in_authorization")]
    pub from: Vec<Place>,
    /// How much clocks may differ: `exp`, `nbf` and `iat` are judged that much more kindly. At most `10m`. Default: `30s`.
    #[serde(default = "thirty_seconds")]
    pub clock_skew: Time,
    /// Whether tokens without an end (`exp`) are refused. Default: `true`.
    #[serde(default = "yes")]
    pub require_exp: bool,
    /// Claims that have to be there, by name, or by their place inside another one, such as `/realm_access/roles` (RFC 6901).
    /// Default: none besides those that other settings need.
    #[serde(default)]
    pub required: Vec<String>,
    /// Claims that have to be, or as lists hold, one of some values, such as `{tenant: [shop, mall]}`. Default: none.
    #[serde(default)]
    pub values: BTreeMap<String, Texts>,
    /// Words that all have to be in `scope` (or `scp`); else the answer is 403 and names them. Default: none.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Types that tokens may say to be in `typ`, such as `at+jwt`. Keeps tokens for other purposes out that the same issuer
    /// signs (RFC 8725 section 3.11). Default: any, or none.
    #[serde(default)]
    pub typ: Texts,
    /// Whom a token proves. Default: `{claim: sub, by: name}`.
    #[serde(default)]
    pub consumer: Consumer,
    /// Fields that the service gets, and the claim that each carries, such as `{x-user: sub}`. Copies that clients send, also
    /// spelled with `_`, are removed, also where no token came. Lists have commas between, objects are JSON; claims that no field can carry become
    /// none. At most 32. Default: none.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The longest token that is looked at, from `256B` to `64KiB`. Default: `8KiB`.
    #[serde(default = "eight_kib")]
    pub max_token_bytes: Size,
    /// How many tokens that were right are remembered by their SHA-256 until they end, so that a signature is verified once;
    /// each takes about as much memory as its claims. A reload forgets all. At most 1000000; 0 remembers none. Default: 10000.
    #[serde(default = "ten_thousand")]
    pub remember: usize,
    /// Sends the token on to the service. Default: `false`, so that tokens end here.
    #[serde(default)]
    pub forward_credentials: bool,
    /// Lets a request without any token go on, unproven, for a later plugin or a policy to judge. A wrong token is refused all
    /// the same. Default: `false`.
    #[serde(default)]
    pub optional: bool,
    /// What the answer 401 calls the place. Default: `Restricted`.
    #[serde(default = "restricted")]
    pub realm: String,
}

/// Whom a token proves.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Consumer {
    /// The claim that names somebody: a text of at most 256 bytes. Default: `sub`.
    #[serde(default = "sub")]
    pub claim: String,
    /// What it is: `name`, the consumer's name; or `subject`, one of the `subjects` of `consumers`, with the token's `iss`.
    /// Default: `name`.
    #[serde(default)]
    pub by: By,
    /// With `name`: whether it has to be the name of one of `consumers`. By default others are proven by that name as well,
    /// and are in no group: an issuer where people choose their names then lets them choose whom they are taken for here.
    /// Default: `false`.
    #[serde(default)]
    pub required: bool,
}

/// What names a consumer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Its name.
    #[default]
    Name,
    /// One of its `subjects`.
    Subject,
}

impl Consumer {
    pub(crate) fn check(&self, build: &Build<'_>, problems: &mut Vec<Problem>) {
        if self.claim.is_empty() {
            let problem = Problem::at("consumer.claim", "is empty");
            problems.push(problem.help("name a claim"));
        }
        if self.by == By::Name {
            return;
        }
        if self.required {
            let fact = "by `subject` somebody always has to be known";
            let problem = Problem::at("consumer.required", fact);
            problems.push(problem.help("remove this line"));
        }
        if !build.consumers.have_subjects() {
            let fact = "no consumer has `subjects`, so nobody could be proven";
            let problem = Problem::at("consumer.by", fact);
            problems.push(problem.help("give `consumers` some, or let the claim be a `name`"));
        }
    }
}

impl Default for Consumer {
    fn default() -> Consumer {
        Consumer {
            claim: sub(),
            by: By::Name,
            required: false,
        }
    }
}

fn in_authorization() -> Vec<Place> {
    vec![Place::Header("authorization".to_owned())]
}

fn thirty_seconds() -> Time {
    Time::secs(30)
}

fn yes() -> bool {
    true
}

fn sub() -> String {
    "sub".to_owned()
}

fn eight_kib() -> Size {
    Size(8 * 1024)
}

fn ten_thousand() -> usize {
    10_000
}

fn restricted() -> String {
    "Restricted".to_owned()
}

impl Config {
    /// What tokens have to pass.
    pub(super) fn gate(&self, build: &Build<'_>) -> Result<(Gate, Source), Vec<Problem>> {
        let mut problems = Vec::new();
        let places = Places::of(&self.from, &["Bearer"], &mut problems);
        let demands = self.demands(&mut problems);
        let keys = self.source(&demands.issuers, build, &mut problems);
        let fields = claim_fields(&self.headers, &mut problems);
        let mut names = Names::default();
        fields.iter().for_each(|(name, _)| names.add(name.clone()));
        let challenges = self.challenges(&mut problems);
        self.bounds(build, &mut problems);
        match (keys, challenges) {
            (Some(keys), Some(challenges)) if problems.is_empty() => Ok((
                Gate {
                    places,
                    optional: self.optional,
                    longest: usize::try_from(self.max_token_bytes.0).unwrap_or(usize::MAX),
                    algorithms: self.algorithms.clone(),
                    kinds: self.typ.0.clone(),
                    demands,
                    consumer: self.consumer.clone(),
                    consumers: build.consumers.clone(),
                    granted: Granted::new(names, build.slot()),
                    fields,
                    remembered: Remembered::new(self.remember),
                    clock: build.clock.clone(),
                    challenges,
                    refused: build.counter("refused"),
                    verified: build.counter("verified"),
                },
                keys,
            )),
            _ => Err(problems),
        }
    }

    /// Where the keys are.
    fn source(
        &self,
        issuers: &[String],
        build: &Build<'_>,
        problems: &mut Vec<Problem>,
    ) -> Option<Source> {
        match (&self.jwks, self.keys.is_empty()) {
            (Some(jwks), true) => {
                let remote = Remote::of(jwks, issuers, build, problems)?;
                if self
                    .algorithms
                    .iter()
                    .any(|one| one.name().starts_with("HS"))
                {
                    let problem = Problem::at("algorithms", "keys by URL are never secrets");
                    problems.push(problem.help("remove HS256, HS384 and HS512"));
                }
                Some(Source::Remote(Arc::new(remote)))
            }
            (Some(_), false) => {
                let problem = Problem::at("jwks", "`keys` are given as well");
                problems.push(problem.help("remove one of the two"));
                None
            }
            (None, true) => {
                let problem = Problem::at("keys", "there is no key, so no token could be verified");
                problems.push(problem.help("give the issuer's `keys`, or its `jwks`"));
                None
            }
            (None, false) => {
                let keys = source::fixed(&self.keys, build, problems)?;
                for (at, one) in self.algorithms.iter().enumerate() {
                    if !keys.algorithms().any(|other| other == *one) {
                        let fact = format!("no key is for {}", one.name());
                        let problem = Problem::at(format!("algorithms[{at}]"), fact);
                        problems.push(problem.help("remove it, or give a key that fits"));
                    }
                }
                Some(Source::Fixed(keys))
            }
        }
    }

    fn bounds(&self, build: &Build<'_>, problems: &mut Vec<Problem>) {
        if self.clock_skew.0 > Duration::from_secs(600) {
            let fact = format!("must be at most 10m, found {}", self.clock_skew);
            let problem = Problem::at("clock_skew", fact);
            problems.push(problem.help("set the clocks by NTP; issuers give tokens for minutes"));
        }
        if !(256..=64 * 1024).contains(&self.max_token_bytes.0) {
            let fact = format!("must be from 256B to 64KiB, found {}", self.max_token_bytes);
            problems.push(Problem::at("max_token_bytes", fact));
        }
        if self.remember > 1_000_000 {
            let fact = format!("must be at most 1000000, found {}", self.remember);
            problems.push(Problem::at("remember", fact));
        }
        self.consumer.check(build, problems);
        let required = self.required.iter().enumerate();
        for (at, _) in required.filter(|(_, name)| name.is_empty()) {
            let problem = Problem::at(format!("required[{at}]"), "is empty");
            problems.push(problem.help("name a claim"));
        }
    }

    fn demands(&self, problems: &mut Vec<Problem>) -> Demands {
        let mut values = BTreeMap::new();
        for (claim, texts) in &self.values {
            if texts.0.is_empty() {
                let problem = Problem::at(format!("values.{claim}"), "there is no value");
                problems.push(problem.help("give those that the claim may have"));
            }
            values.insert(claim.clone(), texts.0.clone());
        }
        for (at, scope) in self.scopes.iter().enumerate() {
            if scope.is_empty() || !scope.bytes().all(is_scope) {
                let fact = format!("{scope:?} is no scope");
                problems.push(Problem::at(format!("scopes[{at}]"), fact));
            }
        }
        Demands {
            issuers: any_or("issuer", &self.issuer, problems),
            audiences: any_or("audience", &self.audience, problems),
            skew: self.clock_skew.0,
            needs_end: self.require_exp,
            required: self.required.clone(),
            values,
            scopes: self.scopes.clone(),
        }
    }

    fn challenges(&self, problems: &mut Vec<Problem>) -> Option<Challenges> {
        let escaped = self.realm.replace('\\', "\\\\").replace('"', "\\\"");
        let bare = format!("Bearer realm=\"{escaped}\"");
        let value = |text: &str| field_value("realm", text);
        let make = || -> Result<Challenges, Problem> {
            let mut wrong: Vec<(&'static Cause, HeaderValue)> = Vec::new();
            for (cause, what) in DESCRIPTIONS {
                let text = format!("{bare}, error=\"invalid_token\", error_description=\"{what}\"");
                wrong.push((cause, value(&text)?));
            }
            let scopes = self.scopes.join(" ");
            let scopes = format!("{bare}, error=\"insufficient_scope\", scope=\"{scopes}\"");
            wrong.push((&causes::SCOPE, value(&scopes)?));
            Ok(Challenges {
                bare: value(&bare)?,
                wrong,
            })
        };
        make().map_err(|problem| problems.push(problem)).ok()
    }
}

/// Fields, and the claim that each carries.
pub(crate) fn claim_fields(
    headers: &BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
) -> Vec<(HeaderName, String)> {
    let mut fields = Vec::new();
    if headers.len() > MOST_FIELDS {
        let fact = format!("has {} fields; {MOST_FIELDS} are the most", headers.len());
        problems.push(Problem::at("headers", fact));
    }
    for (name, claim) in headers {
        match field_name(Side::Request, &format!("headers.{name}"), name) {
            Ok(name) if REFUSED.contains(&name) => {
                let fact = format!("a claim must not become \"{name}\"");
                problems.push(Problem::at(format!("headers.{name}"), fact));
            }
            Ok(name) => fields.push((name, claim.clone())),
            Err(problem) => problems.push(problem),
        }
    }
    fields
}

/// The list, empty for `any`.
fn any_or(path: &str, texts: &Texts, problems: &mut Vec<Problem>) -> Vec<String> {
    if texts.0.is_empty() {
        let problem = Problem::at(path, "the list is empty");
        problems.push(problem.help("name at least one, or write `any`"));
    }
    match texts.0.iter().any(|text| text == "any") {
        false => texts.0.clone(),
        true if texts.0.len() == 1 => Vec::new(),
        true => {
            let problem = Problem::at(path, "`any` stands beside others");
            problems.push(problem.help("write `any` alone, or leave it out"));
            Vec::new()
        }
    }
}

/// RFC 6749 section 3.3.
pub(crate) fn is_scope(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'"' && byte != b'\\'
}

const MOST_FIELDS: usize = 32;
/// What would take another request's place.
const REFUSED: [HeaderName; 2] = [http::header::HOST, http::header::AUTHORIZATION];

/// What clients are told. Nothing of the token.
const DESCRIPTIONS: [(&Cause, &str); 10] = [
    (&causes::MALFORMED, "The token is malformed"),
    (&causes::ALGORITHM, "The token's algorithm is not accepted"),
    (&causes::KEY_UNKNOWN, "The token's key is not known"),
    (&causes::SIGNATURE, "The token's signature is wrong"),
    (&causes::EXPIRED, "The token has expired"),
    (&causes::NOT_YET, "The token is not valid yet"),
    (&causes::ISSUER, "The token's issuer is not accepted"),
    (&causes::AUDIENCE, "The token is for another audience"),
    (
        &causes::CLAIM,
        "A claim of the token is missing or not accepted",
    ),
    (&causes::CONSUMER, "The token names nobody known"),
];
