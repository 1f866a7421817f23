//! The configuration's own tests: requests run through `decide` and the plugins, without effects.
//! It must not decide anything itself.
//! Called by `build`, so that `check` and every reload run them.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::{HeaderMap, Method, Uri};
use pingora::http::RequestHeader;
use windrose_plugins::contract::{
    causes, Answer, ClientFacts, Effects, Principal, PrincipalKind, Request, Slots,
};

use super::report::Report;
use super::schema::{Config, ConfigTest, Expect, TestRequest};
use crate::decide::{self, canonical_host, canonical_path, Caller, Head, Silent};
use crate::snapshot::chain::Chain;
use crate::snapshot::listener::{Listener, Role};
use crate::snapshot::route::{Action, Candidate};
use crate::snapshot::Snapshot;

/// Runs every test; each difference is an error at the test's path.
pub(super) fn run(config: &Config, snapshot: &Snapshot, report: &mut Report) {
    for (at, test) in config.tests.iter().enumerate() {
        let path = format!("tests[{at}]");
        let name = test
            .name
            .clone()
            .unwrap_or_else(|| format!("{} {}", test.request.method, test.request.url));
        match outcome(snapshot, &test.request) {
            Ok(outcome) => compare(&outcome, test, &path, &name, report),
            Err(fact) => report.error(
                format!("{path}.request"),
                format!("test \"{name}\": {fact}"),
                "",
            ),
        }
    }
}

/// What became of a request.
#[derive(Default)]
struct Outcome {
    route: Option<String>,
    pools: Vec<String>,
    status: Option<u16>,
    cause: Option<&'static str>,
    path: Option<String>,
    host: Option<String>,
    location: Option<String>,
    headers: HeaderMap,
}

fn outcome(snapshot: &Snapshot, request: &TestRequest) -> Result<Outcome, String> {
    let listener = listener(snapshot, request)?;
    let uri: Uri = request
        .url
        .parse()
        .map_err(|error| format!("\"{}\" is no address: {error}", request.url))?;
    let method: Method = request
        .method
        .parse()
        .map_err(|_| format!("\"{}\" is no method", request.method))?;
    let authority = uri
        .authority()
        .ok_or_else(|| format!("\"{}\" names no host", request.url))?;
    let host =
        canonical_host(authority.as_str()).map_err(|_| format!("\"{authority}\" is no host"))?;
    let Ok(path) = canonical_path(uri.path()) else {
        return Ok(answered(None, &Answer::of(&causes::BAD_TARGET)));
    };
    let head = header(request, &method, &uri)?;
    let dry = DryRun {
        listener,
        client: request.from.unwrap_or(IpAddr::from([192, 0, 2, 1])),
        secure: uri.scheme_str() == Some("https"),
        host: &host.name,
        port: host.port,
        path: &path,
        method: &method,
        query: uri.query(),
    };
    Ok(dry.run(head, request.principal.as_deref().map(principal)))
}

/// A request taken through listener plugins, decision, route plugins and action, as the data path does.
struct DryRun<'a> {
    listener: &'a Listener,
    client: IpAddr,
    secure: bool,
    host: &'a str,
    port: Option<u16>,
    path: &'a str,
    method: &'a Method,
    query: Option<&'a str>,
}

impl DryRun<'_> {
    fn run(&self, mut head: RequestHeader, mut principal: Option<Principal>) -> Outcome {
        let mut slots = Slots::default();
        if let Some(answer) = self.plugins(
            &self.listener.chain,
            "",
            &mut head,
            &mut principal,
            &mut slots,
        ) {
            return answered(None, &answer);
        }
        let headers = head.headers.clone();
        let decided = Head {
            method: self.method,
            host: self.listener.service.as_deref().unwrap_or(self.host),
            path: self.path,
            query: self.query,
            headers: &headers,
        };
        let id = principal.as_ref().map(Principal::id);
        let caller = Caller {
            address: self.client,
            sni: None,
            principal: id.as_deref(),
        };
        let Some(candidate) = decide::decide(&self.listener.routes, &decided, &caller, &mut Silent)
        else {
            return answered(None, &Answer::of(&causes::NO_ROUTE));
        };
        let rule = &candidate.rule;
        if let Some(answer) = self.plugins(
            &rule.chain,
            &rule.route,
            &mut head,
            &mut principal,
            &mut slots,
        ) {
            return answered(Some(candidate), &answer);
        }
        self.upstream(candidate, &mut head, &mut principal, &mut slots);
        acted(candidate, &decided, self.port, self.secure, head)
    }

    /// The request as it would go upstream: the rule's edits, then the plugins' own.
    fn upstream(
        &self,
        candidate: &Candidate,
        head: &mut RequestHeader,
        principal: &mut Option<Principal>,
        slots: &mut Slots,
    ) {
        let rule = &candidate.rule;
        // A map that is full would stop the request; a test's never is.
        let _ = decide::edit(head, &rule.request_headers);
        for chain in [&self.listener.chain, &rule.chain] {
            let client = self.client(&rule.route);
            let mut request = Request {
                head,
                client: &client,
                principal,
                slots,
                effects: Effects::Dry,
            };
            let _ = now(chain.upstream_request(&mut request));
        }
    }

    fn plugins(
        &self,
        chain: &Chain,
        route: &str,
        head: &mut RequestHeader,
        principal: &mut Option<Principal>,
        slots: &mut Slots,
    ) -> Option<Box<Answer>> {
        let client = self.client(route);
        let mut request = Request {
            head,
            client: &client,
            principal,
            slots,
            effects: Effects::Dry,
        };
        now(chain.request(&mut request))
            .flatten()
            .map(|(_, answer)| answer)
    }

    fn client<'a>(&'a self, route: &'a str) -> ClientFacts<'a> {
        ClientFacts {
            address: self.client,
            secure: self.secure,
            listener: &self.listener.name,
            route,
            host: self.host,
            path: self.path,
            request_id: "test",
            trusted_peer: false,
        }
    }
}

