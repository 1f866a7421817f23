//! Faults that are injected on purpose: whom they hit, and that nothing else suffers.
//! It must not know how the dice are rolled; the unit tests of `decide` do.
//! Part of the test binary.

use serde_json::Value;

use crate::support::grpc::Client;
use crate::support::proxy::pool;
use crate::support::{run, until, Proxy, Upstream};

/// A service whose route has this fault.
struct Scene {
    service: Upstream,
    proxy: Proxy,
}

impl Scene {
    fn new(fault: &str) -> Scene {
        let service = Upstream::echo();
        let proxy = Proxy::http(&yaml(&service, fault));
        Scene { service, proxy }
    }

    fn injected(&self, kind: &str) -> f64 {
        let kind = format!("kind=\"{kind}\"");
        self.proxy
            .metric("windrose_faults_injected_total", &[&kind])
    }
}

fn yaml(service: &Upstream, fault: &str) -> String {
    format!(
        "{}routes:\n- name: all\n  rules:\n  - pool: app\n    fault: {{{fault}}}\n",
        pool("app", &[service])
    )
}

#[test]
fn an_abort_has_its_cause_and_no_endpoint_is_blamed() {
    let scene = Scene::new("everyone: true, abort: {status: 503, percent: 100%}");

    let reply = scene.proxy.get("/a");

    assert_eq!((reply.status, &*reply.why()), (503, "fault_injected"));
    assert!(reply.header("retry-after").is_some());
    let line = scene.proxy.logged(|line| line["status"] == 503);
    assert_eq!(line["why"], "fault_injected");
    assert_eq!(line["blame"], "policy");
    assert_eq!(scene.service.connections(), 0);
    assert_eq!(scene.injected("abort"), 1.0);
    let attempts = scene.proxy.metric("windrose_pool_attempts_total", &[]);
    let none = scene.proxy.metric("windrose_pool_no_endpoint_total", &[]);
    assert_eq!((attempts, none), (0.0, 0.0));
}

#[test]
fn a_share_of_the_requests_is_hit() {
    let scene = Scene::new("everyone: true, abort: {status: 500, percent: 50%}");
    let mut conn = scene.proxy.connect();

    let aborted = (0..400)
        .filter(|_| conn.ask("GET / HTTP/1.1\r\nhost: test\r\n\r\n").status == 500)
        .count();

    // Eight standard deviations of a fair coin.
    assert!((120..=280).contains(&aborted), "{aborted}");
    assert_eq!(scene.injected("abort"), aborted as f64);
    assert_eq!(scene.service.requests(), 400 - aborted);
}

#[test]
fn only_those_whom_a_fault_is_for_are_hit() {
    let abort = "abort: {status: 500, percent: 100%}";
    for (guard, hit) in [
        ("when: {headers: {x-drill: 'on'}}", true),
        ("when: {headers: {x-drill: 'off'}}", false),
        ("clients: [127.0.0.0/8]", true),
        ("clients: [192.0.2.0/24]", false),
        ("principals: ['consumer:qa']", false),
        (
            "clients: [127.0.0.0/8], when: {headers: {x-other: {present: true}}}",
            false,
        ),
    ] {
        let scene = Scene::new(&format!("{abort}, {guard}"));

        let status = scene.proxy.ask("GET", "/", "x-drill: on\r\n").status;

        assert_eq!(status, if hit { 500 } else { 200 }, "{guard}");
    }
}

#[test]
fn a_delayed_request_waits_alone_and_its_client_may_leave() {
    let scene =
        Scene::new("delay: {time: 5m, percent: 100%}, when: {headers: {x-drill: {present: true}}}");
    let mut conn = scene.proxy.connect();

    conn.send("GET /slow HTTP/1.1\r\nhost: test\r\nx-drill: 1\r\n\r\n");
    until("the request is delayed", || {
        (scene.injected("delay") == 1.0).then_some(())
    });

    assert_eq!(scene.proxy.get("/quick").status, 200);
    assert_eq!(scene.service.requests(), 1);
    drop(conn);
    let line = scene.proxy.logged(|line| line["path"] == "/slow");
    assert_eq!(line["why"], "client_closed");
    assert_eq!(scene.service.requests(), 1);
}

/// A long delay for requests that have little time.
fn hasty() -> Scene {
    let service = Upstream::echo();
    let fault = "everyone: true, delay: {time: 5m, percent: 100%}";
    let hasty = format!(
        "{}    timeouts: {{request: 300ms}}\n",
        yaml(&service, fault)
    );
    let proxy = Proxy::http(&hasty);
    Scene { service, proxy }
}

#[test]
fn a_delay_ends_with_the_time_of_the_request() {
    let scene = hasty();

    let without = scene.proxy.get("/");
    let unread = scene
        .proxy
        .connect()
        .ask("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 3\r\n\r\n");

    for reply in [without, unread] {
        assert_eq!((reply.status, &*reply.why()), (504, "deadline_exceeded"));
    }
    assert_eq!(scene.injected("delay"), 2.0);
    assert_eq!(scene.service.connections(), 0);
}

