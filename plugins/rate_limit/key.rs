//! Whose requests share a bucket: the parts of a key, parsed once and hashed for each request.
//! It must not know buckets.
//! Called by `rate_limit`.

use std::hash::{DefaultHasher, Hash};
use std::net::IpAddr;

use http::HeaderName;

use crate::contract::{did_you_mean, Problem, Request};

use super::Config;

/// A parsed key.
pub(super) struct Key {
    parts: Vec<Part>,
    v4_mask: u32,
    v6_mask: u128,
}

enum Part {
    ClientIp,
    Principal,
    Route,
    Host,
    Header(HeaderName),
}

impl Key {
    pub(super) fn of(config: &Config, problems: &mut Vec<Problem>) -> Key {
        let mut parts = Vec::new();
        for (index, text) in config.key.0.iter().enumerate() {
            match part(&format!("key[{index}]"), text) {
                Ok(part) => parts.push(part),
                Err(problem) => problems.push(problem),
            }
        }
        if config.key.0.is_empty() {
            problems.push(
                Problem::at("key", "names nothing to count by")
                    .help("leave it out to count by `client_ip`; use `route` for one bucket"),
            );
        }
        for (path, bits, most) in [
            ("ipv4_prefix", config.ipv4_prefix, 32),
            ("ipv6_prefix", config.ipv6_prefix, 128),
        ] {
            if bits > most {
                problems.push(Problem::at(
                    path,
                    format!("must be at most {most}, found {bits}"),
                ));
            }
        }
        Key {
            parts,
            v4_mask: u32::MAX
                .checked_shl(32_u32.saturating_sub(config.ipv4_prefix.into()))
                .unwrap_or(0),
            v6_mask: u128::MAX
                .checked_shl(128_u32.saturating_sub(config.ipv6_prefix.into()))
                .unwrap_or(0),
        }
    }

    /// Writes the key of a request. Each part begins with a number of its own, so that no two keys read the same.
    pub(super) fn hash(&self, request: &Request<'_>, hasher: &mut DefaultHasher) {
        for part in &self.parts {
            match part {
                Part::ClientIp => self.hash_address(request, hasher),
                Part::Principal => match request.principal.as_ref() {
                    Some(principal) => (1_u8, principal.id()).hash(hasher),
                    None => self.hash_address(request, hasher),
                },
                Part::Route => (2_u8, request.client.route).hash(hasher),
                Part::Host => (3_u8, request.client.host).hash(hasher),
                Part::Header(name) => {
                    let mut values = request.head.headers.get_all(name).iter().peekable();
                    if values.peek().is_none() {
                        self.hash_address(request, hasher);
                    }
                    for value in values {
                        (4_u8, name.as_str(), value.as_bytes()).hash(hasher);
                    }
                }
            }
        }
    }

    fn hash_address(&self, request: &Request<'_>, hasher: &mut DefaultHasher) {
        match request.client.address.to_canonical() {
            IpAddr::V4(address) => (5_u8, u32::from(address) & self.v4_mask).hash(hasher),
            IpAddr::V6(address) => (6_u8, u128::from(address) & self.v6_mask).hash(hasher),
        }
    }
}

fn part(path: &str, text: &str) -> Result<Part, Problem> {
    const WORDS: [&str; 5] = ["client_ip", "principal", "route", "host", "header:NAME"];
    if let Some(name) = text.strip_prefix("header:") {
        let parsed = HeaderName::from_bytes(name.trim().as_bytes());
        return parsed.map(Part::Header).map_err(|_| {
            Problem::at(path, format!("\"{name}\" is not a header field name"))
                .help("write \"header:\" and a name, such as \"header:X-Api-Key\"")
        });
    }
    match text {
        "client_ip" => Ok(Part::ClientIp),
        "principal" => Ok(Part::Principal),
        "route" => Ok(Part::Route),
        "host" => Ok(Part::Host),
        other => {
            let guess = did_you_mean(other, WORDS)
                .map(|guess| format!("did you mean \"{guess}\"? "))
                .unwrap_or_default();
            Err(
                Problem::at(path, format!("\"{other}\" is nothing to count by"))
                    .help(format!("{guess}parts known: {}", WORDS.join(", "))),
            )
        }
    }
}
