//! Whether what is on disk is still what was read, without reading it again each time.
//! It must not know what runs; it remembers a digest and when files last changed.
//! Asked every few seconds by the control side.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::source::Document;

/// A configuration on disk as it was last read.
#[derive(Debug, Default)]
pub struct Disk {
    watched: Vec<PathBuf>,
    stamps: Vec<Stamp>,
    digest: Option<String>,
}

/// What tells a file from its successor: inode, length and time of change; `None` for one that is not there.
type Stamp = Option<(u64, u64, i64, i64)>;

impl Disk {
    /// The digest of what is on disk; `None` while it cannot be read. Reads only when a file or folder changed.
    pub fn digest(&mut self, path: &Path) -> Option<&str> {
        // Taken before reading: what changes in between is then seen the next time. Those of files that were not known
        // before would be too late, so the next time reads once more.
        let stamps = stamps(&self.watched);
        if self.digest.is_none() || stamps != self.stamps {
            let document = Document::read(path).ok();
            let watched = document.as_ref().map(Document::watched).unwrap_or_default();
            self.stamps = if watched == self.watched {
                stamps
            } else {
                Vec::new()
            };
            self.watched = watched;
            self.digest = document.map(|document| document.digest().to_owned());
        }
        self.digest.as_deref()
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let about = fs::metadata(path).ok()?;
        Some((about.ino(), about.len(), about.mtime(), about.mtime_nsec()))
    };
    paths.iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_not_taken_for_unchanged_by_a_look_after_reading() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("gw.yaml");
        fs::write(&main, "pools: []\n").unwrap();
        let mut disk = Disk::default();

        disk.digest(&main);
        assert_eq!(disk.stamps, [], "an edit meanwhile would never be seen");

        disk.digest(&main);
        assert_eq!(disk.stamps, stamps(&[main]));
    }

    #[test]
    fn edits_new_includes_and_broken_files_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("gw.yaml");
        fs::create_dir(folder.path().join("conf.d")).unwrap();
        fs::write(&main, "include: ['conf.d/*.yaml']\n").unwrap();
        let mut disk = Disk::default();
        let first = disk.digest(&main).map(str::to_owned);

        assert_eq!(
            disk.digest(&main).map(str::to_owned),
            first,
            "nothing moved"
        );
        fs::write(folder.path().join("conf.d/more.yaml"), "pools: []\n").unwrap();
        let included = disk.digest(&main).map(str::to_owned);
        assert!(included.is_some() && included != first);
        fs::write(&main, "listeners: [\n").unwrap();
        assert_eq!(disk.digest(&main), None);
        fs::write(&main, "include: ['conf.d/*.yaml']\n").unwrap();
        assert_eq!(
            disk.digest(&main).map(str::to_owned),
            included,
            "as it was again"
        );
    }
}
