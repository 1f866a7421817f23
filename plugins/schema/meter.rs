//! JSON that is looked at with a meter running, so that no document and no schema makes a check endless.
//! It must not know schemas; when the meter runs out it shows nothing more, and whoever asked has to look at the meter.
//! Read by the validator of `jsonschema`, through its traits for representations.

use std::borrow::Cow;
use std::cell::Cell;

use jsonschema::json::{cmp, unique, Array, Json, Node, NodeIdentity, Object};
use jsonschema::JsonType;
use serde_json::{Map, Number, Value};

/// How many looks are left.
#[derive(Debug)]
pub(crate) struct Meter(Cell<u64>);

impl Meter {
    /// A meter with this many looks.
    pub(crate) fn of(looks: u64) -> Meter {
        Meter(Cell::new(looks))
    }

    /// Takes some off; `false` when they were not there.
    fn take(&self, looks: u64) -> bool {
        let left = self.0.get().checked_sub(looks);
        self.0.set(left.unwrap_or(0));
        left.is_some()
    }

    /// Whether it ran out, so that what was seen does not count.
    pub(crate) fn is_out(&self) -> bool {
        self.0.get() == 0
    }
}

impl Default for Meter {
    fn default() -> Meter {
        Meter::of(u64::MAX)
    }
}

/// The representation.
pub(crate) struct Metered;

/// A value that is looked at.
#[derive(Clone, Copy)]
pub(crate) struct Seen<'a> {
    value: &'a Value,
    meter: &'a Meter,
}

impl<'a> Seen<'a> {
    /// A document from its root on.
    pub(crate) fn of(value: &'a Value, meter: &'a Meter) -> Seen<'a> {
        Seen { value, meter }
    }

    /// The value, if it may still be looked at. Text costs by its length, as patterns read it from end to end.
    fn look(&self) -> Option<&'a Value> {
        let looks = match self.value {
            Value::String(text) => 1 + text.len() as u64 / 16,
            _ => 1,
        };
        self.meter.take(looks).then_some(self.value)
    }
}

/// Where the name of a member stands while it is looked at as a value.
pub(crate) struct Name {
    value: Value,
    meter: Meter,
}

impl Default for Name {
    fn default() -> Name {
        Name {
            value: Value::Null,
            meter: Meter::default(),
        }
    }
}

impl Json for Metered {
    type Node<'a> = Seen<'a>;
    type PreparedKey = String;
    type StringBuffer = Name;

    // As the crate's own representation of the same values.
    const KEYS_PER_LOOKUP: usize = 2;
    const ACYCLIC: bool = true;

    fn prepare_key(key: &str) -> String {
        key.to_owned()
    }

    fn with_string_node<T>(name: &mut Name, text: &str, work: impl FnOnce(Seen<'_>) -> T) -> T {
        name.value = Value::String(text.to_owned());
        work(Seen::of(&name.value, &name.meter))
    }
}

impl<'a> Node<'a, Metered> for Seen<'a> {
    type Object = Members<'a>;
    type Array = Items<'a>;
    type Number = &'a Number;

    fn as_object(&self) -> Option<Members<'a>> {
        let members = self.look()?.as_object()?;
        Some(Members {
            members,
            meter: self.meter,
        })
    }

    fn as_array(&self) -> Option<Items<'a>> {
        let items = self.look()?.as_array()?;
        Some(Items {
            items,
            meter: self.meter,
        })
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        self.look()?.as_str().map(Cow::Borrowed)
    }

    fn as_number(&self) -> Option<&'a Number> {
        self.look()?.as_number()
    }

    fn as_boolean(&self) -> Option<bool> {
        self.look()?.as_bool()
    }

    fn is_null(&self) -> bool {
        self.value.is_null()
    }

    fn json_type(&self) -> JsonType {
        self.meter.take(1);
        match self.value {
            Value::Null => JsonType::Null,
            Value::Bool(_) => JsonType::Boolean,
            Value::Number(_) => JsonType::Number,
            Value::String(_) => JsonType::String,
            Value::Array(_) => JsonType::Array,
            Value::Object(_) => JsonType::Object,
        }
    }

    fn equals_value(&self, expected: &Value) -> bool {
        self.look().is_some_and(|value| cmp::equal(value, expected))
    }

    /// What errors hold of a value: nothing. Their text goes to clients and logs, and copies of values are what makes errors large.
    fn to_value(&self) -> Cow<'a, Value> {
        Cow::Borrowed(&NOTHING)
    }

    fn identity(&self) -> Option<NodeIdentity> {
        Some(NodeIdentity::new(
            std::ptr::from_ref::<Value>(self.value) as usize
        ))
    }
}

/// The members of an object.
pub(crate) struct Members<'a> {
    members: &'a Map<String, Value>,
    meter: &'a Meter,
}

impl<'a> Object<'a, Metered> for Members<'a> {
    type Node = Seen<'a>;
    type MemberName = &'a str;
    type MembersIter = EachMember<'a>;

    fn len(&self) -> usize {
        self.members.len()
    }

    fn get(&self, key: &String) -> Option<Seen<'a>> {
        let value = self.members.get(key.as_str());
        let value = value.filter(|_| self.meter.take(1))?;
        Some(Seen::of(value, self.meter))
    }

    fn members(&self) -> EachMember<'a> {
        EachMember {
            rest: self.members.iter(),
            meter: self.meter,
        }
    }
}

/// Members one after another.
pub(crate) struct EachMember<'a> {
    rest: serde_json::map::Iter<'a>,
    meter: &'a Meter,
}

impl<'a> Iterator for EachMember<'a> {
    type Item = (&'a str, Seen<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, value) = self.rest.next().filter(|_| self.meter.take(1))?;
        Some((name, Seen::of(value, self.meter)))
    }
}

/// The items of an array.
pub(crate) struct Items<'a> {
    items: &'a [Value],
    meter: &'a Meter,
}

impl<'a> Array<'a, Metered> for Items<'a> {
    type Node = Seen<'a>;
    type ElementsIter = EachItem<'a>;

    fn len(&self) -> usize {
        self.items.len()
    }

    fn elements(&self) -> EachItem<'a> {
        EachItem {
            rest: self.items.iter(),
            meter: self.meter,
        }
    }

    fn is_unique(&self) -> bool {
        let looks = 1 + self.items.len() as u64;
        self.meter.take(looks) && unique::is_unique(self.items)
    }
}

/// Items one after another.
pub(crate) struct EachItem<'a> {
    rest: std::slice::Iter<'a, Value>,
    meter: &'a Meter,
}

impl<'a> Iterator for EachItem<'a> {
    type Item = Seen<'a>;

    fn next(&mut self) -> Option<Seen<'a>> {
        let value = self.rest.next().filter(|_| self.meter.take(1))?;
        Some(Seen::of(value, self.meter))
    }
}

static NOTHING: Value = Value::Null;
