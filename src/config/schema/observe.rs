//! Keys of `observe`: what the proxy tells about its traffic and to whom.
//! It must not know what is logged where in the code.
//! Read by `config::compile` and handed to `observe`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use windrose_plugins::contract::{Percent, Size, Time};

/// Logs, metrics and traces.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Observe {
    /// One line for each request.
    pub access_log: AccessLog,
    /// Counters and histograms on the admin address.
    pub metrics: Metrics,
    /// Spans for an OpenTelemetry collector.
    pub traces: Traces,
    /// What error answers look like.
    pub answers: Answers,
    /// Records of requests that somebody may ask about.
    pub recorder: Recorder,
}

/// The access log. Lines are written by a thread of their own from a bounded queue; lines that find it full are dropped and counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccessLog {
    /// `stdout`, `off`, or a file's path (SIGUSR1 opens it anew). Default: stdout.
    pub to: String,
    /// `json` or `combined` (as Apache and nginx). Default: json.
    pub format: LogFormat,
    /// Lines that may wait to be written. Default: 8192.
    pub queue: usize,
}

impl Default for AccessLog {
    fn default() -> AccessLog {
        AccessLog {
            to: "stdout".into(),
            format: LogFormat::Json,
            queue: 8192,
        }
    }
}

/// Form of an access log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object.
    #[default]
    Json,
    /// Apache's combined format, with time, route, endpoint and cause at the end.
    Combined,
}

/// Metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Series that one metric may have, 100 to 1000000; counters beyond are added up under `_overflow`, gauges of further pools and
    /// endpoints are left out. Counters appear at first use, and one that is missing is zero: endpoints that nobody calls have gauges
    /// only. A reload changes it for series to come. Default: 10000.
    pub series: usize,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics { series: 10_000 }
    }
}

/// Traces. W3C trace context and B3 are read; W3C is sent on. The parent's decision to sample is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Traces {
    /// Where to send spans: an OTLP/HTTP address such as `http://127.0.0.1:4318/v1/traces`. Default: nowhere; trace context is still passed on.
    pub otlp: Option<String>,
    /// Share of requests without a parent that are sampled. Default: 1%.
    pub sample: Percent,
    /// The service name spans carry. Default: windrose.
    pub service_name: String,
    /// Longest wait before waiting spans are sent. Default: 5s.
    pub interval: Time,
}

impl Default for Traces {
    fn default() -> Traces {
        Traces {
            otlp: None,
            sample: ONE_PERCENT,
            service_name: "windrose".into(),
            interval: Time::secs(5),
        }
    }
}

/// The flight recorder: what `windrose why REQUEST-ID` tells, `/recorder` lists and `windrose bundle` writes. Records are in memory only, secrets left out; addresses and paths of clients are in them, for everyone who can reach the admin address. Errors are always kept, at most 20 of one cause in a second, and at most 20 slow requests and 20 samples in a second; errors have half of the room, slow requests and samples a quarter each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Recorder {
    /// Whether records are kept. Turning it off drops those there are. Default: true.
    pub enabled: bool,
    /// Records at most, 100 to 100000; the oldest of the commonest cause go first. Default: 2000.
    pub records: usize,
    /// Memory that records may take together, 256KiB to 64MiB. Default: 8MiB. A record is about 1KiB, more where request headers are large; whichever bound is met first holds.
    pub bytes: Size,
    /// Share of ordinary requests kept. Default: 1%.
    pub sample: Percent,
    /// Whether the slowest 1% are kept, measured over all listeners; of streams, the time to their response header counts. Default: true.
    pub slowest: bool,
}

impl Default for Recorder {
    fn default() -> Recorder {
        Recorder {
            enabled: true,
            records: 2000,
            bytes: Size(8 << 20),
            sample: ONE_PERCENT,
            slowest: true,
        }
    }
}

const ONE_PERCENT: Percent = match Percent::new(1) {
    Some(one) => one,
    None => unreachable!(),
};

/// Error answers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Answers {
    /// Networks whose clients see the cause in `x-windrose-why`. Default: loopback only (127.0.0.0/8 and ::1).
    pub show_cause_to: Option<Vec<ipnet::IpNet>>,
}
