//! Stores that proxies share: a real Redis that counts for several of them, and goes away in every way it can.
//! It must not know the arithmetic of limits; the plugins' own tests do.
//! Part of the test binary.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::proxy::{pool, run, ALL_TO_APP, WEB};
use crate::support::redis::Redis;
use crate::support::{until, Authority, Proxy, Upstream};

/// A store, a service, and a limit on the only route.
fn config(url: &str, service: &Upstream, limit: &str) -> String {
    format!(
        "{WEB}redis: [{{name: shared, url: '{url}'}}]\n{}{ALL_TO_APP}  plugins: [{{kind: rate_limit, config: {{store: shared, name: shop, {limit}}}}}]\n",
        pool("app", &[service])
    )
}

fn url(redis: &Redis) -> String {
    format!("redis://127.0.0.1:{}/0", redis.port)
}

fn is_up(proxy: &Proxy) -> bool {
    proxy.metric("windrose_store_up", &["store=\"shared\""]) == 1.0
}

fn comes_up(proxy: &Proxy) {
    until("the store is connected", || is_up(proxy).then_some(()));
}

fn goes_down(proxy: &Proxy) {
    until("the store is lost", || (!is_up(proxy)).then_some(()));
}

fn failures(proxy: &Proxy, reason: &str) -> f64 {
    let reason = format!("reason=\"{reason}\"");
    proxy.metric(
        "windrose_store_failures_total",
        &["store=\"shared\"", &reason],
    )
}

