//! Join tokens: bound to IDs, good once, for a while. The disk holds only their hashes.
//! It must not know the API.
//! Made by `windrose ca token`, spent by `authority` under the lock.

use std::fs;
use std::path::{Path, PathBuf};

use openssl::sha::sha256;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::grant::Grant;
use super::state::{told, LARGEST};
use super::{disk, hex, keys};

/// A token on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// What a node that joins with it may be.
    pub grant: Grant,
    /// When it was made, in seconds since 1970.
    pub made: u64,
    /// When it stops being good.
    pub expires: u64,
    /// By whom it was spent.
    pub used: Option<Used>,
}

/// How a token was spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Used {
    /// When.
    pub at: u64,
    /// The key that the node proved. The same key may ask again, if the answer was lost.
    pub key: String,
    /// The ID the node got.
    pub node: String,
}

/// A token as it is printed, once.
pub(super) fn make(folder: &Path, token: &Token) -> Result<Zeroizing<String>, String> {
    let secret = keys::random_hex::<32>()
        .map(Zeroizing::new)
        .map_err(|error| error.to_string())?;
    let text = Zeroizing::new(format!("{PREFIX}{}", *secret));
    write(folder, &hash(&text), token)?;
    Ok(text)
}

/// What is kept under this hash.
pub(super) fn read(folder: &Path, hash: &str) -> Result<Option<Token>, String> {
    let path = path(folder, hash);
    match disk::read(&path, LARGEST) {
        Ok(content) => serde_json::from_slice(&content)
            .map(Some)
            .map_err(|error| told(&path, &error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(told(&path, &error)),
    }
}

pub(super) fn write(folder: &Path, hash: &str, token: &Token) -> Result<(), String> {
    let path = path(folder, hash);
    let text = serde_json::to_vec(token).map_err(|error| told(&path, &error))?;
    disk::write(&path, &text).map_err(|error| told(&path, &error))
}

pub(super) fn remove(folder: &Path, hash: &str) -> Result<(), String> {
    let path = path(folder, hash);
    disk::remove(&path).map_err(|error| told(&path, &error))
}

/// All that are kept; those that expired a day ago are removed for good.
pub(super) fn all(folder: &Path, now: u64) -> Result<Vec<Token>, String> {
    let mut found = Vec::new();
    let listed = folder.join("tokens");
    for entry in fs::read_dir(&listed)
        .map_err(|error| told(&listed, &error))?
        .flatten()
    {
        let name = entry.file_name();
        let Some(hash) = name.to_str().and_then(|name| name.strip_suffix(".json")) else {
            continue;
        };
        match read(folder, hash)? {
            Some(token) if token.expires + A_DAY < now => remove(folder, hash)?,
            Some(token) => found.push(token),
            None => {}
        }
    }
    found.sort_by_key(|token| token.made);
    Ok(found)
}

/// Under which a token is kept. The token is 256 random bits, so that a plain hash is as good as a slow one.
pub(super) fn hash(text: &str) -> String {
    hex(&sha256(text.trim().as_bytes()))
}

fn path(folder: &Path, hash: &str) -> PathBuf {
    folder.join(format!("tokens/{hash}.json"))
}

/// So that people and scanners of secrets know one when they see it.
const PREFIX: &str = "windrose-join-";
const A_DAY: u64 = 86_400;
