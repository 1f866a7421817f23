//! The messages of Envoy's `envoy.service.auth.v3.Authorization/Check` that are needed, by their field numbers, and gRPC's frame
//! around one. It must not know HTTP beyond that.
//! Part of `ext_authz`.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use super::metadata::Members;

#[derive(Clone, PartialEq, Message)]
pub(super) struct CheckRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) attributes: Option<Attributes>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Attributes {
    #[prost(message, optional, tag = "1")]
    pub(super) source: Option<Peer>,
    #[prost(message, optional, tag = "4")]
    pub(super) request: Option<Asked>,
    #[prost(btree_map = "string, string", tag = "10")]
    pub(super) context: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Peer {
    #[prost(message, optional, tag = "1")]
    pub(super) address: Option<Address>,
    #[prost(string, tag = "4")]
    pub(super) principal: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Address {
    #[prost(message, optional, tag = "1")]
    pub(super) socket: Option<SocketAddress>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SocketAddress {
    #[prost(string, tag = "2")]
    pub(super) address: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Asked {
    #[prost(message, optional, tag = "1")]
    pub(super) time: Option<Timestamp>,
    #[prost(message, optional, tag = "2")]
    pub(super) http: Option<HttpRequest>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Timestamp {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HttpRequest {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(string, tag = "2")]
    pub(super) method: String,
    #[prost(btree_map = "string, string", tag = "3")]
    pub(super) headers: BTreeMap<String, String>,
    /// With its query.
    #[prost(string, tag = "4")]
    pub(super) path: String,
    #[prost(string, tag = "5")]
    pub(super) host: String,
    #[prost(string, tag = "6")]
    pub(super) scheme: String,
    /// -1 where it is not known.
    #[prost(int64, tag = "9")]
    pub(super) size: i64,
    #[prost(string, tag = "10")]
    pub(super) protocol: String,
    /// Where it is text.
    #[prost(string, tag = "11")]
    pub(super) body: String,
    /// Where it is not.
    #[prost(bytes = "bytes", tag = "12")]
    pub(super) raw_body: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CheckResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
    #[prost(message, optional, tag = "2")]
    pub(super) denied: Option<Denied>,
    #[prost(message, optional, tag = "3")]
    pub(super) ok: Option<Allowed>,
    #[prost(message, optional, tag = "4")]
    pub(super) metadata: Option<Members>,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Status {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Denied {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<HttpStatus>,
    #[prost(message, repeated, tag = "2")]
    pub(super) headers: Vec<HeaderOption>,
    #[prost(string, tag = "3")]
    pub(super) body: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HttpStatus {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Allowed {
    #[prost(message, repeated, tag = "2")]
    pub(super) headers: Vec<HeaderOption>,
    #[prost(string, repeated, tag = "5")]
    pub(super) remove: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    pub(super) response_headers: Vec<HeaderOption>,
    #[prost(message, repeated, tag = "7")]
    pub(super) query_set: Vec<Parameter>,
    #[prost(string, repeated, tag = "8")]
    pub(super) query_remove: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Parameter {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HeaderOption {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<Header>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Header {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
    /// In place of the text, where it is given.
    #[prost(bytes = "vec", tag = "3")]
    pub(super) raw: Vec<u8>,
}

/// A message with gRPC's prefix: not compressed, its length.
pub(super) fn framed(message: &impl Message) -> Bytes {
    let mut frame = vec![0; 5];
    // Requests are bounded far below 4 GiB.
    let length = u32::try_from(message.encoded_len()).unwrap_or(u32::MAX);
    frame[1..5].copy_from_slice(&length.to_be_bytes());
    frame.extend(message.encode_to_vec());
    frame.into()
}

/// The one message of a response's body.
///
/// # Errors
/// Why there is not one.
pub(super) fn unframed<M: Message + Default>(body: &[u8]) -> Result<M, &'static str> {
    let (prefix, message) = body.split_at_checked(5).ok_or("without a message")?;
    if prefix[0] != 0 {
        return Err("with a compressed message, which was not asked for");
    }
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    if usize::try_from(length) != Ok(message.len()) {
        return Err("with a message of another length than it says");
    }
    M::decode(message).map_err(|_| "with a message that cannot be read")
}
