//! The causes of `llm`.
//! They must not repeat what a client sent.
//! Part of `llm`; named in its table line.

use crate::contract::{Blame, Cause};

/// No tokens are left.
pub static LIMITED: Cause = Cause {
    name: "llm.limited",
    blame: Blame::Policy,
    status: 429,
    title: "Token limit reached",
    explanation: "The caller has used as many tokens in this window as an `llm` plugin's `budget` allows, or fewer are left than the request may take.",
    next_step: "The `Retry-After` field says when the next window begins. Send a smaller `max_tokens`, or raise the budget's `limit` or the consumer's own.",
};

/// The model may not be asked.
pub static MODEL_REFUSED: Cause = Cause {
    name: "llm.model_refused",
    blame: Blame::Policy,
    status: 404,
    title: "Model not found",
    explanation: "The request asks for a model that is none of an `llm` plugin's `models`.",
    next_step: "Ask for one of the models that are listed, or add it to `models`.",
};

/// The path is none of the APIs'.
pub static UNKNOWN_API: Cause = Cause {
    name: "llm.unknown_api",
    blame: Blame::Policy,
    status: 404,
    title: "Not found",
    explanation: "The request is no POST to a path of the APIs whose tokens an `llm` plugin can count, and its `others` is `refuse`.",
    next_step: "Give other paths a route of their own, or set `others: pass`; what passes so is neither counted nor held to `models`.",
};

/// The body cannot be read.
pub static MALFORMED: Cause = Cause {
    name: "llm.malformed",
    blame: Blame::Client,
    status: 400,
    title: "Bad request",
    explanation: "The body is no JSON object with a `model`, has a member twice, is compressed, names a model by more than 256 bytes, or has a limit of tokens that is no number.",
    next_step: "Send plain JSON as the API's reference has it; of a member that is there twice the proxy and the provider could each believe another one.",
};

/// The body is larger than may be held.
pub static TOO_LARGE: Cause = Cause {
    name: "llm.too_large",
    blame: Blame::Client,
    status: 413,
    title: "Content too large",
    explanation: "The request's body is larger than an `llm` plugin's `body_limit`.",
    next_step: "Send less, or raise `body_limit`; the route's `body_limit` and `limits.held_bodies` bound it as well.",
};

/// Nobody's key is for the endpoint.
pub static NO_PROVIDER: Cause = Cause {
    name: "llm.no_provider",
    blame: Blame::Proxy,
    status: 503,
    title: "Service unavailable",
    explanation: "The endpoint that was chosen is none of an `llm` plugin's `providers`, by its pool and labels, so there is no key for it. The client's own was not sent.",
    next_step: "Compare the labels of the pool's endpoints with `endpoints` of the providers; one without `pool` and `endpoints` is for all others.",
};

/// A key of a budget cannot be made.
pub static NO_OUTCOME: Cause = Cause {
    name: "llm.no_outcome",
    blame: Blame::Policy,
    status: 403,
    title: "Forbidden",
    explanation: "An expression under `key` of an `llm` plugin's `budget` has no outcome for the request: it reads a field or claim that is not there, or comes to something that is no key.",
    next_step: "The log has the reason. Ask with `has(request.headers.name)` or `'name' in request.headers` before reading what may be missing. `on_error: open` lets such requests through uncounted.",
};

/// The store cannot count, and the plugin refuses then.
pub static STORE_UNAVAILABLE: Cause = Cause {
    name: "llm.store_unavailable",
    blame: Blame::Dependency,
    status: 503,
    title: "Service unavailable",
    explanation: "An `llm` plugin counts tokens in a store that is not connected, did not answer in time or answered with an error, and its `on_store_failure` is `closed`.",
    next_step: "The log and `windrose status` say what is wrong with the store; the proxy connects again by itself. `on_store_failure: local` counts in each proxy meanwhile.",
};
