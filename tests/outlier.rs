//! Endpoints that fail real requests are taken out and come back: what clients, services and views see of it.
//! It must not know how failures are counted; `snapshot::outlier` has tests of that on a clock of its own.
//! Part of the test binary.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::Arc;

use serde_json::Value;

use crate::support::grpc::{call, Client};
use crate::support::proxy::{pool, ALL_TO_APP};
use crate::support::upstream::answer;
use crate::support::{frame, run, until, Conn, Echo, Grpc, Proxy, Upstream};

/// Requests in turn to these, without retries, with these settings of the ejection.
fn with(upstreams: &[&Upstream], ejection: &str) -> Proxy {
    with_more(upstreams, ejection, "")
}

/// The same with more settings of the pool. A second is long enough for those that answer, also on a busy machine.
fn with_more(upstreams: &[&Upstream], ejection: &str, more: &str) -> Proxy {
    let pool = pool("app", upstreams);
    Proxy::http(&format!(
        "{pool}  balance: {{algorithm: round_robin}}\n  ejection: {{{ejection}}}\n{more}{ALL_TO_APP}    retry: {{attempts: 0}}\n    timeouts: {{response_header: 1s}}\n"
    ))
}

/// The endpoint as `/pools` shows it.
pub(crate) fn seen(proxy: &Proxy, address: impl ToString) -> Value {
    let view = proxy.pool("app");
    let mut all = view["endpoints"].as_array().into_iter().flatten();
    let address = address.to_string();
    let found = all.find(|one| one["address"] == address.as_str());
    found
        .unwrap_or_else(|| panic!("no {address}: {view}"))
        .clone()
}

fn until_state(proxy: &Proxy, address: impl ToString, state: &str) -> Value {
    let address = address.to_string();
    until(&format!("{address} is {state}"), || {
        let seen = seen(proxy, &address);
        (seen["state"] == state).then_some(seen)
    })
}

/// Sends requests until the endpoint is out.
pub(crate) fn eject(proxy: &Proxy, address: impl ToString) -> Value {
    let address = address.to_string();
    until(&format!("{address} is ejected"), || {
        proxy.get("/");
        let seen = seen(proxy, &address);
        (seen["ejected"] == true).then_some(seen)
    })
}

fn is_ejected_by(bad: &Upstream, what: &str) {
    let good = Upstream::answering("ok");
    let proxy = with(&[bad, &good], "consecutive_failures: 2, base_time: 60s");

    let seen = eject(&proxy, bad.address);

    assert_eq!(seen["state"], "ejected", "{what}");
    assert_eq!(seen["ejected_by"], "consecutive_failures", "{what}");
    assert_eq!(seen["available"], false, "{what}");
    let left = seen["ejected_seconds_left"].as_u64().unwrap();
    assert!((40..=66).contains(&left), "{what}: {left}");
    let next = (&seen["ejections"], &seen["next_ejection_ms"]);
    assert_eq!(next, (&1.into(), &120_000.0.into()), "{what}");
    assert_eq!([(); 4].map(|()| proxy.get("/").status), [200; 4], "{what}");
    let marks = ["reason=\"consecutive_failures\"", &*bad.address.to_string()];
    let ejections = proxy.metric("windrose_endpoint_ejections_total", &marks);
    assert_eq!(ejections, 1.0, "{what}");
    let log = proxy.stderr();
    assert!(log.contains("endpoint ejected"), "{what}: {log}");
    assert!(log.contains("reason=consecutive_failures"), "{what}: {log}");
}

#[test]
fn every_way_to_fail_ejects() {
    is_ejected_by(&Upstream::refusing(), "refuses");
    is_ejected_by(&Upstream::statuses(&[502]), "answers 502");
    is_ejected_by(&Upstream::statuses(&[503]), "answers 503");
    is_ejected_by(&Upstream::statuses(&[504]), "answers 504");
    is_ejected_by(&Upstream::silent(), "hangs");
    is_ejected_by(&Upstream::closing(), "closes before its header");
    is_ejected_by(
        &Upstream::raw(b"HTTP/1.1 200 OK\r\ncont"),
        "resets within its header",
    );
    is_ejected_by(
        &Upstream::raw(b"220 mail.test ESMTP\r\n\r\n"),
        "sends garbage",
    );
}

