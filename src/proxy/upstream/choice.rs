//! Which endpoint the next attempt goes to, counted as under way there from the moment it is chosen.
//! It must not know how a connection to it is made, nor what happens when there is none.
//! Called for each attempt, and by `admission` for the first one in pools that bound what an endpoint takes.

use std::sync::Arc;

use pingora::proxy::Session;
use windrose_plugins::contract::{causes, Cause};

use super::{key, session};
use crate::proxy::random;
use crate::proxy::request::Ctx;
use crate::snapshot::balance::Choice;
use crate::snapshot::endpoint::InFlight;
use crate::snapshot::limits::Limiter;
use crate::snapshot::outlier::Probe;
use crate::snapshot::pool::{EndpointSet, Pool, SubsetFallback};

/// An endpoint, and that it has one request more.
pub(in crate::proxy) struct Chosen {
    pub(in crate::proxy) set: Arc<EndpointSet>,
    pub(in crate::proxy) at: usize,
    pub(in crate::proxy) in_flight: InFlight,
    /// The right to try it, if it was ejected.
    pub(in crate::proxy) probe: Option<Box<Probe>>,
}

/// What came of choosing.
pub(in crate::proxy) enum Outcome {
    /// This one.
    Chosen(Chosen),
    /// None has room, but one may have soon.
    Full,
    /// None, for this reason.
    Nobody(&'static Cause),
}

/// Chooses an endpoint that was not tried yet; when there is none left, one that was.
pub(super) fn choose(session: &Session, ctx: &mut Ctx, pool: &Pool, now: u64) -> Outcome {
    let set = pool.set.load_full();
    if set.members.is_empty() {
        return Outcome::Nobody(set.nobody());
    }
    let same_set = ctx
        .attempt
        .set
        .as_ref()
        .is_some_and(|before| Arc::ptr_eq(before, &set));
    if !same_set {
        ctx.attempt.tried.clear();
    }
    let (request, tried) = (session.req_header(), &ctx.attempt.tried);
    let of_session = || session::member(pool, &set, request, tried, now);
    if let Some((at, probe)) = set
        .sessions
        .as_ref()
        .and_then(|_| set.choose(now, of_session))
    {
        if let Some(in_flight) = start(pool, &set, at) {
            return Outcome::Chosen(Chosen {
                set,
                at,
                in_flight,
                probe,
            });
        }
    }
    let hash = key::hash(&pool.settings.balance, request, &ctx.facts);
    let choose = |tried: &[u16]| {
        let choice = Choice {
            hash,
            tried,
            now,
            random: random::bits(),
            subset: pool.subset,
        };
        pick(pool, set.clone(), &choice)
    };
    match choose(&ctx.attempt.tried) {
        Outcome::Nobody(_) if !ctx.attempt.tried.is_empty() => {
            ctx.attempt.tried.clear();
            choose(&[])
        }
        outcome => outcome,
    }
}

/// Chooses within the bound that the pool sets to each endpoint, if it does.
pub(in crate::proxy) fn pick(pool: &Pool, set: Arc<EndpointSet>, choice: &Choice<'_>) -> Outcome {
    let Some(limiter) = bound(pool) else {
        let chosen = set.choose(choice.now, || set.table.pick(&set.members, choice));
        return match chosen {
            Some((at, probe)) => Outcome::Chosen(Chosen {
                in_flight: InFlight::start(&set.members[at].endpoint),
                set,
                at,
                probe,
            }),
            None => Outcome::Nobody(nobody(pool, &set)),
        };
    };
    let full = limiter.endpoint_requests();
    // Others may take the last place between the look and the count; whoever loses often stands in line as well as those.
    for _ in 0..TRIES {
        let below = || set.table.pick_below(&set.members, choice, full);
        let Some((at, probe)) = set.choose(choice.now, below) else {
            let may_have_soon = set.table.pick(&set.members, choice).is_some();
            return match may_have_soon {
                true => Outcome::Full,
                false => Outcome::Nobody(nobody(pool, &set)),
            };
        };
        if let Some(in_flight) = InFlight::within(&set.members[at].endpoint, limiter) {
            return Outcome::Chosen(Chosen {
                set,
                at,
                in_flight,
                probe,
            });
        }
    }
    Outcome::Full
}

/// As [`pick`], for a copy. It proves nothing of an endpoint, so it gets none that is tried only to prove itself.
pub(in crate::proxy) fn pick_for_copy(
    pool: &Pool,
    set: Arc<EndpointSet>,
    choice: &Choice<'_>,
) -> Outcome {
    let Some(at) = set.table.pick(&set.members, choice) else {
        return Outcome::Nobody(nobody(pool, &set));
    };
    let at = match bound(pool) {
        Some(limiter) => set
            .table
            .pick_below(&set.members, choice, limiter.endpoint_requests()),
        None => Some(at),
    };
    let counted = at.and_then(|at| start(pool, &set, at).map(|in_flight| (at, in_flight)));
    match counted {
        Some((at, in_flight)) => Outcome::Chosen(Chosen {
            set,
            at,
            in_flight,
            probe: None,
        }),
        None => Outcome::Full,
    }
}

/// What bounds the requests at each endpoint, if anything does.
fn bound(pool: &Pool) -> Option<&Arc<Limiter>> {
    let limiter = pool.limits.as_ref().map(|limited| &limited.state);
    limiter.filter(|limiter| limiter.endpoint_requests() != u32::MAX)
}

/// Counts a request at an endpoint, unless it is full.
fn start(pool: &Pool, set: &EndpointSet, at: usize) -> Option<InFlight> {
    let endpoint = &set.members[at].endpoint;
    match bound(pool) {
        Some(limiter) => InFlight::within(endpoint, limiter),
        None => Some(InFlight::start(endpoint)),
    }
}

/// Why no endpoint could be chosen from a set that has some. Without a fallback to others a subset is told apart: nobody
/// is in it, or nobody of it can be used, be it for their health or because all of them drain.
fn nobody(pool: &Pool, set: &EndpointSet) -> &'static Cause {
    let labels = match pool.settings.balance.subset_fallback {
        SubsetFallback::None => pool.subset_labels(),
        SubsetFallback::Any => None,
    };
    match labels {
        Some(labels) if !set.members.iter().any(|member| member.has(labels)) => {
            &causes::NO_SUBSET_ENDPOINT
        }
        Some(_) | None => &causes::NO_HEALTHY_ENDPOINT,
    }
}

const TRIES: usize = 4;
