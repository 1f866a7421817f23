//! Settings of `hmac_auth`, and what is wrong with them.
//! It must not know requests.
//! Decoded by the contract; made into a gate by the plugin.

use std::time::Duration;

use http::HeaderName;
use schemars::JsonSchema;
use serde::Deserialize;

use super::nonces::Nonces;
use super::Gate;
use crate::contract::{field_value, Build, Problem, Time};

/// Settings of `hmac_auth`. The keys are the `signing_keys` of `consumers`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How requests are signed: `rfc9421`, HTTP Message Signatures; or `simple`, `Authorization: HMAC-SHA256 ID:CODE`, where
    /// CODE is the base64 of the HMAC-SHA256 of six lines, each with a line feed: method, target with query, host, `Date`,
    /// `Content-Digest` or nothing, ID. Default: `rfc9421`.
    #[serde(default)]
    pub scheme: Scheme,
    /// With `rfc9421`, what a signature has to cover: fields in lower case, `@method`, `@authority`, `@scheme`, `@path`,
    /// `@query` (where there is one), `@request-target` or `@target-uri`; larger components stand for smaller ones. At most 32.
    /// Default: `['@method', '@authority', '@path', '@query']`.
    #[serde(default)]
    pub cover: Option<Vec<String>>,
    /// With `rfc9421`, the only signatures that are looked at: those with this `tag`. Default: all, of which one has to be right.
    #[serde(default)]
    pub tag: Option<String>,
    /// How old a signature may be, by `created` or `Date`, which has to be there; at most `1h`. Default: `5m`.
    #[serde(default = "five_minutes")]
    pub max_age: Time,
    /// How much clocks may differ. At most `10m`. Default: `30s`.
    #[serde(default = "thirty_seconds")]
    pub clock_skew: Time,
    /// Whether bodies have to be signed by way of `Content-Digest` (RFC 9530): `required`; `checked`, where it is signed; or
    /// `ignored`. A body is compared while it passes: of another one the service gets all but the end, and the request is
    /// broken off. Default: `required`.
    #[serde(default)]
    pub digest: DigestRule,
    /// With `rfc9421`, whether signatures without a `nonce` are refused. Those with one are let through once. Default: `false`.
    #[serde(default)]
    pub require_nonce: bool,
    /// How many nonces are remembered, of 16 bytes each and about 100 in all; when there are more that are still valid,
    /// requests are answered 503. From 1 to 10000000. Counts from the start of the process on. Default: 100000.
    #[serde(default = "hundred_thousand")]
    pub max_nonces: usize,
    /// Sends the signature on to the service. Default: `false`.
    #[serde(default)]
    pub forward_credentials: bool,
    /// Lets a request without any signature go on, unproven, for a later plugin or a policy to judge. Default: `false`.
    #[serde(default)]
    pub optional: bool,
    /// What the answer 401 calls the place. Default: `Restricted`.
    #[serde(default = "restricted")]
    pub realm: String,
}

/// How requests are signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// HTTP Message Signatures.
    #[default]
    Rfc9421,
    /// An HMAC in `Authorization`.
    Simple,
}

/// What becomes of bodies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DigestRule {
    /// Their digest has to be signed.
    #[default]
    Required,
    /// Their digest is compared where it is signed.
    Checked,
    /// Nothing is said of them.
    Ignored,
}

fn five_minutes() -> Time {
    Time::secs(300)
}

fn thirty_seconds() -> Time {
    Time::secs(30)
}

fn hundred_thousand() -> usize {
    100_000
}

fn restricted() -> String {
    "Restricted".to_owned()
}

impl Config {
    pub(super) fn gate(&self, build: &Build<'_>) -> Result<Gate, Vec<Problem>> {
        let mut problems = Vec::new();
        let cover = self.cover(&mut problems);
        self.bounds(&mut problems);
        if self.scheme == Scheme::Simple {
            let idle = [
                ("cover", self.cover.is_some()),
                ("tag", self.tag.is_some()),
                ("require_nonce", self.require_nonce),
            ];
            for (path, _) in idle.into_iter().filter(|(_, is_given)| *is_given) {
                let problem = Problem::at(path, "is for `scheme: rfc9421` only");
                problems.push(problem.help("remove it"));
            }
        }
        if !build.consumers.have_signing_keys() {
            let problem = Problem::at(
                "",
                "no consumer has a signing key, so nobody could be proven",
            );
            problems.push(problem.help("give `consumers` some `signing_keys`"));
        }
        let scheme = match self.scheme {
            Scheme::Rfc9421 => "Signature",
            Scheme::Simple => "HMAC-SHA256",
        };
        let escaped = self.realm.replace('\\', "\\\\").replace('"', "\\\"");
        let challenge = field_value("realm", &format!("{scheme} realm=\"{escaped}\""));
        let challenge = challenge.map_err(|problem| problems.push(problem));
        let most = self.max_nonces;
        match challenge {
            Ok(challenge) if problems.is_empty() => Ok(Gate {
                scheme: self.scheme,
                cover,
                tag: self.tag.clone(),
                max_age: self.max_age.0,
                skew: self.clock_skew.0,
                needs_nonce: self.require_nonce,
                digest_rule: self.digest,
                optional: self.optional,
                consumers: build.consumers.clone(),
                nonces: build.shared("the nonces that came before", || Nonces::new(most)),
                digest: build.slot(),
                clock: build.clock.clone(),
                challenge,
                refused: build.counter("refused"),
            }),
            _ => Err(problems),
        }
    }

    fn cover(&self, problems: &mut Vec<Problem>) -> Vec<String> {
        let Some(cover) = &self.cover else {
            return BY_DEFAULT.map(str::to_owned).to_vec();
        };
        if cover.len() > MOST_COVERED {
            let fact = format!(
                "names {} components; {MOST_COVERED} are the most",
                cover.len()
            );
            problems.push(Problem::at("cover", fact));
        }
        for (at, one) in cover.iter().enumerate() {
            let is_derived = COMPONENTS.contains(&one.as_str());
            if !is_derived && HeaderName::from_lowercase(one.as_bytes()).is_err() {
                let fact = format!("{one:?} is no component that a signature can cover");
                let problem = Problem::at(format!("cover[{at}]"), fact);
                let known = COMPONENTS.join(", ");
                problems
                    .push(problem.help(format!("name a field in lower case, or one of {known}")));
            }
        }
        cover.clone()
    }

    fn bounds(&self, problems: &mut Vec<Problem>) {
        let hour = Duration::from_secs(3600);
        if self.max_age.0 > hour || self.max_age.0.is_zero() {
            let fact = format!(
                "must be more than 0s and at most 1h, found {}",
                self.max_age
            );
            problems.push(Problem::at("max_age", fact));
        }
        if self.clock_skew.0 > hour / 6 {
            let fact = format!("must be at most 10m, found {}", self.clock_skew);
            problems.push(Problem::at("clock_skew", fact));
        }
        if !(1..=10_000_000).contains(&self.max_nonces) {
            let fact = format!("must be from 1 to 10000000, found {}", self.max_nonces);
            problems.push(Problem::at("max_nonces", fact));
        }
    }
}

const BY_DEFAULT: [&str; 4] = ["@method", "@authority", "@path", "@query"];
const COMPONENTS: [&str; 7] = [
    "@method",
    "@authority",
    "@scheme",
    "@path",
    "@query",
    "@request-target",
    "@target-uri",
];
const MOST_COVERED: usize = 32;
