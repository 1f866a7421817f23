//! A MaxMind DB file: read whole, verified, and kept over reloads while it is the same.
//! It must not judge. A crate reads it, which bounds what a lookup may cost; that it never panics is not left to it alone.
//! Part of `geo`.

use std::fs::{File, Metadata};
use std::io::Read;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Arc, Mutex, PoisonError};

use maxminddb::{PathElement, Reader};

use super::countries::Country;
use crate::contract::{Build, Effects, Problem};

/// A database.
pub(super) struct Database(Reader<Vec<u8>>);

/// The databases of an instance, by setting: the file as it was, and what was in it.
#[derive(Default)]
struct Kept(Mutex<Vec<(&'static str, Identity, Arc<Database>)>>);

/// What changes when a file does.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity(Vec<i64>);

impl Identity {
    fn of(about: &Metadata) -> Identity {
        let number = |number: u64| number.cast_signed();
        Identity(vec![
            number(about.dev()),
            number(about.ino()),
            number(about.size()),
            about.mtime(),
            about.mtime_nsec(),
            about.ctime(),
            about.ctime_nsec(),
        ])
    }
}

/// The database that the setting at `path` names; the one of before, if the file is.
pub(super) fn open(
    build: &Build<'_>,
    path: &'static str,
    file: &str,
) -> Result<Arc<Database>, Problem> {
    let at = build.path(file);
    let wrong = |fact: String| {
        let fact = format!("\"{}\" {fact}", at.display());
        Problem::at(path, fact).help("name a MaxMind DB file, such as \"GeoLite2-Country.mmdb\"")
    };
    let unread = |error: std::io::Error| wrong(format!("cannot be read: {error}"));
    let opened = File::open(&at).map_err(unread)?;
    let about = opened.metadata().map_err(unread)?;
    if !about.is_file() {
        return Err(wrong("is no file".to_owned()));
    }
    let identity = Identity::of(&about);
    let kept = build.shared("the databases", Kept::default);
    let known = kept.with(Effects::Live, |kept| kept.find(path, &identity));
    if let Ok(Some(known)) = known {
        return Ok(known);
    }
    if about.size() > LARGEST {
        return Err(wrong("is larger than 512 MiB".to_owned()));
    }
    let mut bytes = Vec::new();
    // It may have grown since.
    let mut limited = opened.take(LARGEST + 1);
    limited.read_to_end(&mut bytes).map_err(unread)?;
    let read = Database::read(bytes).map_err(|why| wrong(format!("is no sound database: {why}")));
    let database = Arc::new(read?);
    // Keeping it is no effect that anybody could see.
    let _ = kept.with(Effects::Live, |kept| kept.keep(path, identity, &database));
    Ok(database)
}

impl Kept {
    fn find(&self, path: &str, identity: &Identity) -> Option<Arc<Database>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut same = kept
            .iter()
            .filter(|(at, of, _)| *at == path && of == identity);
        same.next().map(|(_, _, database)| database.clone())
    }

    fn keep(&self, path: &'static str, identity: Identity, database: &Arc<Database>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(at, ..)| *at != path);
        kept.push((path, identity, database.clone()));
    }
}

impl Database {
    /// Takes a file apart and verifies all of it.
    pub(super) fn read(bytes: Vec<u8>) -> Result<Database, String> {
        let read = || {
            let reader = Reader::from_source(bytes).map_err(|error| shown(&error))?;
            reader.verify().map_err(|error| shown(&error))?;
            Ok(Database(reader))
        };
        guarded(read).unwrap_or_else(|| Err("reading it went wrong".to_owned()))
    }

    /// The country of an address.
    ///
    /// # Errors
    /// What is said of it cannot be read.
    pub(super) fn country(&self, address: IpAddr) -> Result<Option<Country>, String> {
        for of in ["country", "registered_country"] {
            let code = self.text(address, of)?;
            if code.is_some() {
                return Ok(code);
            }
        }
        Ok(None)
    }

    fn text(&self, address: IpAddr, of: &str) -> Result<Option<Country>, String> {
        let path = [PathElement::Key(of), PathElement::Key("iso_code")];
        let look = || {
            let found = self.0.lookup(address)?;
            found.decode_path::<&str>(&path)
        };
        let code = asked(look)?;
        code.map(|code| {
            Country::read(code).ok_or_else(|| format!("{of}.iso_code is no country code"))
        })
        .transpose()
    }

    /// The number of the autonomous system of an address.
    ///
    /// # Errors
    /// What is said of it cannot be read.
    pub(super) fn asn(&self, address: IpAddr) -> Result<Option<u32>, String> {
        asked(|| {
            let found = self.0.lookup(address)?;
            found.decode_path::<u32>(&[PathElement::Key("autonomous_system_number")])
        })
    }
}

fn asked<T>(
    look: impl FnOnce() -> Result<Option<T>, maxminddb::MaxMindDbError>,
) -> Result<Option<T>, String> {
    match guarded(look) {
        Some(Ok(found)) => Ok(found),
        Some(Err(error)) => Err(shown(&error)),
        None => Err("looking it up went wrong".to_owned()),
    }
}

/// `None` where it panics.
fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    // Nothing is changed by a lookup that another one could see.
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// An error in one line of bounded length: a part of it may be the file's own text.
fn shown(error: &maxminddb::MaxMindDbError) -> String {
    let text = error.to_string();
    text.chars()
        .filter(|one| !one.is_control())
        .take(200)
        .collect()
}

/// Whole files are kept in memory; the largest of those that are sold have a fifth of this.
const LARGEST: u64 = 512 << 20;
