//! Stores that plugins share with other proxies: what may be asked of them, and the connection that is there or is not.
//! It must not connect: `control::stores` does, in the background, and puts the link in here.
//! Built by `config::compile`; kept over reloads while its settings are the same. Plugins ask it through their contract.

mod address;
mod script;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError, Value};
use tokio::sync::{Notify, Semaphore};
use tokio::task::AbortHandle;
use windrose_plugins::contract::{
    Granted, Store, StoreClient, StoreFailure, StoreFuture, Stores as NamedStores, TokenLaw,
    WindowLaw, Wish,
};
use zeroize::Zeroizing;

use crate::observe::metrics::StoreMetrics;
pub use address::Address;
pub use script::Script;

/// How a store is reached and used.
#[derive(Clone, PartialEq)]
pub struct Settings {
    /// Where it is.
    pub address: Address,
    /// The user, where it is not the default one.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Zeroizing<String>>,
    /// Authorities to believe instead of the system's, in PEM.
    pub ca: Option<Vec<u8>>,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long an operation may take.
    pub command_timeout: Duration,
    /// Operations under way at once.
    pub max_in_flight: u32,
    /// What keys begin with.
    pub prefix: String,
}

/// The stores of a configuration.
#[derive(Default, Clone)]
pub struct Stores(BTreeMap<Arc<str>, Arc<Cell>>);

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Stores {
    /// Adds a store: the one of before where its settings are the same.
    pub fn add(
        &mut self,
        name: &str,
        settings: Settings,
        before: Option<&Stores>,
        metrics: impl FnOnce() -> StoreMetrics,
    ) {
        let known = before.and_then(|before| before.0.get(name));
        let cell = match known.filter(|known| known.settings == settings) {
            Some(known) => known.clone(),
            None => Arc::new(Cell::new(name.into(), settings, metrics())),
        };
        self.0.insert(cell.name.clone(), cell);
    }

    /// All of them, by name.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Cell>> {
        self.0.values()
    }
}

impl NamedStores for Stores {
    fn store(&self, name: &str) -> Option<Store> {
        let cell = self.0.get(name)?;
        Some(Store::new(cell.name.clone(), cell.clone()))
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().map(|name| name.to_string()).collect()
    }
}

/// A connection that is ready: authenticated, in its database, with our scripts loaded.
pub struct Link {
    /// The connection, which many use at once.
    pub connection: MultiplexedConnection,
    /// The names that the store gave our scripts, in the order of [`Script::ALL`].
    pub scripts: [String; 3],
    /// Ends what moves bytes, and with it everything that waits for an answer.
    pub driver: AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// How a store is, for people.
#[derive(Debug, Clone)]
pub struct Health {
    /// Whether it is connected.
    pub is_up: bool,
    /// Since when that is so.
    pub since: SystemTime,
    /// Why it is not, or was not before.
    pub problem: Option<String>,
}

/// A store: its settings, and its connection while there is one.
pub struct Cell {
    /// Its name.
    pub name: Arc<str>,
    /// How it is reached and used.
    pub settings: Settings,
    link: ArcSwapOption<Link>,
    places: Semaphore,
    /// Operations in a row that had no answer.
    silent: AtomicU32,
    /// Told when the connection is of no use any more; the reason is in `health`.
    lost: Notify,
    health: Mutex<Health>,
    metrics: StoreMetrics,
}

impl Cell {
    fn new(name: Arc<str>, settings: Settings, metrics: StoreMetrics) -> Cell {
        metrics.up(false);
        Cell {
            name,
            places: Semaphore::new(settings.max_in_flight as usize),
            settings,
            link: ArcSwapOption::empty(),
            silent: AtomicU32::new(0),
            lost: Notify::new(),
            health: Mutex::new(Health {
                is_up: false,
                since: SystemTime::now(),
                problem: None,
            }),
            metrics,
        }
    }

    /// Lets operations use a connection from now on.
    pub fn connected(&self, link: Link) {
        self.silent.store(0, Relaxed);
        self.link.store(Some(Arc::new(link)));
        self.is(true, None);
    }