/// A dry run's hooks are ready at once; one that waits all the same cannot be known here.
fn now<F: std::future::Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

fn listener<'s>(
    snapshot: &'s Snapshot,
    request: &TestRequest,
) -> Result<&'s Arc<Listener>, String> {
    match &request.listener {
        Some(name) => snapshot
            .listener(name)
            .ok_or_else(|| format!("no listener is named \"{name}\"")),
        None => {
            let ingress = snapshot
                .listeners
                .iter()
                .find(|listener| listener.role == Role::Ingress);
            ingress
                .or(snapshot.listeners.first())
                .ok_or_else(|| "there is no listener".to_owned())
        }
    }
}

fn header(request: &TestRequest, method: &Method, uri: &Uri) -> Result<RequestHeader, String> {
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let mut head = RequestHeader::build(method.clone(), target.as_bytes(), None)
        .map_err(|error| error.to_string())?;
    for (name, value) in &request.headers {
        head.append_header(name.clone(), value.as_str())
            .map_err(|_| format!("\"{name}: {value}\" is no field"))?;
    }
    Ok(head)
}

fn principal(id: &str) -> Principal {
    let (kind, name) = match id.split_once(':') {
        Some(("consumer", name)) => (PrincipalKind::Consumer, name),
        Some(("certificate", name)) => (PrincipalKind::Certificate, name),
        _ => (PrincipalKind::Workload, id),
    };
    Principal {
        kind,
        name: name.to_owned(),
    }
}

fn answered(candidate: Option<&Arc<Candidate>>, answer: &Answer) -> Outcome {
    Outcome {
        route: candidate.map(|candidate| candidate.rule.route.to_string()),
        status: Some(answer.status),
        cause: Some(answer.cause.name),
        headers: answer.headers.iter().cloned().collect(),
        ..Outcome::default()
    }
}

fn acted(
    candidate: &Candidate,
    head: &Head<'_>,
    port: Option<u16>,
    secure: bool,
    request: RequestHeader,
) -> Outcome {
    let rule = &candidate.rule;
    let mut outcome = Outcome {
        route: Some(rule.route.to_string()),
        ..Outcome::default()
    };
    match &rule.action {
        Action::Pool(pool) => outcome.pools = vec![pool.name.to_string()],
        Action::Split(split) => {
            outcome.pools = split
                .targets
                .iter()
                .filter_map(|(_, target)| target.pool())
                .map(|pool| pool.name.to_string())
                .collect()
        }
        Action::Redirect(redirect) => {
            outcome.location = Some(decide::location(redirect, candidate, head, port, secure));
            outcome.status = Some(redirect.status.as_u16());
            outcome.cause = Some(causes::ROUTE_REDIRECT.name);
        }
        Action::Respond(respond) => {
            outcome.status = Some(respond.status.as_u16());
            outcome.cause = Some(causes::ROUTE_RESPOND.name);
        }
        Action::Quarantined => {
            outcome.status = Some(causes::QUARANTINED.status);
            outcome.cause = Some(causes::QUARANTINED.name);
        }
    }
    if !outcome.pools.is_empty() {
        outcome.path = Some(decide::rewritten_path(candidate, head.path).into_owned());
        let rewritten = rule
            .rewrite
            .host
            .as_ref()
            .and_then(|host| host.to_str().ok());
        outcome.host = Some(rewritten.unwrap_or(head.host).to_owned());
        outcome.headers = request.headers.clone();
    }
    outcome
}

fn compare(outcome: &Outcome, test: &ConfigTest, path: &str, name: &str, report: &mut Report) {
    let expect: &Expect = &test.expect;
    let mut differs = |key: &str, wanted: &str, found: Option<&str>| {
        let found = found.map_or("none".to_owned(), |found| format!("\"{found}\""));
        let came = outcome.cause.map_or(String::new(), |cause| {
            format!("the request ended with cause `{cause}`")
        });
        report.error(
            format!("{path}.expect.{key}"),
            format!("test \"{name}\": expected \"{wanted}\", found {found}"),
            came,
        );
    };
    let texts = [
        ("route", &expect.route, &outcome.route),
        ("path", &expect.path, &outcome.path),
        ("host", &expect.host, &outcome.host),
        ("location", &expect.location, &outcome.location),
        ("cause", &expect.cause, &outcome.cause.map(str::to_owned)),
    ];
    for (key, wanted, found) in texts {
        if let Some(wanted) = wanted.as_ref().filter(|_| wanted != found) {
            differs(key, wanted, found.as_deref());
        }
    }
    if let Some(wanted) = expect
        .pool
        .as_ref()
        .filter(|wanted| !outcome.pools.contains(wanted))
    {
        differs("pool", wanted, outcome.pools.first().map(String::as_str));
    }
    if let Some(wanted) = expect
        .status
        .filter(|wanted| outcome.status != Some(*wanted))
    {
        differs(
            "status",
            &wanted.to_string(),
            outcome.status.map(|status| status.to_string()).as_deref(),
        );
    }
    for (field, wanted) in &expect.headers {
        let found = outcome
            .headers
            .get(field.as_str())
            .and_then(|value| value.to_str().ok());
        if found != Some(wanted) {
            differs(&format!("headers.{field}"), wanted, found);
        }
    }
}
