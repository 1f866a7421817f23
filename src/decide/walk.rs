//! A request's way from an admitted header to a pool or an answer, in the one order there is: listener plugins, the host's
//! certificate, the decision, route plugins, the rule's action.
//! It must not know sockets; the data path, config tests and `explain` all go this way.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Version};
use pingora::http::RequestHeader;
use pingora::Result;
use windrose_plugins::contract::{
    causes, Answer, Cause, ClientFacts, Effects, Principal, Request, Slots,
};

use super::caching::Caching;
use super::deadline::{self, Deadline};
use super::fault::{self, Injected};
use super::fields::Nature;
use super::onward::{onward, Hop, MIRROR};
use super::policy::{authorize, Fit, Hear, Ruled, Subject};
use super::share::Asking;
use super::{decide, location, Caller, Facts, Head, Stage, Trace};
use crate::snapshot::balance::mix;
use crate::snapshot::certs::{Cert, Termination};
use crate::snapshot::chain::{BodySource, Chain, Instance, Turn};
use crate::snapshot::listener::Listener;
use crate::snapshot::policy::{Policy, PolicySet};
use crate::snapshot::pool::{Pool, PoolProtocol, PASSTHROUGH};
use crate::snapshot::route::{
    Action, Candidate, Experiments, Mirror, Redirect, Respond, Rule, Share, Split,
};

/// A request under way.
pub struct Walk<'a> {
    /// Where it came in.
    pub listener: &'a Listener,
    /// What TLS brought; `None` in the clear.
    pub tls: Option<Tls<'a>>,
    /// What it is about.
    pub facts: &'a Facts,
    /// Who it is, if proven; plugins may prove it.
    pub principal: &'a mut Option<Principal>,
    /// Whom the connection proved.
    pub peer: Option<&'a Principal>,
    /// The port that was connected to, where it is known, whatever the request says.
    pub local_port: Option<u16>,
    /// What policies said, where that is worth telling.
    pub ruled: &'a mut Option<Box<Ruled>>,
    /// State of plugins.
    pub slots: &'a mut Slots,
    /// Whether plugins may ask and count.
    pub effects: Effects,
}

/// What a TLS handshake brought.
#[derive(Clone, Copy)]
pub struct Tls<'a> {
    /// The name asked for, in lower case.
    pub sni: Option<&'a str>,
    /// What it was made with; `None` for mutual TLS, where identities stand for names of hosts.
    pub termination: Option<&'a Termination>,
    /// The certificate that was shown.
    pub cert: Option<&'a Arc<Cert>>,
}

/// Where a request goes on to.
pub struct Next {
    /// The pool that was chosen.
    pub pool: Arc<Pool>,
    /// What the request says of itself.
    pub nature: Nature,
    /// How long it may take.
    pub deadline: Option<Deadline>,
    /// What is done to it on purpose before it goes on.
    pub injected: Option<Box<Injected>>,
    /// The mirrors of the rule that get a copy, as bits.
    pub mirrors: u8,
    /// What a cache says of it, where one is asked.
    pub caching: Option<Box<Caching>>,
}

type Refused = Box<Answer>;

fn refuse(cause: &'static Cause) -> Refused {
    Box::new(Answer::of(cause))
}

