//! Mirrors: pools, bounds, and what is compared, in final form.
//! It must not know requests.
//! Called by `experiment` for each rule.

use http::HeaderValue;

use super::routes::Workshop;
use crate::config::schema;
use crate::snapshot::gate::Bounds;
use crate::snapshot::route::{Chance, Compare, CompareBody, Mirror, Pointer};

impl Workshop<'_> {
    /// A mirror; `None` where rules have found it impossible.
    pub(super) fn mirror(&self, route: &str, mirror: &schema::Mirror) -> Option<Mirror> {
        let compare = match &mirror.compare {
            Some(given) => Some(compare(given)?),
            None => None,
        };
        Some(Mirror {
            name: mirror.pool.as_str().into(),
            pool: self.pool(&mirror.pool, &Default::default()),
            chance: Chance::new(mirror.percent.fraction()),
            body_limit: bytes(mirror.body_limit.0),
            timeout: mirror.timeout.0,
            bounds: Bounds {
                inside: mirror.concurrency as usize,
                waiting: mirror.queue as usize,
            },
            compare,
            mark: HeaderValue::from_str(route).ok()?,
            metrics: self.means.metrics.mirror(route, &mirror.pool),
        })
    }
}

fn compare(given: &schema::Compare) -> Option<Compare> {
    let headers = given.headers.iter().map(|name| name.parse().ok());
    let ignore = given.ignore.iter().map(|text| Pointer::new(text));
    Some(Compare {
        status: given.status,
        headers: headers.collect::<Option<_>>()?,
        body: match given.body {
            schema::CompareBody::None => CompareBody::None,
            schema::CompareBody::Bytes => CompareBody::Bytes,
            schema::CompareBody::Json => CompareBody::Json,
            schema::CompareBody::JsonShape => CompareBody::JsonShape,
        },
        ignore: ignore.collect::<Option<_>>()?,
        latency: given.latency,
        body_limit: bytes(given.body_limit.0),
    })
}

fn bytes(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}
