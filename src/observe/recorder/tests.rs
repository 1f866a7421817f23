use std::time::SystemTime;

use super::*;
use crate::observe::metrics::Metrics;

const SETTINGS: RecorderSettings = RecorderSettings {
    enabled: true,
    records: 400,
    bytes: 1 << 20,
    sample: 0.0,
    slowest: false,
};

fn recorder(settings: RecorderSettings) -> Recorder {
    Recorder::new(&settings, Metrics::new(100).recorder())
}

fn outcome(status: u16, cause: Option<&'static Cause>) -> Outcome {
    Outcome {
        status,
        cause,
        grpc_status: None,
        audited: false,
        duration: Duration::from_millis(1),
        now: 5_000_000_000,
        random: u64::MAX,
    }
}

fn entry<'a>(request_id: &'a str, trace_id: &'a str) -> Entry<'a> {
    Entry {
        time: SystemTime::UNIX_EPOCH,
        client: "10.0.0.9",
        client_port: 5,
        destination: None,
        listener: "web",
        role: "ingress",
        route: "all",
        rule: 2,
        pool: "app",
        endpoint: "10.0.0.1:80",
        method: "GET",
        scheme: "http",
        host: "a.test",
        path: "/?token=hush",
        protocol: "HTTP/1.1",
        status: 503,
        cause: Some(&causes::NO_ENDPOINT),
        request_bytes: 3,
        response_bytes: 4,
        duration: Duration::from_micros(1500),
        upstream_duration: None,
        attempts: 0,
        reused: false,
        request_id,
        trace_id: Some(trace_id),
        principal: Some("spiffe://a/b"),
        policy: "",
        audit: "",
        cache: "",
        user_agent: None,
        referer: None,
        notes: &[],
        tls_version: None,
        sni: None,
        grpc_status: None,
    }
}

fn keep(recorder: &Recorder, reason: Reason, entry: &Entry<'_>) {
    let head = Head::Raw(bytes::Bytes::from_static(
        b"GET /?token=hush HTTP/1.1\r\nHost: a.test\r\ncookie: a=hush\r\n\r\n",
    ));
    recorder.keep(
        reason,
        &Told {
            entry,
            head,
            seen: Seen::Received,
            authority: "a.test",
            peer: None,
            certificate: None,
            generation: 7,
            place: "a.yaml:3",
            attempts: Vec::new(),
            before_upstream: None,
        },
    );
}

#[test]
fn errors_are_wanted_and_answers_that_are_meant_are_not() {
    let recorder = recorder(SETTINGS);
    let wants = |status, cause| recorder.wants(&outcome(status, cause));

    for (status, cause) in [
        (500, None),
        (404, Some(&causes::NO_ROUTE)),
        (0, Some(&causes::DRAINED)),
        (200, Some(&causes::UPSTREAM_RESET)),
        (503, Some(&causes::ROUTE_RESPOND)),
    ] {
        assert_eq!(
            wants(status, cause),
            Some(Reason::Error),
            "{status} {cause:?}"
        );
    }
    for (status, cause) in [
        (200, None),
        (404, None),
        (404, Some(&causes::ROUTE_RESPOND)),
        (302, Some(&causes::ROUTE_REDIRECT)),
    ] {
        assert_eq!(wants(status, cause), None, "{status} {cause:?}");
    }
}

#[test]
fn of_each_cause_so_many_a_second_are_wanted() {
    let recorder = recorder(SETTINGS);
    let many = |cause, now| {
        let wanted = (0..100).filter(|_| {
            let outcome = Outcome {
                now,
                ..outcome(503, Some(cause))
            };
            recorder.wants(&outcome).is_some()
        });
        wanted.count()
    };

    assert_eq!(many(&causes::NO_ENDPOINT, 1_000_000_000), 20);
    assert_eq!(many(&causes::NO_ROUTE, 1_000_000_000), 20);
    assert_eq!(many(&causes::NO_ENDPOINT, 1_999_999_999), 0);
    assert_eq!(many(&causes::NO_ENDPOINT, 2_000_000_000), 20);
    assert_eq!(recorder.metrics.left_out.get(), 80 + 80 + 100 + 80);
}

