//! One cause for each check of `waf_lite`, in the order of the checks.
//! It must not know how a check looks.
//! Named by the checks; the table is the plugin's.

use crate::contract::{Blame, Cause};

macro_rules! checks {
    ($($id:ident = $name:literal, $event:literal, $status:literal, $title:literal, $explanation:literal, $next:literal;)*) => {
        $(#[doc = $explanation] pub(super) static $id: Cause = Cause {
            name: $name, blame: Blame::Client, status: $status, title: $title, explanation: $explanation, next_step: $next,
        };)*
        /// Every one.
        pub(super) const ALL: &[&Cause] = &[$(&$id),*];
        /// What is counted for each.
        pub(super) const COUNTED: &[&str] = &[$($event),*];
    };
}

checks! {
    METHOD = "waf.method", "found_method", 405, "Method not allowed",
        "The request's method is not among `methods` of `waf_lite`.",
        "Add the method if the service uses it.";
    TARGET = "waf.target", "found_target", 400, "Bad request",
        "The request target holds characters that have to be encoded there, and `waf_lite` blocks that.",
        "Percent-encode path and query in the client, or set `target: detect`.";
    TRAVERSAL = "waf.traversal", "found_traversal", 400, "Bad request",
        "The path climbs to a folder above once its encoded separators are read as separators, or its dots lose their parameters.",
        "Honest clients do not send this; look at who does. Set `traversal: off` for a service that has such names.";
    DOUBLE_ENCODING = "waf.double_encoding", "found_double_encoding", 400, "Bad request",
        "The path is encoded twice, and what comes out of the second decoding has a meaning in paths or markup.",
        "A client or proxy that encodes what is encoded already; look at which. Otherwise it is an attempt to hide something.";
    CONTROLS = "waf.controls", "found_controls", 400, "Bad request",
        "Path or query hold control characters.",
        "Look at what the client puts into the parameter; binary data belongs into a body or into base64.";
    OVERLONG_UTF8 = "waf.overlong_utf8", "found_overlong_utf8", 400, "Bad request",
        "Path or query spell a character in more bytes than it needs, which strict decoders refuse and lenient ones read.",
        "Honest clients do not send this. For a site in another charset than UTF-8 set `overlong_utf8: off`.";
    INVALID_UTF8 = "waf.invalid_utf8", "found_invalid_utf8", 400, "Bad request",
        "Path or query are not UTF-8 once decoded.",
        "Encode them as UTF-8 in the client, or set `invalid_utf8: detect` for a site in another charset.";
    QUERY_TRAVERSAL = "waf.query_traversal", "found_query_traversal", 400, "Bad request",
        "A parameter's value climbs two folders or more.",
        "Set `query_traversal: detect` where such values are wanted.";
    PARAMETER_COUNT = "waf.parameter_count", "found_parameter_count", 400, "Bad request",
        "The query has more parameters than `max_parameters`.",
        "Send lists in a body, or raise the bound.";
    PARAMETER_SIZE = "waf.parameter_size", "found_parameter_size", 400, "Bad request",
        "A parameter's name is longer than 256 bytes, or its value longer than `max_parameter_size`.",
        "Send long values in a body, or raise the bound.";
    DUPLICATE_PARAMETERS = "waf.duplicate_parameters", "found_duplicate_parameters", 400, "Bad request",
        "A parameter is in the query more than once; readers differ in which of its values counts.",
        "Send it once, or set `duplicate_parameters: off` for a service that takes lists this way.";
    FIELD_COUNT = "waf.field_count", "found_field_count", 431, "Request header fields too large",
        "The request has more header fields than `max_fields`.",
        "Look at what the client sends, or raise the bound.";
    FIELD_SIZE = "waf.field_size", "found_field_size", 431, "Request header fields too large",
        "A header field's value is longer than `max_field_size`.",
        "Look for cookies and tokens that grew, or raise the bound.";
    FIELD_WHITESPACE = "waf.field_whitespace", "found_field_whitespace", 400, "Bad request",
        "A header field's value holds tabs or white space beyond ASCII.",
        "Look at how the client makes its fields; readers differ in where such values end.";
    HOST_ADDRESS = "waf.host_address", "found_host_address", 400, "Bad request",
        "The request names an address as its host, and `waf_lite` blocks that.",
        "Use the service's name; set `host_address: off` where clients know addresses only.";
    CONTENT_TYPE = "waf.content_type", "found_content_type", 400, "Bad request",
        "Content-Type is there more than once, is no media type, or repeats a parameter; readers differ in which counts.",
        "Send one media type, with each parameter once.";
    BODY_START = "waf.body_start", "found_body_start", 400, "Bad request",
        "The body does not begin as its Content-Type says it should.",
        "Declare the media type that is sent; set `body_start: detect` to see how often it happens.";
}
