//! What is tried out on a rule's requests: faults and mirrors.
//! It must not know requests.
//! Called by `routes` for each rule.

use http::HeaderName;

use super::routes::{self, Workshop};
use super::split::guard;
use crate::config::schema;
use crate::snapshot::route::{
    Abort, Chance, Experiments, Fault, FaultPlan, Mirror, ValueCondition,
};

impl Workshop<'_> {
    /// The experiments of a rule; `None` for most, which pay nothing for them.
    pub(super) fn experiments(
        &self,
        route: &schema::Route,
        rule: &schema::Rule,
    ) -> Option<Box<Experiments>> {
        if route.is_quarantined {
            return None;
        }
        let fault = rule
            .fault
            .as_ref()
            .and_then(|it| self.fault(&route.name, it));
        let mirrors = rule.mirror.iter();
        let mirrors: Box<[Mirror]> = mirrors
            .filter_map(|it| self.mirror(&route.name, it))
            .collect();
        let is_any = fault.is_some() || !mirrors.is_empty();
        is_any.then(|| Box::new(Experiments { fault, mirrors }))
    }

    /// `None` where rules have found it impossible.
    fn fault(&self, route: &str, fault: &schema::Fault) -> Option<Fault> {
        let delay = fault.delay.as_ref();
        let abort = match &fault.abort {
            Some(abort) => Some(self::abort(abort)?),
            None => None,
        };
        let when = fault.when.headers.iter();
        let when: Option<Box<[(HeaderName, ValueCondition)]>> = when
            .map(|(name, value)| Some((name.parse().ok()?, routes::value(value)?)))
            .collect();
        Some(Fault {
            plan: FaultPlan {
                delay: delay.map(|delay| (delay.time.0, Chance::new(delay.percent.fraction()))),
                abort,
            },
            when: when?,
            guard: guard(&fault.principals, &fault.clients),
            by_header: fault.by_header,
            metrics: self.means.metrics.fault(route),
        })
    }
}

fn abort(abort: &schema::FaultAbort) -> Option<(Abort, Chance)> {
    let what = match (abort.status, abort.grpc_status) {
        (Some(status), _) => Abort::Status(status),
        (None, Some(code)) => Abort::Grpc(code),
        (None, None) => return None,
    };
    Some((what, Chance::new(abort.percent.fraction())))
}