#[test]
fn silence_on_a_kept_connection_ejects_too() {
    let silent = Arc::new(AtomicBool::new(false));
    let flag = silent.clone();
    // Answers well, so that its connections are kept, and later not at all.
    let bad = Upstream::with(move |_, stream| match flag.load(SeqCst) {
        false => answer(stream, 200, &[], b""),
        true => std::io::Read::read(stream, &mut [0; 1]).map(|_| false),
    });
    let good = Upstream::answering("ok");
    let proxy = with(&[&bad, &good], "consecutive_failures: 1, base_time: 60s");
    for _ in 0..4 {
        assert_eq!(proxy.get("/").status, 200);
    }

    silent.store(true, SeqCst);
    let seen = eject(&proxy, bad.address);

    assert_eq!(seen["ejected_by"], "consecutive_failures");
    assert_eq!(bad.connections(), 1);
}

#[test]
fn answers_of_500_eject_where_they_are_counted() {
    let (bad, good) = (Upstream::statuses(&[500]), Upstream::answering("ok"));
    let off = with(&[&bad, &good], "consecutive_failures: 2");
    let on = with(&[&bad, &good], "consecutive_5xx: 3, base_time: 60s");

    for _ in 0..20 {
        off.get("/");
    }
    let seen_on = eject(&on, bad.address);

    let seen_off = seen(&off, bad.address);
    assert_eq!(
        (&seen_off["state"], &seen_off["failures_5xx"]),
        (&"open".into(), &10.into())
    );
    assert_eq!(seen_on["ejected_by"], "consecutive_5xx");
    assert_eq!(bad.requests(), 13);
}

#[test]
fn an_endpoint_that_flaps_is_not_failing_in_a_row() {
    let turns = std::sync::atomic::AtomicUsize::new(0);
    let flapping = Upstream::with(move |_, stream| {
        let status = if turns.fetch_add(1, SeqCst).is_multiple_of(2) {
            503
        } else {
            200
        };
        answer(stream, status, &[], b"")
    });
    let good = Upstream::answering("ok");
    let rows = with(&[&flapping, &good], "consecutive_failures: 2");
    for _ in 0..40 {
        rows.get("/");
    }
    assert_eq!(seen(&rows, flapping.address)["state"], "open");

    let shares = with(
        &[&flapping, &good],
        "consecutive_failures: 2, base_time: 60s, success_below: {rate: 80%, window: 60s}",
    );
    let seen = eject(&shares, flapping.address);

    assert_eq!(seen["ejected_by"], "success_below");
}

#[test]
fn responses_that_break_off_count_in_shares() {
    let bad = Upstream::raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
    let good = Upstream::answering("ok");
    let proxy = with(
        &[&bad, &good],
        "base_time: 60s, success_below: {rate: 80%, window: 60s}",
    );

    let seen = until("it is ejected", || {
        // Nothing tells the client how it ends but the end.
        let mut conn = proxy.connect();
        conn.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let _ = conn.rest();
        let seen = seen(&proxy, bad.address);
        (seen["ejected"] == true).then_some(seen)
    });

    assert_eq!(seen["ejected_by"], "success_below");
    assert_eq!(bad.requests(), 5);
}

/// Fails twice, then holds requests back until it is told what to answer.
struct Held {
    upstream: Upstream,
    answer: std::sync::mpsc::Sender<u16>,
}

impl Held {
    fn new() -> Held {
        let (sender, answers) = std::sync::mpsc::channel();
        let answers = std::sync::Mutex::new(answers);
        let count = std::sync::atomic::AtomicUsize::new(0);
        let upstream = Upstream::with(move |_, stream| {
            if count.fetch_add(1, SeqCst) < 2 {
                return answer(stream, 503, &[], b"");
            }
            match answers.lock().unwrap().recv() {
                Ok(status) => answer(stream, status, &[], b"held"),
                Err(_) => Ok(false),
            }
        });
        Held {
            upstream,
            answer: sender,
        }
    }
}

fn held_scene() -> (Held, Upstream, Proxy) {
    let (held, good) = (Held::new(), Upstream::answering("ok"));
    let pool = pool("app", &[&held.upstream, &good]);
    let proxy = Proxy::http(&format!(
        "{pool}  balance: {{algorithm: round_robin}}\n  ejection: {{consecutive_failures: 2, base_time: 100ms, jitter: 0%}}\n{ALL_TO_APP}    retry: {{attempts: 0}}\n"
    ));
    eject(&proxy, held.upstream.address);
    until_state(&proxy, held.upstream.address, "probation");
    (held, good, proxy)
}

