//! Documents that lie beside another one, in its folder or below.
//! It must not fetch anything: what has another address than a file there is refused.
//! Asked while schemas are compiled.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use jsonschema::{Retrieve, Uri};
use serde_json::Value;

use crate::json;

/// A folder whose files may refer to each other.
pub(crate) struct Beside {
    folder: PathBuf,
    prepare: fn(Value) -> Value,
    read: AtomicUsize,
}

impl Beside {
    /// The folder of a document; what is read from it is prepared so.
    pub(crate) fn of(folder: &Path, prepare: fn(Value) -> Value) -> Beside {
        Beside {
            folder: folder.to_owned(),
            prepare,
            read: AtomicUsize::new(0),
        }
    }

    /// The document at an address below [`ROOT`].
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn document(&self, address: &str) -> Result<Value, String> {
        let Some(path) = address.strip_prefix(ROOT) else {
            return Err(format!(
                "{address} is not a file beside it, and nothing is fetched"
            ));
        };
        let path = crate::query::decoded(&path.replace('+', "%2B")).into_owned();
        let path = String::from_utf8(path).map_err(|_| format!("{address} names no file"))?;
        if self.read.fetch_add(1, Ordering::Relaxed) >= MOST_FILES {
            return Err(format!("it refers to more than {MOST_FILES} files"));
        }
        let folder = self.folder.canonicalize();
        let folder = folder.map_err(|error| format!("its folder cannot be read: {error}"))?;
        let file = folder.join(&path).canonicalize();
        let file = file.map_err(|error| format!("{path} cannot be read: {error}"))?;
        if !file.starts_with(&folder) {
            return Err(format!("{path} is not below its folder"));
        }
        read(&file).map(self.prepare)
    }
}

impl Retrieve for Beside {
    fn retrieve(
        &self,
        address: &Uri<String>,
    ) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.document(address.as_str())?)
    }
}

/// Reads a document in JSON or YAML.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read(file: &Path) -> Result<Value, String> {
    let shown = file.display();
    let size =
        std::fs::metadata(file).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    if size.len() > LARGEST {
        return Err(format!("{shown} is larger than 16 MiB"));
    }
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| format!("{shown} cannot be read: {error}"))?;
    json::document(&text).map_err(|error| format!("{shown} cannot be read: {error}"))
}

/// The address of a document of this name in the folder or below.
pub(crate) fn address(name: &str) -> String {
    let parts: Vec<String> = name.split('/').map(crate::query::encoded).collect();
    format!("{ROOT}{}", parts.join("/"))
}

/// What stands for the folder in addresses.
pub(crate) const ROOT: &str = "file:///beside/";
const LARGEST: u64 = 16 << 20;
const MOST_FILES: usize = 100;
