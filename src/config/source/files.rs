//! Reads files within bounds, remembers which, and hashes what it read.
//! It must not know YAML; `parse` does.
//! Called by `Document`, by `include` for further files and by `interpolate` for `${file:…}`.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openssl::sha::Sha256;

use super::{include, parse, place_of, At, Document, Kind, Node};
use crate::config::report::{Place, Report};

/// What is shared between all files of one document.
pub(super) struct Reader {
    /// Folder that relative paths start from.
    pub(super) folder: PathBuf,
    /// What is wrong so far.
    pub(super) report: Report,
    /// Values read so far.
    pub(super) nodes: usize,
    /// Bytes put in by interpolation so far.
    pub(super) inserted: u64,
    /// Texts of `${file:…}` by path.
    pub(super) texts: HashMap<PathBuf, Arc<str>>,
    /// Secret texts that were put in.
    pub(super) secrets: HashSet<Arc<str>>,
    names: Vec<Arc<str>>,
    files: Vec<PathBuf>,
    /// Folders in which a new file would be included.
    pub(super) folders: Vec<PathBuf>,
    total: u64,
    sha: Sha256,
    /// The only keys at the top that matter; if set, what is wrong elsewhere is not told, and nothing is put in there.
    wanted: Option<Vec<&'static str>>,
    /// Whether what is read now does not matter.
    muted: bool,
}

impl Reader {
    pub(super) fn new(folder: &Path) -> Reader {
        Reader {
            folder: folder.to_owned(),
            report: Report::new(),
            nodes: 0,
            inserted: 0,
            texts: HashMap::new(),
            secrets: HashSet::new(),
            names: Vec::new(),
            files: Vec::new(),
            folders: Vec::new(),
            total: 0,
            sha: Sha256::new(),
            wanted: None,
            muted: false,
        }
    }

    pub(super) fn file(mut self, path: &Path) -> Result<Document, Report> {
        let root = self.tree(path);
        self.finish(root)
    }

    /// Reads one section of a file, or of a file it includes; an error anywhere else matters only if it may hide the section.
    pub(super) fn section(path: &Path, key: &'static str) -> Result<Document, Report> {
        let read = |wanted: &[&'static str]| {
            let mut reader = Reader::new(path.parent().unwrap_or(Path::new("")));
            reader.wanted = Some(wanted.to_vec());
            let root = reader.tree(path);
            reader.heed_all();
            let root = root.and_then(|root| reader.rooted(root));
            (reader, root)
        };
        let (reader, root) = read(&[key]);
        let is_elsewhere =
            |root: &Node| root.child(key).is_none() && root.child("include").is_some();
        if !root.as_ref().is_some_and(is_elsewhere) {
            return reader.document(root);
        }
        let (mut reader, root) = read(&[key, "include"]);
        let root = root.map(|root| include::only(&mut reader, root, key));
        reader.document(root)
    }

    /// Whether what is read now matters.
    pub(super) fn heeds(&self) -> bool {
        !self.muted
    }

    /// From here on everything matters.
    pub(super) fn heed_all(&mut self) {
        self.muted = false;
    }

    /// From here on nothing matters, if only some keys are wanted.
    pub(super) fn heed_nothing(&mut self) {
        self.muted = self.wanted.is_some();
    }

    /// The value of a key at the top follows.
    pub(super) fn heed(&mut self, key: &str) {
        let wanted = self.wanted.as_ref();
        self.muted = wanted.is_some_and(|wanted| !wanted.contains(&key));
    }

    pub(super) fn text(mut self, name: &str, bytes: &[u8]) -> Result<Document, Report> {
        let file = self.name(name);
        let size = bytes.len() as u64;
        let root = match self.take(size, FILE_BYTES, bytes) {
            Ok(()) => parse::tree(&mut self, file, bytes),
            Err(fact) => {
                self.complain_file(file, fact);
                None
            }
        };
        self.finish(root)
    }

