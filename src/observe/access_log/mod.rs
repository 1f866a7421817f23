//! The access log: one line for each request, written by a thread of its own.
//! It must not know who serves requests, and never makes one wait: a line that finds the queue full is dropped and counted.
//! The fast path calls `log` once per request; the supervisor reopens, reconfigures and flushes.

mod entry;
mod escape;
mod queue;
pub(super) mod stamp;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{mpsc, Arc};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::observe::metrics::IntCounter;

pub use entry::Entry;
use queue::{Added, Queue};
use writer::{Order, Target, Writer};

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// Nowhere.
    Off,
    /// The end of a file, made if absent, readable by its owner and group.
    File(PathBuf),
}

/// Form of a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object.
    #[default]
    Json,
    /// Apache's combined format; at its end route, pool and endpoint in quotes, then cause, seconds and request id.
    Combined,
}

/// What an operator can set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLogSettings {
    /// Where lines go.
    pub to: LogTarget,
    /// What they look like.
    pub format: Format,
    /// Lines that may wait to be written, besides those being written; a line longer than 1 KiB counts for as many as it fills.
    pub queue: usize,
}

impl Default for AccessLogSettings {
    fn default() -> AccessLogSettings {
        AccessLogSettings {
            to: LogTarget::Stdout,
            format: Format::Json,
            queue: 8192,
        }
    }
}

/// The handle. Clones share one queue and one thread; the thread ends after the last clone is gone.
/// Make it after the process became a daemon: a fork would leave the thread behind.
#[derive(Clone)]
pub struct AccessLog(Arc<Inner>);

struct Inner {
    enabled: AtomicBool,
    combined: AtomicBool,
    limit: AtomicUsize,
    queue: Arc<Queue>,
    writer: Thread,
    dropped: IntCounter,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.end();
        self.writer.unpark();
    }
}

impl AccessLog {
    /// Opens the target and starts the writer.
    ///
    /// # Errors
    /// When the file cannot be opened or the thread not be started.
    pub fn new(settings: AccessLogSettings, dropped: IntCounter) -> io::Result<AccessLog> {
        let target = Target::open(&settings.to)?;
        AccessLog::start(&settings, target, dropped)
    }

    fn start(
        settings: &AccessLogSettings,
        target: Target,
        dropped: IntCounter,
    ) -> io::Result<AccessLog> {
        let queue = Arc::new(Queue::new());
        let writer = Writer::new(queue.clone(), target, dropped.clone());
        let thread = thread::Builder::new()
            .name("access-log".into())
            .spawn(move || writer.run())?;
        Ok(AccessLog(Arc::new(Inner {
            enabled: AtomicBool::new(settings.to != LogTarget::Off),
            combined: AtomicBool::new(settings.format == Format::Combined),
            limit: AtomicUsize::new(settings.queue.max(1)),
            queue,
            writer: thread.thread().clone(),
            dropped,
        })))
    }

    /// Whether lines go anywhere; a caller may skip collecting what only the log needs.
    pub fn enabled(&self) -> bool {
        self.0.enabled.load(Ordering::Relaxed)
    }

    /// Formats the line and queues it. Never waits for the target.
    pub fn log(&self, entry: &Entry<'_>) {
        if !self.enabled() {
            return;
        }
        let log = &*self.0;
        let is_combined = log.combined.load(Ordering::Relaxed);
        let limit = log.limit.load(Ordering::Relaxed);
        let added = log.queue.add(limit, |line| match is_combined {
            true => entry.combined(line),
            false => entry.json(line),
        });
        match added {
            Added::Quietly => {}
            Added::Wake => log.writer.unpark(),
            Added::Dropped => log.dropped.inc(),
        }
    }

    /// Opens the file anew, after it was renamed. Lines logged before go to the old file.
    pub fn reopen(&self) {
        self.order(Order::Reopen);
    }

    /// Waits until every line logged before was written, but no longer than this. Says whether that was enough.
    pub fn flush(&self, longest: Duration) -> bool {
        let (done, wait) = mpsc::channel();
        self.order(Order::Flush(done));
        wait.recv_timeout(longest).is_ok()
    }

    /// Takes new settings. Lines logged before still go where they were meant to.
    ///
    /// # Errors
    /// When the new file cannot be opened; nothing changes then.
    pub fn reconfigure(&self, settings: AccessLogSettings) -> io::Result<()> {
        let target = Target::open(&settings.to)?;
        let log = &*self.0;
        log.limit.store(settings.queue.max(1), Ordering::Relaxed);
        let combined = settings.format == Format::Combined;
        log.combined.store(combined, Ordering::Relaxed);
        let enabled = settings.to != LogTarget::Off;
        if !enabled {
            // Before the target goes, so that nothing is queued behind it.
            log.enabled.store(false, Ordering::Relaxed);
        }
        self.order(Order::Target(target));
        if enabled {
            log.enabled.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn order(&self, order: Order) {
        self.0.queue.order(order);
        self.0.writer.unpark();
    }
}

#[cfg(test)]
mod tests;
