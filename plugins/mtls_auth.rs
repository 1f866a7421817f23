//! Proves the caller to be the consumer whom the client certificate of its connection names.
//! It must not judge the handshake, which the listener has done, nor what the consumer may do.
//! Called by the chain of a listener or route that names it, where clients show certificates.

mod says;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{
    field_name, field_value, Answer, Authorities, Blame, Build, Cause, CertificateFacts,
    CertificateField, ClientCertificate, Clock, Consumer, Consumers, Counter, Effects, Hooks,
    Plugin, PluginDef, Principal, Problem, Request, Safety, Side, Texts, Unknown, Verdict,
};
use crate::granted::{Granted, Names};

pub use says::Says;

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// No certificate was shown.
pub static MISSING: Cause = Cause {
    name: "auth.mtls_missing",
    blame: Blame::Client,
    status: 401,
    title: "Unauthorized",
    explanation: "The client showed no certificate when it connected, and an `mtls_auth` plugin needs one.",
    next_step: "Connect with a certificate (`curl --cert FILE --key FILE`). A proxy in front that ends TLS ends the client's certificate as well: its own is looked at then.",
};

/// Other authorities vouch for it.
pub static UNTRUSTED: Cause = Cause {
    name: "auth.mtls_untrusted",
    blame: Blame::Client,
    status: 401,
    title: "Unauthorized",
    explanation: "The listener believes the client's certificate, and none of the authorities in the plugin's `ca` vouches for it, or not as a client's.",
    next_step: "Compare who issued it (`openssl x509 -noout -issuer`) with the files of `ca`. Authorities between it and a root belong into them: a resumed session of TLS has the client's certificate only.",
};

/// It is over.
pub static EXPIRED: Cause = Cause {
    name: "auth.mtls_expired",
    blame: Blame::Client,
    status: 401,
    title: "Unauthorized",
    explanation: "The client's certificate has ended since the connection was made, or before the session was that it resumes.",
    next_step: "The client has to connect with a new certificate.",
};

/// Nobody is known by it.
pub static CONSUMER: Cause = Cause {
    name: "auth.mtls_consumer",
    blame: Blame::Policy,
    status: 403,
    title: "Forbidden",
    explanation: "The client's certificate is right, and nobody among `consumers` is known by what it says.",
    next_step: "Compare the certificate (`openssl x509 -noout -subject -nameopt RFC2253 -ext subjectAltName -fingerprint -sha256`) with `certificates` of the consumer it should be, and with the plugin's `by`.",
};

/// Several are known by it.
pub static AMBIGUOUS: Cause = Cause {
    name: "auth.mtls_ambiguous",
    blame: Blame::Policy,
    status: 403,
    title: "Forbidden",
    explanation: "The client's certificate has several names of one kind, by which several of `consumers` are known.",
    next_step: "Let the certificate name one of them, or know it by something that says more, such as its `fingerprint` or `subject`.",
};

/// Settings of `mtls_auth`. Whether clients are asked for certificates, and whose are believed, the listener says
/// (`tls.client_certificates`, or `mtls`); without either this plugin is refused. What a certificate says is read once for a
/// connection.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// By what consumers are looked for, in this order, of what they list under `certificates`: the first kind by which
    /// somebody is known decides. Default: `[fingerprint, uri, dns, email, subject, common_name, issuer]`.
    #[serde(default = "all")]
    pub by: Vec<CertificateField>,
    /// What is the name of a consumer, for certificates that nobody lists: `common_name`, `dns`, `uri` or `email`. It has to be
    /// one of `consumers`. Only where the authorities give those names to nobody else. Default: nothing.
    #[serde(default)]
    pub name: Option<CertificateField>,
    /// What becomes of a certificate by which nobody is known: `refuse`, or `pass`, which leaves the principal that the
    /// connection has (`certificate:NAME`). Default: `refuse`.
    #[serde(default)]
    pub unknown: UnknownClient,
    /// Files of authorities in PEM, relative to the configuration's folder, to one of which a certificate has to lead: fewer
    /// than the listener believes. Read on load and reload only; at most 16. Put authorities between a root and certificates into
    /// them, too: when TLS resumes a session, what the client sent along is gone. What is found out holds for five minutes of a
    /// connection. Default: the listener's suffice.
    #[serde(default)]
    pub ca: Texts,
    /// Lets requests of connections without any certificate go on, unproven, for a later plugin or a policy to judge. One that
    /// is wrong is refused all the same. Default: `false`.
    #[serde(default)]
    pub optional: bool,
    /// Fields that the service gets, by name, each with what it says: `common_name`, `subject`, `issuer` (as RFC 4514 writes
    /// them), `serial`, `fingerprint`, `dns`, `uris`, `emails` (lists with commas between), or `der`, the certificate as RFC 9440
    /// writes it for `client-cert`. What no field can carry is percent-encoded. Copies that clients send, also spelled with `_`,
    /// are removed, also where no certificate came. At most 16. Default: none.
    #[serde(default)]
    pub headers: BTreeMap<String, Says>,
    /// What the answer 401 calls the place, in a challenge of the scheme `Certificate`, which no standard has a word for.
    /// Default: `Restricted`.
    #[serde(default = "restricted")]
    pub realm: String,
}

