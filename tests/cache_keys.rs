//! What must not be shared through a cache: answers to what no key tells, over both protocols and behind other proxies.
//! It must not know how the store works.
//! Part of the test binary.

use bytes::Bytes;
use http::Request;

use crate::cache::{cached, counting, route, status, with};
use crate::support::grpc::Client;
use crate::support::proxy::pool;
use crate::support::upstream::answer;
use crate::support::{Proxy, Upstream};

/// A service that answers with all that it was asked.
fn telling() -> Upstream {
    Upstream::with(|seen, stream| {
        let body = format!("{}{}", seen.raw, String::from_utf8_lossy(&seen.body));
        let fresh = [("cache-control", "max-age=60")];
        answer(stream, 200, &fresh, body.as_bytes())
    })
}

#[tokio::test]
async fn a_body_over_http2_that_no_field_announces_poisons_nobody() {
    let service = telling();
    let proxy = cached(&service);
    let client = Client::connect(proxy.address("web")).await;
    let get = || Request::get("http://test/a").body(()).unwrap();

    let fat = client
        .ask(get(), Bytes::from_static(b"evil"))
        .await
        .unwrap();
    let lean = client.ask(get(), Bytes::new()).await.unwrap();
    let again = client.ask(get(), Bytes::new()).await.unwrap();

    let told = fat.field("cache-status");
    assert_eq!(told, Some("windrose; fwd=bypass; detail=body"));
    assert!(fat.body.ends_with(b"evil") && !lean.body.ends_with(b"evil"));
    assert!(again
        .field("cache-status")
        .is_some_and(|it| it.contains("hit")));
}

#[test]
fn what_other_proxies_and_strangers_say_of_the_target_poisons_nobody() {
    let service = telling();
    let proxy = Proxy::start(&format!(
        "listeners:\n- {{name: web, bind: '127.0.0.1:0'}}\n- {{name: inner, bind: '127.0.0.1:0', trusted_proxies: [127.0.0.1/32]}}\n{}",
        route(&service, "", "")
    ));
    let inner = |fields: &str| {
        let mut conn = crate::support::Conn::open(proxy.address("inner"));
        conn.ask(format!("GET /a HTTP/1.1\r\n{fields}\r\n"))
    };

    for fields in ["x-forwarded-prefix: /evil\r\n", "x-forwarded-ssl: evil\r\n"] {
        proxy.ask("GET", "/a", fields);
        assert!(!proxy.get("/a").text().contains("evil"), "{fields}");
    }
    for fields in [
        "host: test\r\nforwarded: for=192.0.2.1;host=evil.test\r\n",
        "host: test\r\nx-forwarded-port: 666\r\n",
        "host: test.\r\n",
    ] {
        let poison = inner(fields).text();
        let after = inner("host: test\r\n").text();
        let is_clean = |text: &str| {
            let marks = ["evil", ": 666", "host: test.\r\n"];
            !marks
                .iter()
                .any(|mark| text.to_ascii_lowercase().contains(mark))
        };
        assert!(!is_clean(&poison) && is_clean(&after), "{fields}: {after}");
    }
}

#[test]
fn a_response_that_was_chosen_by_what_the_proxy_wrote_is_not_shared() {
    let service = counting(&[("vary", "x-user, accept-encoding, x-forwarded-proto")]);
    let own = "{kind: headers, config: {request: {set: {X-User: '${request_id}'}}}}, ";
    let (plain, edited) = (cached(&service), with(&service, own, ""));

    assert!(!status(&plain.get("/a")).contains("hit") && status(&plain.get("/a")).contains("hit"));
    for _ in 0..2 {
        let told = edited.get("/a");
        assert_eq!(
            status(&told),
            "windrose; fwd=uri-miss; fwd-status=200; detail=vary_edited"
        );
    }
}

#[test]
fn a_write_whose_response_is_held_back_takes_its_target_out() {
    let service = counting(&[("content-type", "application/json")]);
    let proxy = Proxy::http(&format!(
        "{}plugins: {{shared: {{kind: response_cache}}}}
routes:
- name: all
  plugins: [shared]
  rules:
  - match: [{{method: POST}}]
    pool: app
    plugins: [{{kind: body, config: {{response: {{template: {{text: '1'}}}}}}}}]
  - pool: app
",
        pool("app", &[&service])
    ));
    let stored = || status(&proxy.get("/a")).contains("hit");
    assert!(!stored() && stored());

    let written = proxy.ask("POST", "/a", "content-length: 0\r\n");

    assert_eq!(
        (&*written.text(), status(&written)),
        ("1", "windrose; fwd=method")
    );
    assert!(!stored());
}

#[test]
fn shares_of_a_split_do_not_answer_for_each_other() {
    let (old, new) = (counting(&[("x-is", "old")]), counting(&[("x-is", "new")]));
    let proxy = Proxy::http(&format!(
        "pools:
- name: app
  endpoints: [{{address: '{}', labels: {{version: v1}}}}, {{address: '{}', labels: {{version: v2}}}}]
routes:
- name: all
  plugins: [{{kind: response_cache}}]
  rules:
  - split:
    - {{pool: app, subset: {{version: v1}}, weight: 1, name: old}}
    - {{pool: app, subset: {{version: v2}}, weight: 0, name: new}}
    override: {{header: x-version, everyone: true}}
",
        old.address,
        new.address
    ));

    for _ in 0..2 {
        let chosen = proxy.ask("GET", "/a", "x-version: new\r\n");
        assert_eq!(chosen.header("x-is"), Some("new"));
        assert_eq!(proxy.get("/a").header("x-is"), Some("old"));
    }
    assert_eq!((old.requests(), new.requests()), (1, 1));
}
