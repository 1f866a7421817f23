//! The thread that writes the access log: it takes lines from the queue and writes them in batches.
//! It must not know what a line says.
//! `AccessLog` starts it and talks to it by messages only.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{mpsc, Arc};
use std::thread;
use std::time::Duration;

use prometheus::IntCounter;

use super::LogTarget;

/// What the writer is told. Order is kept, so a line goes to the target that was in force when it was logged.
pub(super) enum Message {
    Line(Box<[u8]>),
    Reopen,
    Flush(mpsc::Sender<()>),
    Target(Target),
}

/// How much of the queue a line takes: one for each KiB begun.
pub(super) fn weight(line: &[u8]) -> usize {
    line.len().div_ceil(1024).max(1)
}

/// An open target, with its path where it can be opened anew.
pub(super) struct Target {
    path: Option<PathBuf>,
    sink: Option<Box<dyn Write + Send>>,
}

impl Target {
    pub(super) fn open(to: &LogTarget) -> io::Result<Target> {
        Ok(match to {
            LogTarget::Off => Target {
                path: None,
                sink: None,
            },
            LogTarget::Stdout => {
                // A descriptor of its own: std's stdout is locked and flushes at every line.
                let fd = io::stdout().as_fd().try_clone_to_owned()?;
                Target::to(File::from(fd))
            }
            LogTarget::File(path) => Target {
                sink: Some(Box::new(append_to(path)?)),
                path: Some(path.clone()),
            },
        })
    }

    pub(super) fn to(sink: impl Write + Send + 'static) -> Target {
        Target {
            path: None,
            sink: Some(Box::new(sink)),
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    // Lines hold client addresses: not for everybody on the machine.
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}

pub(super) struct Writer {
    messages: mpsc::Receiver<Message>,
    target: Target,
    waiting: Arc<AtomicUsize>,
    dropped: IntCounter,
    batch: Vec<u8>,
    /// A line was cut by a failing write; the next batch begins on a new line.
    torn: bool,
    failing: bool,
}

impl Writer {
    pub(super) fn new(
        messages: mpsc::Receiver<Message>,
        target: Target,
        waiting: Arc<AtomicUsize>,
        dropped: IntCounter,
    ) -> Writer {
        Writer {
            messages,
            target,
            waiting,
            dropped,
            batch: Vec::with_capacity(BATCH),
            torn: false,
            failing: false,
        }
    }

    /// Runs until every sender is gone and every line is written.
    pub(super) fn run(mut self) {
        while let Ok(first) = self.messages.recv() {
            self.take(first);
            self.write();
            // Under traffic, nap instead of waiting in the channel: senders then need not wake this thread
            // for every line, and lines are written a hundred times a second in few large writes.
            loop {
                thread::park_timeout(NAP);
                if !self.drain() {
                    break;
                }
                self.write();
            }
        }
    }

    /// Takes everything that waits; false when nothing did.
    fn drain(&mut self) -> bool {
        let mut any = false;
        while let Ok(message) = self.messages.try_recv() {
            any = true;
            self.take(message);
        }
        any
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Line(line) => {
                self.waiting.fetch_sub(weight(&line), Ordering::Relaxed);
                self.batch.extend_from_slice(&line);
                if self.batch.len() >= BATCH {
                    self.write();
                }
            }
            Message::Reopen => {
                self.write();
                self.reopen();
            }
            Message::Flush(done) => {
                self.write();
                // Whoever asked may have stopped waiting.
                let _ = done.send(());
            }
            Message::Target(target) => {
                self.write();
                self.target = target;
                self.torn = false;
            }
        }
    }

    fn reopen(&mut self) {
        let Some(path) = &self.target.path else {
            return;
        };
        match append_to(path) {
            Ok(file) => {
                self.target.sink = Some(Box::new(file));
                self.torn = false;
            }
            Err(error) => log::error!(
                "access log {} cannot be opened anew, writing to the old file: {error}",
                path.display()
            ),
        }
    }

    fn write(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if let Some(sink) = &mut self.target.sink {
            match write_fully(sink.as_mut(), &self.batch, &mut self.torn) {
                Ok(()) => self.failing = false,
                Err((written, error)) => {
                    let lost = &self.batch[written..];
                    let lost = lost.iter().filter(|byte| **byte == b'\n').count();
                    self.dropped.inc_by(lost as u64);
                    // Once per outage; the counter tells the rest.
                    if !std::mem::replace(&mut self.failing, true) {
                        log::error!("access log cannot be written, lines are lost: {error}");
                    }
                }
            }
        }
        self.batch.clear();
        // One burst of long lines should not keep its memory for good.
        self.batch.shrink_to(2 * BATCH);
    }
}

/// Writes everything, or says how far it came.
fn write_fully(
    sink: &mut (dyn Write + Send),
    batch: &[u8],
    torn: &mut bool,
) -> Result<(), (usize, io::Error)> {
    if *torn {
        sink.write_all(b"\n").map_err(|error| (0, error))?;
        *torn = false;
    }
    let mut written = 0;
    while written < batch.len() {
        match sink.write(&batch[written..]) {
            Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Whoever shares our standard output may have made it non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::park_timeout(NAP),
            Err(error) => {
                *torn = written > 0 && batch[written - 1] != b'\n';
                return Err((written, error));
            }
        }
    }
    sink.flush().map_err(|error| (written, error))
}

/// Written at once at most.
const BATCH: usize = 64 * 1024;

/// Longest a line waits for company.
const NAP: Duration = Duration::from_millis(10);
