//! Who asks for what, as policies see it.
//! It must not judge.
//! Made by `Walk` for requests, by `proxy::tcp` for connections, by `standing` for streams under way.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::OnceLock;

use cel::common::types::{CelInt, CelString};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use windrose_plugins::contract::{Principal, PrincipalKind};

use crate::decide::conditions::field;
use crate::decide::Head;

/// Who asks for what.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Who it is in the end, as plugins proved it.
    pub principal: Option<&'a Principal>,
    /// Whom the connection proved, by its certificate.
    pub peer: Option<&'a Principal>,
    /// The client's address.
    pub client: IpAddr,
    /// The port that was connected to, where it is known.
    pub port: Option<u16>,
    /// The listener.
    pub listener: &'a str,
    /// The route.
    pub route: &'a str,
    /// The pool; empty for none.
    pub pool: &'a str,
    /// The name asked for in TLS, of connections passed through as bytes.
    pub sni: Option<&'a str>,
    /// The request; `None` for connections passed through as bytes.
    pub http: Option<Head<'a>>,
}

/// The parts of a SPIFFE ID that policies ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Workload<'a> {
    pub(super) trust_domain: &'a str,
    /// Empty where it has none.
    pub(super) namespace: &'a str,
    /// Empty where it has none.
    pub(super) account: &'a str,
}

impl<'a> Workload<'a> {
    /// Reads `spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT` and Consul's `…/ns/NAMESPACE/dc/CENTER/svc/SERVICE`, also with a partition
    /// before. An ID of any other shape, a longer one included, has a trust domain only: whoever may hand out
    /// `…/sa/web/anything` is not trusted to name `…/sa/web`.
    pub(super) fn of(id: &'a str) -> Option<Workload<'a>> {
        let (trust_domain, path) = id.strip_prefix("spiffe://")?.split_once('/')?;
        let mut words = [""; 9];
        let mut count = 0;
        for (place, word) in words.iter_mut().zip(path.split('/')) {
            *place = word;
            count += 1;
        }
        let (namespace, account) = match words.get(..count) {
            Some(["ns", namespace, "sa", account]) => (*namespace, *account),
            Some(
                ["ns", namespace, "dc", _, "svc", service]
                | ["ap", _, "ns", namespace, "dc", _, "svc", service],
            ) => (*namespace, *service),
            _ => ("", ""),
        };
        Some(Workload {
            trust_domain,
            namespace,
            account,
        })
    }
}

impl<'a> Subject<'a> {
    /// Both identities that are proven: of the connection, and of the request where it is another.
    pub(super) fn principals(&self) -> impl Iterator<Item = &'a Principal> {
        let own = self.principal;
        let peer = self.peer.filter(|peer| Some(*peer) != own);
        own.into_iter().chain(peer)
    }

    /// The ids of both, in the form policies use.
    pub(super) fn ids(&self) -> impl Iterator<Item = Cow<'a, str>> {
        self.principals().map(|principal| match principal.kind {
            PrincipalKind::Workload => Cow::Borrowed(principal.name.as_str()),
            PrincipalKind::Consumer | PrincipalKind::Certificate => Cow::Owned(principal.id()),
        })
    }

    /// The workload, if one is proven.
    pub(super) fn workload(&self) -> Option<Workload<'a>> {
        let mut all = self.principals();
        let workload = all.find(|principal| principal.kind == PrincipalKind::Workload)?;
        Workload::of(&workload.name)
    }

    /// The consumer's name, if one is proven.
    pub(super) fn consumer(&self) -> Option<&'a str> {
        let mut all = self.principals();
        let consumer = all.find(|principal| principal.kind == PrincipalKind::Consumer)?;
        Some(&consumer.name)
    }

    /// The host asked for, or the name in TLS.
    pub(super) fn host(&self) -> Option<&'a str> {
        match &self.http {
            Some(head) => Some(head.host),
            None => self.sni,
        }
    }

    /// Who it is, in words for logs; empty where nothing is proven.
    pub(super) fn name(&self) -> String {
        self.principal
            .or(self.peer)
            .map_or(String::new(), Principal::id)
    }
}

/// The variables of one expression about a subject.
pub(super) struct Variables<'a> {
    of: &'a Subject<'a>,
    /// The map of fields, made when it is asked for first: an expression may name many fields.
    fields: OnceLock<Option<Box<dyn Val>>>,
}

impl<'a> Variables<'a> {
    pub(super) fn of(subject: &'a Subject<'a>) -> Variables<'a> {
        Variables {
            of: subject,
            fields: OnceLock::new(),
        }
    }
}

impl Subject<'_> {
    fn fields(&self) -> Option<Box<dyn Val>> {
        let head = self.http.as_ref()?;
        let fields = head.headers.keys();
        let fields = fields.filter_map(|name| Some((name.as_str(), field(head.headers, name)?)));
        let fields: HashMap<&str, Cow<'_, str>> = fields.collect();
        cel::to_value(fields).ok()?.try_into().ok()
    }
}

impl VariableResolver for Variables<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let subject = self.of;
        let text = |text: &'b str| Some(CowVal::owned(CelString::from(text)));
        let owned = |text: String| Some(CowVal::owned(CelString::from(text)));
        let workload = || subject.workload();
        match variable {
            "request.method" => text(subject.http.as_ref()?.method.as_str()),
            "request.host" => text(subject.http.as_ref()?.host),
            "request.path" => text(subject.http.as_ref()?.path),
            "request.query" => text(subject.http.as_ref()?.query.unwrap_or_default()),
            "request.headers" => {
                let fields = self.fields.get_or_init(|| subject.fields());
                fields.as_deref().map(CowVal::Borrowed)
            }
            "source.principal" => owned(subject.name()),
            "source.trust_domain" => text(workload().map_or("", |it| it.trust_domain)),
            "source.namespace" => text(workload().map_or("", |it| it.namespace)),
            "source.service_account" => text(workload().map_or("", |it| it.account)),
            "source.consumer" => text(subject.consumer().unwrap_or_default()),
            "source.address" => owned(subject.client.to_canonical().to_string()),
            "destination.listener" => text(subject.listener),
            "destination.route" => text(subject.route),
            "destination.pool" => text(subject.pool),
            "destination.port" => Some(CowVal::owned(CelInt::from(i64::from(
                subject.port.unwrap_or(0),
            )))),
            _ => None,
        }
    }
}