    /// Takes the connection away; whatever waits for an answer on it fails now.
    pub fn disconnected(&self, problem: String) {
        if let Some(link) = self.link.swap(None) {
            link.driver.abort();
        }
        self.is(false, Some(problem));
    }

    /// Returns once the connection is of no use any more, with the reason.
    pub async fn lost(&self) -> String {
        self.lost.notified().await;
        self.health().problem.unwrap_or_default()
    }

    /// The connection, if there is one.
    pub fn link(&self) -> Option<Arc<Link>> {
        self.link.load_full()
    }

    /// How it is.
    pub fn health(&self) -> Health {
        let health = self.health.lock();
        health.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is(&self, is_up: bool, problem: Option<String>) {
        self.metrics.up(is_up);
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if health.is_up != is_up {
            health.since = SystemTime::now();
        }
        health.is_up = is_up;
        if problem.is_some() {
            health.problem = problem;
        }
    }

    async fn run(
        &self,
        script: Script,
        key: &str,
        arguments: Vec<u64>,
    ) -> Result<Granted, StoreFailure> {
        let key = self.key(key);
        let value = self
            .counted(async {
                let link = self.link().ok_or(StoreFailure::Unavailable)?;
                let by_name = command("EVALSHA", &link.scripts[script as usize], &key, &arguments);
                match self.answer(&link, &by_name).await {
                    // Somebody emptied the store's scripts, or it started anew behind the same connection.
                    Err(Trouble::NoScript) => {
                        let by_text = command("EVAL", script.text(), &key, &arguments);
                        self.answer(&link, &by_text).await
                    }
                    other => other,
                }
                .map_err(|trouble| self.judged(trouble))
            })
            .await?;
        script::granted(&value)
            .ok_or_else(|| StoreFailure::Refused("an answer of another kind".to_owned()))
    }

    async fn plain(&self, command: Cmd) -> Result<Value, StoreFailure> {
        self.counted(async {
            let link = self.link().ok_or(StoreFailure::Unavailable)?;
            let answer = self.answer(&link, &command).await;
            answer.map_err(|trouble| self.judged(trouble))
        })
        .await
    }

    /// Runs an operation within its time and number, and counts how it went.
    async fn counted(
        &self,
        work: impl std::future::Future<Output = Result<Value, StoreFailure>>,
    ) -> Result<Value, StoreFailure> {
        let outcome = match self.places.try_acquire() {
            Err(_) => Err(StoreFailure::Busy),
            Ok(_place) => {
                let started = Instant::now();
                let outcome = tokio::time::timeout(self.settings.command_timeout, work).await;
                let outcome = outcome.unwrap_or_else(|_| {
                    self.unanswered();
                    Err(StoreFailure::TimedOut)
                });
                if outcome != Err(StoreFailure::Unavailable) {
                    self.metrics.took(started.elapsed());
                }
                outcome
            }
        };
        match &outcome {
            Ok(_) => self.metrics.answered(),
            Err(failure) => self.metrics.failed(failure),
        }
        outcome
    }

    async fn answer(&self, link: &Link, command: &Cmd) -> Result<Value, Trouble> {
        let mut connection = link.connection.clone();
        match connection.send_packed_command(command).await {
            Ok(Value::ServerError(error)) => Err(Trouble::of(&error.into())),
            Ok(value) => {
                self.silent.store(0, Relaxed);
                Ok(value)
            }
            Err(error) => Err(Trouble::of(&error)),
        }
    }

    /// One operation had no answer. A single one may have met a pause; three in a row did not.
    fn unanswered(&self) {
        if self.silent.fetch_add(1, Relaxed) + 1 >= MOST_SILENT {
            self.lose(format!("{MOST_SILENT} operations in a row had no answer"));
        }
    }

    fn judged(&self, trouble: Trouble) -> StoreFailure {
        match trouble {
            Trouble::Gone => {
                self.lose("the server closed the connection".to_owned());
                StoreFailure::Unavailable
            }
            Trouble::Unfit(error) => {
                self.lose(error.clone());
                StoreFailure::Refused(error)
            }
            Trouble::NoScript => StoreFailure::Refused("NOSCRIPT".to_owned()),
            Trouble::Refused(error) => StoreFailure::Refused(error),
        }
    }

    /// From now on operations fail at once, until there is a new connection.
    fn lose(&self, problem: String) {
        // Only the first says so: those that fail because of it have nothing to tell.
        if let Some(link) = self.link.swap(None) {
            self.is(false, Some(problem));
            // Before the driver ends, which would be told as another reason.
            self.lost.notify_one();
            link.driver.abort();
        }
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.settings.prefix)
    }
}

/// Operations in a row without an answer after which a connection counts as lost.
const MOST_SILENT: u32 = 3;

fn command(name: &str, script: &str, key: &str, arguments: &[u64]) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(script).arg(1).arg(key);
    for argument in arguments {
        command.arg(*argument);
    }
    command
}

