//! Why a request goes where it goes: the decision and everything around it, told step by step.
//! It must not decide anything: it asks `decide` and writes down what it hears.
//! `windrose explain`, the admin page of the same name, config tests and plans call it.

mod body;
mod hear;
mod limits;
pub mod mutual;
mod opaque;
mod pool;
mod question;
mod ruling;
mod view;
mod waterfall;
pub mod words;

use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::HeaderMap;
use pingora::http::RequestHeader;
use windrose_plugins::contract::{
    causes, Answer, Cause, ConnectionView, Effects, Principal, Slots,
};

use crate::decide::attempts;
use crate::decide::policy::Ruled;
use crate::decide::{class, framed, Facts, Hop, Next, Stage, Tls, Walk, WireText};
use crate::observe::metrics::ChosenBy;
use crate::snapshot::certs::Cert;
use crate::snapshot::chain::BodySource;
use crate::snapshot::limits::Priority;
use crate::snapshot::listener::Listener;
use crate::snapshot::pool::PoolProtocol;
use crate::snapshot::route::{Action, Candidate};
use crate::snapshot::Snapshot;
use body::GivenBody;
use hear::Heard;
pub use question::{Question, TCP};
pub use ruling::{PolicySeen, RulingSeen};
pub use view::{
    Asked, CandidateSeen, ConditionSeen, EndpointSeen, Explanation, LevelSeen, ListenerSeen,
    Outcome, PartSeen, PluginSeen, PoolSeen, ShareSeen, Times,
};
pub use waterfall::Step;

/// Explains a request, or a connection passed through as bytes. With `live` the snapshot is the running one, so that health and ejection are told.
///
/// # Errors
/// A sentence that says what is wrong with the question.
pub fn explain(
    snapshot: &Snapshot,
    question: &Question,
    live: bool,
) -> Result<Explanation, String> {
    if question.tcp {
        return opaque::explain(snapshot, question, live);
    }
    let listener = question.listener(snapshot)?;
    let mut head = question.head()?;
    let peer = question.from.unwrap_or(IpAddr::from([192, 0, 2, 1]));
    let peer_text = WireText::new(&peer.to_string()).unwrap_or_default();
    let mut facts = Facts::of(&head.headers, listener, peer, question.is_tls());
    facts.destination = question.destination(listener);
    facts.request_id = WireText::new("explain").unwrap_or_default();
    let sni = question.sni();
    let cert = shown(listener, sni.as_deref());
    let mut teller = Teller {
        listener,
        tls: tls(listener, question, sni.as_deref(), cert.as_ref()),
        principal: question.principal(),
        peer: question.peer(),
        local_port: question.port(listener),
        ruled: None,
        slots: Slots::default(),
        heard: Heard::default(),
        candidate: None,
        snapshot,
        class: None,
        came: HeaderMap::new(),
        effects: if live { Effects::Peek } else { Effects::Dry },
    };
    let ended = match teller.admit(&mut facts, &head) {
        Ok(()) => teller.walk(&facts, &mut head, &peer_text, question.body()?),
        Err(answer) => Err(answer),
    };
    Ok(teller.explanation(question, &facts, ended, &head, cert.as_ref(), live))
}

/// The certificate a listener shows for a name.
fn shown(listener: &Listener, sni: Option<&str>) -> Option<Arc<Cert>> {
    let termination = listener.protocol.termination()?;
    termination.certs.load().find(sni).cloned()
}

fn tls<'a>(
    listener: &'a Listener,
    question: &Question,
    sni: Option<&'a str>,
    cert: Option<&'a Arc<Cert>>,
) -> Option<Tls<'a>> {
    let termination = listener.protocol.termination()?;
    question.is_tls().then_some(Tls {
        sni,
        termination: Some(termination),
        cert,
    })
}

type Ended = Result<Next, Box<Answer>>;

/// A request on its way, and what was heard of it.
struct Teller<'a> {
    listener: &'a Listener,
    tls: Option<Tls<'a>>,
    principal: Option<Principal>,
    peer: Option<Principal>,
    local_port: Option<u16>,
    ruled: Option<Box<Ruled>>,
    slots: Slots,
    heard: Heard,
    candidate: Option<Arc<Candidate>>,
    snapshot: &'a Snapshot,
    class: Option<Priority>,
    /// The fields by which traffic chooses an endpoint: those that came, not those that are sent on.
    came: HeaderMap,
    effects: Effects,
}

