//! The thread that writes the access log: it takes the lines that wait, and writes them in batches.
//! It must not know what a line says.
//! `AccessLog` starts it and talks to it by messages only.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{mpsc, Arc};
use std::thread;
use std::time::Duration;

use crate::observe::metrics::IntCounter;

use super::queue::{Lines, Queue};
use super::LogTarget;

/// What the writer is told to do, one after another.
pub(super) enum Order {
    /// Lines logged before the next order.
    Write(Lines),
    Reopen,
    Flush(mpsc::Sender<()>),
    Target(Target),
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
    queue: Arc<Queue>,
    target: Target,
    dropped: IntCounter,
    /// A line was cut by a failing write; the next batch begins on a new line.
    torn: bool,
    failing: bool,
}

impl Writer {
    pub(super) fn new(queue: Arc<Queue>, target: Target, dropped: IntCounter) -> Writer {
        Writer {
            queue,
            target,
            dropped,
            torn: false,
            failing: false,
        }
    }

    /// Runs until the queue has ended and every line is written.
    pub(super) fn run(mut self) {
        let mut lines = Lines::default();
        let mut is_quiet = false;
        loop {
            // Before the look: what was added before the end is taken then.
            let has_ended = self.queue.has_ended();
            let orders = self.queue.take(&mut lines);
            if !orders.is_empty() || !lines.text.is_empty() {
                is_quiet = false;
                self.carry_out(orders);
                self.write(&mut lines);
                // Under traffic, nap instead of sleeping: requests then need not wake this thread for every line, and
                // lines are written fifty times a second in few large writes.
                thread::park_timeout(NAP);
            } else if has_ended {
                return;
            } else if is_quiet {
                thread::park();
            } else {
                is_quiet = true;
                self.queue.sleeps();
            }
        }
    }

    fn carry_out(&mut self, orders: Vec<Order>) {
        for order in orders {
            match order {
                Order::Write(mut lines) => self.write(&mut lines),
                Order::Reopen => self.reopen(),
                Order::Flush(done) => {
                    // Whoever asked may have stopped waiting.
                    let _ = done.send(());
                }
                Order::Target(target) => {
                    self.target = target;
                    self.torn = false;
                }
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

    fn write(&mut self, lines: &mut Lines) {
        self.queue.taken(lines);
        let batch = &mut lines.text;
        if batch.is_empty() {
            return;
        }
        if let Some(sink) = &mut self.target.sink {
            match write_fully(sink.as_mut(), batch, &mut self.torn) {
                Ok(()) => self.failing = false,
                Err((written, error)) => {
                    let lost = &batch[written..];
                    let lost = lost.iter().filter(|byte| **byte == b'\n').count();
                    self.dropped.inc_by(lost as u64);
                    // Once per outage; the counter tells the rest.
                    if !std::mem::replace(&mut self.failing, true) {
                        log::error!("access log cannot be written, lines are lost: {error}");
                    }
                }
            }
        }
        batch.clear();
        // One burst should not keep its memory for good.
        batch.shrink_to(KEPT);
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

/// Memory kept for the next batch at most: what forty thousand requests a second log in a nap.
const KEPT: usize = 512 * 1024;

/// Longest a line waits for company.
const NAP: Duration = Duration::from_millis(20);
