//! Quotas and limits on what is under way, through the real proxy: every way in which a request can end, and a real store.
//! It must not know the arithmetic; the plugins' own tests do.
//! Part of the test binary.

use crate::support::grpc::Client;
use crate::support::proxy::{pool, ALL_TO_APP, WEB};
use crate::support::redis::Redis;
use crate::support::upstream::answer;
use crate::support::{until, Proxy, Upstream};

/// SHA-256 of `foo`.
const FOO: &str = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";

#[test]
fn a_quota_counts_consumers_in_the_store_and_names_its_causes() {
    let (mut redis, service) = (Redis::start(), Upstream::answering("ok"));
    let yaml = |mode: &str| {
        format!(
            "{WEB}redis: [{{name: shared, url: 'redis://127.0.0.1:{}'}}]\nconsumers: [{{name: ann, keys: ['{FOO}'], metadata: {{monthly: '4'}}}}]\n{}{ALL_TO_APP}  plugins:\n  - {{kind: key_auth}}\n  - {{kind: quota, config: {{limit: 2, per: month, limit_from: monthly, name: api, store: shared, on_store_failure: {mode}}}}}\n",
            redis.port,
            pool("app", &[&service])
        )
    };
    let proxies = ["closed", "open"].map(|mode| Proxy::start(&yaml(mode)));
    let ask = |proxy: &Proxy| proxy.ask("GET", "/", "x-api-key: foo\r\n");

    let statuses: Vec<u16> = (0..6).map(|at| ask(&proxies[at % 2]).status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 429, 429]);
    let reply = ask(&proxies[0]);
    assert_eq!(reply.why(), "quota_exceeded");
    let seconds: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!(seconds <= 31 * 86_400);
    assert!(reply
        .header("ratelimit-policy")
        .unwrap()
        .starts_with("\"api\";q=4;w="));
    let keys = redis.ask(&["KEYS", "windrose:quota:api:2*"]);
    assert_eq!(keys.lines().count(), 1, "{keys}");
    let lives = redis.ask(&["TTL", keys.trim()]);
    assert!(
        lives.trim_start_matches(':').trim().parse::<i64>().unwrap() > 0,
        "{lives}"
    );

    redis.kill();
    for proxy in &proxies {
        until("the store is lost", || {
            (proxy.metric("windrose_store_up", &[]) == 0.0).then_some(())
        });
    }
    // A refusal is known for a second; then the store is asked again.
    let closed = until("what was known of the quota is old", || {
        let reply = ask(&proxies[0]);
        (reply.status != 429).then_some(reply)
    });
    assert_eq!(
        (closed.status, &*closed.why()),
        (503, "quota.store_unavailable")
    );
    until("open lets through", || {
        (ask(&proxies[1]).status == 200).then_some(())
    });
}

/// A proxy that lets two requests of a client be under way at a time.
fn limited(service: &Upstream, more: &str) -> Proxy {
    Proxy::start(&format!(
        "{WEB}{}{ALL_TO_APP}{more}  plugins: [{{kind: concurrency_limit, config: {{max: 2}}}}]\n",
        pool("app", &[service])
    ))
}

/// Waits until a request is let through again.
fn is_free(proxy: &Proxy) {
    until("a place is free", || {
        (proxy.get("/free").status != 429).then_some(())
    });
}

/// A service that answers what is not `/held`.
fn holding() -> Upstream {
    Upstream::with(|seen, stream| match &*seen.target {
        "/held" => {
            let _ = std::io::Read::read(stream, &mut [0; 1]);
            Ok(false)
        }
        _ => crate::support::upstream::answer(stream, 200, &[], b"ok"),
    })
}

#[test]
fn places_come_back_however_a_request_ends() {
    let service = holding();
    let proxy = limited(&service, "");
    let hold = || {
        let conns = [(); 2].map(|()| {
            let before = service.requests();
            let mut conn = proxy.connect();
            conn.send("POST /held HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n");
            // One after the other, and asked for no place meanwhile: it would be missing here.
            until("it is under way", || {
                (service.requests() > before).then_some(())
            });
            conn
        });
        let reply = proxy.get("/more");
        assert_eq!((reply.status, &*reply.why()), (429, "concurrency_limited"));
        conns
    };

    // The client leaves.
    drop(hold());
    is_free(&proxy);
    // The service breaks off.
    let conns = hold();
    service.drop_connections();
    for mut conn in conns {
        assert_eq!(conn.reply().unwrap().status, 502);
    }
    is_free(&proxy);
    // Answers as usual, on kept connections.
    let mut conn = proxy.connect();
    for _ in 0..20 {
        assert_eq!(conn.ask("GET / HTTP/1.1\r\nhost: test\r\n\r\n").status, 200);
    }
    // Its time is over.
    let late = limited(&service, "    timeouts: {request: 300ms}\n");
    for _ in 0..5 {
        assert_eq!(late.get("/held").status, 504);
    }
    is_free(&late);
}

