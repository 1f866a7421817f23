//! Header fields as operators write them in settings: names that may be edited, values, lists.
//! It must not know which plugin holds the setting; every refusal is a located [`Problem`].
//! Called by plugins while they are being built, never per request.

use std::fmt;

use http::{HeaderName, HeaderValue};
use schemars::{json_schema, JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::Deserialize;

use super::Problem;

/// Which message a field is edited in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The request as it goes upstream.
    Request,
    /// The response as it goes to the client.
    Response,
}

/// A field name that a plugin may set, add or remove on this side.
///
/// # Errors
/// Names that are not HTTP tokens, and fields that frame the message or belong to one connection: the proxy
/// writes those itself, and a second opinion about a body's length is how requests are smuggled.
pub fn field_name(side: Side, path: &str, name: &str) -> Result<HeaderName, Problem> {
    let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
        Problem::at(path, format!("\"{name}\" is not a header field name"))
            .help("use letters, digits and dashes, such as \"X-Tenant\"")
    })?;
    if MANAGED.contains(&parsed.as_str()) {
        return Err(Problem::at(
            path,
            format!("the field \"{name}\" belongs to the connection and cannot be edited"),
        )
        .help("remove this line; the proxy writes framing and hop-by-hop fields itself"));
    }
    if side == Side::Response && parsed == http::header::HOST {
        return Err(Problem::at(path, "a response has no \"host\" field")
            .help("to change the host the service sees, set it on the request"));
    }
    Ok(parsed)
}

/// A field value written in settings.
///
/// # Errors
/// Values with line breaks or other control characters.
pub fn field_value(path: &str, value: &str) -> Result<HeaderValue, Problem> {
    HeaderValue::from_str(value).map_err(|_| {
        Problem::at(
            path,
            format!("{value:?} holds characters that a header field cannot carry"),
        )
        .help("remove line breaks and control characters")
    })
}

/// The known word closest to a misspelt one, if one is close.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(score, _)| *score > 0.7)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, candidate)| candidate)
}

/// One text or a list of texts; numbers are taken as written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts(pub Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Texts, D::Error> {
        deserializer.deserialize_any(TextsVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of texts")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Texts, E> {
        Ok(Texts(vec![text.to_owned()]))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Texts, E> {
        Ok(Texts(vec![number.to_string()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Texts, A::Error> {
        let mut texts = Vec::new();
        while let Some(Texts(mut item)) = items.next_element::<Texts>()? {
            texts.append(&mut item);
        }
        Ok(Texts(texts))
    }
}

impl JsonSchema for Texts {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Texts".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [
            {"type": ["string", "integer"]},
            {"type": "array", "items": {"type": ["string", "integer"]}},
        ], "description": "One text or a list of texts."})
    }
}

/// Lower case. RFC 9110 section 7.6.1, RFC 9113 section 8.2.2, and what old proxies treat the same way.
const MANAGED: [&str; 9] = [
    "connection",
    "content-length",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framing_and_hop_by_hop_fields_are_refused_on_both_sides() {
        for name in ["Connection", "content-length", "TRANSFER-ENCODING", "te"] {
            for side in [Side::Request, Side::Response] {
                let problem = field_name(side, "set.x", name).unwrap_err();
                assert_eq!(problem.path, "set.x");
                assert!(!problem.remedy.is_empty());
            }
        }
    }

    #[test]
    fn host_may_be_set_on_requests_only() {
        assert!(field_name(Side::Request, "", "Host").is_ok());
        assert!(field_name(Side::Response, "", "Host").is_err());
    }

    #[test]
    fn names_and_values_that_http_cannot_carry_are_refused() {
        assert!(field_name(Side::Request, "", "X Tenant").is_err());
        assert!(field_name(Side::Request, "", "").is_err());
        assert!(field_value("", "a\r\nb: c").is_err());
        assert!(field_value("", "plain").is_ok());
    }

    #[test]
    fn a_misspelt_word_finds_the_closest_known_one() {
        assert_eq!(
            did_you_mean("clinet_ip", ["client_ip", "route"]),
            Some("client_ip")
        );
        assert_eq!(did_you_mean("zzz", ["client_ip", "route"]), None);
    }

    #[test]
    fn texts_are_one_or_many() {
        let one: Texts = serde_yaml::from_str("a").unwrap();
        let many: Texts = serde_yaml::from_str("[a, 5]").unwrap();
        let wrong = serde_yaml::from_str::<Texts>("{a: b}");

        assert_eq!(one.0, ["a"]);
        assert_eq!(many.0, ["a", "5"]);
        assert!(wrong.is_err());
    }
}
