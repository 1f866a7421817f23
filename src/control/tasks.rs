//! Runs the background tasks of the plugins in force, and begins again those that end by themselves.
//! It must not know what they do; what they need from one snapshot to the next is state of their own.
//! Called by `reload` after a snapshot was published, by `supervisor` at the end, and asked by `admin`.

use std::any::Any;
use std::collections::HashMap;
use std::future::poll_fn;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use windrose_plugins::contract::{Background, Clock, End, Life};

use crate::observe::metrics::{IntCounter, Metrics};
use crate::snapshot::chain::Instance;
use crate::snapshot::Snapshot;

/// Keeps one task for each that the instances of the snapshot in force have.
pub struct TaskKeeper {
    metrics: Arc<Metrics>,
    running: Mutex<Running>,
}

/// By instance and name.
type Running = HashMap<Key, Kept>;
type Key = (Box<str>, &'static str);

/// A task with what ends it.
struct Kept {
    end: End,
    handle: JoinHandle<()>,
    seen: Arc<Seen>,
}

/// What is told of a task.
#[derive(Default)]
struct Seen {
    begun_again: AtomicU64,
    waits: AtomicBool,
}

/// A task as views show it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskView {
    /// The instance it belongs to.
    pub plugin: String,
    /// Its name.
    pub name: &'static str,
    /// Whether it ended by itself, and waits to be begun again.
    pub waits: bool,
    /// How often it was begun again since the last reload.
    pub begun_again: u64,
}

impl TaskKeeper {
    /// A keeper of no tasks yet.
    pub fn new(metrics: Arc<Metrics>) -> TaskKeeper {
        TaskKeeper {
            metrics,
            running: Mutex::default(),
        }
    }

    /// Gets the tasks in step with a snapshot: those of before are asked to end, and each of the new ones begins once the one of the
    /// same instance and name has ended. Call it after publishing, on the runtime that is to run them.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn follow(&self, snapshot: &Snapshot) {
        let mut running = self.running();
        let mut before = std::mem::take(&mut *running);
        before.values().for_each(|kept| kept.end.ask());
        for instance in snapshot.instances() {
            for task in &instance.hooks.background {
                let key = (instance.name.clone(), task.name);
                let kept = self.begin(instance, task, before.remove(&key));
                running.insert(key, kept);
            }
        }
        for (key, gone) in before {
            tokio::spawn(over(key, gone.handle, Instant::now() + FINISH));
        }
    }

    /// Ends all of them, as at the end of the process; takes no longer than each of them may.
    pub async fn end(&self) {
        let all = std::mem::take(&mut *self.running());
        all.values().for_each(|kept| kept.end.ask());
        let until = Instant::now() + FINISH;
        for (key, kept) in all {
            over(key, kept.handle, until).await;
        }
    }

    /// Every task, in order.
    pub fn view(&self) -> Vec<TaskView> {
        let running = self.running();
        let view = |((plugin, name), kept): (&Key, &Kept)| TaskView {
            plugin: plugin.to_string(),
            name,
            waits: kept.seen.waits.load(Relaxed),
            begun_again: kept.seen.begun_again.load(Relaxed),
        };
        let mut all: Vec<TaskView> = running.iter().map(view).collect();
        all.sort();
        all
    }

    fn begin(&self, instance: &Instance, task: &Background, before: Option<Kept>) -> Kept {
        let (life, end) = Life::new(Clock::System);
        let seen = Arc::<Seen>::default();
        let key = (instance.name.clone(), task.name);
        let supervised = Supervised {
            key: key.clone(),
            task: task.clone(),
            seen: seen.clone(),
            ended: self
                .metrics
                .plugin_event(&instance.name, "task_ended_early"),
        };
        let until = Instant::now() + FINISH;
        let handle = tokio::spawn(async move {
            if let Some(before) = before {
                over(key, before.handle, until).await;
            }
            supervised.live(life).await;
        });
        Kept { end, handle, seen }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Supervised {
    key: Key,
    task: Background,
    seen: Arc<Seen>,
    ended: IntCounter,
}

impl Supervised {
    /// Begins the task again and again until it shall end.
    async fn live(self, life: Life) {
        let mut pause = SHORTEST;
        while !life.is_over() {
            let began = Instant::now();
            let outcome = self.once(life.clone()).await;
            if life.is_over() {
                return;
            }
            if began.elapsed() > LONGEST {
                pause = SHORTEST;
            }
            self.ended.inc();
            let (plugin, name) = &self.key;
            log::warn!(
                "background task ended by itself, begins again: plugin={plugin} task={name} outcome={outcome:?} pause={pause:?}"
            );
            self.seen.waits.store(true, Relaxed);
            let stays = life.rest(pause).await;
            self.seen.waits.store(false, Relaxed);
            if !stays {
                return;
            }
            self.seen.begun_again.fetch_add(1, Relaxed);
            pause = (pause * 2).min(LONGEST);
        }
    }

    /// One life of it, and in words how that ended. A panic is its own end and nobody else's.
    async fn once(&self, life: Life) -> String {
        let begun = catch_unwind(AssertUnwindSafe(|| (self.task.begin)(life)));
        let mut future = match begun {
            Ok(future) => future,
            Err(panic) => return said(&*panic),
        };
        poll_fn(|cx| {
            let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
            match polled {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(())) => Poll::Ready("returned".to_owned()),
                Err(panic) => Poll::Ready(said(&*panic)),
            }
        })
        .await
    }
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let said = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", said.unwrap_or("it did not say why"))
}

/// Waits for a task that was asked to end, and stops it where it is when its time is over.
async fn over((plugin, name): Key, mut handle: JoinHandle<()>, until: Instant) {
    let left = until.saturating_duration_since(Instant::now());
    if tokio::time::timeout(left, &mut handle).await.is_err() {
        handle.abort();
        log::warn!("background task did not end in time, stopped: plugin={plugin} task={name}");
        // Whoever comes next must not meet it.
        let _ = handle.await;
    }
}

/// How long a task has for what it has in hand.
const FINISH: Duration = Duration::from_secs(5);
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
