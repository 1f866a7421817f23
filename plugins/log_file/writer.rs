//! A file that lines are appended to by a thread of its own, behind a bounded queue.
//! It must not know what lines say, nor make anybody wait: what finds the queue full is not taken.
//! Kept over reloads; another path makes another writer, and the one before ends once its queue is written.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{sync_channel, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

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

/// Takes lines.
pub(super) struct Writer {
    path: PathBuf,
    queue: usize,
    sender: SyncSender<Vec<u8>>,
}

impl Writer {
    fn start(path: PathBuf, queue: usize, counters: Counters) -> Writer {
        let (sender, receiver) = sync_channel(queue);
        let target = Target {
            path: path.clone(),
            open: None,
            looked: Instant::now(),
            counters,
        };
        let thread = std::thread::Builder::new().name("log_file".to_owned());
        // Without a thread the receiver is gone, and every line is counted as dropped.
        let _ = thread.spawn(move || target.follow(&receiver));
        Writer {
            path,
            queue,
            sender,
        }
    }

    /// Takes a line, unless too many wait.
    pub(super) fn take(&self, line: Vec<u8>) -> bool {
        self.sender.try_send(line).is_ok()
    }
}

/// Where lines go.
struct Target {
    path: PathBuf,
    open: Option<BufWriter<File>>,
    looked: Instant,
    counters: Counters,
}

impl Target {
    /// Writes until nobody can send any more.
    fn follow(mut self, lines: &Receiver<Vec<u8>>) {
        loop {
            match lines.recv_timeout(LOOK) {
                Ok(line) => {
                    self.look();
                    self.write(&line);
                    // What came meanwhile goes with the same write.
                    while let Ok(line) = lines.try_recv() {
                        self.write(&line);
                    }
                    self.flush();
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
