//! Why `graphql_limits` refuses a request.
//! It must not know when.
//! Named by the gate and by the table of plugins.

use crate::contract::{Blame, Cause};

macro_rules! causes {
    ($($(#[$doc:meta])* $id:ident = $name:literal, $status:literal, $title:literal, $explanation:literal, $next:literal;)*) => {
        $($(#[$doc])* pub static $id: Cause = Cause {
            name: $name, blame: Blame::Client, status: $status, title: $title, explanation: $explanation, next_step: $next,
        };)*
    };
}

causes! {
    /// It cannot be read, or not in one way.
    MALFORMED = "graphql.malformed", 400, "The request cannot be read",
        "The request is no GraphQL request that means one thing only: its JSON or its document cannot be parsed, a member or parameter is there twice, the document defines types, a POST has a `query` in its URL as well, or another method a body.",
        "Look at what the client sends; the document has to be of operations and fragments.";
    /// It is too deep.
    DEPTH = "graphql.depth", 400, "The query is too deep",
        "Fields of the query, fragments expanded, or values in its arguments, are nested deeper than `depth` allows (values: 200).",
        "Ask for less at once, or raise `depth`.";
    /// It costs too much.
    COST = "graphql.cost", 400, "The query is too costly",
        "The query, or the batch that it is part of, costs more than `cost`: each field 1 or what `costs` says, and what is in a list as often as the list's arguments say it is long.",
        "Ask for shorter lists (`first`, `last`), or raise `cost`.";
    /// It names too much anew.
    ALIASES = "graphql.aliases", 400, "The query has too many aliases",
        "The document has more aliases than `aliases`. Many aliases of one field are a way to try many passwords in one request.",
        "Send several requests, or raise `aliases`.";
    /// It asks for too much at its top.
    ROOT_FIELDS = "graphql.root_fields", 400, "The query has too many fields at its top",
        "An operation has more fields at its top, fragments expanded, than `root_fields`.",
        "Send several requests, or raise `root_fields`.";
    /// It has too many directives.
    DIRECTIVES = "graphql.directives", 400, "The query has too many directives",
        "The document has more directives than `directives`; readers spend time on each.",
        "Leave directives out, or raise `directives`.";
    /// It is too long.
    TOKENS = "graphql.tokens", 400, "The query is too long",
        "The document has more tokens than `tokens`, without commas and remarks.",
        "Send a shorter document, or raise `tokens`.";
    /// The batch is too large.
    BATCH = "graphql.batch", 400, "The batch is too large",
        "The request has more operations in one JSON array than `batch` allows.",
        "Send them in several requests, or raise `batch`.";
    /// A fragment cannot be expanded.
    FRAGMENT = "graphql.fragment", 400, "A fragment cannot be expanded",
        "A fragment that the query spreads is not in the document, is there twice, or holds itself, which would never end.",
        "Correct the document's fragments.";
    /// It asks for the schema.
    INTROSPECTION = "graphql.introspection", 400, "The schema cannot be asked for",
        "The query asks for the schema (`__schema`, `__type`), and `introspection` is not allowed.",
        "Give clients the schema another way, or set `introspection: true`.";
    /// It has no query.
    PERSISTED = "graphql.persisted", 400, "The query is not there",
        "The request has no text of a query, as where it names one by its hash, so that nothing can be judged.",
        "Send the query, or set `persisted: pass` where the service takes queries only that it knows from its own build.";
    /// It wants a WebSocket.
    WEBSOCKET = "graphql.websocket", 403, "WebSockets are not allowed",
        "The request asks for a WebSocket, whose messages are not looked at.",
        "Set `websockets: pass` where the service bounds what comes in them itself, or give subscriptions a route of their own.";
    /// It changes something in a GET.
    GET_MUTATION = "graphql.get_mutation", 405, "Mutations are sent by POST",
        "A GET holds a mutation, which other sites can make a browser send (GraphQL over HTTP, section 6.2.1).",
        "Send it by POST.";
    /// The body is of another kind.
    UNSUPPORTED = "graphql.unsupported", 415, "Unsupported media type",
        "The request's body is neither `application/json` nor `application/graphql`, has several `Content-Type` fields or a `charset` in which signs are other bytes than in UTF-8, or is in a content coding that is not known here.",
        "Send JSON, or let other bodies through unjudged with `others: pass`.";
    /// The body is larger than may be held for this.
    TOO_LARGE = "graphql.too_large", 413, "Content too large",
        "The request's body is larger than the plugin's `max`, as it came or once its coding is taken off.",
        "Send less, or raise `max`.";
}
