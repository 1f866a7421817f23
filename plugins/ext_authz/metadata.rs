//! Metadata that the service tells: protobuf's `Struct`, read as the JSON that it stands for.
//! It must not know what is in it.
//! Part of `ext_authz`.

use std::collections::BTreeMap;

use prost::{Message, Oneof};
use serde_json::{Number, Value};

use crate::contract::Claims;

/// `google.protobuf.Struct`. The decoder bounds its depth.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Members {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(super) members: BTreeMap<String, Member>,
}

/// `google.protobuf.Value`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Member {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6")]
    pub(super) kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Kind {
    #[prost(int32, tag = "1")]
    Null(i32),
    #[prost(double, tag = "2")]
    Number(f64),
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(bool, tag = "4")]
    Truth(bool),
    #[prost(message, tag = "5")]
    Object(Members),
    #[prost(message, tag = "6")]
    List(Items),
}

/// `google.protobuf.ListValue`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Items {
    #[prost(message, repeated, tag = "1")]
    pub(super) items: Vec<Member>,
}

/// As JSON.
///
/// # Errors
/// A number that JSON does not have.
pub(super) fn claims(members: Members) -> Result<Claims, String> {
    let one = |(name, member): (String, Member)| Ok((name, value(member)?));
    members.members.into_iter().map(one).collect()
}

fn value(member: Member) -> Result<Value, String> {
    Ok(match member.kind {
        None | Some(Kind::Null(_)) => Value::Null,
        Some(Kind::Number(number)) => Value::Number(
            whole(number)
                .or_else(|| Number::from_f64(number))
                .ok_or("tells a number that is none")?,
        ),
        Some(Kind::Text(text)) => Value::String(text),
        Some(Kind::Truth(truth)) => Value::Bool(truth),
        Some(Kind::Object(members)) => Value::Object(claims(members)?),
        Some(Kind::List(items)) => Value::Array(
            items
                .items
                .into_iter()
                .map(value)
                .collect::<Result<_, String>>()?,
        ),
    })
}

/// Protobuf has no whole numbers here; expressions tell them from others.
fn whole(number: f64) -> Option<Number> {
    let is_whole = number.fract() == 0.0 && number.abs() <= EXACT;
    is_whole.then(|| Number::from(number as i64))
}

/// 2^53.
const EXACT: f64 = 9_007_199_254_740_992.0;
