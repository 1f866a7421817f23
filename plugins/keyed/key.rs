//! Whose requests are counted together: the parts of a key, parsed once and written out for each request.
//! It must not know what is counted.
//! Called by plugins that count.

use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::Arc;

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine;
use http::HeaderName;
use sha2::{Digest, Sha256};

use crate::cel::subject::{Subject, VOCABULARY};
use crate::contract::{did_you_mean, Consumers, Problem, Request, Texts};
use crate::expression::{Expression, Outcome};

/// A parsed key.
pub(crate) struct Key {
    parts: Vec<Part>,
    consumers: Arc<Consumers>,
    v4_mask: u32,
    v6_mask: u128,
}

enum Part {
    ClientIp,
    Principal,
    Listener,
    Route,
    Host,
    Header(HeaderName),
    Cel(Expression),
}

impl Part {
    fn expression(&self) -> Option<&Expression> {
        match self {
            Part::Cel(expression) => Some(expression),
            Part::ClientIp
            | Part::Principal
            | Part::Listener
            | Part::Route
            | Part::Host
            | Part::Header(_) => None,
        }
    }
}

/// What the expressions of a key come to, in order.
#[derive(Debug, Default)]
pub(crate) struct Said(Vec<Outcome>);

/// How keys are written in settings.
pub(crate) struct Settings<'a> {
    pub(crate) key: &'a Texts,
    pub(crate) ipv4_prefix: u8,
    pub(crate) ipv6_prefix: u8,
    pub(crate) consumers: &'a Arc<Consumers>,
}

/// A request's key as other proxies write it, too.
pub(crate) struct SharedKey {
    /// For keys of a store.
    pub(crate) text: String,
    /// For tables.
    pub(crate) number: u128,
}

impl Key {
    pub(crate) fn of(settings: &Settings<'_>, problems: &mut Vec<Problem>) -> Key {
        let mut parts = Vec::new();
        for (index, text) in settings.key.0.iter().enumerate() {
            match part(&format!("key[{index}]"), text) {
                Ok(part) => parts.push(part),
                Err(problem) => problems.push(problem),
            }
        }
        if settings.key.0.is_empty() {
            problems.push(
                Problem::at("key", "names nothing to count by").help(
                    "leave it out to count by its default; use `route` to count all together",
                ),
            );
        }
        for (path, bits, most) in [
            ("ipv4_prefix", settings.ipv4_prefix, 32),
            ("ipv6_prefix", settings.ipv6_prefix, 128),
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
            consumers: settings.consumers.clone(),
            v4_mask: u32::MAX
                .checked_shl(32_u32.saturating_sub(settings.ipv4_prefix.into()))
                .unwrap_or(0),
            v6_mask: u128::MAX
                .checked_shl(128_u32.saturating_sub(settings.ipv6_prefix.into()))
                .unwrap_or(0),
        }
    }

    /// What the expressions say of a request, once for all that is written of it.
    ///
    /// # Errors
    /// Why one has no outcome.
    pub(crate) fn said(&self, request: &Request<'_>) -> Result<Said, String> {
        let mut expressions = self.parts.iter().filter_map(Part::expression).peekable();
        if expressions.peek().is_none() {
            return Ok(Said::default());
        }
        let subject = Subject::of(request, &self.consumers);
        let outcomes = expressions.map(|expression| {
            let outcome = expression.value(&subject);
            outcome.map_err(|why| format!("key \"{}\": {}", expression.text, why.0))
        });
        Ok(Said(outcomes.collect::<Result<_, _>>()?))
    }

    /// Writes the key of a request for a table of this process.
    pub(crate) fn hash(&self, request: &Request<'_>, said: &Said, hasher: &mut impl Hasher) {
        self.write(request, said, &mut |bytes| hasher.write(bytes));
    }

