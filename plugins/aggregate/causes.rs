//! Why there is no merged answer, and what the merged one is called.
//! It must not know calls.
//! Part of `aggregate`.

use crate::contract::{Blame, Cause};

/// The merged answer.
pub static AGGREGATE: Cause = Cause {
    name: "aggregate",
    blame: Blame::Policy,
    status: 200,
    title: "Answered by several services",
    explanation: "An `aggregate` plugin asked several services and answered with what they said, merged into one document. The field `X-Windrose-Complete` says whether all of them answered.",
    next_step: "Nothing is wrong. Where it says `false`, the plugin's counters `call_…` and `partial` and the debug log tell which call failed.",
};

/// A service did not answer, or said no.
pub static FAILED: Cause = Cause {
    name: "aggregate.failed",
    blame: Blame::Dependency,
    status: 502,
    title: "Bad gateway",
    explanation: "A service that an `aggregate` plugin asks could not be reached, did not answer in time, or answered with another status than 2xx, and the call is required, `on_failure` is `fail`, or no call at all succeeded.",
    next_step: "The error log names the call and what came of it; look at that service, and at its pool in /pools on the admin address.",
};

/// A service answered with something that cannot be merged.
pub static MALFORMED: Cause = Cause {
    name: "aggregate.malformed",
    blame: Blame::Dependency,
    status: 502,
    title: "Bad gateway",
    explanation: "A service that an `aggregate` plugin asks answered with a body that is not JSON, is nested deeper than 127 levels, does not have the call's `target`, or is no object where it is merged without a `group` or `wrap`.",
    next_step: "The error log names the call; ask the service directly and compare its answer with the call's `target`, `group` and `wrap`.",
};

/// A service answered with too much, or all together did.
pub static TOO_LARGE: Cause = Cause {
    name: "aggregate.too_large",
    blame: Blame::Dependency,
    status: 502,
    title: "Bad gateway",
    explanation: "A service that an `aggregate` plugin asks answered with a body that is larger than the call's `max`, or the merged document is larger than the plugin's `max`.",
    next_step: "Ask the service for less, keep less of it with `allow`, or raise the bound that the error log names.",
};

/// The request does not have what a call is made of.
pub static INCOMPLETE: Cause = Cause {
    name: "aggregate.incomplete_request",
    blame: Blame::Client,
    status: 400,
    title: "Bad request",
    explanation: "The path or query of a call that an `aggregate` plugin makes asks for a value that the request does not have, or for one that would change which path is asked, such as `..`.",
    next_step: "Compare the request with the placeholders in the `path` of the plugin's calls.",
};
