//! How calls of plugins reach a pool: what carries them, as far as a snapshot has to know it.
//! It must not know how: `proxy` does, and `app` hands it in.
//! Used by `config::compile` for each target that plugins name.

use std::sync::Arc;

use windrose_plugins::contract::{Call, CallFailure, CallFuture, Carrier};

use super::pool::Pool;

/// Carries a call through a pool.
pub trait Exchange: Send + Sync {
    /// Carries it.
    fn exchange(&self, pool: Arc<Pool>, call: Call) -> CallFuture;
}

/// Where no traffic is: every pool is out of reach. Dry runs ask nobody in the first place.
pub struct OutOfReach;

impl Exchange for OutOfReach {
    fn exchange(&self, _: Arc<Pool>, _: Call) -> CallFuture {
        nobody()
    }
}

/// Calls one target of a snapshot.
pub struct Line {
    /// The pool; `None` for one that is set aside.
    pub pool: Option<Arc<Pool>>,
    /// What carries them.
    pub exchange: Arc<dyn Exchange>,
}

impl Carrier for Line {
    fn carry(&self, call: Call) -> CallFuture {
        match &self.pool {
            Some(pool) => self.exchange.exchange(pool.clone(), call),
            None => nobody(),
        }
    }
}

fn nobody() -> CallFuture {
    Box::pin(std::future::ready(Err(CallFailure::NoEndpoint)))
}
