//! Who asks for what, as policies see it.
//! It must not judge.
//! Made by `Walk` for requests, by `proxy::tcp` for connections, by `standing` for streams under way.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;

use cel::common::types::{CelInt, CelString};
use cel::common::value::CowVal;
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
    /// Reads `spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT` and Consul's `…/ns/NAMESPACE/dc/CENTER/svc/SERVICE`, also with a partition before.
    pub(super) fn of(id: &'a str) -> Option<Workload<'a>> {
        let (trust_domain, path) = id.strip_prefix("spiffe://")?.split_once('/')?;
        let mut workload = Workload {
            trust_domain,
            namespace: "",
            account: "",
        };
        let mut words = path.split('/');
        while let (Some(key), Some(value)) = (words.next(), words.next()) {
            match key {
                "ns" => workload.namespace = value,
                "sa" | "svc" => workload.account = value,
                "ap" | "dc" => {}
                _ => break,
            }
        }
        Some(workload)
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

/// The variables of expressions.
impl VariableResolver for Subject<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let text = |text: &'b str| Some(CowVal::owned(CelString::from(text)));
        let owned = |text: String| Some(CowVal::owned(CelString::from(text)));
        let workload = || self.workload();
        match variable {
            "request.method" => text(self.http.as_ref()?.method.as_str()),
            "request.host" => text(self.http.as_ref()?.host),
            "request.path" => text(self.http.as_ref()?.path),
            "request.query" => text(self.http.as_ref()?.query.unwrap_or_default()),
            "request.headers" => {
                let head = self.http.as_ref()?;
                let fields = head.headers.keys();
                let fields =
                    fields.filter_map(|name| Some((name.as_str(), field(head.headers, name)?)));
                let fields: HashMap<&str, Cow<'_, str>> = fields.collect();
                cel::to_value(fields)
                    .ok()?
                    .try_into()
                    .ok()
                    .map(CowVal::Owned)
            }
            "source.principal" => owned(self.name()),
            "source.trust_domain" => text(workload().map_or("", |it| it.trust_domain)),
            "source.namespace" => text(workload().map_or("", |it| it.namespace)),
            "source.service_account" => text(workload().map_or("", |it| it.account)),
            "source.consumer" => text(self.consumer().unwrap_or_default()),
            "source.address" => owned(self.client.to_canonical().to_string()),
            "destination.listener" => text(self.listener),
            "destination.route" => text(self.route),
            "destination.pool" => text(self.pool),
            "destination.port" => Some(CowVal::owned(CelInt::from(i64::from(
                self.port.unwrap_or(0),
            )))),
            _ => None,
        }
    }
}
