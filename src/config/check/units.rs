//! Texts with a form of their own: times, sizes, shares, networks and addresses.
//! It must not know which keys hold them; the name of the schema says the form.
//! Called by `check`, so that one bad value does not hide the next as a decoder would.

use std::net::IpAddr;

use ipnet::IpNet;
use windrose_plugins::contract::{Percent, Size, Time};

use super::describe::quoted;
use crate::config::source::Node;

/// Why a text does not have the form that a referenced schema stands for.
pub(super) fn refusal(node: &Node, reference: &str) -> Option<String> {
    let text = node.text()?;
    let fact = match reference.rsplit('/').next()? {
        "Time" => text.parse::<Time>().err()?,
        "Size" => text.parse::<Size>().err()?,
        "Percent" => Percent::try_from(text.to_owned()).err()?,
        "IpNet" if text.parse::<IpNet>().is_err() => format!(
            "{} is not a network; write an address and its prefix length, such as \"10.0.0.0/8\"",
            quoted(text)
        ),
        _ => return None,
    };
    Some(safely(node, fact))
}

/// The same for an address, whose schema is written in place.
pub(super) fn refusal_of_format(node: &Node, format: &str) -> Option<String> {
    let text = node.text()?;
    if format != "ip" || text.parse::<IpAddr>().is_ok() {
        return None;
    }
    Some(safely(
        node,
        format!("{} is not an IP address", quoted(text)),
    ))
}

fn safely(node: &Node, fact: String) -> String {
    match node.secret {
        true => "the value that was put in here does not have the form that is needed".into(),
        false => fact,
    }
}
