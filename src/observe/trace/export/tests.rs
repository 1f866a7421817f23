//! Tests of the exporter against a collector on a real socket.
//! They must not know how spans are queued.
//! Run by `cargo test`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::time::UNIX_EPOCH;

use http::HeaderMap;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::{span::SpanKind, Span};
use prost::Message;
use windrose_plugins::contract::causes;

use super::super::{AttemptSpan, Sampler, TraceContext};
use super::*;

/// A collector that answers with a status and hands on what it got.
struct Collector {
    url: String,
    got: Receiver<ExportTraceServiceRequest>,
}

impl Collector {
    fn answering(status: &'static str) -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (send, got) = channel();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let send = send.clone();
                thread::spawn(move || serve(stream, status, &send));
            }
        });
        Collector {
            url: format!("http://{address}/v1/traces"),
            got,
        }
    }

    fn next(&self) -> ExportTraceServiceRequest {
        self.got.recv_timeout(LONG).expect("an export")
    }
}

fn serve(stream: TcpStream, status: &str, send: &Sender<ExportTraceServiceRequest>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut length, mut line) = (0, String::new());
        reader.read_line(&mut line).ok()?;
        assert_eq!(line, "POST /v1/traces HTTP/1.1\r\n");
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).ok()?;
            let (name, value) = line.split_once(':').unwrap_or_default();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().ok()?,
                "content-type" => assert_eq!(value.trim(), "application/x-protobuf"),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        send.send(ExportTraceServiceRequest::decode(&*body).ok()?)
            .ok()?;
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        reader.get_mut().write_all(answer.as_bytes()).ok()?;
    }
}

fn tracer(url: &str, interval: Duration) -> (Tracer, IntCounter) {
    let dropped = IntCounter::default();
    let settings = TracerSettings {
        otlp: url.into(),
        service_name: "edge-proxy".into(),
        interval,
    };
    let tracer = Tracer::new(&settings, dropped.clone()).expect("starts");
    (tracer, dropped)
}

fn finished(parent: &str) -> FinishedSpan {
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", parent.parse().expect("a value"));
    let mut context = TraceContext::from_headers(&headers, &Sampler::share(0.0));
    let start = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let attempt = |span_id, status, cause| AttemptSpan {
        span_id,
        start,
        duration: Duration::from_millis(2),
        endpoint: "[::1]:8080".into(),
        status,
        cause,
        reused: false,
    };
    let attempts = vec![
        attempt(
            context.begin_attempt(),
            None,
            Some(&causes::CONNECT_REFUSED),
        ),
        attempt(context.begin_attempt(), Some(200), None),
    ];
    FinishedSpan {
        context,
        start,
        duration: Duration::from_millis(5),
        method: "GET".into(),
        scheme: "https",
        host: "shop.example".into(),
        path: "/cart".into(),
        protocol_version: "2",
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        user_agent: None,
        status: 200,
        cause: None,
        listener: "edge".into(),
        route: "shop".into(),
        pool: "web".into(),
        request_id: "r-1".into(),
        principal: None,
        policy: None,
        attempts,
    }
}

fn spans(request: &ExportTraceServiceRequest) -> Vec<Span> {
    let scopes = request
        .resource_spans
        .iter()
        .flat_map(|resource| &resource.scope_spans);
    scopes.flat_map(|scope| scope.spans.clone()).collect()
}

fn attribute(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|found| found.value.clone()?.value) {
        Some(AnyValue::StringValue(text)) => text,
        Some(AnyValue::IntValue(number)) => number.to_string(),
        Some(AnyValue::BoolValue(flag)) => flag.to_string(),
        other => format!("{other:?}"),
    }
}

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const LONG: Duration = Duration::from_secs(20);
const NEVER: Duration = Duration::from_secs(3600);

fn exported(finished: FinishedSpan) -> (ExportTraceServiceRequest, Vec<Span>) {
    let collector = Collector::answering("200 OK");
    let (tracer, dropped) = tracer(&collector.url, NEVER);
    tracer.span(finished);
    assert!(tracer.flush(LONG));
    assert_eq!(dropped.get(), 0);
    let request = collector.next();
    let spans = spans(&request);
    (request, spans)
}

fn assert_attributes(span: &Span, expected: &[(&str, &str)]) {
    for (key, value) in expected {
        assert_eq!(attribute(&span.attributes, key), *value, "{key}");
    }
}