/// Statuses of so many requests, and the longest time one took.
fn ask(proxy: &Proxy, requests: usize) -> (Vec<u16>, Duration) {
    let mut conn = proxy.connect();
    let mut longest = Duration::ZERO;
    let statuses = (0..requests).map(|_| {
        let begun = Instant::now();
        let reply = conn.ask("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
        longest = longest.max(begun.elapsed());
        reply.status
    });
    (statuses.collect(), longest)
}

fn admitted(statuses: &[u16]) -> usize {
    statuses.iter().filter(|status| **status == 200).count()
}

#[test]
fn proxies_count_together_by_either_algorithm() {
    let (redis, service) = (Redis::start(), Upstream::answering("ok"));
    for (limit, name) in [
        ("rate: 20, per: 1h", "t"),
        ("rate: 20, per: 30d, algorithm: sliding_window", "w"),
    ] {
        let proxies = [(); 2].map(|()| Proxy::start(&config(&url(&redis), &service, limit)));

        let statuses: Vec<u16> = (0..30)
            .flat_map(|at: usize| ask(&proxies[at % 2], 1).0)
            .collect();

        assert_eq!(admitted(&statuses), 20, "{limit}: {statuses:?}");
        let reply = proxies[0].get("/");
        assert_eq!((reply.status, &*reply.why()), (429, "rate_limited"));
        assert!(reply.header("retry-after").is_some());
        assert!(reply
            .header("ratelimit-policy")
            .unwrap()
            .starts_with("\"shop\";q=20;w="));
        assert_eq!(reply.header("x-ratelimit-remaining"), Some("0"));
        let keys = redis.ask(&["KEYS", &format!("windrose:rate_limit:{name}:shop:*")]);
        assert_eq!(keys.lines().count(), 1, "{keys}");
    }
}

#[test]
fn most_requests_of_a_busy_client_do_not_ask_the_store() {
    let (redis, service) = (Redis::start(), Upstream::answering("ok"));
    let proxy = Proxy::start(&config(&url(&redis), &service, "rate: 300, per: 1h"));

    let (statuses, _) = ask(&proxy, 500);

    assert_eq!(admitted(&statuses), 300);
    let asked = proxy.metric("windrose_store_commands_total", &[]);
    assert!(asked < 60.0, "{asked}");
    assert!(redis.ask(&["TTL", "windrose:none"]).starts_with(":-2"));
    let keys = redis.ask(&["KEYS", "*"]);
    let lives = redis.ask(&["PTTL", keys.trim()]);
    let lives: i64 = lives.trim_start_matches(':').trim().parse().unwrap();
    assert!(lives > 0, "keys end by themselves");
}

#[test]
fn a_killed_store_leads_to_what_was_declared_and_comes_back_by_itself() {
    let (mut redis, service) = (Redis::start(), Upstream::answering("ok"));
    let start = |mode: &str| {
        let limit = format!("rate: 5, per: 1h, batch: 1, on_store_failure: {mode}");
        let proxy = Proxy::start(&config(
            &url(&redis),
            &service,
            &limit.replace("shop", mode),
        ));
        comes_up(&proxy);
        proxy
    };
    let proxies = ["local", "open", "closed"].map(start);
    assert_eq!(admitted(&ask(&proxies[0], 3).0), 3);

    redis.kill();
    proxies.iter().for_each(goes_down);

    let [local, open, closed] = &proxies;
    let (statuses, longest) = ask(local, 20);
    assert_eq!((statuses[4], admitted(&statuses)), (200, 5), "{statuses:?}");
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    assert_eq!(admitted(&ask(open, 20).0), 20);
    let reply = closed.get("/");
    assert_eq!(
        (reply.status, &*reply.why()),
        (503, "rate_limit.store_unavailable")
    );
    closed.logged(|line| line["why"] == "rate_limit.store_unavailable");
    assert!(failures(closed, "unavailable") >= 1.0);
    let attention = closed.admin("/status")["attention"].to_string();
    assert!(
        attention.contains("store shared is not connected: "),
        "{attention}"
    );
    let shown = run(&["status", "-c", closed.config().to_str().unwrap()]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("not connected"), "{shown}");

    redis.start_again();
    proxies.iter().for_each(comes_up);
    // It is empty now, and counts for all three.
    let statuses: Vec<u16> = proxies.iter().flat_map(|proxy| ask(proxy, 10).0).collect();
    assert_eq!(admitted(&statuses), 5, "{statuses:?}");
    assert_eq!(closed.admin("/status")["stores"][0]["connected"], true);
}

#[test]
fn a_frozen_store_holds_few_requests_up_and_none_for_long() {
    let (redis, service) = (Redis::start(), Upstream::answering("ok"));
    let limit = "rate: 1000000, per: 1h, batch: 1, on_store_failure: closed";
    let proxy = Proxy::start(&config(&url(&redis), &service, limit));
    comes_up(&proxy);
    assert_eq!(admitted(&ask(&proxy, 5).0), 5);

    redis.freeze();
    let begun = Instant::now();
    let (statuses, longest) = ask(&proxy, 200);
    let took = begun.elapsed();

    assert_eq!(admitted(&statuses), 0);
    // 50 ms for each of the first three, and nothing for the others.
    assert_eq!(failures(&proxy, "timed_out"), 3.0);
    assert_eq!(failures(&proxy, "unavailable"), 197.0);
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    let problem = until("why it is not connected", || {
        let view = proxy.admin("/status");
        view["stores"][0]["problem"].as_str().map(str::to_owned)
    });
    assert!(
        problem.contains("no answer") || problem.contains("connect_timeout"),
        "{problem}"
    );

    redis.thaw();
    comes_up(&proxy);
    assert_eq!(admitted(&ask(&proxy, 5).0), 5);
}

#[test]
fn a_store_that_restarts_under_load_costs_no_request_with_the_local_fallback() {
    let (mut redis, service) = (Redis::start(), Upstream::answering("ok"));
    let proxy = Proxy::start(&config(
        &url(&redis),
        &service,
        "rate: 1000000, per: 1h, batch: 2",
    ));
    comes_up(&proxy);
    let address = proxy.address("web");
    let stop = std::sync::atomic::AtomicBool::new(false);

    let wrong = std::thread::scope(|scope| {
        let load = || {
            let mut conn = crate::support::Conn::open(address);
            let mut wrong = Vec::new();
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                let begun = Instant::now();
                let status = conn.ask("GET / HTTP/1.1\r\nhost: test\r\n\r\n").status;
                if status != 200 || begun.elapsed() > Duration::from_secs(5) {
                    wrong.push((status, begun.elapsed()));
                }
            }
            wrong
        };
        let workers = [(); 3].map(|()| scope.spawn(load));
        for _ in 0..3 {
            redis.kill();
            goes_down(&proxy);
            redis.start_again();
            comes_up(&proxy);
        }
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        workers.map(|worker| worker.join().unwrap()).concat()
    });

    assert_eq!(wrong, Vec::new());
}

