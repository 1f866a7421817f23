//! The key of a request for consistent hashing.
//! It must not know what is chosen by it.
//! Called for each attempt.

use pingora::http::RequestHeader;

use crate::decide::Facts;
use crate::snapshot::balance;
use crate::snapshot::pool::{Algorithm, HashKey, Pool};

pub(super) fn hash(pool: &Pool, request: &RequestHeader, facts: &Facts) -> Option<u64> {
    if !matches!(
        pool.settings.algorithm,
        Algorithm::Maglev | Algorithm::Ketama
    ) {
        return None;
    }
    match &pool.settings.hash {
        HashKey::ClientIp => facts
            .client
            .map(|client| balance::hash_bytes(client.to_string().as_bytes())),
        HashKey::Path => Some(balance::hash_bytes(facts.path.as_bytes())),
        HashKey::Header(name) => request
            .headers
            .get(name)
            .map(|value| balance::hash_bytes(value.as_bytes())),
        HashKey::Cookie(name) => cookie(request, name).map(balance::hash_bytes),
    }
}

fn cookie<'r>(request: &'r RequestHeader, wanted: &str) -> Option<&'r [u8]> {
    let crumbs = request
        .headers
        .get_all(http::header::COOKIE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    crumbs.map(<[u8]>::trim_ascii).find_map(|crumb| {
        let value = crumb.strip_prefix(wanted.as_bytes())?;
        value.strip_prefix(b"=")
    })
}
