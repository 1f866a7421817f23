//! Finds the country of a client's address, and its network's number: lets clients in or keeps them out by them, and tells the service.
//! It must not know how the address was found: the proxy has already settled PROXY protocol and forwarded headers.
//! Called by the chain of a listener or route that names it; before plugins that read the fields it sets.

mod countries;
mod database;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{
    field_name, Answer, Blame, Build, Cause, Counter, Hooks, Plugin, PluginDef, Problem, Request,
    Safety, Side, Verdict,
};
use crate::granted::{Granted, Names};

use countries::{is_country, Country};
use database::Database;

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// The country or network is not let in.
pub static DENIED: Cause = Cause {
    name: "policy_denied.geo",
    blame: Blame::Policy,
    status: 403,
    title: "Forbidden",
    explanation: "The client's country or network is one that a `geo` plugin refuses, or none that it allows, or nobody knows it and `unknown` is `deny`.",
    next_step: "Look at the client address in the access log. If it is your load balancer's, trust that balancer's forwarded headers or PROXY protocol. Databases are wrong for some addresses, and older with each day: renew the file.",
};

/// The database has no answer that can be read.
pub static UNREADABLE: Cause = Cause {
    name: "geo.unreadable",
    blame: Blame::Dependency,
    status: 503,
    title: "Service unavailable",
    explanation: "What the database of a `geo` plugin says of the client's address cannot be read.",
    next_step: "The log has the reason. The file passed its check when it was loaded, so it is of another layout than GeoIP2: `country.iso_code` and `autonomous_system_number` are read.",
};

/// Settings of `geo`. Databases are MaxMind DB files in the layout of GeoIP2 and GeoLite2, which others write as well. A file is read
/// whole when the configuration is loaded, at most 512 MiB, and verified; a reload reads it again if it has changed, and one that is
/// broken refuses the reload. The fields it sets are seen by later plugins and logs: `request.headers['x-country']` in `cel`,
/// `header:x-country` as a key of limits, `request_headers: [x-country]` in `log_http`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The file with countries, relative to the configuration's folder. Of an address whose country it does not say, the one it is
    /// registered in counts. There is no default.
    pub database: String,
    /// A file with the numbers of autonomous systems. Default: none.
    #[serde(default)]
    pub asn_database: Option<String>,
    /// Countries that are let in, as two letters of ISO 3166-1, such as `DE`; if there are any, others are refused. Default: none.
    #[serde(default)]
    pub allow: Vec<String>,
    /// Countries that are refused. Default: none.
    #[serde(default)]
    pub deny: Vec<String>,
    /// Numbers of autonomous systems that are refused, whatever the country. Only with `asn_database`. Default: none.
    #[serde(default)]
    pub deny_asns: BTreeSet<u32>,
    /// What becomes of clients whose country nobody knows, such as those of private networks: `allow` or `deny`. Only with `allow` or
    /// `deny`. Default: `deny` with `allow`, else `allow`.
    #[serde(default)]
    pub unknown: Option<Unknown>,
    /// The field that tells the service the country; what a client sends in it is taken away. Left out where it is not known.
    /// Default: none.
    #[serde(default)]
    pub country_header: Option<String>,
    /// The same for the number of the autonomous system. Only with `asn_database`. Default: none.
    #[serde(default)]
    pub asn_header: Option<String>,
}

/// What becomes of clients of no known country.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// They are let in.
    Allow,
    /// They are refused.
    Deny,
}

impl Plugin for Config {
    const KIND: &'static str = "geo";
    const ABOUT: &'static str = "let clients in or keep them out by country and network";
    const EXAMPLE: &'static str = "database: GeoLite2-Country.mmdb
asn_database: GeoLite2-ASN.mmdb
deny: [KP]
deny_asns: [64496]
country_header: x-country";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[&DENIED, &UNREADABLE];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let mut problems = Vec::new();
        self.judge(&mut problems);
        let allow = listed("allow", &self.allow, &mut problems);
        let deny = listed("deny", &self.deny, &mut problems);
        for (at, text) in self.deny.iter().enumerate() {
            if allow.contains(&Country::of(text)) {
                let fact = format!("\"{text}\" is also in `allow`");
                let remedy = "keep it in one list; what `allow` does not name is refused anyway";
                problems.push(Problem::at(format!("deny[{at}]"), fact).help(remedy));
            }
        }
        let mut field = |path: &str, name: &Option<String>| {
            let parsed = field_name(Side::Request, path, name.as_deref()?);
            parsed.map_err(|problem| problems.push(problem)).ok()
        };
        let country_field = field("country_header", &self.country_header);
        let asn_field = field("asn_header", &self.asn_header);
        let mut open = |path: &'static str, file: &str| {
            let opened = database::open(build, path, file);
            opened.map_err(|problem| problems.push(problem)).ok()
        };
        let countries = open("database", &self.database);
        let networks = self
            .asn_database
            .as_deref()
            .map(|file| open("asn_database", file));
        let (Some(countries), true) = (countries, problems.is_empty()) else {
            return Err(problems);
        };
        let lets_unknown_in = match self.unknown {
            Some(unknown) => unknown == Unknown::Allow,
            None => allow.is_empty(),
        };
        let mut names = Names::default();
        [&country_field, &asn_field]
            .into_iter()
            .flatten()
            .for_each(|name| names.add(name.clone()));
        let granted = Granted::new(names, build.slot());
        let gate = Gate {
            countries,
            networks: networks.flatten(),
            allow,
            deny,
            deny_asns: self.deny_asns,
            lets_unknown_in,
            country_field,
            asn_field,
            granted: granted.clone(),
            refused: build.counter("refused"),
        };
        let hooks = Hooks::new().on_request(move |request| gate.check(request));
        Ok(granted.attach(hooks, None))
    }
}