/// What becomes of a certificate by which nobody is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownClient {
    /// The request is refused.
    #[default]
    Refuse,
    /// The request goes on as whom the connection proved.
    Pass,
}

fn all() -> Vec<CertificateField> {
    CertificateField::ALL.into()
}

fn restricted() -> String {
    "Restricted".to_owned()
}

impl Plugin for Config {
    const KIND: &'static str = "mtls_auth";
    const ABOUT: &'static str = "know consumers by their client certificates";
    const EXAMPLE: &'static str = "by: [fingerprint, dns]\nheaders: {x-client: subject}";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] =
        &[&MISSING, &UNTRUSTED, &EXPIRED, &CONSUMER, &AMBIGUOUS];
    const ABSENT: Option<&'static Cause> = Some(&MISSING);

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let gate = Gate::of(&self, build)?;
        let hooks = gate.granted.clone().attach(Hooks::new(), None);
        let hooks = hooks.with_client_certificates();
        Ok(hooks.on_request(move |request| gate.check(request)))
    }
}

struct Gate {
    by: Vec<CertificateField>,
    name: Option<CertificateField>,
    unknown: UnknownClient,
    authorities: Vec<Authorities>,
    optional: bool,
    consumers: Arc<Consumers>,
    granted: Granted,
    fields: Vec<(HeaderName, Says)>,
    challenge: HeaderValue,
    clock: Clock,
    refused: Counter,
}

impl Gate {
    fn of(config: &Config, build: &Build<'_>) -> Result<Gate, Vec<Problem>> {
        let mut problems = Vec::new();
        known(config, build, &mut problems);
        let authorities = authorities(&config.ca, build, &mut problems);
        let fields = fields(&config.headers, &mut problems);
        let mut names = Names::default();
        fields.iter().for_each(|(name, _)| names.add(name.clone()));
        let escaped = config.realm.replace('\\', "\\\\").replace('"', "\\\"");
        let challenge = field_value("realm", &format!("Certificate realm=\"{escaped}\""));
        let challenge = challenge.map_err(|problem| problems.push(problem));
        match challenge {
            Ok(challenge) if problems.is_empty() => Ok(Gate {
                by: config.by.clone(),
                name: config.name,
                unknown: config.unknown,
                authorities,
                optional: config.optional,
                consumers: build.consumers.clone(),
                granted: Granted::new(names, build.slot()),
                fields,
                challenge,
                clock: build.clock.clone(),
                refused: build.counter("refused"),
            }),
            _ => Err(problems),
        }
    }

    fn check(&self, request: &mut Request<'_>) -> Verdict {
        self.granted.strip(request);
        let Some(certificate) = request.client.certificate else {
            return self.without(request.effects);
        };
        let facts = certificate.facts();
        match self.judge(certificate, facts) {
            Ok(consumer) => {
                if let Some(consumer) = consumer {
                    *request.principal = Some(Principal::consumer(consumer.name.clone()));
                }
                let says =
                    |(name, says): &(HeaderName, Says)| Some((name.clone(), says.of(certificate)?));
                let fields = self.fields.iter().filter_map(says).collect();
                self.granted.grant(request, fields);
                Verdict::Continue
            }
            Err(cause) => self.refuse(cause, request.effects),
        }
    }

    /// A dry run has no connection: what one would have brought is not known.
    fn without(&self, effects: Effects) -> Verdict {
        match (effects.is_live(), self.optional) {
            (false, _) => Verdict::Unknown(Unknown::from("the connection's client certificate")),
            (true, true) => Verdict::Continue,
            (true, false) => self.refuse(&MISSING, effects),
        }
    }