#[test]
fn one_request_tries_an_endpoint_and_its_success_brings_it_back() {
    let (held, _good, proxy) = held_scene();
    let asked = std::thread::scope(|scope| {
        // In turn, so that one of the two is the one that tries.
        let asking = || (0..2).map(|_| proxy.get("/").text()).collect::<Vec<_>>();
        let trying = scope.spawn(asking);
        let tried = until_state(&proxy, held.upstream.address, "tried");
        assert_eq!(
            (&tried["available"], &tried["in_flight"]),
            (&false.into(), &1.into())
        );

        // While it is on its way nobody else goes there.
        let others: Vec<String> = (0..30).map(|_| proxy.get("/").text()).collect();

        assert!(others.iter().all(|text| text == "ok"), "{others:?}");
        assert_eq!(held.upstream.requests(), 3);
        held.answer.send(200).unwrap();
        trying.join().unwrap()
    });

    assert!(asked.iter().any(|text| text == "held"), "{asked:?}");
    let seen = until_state(&proxy, held.upstream.address, "open");
    assert_eq!(
        (&seen["ejected"], &seen["failures"]),
        (&false.into(), &0.into())
    );
    for _ in 0..10 {
        held.answer.send(200).unwrap();
    }
    let texts: Vec<String> = (0..4).map(|_| proxy.get("/").text()).collect();
    assert_eq!(texts.iter().filter(|text| *text == "held").count(), 2);
    assert!(proxy.stderr().contains("endpoint takes requests again"));
}

#[test]
fn a_failed_try_ejects_for_longer() {
    let (held, _good, proxy) = held_scene();
    held.answer.send(503).unwrap();

    let seen = until("the failed try", || {
        proxy.get("/");
        let seen = seen(&proxy, held.upstream.address);
        (seen["ejected_by"] == "probation").then_some(seen)
    });

    assert_eq!(
        (&seen["ejections"], &seen["next_ejection_ms"]),
        (&2.into(), &400.0.into())
    );
    let metric = "windrose_endpoint_ejections_total";
    assert_eq!(proxy.metric(metric, &["reason=\"probation\""]), 1.0);
    held.answer.send(200).unwrap();
    until("it is back", || {
        proxy.get("/");
        (self::seen(&proxy, held.upstream.address)["state"] == "open").then_some(())
    });
    assert_eq!(held.upstream.requests(), 4);
}

#[test]
fn a_client_that_goes_away_gives_the_try_to_the_next() {
    let (held, _good, proxy) = held_scene();
    let mut leaving = until("a request that tries", || {
        let mut conn = proxy.connect();
        conn.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        let is_tried = || {
            let seen = seen(&proxy, held.upstream.address);
            (seen["state"] == "tried").then_some(())
        };
        // The other one answers at once.
        conn.stream
            .set_read_timeout(Some(std::time::Duration::from_millis(200)))
            .unwrap();
        match conn.head() {
            Ok(_) => None,
            Err(_) => is_tried().map(|()| conn),
        }
    });

    leaving.stream.flush().unwrap();
    drop(leaving);

    until_state(&proxy, held.upstream.address, "probation");
    assert_eq!(held.upstream.requests(), 3);
}

#[test]
fn a_status_of_grpc_in_trailers_ejects_and_one_call_tries() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (bad, good) = (Grpc::start(), Grpc::start());
    // Neither counts: the caller's lack of rights, and an error of the service's own.
    for status in [7, 2] {
        bad.set_status(status);
        let proxy = grpc_proxy(&bad, &good, "consecutive_failures: 2, consecutive_5xx: 2");
        runtime.block_on(calls(&proxy, 20));
        assert_eq!(seen(&proxy, bad.address)["state"], "open", "{status}");
    }
    bad.set_status(13);
    let counted = grpc_proxy(&bad, &good, "consecutive_failures: 2, consecutive_5xx: 2");
    runtime.block_on(calls(&counted, 10));
    assert_eq!(seen(&counted, bad.address)["ejected_by"], "consecutive_5xx");
    bad.set_status(14);
    let long = grpc_proxy(&bad, &good, "consecutive_failures: 2, base_time: 60s");
    let before = bad.calls();
    runtime.block_on(calls(&long, 10));
    assert_eq!(
        seen(&long, bad.address)["ejected_by"],
        "consecutive_failures"
    );
    assert_eq!(bad.calls() - before, 2);

    let short = grpc_proxy(&bad, &good, "consecutive_failures: 2, base_time: 100ms");
    runtime.block_on(calls(&short, 4));
    bad.set_status(0);
    until_state(&short, bad.address, "probation");
    let statuses = runtime.block_on(calls(&short, 4));

    assert_eq!(seen(&short, bad.address)["state"], "open");
    assert_eq!(statuses, ["0"; 4]);
}

fn grpc_proxy(bad: &Grpc, good: &Grpc, ejection: &str) -> Proxy {
    Proxy::http(&format!(
        "pools:\n- name: app\n  protocol: http2\n  endpoints: ['{}', '{}']\n  balance: {{algorithm: round_robin}}\n  ejection: {{jitter: 0%, {ejection}}}\n{ALL_TO_APP}    retry: {{attempts: 0}}\n",
        bad.address, good.address
    ))
}

