use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::testkit::{answered, field, went_on, Exchange, Instance, Kit};

/// Every check that looks at headers, blocking.
const STRICT: &str = "target: block\ninvalid_utf8: block\nquery_traversal: block\nduplicate_parameters: block\nhost_address: block";

fn plugin(config: &str) -> Instance {
    Kit::new().instance(&PLUGIN, config)
}

/// The cause a request is refused with; empty if it goes on.
fn refused(config: &str, exchange: &mut Exchange) -> &'static str {
    match plugin(config).request(exchange) {
        Verdict::Continue => "",
        verdict => answered(verdict).cause.name,
    }
}

/// A request whose canonical path is the proxy's.
fn of_target(target: &str) -> Exchange {
    let exchange = Exchange::get(&format!("http://shop.test{target}"));
    let path = target.split('?').next().unwrap_or("");
    let canonical = crate::contract::canonical_path(path).expect("the proxy refuses other paths");
    exchange.with_path(&canonical)
}

fn strict(target: &str) -> &'static str {
    refused(STRICT, &mut of_target(target))
}

#[test]
fn paths_that_hide_something_are_refused() {
    for path in [
        "/a/..%2Fb",
        "/a%2f..%5Cb",
        "/..%5c..%5cwin.ini",
        "/a/..;/admin",
        "/a/..;x=1/b",
        "/a/..%3B/b",
        "/..%2f",
    ] {
        assert_eq!(strict(path), "waf.traversal", "{path}");
    }
    for path in [
        "/%252e%252e/a",
        "/a%252fb",
        "/a%25255cb",
        "/%2500",
        "/%253cscript",
        "/x%2527",
    ] {
        assert_eq!(strict(path), "waf.double_encoding", "{path}");
    }
    for path in ["/a%01", "/a%0d%0ab", "/a%7f"] {
        assert_eq!(strict(path), "waf.controls", "{path}");
    }
    for path in ["/%c0%ae%c0%ae/a", "/%C1%9C", "/%e0%80%af", "/%f0%80%80%af"] {
        assert_eq!(strict(path), "waf.overlong_utf8", "{path}");
    }
    assert_eq!(strict("/caf%e9"), "waf.invalid_utf8");
}

#[test]
fn queries_that_hide_something_are_refused() {
    assert_eq!(strict("/?a=%00"), "waf.controls");
    assert_eq!(strict("/?a%0a=1"), "waf.controls");
    assert_eq!(strict("/?a=%c0%af"), "waf.overlong_utf8");
    assert_eq!(strict("/?a=%ff"), "waf.invalid_utf8");
    assert_eq!(strict("/?file=../../etc/passwd"), "waf.query_traversal");
    assert_eq!(strict("/?file=..%5C..%5Cboot.ini"), "waf.query_traversal");
    assert_eq!(strict("/?a=1&%61=2"), "waf.duplicate_parameters");
    assert_eq!(strict("/?a={b}"), "waf.target");
}

#[test]
fn proportions_are_kept() {
    let many: String = (0..257).map(|number| format!("p{number}=1&")).collect();
    assert_eq!(strict(&format!("/?{many}")), "waf.parameter_count");
    assert_eq!(
        strict(&format!("/?a={}", "x".repeat(8193))),
        "waf.parameter_size"
    );
    assert_eq!(
        strict(&format!("/?{}=1", "x".repeat(257))),
        "waf.parameter_size"
    );
    let mut exchange = of_target("/");
    for number in 0..64 {
        exchange = exchange.with(&format!("x-{number}"), "1");
    }
    assert_eq!(refused("{}", &mut exchange), "waf.field_count");
    let mut exchange = of_target("/").with("cookie", &"x".repeat(16_385));
    assert_eq!(refused("{}", &mut exchange), "waf.field_size");
}

#[test]
fn fields_that_readers_differ_about_are_refused() {
    for value in ["a\tb", "a\u{a0}b", "a\u{2028}b", "a\u{200b}b"] {
        let mut exchange = of_target("/");
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        exchange.request.insert_header("x-name", value).unwrap();
        assert_eq!(refused("{}", &mut exchange), "waf.field_whitespace");
    }
    for host in [
        "192.0.2.1",
        "[2001:db8::1]",
        "127.1",
        "2130706433",
        "0x7f.1",
    ] {
        let mut exchange = Exchange::get(&format!("http://{host}/"));
        assert_eq!(refused(STRICT, &mut exchange), "waf.host_address", "{host}");
    }
    for kind in [
        "json",
        "text/",
        "a/b; x",
        "multipart/form-data; boundary=a; Boundary=b",
        "a/b, c/d",
        "text/html; charset=a b",
        "a/b;q=\"x",
    ] {
        let mut exchange = of_target("/").with("content-type", kind);
        assert_eq!(refused("{}", &mut exchange), "waf.content_type", "{kind}");
    }
    let mut twice = of_target("/")
        .with("content-type", "a/b")
        .with("content-type", "a/b");
    assert_eq!(refused("{}", &mut twice), "waf.content_type");
}