impl Walk<'_> {
    /// From the header to a rule. `bodies` is asked where a plugin of the listener wants the body.
    ///
    /// # Errors
    /// The answer instead.
    pub async fn find<T: Trace>(
        &mut self,
        head: &mut RequestHeader,
        bodies: &mut dyn BodySource,
        trace: &mut T,
    ) -> Result<Arc<Candidate>, Refused> {
        let listener = self.listener;
        if listener.chain.has_request() {
            let at = (&listener.chain, "", Stage::Listener);
            self.plugins(at, head, bodies, trace).await?;
        }
        if self.is_misdirected() {
            return Err(refuse(&causes::MISDIRECTED));
        }
        let principal = self.principal.as_ref().map(Principal::id);
        let caller = Caller {
            address: self.facts.client.ok_or_else(|| refuse(&causes::INTERNAL))?,
            sni: self.tls.and_then(|tls| tls.sni),
            principal: principal.as_deref(),
            destination: self.facts.destination,
            port: self.port(),
        };
        let asked = self.head(head);
        let found = decide(&listener.routes, &asked, &caller, trace).cloned();
        match (found, &listener.capture) {
            (Some(found), _) => Ok(found),
            (None, None) => Err(refuse(&causes::NO_ROUTE)),
            (None, Some(capture)) => {
                let unknown = capture.unknown(self.facts.destination);
                unknown.cloned().map_err(refuse)
            }
        }
    }

    /// Through the rule's plugins to its action. `random` chooses in a split; `bodies` is asked where a plugin of the rule wants the
    /// body.
    ///
    /// # Errors
    /// The answer instead, also where the rule answers by itself.
    pub async fn act<T: Trace>(
        &mut self,
        candidate: &Candidate,
        (head, bodies): (&mut RequestHeader, &mut dyn BodySource),
        random: u64,
        trace: &mut T,
    ) -> Result<Next, Refused> {
        let rule = &candidate.rule;
        if rule.chain.has_request() {
            let at = (&rule.chain, &*rule.route, Stage::Route);
            let done = self.plugins(at, head, bodies, trace).await;
            if let Err(answer) = done {
                // What a service would have said is for those who may ask the service.
                if answer.stands_in {
                    self.permit(candidate, head, rule.action.pool_name(), trace)?;
                }
                return Err(answer);
            }
        }
        // After the plugins, which may prove a consumer, and before anything is answered or sent.
        let mut next = match &rule.action {
            Action::Redirect(redirect) => {
                self.permit(candidate, head, "", trace)?;
                Err(self.redirected(redirect, candidate, head))
            }
            Action::Respond(respond) => {
                self.permit(candidate, head, "", trace)?;
                Err(responded(respond))
            }
            Action::Quarantined => {
                self.permit(candidate, head, "", trace)?;
                Err(refuse(&causes::QUARANTINED))
            }
            Action::Pool(pool) => {
                self.permit(candidate, head, &pool.name, trace)?;
                onto(pool, rule, head)
            }
            Action::Passthrough(on) => {
                self.permit(candidate, head, PASSTHROUGH, trace)?;
                let to = self.facts.destination;
                let to = to.ok_or_else(|| refuse(&causes::DESTINATION_UNKNOWN))?;
                let protocol = match head.version {
                    Version::HTTP_2 => PoolProtocol::Http2,
                    _ => PoolProtocol::Http1,
                };
                onto(&on.pool(to, protocol), rule, head)
            }
            Action::Split(split) => {
                let share = self.share(split, head, random, trace);
                // A share may go to a pool that is broken.
                let pool = share.target.pool();
                let pool = pool.ok_or_else(|| refuse(&causes::QUARANTINED))?;
                self.permit(candidate, head, &pool.name, trace)?;
                onto(pool, rule, head)
            }
        }?;
        next.caching = self.caching(candidate, head, &next, trace);
        if let Some(experiments) = &rule.experiments {
            self.try_out(experiments, head, random, &mut next, trace);
        }
        Ok(next)
    }

    /// Whether the policies for it let the request go on to a pool, or to the rule's own answer.
    fn permit<T: Trace>(
        &mut self,
        candidate: &Candidate,
        head: &RequestHeader,
        pool: &str,
        trace: &mut T,
    ) -> Result<(), Refused> {
        match &candidate.policies {
            None => Ok(()),
            Some(set) => self.rule_on(set, candidate, head, pool, trace),
        }
    }

    fn rule_on<T: Trace>(
        &mut self,
        set: &PolicySet,
        candidate: &Candidate,
        head: &RequestHeader,
        pool: &str,
        trace: &mut T,
    ) -> Result<(), Refused> {
        let client = self.facts.client;
        let subject = Subject {
            principal: self.principal.as_ref(),
            peer: self.peer,
            client: client.ok_or_else(|| refuse(&causes::INTERNAL))?,
            port: self.known_port(candidate),
            listener: &self.listener.name,
            route: &candidate.rule.route,
            pool,
            sni: None,
            http: Some(self.head(head)),
        };
        let ruling = authorize(set, &subject, &mut Heard(trace));
        let ruled = match self.effects.is_live() {
            true => ruling.account(&subject),
            false => ruling.told(),
        };
        let cause = ruling.cause;
        if T::ON {
            trace.ruling(&ruling);
        }
        *self.ruled = ruled;
        match cause {
            None => Ok(()),
            Some(cause) => Err(Box::new(forbidden(cause))),
        }
    }

    /// The port that was connected to, as far as more than the caller says it.
    fn known_port(&self, candidate: &Candidate) -> Option<u16> {
        let met = &candidate.conditions.destinations;
        match (self.listener.has_tunnels(), self.facts.destination) {
            (false, _) => self.local_port,
            (true, to) => self.listener.known_port(to?, met),
        }
    }

    /// What is tried out on this request.
    fn try_out<T: Trace>(
        &self,
        experiments: &Experiments,
        head: &mut RequestHeader,
        random: u64,
        next: &mut Next,
        trace: &mut T,
    ) {
        // A copy of a copy could go on for ever, and what follows an upgrade is no request.
        let is_copied = !head.headers.contains_key(MIRROR) && !next.nature.is_upgrade;
        if is_copied && !experiments.mirrors.is_empty() {
            trace.mirrors(&experiments.mirrors);
            next.mirrors = chosen(&experiments.mirrors, random);
        }
        let Some(fault) = &experiments.fault else {
            return;
        };
        let principal = self.principal.as_ref();
        let Some(plan) = fault::plan(fault, head, self.facts, principal) else {
            return;
        };
        trace.fault(&plan);
        let injected = fault::injected(&plan, random, self.effects);
        if let (Some(injected), true) = (&injected, self.effects.is_live()) {
            if injected.delay.is_some() {
                fault.metrics.delayed();
            }
            if injected.abort.is_some() {
                fault.metrics.aborted();
            }
        }
        next.injected = injected.map(Box::new);
    }

    fn share<'s, T: Trace>(
        &self,
        split: &'s Split,
        head: &RequestHeader,
        random: u64,
        trace: &mut T,
    ) -> &'s Share {
        let asking = Asking {
            facts: self.facts,
            headers: &head.headers,
            query: head.uri.query(),
            principal: self.principal.as_ref(),
            effects: self.effects,
            random,
        };
        let (share, by) = asking.share(split);
        if self.effects.is_live() {
            share.metrics.chosen(by);
        }
        trace.share(share, by);
        share
    }

    /// The request as an endpoint gets it; an answer if a plugin stops it here.
    ///
    /// # Errors
    /// When a rewritten path is none.
    pub async fn send<T: Trace>(
        &mut self,
        candidate: &Candidate,
        head: &mut RequestHeader,
        hop: &Hop<'_>,
        trace: &mut T,
    ) -> Result<Option<Refused>> {
        onward(head, self.facts, candidate, hop)?;
        // Two steps and not a list of both: what is alive over an await is a part of every request's future.
        for step in 0..2_u8 {
            let chain = match step {
                0 => &self.listener.chain,
                _ => &candidate.rule.chain,
            };
            if !chain.has_upstream_request() {
                continue;
            }
            let client = self.facts.view(self.listener, &candidate.rule.route);
            let mut request = self.request(head, &client);
            request.upstream = hop.upstream.as_deref();
            let mut hear =
                |plugin: &Instance, turn: Turn<'_>| trace.plugin(Stage::Upstream, plugin, turn);
            if let Some(answer) = chain.upstream_request(&mut request, &mut hear).await {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    async fn plugins<T: Trace>(
        &mut self,
        (chain, route, stage): (&Chain, &str, Stage),
        head: &mut RequestHeader,
        bodies: &mut dyn BodySource,
        trace: &mut T,
    ) -> Result<(), Refused> {
        let client = self.facts.view(self.listener, route);
        let mut request = self.request(head, &client);
        let mut hear = |plugin: &Instance, turn: Turn<'_>| trace.plugin(stage, plugin, turn);
        match chain.request(&mut request, bodies, &mut hear).await {
            Some(answer) => Err(answer),
            None => Ok(()),
        }
    }

    /// The request as a plugin gets it.
    fn request<'r>(
        &'r mut self,
        head: &'r mut RequestHeader,
        client: &'r ClientFacts<'r>,
    ) -> Request<'r> {
        Request {
            head,
            client,
            principal: self.principal,
            body: None,
            upstream: None,
            slots: self.slots,
            effects: self.effects,
        }
    }

    /// What a decision reads of the request.
    pub fn head<'h>(&'h self, head: &'h RequestHeader) -> Head<'h> {
        Head {
            method: &head.method,
            host: self.listener.service.as_deref().unwrap_or(&self.facts.host),
            path: &self.facts.path,
            query: head.uri.query(),
            headers: &head.headers,
        }
    }

    /// Whether the connection was made for a name with another certificate than this host's (RFC 9110 section 15.5.20).
    fn is_misdirected(&self) -> bool {
        let host = &self.facts.host;
        let Some(tls) = &self.tls else {
            return false;
        };
        let (Some(sni), Some(shown), Some(termination)) = (tls.sni, tls.cert, tls.termination)
        else {
            return false;
        };
        if *sni == **host {
            return false;
        }
        let certs = termination.certs.load();
        // After a renewal the set holds new certificates; the same names mean the same one.
        certs
            .find(Some(host))
            .is_none_or(|cert| !Arc::ptr_eq(cert, shown) && cert.hosts != shown.hosts)
    }

    /// The port asked for: the original destination's where the connection was captured, else the authority's or the scheme's.
    fn port(&self) -> Option<u16> {
        let facts = self.facts;
        if self.listener.service.is_some() {
            return None;
        }
        let captured = self.listener.capture.as_ref().and(facts.destination);
        let usual = if facts.secure { 443 } else { 80 };
        let asked = captured.map(|to| to.port()).or(facts.port);
        Some(asked.unwrap_or(usual))
    }

    fn redirected(
        &self,
        redirect: &Redirect,
        candidate: &Candidate,
        head: &RequestHeader,
    ) -> Refused {
        let facts = self.facts;
        let head = Head {
            host: &facts.host,
            ..self.head(head)
        };
        let location = location(redirect, candidate, &head, facts.port, facts.secure);
        let Ok(location) = location.parse() else {
            return refuse(&causes::BAD_TARGET);
        };
        let mut answer = Answer::of(&causes::ROUTE_REDIRECT).with(http::header::LOCATION, location);
        answer.status = redirect.status.as_u16();
        answer.body = Some((HeaderValue::from_static("text/plain"), Bytes::new()));
        Box::new(answer)
    }
}