#[tokio::test]
async fn a_stream_that_is_reset_gives_its_place_back() {
    let service = holding();
    let proxy = limited(&service, "");
    let client = Client::connect(proxy.address("web")).await;
    for _ in 0..5 {
        let request = http::Request::post("http://test/held").body(()).unwrap();
        let (reply, mut sending) = client.open(request).await.unwrap();
        sending.send_reset(h2::Reason::CANCEL);
        drop(reply);
    }

    is_free(&proxy);
}

#[test]
fn a_refusal_says_when_to_come_back_and_others_are_served() {
    let service = holding();
    let proxy = Proxy::start(&format!(
        "{WEB}{}{ALL_TO_APP}  plugins: [{{kind: concurrency_limit, config: {{key: 'header:x-key', max: 1, max_keys: 1}}}}]\n",
        pool("app", &[&service])
    ));
    let mut conn = proxy.connect();
    conn.send("GET /held HTTP/1.1\r\nhost: test\r\nx-key: a\r\n\r\n");
    let refused = until("it is under way", || {
        let reply = proxy.ask("GET", "/", "x-key: a\r\n");
        (reply.status == 429).then_some(reply)
    });

    assert_eq!(refused.header("retry-after"), Some("1"));
    // With room for one key in each of 64 parts of the table, some other key finds none.
    let full = (0..2_000).map(|key| proxy.ask("GET", "/", &format!("x-key: {key}\r\n")));
    let full = full
        .map(|reply| (reply.status, reply.why()))
        .find(|(status, _)| *status == 503);
    assert_eq!(full, Some((503, "concurrency_limit.keys".to_owned())));
}

#[test]
fn what_responses_cost_is_counted_by_all_proxies_that_share_a_store() {
    let redis = Redis::start();
    let service = Upstream::with(|seen, stream| {
        let cost = seen.header("x-cost").unwrap_or("1");
        answer(stream, 200, &[("x-cost", cost)], b"ok")
    });
    let yaml = |plugin: &str| {
        format!(
            "{WEB}redis: [{{name: shared, url: 'redis://127.0.0.1:{}'}}]\n{}{ALL_TO_APP}  plugins:\n  - {{kind: {plugin}, cost: {{response_header: x-cost}}, key: \"cel:request.headers['x-team']\", name: api, store: shared}}}}\n",
            redis.port,
            pool("app", &[&service])
        )
    };
    for (plugin, exceeded, none) in [
        (
            "rate_limit, config: {rate: 100, per: 1h",
            "rate_limited",
            "rate_limit.no_outcome",
        ),
        (
            "rate_limit, config: {rate: 100, per: 1h, algorithm: sliding_window",
            "rate_limited",
            "rate_limit.no_outcome",
        ),
        (
            "quota, config: {limit: 100, per: month",
            "quota_exceeded",
            "quota.no_outcome",
        ),
    ] {
        let proxies = [(); 2].map(|()| Proxy::start(&yaml(plugin)));
        let ask = |at: usize, cost: &str| {
            proxies[at].ask("GET", "/", &format!("x-team: a\r\nx-cost: {cost}\r\n"))
        };
        let left = |at: usize| {
            let reply = ask(at, "1");
            reply
                .header("x-ratelimit-remaining")
                .unwrap()
                .parse::<u64>()
                .unwrap()
        };

        assert_eq!(
            ask(0, "40").header("x-ratelimit-remaining"),
            Some("60"),
            "{plugin}"
        );
        until("the other hears of it", || (left(1) <= 60).then_some(()));
        let reply = ask(0, "500");
        assert_eq!(
            (reply.status, reply.header("x-ratelimit-remaining")),
            (200, Some("0"))
        );
        let refused = until("the other refuses", || {
            let reply = ask(1, "0");
            (reply.status == 429).then_some(reply)
        });
        assert_eq!(refused.why(), exceeded, "{plugin}");
        let reply = proxies[0].get("/");
        assert_eq!((reply.status, &*reply.why()), (403, none));
    }
}