    /// Who it is; nobody where that may be.
    fn judge(
        &self,
        certificate: &ClientCertificate,
        facts: &CertificateFacts,
    ) -> Result<Option<&Consumer>, &'static Cause> {
        let now = self.clock.unix().as_secs();
        if i64::try_from(now).is_ok_and(|now| now > facts.not_after) {
            return Err(&EXPIRED);
        }
        let elapsed = self.clock.elapsed();
        let mut believed = self.authorities.iter();
        if !self.authorities.is_empty() && !believed.any(|one| certificate.leads_to(one, elapsed)) {
            return Err(&UNTRUSTED);
        }
        for field in &self.by {
            let known = |value: &String| {
                let issuer = &facts.issuer;
                self.consumers.with_certificate(*field, value, issuer)
            };
            if let Some(found) = only(field.of(facts).iter().filter_map(known))? {
                return Ok(Some(found));
            }
        }
        let names = self.name.iter().flat_map(|field| field.of(facts));
        let named = only(names.filter_map(|name| self.consumers.named(name)))?;
        match (named, self.unknown) {
            (Some(consumer), _) => Ok(Some(consumer)),
            (None, UnknownClient::Pass) => Ok(None),
            (None, UnknownClient::Refuse) => Err(&CONSUMER),
        }
    }

    fn refuse(&self, cause: &'static Cause, effects: Effects) -> Verdict {
        if effects.is_live() {
            (self.refused)(1);
        }
        match cause.status {
            401 => {
                let challenge = self.challenge.clone();
                Answer::of(cause).with(WWW_AUTHENTICATE, challenge).into()
            }
            _ => Answer::of(cause).into(),
        }
    }
}

/// The one consumer that all of these are.
fn only<'c>(
    all: impl Iterator<Item = &'c Arc<Consumer>>,
) -> Result<Option<&'c Consumer>, &'static Cause> {
    let mut found: Option<&Arc<Consumer>> = None;
    for one in all {
        match found {
            Some(other) if other.name != one.name => return Err(&AMBIGUOUS),
            _ => found = Some(one),
        }
    }
    Ok(found.map(|one| &**one))
}

/// Whether anybody could be known.
fn known(config: &Config, build: &Build<'_>, problems: &mut Vec<Problem>) {
    for (at, field) in config.by.iter().enumerate() {
        if config.by[..at].contains(field) {
            let problem = Problem::at(format!("by[{at}]"), "is there twice");
            problems.push(problem.help("remove one of them"));
        }
    }
    let names_one = [
        CertificateField::CommonName,
        CertificateField::Dns,
        CertificateField::Uri,
        CertificateField::Email,
    ];
    if config.name.is_some_and(|field| !names_one.contains(&field)) {
        let problem = Problem::at("name", "is nobody's name");
        problems.push(problem.help("write `common_name`, `dns`, `uri` or `email`"));
    }
    let none_listed = config.by.is_empty() || !build.consumers.have_certificates();
    if none_listed && config.name.is_none() && config.unknown == UnknownClient::Refuse {
        let fact = "no consumer is known by a certificate, so nobody could be proven";
        let remedy = "give `consumers` some `certificates`, take their `name` from the certificate, or set `unknown: pass`";
        problems.push(Problem::at("", fact).help(remedy));
    }
}

fn authorities(files: &Texts, build: &Build<'_>, problems: &mut Vec<Problem>) -> Vec<Authorities> {
    if files.0.len() > MOST_FILES {
        let fact = format!("names {} files; {MOST_FILES} are the most", files.0.len());
        problems.push(Problem::at("ca", fact).help("put several authorities into one file"));
        return Vec::new();
    }
    let mut all = Vec::new();
    for (at, file) in files.0.iter().enumerate() {
        let path = build.path(file);
        let text = std::fs::read(&path).map_err(|error| format!("cannot be read: {error}"));
        match text.and_then(|text| Authorities::pem(&text)) {
            Ok(one) => all.push(one),
            Err(fact) => {
                let fact = format!("{} {fact}", path.display());
                let problem = Problem::at(format!("ca[{at}]"), fact);
                problems.push(problem.help("name a file with certificates in PEM"));
            }
        }
    }
    all
}

fn fields(
    headers: &BTreeMap<String, Says>,
    problems: &mut Vec<Problem>,
) -> Vec<(HeaderName, Says)> {
    if headers.len() > MOST_FIELDS {
        let fact = format!("has {} fields; {MOST_FIELDS} are the most", headers.len());
        problems.push(Problem::at("headers", fact).help("keep those that the service reads"));
    }
    let mut fields = Vec::new();
    for (name, says) in headers {
        let path = format!("headers.{name}");
        match field_name(Side::Request, &path, name) {
            Ok(name) if TAKEN.contains(&name) => {
                let fact = format!("a certificate must not become \"{name}\"");
                problems.push(Problem::at(path, fact).help("choose another name"));
            }
            Ok(name) => fields.push((name, *says)),
            Err(problem) => problems.push(problem),
        }
    }
    fields
}

const MOST_FILES: usize = 16;
const MOST_FIELDS: usize = 16;
/// What would take another request's place.
const TAKEN: [HeaderName; 2] = [http::header::HOST, http::header::AUTHORIZATION];
