//! Cross-origin resource sharing as the Fetch standard defines it: answers preflights, marks responses as readable.
//! It must not know who may call: CORS tells browsers what scripts may read and protects no service by itself.
//! Called by the chain of a listener or route; name it before plugins that authenticate, as preflights carry no credentials.

mod origin;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{
    Answer, Blame, Build, Cause, Hooks, Plugin, PluginDef, Problem, Request, Response, Safety,
    Time, Verdict,
};

use origin::Origins;

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// A preflight was answered.
pub static PREFLIGHT: Cause = Cause {
    name: "cors.preflight",
    blame: Blame::Policy,
    status: 204,
    title: "Preflight answered",
    explanation: "A browser asked whether a script of another origin may send a request. The `cors` plugin answered; the service was not asked.",
    next_step: "Nothing is wrong. If the browser then refuses the request, its console names the origin, method or field that the plugin's settings lack.",
};

/// Settings of `cors`. Any CORS fields the service sends are replaced by the plugin's.
///
/// A preflight of an origin that is not allowed is answered 204 without CORS fields, which a browser reads as a
/// refusal; other requests of such an origin go on unmarked, as the standard has it, so they need their own policy.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Origins whose scripts may read responses: exact (`https://app.example.com`), any subdomain at any depth
    /// (`https://*.example.com`, not `example.com` itself), a regular expression for the whole origin after a tilde
    /// (`~https://pr-[0-9]+\.example\.com`), `null` (sandboxed frames: anybody can be that), or `*` for every origin.
    pub origins: Vec<String>,
    /// Lets scripts send cookies and other credentials, and read what comes back. Not together with the origin `*`.
    /// Default: `false`.
    #[serde(default)]
    pub credentials: bool,
    /// Methods scripts may use, case sensitive; `*` allows the one that is asked for. Default: `GET`, `HEAD`, `POST`,
    /// which browsers send without asking anyway.
    #[serde(default = "simple_methods")]
    pub methods: Vec<String>,
    /// Request fields scripts may set beyond the safelisted ones, such as `Authorization`; `*` allows those that are
    /// asked for. Default: none.
    #[serde(default)]
    pub headers: Vec<String>,
    /// Response fields scripts may read beyond the safelisted ones, such as `X-Request-Id`; `*` is every field and
    /// works without `credentials` only. Default: none.
    #[serde(default)]
    pub expose: Vec<String>,
    /// How long browsers remember a preflight's answer, in whole seconds; Chromium caps it at `2h`. `0s` makes them ask
    /// each time. Default: not sent, and browsers take 5 seconds.
    #[serde(default)]
    pub max_age: Option<Time>,
    /// Answers preflights by which public sites ask to reach this private network (`Access-Control-Request-Private-Network`)
    /// with yes. Default: `false`.
    #[serde(default)]
    pub private_network: bool,
}

impl Plugin for Config {
    const KIND: &'static str = "cors";
    const ABOUT: &'static str = "let scripts of other origins read responses";
    const EXAMPLE: &'static str = "origins: [https://app.example.com, \"https://*.example.org\"]\nmethods: [GET, POST, DELETE]\nheaders: [Authorization, Content-Type]\ncredentials: true\nmax_age: 1h";
    const SAFETY: Safety = Safety::Convenience;
    const CAUSES: &'static [&'static Cause] = &[&PREFLIGHT];

    fn build(self, _: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let policy = Arc::new(Policy::of(self)?);
        let preflight = policy.clone();
        Ok(Hooks::new()
            .on_request(move |request| preflight.preflight(request))
            .on_response(move |response| policy.mark(response)))
    }
}

fn simple_methods() -> Vec<String> {
    ["GET", "HEAD", "POST"].map(str::to_owned).to_vec()
}

/// Settings with every field value made.
struct Policy {
    origins: Origins,
    credentials: bool,
    methods: Listed,
    headers: Listed,
    expose: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
    private_network: bool,
}

/// What a list of names says in an answer.
enum Listed {
    Nothing,
    Names(HeaderValue),
    /// `*`: whatever was asked for. Repeated rather than sent as `*`, which does not cover credentials.
    Asked,
}

impl Policy {
    fn of(config: Config) -> Result<Policy, Vec<Problem>> {
        let mut problems = Vec::new();
        let origins = Origins::of(&config.origins, &mut problems);
        if config.credentials && config.origins.iter().any(|origin| origin == "*") {
            problems.push(
                Problem::at(
                    "credentials",
                    "browsers refuse credentials for the origin \"*\"",
                )
                .help("list the origins, or remove `credentials`"),
            );
        }
        if config.credentials && config.expose.iter().any(|name| name == "*") {
            problems.push(
                Problem::at(
                    "expose",
                    "\"*\" means nothing to browsers when credentials are sent",
                )
                .help("list the fields"),
            );
        }
        let methods = listed("methods", &config.methods, &mut problems);
        let headers = listed("headers", &config.headers, &mut problems);
        let expose = match listed("expose", &config.expose, &mut problems) {
            Listed::Nothing => None,
            Listed::Names(names) => Some(names),
            Listed::Asked => Some(HeaderValue::from_static("*")),
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Policy {
            origins,
            credentials: config.credentials,
            methods,
            headers,
            expose,
            max_age: config
                .max_age
                .map(|time| HeaderValue::from(time.0.as_secs())),
            private_network: config.private_network,
        })
    }

