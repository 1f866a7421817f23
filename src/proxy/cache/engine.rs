//! The store as Pingora's cache engine sees it: one for the process, which finds the plugin's cache in the key of each request.
//! It must not know what is kept or until when.
//! Given to Pingora by `enable`; reads and writes whole bodies in memory, piece by piece.

use std::any::Any;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::StatusCode;
use pingora::{Error, ErrorType, Result};
use pingora_cache::lock::{CacheKeyLockImpl, CacheLock};
use pingora_cache::predictor::CacheablePredictor;
use pingora_cache::storage::{
    HandleHit, HandleMiss, HitHandler, MissFinishType, MissHandler, PurgeOutcome, PurgeTarget,
    PurgeType, Storage,
};
use pingora_cache::trace::SpanHandle;
use pingora_cache::{CacheKey, CacheMeta, NoCacheReason};
use windrose_plugins::contract::Stored;

use super::{meta, Look, OLDEST_FETCH};

/// Pingora wants stores that live for ever; this one holds nothing.
pub(super) struct Engine;

pub(super) static ENGINE: Engine = Engine;

/// Who fetches what. It holds an entry for each fetch under way.
pub(in crate::proxy) static LOCK: LazyLock<Box<CacheKeyLockImpl>> =
    LazyLock::new(|| CacheLock::new_boxed(OLDEST_FETCH));

fn look(key: &CacheKey) -> Result<&Arc<Look>> {
    let look = key.extensions.get::<Arc<Look>>();
    look.ok_or_else(|| Error::explain(ErrorType::InternalError, "a key that is not ours"))
}

#[async_trait]
impl Storage for Engine {
    async fn lookup(
        &'static self,
        key: &CacheKey,
        _: &SpanHandle,
    ) -> Result<Option<(CacheMeta, HitHandler)>> {
        let look = look(key)?;
        let found = look.cache.find(&look.wanted, &look.fields);
        look.set_found(found.clone());
        Ok(found.map(|stored| {
            let hit: HitHandler = Box::new(Hit {
                rest: stored.body.clone(),
                body: stored.body.clone(),
            });
            (meta(&stored, stored.head.clone()), hit)
        }))
    }

    async fn get_miss_handler(
        &'static self,
        key: &CacheKey,
        _: &CacheMeta,
        _: &SpanHandle,
    ) -> Result<MissHandler> {
        let look = look(key)?;
        let stored = look.coming().ok_or_else(|| {
            Error::explain(ErrorType::InternalError, "a response that was not judged")
        })?;
        Ok(Box::new(Fill {
            look: look.clone(),
            stored: Some(stored),
            pieces: Vec::new(),
            room: 0,
        }))
    }

    async fn purge(
        &'static self,
        _: PurgeTarget<'_>,
        _: PurgeType,
        _: &SpanHandle,
    ) -> Result<PurgeOutcome> {
        // The plugin's cache purges by itself.
        Ok(PurgeOutcome::NotFound)
    }

    async fn update_meta(
        &'static self,
        key: &CacheKey,
        _: &CacheMeta,
        _: &SpanHandle,
    ) -> Result<bool> {
        let look = look(key)?;
        let Some(stored) = look.coming() else {
            return Ok(false);
        };
        if let Some(before) = look.found() {
            if before.vary != stored.vary {
                look.cache.drop_stored(&before);
            }
        }
        look.set_found(Some(Arc::new(stored.clone())));
        let is_kept = look.cache.keep(look.wanted.since, stored);
        if is_kept {
            look.kept();
        }
        Ok(is_kept)
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync + 'static) {
        self
    }
}

/// A stored body on its way out.
struct Hit {
    body: Bytes,
    rest: Bytes,
}

#[async_trait]
impl HandleHit for Hit {
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        let next = self.rest.len().min(PIECE);
        Ok((next > 0).then(|| self.rest.split_to(next)))
    }

    async fn finish(
        self: Box<Self>,
        _: &'static (dyn Storage + Sync),
        _: &CacheKey,
        _: &SpanHandle,
    ) -> Result<()> {
        Ok(())
    }

    fn can_seek(&self) -> bool {
        true
    }

    fn seek(&mut self, start: usize, end: Option<usize>) -> Result<()> {
        let end = end.unwrap_or(self.body.len()).min(self.body.len());
        if start > end {
            return Error::e_explain(ErrorType::InternalError, "a range beyond the stored body");
        }
        self.rest = self.body.slice(start..end);
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self
    }
}

/// A body on its way in.
struct Fill {
    look: Arc<Look>,
    /// `None` once there was no room for it.
    stored: Option<Stored>,
    pieces: Vec<Bytes>,
    room: u64,
}

impl Fill {
    fn give_back(&mut self) {
        self.pieces.clear();
        self.look.cache.unfill(std::mem::take(&mut self.room));
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[async_trait]
impl HandleMiss for Fill {
    async fn write_body(&mut self, data: Bytes, _: bool) -> Result<()> {
        if self.stored.is_none() || data.is_empty() {
            return Ok(());
        }
        let bytes = data.len() as u64;
        if self.look.cache.fills(bytes) {
            self.room += bytes;
            // A piece may be a part of a larger buffer, which would be held with it.
            self.pieces.push(Bytes::copy_from_slice(&data));
        } else {
            self.stored = None;
            self.give_back();
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<MissFinishType> {
        let size = usize::try_from(self.room).unwrap_or(usize::MAX);
        if let Some(stored) = self.stored.take() {
            let body = joined(std::mem::take(&mut self.pieces));
            if let Some(stored) = whole(stored, body) {
                if self.look.cache.keep(self.look.wanted.since, stored) {
                    self.look.kept();
                }
            }
        }
        Ok(MissFinishType::Created(size))
    }
}

/// A response with all of its body. `None` where its length is not what it says: it is not whole then (RFC 9111 section 3.3).
pub(super) fn whole(mut stored: Stored, body: Bytes) -> Option<Stored> {
    let said = stored.head.headers.get(CONTENT_LENGTH);
    let said = said.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let has_body = stored.head.status != StatusCode::NO_CONTENT;
    if has_body && said.is_some_and(|length| length != body.len()) {
        return None;
    }
    if has_body {
        stored.head.insert_header(CONTENT_LENGTH, body.len()).ok()?;
    }
    stored.body = body;
    Some(stored)
}

fn joined(mut pieces: Vec<Bytes>) -> Bytes {
    if pieces.len() == 1 {
        return pieces.remove(0);
    }
    let mut all = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    pieces.iter().for_each(|piece| all.extend_from_slice(piece));
    all.freeze()
}

/// Requests whose responses were not kept do not wait for each other.
impl CacheablePredictor for Engine {
    fn cacheable_prediction(&self, key: &CacheKey) -> bool {
        !look(key).is_ok_and(|look| {
            let is_fetched_anyway = look.wanted.fills && !look.wanted.asks.only_if_cached;
            is_fetched_anyway && look.cache.is_remembered(&look.wanted.key)
        })
    }

    // What is remembered is said where a response is judged, which knows why it is not kept.
    fn mark_cacheable(&self, _: &CacheKey) -> bool {
        false
    }

    fn mark_uncacheable(&self, _: &CacheKey, _: NoCacheReason) -> Option<bool> {
        None
    }

    fn predicted_uncacheable_reason(&self, _: &CacheKey) -> Option<NoCacheReason> {
        Some(NoCacheReason::OriginNotCache)
    }
}

/// Stored bodies go out in pieces, so that hooks and slow clients have time for each.
const PIECE: usize = 64 << 10;
