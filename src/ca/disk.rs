//! Files that survive the process being killed at any moment, and the lock under which they change.
//! It must not know what is in them.
//! Used by everything of the authority that is kept, and by a node for its own state.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{flock, FlockOperation, OFlags};

/// Writes a file so that after a crash either its old content is there or the new one. Only its owner can read it.
///
/// # Errors
/// What the system says.
pub(crate) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let part = path.with_extension("part");
    // What a crash left, or somebody put there. Never written through: it may be a link, or open to others.
    match fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = private()
        .create_new(true)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(&part)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    sync_folder(path)
}

/// Makes folders that only their owner can enter.
///
/// # Errors
/// What the system says.
pub(crate) fn folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Removes a file for good. One that is not there is no error.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => sync_folder(path),
    }
}

/// Adds a line and waits until it is on the disk. What a crash left of a line before it stays a line of its own.
pub(super) fn append(path: &Path, line: &str) -> io::Result<()> {
    let is_new = !path.exists();
    let mut file = private().read(true).append(true).create(true).open(path)?;
    let mut text = format!("{line}\n");
    if file.metadata()?.len() > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            text.insert(0, '\n');
        }
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    match is_new {
        true => sync_folder(path),
        false => Ok(()),
    }
}

/// Reads a file of at most this many bytes.
///
/// # Errors
/// What the system says, or that there is more.
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut content)?;
    match content.len() as u64 > most {
        true => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it is larger than {most} bytes"),
        )),
        false => Ok(content),
    }
}

/// A lock that ends with the value, or with the process.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held, not read")] File);

/// Waits for the lock.
pub(super) fn lock(path: &Path) -> io::Result<Lock> {
    let file = private().create(true).truncate(false).open(path)?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(Lock(file))
}

/// Takes the lock unless somebody has it.
pub(super) fn try_lock(path: &Path) -> io::Result<Option<Lock>> {
    let file = private().create(true).truncate(false).open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Lock(file))),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{symlink, MetadataExt};

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn what_lies_in_the_way_of_a_write_is_not_written_through() {
        let folder = TempDir::new().unwrap();
        let (path, other) = (folder.path().join("key.pem"), folder.path().join("other"));
        fs::write(&other, "theirs").unwrap();
        symlink(&other, folder.path().join("key.part")).unwrap();

        write(&path, b"mine").unwrap();

        assert_eq!(fs::read(&other).unwrap(), b"theirs");
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }
}
