//! Which share of a split a request gets: the one it names, that of its key, or one by chance.
//! It must not know how shares are drawn; the split does that.
//! Called by [`Walk::act`](super::Walk::act), and for connections passed through as bytes.

use std::borrow::Cow;
use std::net::IpAddr;

use http::HeaderMap;
use windrose_plugins::contract::{Effects, Principal};

use super::{fields, key, Facts};
use crate::observe::metrics::ChosenBy;
use crate::snapshot::balance::hash_bytes;
use crate::snapshot::route::{OverrideBy, Share, Split, StickyKey};

/// What of a request can decide.
pub(super) struct Asking<'a> {
    pub(super) facts: &'a Facts,
    pub(super) headers: &'a HeaderMap,
    pub(super) query: Option<&'a str>,
    pub(super) principal: Option<&'a Principal>,
    pub(super) effects: Effects,
    pub(super) random: u64,
}

impl Asking<'_> {
    /// The share, and what decided.
    pub(super) fn share<'s>(&self, split: &'s Split) -> (&'s Share, ChosenBy) {
        if let Some(share) = self.named(split) {
            return (share, ChosenBy::Override);
        }
        let key = split.sticky.as_ref().and_then(|key| self.key(key));
        match key {
            Some(key) => (split.by_key(hash_bytes(&key)), ChosenBy::Sticky),
            None => (split.by_chance(self.random), ChosenBy::Chance),
        }
    }

    /// The share that the request names and its caller may choose.
    fn named<'s>(&self, split: &'s Split) -> Option<&'s Share> {
        let overriding = split.overriding.as_ref()?;
        let name = match &overriding.by {
            OverrideBy::Header(name) => self.headers.get(name)?.as_bytes(),
            OverrideBy::Cookie(name) => fields::cookie(self.headers, name)?,
        };
        let share = split.by_name(name.trim_ascii())?;
        let principal = || self.principal.map(Principal::id);
        let may = overriding.guard.admits(self.facts.client, principal);
        may.then_some(share)
    }

    /// The key that keeps a user in a share.
    fn key(&self, by: &StickyKey) -> Option<Cow<'_, [u8]>> {
        let bytes = match by {
            StickyKey::ClientIp => Cow::Owned(key::address(self.facts.client?)),
            StickyKey::Principal => Cow::Owned(self.principal?.id().into_bytes()),
            StickyKey::Header(name) => Cow::Borrowed(key::header(self.headers, name)?),
            StickyKey::Cookie(name) => Cow::Borrowed(key::cookie(self.headers, name)?),
            StickyKey::Query(name) => key::query(self.query, name)?,
        };
        // A record tells that a key was there, not which one: what it decided cannot be known.
        let is_redacted = !self.effects.is_live() && *bytes == *b"***";
        (!is_redacted).then_some(bytes)
    }
}

/// The share of a connection that is passed through as bytes: by its address, if the split is sticky.
pub fn share_of_connection(split: &Split, client: IpAddr, random: u64) -> &Share {
    let (share, by) = match split.sticky {
        Some(_) => (
            split.by_key(hash_bytes(&key::address(client))),
            ChosenBy::Sticky,
        ),
        None => (split.by_chance(random), ChosenBy::Chance),
    };
    share.metrics.chosen(by);
    share
}
