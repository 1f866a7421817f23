//! The view of caches: what their stores hold; and purging them by hand.
//! It must not know how responses are stored.
//! Called by `admin`; `windrose cache` renders it.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{Response, StatusCode};
use serde::Serialize;
use windrose_plugins::contract::{Purge, ResponseCache};

use super::answer;
use crate::snapshot::chain::Chain;
use crate::snapshot::Snapshot;

/// Every cache.
#[derive(Serialize)]
pub(super) struct Caches {
    caches: Vec<CacheView>,
}

/// What a cache holds.
#[derive(Serialize)]
struct CacheView {
    /// The plugin instance.
    name: String,
    /// Stored responses.
    objects: u64,
    /// Bytes they take.
    bytes: u64,
    /// Bytes they may take.
    most_bytes: u64,
}

/// What was purged.
#[derive(Serialize)]
struct Purged {
    purged: u64,
    /// How much of it in which cache.
    caches: Vec<PurgedOne>,
}

#[derive(Serialize)]
struct PurgedOne {
    name: String,
    purged: u64,
}

/// The caches in use, by name: instances of one name share a store.
fn all(snapshot: &Snapshot) -> BTreeMap<&str, &Arc<dyn ResponseCache>> {
    let listeners = snapshot.listeners.iter().map(|one| &one.chain);
    let rules = snapshot.rules.iter().map(|rule| &rule.chain);
    let instances = listeners.chain(rules).filter_map(Chain::cache);
    let with_name = instances.filter_map(|one| Some((&*one.name, one.hooks.cache.as_ref()?)));
    with_name.collect()
}

pub(super) fn view(snapshot: &Snapshot) -> Caches {
    let one = |(name, cache): (&str, &Arc<dyn ResponseCache>)| {
        let fill = cache.fill();
        CacheView {
            name: name.to_owned(),
            objects: fill.objects,
            bytes: fill.bytes,
            most_bytes: fill.most,
        }
    };
    Caches {
        caches: all(snapshot).into_iter().map(one).collect(),
    }
}

/// Purges what the query names: `url=`, `tag=` or `all`, and with `plugin=` in one cache only.
pub(super) fn purge(snapshot: &Snapshot, query: &str) -> Response<Vec<u8>> {
    match purged(snapshot, query) {
        Ok(purged) => answer::json(StatusCode::OK, &purged),
        Err(problem) => answer::refusal(StatusCode::BAD_REQUEST, &problem),
    }
}

fn purged(snapshot: &Snapshot, query: &str) -> Result<Purged, String> {
    let (what, plugin) = order(query)?;
    let caches = all(snapshot);
    if let Some(name) = plugin.as_deref().filter(|name| !caches.contains_key(name)) {
        let known: Vec<&str> = caches.keys().copied().collect();
        let known = match known.is_empty() {
            true => "there is no cache".to_owned(),
            false => format!("there are {}", known.join(", ")),
        };
        return Err(format!("no cache is named \"{name}\"; {known}"));
    }
    let chosen = |name: &&str| plugin.as_deref().is_none_or(|wanted| wanted == *name);
    let mut gone = Vec::new();
    for (name, cache) in caches.into_iter().filter(|(name, _)| chosen(name)) {
        gone.push(PurgedOne {
            name: name.to_owned(),
            purged: cache.purge(&what)?,
        });
    }
    Ok(Purged {
        purged: gone.iter().map(|one| one.purged).sum(),
        caches: gone,
    })
}

fn order(query: &str) -> Result<(Purge, Option<String>), String> {
    let (mut what, mut plugin) = (Vec::new(), None);
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let value = decoded(value)?;
        match name {
            "url" => what.push(Purge::Url(value)),
            "tag" => what.push(Purge::Tag(value)),
            "all" => what.push(Purge::All),
            "plugin" => plugin = Some(value),
            _ => {
                return Err(format!(
                    "\"{name}\" is not known; there are url, tag, all and plugin"
                ))
            }
        }
    }
    match (what.pop(), what.is_empty()) {
        (Some(what), true) => Ok((what, plugin)),
        _ => Err("one of url=, tag= and all says what is purged".to_owned()),
    }
}

/// A value as it was before it was encoded.
fn decoded(value: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let code = digit()
            .zip(digit())
            .and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        bytes.push(code.ok_or("a percent sign without two hex digits")?);
    }
    String::from_utf8(bytes).map_err(|_| "a value that is no text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_names_one_thing() {
        let url = order("url=https%3A%2F%2Fa.test%2F%3Fb%3D1&plugin=shop");

        assert_eq!(
            url,
            Ok((
                Purge::Url("https://a.test/?b=1".into()),
                Some("shop".into())
            ))
        );
        assert_eq!(order("all"), Ok((Purge::All, None)));
        for wrong in ["", "all&tag=a", "plugin=a", "url=%zz", "url=%f", "what=a"] {
            assert!(order(wrong).is_err(), "{wrong}");
        }
    }
}
