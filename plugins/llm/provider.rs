//! Providers: which one an endpoint belongs to, and what its requests need: a key, a host, a name for the model.
//! It must not show keys, nor let a client's own through.
//! Asked for each attempt, with the endpoint that was chosen.

use std::collections::BTreeMap;

use http::header::{AUTHORIZATION, COOKIE, HOST};
use http::{HeaderName, HeaderValue};
use pingora_http::RequestHeader;

use super::settings::Provider as Settings;
use crate::contract::{field_name, field_value, Build, Counter, Effects, Problem, Side, Upstream};

/// A provider.
pub(super) struct Provider {
    pub(super) name: String,
    pool: Option<String>,
    labels: BTreeMap<String, String>,
    key: Option<(HeaderName, HeaderValue)>,
    host: Option<HeaderValue>,
    headers: Vec<(HeaderName, HeaderValue)>,
    models: BTreeMap<String, String>,
    pub(super) asked: Counter,
}

impl Provider {
    /// All of them, in order.
    pub(super) fn all(
        settings: &[Settings],
        build: &Build<'_>,
        problems: &mut Vec<Problem>,
    ) -> Vec<Provider> {
        let mut all = Vec::new();
        for (at, one) in settings.iter().enumerate() {
            let path = format!("providers[{at}]");
            if settings[..at].iter().any(|other| other.name == one.name) {
                let fact = format!("another provider is named \"{}\"", one.name);
                problems.push(Problem::at(format!("{path}.name"), fact).help("rename one of them"));
            }
            let before = &settings[..at];
            if before
                .iter()
                .any(|it| it.pool.is_none() && it.endpoints.is_empty())
            {
                problems.push(
                    Problem::at(
                        path.clone(),
                        "is never used: one before it is for all endpoints",
                    )
                    .help("give that one `endpoints` or `pool`, or put it last"),
                );
            }
            match Provider::of(one, &path, build) {
                Ok(provider) => all.push(provider),
                Err(found) => problems.extend(found),
            }
        }
        all
    }

    fn of(settings: &Settings, path: &str, build: &Build<'_>) -> Result<Provider, Vec<Problem>> {
        let mut problems = Vec::new();
        let key = key(settings, path).map_err(|problem| problems.push(problem));
        let host = settings.host.as_ref().map(|host| host_value(host, path));
        let host = host.transpose().map_err(|problem| problems.push(problem));
        let mut headers = Vec::new();
        for (name, value) in &settings.headers {
            let path = format!("{path}.headers.{name}");
            let name = field_name(Side::Request, &path, name);
            match (name, field_value(&path, value)) {
                (Ok(name), Ok(value)) => headers.push((name, value)),
                (name, value) => problems.extend(name.err().into_iter().chain(value.err())),
            }
        }
        let is_named = !settings.name.is_empty() && settings.name.len() <= 64;
        if !is_named {
            let fact = "a provider's name has 1 to 64 characters";
            problems.push(Problem::at(format!("{path}.name"), fact));
        }
        match (key, host) {
            (Ok(key), Ok(host)) if problems.is_empty() => Ok(Provider {
                name: settings.name.clone(),
                pool: settings.pool.clone(),
                labels: settings.endpoints.clone(),
                key,
                host,
                headers,
                models: settings.models.clone(),
                asked: build.counter_of("attempts", &settings.name),
            }),
            _ => Err(problems),
        }
    }

    /// Whether an endpoint is one of its own.
    pub(super) fn has(&self, upstream: &Upstream<'_>) -> bool {
        let has_label =
            |(name, value): (&String, &String)| upstream.labels.get(name) == Some(value);
        self.pool.as_ref().is_none_or(|pool| pool == upstream.pool)
            && self.labels.iter().all(has_label)
    }

    /// Whether it calls models otherwise.
    pub(super) fn renames(&self) -> bool {
        !self.models.is_empty()
    }

    /// Whether all endpoints are.
    pub(super) fn has_all(&self) -> bool {
        self.pool.is_none() && self.labels.is_empty()
    }

    /// What it calls a model that is called so elsewhere.
    pub(super) fn model<'m>(&'m self, asked: &str, otherwise: &'m str) -> &'m str {
        self.models.get(asked).map_or(otherwise, String::as_str)
    }

    /// Puts into a request what it needs. A dry run does not get to see the key.
    pub(super) fn dress(&self, head: &mut RequestHeader, effects: Effects) {
        strip(head);
        // All of them are parsed names and values.
        for (name, value) in &self.headers {
            let _ = head.insert_header(name.clone(), value.clone());
        }
        if let Some(host) = &self.host {
            let _ = head.insert_header(HOST, host.clone());
        }
        if let Some((name, key)) = &self.key {
            let value = match effects.is_live() {
                true => key.clone(),
                false => HeaderValue::from_static("***"),
            };
            let _ = head.insert_header(name.clone(), value);
        }
    }
}

/// Takes the client's own credentials away: they are for the proxy.
fn strip(head: &mut RequestHeader) {
    for name in [AUTHORIZATION, COOKIE].iter().chain(&OWN) {
        head.remove_header(name);
    }
}

fn key(settings: &Settings, path: &str) -> Result<Option<(HeaderName, HeaderValue)>, Problem> {
    let path = format!("{path}.key");
    let Some(key) = &settings.key else {
        return Ok(None);
    };
    let name = settings.key_header.as_deref().unwrap_or("authorization");
    let name = field_name(Side::Request, &format!("{path}_header"), name)?;
    let key = key.trim();
    let text = match name == AUTHORIZATION {
        true => format!("Bearer {key}"),
        false => key.to_owned(),
    };
    // Not `field_value`, which repeats what it was given.
    let value = HeaderValue::from_str(&text)
        .ok()
        .filter(|_| !key.is_empty());
    let Some(mut value) = value else {
        let fact = "the key is empty, or holds characters that a field cannot carry";
        return Err(Problem::at(path, fact).help("write `${file:PATH}` or `${env:NAME}`"));
    };
    value.set_sensitive(true);
    Ok(Some((name, value)))
}

fn host_value(host: &str, path: &str) -> Result<HeaderValue, Problem> {
    let path = format!("{path}.host");
    let is_host = host
        .parse::<http::uri::Authority>()
        .is_ok_and(|it| !it.as_str().contains('@'));
    match is_host {
        true => field_value(&path, host),
        false => Err(Problem::at(path, format!("{host:?} is no host"))
            .help("write a name, and a port if it is not the scheme's")),
    }
}

static OWN: [HeaderName; 5] = [
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
    HeaderName::from_static("openai-organization"),
    HeaderName::from_static("openai-project"),
];
