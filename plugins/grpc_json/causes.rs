//! Why a call is refused, or its response.
//! It must not know how messages are made.
//! Part of `grpc_json`.

use crate::contract::{Blame, Cause};

/// No method is bound to the path.
pub static NO_BINDING: Cause = Cause {
    name: "grpc_json.no_binding",
    blame: Blame::Client,
    status: 404,
    title: "Not found",
    explanation: "No method of the descriptor set that a `grpc_json` plugin reads is bound to the request's method and path, and its `unmatched` is `refuse`.",
    next_step: "Compare method and path with the `google.api.http` options of the service's proto; `windrose explain` runs the same plugin.",
};

/// The body is larger than may be held.
pub static TOO_LARGE: Cause = Cause {
    name: "grpc_json.too_large",
    blame: Blame::Client,
    status: 413,
    title: "Content too large",
    explanation: "The body of a request that a `grpc_json` plugin makes a gRPC call of is larger than its `max_request`.",
    next_step: "Send less, or raise `max_request`.",
};

/// The body is not JSON by its fields.
pub static UNSUPPORTED: Cause = Cause {
    name: "grpc_json.unsupported",
    blame: Blame::Client,
    status: 415,
    title: "Unsupported media type",
    explanation: "The body of a request that a `grpc_json` plugin makes a gRPC call of is of another type than JSON by its `Content-Type`, or is compressed.",
    next_step: "Send `Content-Type: application/json` without `Content-Encoding`.",
};

/// The body is no JSON, or no message.
pub static MALFORMED: Cause = Cause {
    name: "grpc_json.malformed",
    blame: Blame::Client,
    status: 400,
    title: "Bad request",
    explanation: "The body of the request is not JSON, or does not fit the message of the gRPC method: a field that it does not have, a value of another type, a number out of range. The answer says which.",
    next_step: "Compare the body with the message in the service's proto; `unknown_fields: ignore` lets fields through that it does not have.",
};

/// A parameter does not fit the message.
pub static PARAMETER: Cause = Cause {
    name: "grpc_json.parameter",
    blame: Blame::Client,
    status: 400,
    title: "Bad request",
    explanation: "A parameter of the query, or a part of the path, does not fit the message of the gRPC method: no field is named so, the field is set by path or body already, it cannot be written as text, or it is there twice and not repeated. The answer says which.",
    next_step: "Compare the parameters with the message in the service's proto; `unknown_parameters: ignore` lets those through that it does not have.",
};

/// The response is larger than may be held.
pub static RESPONSE_TOO_LARGE: Cause = Cause {
    name: "grpc_json.response_too_large",
    blame: Blame::Upstream,
    status: 502,
    title: "Bad gateway",
    explanation: "A message of the gRPC service's response, or the JSON that it becomes, is larger than `max_response` of `grpc_json`.",
    next_step: "Ask the service for less, or raise `max_response`.",
};

/// The response is no gRPC, or not of this method.
pub static RESPONSE_MALFORMED: Cause = Cause {
    name: "grpc_json.response_malformed",
    blame: Blame::Upstream,
    status: 502,
    title: "Bad gateway",
    explanation: "The gRPC service's response cannot be read: its frames are broken, in a coding that is not known here, not one where the method has one, not the message of the descriptor set, or without a status.",
    next_step: "Compare the descriptor set with the service's version: make it anew of the protos that the service is built of.",
};
