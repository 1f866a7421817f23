//! Stored responses in a folder, so that they outlive the process: written beside the traffic, read once when it begins.
//! It must not know until when responses may be used, nor hold up a request; the store in memory answers.
//! Run as a background task of the plugin; a file that is not as it was written is removed and not believed.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use http::{HeaderName, HeaderValue};
use pingora_http::ResponseHeader;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::key::name;
use super::store::Store;
use crate::contract::{CacheName, Counter, Effects, Life, Shared, Stored, Terms};

/// A folder with one file for each stored response.
#[derive(Clone)]
pub(super) struct Disk {
    folder: PathBuf,
    /// Bytes that all files may take.
    most: u64,
    counters: Counters,
}

/// What is counted.
#[derive(Clone)]
pub(super) struct Counters {
    pub(super) restored: Counter,
    pub(super) failed: Counter,
}

/// What happened to the store, in order.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Kept(Arc<Stored>),
    /// Its key, and what `Vary` told apart.
    Gone(CacheName, Vec<(HeaderName, Vec<u8>)>),
}

/// The head of a file.
#[derive(Serialize, Deserialize)]
struct Entry {
    status: u16,
    fields: Vec<(String, String)>,
    key: String,
    place: String,
    vary: Vec<(String, String)>,
    tags: Vec<Box<str>>,
    born: u64,
    lifetime: u64,
    stale_while_revalidate: u64,
    stale_if_error: u64,
    is_strict: bool,
    is_confirmed_each_time: bool,
    body: u64,
}

impl Disk {
    /// The folder of an instance below the one that is set, so that no two instances share one.
    pub(super) fn new(folder: &Path, instance: &str, most: u64, counters: Counters) -> Disk {
        let own = name(std::iter::once(instance.as_bytes()));
        Disk {
            folder: folder.join(hex(&own[..8])),
            most,
            counters,
        }
    }

    /// Keeps folder and store alike until it shall end. The first task of the process reads what is there; each later one, after a
    /// reload, writes what it missed.
    pub(super) async fn follow(self, store: Shared<Store>, life: Life) {
        let first = store.with(Effects::Live, Store::begin_journal);
        let begun = self.clone();
        let shared = store.clone();
        run(move || begun.begin(&shared, first.unwrap_or(false))).await;
        loop {
            let goes_on = life.rest(PERIOD).await;
            let changes = store.with(Effects::Live, Store::changes);
            let (disk, shared) = (self.clone(), store.clone());
            run(move || match changes {
                Ok(Some(changes)) => disk.apply(changes),
                // There were more than are remembered.
                Ok(None) => disk.level(&shared),
                Err(_) => {}
            })
            .await;
            if !goes_on {
                let _ = store.with(Effects::Live, Store::end_journal);
                return;
            }
        }
    }

    fn begin(&self, store: &Shared<Store>, is_first: bool) {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(OWNER_ONLY)
            .create(&self.folder);
        self.count(made);
        if is_first {
            let restored = self.restore();
            (self.counters.restored)(restored.len() as u64);
            for stored in restored {
                let _ = store.with(Effects::Live, |store| store.restore(self.most, stored));
            }
        }
        self.level(store);
    }

    /// What is in the folder, oldest first, as much as the bound allows. What is broken or beyond it is removed.
    pub(super) fn restore(&self) -> Vec<Stored> {
        let mut files: Vec<_> = self.files().collect();
        files.sort_by_key(|(_, about)| std::cmp::Reverse(about.modified().ok()));
        let (mut bytes, mut all) = (0, Vec::new());
        for (path, about) in files {
            bytes += about.len();
            let read = match bytes <= self.most {
                true => read(&path, about.len()).ok(),
                false => None,
            };
            match read {
                Some(stored) if self.path(&stored) == path => all.push(stored),
                _ => self.count(fs::remove_file(&path)),
            }
        }
        all.reverse();
        all
    }

    /// Makes the folder hold what the store holds.
    fn level(&self, store: &Shared<Store>) {
        let all = store.with(Effects::Live, Store::all).unwrap_or_default();
        let wanted: HashMap<PathBuf, Arc<Stored>> =
            all.into_iter().map(|one| (self.path(&one), one)).collect();
        let there: HashSet<PathBuf> = self.files().map(|(path, _)| path).collect();
        for path in there.iter().filter(|path| !wanted.contains_key(*path)) {
            self.count(fs::remove_file(path));
        }
        for (path, stored) in wanted {
            if !there.contains(&path) || !holds(&path, &stored) {
                self.count(write(&path, &stored));
            }
        }
    }

    /// Follows the store.
    pub(super) fn apply(&self, changes: Vec<Change>) {
        // Of several changes of one file only the last one counts.
        let mut last: HashMap<PathBuf, Change> = HashMap::new();
        for change in changes {
            let path = match &change {
                Change::Kept(stored) => self.path(stored),
                Change::Gone(key, vary) => self.path_of(key, vary),
            };
            last.insert(path, change);
        }
        for (path, change) in last {
            match change {
                Change::Kept(stored) => self.count(write(&path, &stored)),
                Change::Gone(..) => match fs::remove_file(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    other => self.count(other),
                },
            }
        }
    }

