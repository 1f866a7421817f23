//! Keys of `timeouts`, `retry` and `retry_budget`: how long a request may take, and what follows a failure.
//! It must not know how attempts are made.
//! Part of a route's and a pool's keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use windrose_plugins::contract::{Percent, Time};

/// Times of a request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteTimeouts {
    /// From sending the request upstream to the response's header. Default: 60s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_header: Option<Time>,
    /// Silence in either direction while a body or stream is under way. Default: 5m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<Time>,
    /// The deadline: the whole request with all its attempts, back-offs and the response's body. Upgraded connections and server-sent events are bound by it only until the response's header. Default: 0s, no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Time>,
    /// One attempt: so long it may take to connect, and again from the connection to the response's header. It also bounds each later wait for bytes of the response, so it is not for calls that stream; upgraded connections and server-sent events are bound by it only until they are connected. Default: 0s, no bound of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_try: Option<Time>,
    /// What becomes of a deadline that the request itself brings, in `grpc-timeout` or `x-request-timeout` (such as `250ms`; a bare number is milliseconds). Honoured, it can only shorten `request`, and endpoints are told what is left of it. Default: honour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_deadline: Option<ClientDeadline>,
}

/// What becomes of a deadline that a request brings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientDeadline {
    /// It shortens the request's time.
    #[default]
    Honour,
    /// It is passed on as it came and changes nothing here.
    Ignore,
}

/// Attempts after a failure. Each goes to an endpoint that was not tried yet, while there is one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Further attempts. Default: 1; 0 turns retries off; at most 5. A kept connection that the endpoint closed at that moment costs none: the first time the request goes again at once.
    pub attempts: u8,
    /// Which failures are tried again. Default: [connect_failure, refused_stream, reset, per_try_timeout].
    pub on: Vec<RetryOn>,
    /// Statuses of endpoints that are tried again, 400 to 599. When no attempt is left the endpoint's own response is passed on. Default: none.
    pub statuses: Vec<u16>,
    /// gRPC statuses that are tried again when they come with the response's header, as those of calls refused at once do. To list one says that calls may be sent twice, whatever `methods` says. Default: none.
    pub grpc: Vec<GrpcCode>,
    /// Methods that may be sent again after bytes of the request went upstream. A connection that was never made, or a stream that the endpoint refused, is safe for all. A body is sent again from a buffer of 64 KiB; a request with more is not. Default: [GET, HEAD, OPTIONS, PUT, DELETE].
    pub methods: Vec<String>,
    /// The wait before a further attempt. After a failed connection there is none, as long as there is an endpoint that was not tried yet.
    pub backoff: Backoff,
    /// A budget of this rule, beside the pool's: both must pay. Given on a route, its rules share it. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<RetryBudget>,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            attempts: 1,
            on: vec![
                RetryOn::ConnectFailure,
                RetryOn::RefusedStream,
                RetryOn::Reset,
                RetryOn::PerTryTimeout,
            ],
            statuses: Vec::new(),
            grpc: Vec::new(),
            methods: ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"]
                .map(str::to_owned)
                .to_vec(),
            backoff: Backoff::default(),
            budget: None,
        }
    }
}

/// A failure that may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RetryOn {
    /// No connection was made; nothing was sent.
    ConnectFailure,
    /// The endpoint refused the HTTP/2 stream before it did anything (REFUSED_STREAM, or GOAWAY before its turn).
    RefusedStream,
    /// The connection broke before the response's header.
    Reset,
    /// The attempt took longer than `timeouts.per_try`.
    PerTryTimeout,
}

/// A status of gRPC other than OK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrpcCode {
    /// 1
    Cancelled = 1,
    /// 2
    Unknown,
    /// 3
    InvalidArgument,
    /// 4
    DeadlineExceeded,
    /// 5
    NotFound,
    /// 6
    AlreadyExists,
    /// 7
    PermissionDenied,
    /// 8
    ResourceExhausted,
    /// 9
    FailedPrecondition,
    /// 10
    Aborted,
    /// 11
    OutOfRange,
    /// 12
    Unimplemented,
    /// 13
    Internal,
    /// 14
    Unavailable,
    /// 15
    DataLoss,
    /// 16
    Unauthenticated,
}

/// Exponential back-off with full jitter: before further attempt n any time up to (2^n - 1) times `base`, at most `max`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Backoff {
    /// Default: 25ms.
    pub base: Time,
    /// Default: 250ms; at most 10s.
    pub max: Time,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff {
            base: Time::millis(25),
            max: Time::millis(250),
        }
    }
}

/// How many further attempts the traffic of the last seconds pays for, as Linkerd defines it. Without it, a service in trouble would get its load times the attempts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryBudget {
    /// Further attempts as a share of requests. Default: 20%.
    pub ratio: Percent,
    /// Further attempts a second that need no requests to pay for them. Default: 10; at most 1000000.
    pub min_per_second: u32,
    /// How long a request pays. Default: 10s; 1s to 60s.
    pub window: Time,
}

impl Default for RetryBudget {
    fn default() -> RetryBudget {
        RetryBudget {
            ratio: FIFTH,
            min_per_second: 10,
            window: Time::secs(10),
        }
    }
}

const FIFTH: Percent = match Percent::new(20) {
    Some(fifth) => fifth,
    None => unreachable!(),
};