impl Teller<'_> {
    /// What happens before there is a decision to make.
    fn admit(&mut self, facts: &mut Facts, head: &RequestHeader) -> Result<(), Box<Answer>> {
        let listener = self.listener;
        let view = ConnectionView {
            address: facts.client.unwrap_or(IpAddr::from([0, 0, 0, 0])),
            listener: &listener.name,
        };
        let heard = &mut self.heard;
        let mut hear = |plugin: &_, turn: crate::snapshot::chain::Turn<'_>| {
            heard.turn(Stage::Listener, plugin, turn);
        };
        if let Some(answer) = listener.chain.connection(&view, self.effects, &mut hear) {
            return Err(answer);
        }
        let refuse = |cause: &'static Cause| Box::new(Answer::of(cause));
        facts.admit(head, listener).map_err(refuse)
    }

    /// The way the data path goes, without effects.
    fn walk(
        &mut self,
        facts: &Facts,
        head: &mut RequestHeader,
        peer: &WireText,
        body: Option<Vec<u8>>,
    ) -> Ended {
        let mut walk = Walk {
            listener: self.listener,
            tls: self.tls,
            facts,
            principal: &mut self.principal,
            peer: self.peer.as_ref(),
            local_port: self.local_port,
            ruled: &mut self.ruled,
            slots: &mut self.slots,
            effects: self.effects,
        };
        let mut given = GivenBody::new(head, body);
        let candidate = now(walk.find(head, &mut given, &mut self.heard))?;
        self.candidate = Some(candidate.clone());
        if candidate.rule.action.goes_on() {
            let header = self.snapshot.priority_header();
            self.class = Some(class(&candidate.rule, header, facts, head));
        }
        let random = first_sound(&candidate.rule.action);
        let mut next = {
            let asking = (&mut *head, &mut given as &mut dyn BodySource);
            now(walk.act(&candidate, asking, random, &mut self.heard))?
        };
        if let Some(abort) = next.injected.take().and_then(|injected| injected.abort) {
            return Err(abort);
        }
        if let Some(length) = given.changed_length() {
            let refuse = |_| Box::new(Answer::of(&causes::INTERNAL));
            framed(head, length).map_err(refuse)?;
        }
        let believed = attempts::is_believed(facts.trusted, self.peer.as_ref());
        let hop = Hop {
            certificate: None,
            peer,
            traceparent: None,
            left: next.deadline.map(|it| (it.time, is_grpc(&next))),
            attempt: attempts::before(&head.headers, believed).saturating_add(1),
            upstream: None,
        };
        self.came.clone_from(&head.headers);
        let sent = now(async {
            let sent = walk.send(&candidate, head, &hop, &mut self.heard).await;
            sent.map_err(|_| Box::new(Answer::of(&causes::BAD_TARGET)))
        })?;
        if let Some(answer) = sent {
            return Err(answer);
        }
        if let Some(body) = given.into_bytes() {
            self.body(&candidate, body)?;
        }
        Ok(next)
    }

    fn body(&mut self, candidate: &Candidate, body: bytes::Bytes) -> Result<(), Box<Answer>> {
        let mut piece = Some(body);
        for chain in [&self.listener.chain, &candidate.rule.chain] {
            let heard = &mut self.heard;
            let mut hear = |plugin: &_, turn: crate::snapshot::chain::Turn<'_>| {
                heard.turn(Stage::Upstream, plugin, turn);
            };
            let answer =
                chain.request_body(&mut self.slots, &mut piece, true, self.effects, &mut hear);
            if let Some(answer) = answer {
                return Err(answer);
            }
        }
        Ok(())
    }

    fn explanation(
        self,
        question: &Question,
        facts: &Facts,
        ended: Ended,
        head: &RequestHeader,
        cert: Option<&Arc<Cert>>,
        live: bool,
    ) -> Explanation {
        let candidate = self.candidate.as_ref();
        let no_route = |answer: &Answer| *answer.cause == causes::NO_ROUTE;
        let is_decided =
            candidate.is_some() || ended.as_ref().is_err_and(|answer| no_route(answer));
        let share = self.heard.share.clone();
        // By chance, any of the shares may be the one.
        let decided = share.filter(|share| share.by != ChosenBy::Chance.as_str());
        let mut outcome = match &ended {
            Ok(next) => {
                let onward = view::Onward {
                    decided: decided.is_some().then_some(&*next.pool),
                    facts,
                    came: &self.came,
                    sent: head,
                    deadline: next.deadline.as_ref(),
                    live,
                };
                view::forwarded(candidate, &onward)
            }
            Err(answer) => view::answered(candidate, answer),
        };
        outcome.share = decided;
        if let Some(ruled) = self.ruled.as_ref().filter(|it| it.cause.is_some()) {
            outcome.policy = Some(ruled.policy.clone());
        }
        outcome.faults.clone_from(&self.heard.faults);
        if ended.is_ok() {
            outcome.mirrors.clone_from(&self.heard.mirrors);
        }
        let pressure = &self.snapshot.pressure;
        let class = self.class;
        outcome.class = class.and_then(|class| limits::class(class, pressure, live));
        Explanation {
            request: view::asked(question, facts, self.principal.as_ref()),
            listener: view::listener(self.listener, cert),
            notes: view::notes(self.listener, question),
            candidates: self
                .heard
                .candidates(self.listener, facts, candidate, is_decided),
            plugins: self.heard.plugins(self.listener, candidate),
            ruling: self.heard.ruling,
            policies: self.heard.policies,
            outcome,
        }
    }
}

/// Whether an endpoint is spoken to in gRPC's way.
fn is_grpc(next: &Next) -> bool {
    next.nature.is_grpc && next.pool.settings.protocol != PoolProtocol::Http1
}

/// The random number that chooses the first share of a split that goes somewhere; shares of broken pools are told beside it.
fn first_sound(action: &Action) -> u64 {
    let Action::Split(split) = action else {
        return 0;
    };
    let mut before = 0;
    for share in &split.shares {
        if share.target.pool().is_some() && share.weight > 0 {
            return before;
        }
        before += u64::from(share.weight);
    }
    0
}

/// A dry run's hooks are ready at once; one that waits all the same cannot be known here.
fn now<T>(future: impl Future<Output = Result<T, Box<Answer>>>) -> Result<T, Box<Answer>> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => Err(Box::new(Answer::of(&causes::PLUGIN_FAILED))),
    }
}