    /// The key of a request for a store. A digest: what is in it may be long, or nobody's business. Those who want two keys to
    /// meet would have to search for 2^64 of them.
    pub(crate) fn shared(&self, request: &Request<'_>, said: &Said) -> SharedKey {
        let mut digest = Sha256::new();
        self.write(request, said, &mut |bytes| digest.update(bytes));
        let mut number = [0; 16];
        number.copy_from_slice(&digest.finalize()[..16]);
        SharedKey {
            text: URL_SAFE_NO_PAD.encode(number),
            number: u128::from_be_bytes(number),
        }
    }

    /// Each piece begins with a number of its own and its length, so that no two keys read the same. Other proxies must write the
    /// same bytes, so this must never change.
    fn write(&self, request: &Request<'_>, said: &Said, sink: &mut dyn FnMut(&[u8])) {
        let mut said = said.0.iter();
        for part in &self.parts {
            match part {
                Part::ClientIp => self.write_address(request, sink),
                Part::Principal => match request.principal.as_ref() {
                    Some(principal) => piece(1, principal.id().as_bytes(), sink),
                    None => self.write_address(request, sink),
                },
                Part::Route => piece(2, request.client.route.as_bytes(), sink),
                Part::Host => piece(3, request.client.host.as_bytes(), sink),
                Part::Header(name) => {
                    let mut values = request.head.headers.get_all(name).iter().peekable();
                    if values.peek().is_none() {
                        self.write_address(request, sink);
                    } else {
                        piece(4, name.as_str().as_bytes(), sink);
                    }
                    for value in values {
                        piece(7, value.as_bytes(), sink);
                    }
                }
                Part::Listener => piece(8, request.client.listener.as_bytes(), sink),
                Part::Cel(_) => match said.next() {
                    Some(Outcome::Text(text)) => piece(9, text.as_bytes(), sink),
                    Some(Outcome::Number(number)) => piece(10, &number.to_be_bytes(), sink),
                    Some(Outcome::Truth(truth)) => piece(11, &[u8::from(*truth)], sink),
                    None => debug_assert!(false, "each expression has an outcome"),
                },
            }
        }
    }

    fn write_address(&self, request: &Request<'_>, sink: &mut dyn FnMut(&[u8])) {
        match request.client.address.to_canonical() {
            IpAddr::V4(address) => {
                let masked = u32::from(address) & self.v4_mask;
                piece(5, &masked.to_be_bytes(), sink);
            }
            IpAddr::V6(address) => {
                let masked = u128::from(address) & self.v6_mask;
                piece(6, &masked.to_be_bytes(), sink);
            }
        }
    }
}

fn piece(tag: u8, bytes: &[u8], sink: &mut dyn FnMut(&[u8])) {
    // Heads are bounded far below 4 GiB.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    sink(&[tag]);
    sink(&length.to_be_bytes());
    sink(bytes);
}

fn part(path: &str, text: &str) -> Result<Part, Problem> {
    if let Some(name) = text.strip_prefix("header:") {
        let parsed = HeaderName::from_bytes(name.trim().as_bytes());
        return parsed.map(Part::Header).map_err(|_| {
            Problem::at(path, format!("\"{name}\" is not a header field name"))
                .help("write \"header:\" and a name, such as \"header:X-Api-Key\"")
        });
    }
    if let Some(text) = text.strip_prefix("cel:") {
        let expression = Expression::of_value(text.trim(), &VOCABULARY);
        return expression.map(Part::Cel).map_err(|fact| {
            Problem::at(path, format!("the expression cannot be used: {fact}")).help(
                "write \"cel:\" and an expression as the plugin `cel` knows them, such as \"cel:request.headers['x-tenant']\"",
            )
        });
    }
    match text {
        "client_ip" => Ok(Part::ClientIp),
        "principal" => Ok(Part::Principal),
        "listener" => Ok(Part::Listener),
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

const WORDS: [&str; 7] = [
    "client_ip",
    "principal",
    "listener",
    "route",
    "host",
    "header:NAME",
    "cel:EXPRESSION",
];
