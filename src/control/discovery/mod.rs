//! Finds the endpoints of pools that name a source instead of addresses.
//! It must not know what becomes of the endpoints; it publishes them into the pool's slot.
//! Called by `PoolKeeper`: once for a first answer, then as a task for each pool.

mod dns;
mod file;
pub(super) mod watch;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::pools::slot::Slot;
use crate::snapshot::pool::{EndpointSpec, Source};
use watch::Folders;

/// Work without a result, for a task of its own.
pub(super) type Work = Pin<Box<dyn Future<Output = ()> + Send>>;
/// An answer of a source: endpoints, or what is wrong with it.
pub(super) type Answer = Result<Vec<EndpointSpec>, String>;

/// Asks sources.
#[derive(Default)]
pub(super) struct Finder {
    folders: Arc<Folders>,
}

impl Finder {
    /// One answer of a source. A static pool has nothing to ask for.
    pub(super) fn ask(&self, source: &Source) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        match source {
            Source::Static => Box::pin(std::future::ready(Ok(Vec::new()))),
            Source::Dns(source) => {
                let source = source.clone();
                Box::pin(async move { dns::ask(&source, &[]).await.map(|found| found.specs) })
            }
            Source::File(path) => Box::pin(file::read(path.clone())),
        }
    }

    /// Work that follows a source for as long as it runs; none for a static pool.
    pub(super) fn follow(&self, slot: &Arc<Slot>, source: &Source) -> Option<Work> {
        match source {
            Source::Static => None,
            Source::Dns(source) => Some(Box::pin(dns::follow(slot.clone(), source.clone()))),
            Source::File(path) => {
                let changes = self.folders.watch([path.as_path()]);
                Some(Box::pin(file::follow(slot.clone(), path.clone(), changes)))
            }
        }
    }
}
