//! Causes: the one word that says why the proxy answered by itself.
//! It must not know who answers; it is a vocabulary with explanations.
//! Response bodies, the access log, metrics, traces and `windrose why` all read it.

use std::fmt;

/// Who has to act for the request to succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The client sent something it must change.
    Client,
    /// The service behind the proxy failed.
    Upstream,
    /// A policy written by the operator said no.
    Policy,
    /// Something a policy depends on could not be asked.
    Dependency,
    /// The proxy or its configuration.
    Proxy,
}

impl Blame {
    /// The word used in logs and problem bodies.
    pub fn as_str(self) -> &'static str {
        match self {
            Blame::Client => "client",
            Blame::Upstream => "upstream",
            Blame::Policy => "policy",
            Blame::Dependency => "dependency",
            Blame::Proxy => "proxy",
        }
    }
}

/// One named reason for an answer made by the proxy. Always used as `&'static Cause`, compared by name.
#[derive(Debug)]
pub struct Cause {
    /// The word: lower case, dots between levels, unique in the process.
    pub name: &'static str,
    /// Who has to act.
    pub blame: Blame,
    /// The status sent to HTTP clients; 0 where no answer can be sent any more (the connection is gone).
    pub status: u16,
    /// Short phrase a client may see. Says nothing about the inside.
    pub title: &'static str,
    /// What happened, for the operator.
    pub explanation: &'static str,
    /// What to look at or do next.
    pub next_step: &'static str,
}

impl PartialEq for Cause {
    fn eq(&self, other: &Cause) -> bool {
        self.name == other.name
    }
}

impl Eq for Cause {}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

