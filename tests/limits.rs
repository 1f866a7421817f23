//! Pools that are full: who waits, who is refused, and who goes elsewhere.
//! It must not know how places are counted.
//! Part of the test binary.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::support::client::{Conn, Reply};
use crate::support::grpc::{call, Client};
use crate::support::proxy::{pool, run, ALL_TO_APP};
use crate::support::upstream::answer;
use crate::support::wait::pause;
use crate::support::{until, Proxy, Upstream};

/// A service that answers when told to, one request at a time.
struct Held {
    upstream: Upstream,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    passes: Mutex<usize>,
    more: Condvar,
}

impl Gate {
    fn open(&self, passes: usize) {
        let mut now = self.passes.lock().unwrap();
        *now = now.saturating_add(passes);
        self.more.notify_all();
    }

    fn pass(&self) {
        let passes = self.passes.lock().unwrap();
        let mut passes = self.more.wait_while(passes, |passes| *passes == 0).unwrap();
        *passes -= 1;
    }
}

impl Held {
    fn new() -> Held {
        let gate = Arc::<Gate>::default();
        let told = gate.clone();
        let upstream = Upstream::with(move |_, stream| {
            told.pass();
            answer(stream, 200, &[], b"done")
        });
        Held { upstream, gate }
    }

    /// Lets one request more be answered.
    fn answer(&self) {
        self.gate.open(1);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gate.open(1 << 40);
    }
}

fn proxy(upstreams: &[&Upstream], limits: &str) -> Proxy {
    let pool = pool("app", upstreams);
    Proxy::http(&format!("{pool}  limits: {limits}\n{ALL_TO_APP}"))
}

/// A request that is on its way.
fn begin(proxy: &Proxy, target: &str) -> Conn {
    let mut conn = proxy.connect();
    conn.send(format!("GET {target} HTTP/1.1\r\nhost: test\r\n\r\n"));
    conn
}

fn end(conn: &mut Conn) -> (u16, String) {
    let reply = conn.reply().expect("a reply");
    (reply.status, reply.why())
}

fn limits(proxy: &Proxy) -> Value {
    proxy.pool("app")["limits"].clone()
}

/// Waits until so many are under way and wait.
fn until_load(proxy: &Proxy, in_flight: u64, waiting: u64) {
    until("the pool's load", || {
        let now = limits(proxy);
        (now["in_flight"] == in_flight && now["waiting"] == waiting).then_some(())
    });
}

fn refused(reply: &Reply, why: &str) {
    assert_eq!((reply.status, &*reply.why()), (503, why));
    assert_eq!(reply.header("retry-after"), Some("1"));
}

const WENT_ON: (u16, &str) = (200, "");

fn as_told((status, why): &(u16, String)) -> (u16, &str) {
    (*status, why)
}

