//! The log of issued certificates: a file for each month, a line for each certificate, on the disk before it leaves.
//! It must not know why one was issued; it holds no secrets.
//! Appended to by `authority`; `rotation` asks which leaves still live.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::authority::BY_HAND;
use super::disk;
use super::state::told;

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, in seconds since 1970.
    pub at: u64,
    /// Its number in hex.
    pub serial: String,
    /// Whom it names.
    pub id: String,
    /// The node that asked; `-` for one issued by hand.
    pub node: String,
    /// The hash of its key.
    pub key: String,
    /// When it begins.
    pub not_before: u64,
    /// When it ends.
    pub not_after: u64,
    /// The number of the root it chains to.
    pub root: u32,
}

/// Puts an entry on the disk.
pub(super) fn append(folder: &Path, entry: &Entry) -> Result<(), String> {
    let path = folder.join(format!("issued/{}.jsonl", month(entry.at)));
    let line = serde_json::to_string(entry).map_err(|error| told(&path, &error))?;
    disk::append(&path, &line).map_err(|error| told(&path, &error))
}

/// Entries of certificates that have not ended, oldest first. `longest` is the longest life of any, in seconds.
/// A line that a crash cut short was never answered, and is skipped.
pub(super) fn valid(folder: &Path, now: u64, longest: u64) -> Result<Vec<Entry>, String> {
    let listed = folder.join("issued");
    let first = format!("{}.jsonl", month(now.saturating_sub(longest)));
    let files = fs::read_dir(&listed).map_err(|error| told(&listed, &error))?;
    let names = files
        .flatten()
        .filter_map(|file| file.file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter(|name| *name >= first && name.ends_with(".jsonl"))
        .collect();
    names.sort_unstable();
    let mut found = Vec::new();
    for name in names {
        let path = listed.join(name);
        let file = File::open(&path).map_err(|error| told(&path, &error))?;
        let mut lines = BufReader::new(file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut lines).take(LONGEST_LINE).read_until(b'\n', &mut line);
            if read.map_err(|error| told(&path, &error))? == 0 {
                break;
            }
            let entry = serde_json::from_slice::<Entry>(&line).ok();
            found.extend(entry.filter(|entry| entry.not_after > now));
        }
    }
    Ok(found)
}

/// The newest certificate for each ID at each node: those that are in use. Older ones were replaced. Of those by hand nobody
/// knows where they are used, so each counts.
pub(super) fn newest(valid: &[Entry]) -> Vec<&Entry> {
    let mut by_holder: HashMap<(&str, &str, &str), &Entry> = HashMap::new();
    for entry in valid {
        let copy = if entry.node == BY_HAND {
            &*entry.serial
        } else {
            ""
        };
        by_holder.insert((&entry.node, &entry.id, copy), entry);
    }
    let mut newest: Vec<&Entry> = by_holder.into_values().collect();
    newest.sort_by(|one, other| (one.not_after, &one.id).cmp(&(other.not_after, &other.id)));
    newest
}

/// Year and month of a moment, so that names sort by time (civil date from days, after Howard Hinnant).
fn month(at: u64) -> String {
    let days = at / 86_400 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}")
}

const LONGEST_LINE: u64 = 8 << 10;

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn entry(id: &str, at: u64, not_after: u64) -> Entry {
        Entry {
            at,
            serial: format!("{at:x}"),
            id: id.into(),
            node: "n".into(),
            key: "k".into(),
            not_before: at,
            not_after,
            root: 1,
        }
    }

    #[test]
    fn months_are_those_of_the_calendar() {
        for (at, name) in [
            (0, "1970-01"),
            (951_782_399, "2000-02"),
            (951_868_800, "2000-03"),
            (1_709_251_199, "2024-02"),
            (1_767_225_599, "2025-12"),
            (1_767_225_600, "2026-01"),
        ] {
            assert_eq!(month(at), name, "{at}");
        }
    }

    #[test]
    fn what_a_crash_cut_short_hides_nothing_else() {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("issued")).unwrap();
        append(folder.path(), &entry("a", 100, 900)).unwrap();
        let path = folder.path().join("issued/1970-01.jsonl");
        let mut torn = fs::read(&path).unwrap();
        torn.extend(br#"{"at":200,"serial":"c8","i"#);
        fs::write(&path, torn).unwrap();

        append(folder.path(), &entry("b", 300, 900)).unwrap();
        append(folder.path(), &entry("a", 400, 950)).unwrap();
        append(folder.path(), &entry("c", 400, 450)).unwrap();

        let valid = valid(folder.path(), 500, 1000).unwrap();
        let ids: Vec<&str> = valid.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!(ids, ["a", "b", "a"]);
        let newest: Vec<u64> = newest(&valid).iter().map(|entry| entry.at).collect();
        assert_eq!(newest, [300, 400]);
    }
}
