//! What of a request decides about its endpoint: the key of consistent hashing, and the session it belongs to.
//! It must not know what is chosen by it.
//! Called for each attempt.

use std::net::IpAddr;

use pingora::http::RequestHeader;

use crate::decide::{key, Facts};
use crate::snapshot::balance;
use crate::snapshot::pool::{Affinity, Balance, HashKey};

/// The hash of the first key that the request has; `None` for pools that hash nothing.
pub(in crate::proxy) fn hash(
    balance: &Balance,
    request: &RequestHeader,
    facts: &Facts,
) -> Option<u64> {
    match &balance.affinity {
        Some(Affinity::Header(name)) => {
            return key::header(&request.headers, name).map(balance::hash_bytes);
        }
        Some(Affinity::Address) => return of_address(facts.client),
        Some(Affinity::Cookie(_)) | None => {}
    }
    if !balance.algorithm.is_consistent() {
        return None;
    }
    balance.hash.iter().find_map(|one| match one {
        HashKey::ClientIp => of_address(facts.client),
        HashKey::Path => Some(balance::hash_bytes(facts.path.as_bytes())),
        HashKey::Header(name) => key::header(&request.headers, name).map(balance::hash_bytes),
        HashKey::Cookie(name) => key::cookie(&request.headers, name).map(balance::hash_bytes),
        HashKey::Query(name) => {
            let value = key::query(request.uri.query(), name);
            value.map(|value| balance::hash_bytes(&value))
        }
    })
}

/// The same for a connection of bytes, which has nothing but its client.
pub(in crate::proxy) fn hash_of_client(balance: &Balance, client: IpAddr) -> Option<u64> {
    let hashes = balance.algorithm.is_consistent() || balance.affinity.is_some();
    of_address(Some(client).filter(|_| hashes))
}

fn of_address(client: Option<IpAddr>) -> Option<u64> {
    client.map(|client| balance::hash_bytes(&key::address(client)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::pool::Algorithm;

    fn hashed(keys: Vec<HashKey>, target: &str, fields: &[(&'static str, &str)]) -> Option<u64> {
        let mut request = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
        for (name, value) in fields {
            request.append_header(*name, *value).unwrap();
        }
        let balance = Balance {
            hash: keys,
            ..Balance::of(Algorithm::Maglev)
        };
        hash(&balance, &request, &Facts::default())
    }

    #[test]
    fn the_first_key_that_a_request_has_is_hashed() {
        let keys = || {
            vec![
                HashKey::Cookie("sid".into()),
                HashKey::Header(http::HeaderName::from_static("x-user")),
                HashKey::Query("u".into()),
            ]
        };
        let of = |text: &str| Some(balance::hash_bytes(text.as_bytes()));
        let all = [("cookie", "a=b; sid=one"), ("x-user", "two")];

        assert_eq!(hashed(keys(), "/?u=three", &all), of("one"));
        assert_eq!(hashed(keys(), "/?u=three", &all[1..]), of("two"));
        assert_eq!(hashed(keys(), "/?uu=no&u=three", &[]), of("three"));
        assert_eq!(hashed(keys(), "/?%75=th%72ee", &[]), of("three"));
        let empty = [("cookie", "sid="), ("x-user", "")];
        assert_eq!(hashed(keys(), "/?u", &empty), None);
        assert_eq!(hashed(keys(), "/", &[]), None);
    }

    #[test]
    fn an_address_has_one_hash_in_both_its_forms() {
        let balance = Balance::of(Algorithm::Maglev);
        let of = |text: &str| hash_of_client(&balance, text.parse().unwrap());

        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.2"), of("10.0.0.1"));
    }
}
