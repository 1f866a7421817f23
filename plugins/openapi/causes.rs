//! Why `openapi` answers.
//! It must not know when.
//! Named by the gate and by the table of plugins.

use crate::contract::{Blame, Cause};

/// No path of the document fits.
pub static NO_PATH: Cause = Cause {
    name: "openapi.no_path",
    blame: Blame::Client,
    status: 404,
    title: "Not found",
    explanation: "The request's path fits no path of the `openapi` plugin's document, the base paths of its `servers` included.",
    next_step: "Compare the path with the document; `base_paths` says where its paths begin, `undeclared.paths: pass` lets others through.",
};

/// The path has no such method.
pub static NO_METHOD: Cause = Cause {
    name: "openapi.no_method",
    blame: Blame::Client,
    status: 405,
    title: "Method not allowed",
    explanation: "The document has the request's path, but not with its method. The answer's `Allow` names those there are.",
    next_step: "Use one of them, or let others through with `undeclared.methods: pass`. Preflight requests are answered by `cors`, named before this plugin.",
};

/// A parameter is missing or does not fit.
pub static PARAMETER: Cause = Cause {
    name: "openapi.parameter",
    blame: Blame::Client,
    status: 400,
    title: "Bad request",
    explanation: "A parameter of the request is missing, there more than once, or does not fit its schema in the document; the answer names it.",
    next_step: "Compare the request with the document at the parameters that the answer lists.",
};

/// The body does not fit.
pub static MISMATCH: Cause = Cause {
    name: "openapi.mismatch",
    blame: Blame::Client,
    status: 422,
    title: "Unprocessable content",
    explanation: "The request's body does not fit the schema that the document has for it. The answer lists where, as JSON pointers, unless `errors` is 0.",
    next_step: "Compare what the client sends with the schema at the pointers of the answer.",
};

/// The body is not what it says.
pub static MALFORMED: Cause = Cause {
    name: "openapi.malformed",
    blame: Blame::Client,
    status: 400,
    title: "Bad request",
    explanation: "The request's body is not JSON, or no form in UTF-8, as its `Content-Type` says, or not in its content coding.",
    next_step: "Look at what the client sends; `jq . FILE` says where it ends to be JSON.",
};

/// A member is there twice.
pub static DUPLICATE: Cause = Cause {
    name: "openapi.duplicate",
    blame: Blame::Client,
    status: 400,
    title: "Bad request",
    explanation: "An object in the request's body has a member twice, or a form a field that is no list. Readers differ in which one they take.",
    next_step: "Let the client send each member once (RFC 8259 section 4).",
};

/// The body is nested too deep.
pub static TOO_DEEP: Cause = Cause {
    name: "openapi.too_deep",
    blame: Blame::Client,
    status: 400,
    title: "Bad request",
    explanation: "The request's body is nested deeper than the plugin's `depth`.",
    next_step: "Raise `depth` if such bodies are wanted; deep nesting for its own sake is an attack on readers.",
};

/// To check the body takes too long.
pub static TOO_COSTLY: Cause = Cause {
    name: "openapi.too_costly",
    blame: Blame::Client,
    status: 422,
    title: "Unprocessable content",
    explanation: "To find out whether the request's body fits takes more than a million looks at its values and 128 for each byte.",
    next_step: "Give alternatives of the schema a member that tells them apart (`const`), or bound arrays by `maxItems`.",
};

/// There is no body.
pub static MISSING: Cause = Cause {
    name: "openapi.missing",
    blame: Blame::Client,
    status: 400,
    title: "Bad request",
    explanation: "The request has no body, and the document says that its operation needs one.",
    next_step: "Send a body of one of the media types that the document has for the operation.",
};

/// There is a body where none is declared.
pub static UNDECLARED_BODY: Cause = Cause {
    name: "openapi.undeclared_body",
    blame: Blame::Client,
    status: 400,
    title: "Bad request",
    explanation: "The request has a body, the document declares none for its operation, and `undeclared.bodies` is `reject`.",
    next_step: "Leave the body out, declare it in the document, or set `undeclared.bodies: pass`.",
};

/// The body is of a type that is not declared.
pub static UNSUPPORTED: Cause = Cause {
    name: "openapi.unsupported",
    blame: Blame::Client,
    status: 415,
    title: "Unsupported media type",
    explanation: "The `Content-Type` of the request's body is none that the document has for the operation, there several times, says a `charset` in which signs are other bytes than in UTF-8, or the body is in a content coding that is not known here.",
    next_step: "Send one of the media types in the document.",
};

/// The body is larger than may be held for this.
pub static TOO_LARGE: Cause = Cause {
    name: "openapi.too_large",
    blame: Blame::Client,
    status: 413,
    title: "Content too large",
    explanation: "The request's body is to be looked into and is larger than the plugin's `max`, as it came or once its coding is taken off.",
    next_step: "Send less, or raise `max`; the route's `body_limit` and `limits.held_bodies` bound it as well.",
};

/// A response is not what the document says.
pub static RESPONSE: Cause = Cause {
    name: "openapi.response",
    blame: Blame::Upstream,
    status: 502,
    title: "Bad gateway",
    explanation: "The service's response has a status or media type that the document does not declare, or a body that does not fit, and `responses` is `refuse`; nothing of it was sent.",
    next_step: "Compare what the service answers with the document; `responses: report` counts such responses and lets them through.",
};

/// An answer made of the document's examples.
pub static MOCK: Cause = Cause {
    name: "openapi.mock",
    blame: Blame::Policy,
    status: 200,
    title: "Answered by the document",
    explanation: "An `openapi` plugin with `mock: true` answered with an example of its document.",
    next_step: "Nothing is wrong. Leave `mock` out once the service is there.",
};

/// There is no example.
pub static NO_EXAMPLE: Cause = Cause {
    name: "openapi.no_example",
    blame: Blame::Policy,
    status: 501,
    title: "Not implemented",
    explanation: "An `openapi` plugin with `mock: true` has nothing to answer with: the operation declares no response of the status, or no example of the name, that the request prefers, or no schema to make one of.",
    next_step: "Look at `Prefer: code=…, example=…` of the request, and give the response an example in the document.",
};

/// The client takes none of the media types.
pub static NOT_ACCEPTABLE: Cause = Cause {
    name: "openapi.not_acceptable",
    blame: Blame::Client,
    status: 406,
    title: "Not acceptable",
    explanation: "An `openapi` plugin with `mock: true` has an answer, in none of the media types that the request's `Accept` takes.",
    next_step: "Send another `Accept`, or leave it out.",
};