#[test]
fn methods_are_let_through_by_name_and_the_answer_lists_them() {
    let plugin = plugin("methods: [GET, PURGE]");

    let answer = answered(plugin.request(&mut Exchange::new("POST", "http://a.test/")));

    assert_eq!((answer.status, answer.cause.name), (405, "waf.method"));
    assert_eq!(field(&answer, "allow"), Some("GET, PURGE"));
    assert!(went_on(
        &plugin.request(&mut Exchange::new("PURGE", "http://a.test/"))
    ));
}

/// Targets as browsers, tools and well-known programs send them.
const HONEST: &[&str] = &[
    "/",
    "/index.html",
    "/wiki/C%2B%2B",
    "/wiki/%C3%9Cbersicht_(Begriffskl%C3%A4rung)",
    "/wiki/100%25",
    "/a/b..c/v1.2..3/file...txt",
    "/.well-known/openid-configuration",
    "/repo/compare/main...feature%2Fx",
    "/api/v4/projects/group%2Fproject/repository/files/src%2Fmain.rs/raw?ref=main",
    "/v2/library/nginx/manifests/sha256:abc",
    "/@scope%2fpackage/-/package-1.0.0.tgz",
    "/search?q=rust+%26+c%2B%2B&hl=de",
    "/search?q=%F0%9F%A6%80",
    "/login?next=https%3A%2F%2Fshop.test%2Fa%3Fb%3Dc%2526d",
    "/r?url=https://other.test/a/../b",
    "/comment?text=line+one%0D%0Aline+two%09end",
    "/graphql?query=%7Bme%7Bname%7D%7D&variables=%7B%22a%22%3A1%7D",
    "/bucket/key?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A%2F20260101%2Feu%2Fs3%2Faws4_request&X-Amz-Signature=0f",
    "/odata/Items('a')?$filter=Price%20gt%205&$top=10",
    "/maps/@52.52,13.40,12z/data=!3m1!4b1",
    "/css?family=Open+Sans:400,700|Roboto",
    "/i.gif?e=eyJ2IjoiMSJ9&s=abc-_~.",
    "/?utm_source=a&utm_medium=b&utm_campaign=c&gclid=d&fbclid=e",
    "/path;jsessionid=ABC123?x=1",
    "/socket.io/?EIO=4&transport=polling&t=Oabc",
    "/list?id[]=1&id[]=2&sort=-date",
];

#[test]
fn honest_requests_go_on_by_default() {
    let kinds = [
        "application/json",
        "application/json; charset=utf-8",
        "multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
        "multipart/related; boundary=\"a;b\"; type=\"text/xml\"",
        "application/vnd.api+json; ext=\"https://x.test/a,b\"",
        "text/plain;",
    ];
    for target in HONEST {
        for kind in kinds {
            let mut exchange = of_target(target)
                .with("content-type", kind)
                .with("accept", "text/html,application/xhtml+xml,*/*;q=0.8")
                .with(
                    "user-agent",
                    "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0",
                )
                .with("cookie", "a=b; c=\"d e\"; _ga=GA1.2.3");
            assert_eq!(refused("{}", &mut exchange), "", "{target} {kind}");
        }
    }
}

#[test]
fn most_honest_requests_go_on_by_the_strictest_settings_too() {
    let refused = HONEST.iter().filter(|target| !strict(target).is_empty());

    // What the manual warns of: a bare `|`, and lists by repeated names.
    let refused: Vec<_> = refused.copied().collect();
    assert_eq!(
        refused,
        [
            "/css?family=Open+Sans:400,700|Roboto",
            "/list?id[]=1&id[]=2&sort=-date"
        ]
    );
}

#[test]
fn detecting_counts_and_goes_on() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, "traversal: detect\ndouble_encoding: detect");

    let verdict = plugin.request(&mut of_target("/..%2F%252e"));
    let dry = plugin.request(&mut of_target("/..%2F%252e").dry());

    assert!(went_on(&verdict) && went_on(&dry));
    assert_eq!(
        (
            kit.counted("found_traversal"),
            kit.counted("found_double_encoding")
        ),
        (1, 1)
    );
}