/// Calls one after the other; their statuses.
async fn calls(proxy: &Proxy, count: usize) -> Vec<String> {
    let client = Client::connect(proxy.address("web")).await;
    let mut statuses = Vec::new();
    for _ in 0..count {
        let whole = client.ask(call("unary"), frame("hi")).await.unwrap();
        statuses.push(whole.field("grpc-status").unwrap_or("none").to_owned());
    }
    statuses
}

#[test]
fn connections_of_bytes_that_cannot_be_made_eject() {
    let (dead, live) = (Upstream::refusing(), Echo::start());
    let proxy = Proxy::start(&format!(
        "listeners:\n- {{name: raw, bind: '127.0.0.1:0', protocol: tcp}}\npools:\n- {{name: app, protocol: tcp, endpoints: ['{}', '{}'], balance: {{algorithm: round_robin}}, ejection: {{consecutive_failures: 2, base_time: 60s}}}}\nroutes:\n- {{name: all, protocol: tcp, rules: [{{pool: app}}]}}\n",
        dead.address, live.address
    ));

    let seen = until("it is ejected", || {
        let mut conn = Conn::open(proxy.address("raw"));
        assert_eq!(conn.send("hello").exactly(5).unwrap(), b"hello");
        let seen = seen(&proxy, dead.address);
        (seen["ejected"] == true).then_some(seen)
    });

    assert_eq!(seen["ejected_by"], "consecutive_failures");
    assert_eq!(self::seen(&proxy, live.address)["failures"], 0);
}

#[test]
fn shares_are_compared_every_interval() {
    let (bad, good) = (
        Upstream::statuses(&[500]),
        [(); 4].map(|()| Upstream::answering("ok")),
    );
    let all: Vec<&Upstream> = std::iter::once(&bad).chain(&good).collect();
    let kinds = [
        (
            "success_rate",
            "success_rate: {minimum_requests: 3, deviations: 1.5}",
        ),
        (
            "failure_percentage",
            "failure_percentage: {minimum_requests: 3}",
        ),
    ];
    for (name, settings) in kinds {
        let proxy = with(&all, &format!("interval: 1s, base_time: 60s, {settings}"));

        let seen = until("the end of an interval", || {
            (0..25).for_each(|_| drop(proxy.get("/")));
            let seen = seen(&proxy, bad.address);
            (seen["ejected"] == true).then_some(seen)
        });

        assert_eq!(seen["ejected_by"], name);
        assert!(seen["interval"]["requests"].is_number(), "{seen}");
        let marks = [&*format!("reason=\"{name}\"")];
        assert_eq!(
            proxy.metric("windrose_endpoint_ejections_total", &marks),
            1.0
        );
    }
}

#[test]
fn a_passed_health_check_ends_an_ejection_unless_it_may_not() {
    let half = || {
        Upstream::with(|seen, stream| {
            let status = if seen.target == "/health" { 200 } else { 503 };
            answer(stream, status, &[], b"")
        })
    };
    let (bad, good) = (half(), Upstream::answering("ok"));
    let health = "  health: {http: {path: /health}, interval: 500ms, timeout: 500ms}\n";
    let ends = with_more(
        &[&bad, &good],
        "consecutive_failures: 2, base_time: 60s",
        health,
    );
    let stays = with_more(
        &[&bad, &good],
        "consecutive_failures: 2, base_time: 60s, ended_by_health: false",
        health,
    );

    eject(&stays, bad.address);
    until("an ejection and its end", || {
        ends.get("/");
        ends.stderr()
            .contains("endpoint takes requests again")
            .then_some(())
    });

    let checks = || {
        stays.metric(
            "windrose_endpoint_checks_total",
            &["ok", &*bad.address.to_string()],
        )
    };
    let before = checks();
    until("further checks", || {
        (checks() >= before + 3.0).then_some(())
    });
    assert_eq!(seen(&stays, bad.address)["state"], "ejected");
}

#[test]
fn an_explanation_says_what_an_endpoint_is_out_for() {
    let (bad, good) = (Upstream::statuses(&[503]), Upstream::answering("ok"));
    let proxy = with(&[&bad, &good], "consecutive_failures: 2, base_time: 60s");
    eject(&proxy, bad.address);

    let config = proxy.config();
    let config = config.to_str().unwrap();
    let told = run(&["explain", "--live", "GET", "http://test/", "-c", config]).stdout;

    let told = String::from_utf8(told).unwrap();
    assert!(
        told.contains("ejected after failed requests (consecutive_failures), "),
        "{told}"
    );
}