/// Why a command has no good answer.
enum Trouble {
    /// The connection is gone.
    Gone,
    /// The server is not one to write to: it became a replica, is loading, or forgot who we are.
    Unfit(String),
    /// The server does not know the script.
    NoScript,
    /// Something else.
    Refused(String),
}

impl Trouble {
    fn of(error: &RedisError) -> Trouble {
        let Some(code) = error.code() else {
            return match error.is_io_error() || error.is_connection_dropped() {
                true => Trouble::Gone,
                false => Trouble::Refused(shown(error)),
            };
        };
        match code {
            "NOSCRIPT" => Trouble::NoScript,
            "READONLY" | "LOADING" | "MASTERDOWN" | "NOAUTH" | "CLUSTERDOWN" => {
                Trouble::Unfit(shown(error))
            }
            _ => Trouble::Refused(shown(error)),
        }
    }
}

/// An error of the server's, on one line of bounded length: it is shown to people.
pub fn shown(error: &RedisError) -> String {
    let text = match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (Some(code), None) => code.to_owned(),
        (None, _) => error.to_string(),
    };
    let is_plain = |c: &char| !c.is_control();
    text.chars().filter(is_plain).take(200).collect()
}

impl StoreClient for Cell {
    fn take_tokens<'a>(
        &'a self,
        key: &'a str,
        law: TokenLaw,
        wish: Wish,
    ) -> StoreFuture<'a, Granted> {
        Box::pin(self.run(Script::Take, key, script::take(law, wish)))
    }

    fn add_in_window<'a>(
        &'a self,
        key: &'a str,
        law: WindowLaw,
        wish: Wish,
    ) -> StoreFuture<'a, Granted> {
        Box::pin(self.run(Script::Window, key, script::window(law, wish)))
    }

    fn add_until<'a>(
        &'a self,
        key: &'a str,
        limit: u64,
        wish: Wish,
        until: Duration,
    ) -> StoreFuture<'a, Granted> {
        Box::pin(self.run(Script::Count, key, script::count(limit, wish, until)))
    }

    fn get<'a>(&'a self, key: &'a str) -> StoreFuture<'a, Option<Bytes>> {
        Box::pin(async move {
            let mut command = redis::cmd("GET");
            command.arg(self.key(key));
            match self.plain(command).await? {
                Value::Nil => Ok(None),
                Value::BulkString(bytes) => Ok(Some(bytes.into())),
                _ => Err(StoreFailure::Refused(
                    "an answer of another kind".to_owned(),
                )),
            }
        })
    }

    fn set<'a>(&'a self, key: &'a str, value: Bytes, lives: Duration) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let lives = u64::try_from(lives.as_millis()).unwrap_or(u64::MAX).max(1);
            let mut command = redis::cmd("SET");
            command.arg(self.key(key)).arg(&*value).arg("PX").arg(lives);
            self.plain(command).await.map(drop)
        })
    }

    fn delete<'a>(&'a self, key: &'a str) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let mut command = redis::cmd("DEL");
            command.arg(self.key(key));
            self.plain(command).await.map(drop)
        })
    }
}
