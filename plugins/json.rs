//! JSON from strangers, read so that it means one thing only.
//! It must not know what the text says; members that are there twice are refused at every depth (RFC 8725 section 2.4).
//! Used by whatever reads tokens and keys.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A value in which no object has a member twice. Depth is bounded by the parser: 128.
///
/// # Errors
/// Text that is not JSON, goes on behind the value, or has a member twice.
pub(crate) fn strict(text: &[u8]) -> Result<Value, serde_json::Error> {
    read(text, &Watch::of(usize::MAX))
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

/// As [`strict`], at most so many arrays and objects deep, which is below 128.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn bounded(text: &[u8], depth: usize) -> Result<Value, Flaw> {
    let watch = Watch::of(depth);
    read(text, &watch).map_err(|_| watch.flaw.get())
}

/// A document of an operator, JSON or YAML, that means one thing only. Keys that YAML reads as numbers are text, as `200` of
/// responses; merge keys (`<<`) are not read.
///
/// # Errors
/// What is wrong, with its line.
pub(crate) fn document(text: &str) -> Result<Value, String> {
    let mut watch = Watch::of(120);
    watch.is_yaml = true;
    // JSON is YAML, but tabs and long lines of it are read by the better parser.
    let read = match text.trim_start().starts_with('{') {
        true => read(text.as_bytes(), &watch).map_err(|error| error.to_string()),
        false => Strict {
            watch: &watch,
            left: watch.depth,
        }
        .deserialize(serde_yaml::Deserializer::from_str(text))
        .map_err(|error| error.to_string()),
    };
    read.map_err(|error| match watch.flaw.get() {
        Flaw::Syntax | Flaw::Twice => error,
        Flaw::Deep => "it is nested deeper than 120 levels".to_owned(),
        Flaw::Large => format!("it has more than {NODES} values, those of aliases included"),
    })
}

/// What is wrong with a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// It is not JSON, not UTF-8, goes on behind the value, or holds a number that no 64 bits hold.
    Syntax,
    /// A member is there twice.
    Twice,
    /// It is nested too deep.
    Deep,
    /// It has too many values.
    Large,
}

fn read(text: &[u8], watch: &Watch) -> Result<Value, serde_json::Error> {
    let mut parser = serde_json::Deserializer::from_slice(text);
    let value = Strict {
        watch,
        left: watch.depth,
    }
    .deserialize(&mut parser)?;
    parser.end()?;
    Ok(value)
}

/// What holds for a whole text, and what was found wrong with it.
struct Watch {
    depth: usize,
    nodes: Cell<usize>,
    is_yaml: bool,
    flaw: Cell<Flaw>,
}

impl Watch {
    fn of(depth: usize) -> Watch {
        Watch {
            depth,
            nodes: Cell::new(0),
            is_yaml: false,
            flaw: Cell::new(Flaw::Syntax),
        }
    }

    fn wrong<E: Error>(&self, flaw: Flaw, text: &str) -> E {
        self.flaw.set(flaw);
        E::custom(text)
    }
}

#[derive(Clone, Copy)]
struct Strict<'w> {
    watch: &'w Watch,
    left: usize,
}

impl Strict<'_> {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        match self.left.checked_sub(1) {
            Some(left) => Ok(Strict { left, ..self }),
            None => Err(self.watch.wrong(Flaw::Deep, "it is nested too deep")),
        }
    }

    /// A bound for documents in YAML, where a short text may stand for many values.
    fn count<E: Error>(self) -> Result<(), E> {
        let nodes = self.watch.nodes.get() + 1;
        self.watch.nodes.set(nodes);
        match nodes > NODES && self.watch.is_yaml {
            true => Err(self.watch.wrong(Flaw::Large, "it has too many values")),
            false => Ok(()),
        }
    }
}

/// Values of a document.
const NODES: usize = 2_000_000;

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
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
        let inner = self.deeper()?;
        let mut all = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            self.count()?;
            all.push(item);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut all = Map::new();
        while let Some(name) = entries.next_key_seed(Name)? {
            if self.watch.is_yaml && name == "<<" {
                return Err(A::Error::custom("merge keys (<<) are not read"));
            }
            let value = entries.next_value_seed(inner)?;
            self.count()?;
            // Never quoted: it is a stranger's text.
            if all.insert(name, value).is_some() {
                return Err(self.watch.wrong(Flaw::Twice, "a member is there twice"));
            }
        }
        Ok(Value::Object(all))
    }
}

/// The name of a member: text, or what YAML takes for a number or truth.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Name {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<String, E> {
        Ok(truth.to_string())
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

    #[test]
    fn what_is_wrong_has_a_name() {
        let flaw = |text: &str| bounded(text.as_bytes(), 3).unwrap_err();

        assert!(bounded(br#"[[[1]], {"a": {}}]"#, 3).is_ok());
        assert_eq!(flaw("[[[[]]]]"), Flaw::Deep);
        assert_eq!(flaw(r#"{"a": {"a": {"a": {}}}}"#), Flaw::Deep);
        assert_eq!(flaw(r#"[{"a": 1, "a": 2}]"#), Flaw::Twice);
        for text in ["[1e999]", "[", "{} 1", ""] {
            assert_eq!(flaw(text), Flaw::Syntax, "{text}");
        }
    }

    #[test]
    fn a_document_is_json_or_yaml_with_numbers_for_names() {
        let value = document("a:\n  200: {b: [1, 1.5, x, null, true]}\n").unwrap();

        assert_eq!(
            value["a"]["200"]["b"],
            serde_json::json!([1, 1.5, "x", null, true])
        );
        assert_eq!(document("\n{\"a\":\t1}").unwrap()["a"], 1);
        for text in [
            "a: 1\na: 2",
            "a: {<<: {b: 1}}",
            "a: [",
            "a: !x 1",
            "a: .nan",
            "{\"a\": 1, \"a\": 2}",
        ] {
            assert!(document(text).is_err(), "{text}");
        }
    }

    #[test]
    fn documents_that_grow_are_refused_before_they_have_grown() {
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let before = format!("*a{}", level - 1);
            laughs += &format!("a{level}: &a{level} [{}]\n", [&*before; 10].join(", "));
        }
        let deep = "[".repeat(2000);

        assert!(document(&laughs).is_err());
        assert!(document(&deep).is_err());
        assert!(document(&format!("a: {deep}")).is_err());
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
