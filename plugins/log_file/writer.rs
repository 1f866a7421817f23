//! A file that lines are appended to by a thread of its own, behind a bounded queue.
//! It must not know what lines say, nor make anybody wait: what finds the queue full is not taken.
//! Kept over reloads; another path makes another writer, and the one before ends once its queue is written.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc::{sync_channel, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::contract::Counter;

/// The writer of an instance.
#[derive(Default)]
pub(super) struct Writers(Mutex<Option<Arc<Writer>>>);

/// What a writer counts.
#[derive(Clone)]
pub(super) struct Counters {
    pub(super) written: Counter,
    pub(super) failed: Counter,
}

impl Writers {
    /// The writer of this file, made with the first line.
    pub(super) fn of(&self, path: &Path, queue: usize, counters: &Counters) -> Arc<Writer> {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = current.as_ref();
        if let Some(known) = known.filter(|known| known.path == path && known.queue == queue) {
            return known.clone();
        }
        let made = Arc::new(Writer::start(path.to_owned(), queue, counters.clone()));
        *current = Some(made.clone());
        made
    }
}

impl Writers {
    /// The writer there is.
    pub(super) fn current(&self) -> Option<Arc<Writer>> {
        let current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    /// Lets go of the file before the next line.
    pub(super) fn reopen(&self) {
        if let Some(writer) = self.current() {
            writer.state.reopen.store(true, Relaxed);
        }
    }
}

/// Takes lines.
pub(super) struct Writer {
    path: PathBuf,
    queue: usize,
    sender: SyncSender<Vec<u8>>,
    state: Arc<State>,
}

/// What a writer and its thread tell each other.
#[derive(Default)]
struct State {
    /// The file is to be opened anew.
    reopen: AtomicBool,
    /// Lines that were taken and neither written nor given up.
    waiting: AtomicUsize,
    written: Notify,
}

impl Writer {
    fn start(path: PathBuf, queue: usize, counters: Counters) -> Writer {
        let (sender, receiver) = sync_channel(queue);
        let state = Arc::<State>::default();
        let target = Target {
            path: path.clone(),
            open: None,
            looked: Instant::now(),
            counters,
            state: state.clone(),
        };
        let thread = std::thread::Builder::new().name("log_file".to_owned());
        // Without a thread the receiver is gone, and every line is counted as dropped.
        let _ = thread.spawn(move || target.follow(&receiver));
        Writer {
            path,
            queue,
            sender,
            state,
        }
    }

    /// Takes a line, unless too many wait.
    pub(super) fn take(&self, line: Vec<u8>) -> bool {
        self.state.waiting.fetch_add(1, Relaxed);
        let is_taken = self.sender.try_send(line).is_ok();
        if !is_taken {
            self.state.done(1);
        }
        is_taken
    }

    /// Waits until nothing waits.
    pub(super) async fn written(&self) {
        loop {
            let mut written = pin!(self.state.written.notified());
            // Before the look, so that no end is missed.
            written.as_mut().enable();
            if self.state.waiting.load(Acquire) == 0 {
                return;
            }
            written.await;
        }
    }
}

impl State {
    fn done(&self, lines: usize) {
        if self.waiting.fetch_sub(lines, AcqRel) == lines {
            self.written.notify_waiters();
        }
    }
}

/// Where lines go.
struct Target {
    path: PathBuf,
    open: Option<BufWriter<File>>,
    looked: Instant,
    counters: Counters,
    state: Arc<State>,
}

impl Target {
    /// Writes until nobody can send any more.
    fn follow(mut self, lines: &Receiver<Vec<u8>>) {
        loop {
            match lines.recv_timeout(LOOK) {
                Ok(line) => {
                    self.look();
                    self.write(&line);
                    let mut count = 1;
                    // What came meanwhile goes with the same write.
                    while let Ok(line) = lines.try_recv() {
                        self.write(&line);
                        count += 1;
                    }
                    self.flush();
                    self.state.done(count);
                }
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => return self.flush(),
            }
        }
    }

    /// Lets go of a file that is not the one of that name any more.
    fn look(&mut self) {
        if self.looked.elapsed() < LOOK {
            return;
        }
        self.looked = Instant::now();
        let Some(open) = &self.open else { return };
        let id = |about: std::fs::Metadata| (about.dev(), about.ino());
        let ours = open.get_ref().metadata().map(id);
        let named = std::fs::metadata(&self.path).map(id);
        if !matches!((ours, named), (Ok(ours), Ok(named)) if ours == named) {
            self.open = None;
        }
    }

    fn write(&mut self, line: &[u8]) {
        // Nothing that comes after the signal goes to the file of before; what did so is flushed there.
        if self.state.reopen.swap(false, Relaxed) {
            self.flush();
            self.open = None;
        }
        if self.open.is_none() {
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(&self.path);
            self.open = file.ok().map(BufWriter::new);
        }
        let written = self
            .open
            .as_mut()
            .is_some_and(|file| file.write_all(line).is_ok());
        match written {
            true => (self.counters.written)(1),
            false => {
                (self.counters.failed)(1);
                self.open = None;
            }
        }
    }

    fn flush(&mut self) {
        if self.open.as_mut().is_some_and(|file| file.flush().is_err()) {
            (self.counters.failed)(1);
            self.open = None;
        }
    }
}

/// How often is looked whether the file was renamed.
const LOOK: Duration = Duration::from_secs(1);
