//! What is counted about a route: requests, durations, sizes, retries and streams.
//! It must not know how a request is decided or forwarded.
//! The fast path calls it at the start and end of a request; `Metrics::route` makes it.

use std::sync::{Arc, OnceLock};

use windrose_plugins::contract::Cause;

use super::family::{Counters, Gauges, Histograms, Maker};
use super::first_use::FirstUse;
use super::series::{Histogram, IntCounter, IntGauge};
use super::{BYTES, SECONDS};

/// The families that routes feed.
pub(super) struct RouteFamilies {
    pub(super) requests: Counters,
    pub(super) in_flight: Gauges,
    pub(super) seconds: Histograms,
    pub(super) request_bytes: Histograms,
    pub(super) response_bytes: Histograms,
    pub(super) answers: Counters,
    pub(super) retries: Counters,
    pub(super) not_retried: Counters,
    pub(super) grpc: Counters,
    pub(super) streams: Counters,
    pub(super) streams_open: Gauges,
}

impl RouteFamilies {
    pub(super) fn new(make: &Maker<'_>) -> RouteFamilies {
        let with = |last| ["listener", "role", "route", last];
        let labels = ["listener", "role", "route"];
        let [retries, not_retried] = retries(make);
        RouteFamilies {
            requests: make.counters(
                "windrose_requests_total",
                "Requests finished, by the status the client got (0: none).",
                &with("code"),
            ),
            in_flight: make.gauges(
                "windrose_requests_in_flight",
                "Requests being served now.",
                &labels,
            ),
            seconds: make.histograms(
                "windrose_request_duration_seconds",
                "Time from the request's header to the end of the response.",
                &labels,
                SECONDS,
            ),
            request_bytes: make.histograms(
                "windrose_request_body_bytes",
                "Size of request bodies.",
                &labels,
                BYTES,
            ),
            response_bytes: make.histograms(
                "windrose_response_body_bytes",
                "Size of response bodies.",
                &labels,
                BYTES,
            ),
            answers: make.counters(
                "windrose_request_causes_total",
                "Requests that the proxy answered or cut itself, by cause.",
                &with("cause"),
            ),
            retries,
            not_retried,
            grpc: make.counters(
                "windrose_grpc_responses_total",
                "gRPC calls finished, by grpc-status.",
                &with("grpc_status"),
            ),
            streams: make.counters(
                "windrose_streams_total",
                "Upgraded connections and tunnels begun.",
                &labels,
            ),
            streams_open: make.gauges(
                "windrose_streams_open",
                "Upgraded connections and tunnels that are open now.",
                &labels,
            ),
        }
    }
}

/// What is counted of further attempts: those made, and those not made.
fn retries(make: &Maker<'_>) -> [Counters; 2] {
    let with = |last| ["listener", "role", "route", last];
    [
        make.counters(
            "windrose_request_retries_total",
            "Further attempts made for requests, by the cause that failed the attempt before (status, grpc_status: the endpoint's answer).",
            &with("cause"),
        ),
        make.counters(
            "windrose_request_retries_refused_total",
            "Failed attempts after which no other one was made although the rule retries such failures (attempts: none left; body: not kept whole; deadline; budget; limit: `limits.retries`; behind: the hop behind has tried itself, or is overloaded).",
            &with("reason"),
        ),
    ]
}

/// A series of requests that are over, for whoever wants sums over all routes.
#[derive(Debug, Clone, Copy)]
pub struct Finished<'a> {
    /// Which series: listener, role, route, and the value of `of`.
    pub labels: &'a [&'a str],
    /// What its requests have in common.
    pub of: FinishedBy<'a>,
    /// How many there were.
    pub count: u64,
}

/// What the requests of a series have in common. A request is in one series of statuses, and in at most one of causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishedBy<'a> {
    /// The status the client got.
    Status(&'a str),
    /// Why the proxy answered or cut the request itself.
    Cause(&'a str),
}

impl Finished<'_> {
    /// Whether the series is one of causes; labels alone do not tell.
    pub fn is_of_cause(&self) -> bool {
        matches!(self.of, FinishedBy::Cause(_))
    }
}

impl RouteFamilies {
    /// Shows every series of requests that are over.
    pub(super) fn finished(&self, see: &mut dyn FnMut(Finished<'_>)) {
        let mut status = |labels: &[&str], count| {
            let of = FinishedBy::Status(labels[3]);
            see(Finished { labels, of, count });
        };
        self.requests.each(&mut status);
        self.answers.each(&mut |labels, count| {
            let of = FinishedBy::Cause(labels[3]);
            see(Finished { labels, of, count });
        });
    }

    /// Drops the series of routes that `keep` refuses, asked with listener and route.
    pub(super) fn retain(&self, keep: &dyn Fn(&str, &str) -> bool) {
        let by_name = |labels: &[&str]| keep(labels[0], labels[2]);
        for counters in [
            &self.requests,
            &self.answers,
            &self.retries,
            &self.not_retried,
            &self.grpc,
            &self.streams,
        ] {
            counters.retain(&by_name);
        }
        for gauges in [&self.in_flight, &self.streams_open] {
            gauges.retain(&by_name);
        }
        for histograms in [&self.seconds, &self.request_bytes, &self.response_bytes] {
            histograms.retain(&by_name);
        }
    }
}

/// What is known about a request once it is over.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestSample {
    /// Status sent to the client; 0 when nothing was sent.
    pub status: u16,
    /// Wall time from the request header to the end.
    pub seconds: f64,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the response's body.
    pub response_bytes: u64,
    /// Set when the proxy answered or cut the response itself.
    pub cause: Option<&'static Cause>,
    /// `grpc-status` of a gRPC call.
    pub grpc_status: Option<u16>,
}

