//! Bodies of 1 KiB in the forms that plugins want.
//! They must be the same in each run, so that numbers can be compared.
//! Made by scenes before turns are counted.

use std::io::Write;

use bytes::Bytes;
use serde_json::{json, Value};

/// An order as JSON.
pub(crate) fn order() -> Bytes {
    let item =
        |number: usize| json!({"sku": format!("a-{number:04}"), "count": number, "price": 1999});
    let items: Vec<Value> = (1..=12).map(item).collect();
    sized(
        |note| json!({"id": 4711, "customer": "ann", "paid": true, "items": items, "note": note}),
        SIZE,
    )
}

/// What `order` is by schema.
pub(crate) const ORDER: &str = "{type: object, required: [id, items], additionalProperties: false, properties: {id: {type: integer, minimum: 1}, \
     customer: {type: string, maxLength: 40}, paid: {type: boolean}, note: {type: string}, items: {type: array, maxItems: 50, items: {type: \
     object, required: [sku, count], additionalProperties: false, properties: {sku: {type: string, pattern: '^[a-z]-[0-9]+$'}, count: {type: \
     integer, minimum: 1}, price: {type: integer}}}}}}";

/// A question to a model.
pub(crate) fn question() -> Bytes {
    sized(
        |text| json!({"model": "large", "messages": [{"role": "user", "content": text}], "max_tokens": 200}),
        SIZE,
    )
}

/// Its answer.
pub(crate) fn reply() -> Bytes {
    sized(
        |text| {
            json!({"id": "c-1", "model": "gpt-4o", "choices": [{"index": 0, "message": {"role": "assistant", "content": text}}],
                "usage": {"prompt_tokens": 30, "completion_tokens": 120, "total_tokens": 150}})
        },
        SIZE,
    )
}

/// A query of GraphQL with sixteen selections of a list.
pub(crate) fn query() -> Bytes {
    let one = |at: usize| format!("o{at}: order(id: {at}) {{ id items(first: 5) {{ sku }} }} ");
    let all: String = (1..=16).map(one).collect();
    sized(
        |note| json!({"query": format!("query Orders {{ {all} }}"), "variables": {"note": note}}),
        SIZE,
    )
}

/// A message of one text in the frame of gRPC, and that text as JSON.
pub(crate) fn message() -> (Bytes, Bytes) {
    let text = words(SIZE - 20);
    let mut message = vec![0x0a];
    let length = u8::try_from(text.len() & 0x7f).unwrap_or_default() | 0x80;
    message.extend([length, u8::try_from(text.len() >> 7).unwrap_or_default()]);
    message.extend(text.as_bytes());
    let json = json!({"id": text}).to_string();
    (framed(&message), json.into())
}

/// A message in the frame of gRPC.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let frame = [&[0], &length.to_be_bytes()[..], message].concat();
    frame.into()
}

/// A body in a coding.
pub(crate) fn coded(coding: &str, body: &[u8]) -> Bytes {
    let coded = match coding {
        "gzip" => {
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(5));
            let written = writer.write_all(body);
            written.and_then(|()| writer.finish())
        }
        "br" => {
            let mut writer = brotli::CompressorWriter::new(Vec::new(), 4096, 4, 18);
            let written = writer.write_all(body);
            written.map(|()| writer.into_inner())
        }
        _ => zstd::encode_all(body, 3),
    };
    coded.expect("what is in memory can be coded").into()
}

/// JSON of so many bytes, which a text in it fills up.
fn sized(of: impl Fn(String) -> Value, size: usize) -> Bytes {
    let least = of(String::new()).to_string().len();
    of(words(size.saturating_sub(least))).to_string().into()
}

/// So many bytes of something like a language, the same each time.
fn words(bytes: usize) -> String {
    let mut seed = 7_usize;
    let mut text = String::new();
    while text.len() < bytes {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        text.push_str(WORDS[(seed >> 33) % WORDS.len()]);
    }
    text.truncate(bytes);
    text
}

const WORDS: [&str; 16] = [
    "parcel ",
    "please ",
    "leave ",
    "with ",
    "the ",
    "neighbour ",
    "door ",
    "left ",
    "before ",
    "noon ",
    "ring ",
    "twice ",
    "and ",
    "call ",
    "when ",
    "late ",
];
const SIZE: usize = 1024;
