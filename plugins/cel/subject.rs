//! What an expression can ask about a request, found out when it is asked for.
//! It must not judge.
//! Made for each request by the plugin `cel`, and by keys and costs of limits that are expressions.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::OnceLock;

use cel::common::types::{CelBool, CelString};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use http::{HeaderMap, HeaderName};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::contract::{
    CertificateFacts, Claims, Consumer, Consumers, Principal, PrincipalKind, Request,
};
use crate::expression::Vocabulary;

/// Everything that can be asked.
pub(crate) const VOCABULARY: Vocabulary = Vocabulary {
    variables: &[
        "request.method",
        "request.host",
        "request.path",
        "request.query",
        "request.headers",
        "source.principal",
        "source.consumer",
        "source.groups",
        "source.metadata",
        "source.address",
        "source.secure",
        "destination.listener",
        "destination.route",
        "claims",
        "connection.certificate.common_name",
        "connection.certificate.subject",
        "connection.certificate.issuer",
        "connection.certificate.serial",
        "connection.certificate.fingerprint",
        "connection.certificate.dns",
        "connection.certificate.uris",
        "connection.certificate.emails",
    ],
    maps: &["request.headers", "source.metadata"],
    trees: &["claims"],
    loops: true,
};

/// A request, as expressions see it. What is costly is made when it is asked for first.
pub(crate) struct Subject<'a> {
    request: &'a Request<'a>,
    consumer: Option<&'a Consumer>,
    headers: OnceLock<Made>,
    groups: OnceLock<Made>,
    metadata: OnceLock<Made>,
    claims: OnceLock<Made>,
    dns: OnceLock<Made>,
    uris: OnceLock<Made>,
    emails: OnceLock<Made>,
}

type Made = Option<Box<dyn Val>>;

impl<'a> Subject<'a> {
    pub(crate) fn of(request: &'a Request<'a>, consumers: &'a Consumers) -> Subject<'a> {
        let principal = request.principal.as_ref();
        let consumer = principal.filter(|one| one.kind == PrincipalKind::Consumer);
        Subject {
            request,
            consumer: consumer.and_then(|one| Some(&**consumers.named(&one.name)?)),
            headers: OnceLock::new(),
            groups: OnceLock::new(),
            metadata: OnceLock::new(),
            claims: OnceLock::new(),
            dns: OnceLock::new(),
            uris: OnceLock::new(),
            emails: OnceLock::new(),
        }
    }

    fn principal(&self) -> Option<&Principal> {
        self.request.principal.as_ref()
    }

    fn fields(&self) -> HashMap<&str, Cow<'_, str>> {
        let headers = &self.request.head.headers;
        let fields = headers.keys();
        let fields = fields.map(|name| (name.as_str(), joined(headers, name)));
        fields.collect()
    }
}

/// The values of a field, joined as RFC 9110 section 5.3 says. Bytes that are not UTF-8 are replaced: a field that is there must
/// not seem to be missing.
fn joined<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Cow<'h, str> {
    let values = headers.get_all(name).iter();
    let mut texts = values.map(|value| String::from_utf8_lossy(value.as_bytes()));
    let first = texts.next().unwrap_or_default();
    texts.fold(first, |all, more| Cow::Owned(format!("{all}, {more}")))
}

fn made(value: impl Serialize) -> Made {
    cel::to_value(value).ok()?.try_into().ok()
}

/// Claims with their whole numbers signed, as numbers in expressions are: `claims.level == 3`.
struct Members<'c>(&'c Claims);

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(name, value)| (name, Claim(value))))
    }
}

struct Claim<'c>(&'c Value);

impl Serialize for Claim<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => to.serialize_i64(whole),
                (None, share) => share.serialize(to),
            },
            Value::Array(items) => to.collect_seq(items.iter().map(Claim)),
            Value::Object(members) => Members(members).serialize(to),
            other => other.serialize(to),
        }
    }
}

impl VariableResolver for Subject<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let text = |text: &'b str| Some(CowVal::owned(CelString::from(text)));
        let owned = |text: String| Some(CowVal::owned(CelString::from(text)));
        let client = self.request.client;
        let consumer = || {
            self.principal()
                .filter(|one| one.kind == PrincipalKind::Consumer)
        };
        match variable {
            "request.method" => text(self.request.head.method.as_str()),
            "request.host" => text(client.host),
            "request.path" => text(client.path),
            "request.query" => text(self.request.head.uri.query().unwrap_or_default()),
            "request.headers" => {
                let headers = self.headers.get_or_init(|| made(self.fields()));
                headers.as_deref().map(CowVal::Borrowed)
            }
            "source.principal" => owned(self.principal().map(Principal::id).unwrap_or_default()),
            "source.consumer" => text(consumer().map_or("", |one| &one.name)),
            "source.groups" => {
                let groups = || {
                    made(
                        self.consumer
                            .map(|one| &one.groups)
                            .unwrap_or(&NOBODY.groups),
                    )
                };
                self.groups
                    .get_or_init(groups)
                    .as_deref()
                    .map(CowVal::Borrowed)
            }
            "source.metadata" => {
                let all = || {
                    made(
                        self.consumer
                            .map(|one| &one.metadata)
                            .unwrap_or(&NOBODY.metadata),
                    )
                };
                self.metadata
                    .get_or_init(all)
                    .as_deref()
                    .map(CowVal::Borrowed)
            }
            "source.address" => owned(client.address.to_canonical().to_string()),
            "source.secure" => Some(CowVal::owned(CelBool::from(client.secure))),
            "destination.listener" => text(client.listener),
            "destination.route" => text(client.route),
            "claims" => {
                let of_token = || match self.principal().and_then(|one| one.claims.as_deref()) {
                    Some(claims) => made(Members(claims)),
                    None => made(Claims::new()),
                };
                self.claims
                    .get_or_init(of_token)
                    .as_deref()
                    .map(CowVal::Borrowed)
            }
            _ => self.of_certificate(variable.strip_prefix("connection.certificate.")?),
        }
    }
}

impl Subject<'_> {
    /// Something that the connection's certificate says; empty where there is none.
    fn of_certificate<'b>(&'b self, what: &str) -> Option<CowVal<'b, 'b>> {
        let facts = match self.request.client.certificate {
            Some(certificate) => certificate.facts(),
            None => &NO_CERTIFICATE,
        };
        let text = |text: &'b str| Some(CowVal::owned(CelString::from(text)));
        let list = |kept: &'b OnceLock<Made>, names: &[String]| {
            let names = kept.get_or_init(|| made(names));
            names.as_deref().map(CowVal::Borrowed)
        };
        match what {
            "common_name" => text(&facts.common_name),
            "subject" => text(&facts.subject),
            "issuer" => text(&facts.issuer),
            "serial" => text(&facts.serial),
            "fingerprint" => text(&facts.fingerprint),
            "dns" => list(&self.dns, &facts.dns),
            "uris" => list(&self.uris, &facts.uris),
            "emails" => list(&self.emails, &facts.emails),
            _ => None,
        }
    }
}

static NO_CERTIFICATE: CertificateFacts = CertificateFacts {
    common_name: String::new(),
    subject: String::new(),
    issuer: String::new(),
    serial: String::new(),
    fingerprint: String::new(),
    dns: Vec::new(),
    uris: Vec::new(),
    emails: Vec::new(),
    not_after: 0,
};

static NOBODY: Consumer = Consumer {
    name: String::new(),
    groups: std::collections::BTreeSet::new(),
    metadata: std::collections::BTreeMap::new(),
};