#[test]
fn a_full_pool_refuses_and_the_connection_lives_on() {
    let held = Held::new();
    let proxy = proxy(&[&held.upstream], "{requests: 1}");
    let mut first = begin(&proxy, "/");
    until_load(&proxy, 1, 0);

    let mut conn = proxy.connect();
    let reply = conn.ask("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    refused(&reply, "pool_overloaded");

    held.answer();
    assert_eq!(as_told(&end(&mut first)), WENT_ON);
    until_load(&proxy, 0, 0);
    held.answer();
    let reply = conn.ask("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(reply.status, 200);
    let rejected = proxy.metric("windrose_pool_rejected_total", &["pool_overloaded"]);
    assert_eq!(rejected, 1.0);
    assert_eq!(held.upstream.requests(), 2);
}

#[test]
fn who_waits_goes_on_when_a_place_is_free() {
    let held = Held::new();
    let proxy = proxy(
        &[&held.upstream],
        "{connections: 1, pending: 1, queue_timeout: 1m}",
    );
    let mut first = begin(&proxy, "/");
    until_load(&proxy, 1, 0);
    let mut second = begin(&proxy, "/");
    until_load(&proxy, 1, 1);

    refused(&proxy.get("/"), "pool_overloaded");
    until("the first has come", || {
        (held.upstream.requests() == 1).then_some(())
    });

    held.answer();
    assert_eq!(as_told(&end(&mut first)), WENT_ON);
    until_load(&proxy, 1, 0);
    held.answer();
    assert_eq!(as_told(&end(&mut second)), WENT_ON);
    let waits = proxy.metric("windrose_pool_queue_duration_seconds_count", &["app"]);
    assert_eq!(waits, 1.0);
}

#[test]
fn who_waits_too_long_gets_503() {
    let held = Held::new();
    let proxy = proxy(
        &[&held.upstream],
        "{requests: 1, pending: 5, queue_timeout: 50ms}",
    );
    let _first = begin(&proxy, "/");
    until_load(&proxy, 1, 0);

    let reply = proxy.get("/");

    refused(&reply, "queue_timeout");
    until_load(&proxy, 1, 0);
    let line = proxy.logged(|line| line["status"] == 503);
    assert_eq!(
        (&line["why"], &line["attempts"]),
        (&"queue_timeout".into(), &0.into())
    );
}

#[test]
fn the_time_of_the_whole_request_ends_its_waiting() {
    let held = Held::new();
    let pool = pool("app", &[&held.upstream]);
    let proxy = Proxy::http(&format!(
        "{pool}  limits: {{requests: 1, pending: 5, queue_timeout: 1m}}\n{ALL_TO_APP}  - match: [{{path: {{exact: /short}}}}]\n    pool: app\n    timeouts: {{request: 50ms}}\n"
    ));
    let _first = begin(&proxy, "/");
    until_load(&proxy, 1, 0);

    let reply = proxy.get("/short");

    assert_eq!((reply.status, &*reply.why()), (504, "deadline_exceeded"));
}

#[test]
fn a_client_that_leaves_the_queue_makes_room() {
    let held = Held::new();
    let proxy = proxy(
        &[&held.upstream],
        "{requests: 1, pending: 1, queue_timeout: 1m}",
    );
    let _first = begin(&proxy, "/");
    until_load(&proxy, 1, 0);
    let second = begin(&proxy, "/");
    until_load(&proxy, 1, 1);
    let mut third = proxy.connect();

    drop(second);
    until_load(&proxy, 1, 0);
    // With a body that nobody has read yet, its leaving is seen as well.
    third.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\n\r\nbody");
    until_load(&proxy, 1, 1);
    drop(third);
    until_load(&proxy, 1, 0);

    assert_eq!(held.upstream.requests(), 1);
    proxy.logged(|line| line["why"] == "client_closed");
}

#[test]
fn full_endpoints_are_passed_over_while_others_have_room() {
    let (busy, free) = (Held::new(), Held::new());
    let proxy = proxy(
        &[&busy.upstream, &free.upstream],
        "{endpoint_requests: 1, pending: 1, queue_timeout: 1m}",
    );
    let mut under_way = vec![begin(&proxy, "/"), begin(&proxy, "/")];
    until_load(&proxy, 2, 0);
    until("both have one", || {
        let seen = (busy.upstream.requests(), free.upstream.requests());
        (seen == (1, 1)).then_some(())
    });

    under_way.push(begin(&proxy, "/"));
    until_load(&proxy, 2, 1);
    refused(&proxy.get("/"), "pool_overloaded");
    free.answer();
    until("the one that waited went where room is", || {
        (free.upstream.requests() == 2).then_some(())
    });

    busy.answer();
    free.answer();
    for mut one in under_way {
        assert_eq!(as_told(&end(&mut one)), WENT_ON);
    }
    until_load(&proxy, 0, 0);
}

#[test]
fn a_reload_changes_the_bounds_of_what_runs() {
    let held = Held::new();
    let pool = pool("app", &[&held.upstream]);
    let yaml = |limits: &str| {
        format!(
            "{}{pool}  limits: {limits}\n{ALL_TO_APP}",
            crate::support::proxy::WEB
        )
    };
    let proxy = Proxy::start(&yaml("{requests: 1, pending: 5, queue_timeout: 1m}"));
    let mut under_way = vec![begin(&proxy, "/")];
    until_load(&proxy, 1, 0);
    under_way.extend([begin(&proxy, "/"), begin(&proxy, "/")]);
    until_load(&proxy, 1, 2);

    proxy.reload(&yaml("{requests: 2, pending: 5, queue_timeout: 1m}"));
    until_load(&proxy, 2, 1);
    proxy.reload(&yaml("{requests: 1, pending: 5, queue_timeout: 1m}"));
    held.answer();
    until_load(&proxy, 1, 1);

    held.answer();
    held.answer();
    for mut one in under_way {
        assert_eq!(as_told(&end(&mut one)), WENT_ON);
    }
}

#[test]
fn connections_of_bytes_wait_for_their_place() {
    let held = Held::new();
    let address = held.upstream.address;
    let proxy = Proxy::start(&format!(
        "listeners:\n- {{name: web, bind: '127.0.0.1:0', protocol: tcp}}\npools:\n- name: app\n  protocol: tcp\n  endpoints: ['{address}']\n  limits: {{connections: 1, pending: 1, queue_timeout: 1m}}\nroutes:\n- {{name: all, protocol: tcp, rules: [{{pool: app}}]}}\n"
    ));
    let mut first = begin(&proxy, "/");
    until_load(&proxy, 1, 0);
    let mut second = begin(&proxy, "/");
    until_load(&proxy, 1, 1);
    let mut third = proxy.connect();
    let _ = third.stream.write_all(b"GET / HTTP/1.1\r\n\r\n");
    assert!(third.ends());
    proxy.logged(|line| line["why"] == "pool_overloaded");

    held.answer();
    assert_eq!(as_told(&end(&mut first)), WENT_ON);
    drop(first);
    until_load(&proxy, 1, 0);
    held.answer();

    assert_eq!(as_told(&end(&mut second)), WENT_ON);
}

#[test]
fn a_higher_class_goes_first_and_takes_the_place_of_a_lower_one() {
    let held = Held::new();
    let pool = pool("app", &[&held.upstream]);
    let proxy = Proxy::http(&format!(
        "{pool}  limits: {{requests: 1, pending: 2, queue_timeout: 1m}}\nroutes:\n- name: all\n  priority: low\n  rules:\n  - pool: app\n  - {{match: [{{path: {{exact: /high}}}}], pool: app, priority: high}}\n"
    ));
    let mut first = begin(&proxy, "/");
    until_load(&proxy, 1, 0);
    let mut early = begin(&proxy, "/early");
    until_load(&proxy, 1, 1);
    let mut late = begin(&proxy, "/late");
    until_load(&proxy, 1, 2);

    let mut high = begin(&proxy, "/high");
    assert_eq!(as_told(&end(&mut late)), (503, "pool_overloaded"));
    until_load(&proxy, 1, 2);
    let mut order = Vec::new();
    for done in [&mut first, &mut high, &mut early] {
        let before = held.upstream.requests();
        order.push(held.upstream.last().target);
        held.answer();
        assert_eq!(as_told(&end(done)), WENT_ON);
        until("the next one arrived", || {
            (before == 3 || held.upstream.requests() > before).then_some(())
        });
    }

    assert_eq!(order, ["/", "/high", "/early"]);
}

#[test]
fn retries_over_their_limit_are_not_made() {
    let (dead, live) = (Upstream::refusing(), Upstream::answering("hello"));
    let pool = pool("app", &[&dead, &live]);
    let proxy = Proxy::http(&format!(
        "{pool}  balance: {{algorithm: round_robin}}\n  ejection: {{consecutive_failures: 0}}\n  limits: {{retries: 0}}\n{ALL_TO_APP}"
    ));
    let available = || {
        let left = proxy.pool("app")["retry_budget"]["available"].clone();
        left.as_u64().expect("a number")
    };
    let before = available();

    let replies = [(); 4].map(|()| proxy.get("/"));

    assert!(available() >= before, "nothing was spent");
    let failed = replies.iter().filter(|reply| reply.status == 502);
    let failed: Vec<String> = failed.map(Reply::why).collect();
    assert_eq!(failed, ["connect_refused", "connect_refused"]);
    let rejected = proxy.metric("windrose_pool_rejected_total", &["retries"]);
    let made = proxy.metric("windrose_request_retries_total", &[]);
    assert_eq!((rejected, made), (2.0, 0.0));
    // The answer is out a moment before its place is free.
    let given_back = || (limits(&proxy)["in_flight"] == 0).then_some(());
    until("places given back", given_back);
}

// With threads, because looking at the load blocks one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_reset_gives_back_its_place() {
    let held = Held::new();
    let proxy = proxy(
        &[&held.upstream],
        "{requests: 1, pending: 1, queue_timeout: 1m}",
    );
    let client = Client::connect(proxy.address("web")).await;
    let (_reply, mut first) = client.open(call("unary")).await.unwrap();
    first.send_data("whole".into(), true).unwrap();
    until_load(&proxy, 1, 0);
    let (_reply, mut second) = client.open(call("unary")).await.unwrap();
    until_load(&proxy, 1, 1);

    second.send_reset(h2::Reason::CANCEL);
    until_load(&proxy, 1, 0);
    first.send_reset(h2::Reason::CANCEL);

    until_load(&proxy, 0, 0);
}

#[test]
fn an_adaptive_limit_falls_while_answers_are_slow() {
    let slow = Arc::<AtomicBool>::default();
    let told = slow.clone();
    let upstream = Upstream::with(move |_, stream| {
        if told.load(SeqCst) {
            pause(Duration::from_millis(400));
        }
        answer(stream, 200, &[], b"done")
    });
    let proxy = proxy(
        &[&upstream],
        "{adaptive: {min: 1, window: 10ms, measure_every: 1h, measure_requests: 10}}",
    );
    let limit = |proxy: &Proxy| limits(proxy)["adaptive"]["limit"].as_u64().unwrap();
    until("quick answers are known", || {
        assert_eq!(proxy.get("/").status, 200);
        limits(&proxy)["adaptive"]["min_rtt_ms"].as_f64()
    });
    let before = limit(&proxy);
    assert!(before >= 100, "{before}");

    slow.store(true, SeqCst);
    until("the limit fell", || {
        let mut all = [(); 12].map(|()| begin(&proxy, "/"));
        all.iter_mut().for_each(|one| drop(end(one)));
        (limit(&proxy) < before / 2).then_some(())
    });

    until("the gauge shows it", || {
        let shown = proxy.metric("windrose_pool_limit_requests", &["app"]);
        (shown >= 1.0 && shown < before as f64 / 2.0).then_some(())
    });
}

#[test]
fn an_adaptive_limit_learns_nothing_from_refusals() {
    let refuses = Arc::new(AtomicBool::new(true));
    let told = refuses.clone();
    let upstream = Upstream::with(move |_, stream| {
        let status = if told.load(SeqCst) { 404 } else { 200 };
        answer(stream, status, &[], b"")
    });
    let settings = "{adaptive: {window: 10ms, measure_every: 1h, measure_requests: 10}}";
    let proxy = proxy(&[&upstream], settings);
    let reference = || limits(&proxy)["adaptive"]["min_rtt_ms"].as_f64();

    (0..30).for_each(|_| assert_eq!(proxy.get("/").status, 404));
    assert_eq!(reference(), None);

    refuses.store(false, SeqCst);
    until("answers teach it", || {
        assert_eq!(proxy.get("/").status, 200);
        reference()
    });
}

#[test]
fn gauges_of_a_pool_without_limits_any_more_tell_so() {
    let held = Held::new();
    let proxy = proxy(&[&held.upstream], "{requests: 1}");
    let mut first = begin(&proxy, "/");
    let gauges = |proxy: &Proxy| {
        let limited = proxy.metric("windrose_pool_limited_requests", &["app"]);
        (
            limited,
            proxy.metric("windrose_pool_limit_requests", &["app"]),
        )
    };
    until("they show limits", || {
        (gauges(&proxy) == (1.0, 1.0)).then_some(())
    });

    let pool = pool("app", &[&held.upstream]);
    proxy.reload(&format!("{}{pool}{ALL_TO_APP}", crate::support::proxy::WEB));
    held.answer();
    assert_eq!(as_told(&end(&mut first)), WENT_ON);

    until("they show none", || {
        (gauges(&proxy) == (0.0, -1.0)).then_some(())
    });
}

#[test]
fn explanations_tell_what_one_more_request_would_meet() {
    let held = Held::new();
    let proxy = proxy(
        &[&held.upstream],
        "{requests: 1, pending: 1, queue_timeout: 1m}",
    );
    let config = proxy.config();
    let ask = || {
        let config = config.to_str().unwrap();
        let told = run(&["explain", "--live", "GET", "http://test/", "-c", config]);
        String::from_utf8(told.stdout).unwrap()
    };

    let free = ask();
    let _first = begin(&proxy, "/");
    until_load(&proxy, 1, 0);
    let waits = ask();
    let _second = begin(&proxy, "/");
    until_load(&proxy, 1, 1);
    let refused = ask();

    assert!(
        free.contains("limits: at most 1 under way; 1 may wait, each 60 s"),
        "{free}"
    );
    assert!(
        free.contains("0 of 1 under way, 0 waiting: a place is free"),
        "{free}"
    );
    assert!(
        waits.contains("1 of 1 under way, 0 waiting: one more would wait"),
        "{waits}"
    );
    assert!(
        refused.contains("one more would be refused with pool_overloaded"),
        "{refused}"
    );
}