/// Counters of one route at one listener. Series appear at the first request, so thousands of idle routes cost a scrape nothing,
/// and the process little.
pub struct RouteMetrics {
    labels: [Arc<str>; 3],
    families: Arc<RouteFamilies>,
    used: OnceLock<Box<Used>>,
}

/// Series of a route that is used.
#[derive(Default)]
struct Used {
    requests: OnceLock<RequestSeries>,
    streams: OnceLock<(IntCounter, IntGauge)>,
    codes: FirstUse<u16, IntCounter>,
    causes: FirstUse<&'static str, IntCounter>,
    retries: FirstUse<&'static str, IntCounter>,
    not_retried: FirstUse<&'static str, IntCounter>,
    grpc: FirstUse<u16, IntCounter>,
}

struct RequestSeries {
    in_flight: IntGauge,
    seconds: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
}

impl RouteMetrics {
    pub(super) fn new(families: &Arc<RouteFamilies>, labels: [Arc<str>; 3]) -> RouteMetrics {
        RouteMetrics {
            labels,
            families: families.clone(),
            used: OnceLock::new(),
        }
    }

    /// A request was matched to this route. Exactly one `finished` follows.
    pub fn started(&self) {
        self.requests().in_flight.inc();
    }

    /// A request that `started` is over.
    pub fn finished(&self, sample: &RequestSample) {
        let series = self.requests();
        series.in_flight.dec();
        series.seconds.observe(sample.seconds);
        series.request_bytes.observe(sample.request_bytes as f64);
        series.response_bytes.observe(sample.response_bytes as f64);
        // A service may send any three digits; labels stay within what HTTP defines.
        let code = match sample.status {
            status @ (0 | 100..=599) => status,
            _ => NONSENSE,
        };
        let used = self.used();
        self.counter(&used.codes, &self.families.requests, code)
            .inc();
        if let Some(cause) = sample.cause {
            self.count_word(&used.causes, &self.families.answers, cause.name);
        }
        if let Some(status) = sample.grpc_status {
            let status = if status <= 16 { status } else { NONSENSE };
            self.counter(&used.grpc, &self.families.grpc, status).inc();
        }
    }

    /// An attempt failed and another one is made. `what` is the cause, or `status` or `grpc_status` for a response.
    pub fn retried(&self, what: &'static str) {
        self.count_word(&self.used().retries, &self.families.retries, what);
    }

    /// An attempt failed and no other one is made, although the rule has retries, for this reason.
    pub fn not_retried(&self, reason: &'static str) {
        self.count_word(&self.used().not_retried, &self.families.not_retried, reason);
    }

    /// A request became a two-way stream (upgrade or tunnel). Exactly one `stream_closed` follows.
    pub fn stream_opened(&self) {
        let (total, open) = self.streams();
        total.inc();
        open.inc();
    }

    /// A two-way stream ended.
    pub fn stream_closed(&self) {
        self.streams().1.dec();
    }

    fn used(&self) -> &Used {
        self.used.get_or_init(Box::default)
    }

    fn requests(&self) -> &RequestSeries {
        self.used().requests.get_or_init(|| {
            let labels = self.labels();
            RequestSeries {
                in_flight: self.families.in_flight.with(&labels),
                seconds: self.families.seconds.with(&labels),
                request_bytes: self.families.request_bytes.with(&labels),
                response_bytes: self.families.response_bytes.with(&labels),
            }
        })
    }

    fn streams(&self) -> &(IntCounter, IntGauge) {
        self.used().streams.get_or_init(|| {
            let labels = self.labels();
            (
                self.families.streams.with(&labels),
                self.families.streams_open.with(&labels),
            )
        })
    }

    fn counter<'a>(
        &self,
        seen: &'a FirstUse<u16, IntCounter>,
        family: &Counters,
        number: u16,
    ) -> &'a IntCounter {
        seen.entry(number, || match number {
            NONSENSE => self.with(family, "other"),
            number => self.with(family, &number.to_string()),
        })
    }

    fn count_word(
        &self,
        seen: &FirstUse<&'static str, IntCounter>,
        family: &Counters,
        word: &'static str,
    ) {
        seen.entry(word, || self.with(family, word)).inc();
    }

    fn with(&self, family: &Counters, last: &str) -> IntCounter {
        let [listener, role, route] = self.labels();
        family.with(&[listener, role, route, last])
    }

    fn labels(&self) -> [&str; 3] {
        self.labels.each_ref().map(|label| &**label)
    }
}

/// Stands for a number outside of its protocol's range.
const NONSENSE: u16 = u16::MAX;
