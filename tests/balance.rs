//! How endpoints are chosen, with real ones: priorities, zones, sessions, slow start, bounded load.
//! It must not test the laws of algorithms; the unit tests of `snapshot::balance` do, with a clock of their own.
//! Part of the test binary.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::Arc;

use serde_json::Value;

use crate::support::client::{Conn, Reply};
use crate::support::grpc::{call, frame, Client, Grpc};
use crate::support::proxy::{run, WEB};
use crate::support::upstream::answer;
use crate::support::wait::until;
use crate::support::{Proxy, Upstream};

const TO_APP: &str = "  - pool: app\n";

/// An endpoint as it is written: its service and further keys.
pub(crate) type Written<'a> = (&'a Upstream, &'a str);

/// A plain listener, the pool `app` with these endpoints, and these rules.
pub(crate) fn yaml(endpoints: &[Written<'_>], balance: &str, rules: &str) -> String {
    let mut text = format!("{WEB}pools:\n- name: app\n  balance: {{{balance}}}\n  endpoints:\n");
    for (upstream, keys) in endpoints {
        let _ = writeln!(text, "  - {{address: '{}', {keys}}}", upstream.address);
    }
    let _ = write!(text, "routes:\n- name: all\n  rules:\n{rules}");
    text
}

/// What answers to so many requests, each on a connection of its own.
pub(crate) fn answers(proxy: &Proxy, count: usize) -> Vec<String> {
    (0..count).map(|_| proxy.get("/").text()).collect()
}

/// A service with a health path that can be made to fail.
fn switched(text: &str) -> (Upstream, Arc<AtomicBool>) {
    let is_up = Arc::new(AtomicBool::new(true));
    let (seen_up, text) = (is_up.clone(), text.to_owned());
    let service = Upstream::with(move |seen, stream| {
        let status = match seen.target == "/health" && !seen_up.load(SeqCst) {
            true => 500,
            false => 200,
        };
        answer(stream, status, &[], text.as_bytes())
    });
    (service, is_up)
}

/// With a health check that notices at once.
fn checked(endpoints: &[Written<'_>], balance: &str) -> Proxy {
    let text = yaml(endpoints, balance, TO_APP);
    let health = "  health: {http: {path: /health}, interval: 1s, timeout: 1s, rise: 1, fall: 1}\n  endpoints:\n";
    Proxy::start(&text.replacen("  endpoints:\n", health, 1))
}

/// Waits until a level of the pool has such a part of the traffic.
fn share_is(proxy: &Proxy, level: usize, percent: f64) {
    until(&format!("{percent} % for level {level}"), || {
        let share = proxy.pool("app")["levels"][level]["share_percent"].as_f64();
        (share == Some(percent)).then_some(())
    });
}

#[test]
fn priorities_fail_over_and_back() {
    let (main, is_up) = switched("main");
    let backup = Upstream::answering("backup");
    let proxy = checked(&[(&main, "priority: 0"), (&backup, "priority: 1")], "");
    share_is(&proxy, 0, 100.0);

    let before = answers(&proxy, 5);
    is_up.store(false, SeqCst);
    share_is(&proxy, 1, 100.0);
    let without = answers(&proxy, 5);
    is_up.store(true, SeqCst);
    share_is(&proxy, 0, 100.0);
    let after = answers(&proxy, 5);

    assert_eq!(before, ["main"; 5]);
    assert_eq!(without, ["backup"; 5]);
    assert_eq!(after, ["main"; 5]);
}

#[test]
fn the_own_zone_is_preferred_and_the_named_one_is_next() {
    let (own, is_up) = switched("a");
    let (next, other) = (Upstream::answering("b"), Upstream::answering("c"));
    let endpoints = [
        (&other, "labels: {zone: c}"),
        (&next, "labels: {zone: b}"),
        (&own, "labels: {zone: a}"),
    ];
    let proxy = checked(&endpoints, "zone: {own: a, failover: [b]}");
    share_is(&proxy, 0, 100.0);

    let local = answers(&proxy, 5);
    is_up.store(false, SeqCst);
    share_is(&proxy, 1, 100.0);
    let away = answers(&proxy, 5);

    assert_eq!(local, ["a"; 5]);
    assert_eq!(away, ["b"; 5]);
    let attempts = |zone: &str| {
        let mark = format!("zone=\"{zone}\"");
        proxy.metric("windrose_pool_zone_attempts_total", &[&mark])
    };
    assert_eq!((attempts("local"), attempts("other")), (5.0, 5.0));
    let levels = proxy.pool("app")["levels"].clone();
    let zones: Vec<&str> = (0..3)
        .filter_map(|at| levels[at]["zone"].as_str())
        .collect();
    assert_eq!(zones, ["a", "b", "other"]);
}

/// The cookie as the client sends it back, from the reply that sets it.
fn set_cookie(reply: &Reply) -> Option<String> {
    let cookie = reply.header("set-cookie")?;
    let pair = cookie.split(';').next()?;
    Some(format!("cookie: other=1; {pair}\r\n"))
}

const COOKIE: &str = "algorithm: round_robin, affinity: {cookie: {name: sid, ttl: 1h}}";

#[test]
fn a_cookie_keeps_a_client_at_its_endpoint_across_reloads_and_new_endpoints() {
    let services = ["0", "1", "2", "3"].map(Upstream::answering);
    let pool = |weights: &[u32]| {
        let keys: Vec<String> = weights
            .iter()
            .map(|weight| format!("weight: {weight}"))
            .collect();
        let all: Vec<Written<'_>> = services
            .iter()
            .zip(&keys)
            .map(|(one, keys)| (one, &**keys))
            .collect();
        yaml(&all, COOKIE, TO_APP)
    };
    let proxy = Proxy::start(&pool(&[1, 1]));

    let first = proxy.get("/");
    let (own, cookie) = (first.text(), set_cookie(&first).expect("a cookie"));
    let ask = || {
        let reply = proxy.ask("GET", "/", &cookie);
        (reply.text(), reply.header("set-cookie").map(str::to_owned))
    };
    let stays: Vec<_> = (0..6).map(|_| ask()).collect();
    proxy.reload(&pool(&[1, 1, 1, 1]));
    let with_more: Vec<_> = (0..6).map(|_| ask()).collect();
    // The own endpoint drains: nobody new comes, who is there stays.
    let mut weights = [1, 1, 1, 1];
    weights[own.parse::<usize>().unwrap()] = 0;
    proxy.reload(&pool(&weights));
    let draining: Vec<_> = (0..6).map(|_| ask()).collect();
    let strangers = answers(&proxy, 12);

    let kept = vec![(own.clone(), None); 6];
    assert_eq!((&stays, &with_more, &draining), (&kept, &kept, &kept));
    assert!(!strangers.contains(&own), "{strangers:?}");
    let text = first.header("set-cookie").unwrap();
    assert!(
        text.ends_with("; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax"),
        "{text}"
    );
    assert!(!text.contains("127.0.0.1"), "{text}");
    let kept = ["result=\"kept\""];
    assert_eq!(proxy.metric("windrose_pool_sessions_total", &kept), 18.0);
}

#[test]
fn the_same_cookie_names_the_same_endpoint_in_another_process() {
    let services = ["0", "1", "2"].map(Upstream::answering);
    let all: Vec<Written<'_>> = services.iter().map(|one| (one, "weight: 1")).collect();
    let turned = [all[2], all[0], all[1]];
    let (one, other) = (
        Proxy::start(&yaml(&all, COOKIE, TO_APP)),
        Proxy::start(&yaml(&turned, COOKIE, TO_APP)),
    );
    let first = one.get("/");
    let cookie = set_cookie(&first).unwrap();

    let there: Vec<String> = (0..5)
        .map(|_| other.ask("GET", "/", &cookie).text())
        .collect();

    assert_eq!(there, vec![first.text(); 5]);
}

#[test]
fn a_client_whose_endpoint_is_gone_gets_another_and_a_new_cookie() {
    let (stays, goes) = (Upstream::answering("stays"), Upstream::answering("goes"));
    let with = |one: &Upstream| yaml(&[(one, "weight: 1")], COOKIE, TO_APP);
    let proxy = Proxy::start(&with(&goes));
    let cookie = set_cookie(&proxy.get("/")).unwrap();

    proxy.reload(&with(&stays));
    let moved = proxy.ask("GET", "/", &cookie);
    let again = proxy.ask("GET", "/", &set_cookie(&moved).unwrap());
    let forged = proxy.ask("GET", "/", "cookie: sid=0123456789abcdef\r\n");

    assert_eq!(moved.text(), "stays");
    assert_eq!(
        (again.text(), again.header("set-cookie")),
        ("stays".into(), None)
    );
    assert!(set_cookie(&forged).is_some());
    let moved = ["result=\"moved\""];
    assert_eq!(proxy.metric("windrose_pool_sessions_total", &moved), 2.0);
}

#[test]
fn an_attempt_after_a_failure_leaves_the_endpoint_of_the_session() {
    let (mut own, other) = (
        Some(Upstream::answering("own")),
        Upstream::answering("other"),
    );
    let address = own.as_ref().unwrap().address;
    let pool = format!("{WEB}pools:\n- name: app\n  balance: {{{COOKIE}}}\n  endpoints: ['{address}', '{}']\nroutes:\n- name: all\n  rules:\n{TO_APP}", other.address);
    let proxy = Proxy::start(&pool);
    let cookie = until("a session at the first endpoint", || {
        let reply = proxy.get("/");
        (reply.text() == "own").then(|| set_cookie(&reply).unwrap())
    });

    drop(own.take());
    let moved = proxy.ask("GET", "/", &cookie);

    assert_eq!((moved.status, moved.text().as_str()), (200, "other"));
    assert!(set_cookie(&moved).is_some());
}

#[test]
fn a_field_keeps_a_client_at_its_endpoint_and_others_are_spread() {
    let services = ["0", "1", "2"].map(Upstream::answering);
    let all: Vec<Written<'_>> = services.iter().map(|one| (one, "weight: 1")).collect();
    let balance = "algorithm: round_robin, affinity: {header: x-user}";
    let proxy = Proxy::start(&yaml(&all, balance, TO_APP));
    let ask = |user: &str| proxy.ask("GET", "/", &format!("x-user: {user}\r\n"));

    let of = |user: &str| -> BTreeSet<String> { (0..6).map(|_| ask(user).text()).collect() };
    let users: Vec<BTreeSet<String>> = (0..12).map(|at| of(&format!("user-{at}"))).collect();
    let spread: BTreeSet<String> = answers(&proxy, 6).into_iter().collect();

    assert!(users.iter().all(|seen| seen.len() == 1), "{users:?}");
    assert!(users.iter().collect::<BTreeSet<_>>().len() > 1, "{users:?}");
    assert_eq!(spread.len(), 3);
}

#[test]
fn an_endpoint_that_joins_a_running_pool_starts_slowly() {
    let services = ["0", "1", "2"].map(Upstream::answering);
    let pool = |count: usize| {
        let all: Vec<Written<'_>> = services[..count]
            .iter()
            .map(|one| (one, "weight: 1"))
            .collect();
        yaml(&all, "algorithm: random, slow_start: 1h", TO_APP)
    };
    let proxy = Proxy::start(&pool(2));
    let percents = || -> Vec<Value> {
        let view = proxy.pool("app");
        let all = view["endpoints"].as_array().unwrap();
        all.iter()
            .map(|one| one["slow_start_percent"].clone())
            .collect()
    };

    let first = percents();
    proxy.reload(&pool(3));
    let seen = answers(&proxy, 210);
    let then = percents();

    assert_eq!(first, [Value::Null, Value::Null]);
    assert_eq!(then[..2], [Value::Null, Value::Null]);
    assert!(
        then[2].as_u64().is_some_and(|percent| percent < 20),
        "{then:?}"
    );
    // A tenth of its weight is 1 in 21; a third would be 70.
    let newcomer = seen.iter().filter(|text| **text == "2").count();
    assert!((1..30).contains(&newcomer), "{newcomer}");
}

#[test]
fn a_hot_key_goes_on_to_others_when_its_endpoint_is_loaded() {
    let waiting = [Upstream::silent(), Upstream::silent()];
    let start = |balance: &str| {
        let all: Vec<Written<'_>> = waiting.iter().map(|one| (one, "weight: 1")).collect();
        Proxy::start(&yaml(&all, balance, TO_APP))
    };
    let send = |proxy: &Proxy| -> Vec<Conn> {
        let before: usize = waiting.iter().map(Upstream::requests).sum();
        let sent = |at: usize| {
            let mut conn = proxy.connect();
            conn.send("GET / HTTP/1.1\r\nhost: test\r\nx-key: hot\r\n\r\n");
            // One after the other: each choice sees those before it.
            until("the request arrives", || {
                let now: usize = waiting.iter().map(Upstream::requests).sum();
                (now > before + at).then_some(())
            });
            conn
        };
        (0..6).map(sent).collect()
    };
    let counts = || [waiting[0].requests(), waiting[1].requests()];

    let free = start("algorithm: maglev, hash: {header: x-key}");
    let held = send(&free);
    let alone = counts();
    drop((held, free));
    let bounded = start("algorithm: maglev, hash: {header: x-key}, hash_balance_factor: 101");
    let held = send(&bounded);
    let both = counts();
    drop(held);

    assert!(alone.contains(&6) && alone.contains(&0), "{alone:?}");
    let more = [both[0] - alone[0], both[1] - alone[1]];
    assert!(more.iter().all(|count| (2..=4).contains(count)), "{more:?}");
}

#[tokio::test]
async fn streams_of_one_client_connection_go_to_a_new_endpoint_at_once() {
    let (old, new) = (Grpc::start(), Grpc::start());
    let pool = |addresses: &[SocketAddr]| {
        let list: Vec<String> = addresses.iter().map(|one| format!("'{one}'")).collect();
        format!("{WEB}pools:\n- name: app\n  protocol: http2\n  balance: {{algorithm: round_robin}}\n  endpoints: [{}]\nroutes:\n- name: all\n  rules:\n{TO_APP}", list.join(", "))
    };
    let proxy = Proxy::start(&pool(&[old.address]));
    let client = Client::connect(proxy.address("web")).await;
    let streams = |address: SocketAddr, kind: &str| {
        let marks = [
            format!("endpoint=\"{address}\""),
            format!("kind=\"{kind}\""),
        ];
        proxy.metric(
            "windrose_endpoint_connections_total",
            &[&marks[0], &marks[1]],
        )
    };
    let ask = async |before: usize| {
        client.ask(call("unary"), frame("x")).await.unwrap();
        // What is logged has put its connection away: the next request finds it.
        until("its line", || (proxy.log().len() > before).then_some(()));
    };
    for before in 0..6 {
        ask(before).await;
    }

    proxy.reload(&pool(&[old.address, new.address]));
    for before in 6..12 {
        ask(before).await;
    }

    assert_eq!(
        (streams(old.address, "new"), streams(old.address, "reused")),
        (1.0, 8.0)
    );
    assert_eq!(
        (streams(new.address, "new"), streams(new.address, "reused")),
        (1.0, 2.0)
    );
}

#[test]
fn an_explanation_tells_levels_zones_subset_session_and_shares() {
    let (own, other) = (Upstream::answering("a"), Upstream::answering("b"));
    let endpoints = [
        (&own, "labels: {zone: a, v: '1'}"),
        (&other, "labels: {zone: b, v: '1'}, priority: 1"),
    ];
    let balance = "zone: {own: a}, affinity: {cookie: {name: sid}}";
    let rules = "  - {pool: app, subset: {v: '1'}}\n";
    let proxy = Proxy::start(&yaml(&endpoints, balance, rules));
    let cookie = set_cookie(&proxy.get("/")).unwrap();
    let header = cookie
        .trim_end()
        .replacen("cookie: other=1; ", "cookie: ", 1);
    let config = proxy.config();
    let config = config.to_str().unwrap();

    let live = run(&[
        "explain",
        "--live",
        "GET",
        "http://test/",
        "-H",
        &header,
        "-c",
        config,
    ]);
    let dry = run(&["explain", "GET", "http://test/", "-c", config]);

    let (live, dry) = (
        String::from_utf8(live.stdout).unwrap(),
        String::from_utf8(dry.stdout).unwrap(),
    );
    for line in [
        "only endpoints with v: 1; fallback none".to_owned(),
        format!(
            "kept at their endpoint by cookie sid, which names {}",
            own.address
        ),
        "level priority 0, zone a: 100 % of the traffic, 1 of 1 available".to_owned(),
        "level priority 1, zone other: 0 % of the traffic, 1 of 1 available".to_owned(),
        format!("{}, zone a, 100 % now", own.address),
        format!("{}, priority 1, zone b, 0 % now", other.address),
    ] {
        assert!(live.contains(&line), "{line}\n{live}");
    }
    assert!(dry.contains("cookie sid, which the response sets"), "{dry}");
    assert!(
        dry.contains("level priority 1, zone other: 0 % of the traffic, 1 endpoints"),
        "{dry}"
    );
}