#[test]
fn a_collector_gets_the_request_as_a_server_span_of_the_callers_trace() {
    let finished = finished(PARENT);
    let context = finished.context.clone();

    let (request, spans) = exported(finished);

    let resource = request.resource_spans[0].resource.clone();
    let resource = resource.expect("a resource").attributes;
    assert_eq!(attribute(&resource, "service.name"), "edge-proxy");
    let server = spans.last().expect("a span");
    assert_eq!(server.trace_id, context.trace_id);
    assert_eq!(server.parent_span_id, context.parent.expect("a parent"));
    assert_eq!(
        (server.kind(), &*server.name),
        (SpanKind::Server, "GET shop")
    );
    let nanos = server.end_time_unix_nano - server.start_time_unix_nano;
    assert_eq!(nanos, 5_000_000);
    assert_attributes(
        server,
        &[
            ("http.request.method", "GET"),
            ("url.path", "/cart"),
            ("http.response.status_code", "200"),
            ("server.address", "shop.example"),
            ("windrose.route", "shop"),
            ("windrose.retries", "1"),
        ],
    );
}

#[test]
fn every_attempt_is_a_client_span_and_the_last_is_what_upstream_was_told() {
    let finished = finished(PARENT);
    let context = finished.context.clone();

    let (_, spans) = exported(finished);

    let [refused, answered, _server] = &spans[..] else {
        panic!("{spans:?}");
    };
    for client in [refused, answered] {
        assert_eq!(client.parent_span_id, context.span_id);
        assert_eq!(
            (client.kind(), &*client.name),
            (SpanKind::Client, "GET web")
        );
        let address = [("server.address", "::1"), ("server.port", "8080")];
        assert_attributes(client, &address);
    }
    assert_attributes(
        refused,
        &[
            ("windrose.why", "connect_refused"),
            ("error.type", "connect_refused"),
        ],
    );
    assert_attributes(answered, &[("http.request.resend_count", "1")]);
    let told = context.traceparent().expect("sent");
    let told = told.to_str().expect("ASCII");
    assert!(told.contains(&hex(&answered.span_id)));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn spans_are_sent_by_themselves_after_the_interval() {
    let collector = Collector::answering("200 OK");
    let (tracer, _) = tracer(&collector.url, Duration::from_millis(20));

    tracer.span(finished(PARENT));

    assert_eq!(spans(&collector.next()).len(), 3);
}

#[test]
fn the_last_spans_are_sent_when_the_tracer_is_gone() {
    let collector = Collector::answering("200 OK");
    let (tracer, _) = tracer(&collector.url, NEVER);

    tracer.span(finished(PARENT));
    drop(tracer);

    assert_eq!(spans(&collector.next()).len(), 3);
}

#[test]
fn a_request_that_is_not_sampled_makes_no_span() {
    let collector = Collector::answering("200 OK");
    let (tracer, _) = tracer(&collector.url, NEVER);

    tracer.span(finished(&PARENT.replace("-01", "-00")));

    assert!(tracer.flush(LONG));
    assert!(collector.got.try_recv().is_err());
}

#[test]
fn a_collector_that_refuses_costs_counted_spans() {
    let collector = Collector::answering("400 Bad Request");
    let (tracer, dropped) = tracer(&collector.url, NEVER);

    tracer.span(finished(PARENT));

    assert!(tracer.flush(LONG));
    assert_eq!(dropped.get(), 3);
}

#[test]
fn a_full_queue_drops_and_never_blocks() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (tracer, dropped) = tracer(&format!("http://{address}/v1/traces"), NEVER);

    for _ in 0..3 * QUEUE {
        tracer.span(finished(PARENT));
    }

    // Nobody accepts, so at most one drain's worth left the queue.
    assert!(dropped.get() >= 3);
    assert!(!tracer.flush(Duration::from_millis(1)));
}

#[test]
fn addresses_that_cannot_work_are_refused_with_a_remedy() {
    let refuse = |otlp: &str| check_address(otlp).expect_err("refused").to_string();

    assert!(refuse("https://collector:4318").contains("run a collector beside"));
    assert!(refuse("collector:4318").contains("must begin with http://"));
    assert!(refuse("http://a b").contains("is not a URL"));
}