    fn files(&self) -> impl Iterator<Item = (PathBuf, fs::Metadata)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| {
            let about = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some((entry.path(), about))
        })
    }

    fn path(&self, stored: &Stored) -> PathBuf {
        self.path_of(&stored.key, &stored.vary)
    }

    /// The file of a response: of its key and what `Vary` tells apart.
    fn path_of(&self, key: &CacheName, vary: &[(HeaderName, Vec<u8>)]) -> PathBuf {
        let vary = vary.iter();
        let vary = vary.flat_map(|(name, value)| [name.as_str().as_bytes(), value.as_slice()]);
        let own = name(std::iter::once(&key[..]).chain(vary));
        self.folder.join(hex(&own))
    }

    fn count(&self, done: io::Result<()>) {
        if done.is_err() {
            (self.counters.failed)(1);
        }
    }
}

/// Runs what waits for the disk where nobody else waits for it.
async fn run(work: impl FnOnce() + Send + 'static) {
    // It only fails where the process ends.
    let _ = tokio::task::spawn_blocking(work).await;
}

/// A response as it stands in its file.
fn written(stored: &Stored) -> io::Result<Vec<u8>> {
    let head = serde_json::to_vec(&entry(stored)).map_err(io::Error::other)?;
    let length = u32::try_from(head.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(head.len() + stored.body.len() + 64);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(&stored.body);
    let sum: [u8; 32] = Sha256::digest(&bytes).into();
    bytes.extend_from_slice(&sum);
    Ok(bytes)
}

/// Whether a file is that of this very response, and not of one that was kept under the same key before; by its sum.
fn holds(path: &Path, stored: &Stored) -> bool {
    let there = || {
        let mut file = File::open(path).ok()?;
        let mut sum = [0; 32];
        file.seek(SeekFrom::End(-32)).ok()?;
        file.read_exact(&mut sum).ok()?;
        Some(sum)
    };
    written(stored).is_ok_and(|bytes| there().is_some_and(|sum| bytes.ends_with(&sum)))
}

/// In one step: a reader sees the old file or the new one.
fn write(path: &Path, stored: &Stored) -> io::Result<()> {
    let bytes = written(stored)?;
    let next = path.with_extension("next");
    let mut file = OpenOptions::new();
    let file = file.write(true).create(true).truncate(true).mode(0o600);
    file.open(&next)?.write_all(&bytes)?;
    fs::rename(&next, path)
}

fn read(path: &Path, length: u64) -> io::Result<Stored> {
    let mut bytes = Vec::new();
    File::open(path)?.take(length).read_to_end(&mut bytes)?;
    parse(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A file as it was written; `None` for everything else.
pub(super) fn parse(bytes: &[u8]) -> Option<Stored> {
    let (content, sum) = bytes.split_last_chunk::<32>()?;
    if Sha256::digest(content)[..] != sum[..] {
        return None;
    }
    let rest = content.strip_prefix(MAGIC)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (head, body) = rest.split_at_checked(length)?;
    let entry: Entry = serde_json::from_slice(head).ok()?;
    if entry.body != body.len() as u64 {
        return None;
    }
    let mut head = ResponseHeader::build(entry.status, None).ok()?;
    for (name, value) in &entry.fields {
        let value = HeaderValue::from_bytes(&STANDARD.decode(value).ok()?).ok()?;
        head.append_header(name.parse::<HeaderName>().ok()?, value)
            .ok()?;
    }
    let vary = entry.vary.iter();
    let vary = vary.map(|(name, value)| Some((name.parse().ok()?, STANDARD.decode(value).ok()?)));
    Some(Stored {
        head,
        body: body.to_vec().into(),
        key: unhex(&entry.key)?,
        place: unhex(&entry.place)?,
        vary: vary.collect::<Option<_>>()?,
        tags: entry.tags,
        terms: Terms {
            born: Duration::from_millis(entry.born),
            lifetime: Duration::from_millis(entry.lifetime),
            stale_while_revalidate: Duration::from_millis(entry.stale_while_revalidate),
            stale_if_error: Duration::from_millis(entry.stale_if_error),
            is_strict: entry.is_strict,
            is_confirmed_each_time: entry.is_confirmed_each_time,
        },
    })
}

fn entry(stored: &Stored) -> Entry {
    let fields = stored.head.headers.iter();
    let fields = fields.map(|(name, value)| (name.to_string(), STANDARD.encode(value)));
    let vary = stored.vary.iter();
    let vary = vary.map(|(name, value)| (name.to_string(), STANDARD.encode(value)));
    let terms = &stored.terms;
    Entry {
        status: stored.head.status.as_u16(),
        fields: fields.collect(),
        key: hex(&stored.key),
        place: hex(&stored.place),
        vary: vary.collect(),
        tags: stored.tags.clone(),
        born: millis(terms.born),
        lifetime: millis(terms.lifetime),
        stale_while_revalidate: millis(terms.stale_while_revalidate),
        stale_if_error: millis(terms.stale_if_error),
        is_strict: terms.is_strict,
        is_confirmed_each_time: terms.is_confirmed_each_time,
        body: stored.body.len() as u64,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<CacheName> {
    let mut name = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in name.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(name)
}

const MAGIC: &[u8] = b"WRC1";
const OWNER_ONLY: u32 = 0o700;
/// How often what changed is written.
const PERIOD: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
