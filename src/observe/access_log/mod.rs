//! The access log: one line for each request, written by a thread of its own.
//! It must not know who serves requests, and never makes one wait: a line that finds the queue full is dropped and counted.
//! The fast path calls `log` once per request; the supervisor reopens, reconfigures and flushes.

mod entry;
mod escape;
pub(super) mod stamp;
mod writer;

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{mpsc, Arc};
use std::thread::{self, Thread};
use std::time::Duration;

use prometheus::IntCounter;

pub use entry::Entry;
use writer::{weight, Message, Target, Writer};

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
    /// Lines that may wait to be written; a line longer than 1 KiB counts for as many as it fills.
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
    /// Weight of the lines in the channel.
    waiting: Arc<AtomicUsize>,
    messages: mpsc::Sender<Message>,
    writer: Thread,
    dropped: IntCounter,
}

thread_local! {
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
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
        let (sender, receiver) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let writer = Writer::new(receiver, target, waiting.clone(), dropped.clone());
        let thread = thread::Builder::new()
            .name("access-log".into())
            .spawn(move || writer.run())?;
        Ok(AccessLog(Arc::new(Inner {
            enabled: AtomicBool::new(settings.to != LogTarget::Off),
            combined: AtomicBool::new(settings.format == Format::Combined),
            limit: AtomicUsize::new(settings.queue.max(1)),
            waiting,
            messages: sender,
            writer: thread.thread().clone(),
            dropped,
        })))
    }

    /// Whether lines go anywhere; a caller may skip collecting what only the log needs.
    pub fn enabled(&self) -> bool {
        self.0.enabled.load(Ordering::Relaxed)
    }

    /// Formats the line and queues it. Never blocks.
    pub fn log(&self, entry: &Entry<'_>) {
        if !self.enabled() {
            return;
        }
        let log = &*self.0;
        let limit = log.limit.load(Ordering::Relaxed);
        if log.waiting.load(Ordering::Relaxed) >= limit {
            // Looked at before formatting: in a stall, requests should not pay for lines nobody will read.
            log.dropped.inc();
            return;
        }
        let line = LINE.with_borrow_mut(|line| {
            line.clear();
            if log.combined.load(Ordering::Relaxed) {
                entry.combined(line);
            } else {
                entry.json(line);
            }
            Box::<[u8]>::from(line.as_slice())
        });
        self.queue(line, limit);
    }

    fn queue(&self, line: Box<[u8]>, limit: usize) {
        let log = &*self.0;
        let weight = weight(&line);
        let before = log.waiting.fetch_add(weight, Ordering::Relaxed);
        // A single line heavier than a small queue may still have an empty one.
        if before > 0 && before + weight > limit {
            log.waiting.fetch_sub(weight, Ordering::Relaxed);
            log.dropped.inc();
            return;
        }
        self.send(Message::Line(line));
        // The writer naps between batches so that lines need no wake-up each; half a queue ends the nap.
        let half = limit / 2;
        if before <= half && before + weight > half {
            log.writer.unpark();
        }
    }

    /// Opens the file anew, after it was renamed. Lines logged before go to the old file.
    pub fn reopen(&self) {
        self.send(Message::Reopen);
        self.0.writer.unpark();
    }

    /// Waits until every line logged before was written, but no longer than this. Says whether that was enough.
    pub fn flush(&self, longest: Duration) -> bool {
        let (done, wait) = mpsc::channel();
        self.send(Message::Flush(done));
        self.0.writer.unpark();
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
        self.send(Message::Target(target));
        log.writer.unpark();
        if enabled {
            log.enabled.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn send(&self, message: Message) {
        // The writer lives as long as a sender does; were it gone, the line is lost and counted.
        if let Err(mpsc::SendError(Message::Line(_))) = self.0.messages.send(message) {
            self.0.dropped.inc();
        }
    }
}

#[cfg(test)]
mod tests;
