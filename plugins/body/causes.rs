//! Why a body is refused.
//! It must not know how bodies are changed.
//! Part of `body`.

use crate::contract::{Blame, Cause};

/// The body is larger than may be held for this.
pub static TOO_LARGE: Cause = Cause {
    name: "body.too_large",
    blame: Blame::Client,
    status: 413,
    title: "Content too large",
    explanation: "The request's body, or what a `body` plugin made of it, is larger than the plugin's `max`.",
    next_step: "Send less, or raise `max`; the route's `body_limit` and `limits.held_bodies` bound it as well.",
};

/// The body is not JSON.
pub static MALFORMED: Cause = Cause {
    name: "body.malformed",
    blame: Blame::Client,
    status: 400,
    title: "Bad request",
    explanation: "The request says that its body is JSON, a `body` plugin is to change it, and it is not JSON, nested deeper than 127 levels, or not in its content coding.",
    next_step: "Look at what the client sends; `jq . FILE` says where it ends to be JSON.",
};

/// The operations do not fit the body.
pub static UNFIT: Cause = Cause {
    name: "body.unfit",
    blame: Blame::Client,
    status: 422,
    title: "Unprocessable content",
    explanation: "An operation of a `body` plugin's `patch` cannot be carried out on the request's body (a path is not there, or a `test` fails), or its `template` asks for something that the request does not have.",
    next_step: "Compare the request with the plugin's `patch` or `template`; `merge` makes what is missing, where `patch` wants it to be there, and a template can ask with `is defined`.",
};

/// The body is of another kind, and the plugin refuses those.
pub static UNSUPPORTED: Cause = Cause {
    name: "body.unsupported",
    blame: Blame::Client,
    status: 415,
    title: "Unsupported media type",
    explanation: "The request's body is not JSON by its `Content-Type`, or is compressed, and a `body` plugin has `others: refuse`.",
    next_step: "Send `Content-Type: application/json` without `Content-Encoding`, or let other bodies through with `others: pass`.",
};

/// A template that cannot be rendered whatever comes.
pub static TEMPLATE: Cause = Cause {
    name: "body.template",
    blame: Blame::Proxy,
    status: 500,
    title: "Internal error",
    explanation: "The `template` of a `body` plugin could not be rendered: it takes more steps than it may, uses a value for what it is not, or its outcome is not JSON although its media type says so.",
    next_step: "The error log has the reason and the template's line. Values print themselves as JSON, quotes included: write `{\"id\": {{ request.body.id }}}`.",
};

/// The response is larger than may be held for this.
pub static RESPONSE_TOO_LARGE: Cause = Cause {
    name: "body.response_too_large",
    blame: Blame::Upstream,
    status: 502,
    title: "Bad gateway",
    explanation: "The service's response, or what a `body` plugin made of it, is larger than the plugin's `max`, and its `response.larger` is `refuse`. Nothing of it was sent.",
    next_step: "Raise `max`, ask the service for less, or let larger responses through unchanged with `response.larger: pass`.",
};

/// The response is not JSON.
pub static RESPONSE_MALFORMED: Cause = Cause {
    name: "body.response_malformed",
    blame: Blame::Upstream,
    status: 502,
    title: "Bad gateway",
    explanation: "The service says that its response is JSON, a `body` plugin is to change it, and it is not JSON, nested deeper than 127 levels, or not in its content coding. Nothing of it was sent.",
    next_step: "Ask the service directly; `jq . FILE` says where its response ends to be JSON.",
};

/// The operations do not fit the response.
pub static RESPONSE_UNFIT: Cause = Cause {
    name: "body.response_unfit",
    blame: Blame::Upstream,
    status: 502,
    title: "Bad gateway",
    explanation: "An operation of a `body` plugin's `response.patch` cannot be carried out on the service's response, or its `response.template` asks for something that is not there. Nothing of the response was sent.",
    next_step: "Compare the response with the plugin's `response` block; `statuses` keeps it away from responses of another shape, such as errors.",
};

/// The response is of another kind, and the plugin refuses those.
pub static RESPONSE_UNSUPPORTED: Cause = Cause {
    name: "body.response_unsupported",
    blame: Blame::Upstream,
    status: 502,
    title: "Bad gateway",
    explanation: "The service's response is not JSON by its `Content-Type`, is a part (206), marked `no-transform`, or in a content coding that is not known here, and a `body` plugin has `others: refuse`. Nothing of it was sent.",
    next_step: "Let other responses through unchanged with `others: pass`, or name the `statuses` that are changed.",
};