#[test]
fn of_slow_requests_and_of_samples_so_many_a_second_are_wanted() {
    let recorder = recorder(RecorderSettings {
        slowest: true,
        sample: 1.0,
        ..SETTINGS
    });
    let many = |second: u64, reason| {
        let wanted = (1..=25).filter(|at| {
            // Twice as slow as all before it, or as fast as none.
            let nanos = match reason {
                Reason::Slowest => 1_u64 << (25 * (second - 1) + at),
                _ => 1,
            };
            let outcome = Outcome {
                duration: Duration::from_nanos(nanos),
                now: second * 1_000_000_000,
                random: 1,
                ..outcome(200, None)
            };
            recorder.wants(&outcome) == Some(reason)
        });
        wanted.count()
    };

    assert_eq!(many(1, Reason::Slowest), 20);
    assert_eq!(many(1, Reason::Sample), 20);
    assert_eq!(many(1, Reason::Sample), 0);
    assert_eq!(many(2, Reason::Slowest), 20);
    assert_eq!(recorder.metrics.left_out.get(), 0);
}

#[test]
fn the_share_of_ordinary_requests_is_by_their_random_bits() {
    let recorder = recorder(RecorderSettings {
        sample: 0.25,
        ..SETTINGS
    });
    let wants = |random| {
        let outcome = Outcome {
            random,
            ..outcome(200, None)
        };
        recorder.wants(&outcome)
    };

    assert_eq!(wants(u64::MAX / 8), Some(Reason::Sample));
    assert_eq!(wants(u64::MAX / 2), None);
}

#[test]
fn a_request_far_slower_than_the_others_is_wanted() {
    let recorder = recorder(RecorderSettings {
        slowest: true,
        ..SETTINGS
    });
    let wants = |millis| {
        let outcome = Outcome {
            duration: Duration::from_millis(millis),
            ..outcome(200, None)
        };
        recorder.wants(&outcome)
    };

    let learned = [2; 10].map(wants);

    assert_eq!(learned[0], Some(Reason::Slowest), "the slowest so far");
    assert_eq!(wants(1), None);
    assert_eq!(wants(300), Some(Reason::Slowest));
}

#[test]
fn a_record_is_found_by_either_id_and_holds_no_secret() {
    let recorder = recorder(SETTINGS);
    keep(&recorder, Reason::Error, &entry("r1", "t1"));
    keep(&recorder, Reason::Error, &entry("r2", "t1"));

    let by_request = recorder.find("r1");
    let by_trace = recorder.find("t1");

    assert_eq!(by_request.len(), 1);
    let record = &by_request[0];
    assert_eq!(record.time, "1970-01-01T00:00:00.000000Z");
    assert_eq!(record.answer.cause.as_deref(), Some("no_endpoint"));
    assert_eq!(record.decision.place.as_deref(), Some("a.yaml:3"));
    assert_eq!(record.durations.total_ms, 1.5);
    let ids: Vec<_> = by_trace.iter().map(|record| &*record.request_id).collect();
    assert_eq!(ids, ["r2", "r1"]);
    let json = serde_json::to_string(&by_trace).expect("plain data");
    assert!(!json.contains("hush"), "{json}");
}

#[test]
fn records_that_find_the_store_in_use_wait_and_too_many_are_lost_and_counted() {
    let recorder = recorder(SETTINGS);
    let in_use = recorder.store.lock();

    for _ in 0..LONGEST_QUEUE + 2 {
        keep(&recorder, Reason::Error, &entry("r1", "t1"));
    }

    drop(in_use);
    assert_eq!(recorder.metrics.lost.get(), 2);
    keep(&recorder, Reason::Error, &entry("r2", "t2"));
    keep(&recorder, Reason::Error, &entry("r3", "t3"));
    assert_eq!(
        recorder.metrics.lost.get(),
        3,
        "only what met the full queue"
    );
    assert_eq!(recorder.all().len(), LONGEST_QUEUE + 1);
}

#[test]
fn turned_off_it_wants_and_holds_nothing() {
    let recorder = recorder(SETTINGS);
    keep(&recorder, Reason::Error, &entry("r1", "t1"));

    recorder.configure(&RecorderSettings {
        enabled: false,
        ..SETTINGS
    });

    assert_eq!(recorder.all(), []);
    assert_eq!(recorder.wants(&outcome(503, None)), None);
}
