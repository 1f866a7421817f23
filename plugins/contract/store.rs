//! Stores that several proxies share, as plugins see them: a few operations, each one round trip with a bound on its time.
//! It must not know which server is behind them or how it is reached; while it is not, operations fail at once.
//! Given to plugins through `Build::store`; the proxy implements [`StoreClient`], and so does the test kit.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Effects, Unknown};

/// A store under its name. Asked only by traffic: a dry run gets [`Unknown`].
#[derive(Clone)]
pub struct Store {
    name: Arc<str>,
    client: Arc<dyn StoreClient>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.name)
    }
}

impl Store {
    /// A handle for plugins.
    pub fn new(name: impl Into<Arc<str>>, client: Arc<dyn StoreClient>) -> Store {
        Store {
            name: name.into(),
            client,
        }
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What can be asked of it.
    ///
    /// # Errors
    /// In a dry run, which asks nothing and changes nothing.
    pub fn live(&self, effects: Effects) -> Result<&dyn StoreClient, Unknown> {
        match effects {
            Effects::Live => Ok(&*self.client),
            Effects::Dry | Effects::Peek => Err(Unknown("a shared store".into())),
        }
    }
}

/// Why a store did not do what it was asked for. Nothing is known of whether it did: a command may arrive after its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreFailure {
    /// There is no connection to it. Told at once, without waiting.
    Unavailable,
    /// It did not answer within the time its settings give it.
    TimedOut,
    /// As many operations are under way as its settings allow.
    Busy,
    /// It answered with this error.
    Refused(String),
}

impl StoreFailure {
    /// The word in metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            StoreFailure::Unavailable => "unavailable",
            StoreFailure::TimedOut => "timed_out",
            StoreFailure::Busy => "busy",
            StoreFailure::Refused(_) => "refused",
        }
    }
}

impl fmt::Display for StoreFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreFailure::Unavailable => f.write_str("the store is not connected"),
            StoreFailure::TimedOut => f.write_str("the store did not answer in time"),
            StoreFailure::Busy => f.write_str("too many operations wait for the store"),
            StoreFailure::Refused(error) => write!(f, "the store refused: {error}"),
        }
    }
}

/// The future of an operation.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreFailure>> + Send + 'a>>;

/// A bucket that fills at a steady pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenLaw {
    /// Tokens that grow in each `per`, at least 1.
    pub rate: u64,
    /// The time `rate` is counted over.
    pub per: Duration,
    /// The most that fit in.
    pub burst: u64,
}

/// A number of uses in any span of time, counted in whole windows of which the last one fades.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowLaw {
    /// Uses in a window, at least 1.
    pub limit: u64,
    /// The window's length.
    pub per: Duration,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// As many uses as there are, up to `most`; none where there are fewer than `least`.
    Take {
        /// At least 1.
        least: u64,
        /// At least as many.
        most: u64,
    },
    /// So many, also where there are fewer: what is missing has to grow before anything is given again.
    Owe(u64),
    /// Gives so many back, as far as they fit.
    Return(u64),
}

impl Wish {
    /// Up to so many.
    pub fn up_to(most: u64) -> Wish {
        Wish::Take {
            least: 1,
            most: most.max(1),
        }
    }
}

/// What came of asking for a number of uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Granted {
    /// How many were given.
    pub granted: u64,
    /// How many are left.
    pub remaining: u64,
    /// Time until one is left, or as many as were asked for at least where none was given; zero while they are.
    pub next: Duration,
    /// Time until all are there again.
    pub full: Duration,
}

/// The operations. Each is one round trip. Keys are texts without control characters, at most 512 bytes; the store's own prefix
/// stands before them, and its clock counts.
pub trait StoreClient: Send + Sync {
    /// Takes tokens from the key's bucket, which is full when it is new.
    fn take_tokens<'a>(
        &'a self,
        key: &'a str,
        law: TokenLaw,
        wish: Wish,
    ) -> StoreFuture<'a, Granted>;

    /// Adds uses to the key's window. What is owed there is forgotten with the window after it.
    fn add_in_window<'a>(
        &'a self,
        key: &'a str,
        law: WindowLaw,
        wish: Wish,
    ) -> StoreFuture<'a, Granted>;

    /// Adds uses to the key's count, as long as that stays within `limit`; the count ends at `until`, a time since 1970.
    /// `next` and `full` are not told: whoever asks knows when the count ends.
    fn add_until<'a>(
        &'a self,
        key: &'a str,
        limit: u64,
        wish: Wish,
        until: Duration,
    ) -> StoreFuture<'a, Granted>;

    /// The key's value, if it has one.
    fn get<'a>(&'a self, key: &'a str) -> StoreFuture<'a, Option<Bytes>>;

    /// Gives the key a value for a time of at least a millisecond.
    fn set<'a>(&'a self, key: &'a str, value: Bytes, lives: Duration) -> StoreFuture<'a, ()>;

    /// Takes the key's value away.
    fn delete<'a>(&'a self, key: &'a str) -> StoreFuture<'a, ()>;
}

/// Who knows the stores of a configuration.
pub trait Stores: Send + Sync {
    /// The store of this name. Asking for it counts as its use.
    fn store(&self, name: &str) -> Option<Store>;

    /// The names of all of them, in order.
    fn names(&self) -> Vec<String>;
}