#[test]
fn a_proxy_starts_without_its_store_and_finds_it_later() {
    let (mut redis, service) = (Redis::start(), Upstream::answering("ok"));
    redis.kill();
    let proxy = Proxy::start(&config(
        &url(&redis),
        &service,
        "rate: 2, per: 1h, on_store_failure: closed",
    ));

    assert_eq!(proxy.get("/").why(), "rate_limit.store_unavailable");
    redis.start_again();
    comes_up(&proxy);
    assert_eq!(proxy.get("/").status, 200);
}

/// IDs of the proxy's connections, as the server gives them.
fn connections(redis: &Redis) -> Vec<String> {
    let list = redis.ask(&["CLIENT", "LIST"]);
    let own = list.lines().filter(|line| !line.contains("cmd=client"));
    let id = |line: &str| line.split_whitespace().next().map(str::to_owned);
    own.filter_map(id).collect()
}

#[test]
fn connections_outlive_reloads_that_do_not_change_them() {
    let (redis, service) = (Redis::start(), Upstream::answering("ok"));
    let before = config(&url(&redis), &service, "rate: 2, per: 1h");
    let proxy = Proxy::start(&before);
    comes_up(&proxy);
    assert_eq!(proxy.get("/").status, 200);
    let first = connections(&redis);
    assert_eq!(first.len(), 1, "{first:?}");

    assert_eq!(
        proxy.reload(&before.replace("rate: 2", "rate: 3"))["ok"],
        true
    );
    assert_eq!(
        (connections(&redis), proxy.get("/").status),
        (first.clone(), 200)
    );

    let other = before.replace("/0'", "/1', prefix: 'other:'");
    assert_eq!(proxy.reload(&other)["ok"], true);
    until("the old connection is gone", || {
        let now = connections(&redis);
        (now.len() == 1 && now != first).then_some(())
    });
    assert_eq!(proxy.get("/").status, 200);
    assert!(redis.ask(&["INFO", "keyspace"]).contains("db1:keys=1"));

    let none = format!("{WEB}{}{ALL_TO_APP}", pool("app", &[&service]));
    assert_eq!(proxy.reload(&none)["ok"], true);
    until("no connection is left", || {
        connections(&redis).is_empty().then_some(())
    });
    let metrics = proxy.admin_reply("/metrics").text();
    assert!(
        !metrics.contains("store=\"shared\""),
        "series of a store that went away"
    );
}

#[test]
fn a_store_behind_a_socket_a_password_and_a_user_of_its_own() {
    let redis = Redis::with(&["--user", "ann", "on", ">hunter2", "~shop:*", "+@all"]);
    let service = Upstream::answering("ok");
    let socket = format!("unix://{}?db=3", redis.socket());
    let with = |password: &str| {
        config(
            &socket,
            &service,
            "rate: 2, per: 1h, on_store_failure: closed",
        )
        .replace(
            "?db=3'",
            &format!("?db=3', username: ann, password: {password}, prefix: 'shop:'"),
        )
    };
    let proxy = Proxy::start(&with("wrong5ecret"));

    assert_eq!(proxy.get("/").why(), "rate_limit.store_unavailable");
    let problem = proxy.admin("/status")["stores"][0]["problem"].to_string();
    assert!(problem.contains("WRONGPASS"), "{problem}");
    assert!(!proxy.stderr().contains("wrong5ecret"));

    assert_eq!(proxy.reload(&with("hunter2"))["ok"], true);
    comes_up(&proxy);
    assert_eq!(proxy.get("/").status, 200);
}