/// What becomes of a body in pieces.
fn body(config: &str, kind: &str, pieces: &[&'static [u8]]) -> &'static str {
    let plugin = plugin(config);
    let mut exchange = Exchange::new("POST", "http://a.test/").with("content-type", kind);
    assert!(went_on(&plugin.request(&mut exchange)));
    for piece in pieces {
        let mut piece = Some(Bytes::from_static(piece));
        if let Verdict::Answer(answer) = plugin.request_body(&mut exchange, &mut piece, false) {
            return answer.cause.name;
        }
    }
    ""
}

#[test]
fn bodies_begin_as_their_type_says() {
    let ok: [(&str, &[&'static [u8]]); 11] = [
        ("application/json", &[b"\xef\xbb", b"\xbf \r\n", b" {}<"]),
        ("application/problem+json", &[b"[1]"]),
        ("text/xml", &[b"\n<?xml"]),
        ("application/x-www-form-urlencoded", &[b"a=%7B"]),
        ("multipart/form-data; boundary=xyz", &[b"--x", b"yz\r\n"]),
        (
            "multipart/form-data; boundary=\"xyz\"",
            &[b"\r\n", b"--xyz\r\n"],
        ),
        ("image/png", &[b"\x89PN", b"G\r\n\x1a\n..."]),
        ("image/gif", &[b"GIF8", b"9a"]),
        ("text/plain", &[b"\x00anything"]),
        ("application/json; charset=utf-16", &[b"\xff\xfe{\x00"]),
        ("application/json", &[b"", b"  "]),
    ];
    for (kind, pieces) in ok {
        assert_eq!(body("{}", kind, pieces), "", "{kind}");
    }
    let wrong: [(&str, &[&'static [u8]]); 6] = [
        ("application/json", &[b" ", b"<?xml"]),
        ("application/xml", &[b"{}"]),
        ("application/x-www-form-urlencoded", &[b"{\"a\":1}"]),
        ("multipart/form-data; boundary=xyz", &[b"--xy", b"a"]),
        ("image/jpeg", &[b"<svg"]),
        ("application/pdf", &[b"MZ"]),
    ];
    for (kind, pieces) in wrong {
        assert_eq!(body("{}", kind, pieces), "waf.body_start", "{kind}");
        assert_eq!(body("body_start: detect", kind, pieces), "", "{kind}");
    }
}

#[test]
fn a_body_in_a_coding_is_not_judged() {
    let plugin = plugin("{}");
    let mut exchange = Exchange::new("POST", "http://a.test/")
        .with("content-type", "application/json")
        .with("content-encoding", "gzip");
    plugin.request(&mut exchange);

    let verdict = plugin.request_body(
        &mut exchange,
        &mut Some(Bytes::from_static(b"\x1f\x8b")),
        true,
    );

    assert!(went_on(&verdict));
}

#[test]
fn wrong_settings_are_located() {
    let kit = Kit::new();
    let paths = |config: &str| kit.problem_paths(&PLUGIN, config);

    assert_eq!(paths("methods: [get, '']"), ["methods[0]", "methods[1]"]);
    assert_eq!(paths("methods: []"), ["methods"]);
    assert_eq!(
        paths("max_parameters: 0\nmax_field_size: 0"),
        ["max_parameters", "max_field_size"]
    );
    assert_eq!(paths("controls: refuse"), ["controls"]);
}

#[test]
fn every_check_has_a_cause_and_a_counter() {
    assert_eq!(causes::ALL.len(), causes::COUNTED.len());
    for (cause, event) in causes::ALL.iter().zip(causes::COUNTED) {
        assert_eq!(cause.name.replace("waf.", "found_"), *event);
    }
}

proptest! {
    #[test]
    fn no_request_breaks_a_check(path in "/[!-~]{0,60}", query in "[!-~]{0,60}", value in "[ -~\u{80}-\u{2100}\t]{0,40}", kind in "[ -~]{0,40}") {
        let Ok(uri) = format!("http://a.test{path}?{query}").parse::<http::Uri>() else { return Ok(()); };
        let Ok(canonical) = crate::contract::canonical_path(uri.path()) else { return Ok(()); };
        let mut exchange = Exchange::get(&uri.to_string()).with_path(&canonical).with("content-type", &kind);
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            exchange.request.insert_header("x-odd", value).unwrap();
        }
        let plugin = plugin(STRICT);
        let _ = plugin.request(&mut exchange);
        let _ = plugin.request_body(&mut exchange, &mut Some(Bytes::from(query)), true);
    }

    /// No honest name is refused, whatever letters it is made of.
    #[test]
    fn words_in_any_script_go_on(words in proptest::collection::vec("[\\p{L}\\p{N} ._-]{1,12}", 1..4)) {
        let encoded: Vec<String> = words.iter().map(|word| crate::query::encoded(word)).collect();
        prop_assume!(words.iter().all(|word| !word.chars().all(|c| matches!(c, '.' | ' '))));
        let target = format!("/{}?q={}", encoded.join("/"), encoded[0]);
        prop_assert_eq!(strict(&target), "");
    }

    #[test]
    fn a_body_is_judged_the_same_in_any_pieces(bytes in proptest::collection::vec(any::<u8>(), 0..40), cut in 0_usize..40) {
        let mut headers = http::HeaderMap::new();
        for kind in ["application/json", "text/xml", "image/png", "multipart/form-data; boundary=x"] {
            headers.insert("content-type", HeaderValue::from_str(kind).unwrap());
            let cut = cut.min(bytes.len());
            let whole = Begin::of(&headers).unwrap().fits(&bytes);
            let mut begin = Begin::of(&headers).unwrap();
            let first = begin.fits(&bytes[..cut]);
            prop_assert_eq!(first && begin.fits(&bytes[cut..]), whole, "{} {:?} {}", kind, bytes, cut);
        }
    }
}