impl Config {
    /// Settings that would have no effect.
    fn judge(&self, problems: &mut Vec<Problem>) {
        let has_list = !self.allow.is_empty() || !self.deny.is_empty();
        if self.unknown.is_some() && !has_list {
            let fact = "is not used: there is neither `allow` nor `deny`";
            problems.push(Problem::at("unknown", fact).help("remove it, or list countries"));
        }
        let unused = [
            ("deny_asns", !self.deny_asns.is_empty()),
            ("asn_header", self.asn_header.is_some()),
        ];
        for (path, _) in unused
            .iter()
            .filter(|(_, given)| *given && self.asn_database.is_none())
        {
            let fact = "is not used: there is no `asn_database`";
            problems.push(Problem::at(*path, fact).help("name one, or remove this line"));
        }
        let does_something = has_list
            || !self.deny_asns.is_empty()
            || self.country_header.is_some()
            || self.asn_header.is_some();
        if !does_something {
            let fact = "nobody is kept out and nobody is told";
            let remedy =
                "list countries under `allow` or `deny`, or name a field under `country_header`";
            problems.push(Problem::at("", fact).help(remedy));
        }
    }
}

fn listed(list: &str, texts: &[String], problems: &mut Vec<Problem>) -> BTreeSet<Country> {
    for (at, text) in texts.iter().enumerate() {
        if !is_country(text) {
            let fact = format!("{text:?} is no country of ISO 3166-1");
            let remedy = "write its two letters, such as \"DE\"; the United Kingdom is \"GB\"";
            problems.push(Problem::at(format!("{list}[{at}]"), fact).help(remedy));
        }
    }
    texts.iter().map(|text| Country::of(text)).collect()
}

struct Gate {
    countries: Arc<Database>,
    networks: Option<Arc<Database>>,
    allow: BTreeSet<Country>,
    deny: BTreeSet<Country>,
    deny_asns: BTreeSet<u32>,
    lets_unknown_in: bool,
    country_field: Option<HeaderName>,
    asn_field: Option<HeaderName>,
    granted: Granted,
    refused: Counter,
}

impl Gate {
    fn check(&self, request: &mut Request<'_>) -> Verdict {
        // Before anything can fail: what the client says of itself never goes on.
        self.granted.strip(request);
        let (country, asn) = match self.found(request.client.address.to_canonical()) {
            Ok(found) => found,
            Err(reason) => {
                return Verdict::Failed {
                    cause: &UNREADABLE,
                    reason,
                }
            }
        };
        if !self.lets_in(country, asn) {
            if request.effects.is_live() {
                (self.refused)(1);
            }
            return Answer::of(&DENIED).into();
        }
        let fields = self.fields(country, asn);
        if !fields.is_empty() {
            self.granted.grant(request, fields);
        }
        Verdict::Continue
    }

    fn found(&self, address: IpAddr) -> Result<(Option<Country>, Option<u32>), String> {
        let country = self.countries.country(address)?;
        let asn = match &self.networks {
            Some(networks) => networks.asn(address)?,
            None => None,
        };
        Ok((country, asn))
    }

    fn lets_in(&self, country: Option<Country>, asn: Option<u32>) -> bool {
        if asn.is_some_and(|asn| self.deny_asns.contains(&asn)) {
            return false;
        }
        if self.allow.is_empty() && self.deny.is_empty() {
            return true;
        }
        match country {
            None => self.lets_unknown_in,
            Some(country) if self.deny.contains(&country) => false,
            Some(country) => self.allow.is_empty() || self.allow.contains(&country),
        }
    }

    fn fields(&self, country: Option<Country>, asn: Option<u32>) -> Vec<(HeaderName, HeaderValue)> {
        let country = self
            .country_field
            .clone()
            .zip(country.and_then(|one| one.value()));
        let asn = self.asn_field.clone().zip(asn.map(HeaderValue::from));
        [country, asn].into_iter().flatten().collect()
    }
}