    fn preflight(&self, request: &Request<'_>) -> Verdict {
        let asked = &request.head.headers;
        let origin = asked.get(header::ORIGIN);
        let method = asked.get(header::ACCESS_CONTROL_REQUEST_METHOD);
        match (origin, method) {
            (Some(origin), Some(method)) if request.head.method == Method::OPTIONS => {
                self.answer(asked, origin, method).into()
            }
            // A plain OPTIONS is the service's to answer.
            _ => Verdict::Continue,
        }
    }

    fn answer(&self, asked: &HeaderMap, origin: &HeaderValue, method: &HeaderValue) -> Answer {
        let mut answer = Answer::of(&PREFLIGHT).with(header::VARY, self.preflight_vary());
        // 204 has no body; without this the proxy would render one.
        answer.body = Some((HeaderValue::from_static("text/plain"), Bytes::new()));
        let Some(allowed) = self.origins.allow(origin) else {
            return answer;
        };
        answer = answer.with(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.credentials {
            answer = answer.with(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes());
        }
        if let Some(methods) = self.methods.value(Some(method)) {
            answer = answer.with(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        }
        let wanted = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
        if let Some(headers) = self.headers.value(wanted) {
            answer = answer.with(header::ACCESS_CONTROL_ALLOW_HEADERS, headers);
        }
        if let Some(max_age) = &self.max_age {
            answer = answer.with(header::ACCESS_CONTROL_MAX_AGE, max_age.clone());
        }
        let private = asked.get(&REQUEST_PRIVATE_NETWORK);
        if self.private_network && private.is_some_and(|value| value == "true") {
            answer = answer.with(ALLOW_PRIVATE_NETWORK.clone(), yes());
        }
        answer
    }

    /// What the answer depends on, also when it is a refusal: a cache must not hand it to another origin.
    fn preflight_vary(&self) -> HeaderValue {
        HeaderValue::from_static(match self.private_network {
            true => "Origin, Access-Control-Request-Method, Access-Control-Request-Headers, Access-Control-Request-Private-Network",
            false => "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
        })
    }

    fn mark(&self, response: &mut Response<'_>) -> Verdict {
        if response.cause == Some(&PREFLIGHT) {
            return Verdict::Continue;
        }
        let origin = response.request.headers.get(header::ORIGIN);
        let allowed = origin.and_then(|origin| self.origins.allow(origin));
        response.change(|fields| self.write(fields, allowed));
        Verdict::Continue
    }

    fn write(&self, fields: &mut HeaderMap, allowed: Option<HeaderValue>) {
        for name in &UPSTREAMS_OWN {
            fields.remove(name);
        }
        if !self.origins.are_any() {
            // Even without an Origin: the cached response would lack the field when a script asks next.
            add_vary_origin(fields);
        }
        let allowed = match (allowed, self.origins.are_any()) {
            (Some(allowed), _) => allowed,
            (None, true) => HeaderValue::from_static("*"),
            (None, false) => return,
        };
        fields.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.credentials {
            fields.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes());
        }
        if let Some(expose) = &self.expose {
            fields.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }
}

impl Listed {
    fn value(&self, asked: Option<&HeaderValue>) -> Option<HeaderValue> {
        match self {
            Listed::Nothing => None,
            Listed::Names(names) => Some(names.clone()),
            Listed::Asked => asked.cloned(),
        }
    }
}

fn listed(path: &str, names: &[String], problems: &mut Vec<Problem>) -> Listed {
    let before = problems.len();
    for (index, name) in names.iter().enumerate() {
        // Methods and field names are both tokens (RFC 9110 section 5.6.2), and so is `*`.
        if Method::from_bytes(name.as_bytes()).is_err() {
            let fact = format!("\"{name}\" is not a name");
            problems.push(
                Problem::at(format!("{path}[{index}]"), fact)
                    .help("write one name per entry, without spaces or commas"),
            );
        } else if path == "methods" && names_known_method_in_lower_case(name) {
            let upper = name.to_ascii_uppercase();
            let fact = format!("methods are case sensitive and \"{name}\" is not one");
            problems.push(
                Problem::at(format!("{path}[{index}]"), fact).help(format!("write \"{upper}\"")),
            );
        }
    }
    if names.iter().any(|name| name == "*") {
        return Listed::Asked;
    }
    match HeaderValue::from_str(&names.join(", ")) {
        Ok(names) if problems.len() == before && !names.is_empty() => Listed::Names(names),
        Ok(_) | Err(_) => Listed::Nothing,
    }
}

fn names_known_method_in_lower_case(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    name != upper
        && ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"].contains(&upper.as_str())
}

fn add_vary_origin(fields: &mut HeaderMap) {
    let vary = fields.get_all(header::VARY);
    let says_so = vary.iter().any(|value| {
        let mut names = value.to_str().unwrap_or_default().split(',').map(str::trim);
        names.any(|name| name == "*" || name.eq_ignore_ascii_case("origin"))
    });
    if !says_so {
        fields.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}

fn yes() -> HeaderValue {
    HeaderValue::from_static("true")
}

static REQUEST_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-request-private-network");
static ALLOW_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-allow-private-network");
static UPSTREAMS_OWN: [HeaderName; 7] = [
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
    HeaderName::from_static("access-control-allow-private-network"),
];