macro_rules! causes {
    ($($(#[$doc:meta])* $id:ident = $name:literal, $blame:ident, $status:literal, $title:literal, $explanation:literal, $next:literal;)*) => {
        /// The causes the proxy itself can give. Plugins declare their own next to their code.
        pub mod causes {
            use super::{Blame, Cause};
            $($(#[$doc])* #[doc = $explanation] pub static $id: Cause = Cause {
                name: $name, blame: Blame::$blame, status: $status, title: $title,
                explanation: $explanation, next_step: $next,
            };)*
        }

        /// Every cause of the proxy itself, in the order declared.
        pub fn builtin_causes() -> &'static [&'static Cause] {
            static ALL: &[&Cause] = &[$(&causes::$id),*];
            ALL
        }
    };
}

causes! {
    BAD_REQUEST = "bad_request.malformed", Client, 400, "Bad request",
        "The request could not be parsed as HTTP: its request line, a header line or its framing breaks RFC 9112 or RFC 9113.",
        "Capture the bytes the client sends; a proxy or library in front of it may be rewriting them.";
    BAD_HOST = "bad_request.host", Client, 400, "Bad request",
        "The Host field is missing, repeated or holds characters that no host can have (RFC 9112 section 3.2).",
        "Send exactly one Host field with a host and an optional port.";
    BAD_TARGET = "bad_request.target", Client, 400, "Bad request",
        "The request target holds control bytes, spaces, a broken percent escape or climbs above the root.",
        "Percent-encode the path and query before sending them.";
    BAD_FRAMING = "bad_request.framing", Client, 400, "Bad request",
        "The body's length is stated ambiguously: Content-Length with Transfer-Encoding, differing lengths, bare line feeds or a broken chunk.",
        "State the length once. Ambiguity of this kind is how requests are smuggled, so it is refused.";
    HEADER_TOO_LARGE = "header_too_large", Client, 431, "Request header fields too large",
        "The request header is larger, or has more fields, than the listener's `limits.header_bytes` and `limits.header_fields` allow.",
        "Look for cookies that grew; raise the listener's limits if the size is legitimate.";
    URI_TOO_LONG = "uri_too_long", Client, 414, "URI too long",
        "The request target is longer than the listener's `limits.target_bytes`.",
        "Move data from the query into the body, or raise the limit.";
    BODY_TOO_LARGE = "body_too_large", Client, 413, "Content too large",
        "The request body is larger than the route's `body_limit`.",
        "Raise `body_limit` on the route if uploads of this size are wanted.";
    HEADER_TIMEOUT = "header_timeout", Client, 408, "Request timeout",
        "The client did not finish sending its request header within the listener's `limits.header_timeout`.",
        "A slow network, or a client that opens connections to hold them (slowloris).";
    BODY_TIMEOUT = "body_timeout", Client, 408, "Request timeout",
        "The client stopped sending its request body for longer than the route's `timeouts.idle`, or did not send all of it within `limits.held_body_time` where a plugin waits for the whole.",
        "Look at the client's upload; raise `timeouts.idle`, or `limits.held_body_time`, for slow producers.";
    METHOD_NOT_ALLOWED = "bad_request.method", Client, 405, "Method not allowed",
        "CONNECT and TRACE are not forwarded.",
        "Use another method; tunnels are made with a `tcp` route.";
    CLIENT_CLOSED = "client_closed", Client, 499, "Client closed request",
        "The client went away before the response was complete; the work upstream was cancelled.",
        "Compare the client's own timeout with the latency of the route.";
    DRAINED = "drained", Proxy, 0, "Stream ended",
        "The stream's listener, route or pool was taken away by a reload, or the process drained longer than `server.stream_drain_timeout`.",
        "Nothing is wrong if the change was meant; clients reconnect and meet the new configuration.";
    NO_ROUTE = "no_route", Client, 404, "Not found",
        "No route of the listener matches the request's host, path, method, headers and query.",
        "Open /routes on the admin address to see what is there.";
    MISDIRECTED = "misdirected", Client, 421, "Misdirected request",
        "The TLS connection was made for another host name, whose certificate does not cover the host of this request (RFC 9110 section 15.5.20).",
        "The client should open a new connection for this host; check the names in `tls.certificates`.";
    ROUTE_RESPOND = "route.respond", Policy, 200, "Answered by the route",
        "The route's action is `respond`: the answer is written in the configuration.",
        "Nothing is wrong. Look at the route's `respond` block.";
    FAULT_INJECTED = "fault_injected", Policy, 503, "Injected fault",
        "The route's `fault` aborted the request on purpose, before an endpoint was chosen; no endpoint or pool has failed.",
        "Look at the route's `fault`: its `percent` and whom it is for; `windrose explain` tells what it does to a request.";
    ROUTE_REDIRECT = "route.redirect", Policy, 302, "Redirected by the route",
        "The route's action is `redirect`.",
        "Nothing is wrong. Look at the route's `redirect` block.";
    POLICY_DENIED = "policy_denied", Policy, 403, "Forbidden",
        "A policy refuses the caller: a rule that denies matched, or there are policies that allow and none of their rules matched, or `authorization.default` is `deny` and no policy allows. Connections passed through as bytes are closed.",
        "The access log's `policy` names policy and rule, and `windrose explain --as PRINCIPAL` shows every policy that was looked at. Add the caller to a rule that allows, if it is meant to call.";
    IDENTITY_MISSING = "identity_missing", Policy, 401, "Authentication required",
        "A policy asks who calls, and nothing is proven of the caller: no client certificate, and no plugin that proved a consumer. With an identity the answer may be another.",
        "Let the caller come through its mesh proxy or with a certificate, or put a plugin such as `basic_auth` before the policy; the access log's `policy` names policy and rule.";
    POLICY_UNEVALUABLE = "policy_unevaluable", Policy, 403, "Forbidden",
        "The expression (`cel`) of a policy's rule has no outcome for this request, such as by reading a field that the request does not have. What cannot be judged is refused.",
        "The access log's `policy` names policy and rule; ask for a field with `has(...)` before reading it. `windrose explain` tells what is missing.";
    QUARANTINED = "quarantined", Proxy, 503, "Service unavailable",
        "The route that takes the request, the pool it would go to, or a plugin of the listener is broken in the configuration in force. With `on_invalid: quarantine` only that part is refused, and the rest goes on.",
        "Open /config?format=json on the admin address, or look for `quarantined` in the error log: both say what is wrong, with file, line and remedy. Repair it and reload.";
    NO_ENDPOINT = "no_endpoint", Upstream, 503, "Service unavailable",
        "The pool has no endpoints: its discovery has not found any yet, or found none.",
        "Open /pools; check the DNS name or file that the pool's `discovery` reads.";
    ADDRESS_FORBIDDEN = "address_forbidden", Policy, 502, "Destination not allowed",
        "Every address of the pool, or the one that a captured connection was going to, is one that `ssrf_guard` forbids: it is not public, or it is denied.",
        "Open /pools, or `windrose explain` with the request: both name the addresses and why. If they are meant, put their network into `ssrf_guard.allow`; if not, look who decides what the name means in DNS.";
    NO_HEALTHY_ENDPOINT = "no_healthy_endpoint", Upstream, 503, "Service unavailable",
        "Every endpoint of the pool is out: failing its health check, ejected, or already tried for this request.",
        "Open /pools to see why each endpoint is out.";
    OVERLOADED = "overloaded", Proxy, 503, "Service unavailable",
        "The process is overloaded by the bounds of `overload`, and the request's class (`priority`) is among those that are refused first.",
        "Open /pools on the admin address: it shows how much of each bound is used. Add instances or memory, or give what matters a higher `priority`.";
    BODIES_HELD = "overloaded.bodies", Proxy, 503, "Service unavailable",
        "A plugin waits for the whole body of the request or of its response, and as many bytes of bodies are held for that already as `limits.held_bodies` allows in the whole process.",
        "`windrose_held_body_bytes` shows how much is held. Raise `limits.held_bodies` if the memory is there, lower `limits.held_body_time` against slow clients, or the bound of the plugin.";
    POOL_OVERLOADED = "pool_overloaded", Upstream, 503, "Service unavailable",
        "The pool, or every endpoint of it that may be chosen, has as many requests under way as its `limits` allow, and its queue is full or it has none.",
        "Open /pools: it shows the limits and what is under way. Look for endpoints that became slow; raise `limits`, add endpoints, or let requests wait with `limits.pending`.";
    QUEUE_TIMEOUT = "queue_timeout", Upstream, 503, "Service unavailable",
        "The request waited for a place in the pool as long as `limits.queue_timeout` allows, and none became free.",
        "Open /pools: it shows what is under way and who waits. More places, or faster endpoints, help; a longer wait rarely does.";
    NO_SUBSET_ENDPOINT = "no_subset_endpoint", Upstream, 503, "Service unavailable",
        "No endpoint of the pool has all the labels that the rule's `subset` names, and the pool's `subset_fallback` is `none`.",
        "Open /pools to see the endpoints' labels; `explain` tells which subset the rule asks for.";
    CONNECT_REFUSED = "connect_refused", Upstream, 502, "Bad gateway",
        "The endpoint refused the connection: nothing listens on its port.",
        "Check that the service runs and that the endpoint's port is right.";
    CONNECT_TIMEOUT = "connect_timeout", Upstream, 504, "Gateway timeout",
        "The endpoint did not accept a connection within the pool's `connect_timeout`.",
        "A firewall that drops, or a host that is down or overloaded.";
    CONNECT_FAILED = "connect_failed", Upstream, 502, "Bad gateway",
        "A connection to the endpoint could not be made for a reason other than refusal or time.",
        "The error log names the system's reason (no route, address in use, no such socket).";
    UPSTREAM_TLS = "upstream_tls", Upstream, 502, "Bad gateway",
        "The TLS handshake with the endpoint failed: wrong name, unknown issuer, expired certificate or no common version.",
        "Compare the pool's `tls.sni` and `tls.ca` with what the endpoint presents.";
    UPSTREAM_RESET = "upstream_reset", Upstream, 502, "Bad gateway",
        "The endpoint closed or reset the connection before the response was complete.",
        "Look for a crash, or for an idle timeout of the service that is shorter than the pool's.";
    UPSTREAM_PROTOCOL = "upstream_protocol", Upstream, 502, "Bad gateway",
        "The endpoint answered with something that is not valid HTTP for the pool's `protocol`.",
        "Check that the pool's `protocol` (http1, http2) is what the service speaks.";
    RESPONSE_TIMEOUT = "response_timeout", Upstream, 504, "Gateway timeout",
        "The endpoint accepted the request but sent no response header within `timeouts.response_header` or `timeouts.per_try`, or went silent longer than `timeouts.idle`.",
        "Look at the service's latency; raise the timeout on the route if the time is legitimate.";
    DEADLINE_EXCEEDED = "deadline_exceeded", Upstream, 504, "Gateway timeout",
        "The request took longer in total than the route's `timeouts.request`, or than the client gave it in `grpc-timeout` or `x-request-timeout`.",
        "Look at which attempt took the time with `windrose why REQUEST_ID`; compare the client's deadline with the latency of the route.";
    RETRY_BUDGET_SPENT = "retry_budget_spent", Upstream, 503, "Service unavailable",
        "The attempt failed and would have been made again, but the pool's `retry_budget`, or the rule's `retry.budget`, is spent: so many requests fail that retries would only add load.",
        "Look at /pools for the endpoints that fail; the causes of failed attempts are in windrose_request_retries_total. Raising the budget helps only if the failures are few.";
    PLUGIN_FAILED = "plugin_failed", Proxy, 500, "Internal error",
        "A plugin could not do its work, or panicked, and its `on_error` is `closed`.",
        "The error log names the plugin and its reason.";
    INTERNAL = "internal", Proxy, 500, "Internal error",
        "The proxy reached a state it should not reach. This is a bug.",
        "Please report it with the error log around the request id.";
    CONNECTION_LIMIT = "connection.limit", Policy, 0, "Connection refused",
        "The listener already has `limits.connections` connections.",
        "Raise the limit or look for clients that leak connections.";
    CLIENT_CONNECTION_LIMIT = "connection.client_limit", Policy, 0, "Connection refused",
        "The client's address already has `limits.connections_per_client` connections.",
        "Raise the limit if many clients share the address (NAT).";
    PROXY_PROTOCOL = "connection.proxy_protocol", Client, 0, "Connection refused",
        "The connection did not begin with the PROXY protocol header the listener requires, or the header was malformed.",
        "Check that the load balancer in front sends PROXY protocol, and that its address is in `proxy_protocol.trusted`.";
    TLS_HANDSHAKE = "connection.tls_handshake", Client, 0, "TLS handshake failed",
        "The TLS handshake failed: no common version or cipher, a certificate the client refused, or a client that is not speaking TLS.",
        "The log line has OpenSSL's reason.";
    TLS_CLIENT_CERTIFICATE = "connection.client_certificate", Client, 0, "TLS handshake failed",
        "The client sent no certificate, or one that the listener's `client_certificates.ca` does not vouch for.",
        "Issue a certificate from that CA to the client.";
    NO_CERTIFICATE = "connection.no_certificate", Client, 0, "TLS handshake failed",
        "No certificate of the listener covers the name the client asked for, and there is no default certificate.",
        "Add a certificate for the name or mark one as default.";
    CONNECTION_TIMEOUT = "connection.timeout", Client, 0, "Connection closed",
        "The client did not finish the PROXY header, the TLS handshake or its first bytes in time.",
        "Port scanners and health checks that only connect look like this.";
    CAPTURE_LOOP = "capture_loop", Proxy, 508, "Loop detected",
        "A captured connection was on its way to the proxy itself, or was made by it: carried on, it would come in again without end.",
        "Exclude the proxy's user or mark from the rules that capture (`windrose capture plan` shows them); applications must not dial a capturing port themselves.";
    DESTINATION_UNKNOWN = "destination_unknown", Policy, 502, "Destination not allowed",
        "A captured connection or request was going somewhere that no route and no service is for, and the listener blocks what is unknown (`unknown: block`), or it was going to this machine's own loopback. Or a tunnel (HBONE) was asked for to an address that is none of this machine's and in no rule's `destinations`.",
        "Add a service or a route for the destination (with `destinations`, for tunnels), or set `unknown: passthrough` on the listener.";
    NO_TCP_ROUTE = "connection.no_route", Client, 0, "Connection closed",
        "No `tcp` route of the listener matches the connection's SNI and client address.",
        "Add a route, or one without `hosts` as default.";
    PROTOCOL_MISMATCH = "connection.protocol", Client, 0, "Connection closed",
        "The first bytes are of a protocol the listener does not serve.",
        "Check the listener's `protocol` and which port the client dials.";
    MTLS_NO_CERTIFICATE = "mtls.no_certificate", Client, 0, "TLS handshake failed",
        "The caller showed no certificate, and the listener's `mtls` wants one from everybody who speaks TLS.",
        "Give the caller an identity; `mode: permissive` lets callers in the clear in, but not those that speak TLS without a certificate.";
    MTLS_KEY = "mtls.key", Client, 502, "Peer refused",
        "The peer showed a certificate, but could not sign with its key: the certificate is somebody else's.",
        "Somebody on the network shows a certificate that was copied. Certificates are public, keys are not: find out who it is by the address in the log.";
    MTLS_NOT_AN_SVID = "mtls.not_an_svid", Client, 502, "Peer refused",
        "The peer's certificate is no X.509-SVID: it has no URI name or several, one that is no SPIFFE ID, is an authority's own, or its key usages are wrong.",
        "The log says which rule it breaks. Issue one certificate with exactly one `spiffe://` URI and keyUsage digitalSignature to each workload.";
    MTLS_TRUST_DOMAIN = "mtls.trust_domain", Client, 502, "Peer refused",
        "The peer's SPIFFE ID is of a trust domain whose roots are not known here.",
        "If the peer should be believed, name its trust domain and bundle under `identity.federated`.";
    MTLS_UNTRUSTED = "mtls.untrusted", Client, 502, "Peer refused",
        "The peer's certificate does not lead to a root of its own trust domain: it is self-signed, of an unknown issuer, or an issuer on the way may not issue; or its root was withdrawn while the connection was open.",
        "Compare the peer's chain with the bundle of its trust domain; after a change of roots, both sides need the new one before anything is issued by it.";
    MTLS_EXPIRED = "mtls.expired", Client, 502, "Peer refused",
        "The peer's certificate, or one of its issuers, has expired: before the connection was made, or while it was open and longer ago than `identity.expiry_grace`.",
        "The peer's renewal has stopped: look at its own log, and at the clocks of both nodes. Streams that live longer than certificates need `identity.on_expiry: keep`, or callers that begin them anew.";
    MTLS_NOT_YET_VALID = "mtls.not_yet_valid", Client, 502, "Peer refused",
        "The peer's certificate, or one of its issuers, is not valid yet.",
        "Compare the clocks of both nodes and of whoever issued the certificate.";
    MTLS_CONSTRAINT = "mtls.constraint", Client, 502, "Peer refused",
        "An issuer of the peer's certificate is constrained to names that the certificate's are not among.",
        "Either the issuer was misused, or its name constraints are too narrow; the log names the peer's ID.";
    MTLS_WRONG_PEER = "mtls.wrong_peer", Upstream, 502, "Peer refused",
        "The endpoint proved an identity that is not among the pool's `mtls.peers`. Nothing of the request was sent to it.",
        "Another workload answers at the endpoint's address, or `peers` is out of date; the log names both.";
    MTLS_REFUSED = "mtls.refused", Proxy, 502, "Peer refused",
        "The peer ended the connection when it had seen this workload's certificate: it expects another identity, or does not believe who issued it.",
        "The log repeats the peer's alert; the peer's own log says more. Compare the ID that it expects, its trust bundle and its clock with the certificate of this workload (`windrose certs`).";
    WORKLOAD_LIMIT = "workload_limit", Client, 429, "Too many requests",
        "The workload has as many connections to the node's proxy, or requests under way, as its `limits` under `identity.workloads` allow. Other workloads are served on.",
        "The log names the workload. Look at what it does; raise its `limits` if the load is meant.";
    TUNNEL_REFUSED = "tunnel_refused", Upstream, 502, "Peer refused",
        "The endpoint's node took the connection and refused the tunnel in it (HBONE): its policy denies the caller, or it takes nothing for that address. No other endpoint is tried, and this one is not blamed.",
        "The error log has the status that the node answered CONNECT with: 401 or 403 is its policy, 400 an address it does not take. Look at the log of that node.";
    TUNNEL_FAILED = "tunnel_failed", Upstream, 502, "Bad gateway",
        "The endpoint's node took the connection and did not open the tunnel in it (HBONE): it does not reach the application, or does not know it.",
        "The error log has what the node answered CONNECT with: 503 is an application that it does not reach. Look at the log of that node, and whether the endpoint is still there.";
    MTLS_PLAINTEXT_REFUSED = "mtls.plaintext_refused", Client, 0, "Connection closed",
        "The caller spoke in the clear to a port whose `mtls` mode is `strict`.",
        "Let the caller use its node's outbound proxy, or set the port to `permissive` until it does.";
    MTLS_NO_IDENTITY = "mtls.no_identity", Proxy, 503, "Service unavailable",
        "The workload that the connection is for, or that calls, has no certificate (yet): none came within `identity.hold`, or the one it had has expired; or it is not known which workload calls.",
        "Look at the identity source in the log, and at `identity.workloads`: how is the caller known?";
}