/// The answer of a policy that refuses. HTTP wants a 401 to say how to prove who one is.
fn forbidden(cause: &'static Cause) -> Answer {
    let answer = Answer::of(cause);
    match *cause == causes::IDENTITY_MISSING {
        true => answer.with(
            http::header::WWW_AUTHENTICATE,
            HeaderValue::from_static("ClientCertificate"),
        ),
        false => answer,
    }
}

/// Lets a trace hear what policies say.
struct Heard<'t, T>(&'t mut T);

impl<T: Trace> Hear for Heard<'_, T> {
    const ON: bool = T::ON;

    fn rule(&mut self, policy: &Policy, rule: usize, fit: &Fit) {
        self.0.policy(policy, rule, fit);
    }
}

/// The mirrors that get a copy, each rolled apart.
fn chosen(mirrors: &[Mirror], random: u64) -> u8 {
    let takes = |(at, mirror): (u32, &Mirror)| {
        let own = mix(random ^ (MIRROR_SALT + u64::from(at)));
        u8::from(mirror.chance.takes(own)) << at
    };
    (0..8).zip(mirrors).map(takes).sum()
}

/// One random number decides on everything of a request, by parts that know nothing of each other.
const MIRROR_SALT: u64 = 0x6d69_7272_6f72_0000;

fn onto(pool: &Arc<Pool>, rule: &Rule, head: &RequestHeader) -> Result<Next, Refused> {
    let nature = Nature::of(&head.headers);
    if nature.length > rule.body_limit {
        return Err(refuse(&causes::BODY_TOO_LARGE));
    }
    Ok(Next {
        pool: pool.clone(),
        deadline: deadline::deadline(&rule.timeouts, nature.deadline),
        nature,
        injected: None,
        mirrors: 0,
        caching: None,
    })
}

fn responded(respond: &Respond) -> Refused {
    let mut answer = Answer::of(&causes::ROUTE_RESPOND);
    answer.status = respond.status.as_u16();
    answer.body = Some((respond.content_type.clone(), respond.body.clone()));
    Box::new(answer)
}
