//! What streams and connections passed through as bytes are let through on, told to the policies in force and to those to come.
//! It must not decide; `decide::policy` does.
//! Called by `request` for streams and by `tcp` for connections.

use std::sync::Arc;

use pingora::proxy::Session;
use windrose_plugins::contract::Cause;

use super::accept::Arrival;
use super::connection::Connection;
use super::request::{ending, Ctx};
use super::Shared;
use crate::decide::opaque::Call;
use crate::decide::policy::{authorize, Asked, Deaf, Ruled, Stood, Subject};
use crate::snapshot::lease::{Cut, Lease, Standing, Tenancy, Why};
use crate::snapshot::policy::PolicySet;
use crate::snapshot::pool::Pool;
use crate::snapshot::route::Candidate;

/// Why a stream's caller is no longer allowed, if that is so.
pub(super) fn fallen(ctx: &Ctx) -> Option<&Ruled> {
    ctx.ruled.as_ref()?.fallen.as_ref()?.ruled()
}

/// Enters a stream before it goes on, so that a reload that takes its route away or no longer lets its caller through can end it,
/// also while its endpoint holds the response's header back.
pub(super) fn lease(session: &Session, ctx: &mut Ctx, shared: &Arc<Shared>) {
    let (Some(candidate), Some(pool), Some(listener), Some(connection)) = (
        ctx.candidate.clone(),
        &ctx.pool,
        &ctx.listener,
        ctx.connection.clone(),
    ) else {
        return;
    };
    let tenancy = Tenancy {
        listener: listener.name.clone(),
        route: candidate.rule.route.clone(),
        pool: pool.name.clone(),
    };
    let cut = ending(session, ctx, shared, &connection);
    let standing = standing(session, ctx, &connection, &candidate);
    let refusal = standing.refusal.clone();
    ctx.lease = Some(enter(
        shared,
        tenancy,
        cut,
        standing,
        ctx.snapshot.generation,
    ));
    ctx.ruled.get_or_insert_default().fallen = Some(refusal);
}

/// What a stream was let through on.
fn standing(session: &Session, ctx: &Ctx, connection: &Connection, candidate: &Candidate) -> Stood {
    let head = session.req_header();
    let (listener, facts) = (&connection.listener, &ctx.facts);
    let pool = ctx.pool.as_ref();
    Stood {
        principal: ctx.principal.clone(),
        peer: connection.peer().cloned(),
        client: facts.client.unwrap_or(connection.client.ip()),
        port: listener.known_port(connection.local, &candidate.conditions.destinations),
        listener: listener.name.clone(),
        route: candidate.rule.route.clone(),
        pool: pool.map_or_else(|| "".into(), |pool| pool.name.clone()),
        sni: None,
        http: Some(Box::new(Asked {
            method: head.method.clone(),
            host: listener.service.as_deref().unwrap_or(&facts.host).into(),
            path: facts.path.as_str().into(),
            query: head.uri.query().map(Into::into),
            headers: head.headers.clone(),
        })),
        refusal: Arc::default(),
    }
}

/// Enters a stream that the policies of a generation let through. If another one is in force by now, it judges at once:
/// nobody else will.
fn enter(
    shared: &Shared,
    tenancy: Tenancy,
    cut: Arc<Cut>,
    standing: Stood,
    generation: u64,
) -> Lease {
    let standing: Arc<dyn Standing> = Arc::new(standing);
    let lease = shared.leases.take_judged(tenancy, cut, standing.clone());
    let current = shared.current.load();
    if current.generation != generation && standing.falls(&current) {
        lease.cut.revoke(Why::Denied);
    }
    lease
}

/// A connection that is to be passed through as bytes.
pub(super) struct Bytes<'a> {
    pub(super) arrival: &'a Arrival,
    pub(super) route: &'a Arc<str>,
    /// The port, as far as more than the caller says it.
    pub(super) port: Option<u16>,
    /// Those it met; none where everybody may.
    pub(super) policies: Option<&'a Arc<PolicySet>>,
    pub(super) pool: &'a Pool,
    pub(super) sni: Option<&'a str>,
}

impl Bytes<'_> {
    /// What it is let through on.
    pub(super) fn standing(&self) -> Stood {
        let arrival = self.arrival;
        Stood {
            principal: arrival.peer().cloned(),
            peer: arrival.peer().cloned(),
            client: arrival.client.ip(),
            port: self.port,
            listener: arrival.listener.name.clone(),
            route: self.route.clone(),
            pool: self.pool.name.clone(),
            sni: self.sni.map(Into::into),
            http: None,
            refusal: Arc::default(),
        }
    }

    /// Whether the policies in force now let it through.
    pub(super) fn judge(
        &self,
        shared: &Shared,
        ruled: &mut Option<Box<Ruled>>,
    ) -> Result<(), &'static Cause> {
        let Some(set) = self.in_force(shared) else {
            return Ok(());
        };
        let subject = self.subject();
        let ruling = authorize(&set, &subject, &mut Deaf);
        *ruled = ruling.account(&subject);
        ruling.cause.map_or(Ok(()), Err)
    }

    /// The same before anything is done for it, and without telling anybody: it is judged again when it is carried.
    pub(super) fn may_pass(&self, shared: &Shared) -> bool {
        let set = self.in_force(shared);
        set.is_none_or(|set| authorize(&set, &self.subject(), &mut Deaf).allows())
    }

    fn in_force(&self, shared: &Shared) -> Option<Arc<PolicySet>> {
        let current = shared.current.load();
        let listener = current.listener(&self.arrival.listener.name);
        let now = listener.and_then(|listener| listener.policies_of_bytes(self.route));
        now.unwrap_or(self.policies).cloned()
    }

    fn subject(&self) -> Subject<'_> {
        let arrival = self.arrival;
        let call = Call {
            listener: &arrival.listener,
            client: arrival.client.ip(),
            destination: arrival.local,
            sni: self.sni,
            peer: arrival.peer(),
        };
        call.subject(self.port, self.route, &self.pool.name)
    }
}