#[test]
fn a_store_over_tls_is_verified() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let folder = tempfile::TempDir::new().unwrap();
    authority
        .issue(&["localhost"])
        .write(folder.path(), "redis");
    authority.0.write(folder.path(), "ca");
    stranger.0.write(folder.path(), "other");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let redis = Redis::with(&[
        "--tls-port",
        "0",
        "--tls-cert-file",
        &at("redis.crt"),
        "--tls-key-file",
        &at("redis.key"),
        "--tls-ca-cert-file",
        &at("ca.crt"),
        "--tls-auth-clients",
        "no",
    ]);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    redis.ask(&["CONFIG", "SET", "tls-port", &port.to_string()]);
    let service = Upstream::answering("ok");
    let with = |host: &str, ca: &str| {
        config(
            &format!("rediss://{host}:{port}"),
            &service,
            "rate: 2, per: 1h, on_store_failure: closed",
        )
        .replace("'}]", &format!("', ca: '{}'}}]", at(ca)))
    };
    let problem = |proxy: &Proxy| proxy.admin("/status")["stores"][0]["problem"].to_string();

    let proxy = Proxy::start(&with("localhost", "other.crt"));
    assert_eq!(proxy.get("/").status, 503);
    assert!(
        problem(&proxy).contains("its certificate is refused"),
        "{}",
        problem(&proxy)
    );

    proxy.reload(&with("127.0.0.1", "ca.crt"));
    assert_eq!(proxy.get("/").status, 503);
    assert!(
        problem(&proxy).contains("its certificate is refused"),
        "{}",
        problem(&proxy)
    );

    proxy.reload(&with("localhost", "ca.crt"));
    comes_up(&proxy);
    assert_eq!(proxy.get("/").status, 200);
}

#[test]
fn scripts_that_the_server_forgot_and_errors_that_it_answers() {
    let (redis, service) = (Redis::start(), Upstream::answering("ok"));
    let limit = "rate: 100, per: 1h, batch: 1, on_store_failure: closed";
    let proxy = Proxy::start(&config(&url(&redis), &service, limit));
    comes_up(&proxy);

    redis.ask(&["SCRIPT", "FLUSH"]);
    assert_eq!(admitted(&ask(&proxy, 2).0), 2);

    // As after a failover: what was the primary takes no writes any more.
    redis.ask(&["REPLICAOF", "127.0.0.1", "1"]);
    let reply = proxy.get("/");
    assert_eq!(reply.why(), "rate_limit.store_unavailable");
    assert!(failures(&proxy, "refused") >= 1.0);
    until("the log says what it answered", || {
        proxy.stderr().contains("READONLY").then_some(())
    });
    redis.ask(&["REPLICAOF", "NO", "ONE"]);
    until("it counts again", || {
        (proxy.get("/").status == 200).then_some(())
    });
}

#[test]
fn explaining_a_request_asks_no_store() {
    let (redis, service) = (Redis::start(), Upstream::answering("ok"));
    let proxy = Proxy::start(&config(&url(&redis), &service, "rate: 1, per: 1h"));

    let told = run(&[
        "explain",
        "-c",
        proxy.config().to_str().unwrap(),
        "GET",
        "http://test/",
    ]);

    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("a shared store"), "{told}");
    assert_eq!(redis.ask(&["KEYS", "*"]), "");
}

#[test]
fn a_store_that_is_not_defined_is_a_problem_with_a_guess() {
    let service = Upstream::answering("ok");
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("w.yaml");
    let text =
        config("redis://127.0.0.1:1", &service, "rate: 1").replace("store: shared", "store: shred");
    std::fs::write(&path, text).unwrap();

    let checked = run(&["check", "-c", path.to_str().unwrap()]);

    let said = String::from_utf8_lossy(&checked.stderr).into_owned()
        + &String::from_utf8_lossy(&checked.stdout);
    assert!(said.contains("no store is named \"shred\""), "{said}");
    assert!(said.contains("did you mean \"shared\"?"), "{said}");
    assert!(!checked.status.success());
}

#[test]
fn passwords_of_stores_are_not_shown() {
    let service = Upstream::answering("ok");
    let folder = tempfile::TempDir::new().unwrap();
    std::fs::write(folder.path().join("password"), "hunter2secret\n").unwrap();
    let text = config(
        "redis://127.0.0.1:1",
        &service,
        "rate: 1, on_store_failure: open",
    )
    .replace(
        "/127.0.0.1:1'",
        "/127.0.0.1:1', password: '${file:password}'",
    );
    let proxy = Proxy::start_in(folder, &text);

    let shown = proxy.admin_reply("/config").text() + &proxy.admin_reply("/status").text();

    assert!(!shown.contains("hunter2secret"), "{shown}");
    assert!(!proxy.stderr().contains("hunter2secret"));
    let view: Value = proxy.admin("/status");
    assert_eq!(view["stores"][0]["name"], "shared");
}
