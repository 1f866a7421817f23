//! What a cache of the rule or the listener wants to do with a request that goes on to a pool.
//! It must not know what is stored; asking changes nothing, so dry runs ask as well.
//! Part of the way of a request, after its plugins and policies.

use std::borrow::Cow;
use std::sync::Arc;

use pingora::http::RequestHeader;
use windrose_plugins::contract::{CacheRequest, CacheWish, ResponseCache};

use super::walk::{Next, Walk};
use super::{Stage, Trace};
use crate::snapshot::chain::{Mode, Way};
use crate::snapshot::route::{Action, Candidate};

/// What a cache wants to do with a request.
pub struct Caching {
    /// The cache.
    pub cache: Arc<dyn ResponseCache>,
    /// Its wish.
    pub wish: CacheWish,
}

impl Walk<'_> {
    /// What the cache of the rule, or else of the listener, wants to do. One in the shadow only says so.
    pub(super) fn caching<T: Trace>(
        &self,
        candidate: &Candidate,
        head: &RequestHeader,
        next: &Next,
        trace: &mut T,
    ) -> Option<Box<Caching>> {
        let rule = &candidate.rule;
        let own = rule.chain.cache().map(|one| (one, Stage::Route));
        let others = || Some((self.listener.chain.cache()?, Stage::Listener));
        let (instance, stage) = own.or_else(others)?;
        let cache = instance.hooks.cache.as_ref()?;
        let pool = &next.pool;
        let pool: Cow<'_, str> = match pool.subset_labels() {
            None => (&*pool.name).into(),
            // Shares of a split may be subsets of one pool, which answer otherwise.
            Some(labels) => format!("{} {labels:?}", pool.name).into(),
        };
        let asked = CacheRequest {
            head,
            client: &self.facts.view(self.listener, &rule.route),
            principal: self.principal.as_ref(),
            rule: rule.index,
            pool: &pool,
            is_elsewhere: matches!(rule.action, Action::Passthrough(_)),
            is_stream: next.nature.is_stream(),
        };
        let wish = match cache.ask(&asked) {
            // What a plugin holds back is written past the engine that keeps responses.
            CacheWish::Look(_) if Way::new(&rule.chain, &self.listener.chain).may_hold() => {
                CacheWish::Bypass("held")
            }
            wish => wish,
        };
        trace.caching(stage, instance, &wish);
        (instance.mode == Mode::Enforce).then(|| {
            Box::new(Caching {
                cache: cache.clone(),
                wish,
            })
        })
    }
}
