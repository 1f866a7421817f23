//! Whether a fault is injected into a request, and which.
//! It must not wait or answer: the data path does.
//! Called by [`Walk::act`](super::Walk::act) for rules with a `fault`.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::RequestHeader;
use windrose_plugins::contract::{causes, Answer, Effects, Principal, Time};

use super::conditions::{field, holds};
use super::Facts;
use crate::snapshot::balance::mix;
use crate::snapshot::route::{Abort, Chance, Fault, FaultPlan, LONGEST_DELAY};

/// How long, instead of the rule's own delay.
pub(super) const DELAY: HeaderName = HeaderName::from_static("x-windrose-fault-delay");
/// The status to answer with.
pub(super) const ABORT: HeaderName = HeaderName::from_static("x-windrose-fault-abort");
/// The status of gRPC to answer with.
pub(super) const ABORT_GRPC: HeaderName = HeaderName::from_static("x-windrose-fault-abort-grpc");

/// What is injected into a request.
#[derive(Debug)]
pub struct Injected {
    /// How long it waits first.
    pub delay: Option<Duration>,
    /// The answer instead of going on.
    pub abort: Option<Box<Answer>>,
}

/// What may be injected into this request; `None` if the fault is not for it.
pub(super) fn plan(
    fault: &Fault,
    head: &mut RequestHeader,
    facts: &Facts,
    principal: Option<&Principal>,
) -> Option<FaultPlan> {
    let has = |(name, condition): &(HeaderName, _)| {
        holds(condition, field(&head.headers, name).as_deref())
    };
    let admitted = fault
        .guard
        .admits(facts.client, || principal.map(Principal::id));
    if !admitted || !fault.when.iter().all(has) {
        return None;
    }
    if !fault.by_header {
        return Some(fault.plan);
    }
    let asked = asked(&head.headers);
    // Another proxy on the way would do it once more.
    for name in [DELAY, ABORT, ABORT_GRPC] {
        head.remove_header(&name);
    }
    Some(asked.unwrap_or(fault.plan))
}

/// What a request asks for itself.
fn asked(headers: &HeaderMap) -> Option<FaultPlan> {
    let text = |name| headers.get(name)?.to_str().ok();
    let number = |name, low, high| {
        let number = text(name)?.trim().parse::<u16>().ok();
        number.filter(|number| (low..=high).contains(number))
    };
    let delay = text(DELAY).and_then(|text| text.trim().parse::<Time>().ok());
    let status = number(ABORT, 400, 599).map(Abort::Status);
    let abort = status.or_else(|| number(ABORT_GRPC, 1, 16).map(Abort::Grpc));
    let plan = FaultPlan {
        delay: delay.map(|time| (time.0.min(LONGEST_DELAY), Chance::CERTAIN)),
        abort: abort.map(|abort| (abort, Chance::CERTAIN)),
    };
    (plan != FaultPlan::default()).then_some(plan)
}

/// Rolls the dice. In a dry run only what is certain comes true; `explain` tells the rest as a chance.
pub(super) fn injected(plan: &FaultPlan, random: u64, effects: Effects) -> Option<Injected> {
    let takes = |chance: Chance, salt: u64| match effects.is_live() {
        true => chance.takes(mix(random ^ salt)),
        false => chance.is_certain(),
    };
    let delay = plan.delay.filter(|(_, chance)| takes(*chance, DELAY_SALT));
    let abort = plan.abort.filter(|(_, chance)| takes(*chance, ABORT_SALT));
    if delay.is_none() && abort.is_none() {
        return None;
    }
    Some(Injected {
        delay: delay.map(|(time, _)| time),
        abort: abort.map(|(abort, _)| Box::new(answer(abort))),
    })
}

fn answer(abort: Abort) -> Answer {
    let mut answer = Answer::of(&causes::FAULT_INJECTED);
    let code = match abort {
        Abort::Status(status) => {
            answer.status = status;
            return answer;
        }
        Abort::Grpc(code) => code,
    };
    // A response of trailers only, whatever the caller says it understands.
    let media = HeaderValue::from_static("application/grpc");
    let message = HeaderValue::from_static(causes::FAULT_INJECTED.name);
    answer.status = 200;
    answer.body = Some((media.clone(), bytes::Bytes::new()));
    answer
        .with(CONTENT_TYPE, media)
        .with(HeaderName::from_static("grpc-status"), code.into())
        .with(HeaderName::from_static("grpc-message"), message)
}

/// One random number decides on everything of a request, by parts that know nothing of each other.
const DELAY_SALT: u64 = 0x6465_6c61_7900_0001;
const ABORT_SALT: u64 = 0x6162_6f72_7400_0002;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_ask_for_faults_within_bounds() {
        let of = |fields: &[(&'static str, &'static str)]| {
            let pair = |(name, value): &(&'static str, &'static str)| {
                (name.parse().unwrap(), HeaderValue::from_static(value))
            };
            asked(&fields.iter().map(pair).collect::<HeaderMap>())
        };
        let delay = |plan: Option<FaultPlan>| plan.unwrap().delay.unwrap().0.as_millis();
        let abort = |plan: Option<FaultPlan>| plan.unwrap().abort.unwrap().0;

        assert_eq!(delay(of(&[("x-windrose-fault-delay", "200ms")])), 200);
        assert_eq!(delay(of(&[("x-windrose-fault-delay", "3d")])), 300_000);
        let both = [
            ("x-windrose-fault-abort", "503"),
            ("x-windrose-fault-abort-grpc", "14"),
        ];
        assert_eq!(abort(of(&both)), Abort::Status(503));
        assert_eq!(abort(of(&both[1..])), Abort::Grpc(14));
        for nonsense in ["200", "99", "x", ""] {
            assert_eq!(of(&[("x-windrose-fault-abort", nonsense)]), None);
        }
        assert_eq!(of(&[("x-windrose-fault-delay", "soon")]), None);
    }

    #[test]
    fn delay_and_abort_of_a_request_are_rolled_apart() {
        let half = Chance::new(0.5);
        let plan = FaultPlan {
            delay: Some((Duration::from_secs(1), half)),
            abort: Some((Abort::Status(503), half)),
        };

        let mut counts = [0; 4];
        for number in 0..4000_u64 {
            let injected = injected(&plan, mix(number), Effects::Live);
            let (delay, abort) = injected.map_or((false, false), |found| {
                (found.delay.is_some(), found.abort.is_some())
            });
            counts[usize::from(delay) * 2 + usize::from(abort)] += 1;
        }

        // Six standard deviations; the numbers are always the same.
        assert!(
            counts.iter().all(|count| (836..1164).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn in_a_dry_run_only_what_is_certain_comes_true() {
        let plan = FaultPlan {
            delay: Some((Duration::from_secs(1), Chance::new(0.99))),
            abort: Some((Abort::Status(500), Chance::CERTAIN)),
        };

        let found = injected(&plan, 0, Effects::Dry).unwrap();

        assert!(found.delay.is_none());
        assert_eq!(found.abort.map(|answer| answer.status), Some(500));
    }
}
