//! Why `json_schema` refuses a message.
//! It must not know when.
//! Named by the gate and by the table of plugins.

use crate::contract::{Blame, Cause};

/// The body does not fit.
pub static MISMATCH: Cause = Cause {
    name: "json_schema.mismatch",
    blame: Blame::Client,
    status: 422,
    title: "Unprocessable content",
    explanation: "The request's body is JSON, and does not fit the schema of a `json_schema` plugin. The answer lists where, as JSON pointers, unless its `errors` is 0.",
    next_step: "Compare what the client sends with the schema at the pointers of the answer.",
};

/// The body is not JSON.
pub static MALFORMED: Cause = Cause {
    name: "json_schema.malformed",
    blame: Blame::Client,
    status: 400,
    title: "Bad request",
    explanation: "The request says that its body is JSON, and it is not: its syntax is wrong, it is not UTF-8, goes on behind its end, holds a number that no 64-bit number holds, or is not in its content coding.",
    next_step: "Look at what the client sends; `jq . FILE` says where it ends to be JSON.",
};

/// A member is there twice.
pub static DUPLICATE: Cause = Cause {
    name: "json_schema.duplicate",
    blame: Blame::Client,
    status: 400,
    title: "Bad request",
    explanation: "An object in the request's body has a member twice. Readers differ in which one they take, so that what was checked here need not be what the service reads.",
    next_step: "Let the client send each member once (RFC 8259 section 4).",
};

/// The body is nested too deep.
pub static TOO_DEEP: Cause = Cause {
    name: "json_schema.too_deep",
    blame: Blame::Client,
    status: 400,
    title: "Bad request",
    explanation: "The request's body is nested deeper than the plugin's `depth`.",
    next_step: "Raise `depth` if such bodies are wanted; deep nesting for its own sake is an attack on readers.",
};

/// To check the body takes too long.
pub static TOO_COSTLY: Cause = Cause {
    name: "json_schema.too_costly",
    blame: Blame::Client,
    status: 422,
    title: "Unprocessable content",
    explanation: "To find out whether the request's body fits takes more than a million looks at its values and 128 for each byte. Schemas with many alternatives at each level, and bodies made for them, do that.",
    next_step: "Give alternatives of the schema a member that tells them apart (`const`), or bound arrays by `maxItems`.",
};

/// There is no body.
pub static MISSING: Cause = Cause {
    name: "json_schema.missing",
    blame: Blame::Client,
    status: 400,
    title: "Bad request",
    explanation:
        "The request has no body, and a `json_schema` plugin with `required: true` checks it.",
    next_step: "Send a body, or leave `required` out where requests without one are meant to pass.",
};

/// The body is of another kind.
pub static UNSUPPORTED: Cause = Cause {
    name: "json_schema.unsupported",
    blame: Blame::Client,
    status: 415,
    title: "Unsupported media type",
    explanation: "The request's body is of none of the plugin's `types` by its `Content-Type`, has several of these fields or a `charset` in which signs are other bytes than in UTF-8, or is in a content coding that is not known here.",
    next_step: "Send `Content-Type: application/json`, or let bodies of other types through with `others: pass`.",
};

/// The body is larger than may be held for this.
pub static TOO_LARGE: Cause = Cause {
    name: "json_schema.too_large",
    blame: Blame::Client,
    status: 413,
    title: "Content too large",
    explanation: "The request's body is larger than the plugin's `max`, as it came or once its coding is taken off.",
    next_step: "Send less, or raise `max`; the route's `body_limit` and `limits.held_bodies` bound it as well.",
};

/// A response does not fit.
pub static RESPONSE: Cause = Cause {
    name: "json_schema.response",
    blame: Blame::Upstream,
    status: 502,
    title: "Bad gateway",
    explanation: "The service's response does not fit the schema of a `json_schema` plugin whose `response.on_mismatch` is `refuse`; nothing of it was sent.",
    next_step: "Compare what the service answers with the schema; `on_mismatch: report` counts such responses and lets them through.",
};