#[tokio::test]
async fn a_delay_of_a_stream_ends_with_its_time() {
    let scene = hasty();
    let client = Client::connect(scene.proxy.address("web")).await;
    let request = http::Request::get("http://test/").body(()).unwrap();

    let reply = client.ask(request, "".into()).await.unwrap();

    assert_eq!(reply.head.status, 504);
    let line = scene.proxy.logged(|line| line["status"] == 504);
    assert_eq!(line["why"], "deadline_exceeded");
    assert_eq!(scene.service.connections(), 0);
}

#[test]
fn a_client_that_leaves_within_its_body_ends_the_delay() {
    let scene = Scene::new("everyone: true, delay: {time: 5m, percent: 100%}");
    let mut conn = scene.proxy.connect();

    conn.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\nabc");
    until("the request is delayed", || {
        (scene.injected("delay") == 1.0).then_some(())
    });
    drop(conn);

    let line = scene.proxy.logged(|line| line["path"] == "/");
    assert_eq!(line["why"], "client_closed");
    assert_eq!(scene.service.connections(), 0);
}

#[test]
fn after_its_delay_a_request_goes_on_or_is_aborted() {
    let delay = "everyone: true, delay: {time: 10ms, percent: 100%}";
    let passing = Scene::new(delay);
    let aborting = Scene::new(&format!("{delay}, abort: {{status: 418, percent: 100%}}"));

    let body = "content-length: 3\r\n\r\nabc";
    let request = format!("POST / HTTP/1.1\r\nhost: test\r\n{body}");
    let (passed, aborted) = (
        passing.proxy.connect().ask(&request),
        aborting.proxy.connect().ask(&request),
    );

    assert_eq!(
        (passed.status, &passed.json()["body"]),
        (200, &"abc".into())
    );
    assert_eq!((aborted.status, &*aborted.why()), (418, "fault_injected"));
    assert_eq!(aborting.injected("delay"), 1.0);
    assert_eq!(aborting.service.requests(), 0);
}

#[test]
fn an_abort_can_speak_grpc() {
    let scene = Scene::new("everyone: true, abort: {grpc_status: 14, percent: 100%}");

    let reply = scene
        .proxy
        .ask("POST", "/a.b/C", "content-type: application/grpc\r\n");

    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("grpc-status"), Some("14"));
    assert_eq!(reply.header("content-type"), Some("application/grpc"));
    until("the call is counted with its own status", || {
        let marks = ["grpc_status=\"14\""];
        let counted = scene.proxy.metric("windrose_grpc_responses_total", &marks);
        (counted == 1.0).then_some(())
    });
}

#[test]
fn those_who_may_can_ask_for_a_fault_and_strangers_cannot() {
    let own = Scene::new("by_header: true, clients: [127.0.0.0/8]");
    let foreign = Scene::new("by_header: true, clients: [192.0.2.0/24]");
    let abort = "x-windrose-fault-abort: 418\r\n";

    let asked = own.proxy.ask("GET", "/", abort);
    let nonsense = own.proxy.ask("GET", "/", "x-windrose-fault-abort: 42\r\n");
    let delayed = own
        .proxy
        .ask("GET", "/", "x-windrose-fault-delay: 10ms\r\n");
    let ignored = foreign.proxy.ask("GET", "/", abort);

    assert_eq!((asked.status, &*asked.why()), (418, "fault_injected"));
    assert_eq!(nonsense.status, 200);
    assert_eq!((delayed.status, own.injected("delay")), (200, 1.0));
    let seen = own.service.last();
    assert_eq!(
        seen.header("x-windrose-fault-delay"),
        None,
        "{:?}",
        seen.raw
    );
    assert_eq!(ignored.status, 200);
    let seen = foreign.service.last();
    assert_eq!(
        seen.header("x-windrose-fault-abort"),
        None,
        "{:?}",
        seen.raw
    );
}

#[test]
fn explain_tells_faults_with_their_chance_and_decides_what_is_certain() {
    let chance = Scene::new(
        "clients: [192.0.2.0/24], delay: {time: 2s, percent: 10%}, abort: {status: 503, percent: 0.5%}",
    );
    let certain = Scene::new("everyone: true, abort: {status: 503, percent: 100%}");
    let explained = |scene: &Scene, from: &str| -> Value {
        let config = scene.proxy.config();
        let config = config.to_str().unwrap();
        let words = ["explain", "--json", "-c", config, "--from", from];
        let output = run(&[&words[..], &["GET", "http://test/"]].concat());
        serde_json::from_slice(&output.stdout).expect("JSON")
    };

    let told = explained(&chance, "192.0.2.1");
    let spared = explained(&chance, "10.0.0.1");
    let aborted = explained(&certain, "10.0.0.1");

    assert_eq!(
        told["outcome"]["faults"],
        serde_json::json!([
            "delayed by 2s, chance 10 %",
            "aborted with 503, chance 0.5 %"
        ])
    );
    assert_eq!(told["outcome"]["pools"][0]["name"], "app");
    assert_eq!(spared["outcome"]["faults"], Value::Null);
    assert_eq!(aborted["outcome"]["cause"], "fault_injected");
    assert_eq!(certain.injected("abort"), 0.0);
    let rule = &chance.proxy.admin("/routes")["listeners"][0]["hosts"][0]["rules"][0];
    assert_eq!(rule["fault"][2], "for client 192.0.2.0/24");
}
