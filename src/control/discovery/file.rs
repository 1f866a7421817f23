//! Endpoints from a file: a YAML or JSON list like the `endpoints` of a pool.
//! It must not know pools beyond their slot.
//! Called by `Finder`.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::watch::Changes;
use super::Answer;
use crate::config::schema::EndpointSettings;
use crate::control::pools::slot::Slot;
use crate::snapshot::endpoint::Address;
use crate::snapshot::pool::{EndpointSpec, MAX_PRIORITY};

/// Reads the file again whenever it changed. A file that cannot be used leaves the endpoints as they are.
pub(super) async fn follow(slot: Arc<Slot>, path: PathBuf, mut changes: Changes) {
    loop {
        take(&slot, &path).await;
        changes.wait(POLL).await;
    }
}

async fn take(slot: &Slot, path: &Path) {
    let pool = slot.pool().name.clone();
    match read(path.to_owned()).await {
        Ok(specs) => {
            let count = specs.len();
            let was_broken = slot.problem().is_some();
            if slot.publish(specs) || was_broken {
                log::info!("endpoints read from file: pool={pool} endpoints={count}");
            }
        }
        Err(problem) => {
            // The file is looked at every few seconds: the same problem is said once.
            if slot.trouble(problem.clone()) {
                log::warn!(
                    "endpoints stay as they are, their file is of no use: pool={pool} {problem}"
                );
            }
        }
    }
}

/// What the file says.
pub(super) async fn read(path: PathBuf) -> Answer {
    let reading = tokio::task::spawn_blocking(move || read_now(&path));
    reading
        .await
        .unwrap_or_else(|_| Err("the file could not be read".into()))
}

fn read_now(path: &Path) -> Answer {
    let shown = path.display();
    let file = std::fs::File::open(path).map_err(|error| format!("{shown}: {error}"))?;
    let mut text = String::new();
    file.take(MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| format!("{shown}: {error}"))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(format!("{shown}: larger than {MAX_BYTES} bytes"));
    }
    parse(&text).map_err(|problem| format!("{shown}:{problem}"))
}

/// Endpoints from the text of a file. The problem begins with line and column.
fn parse(text: &str) -> Answer {
    if text.trim().is_empty() {
        return Err(
            "1:1: the file is empty; write `[]` for a pool without endpoints on purpose".into(),
        );
    }
    let list: List = serde_yaml::from_str(text).map_err(|error| {
        let (line, column) = error
            .location()
            .map_or((1, 1), |place| (place.line(), place.column()));
        let text = error.to_string();
        // serde_yaml ends its messages with the place, which stands in front already.
        let fact = text
            .rfind(" at line ")
            .map_or(text.as_str(), |end| &text[..end]);
        format!("{line}:{column}: {fact}")
    })?;
    Ok(list.0)
}

/// The list, decoded by hand because an untagged enum would lose the lines of problems.
struct List(Vec<EndpointSpec>);

struct Item(EndpointSpec);

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<List, D::Error> {
        deserializer.deserialize_seq(ListVisitor).map(List)
    }
}

struct ListVisitor;

impl<'de> Visitor<'de> for ListVisitor {
    type Value = Vec<EndpointSpec>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of endpoints")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut specs: Vec<EndpointSpec> = Vec::new();
        let mut known = HashSet::new();
        while let Some(Item(spec)) = list.next_element()? {
            if specs.len() == MAX_ENDPOINTS {
                return Err(A::Error::custom(format_args!(
                    "more than {MAX_ENDPOINTS} endpoints"
                )));
            }
            if !known.insert(spec.address.clone()) {
                return Err(A::Error::custom(format_args!(
                    "\"{}\" is listed twice",
                    spec.address
                )));
            }
            specs.push(spec);
        }
        Ok(specs)
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Item, D::Error> {
        deserializer.deserialize_any(ItemVisitor).map(Item)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = EndpointSpec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address, or a map with `address`, `weight`, `labels` and `priority`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<EndpointSpec, E> {
        Ok(EndpointSpec {
            address: address(text).map_err(E::custom)?,
            weight: 1,
            labels: BTreeMap::new(),
            priority: 0,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<EndpointSpec, A::Error> {
        let settings = EndpointSettings::deserialize(MapAccessDeserializer::new(map))?;
        if settings.weight > MAX_WEIGHT {
            return Err(A::Error::custom(format_args!(
                "weight must be at most {MAX_WEIGHT}, found {}",
                settings.weight
            )));
        }
        if settings.priority > MAX_PRIORITY {
            return Err(A::Error::custom(format_args!(
                "priority must be at most {MAX_PRIORITY}, found {}",
                settings.priority
            )));
        }
        Ok(EndpointSpec {
            address: address(&settings.address).map_err(A::Error::custom)?,
            weight: settings.weight,
            labels: settings.labels,
            priority: settings.priority,
        })
    }
}

fn address(text: &str) -> Result<Address, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return match path.starts_with('/') {
            true => Ok(Address::Unix(path.into())),
            false => Err(format!("\"{text}\" needs an absolute path")),
        };
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => Err(format!("\"{text}\" has port 0")),
        Ok(address) => Ok(Address::Tcp(address)),
        Err(_) => Err(format!(
            "\"{text}\" is no address like 10.0.0.1:8080, [::1]:80 or unix:/path"
        )),
    }
}

const POLL: Duration = Duration::from_secs(5);
const MAX_BYTES: u64 = 4 << 20;
const MAX_ENDPOINTS: usize = 10_000;
const MAX_WEIGHT: u32 = 1000;

#[cfg(test)]
mod tests;