    fn finish(mut self, root: Option<Node>) -> Result<Document, Report> {
        let root = root.and_then(|root| self.rooted(root));
        let root = root.map(|root| include::merged(&mut self, root));
        self.document(root)
    }

    fn document(mut self, root: Option<Node>) -> Result<Document, Report> {
        match root {
            Some(root) if !self.report.has_errors() => Ok(Document {
                root: Arc::new(root),
                names: self.names,
                files: self.files,
                folders: self.folders,
                secrets: self.secrets,
                digest: hex(&self.sha.finish()),
            }),
            _ => {
                self.report.locate(|_| None);
                Err(self.report)
            }
        }
    }

    /// The tree of one file; complaints are in the report.
    pub(super) fn tree(&mut self, path: &Path) -> Option<Node> {
        let file = self.name(&path.display().to_string());
        match self.bytes(path, FILE_BYTES) {
            Ok(bytes) => parse::tree(self, file, &bytes),
            Err(fact) => {
                self.complain_file(file, fact);
                None
            }
        }
    }

    /// The root of a file as a map; an empty file is an empty map.
    pub(super) fn rooted(&mut self, root: Node) -> Option<Node> {
        match root.kind {
            Kind::Map(_) => Some(root),
            Kind::Null => Some(Node {
                kind: Kind::Map(Vec::new()),
                ..root
            }),
            Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) | Kind::Str(_) | Kind::Seq(_) => {
                let remedy = "start the file with a key such as `listeners:`";
                self.complain(root.at, "a configuration is keys with values", remedy);
                None
            }
        }
    }

    /// Reads a file, or says why not.
    pub(super) fn bytes(&mut self, path: &Path, limit: u64) -> Result<Vec<u8>, String> {
        let about = std::fs::metadata(path).map_err(|error| explain(&error))?;
        // A pipe or device could block or never end.
        if !about.is_file() {
            return Err("is not a regular file".into());
        }
        self.affordable(about.len(), limit)?;
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
            .map_err(|error| explain(&error))?;
        self.take(bytes.len() as u64, limit, &bytes)?;
        if !self.files.iter().any(|known| known == path) {
            self.files.push(path.to_owned());
        }
        Ok(bytes)
    }

    fn take(&mut self, size: u64, limit: u64, bytes: &[u8]) -> Result<(), String> {
        self.affordable(size, limit)?;
        self.total += size;
        self.sha.update(bytes);
        Ok(())
    }

    fn affordable(&self, size: u64, limit: u64) -> Result<(), String> {
        if size > limit {
            return Err(format!("is larger than {} MiB", limit >> 20));
        }
        if self.total + size > TOTAL_BYTES {
            return Err(format!(
                "makes the configuration larger than {} MiB in total",
                TOTAL_BYTES >> 20
            ));
        }
        Ok(())
    }

    fn name(&mut self, name: &str) -> u32 {
        self.names.push(Arc::from(name));
        (self.names.len() - 1) as u32
    }

    pub(super) fn complain(&mut self, at: At, fact: impl Into<String>, remedy: impl Into<String>) {
        if self.muted {
            return;
        }
        // Enough to repair; hostile text could make millions.
        if self.report.findings().len() >= MOST_FINDINGS {
            return;
        }
        let place = self.place(at);
        self.report.error_at(place, "", fact, remedy);
    }

    fn complain_file(&mut self, file: u32, fact: String) {
        let at = At {
            file,
            line: 0,
            column: 0,
        };
        self.complain(at, fact, "");
    }

    pub(super) fn place(&self, at: At) -> Place {
        place_of(&self.names, at)
    }

    /// Whether a file is already among those read.
    pub(super) fn knows(&self, path: &Path) -> bool {
        self.files.iter().any(|known| known == path)
    }
}

fn explain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "does not exist".into(),
        std::io::ErrorKind::PermissionDenied => "may not be read by this user".into(),
        _ => format!("cannot be read: {error}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const MOST_FINDINGS: usize = 200;
const FILE_BYTES: u64 = 8 << 20;
const TOTAL_BYTES: u64 = 32 << 20;
