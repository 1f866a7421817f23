//! The nodes that joined, what each may be, and which roots it says it trusts: the census that gates a change of roots.
//! It must not know the API.
//! Written by `authority` under the lock, judged by `rotation`.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::disk;
use super::grant::Grant;
use super::state::{told, LARGEST};
use super::wire::NODE_PREFIX;
use crate::snapshot::identity::SpiffeId;

/// A node that joined.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its ID.
    pub id: String,
    /// What it calls itself; only shown.
    pub name: String,
    /// What it may hold certificates for.
    pub grant: Grant,
    /// The hash of the token it joined with.
    pub token: String,
    /// When it joined, in seconds since 1970.
    pub joined: u64,
    /// When its own certificate ends; after that it is gone until it joins again.
    pub ends: u64,
    /// The hashes of the roots it trusts, as it said last.
    pub trusts: Vec<String>,
    /// When it last said so.
    pub seen: u64,
}

impl Node {
    /// For people: its name, and what tells it from others of that name.
    pub fn shown(&self) -> String {
        let key = self.id.rsplit('/').next().unwrap_or_default();
        format!("{} ({})", self.name, key.get(..8).unwrap_or(key))
    }
}

/// The part of a node's ID that names its file, if it is a node's.
pub(super) fn key(id: &SpiffeId) -> Option<&str> {
    let key = id.path().strip_prefix(NODE_PREFIX)?;
    let is_ours = key.len() == KEY_LENGTH
        && key
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_ours.then_some(key)
}

pub(super) fn read(folder: &Path, key: &str) -> Result<Option<Node>, String> {
    let path = path(folder, key);
    match disk::read(&path, LARGEST) {
        Ok(content) => serde_json::from_slice(&content)
            .map(Some)
            .map_err(|error| told(&path, &error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(told(&path, &error)),
    }
}

pub(super) fn write(folder: &Path, key: &str, node: &Node) -> Result<(), String> {
    let path = path(folder, key);
    let text = serde_json::to_vec(node).map_err(|error| told(&path, &error))?;
    disk::write(&path, &text).map_err(|error| told(&path, &error))
}

pub(super) fn remove(folder: &Path, key: &str) -> Result<(), String> {
    let path = path(folder, key);
    disk::remove(&path).map_err(|error| told(&path, &error))
}

/// All of them, with the names of their files, in the order they joined.
pub(super) fn all(folder: &Path) -> Result<Vec<(String, Node)>, String> {
    let listed = folder.join("nodes");
    let mut found = Vec::new();
    for entry in fs::read_dir(&listed)
        .map_err(|error| told(&listed, &error))?
        .flatten()
    {
        let name = entry.file_name();
        let Some(key) = name.to_str().and_then(|name| name.strip_suffix(".json")) else {
            continue;
        };
        if let Some(node) = read(folder, key)? {
            found.push((key.to_owned(), node));
        }
    }
    found.sort_by(|(_, one), (_, other)| (one.joined, &one.id).cmp(&(other.joined, &other.id)));
    Ok(found)
}

fn path(folder: &Path, key: &str) -> PathBuf {
    folder.join(format!("nodes/{key}.json"))
}

/// Of 16 random bytes in hex.
const KEY_LENGTH: usize = 32;
