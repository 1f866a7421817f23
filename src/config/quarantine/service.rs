//! What a broken service still takes: its names, its addresses, and its ports with what is spoken there.
//! It must not know where a service is, nor what it becomes: what is meant for it is refused, and never goes past it to the outside.
//! Called by `mask`.

use std::net::IpAddr;
use std::sync::LazyLock;

use super::place::{key, keys, list, map, meant, picked, Meant};
use crate::config::rules::is_host_pattern;
use crate::config::schema::{Service, ServicePort};
use crate::config::source::{Key, Kind, Node};

/// The entries that say what a service takes.
///
/// # Errors
/// Why that is not known well enough to refuse it, and only it.
pub(super) fn place(service: &Node) -> Result<Vec<(Key, Node)>, &'static str> {
    let is_misspelt = |wanted| meant(service, wanted, &SERVICE) != Meant::No;
    if is_misspelt("hosts") || is_misspelt("addresses") {
        return Err(UNCLEAR);
    }
    let are = |name, good: fn(&str) -> bool| match service.child(name).map(|node| &node.kind) {
        None => true,
        Some(Kind::Seq(items)) => items.iter().all(|item| item.text().is_some_and(good)),
        Some(_) => false,
    };
    let is_address = |text: &str| text.parse::<IpAddr>().is_ok();
    if !are("hosts", is_host_pattern) || !are("addresses", is_address) {
        return Err(UNCLEAR);
    }
    let mut entries = picked(service, &["hosts", "addresses"]);
    entries.push((key("ports", service.at), ports(service)?));
    Ok(entries)
}

fn ports(service: &Node) -> Result<Node, &'static str> {
    let Some(Kind::Seq(items)) = service.child("ports").map(|node| &node.kind) else {
        return Err(UNCLEAR);
    };
    let mut numbers = Vec::new();
    let mut kept = Vec::new();
    for item in items {
        let number = match item.child("port").map(|node| &node.kind) {
            Some(Kind::Int(number @ 1..=65_535)) => *number,
            _ => return Err(UNCLEAR),
        };
        let protocol = item.child("protocol");
        let is_word = |node: &Node| node.text().is_some_and(|text| WORDS.contains(&text));
        let is_misspelt = meant(item, "protocol", &PORT) == Meant::Surely;
        if is_misspelt || !protocol.is_none_or(is_word) {
            return Err(UNCLEAR);
        }
        if !numbers.contains(&number) {
            numbers.push(number);
            kept.push(map(picked(item, &["port", "protocol"]), item.at));
        }
    }
    match kept.is_empty() {
        true => Err(UNCLEAR),
        false => Ok(list(kept, service.at)),
    }
}

const UNCLEAR: &str = "what the service is called by cannot be understood";
const WORDS: [&str; 4] = ["http", "http2", "grpc", "tcp"];

static SERVICE: LazyLock<Vec<String>> = LazyLock::new(keys::<Service>);
static PORT: LazyLock<Vec<String>> = LazyLock::new(keys::<ServicePort>);
