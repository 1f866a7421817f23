//! The cache of a chain: the one plugin that may answer requests from a store.
//! It must not know what is stored.
//! Part of the chain, apart because no hook is run for it.

use std::sync::Arc;

use super::{Chain, Instance};

impl Chain {
    /// The plugin whose cache answers requests.
    pub fn cache(&self) -> Option<&Arc<Instance>> {
        self.cache.as_ref()
    }
}
