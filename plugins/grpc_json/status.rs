//! The status of a gRPC call, as HTTP and as JSON (`google.rpc.Status`).
//! It must not know messages of services; details are told where the descriptor set knows their types.
//! Part of `grpc_json`.

use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::Engine as _;
use http::{HeaderMap, HeaderName};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::{json, Value};

use crate::query;

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) code: u32,
    message: String,
    /// A serialized `google.rpc.Status`.
    details: Option<Vec<u8>>,
}

/// `google.rpc.Status`, of which every service has the same.
#[derive(Clone, PartialEq, prost::Message)]
struct Details {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

impl Status {
    /// What fields say, which are those of the head or of the trailers.
    pub(super) fn of(fields: &HeaderMap) -> Option<Status> {
        let code = fields.get(&GRPC_STATUS)?.to_str().ok()?;
        let message = fields.get(&GRPC_MESSAGE);
        let details = fields.get(&GRPC_DETAILS);
        Some(Status {
            // A code that is none is an unknown error, as the specification has it.
            code: code.trim().parse().unwrap_or(UNKNOWN),
            message: message.map_or_else(String::new, |text| decoded(text.as_bytes())),
            details: details.and_then(|text| LENIENT.decode(text.as_bytes()).ok()),
        })
    }

    /// A status that nobody sent.
    pub(super) fn missing() -> Status {
        Status {
            code: UNKNOWN,
            message: "the service ended the call without a status".to_owned(),
            details: None,
        }
    }

    /// Whether the call succeeded.
    pub(super) fn is_ok(&self) -> bool {
        self.code == 0
    }

    /// The status of HTTP that means the same, as `google.rpc.Code` has it.
    pub(super) fn http(&self) -> u16 {
        match self.code {
            0 => 200,
            1 => 499,
            3 | 9 | 11 => 400,
            4 => 504,
            5 => 404,
            6 | 10 => 409,
            7 => 403,
            8 => 429,
            12 => 501,
            14 => 503,
            16 => 401,
            _ => 500,
        }
    }

    /// The JSON of it.
    pub(super) fn json(&self, pool: &DescriptorPool, print: &SerializeOptions) -> Value {
        let details = self.details.as_deref().unwrap_or_default();
        let details = Details::decode(details).unwrap_or_default().details;
        let details = details.iter().take(MOST_DETAILS);
        let details: Vec<Value> = details.map(|any| detail(any, pool, print)).collect();
        json!({"code": self.code, "message": self.message, "details": details})
    }
}

/// The JSON of a refusal, in the same form.
pub(super) fn refusal(code: u32, message: &str) -> Value {
    json!({"code": code, "message": message, "details": []})
}

/// A detail in the form of `Any`; of types that are not known only their name.
fn detail(any: &Any, pool: &DescriptorPool, print: &SerializeOptions) -> Value {
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    let told = pool.get_message_by_name(name).and_then(|kind| {
        let message = DynamicMessage::decode(kind, &any.value[..]).ok()?;
        let told = message.serialize_with_options(serde_json::value::Serializer, print);
        told.ok()
    });
    match told {
        Some(Value::Object(mut members)) => {
            members.insert("@type".to_owned(), Value::String(any.type_url.clone()));
            Value::Object(members)
        }
        Some(value) => json!({"@type": any.type_url, "value": value}),
        None => json!({"@type": any.type_url}),
    }
}

/// A message as it was before its bytes were escaped (gRPC over HTTP/2, "Status-Message").
fn decoded(text: &[u8]) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let escaped = (*byte == b'%').then(|| query::escape(after)).flatten();
        match escaped {
            Some(value) => {
                plain.push(value);
                rest = &after[2..];
            }
            None => plain.push(*byte),
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

pub(super) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(super) const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
pub(super) const GRPC_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const UNKNOWN: u32 = 2;
const MOST_DETAILS: usize = 32;
/// Some libraries send padding, some do not.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
