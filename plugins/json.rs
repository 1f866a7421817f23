//! JSON from strangers, read so that it means one thing only.
//! It must not know what the text says; members that are there twice are refused at every depth (RFC 8725 section 2.4).
//! Used by whatever reads tokens and keys.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A value in which no object has a member twice. Depth is bounded by the parser: 128.
///
/// # Errors
/// Text that is not JSON, goes on behind the value, or has a member twice.
pub(crate) fn strict(text: &[u8]) -> Result<Value, serde_json::Error> {
    let mut parser = serde_json::Deserializer::from_slice(text);
    let value = Strict.deserialize(&mut parser)?;
    parser.end()?;
    Ok(value)
}

/// As [`strict`], of an object.
///
/// # Errors
/// As there, and any other value.
pub(crate) fn strict_object(text: &[u8]) -> Result<Map<String, Value>, serde_json::Error> {
    match strict(text)? {
        Value::Object(members) => Ok(members),
        _ => Err(serde_json::Error::custom("it is not an object")),
    }
}

struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        let number = Number::from_f64(number);
        number
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number is out of range"))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element_seed(Strict)? {
            all.push(item);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(Strict)?;
            // Never quoted: it is a stranger's text.
            if all.insert(name, value).is_some() {
                return Err(A::Error::custom("a member is there twice"));
            }
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_is_there_twice_is_refused_at_every_depth() {
        for text in [
            r#"{"a": 1, "a": 1}"#,
            r#"{"a": {"b": 1, "b": 2}}"#,
            r#"[{"a": 1}, {"a": 1, "\u0061": 2}]"#,
        ] {
            assert!(strict(text.as_bytes()).is_err(), "{text}");
        }
        assert!(strict(br#"{"a": {"a": 1}, "b": {"a": 1}}"#).is_ok());
    }

    #[test]
    fn what_is_no_json_or_goes_on_is_refused() {
        let deep = "[".repeat(200);
        for text in ["", "{", "{} {}", "{\"a\": 1e999}", "nul", &deep] {
            assert!(strict(text.as_bytes()).is_err(), "{text}");
        }
        assert!(strict_object(b"[]").is_err());
        assert!(strict(b"\xff").is_err() && strict(b"{\"a\": \"\xff\"}").is_err());
    }

    proptest::proptest! {
        #[test]
        fn what_is_taken_is_what_serde_takes(text in "[\\[\\]{}:,\"a-c0-9 ]{0,40}") {
            if let Ok(value) = strict(text.as_bytes()) {
                let other: Value = serde_json::from_str(&text).unwrap();
                proptest::prop_assert_eq!(value, other);
            }
        }
    }
}
