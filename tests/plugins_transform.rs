//! Plugins that change messages, as a client and a service meet them: through a real listener and route.
//! It must not know their corner cases; their own tests do.
//! Part of the test binary.

use crate::support::proxy::{pool, ALL_TO_APP};
use crate::support::{frame, Grpc, Proxy, Upstream};

/// A proxy to a service, with these plugins on the route.
fn on_route(service: &Upstream, plugins: &str) -> Proxy {
    Proxy::http(&format!(
        "{}{ALL_TO_APP}  plugins: [{plugins}]\n",
        pool("app", &[service])
    ))
}

/// A proxy to a service, with these plugins on the listener and no route but one for `/a`.
fn on_listener(service: &Upstream, plugins: &str) -> Proxy {
    Proxy::start(&format!(
        "listeners: [{{name: web, bind: '127.0.0.1:0', plugins: [{plugins}]}}]\n{}routes: [{{name: one, rules: [{{match: [{{path: {{prefix: /a}}}}], pool: app}}]}}]\n",
        pool("app", &[service])
    ))
}

#[test]
fn redirect_comes_before_the_decision_on_a_listener() {
    let service = Upstream::echo();
    let plugins = "{kind: redirect, config: {paths: [{pattern: '^/old/(.*)$', replace: '/a/$1'}], trailing_slash: remove}}";
    let proxy = on_listener(&service, plugins);

    let (moved, kept) = (proxy.get("/old/x/?q=1"), proxy.get("/a/x"));

    assert_eq!((moved.status, &*moved.why()), (308, "redirect"));
    let location = moved.header("location").unwrap_or("").to_owned();
    assert!(
        location.starts_with("http://") && location.ends_with("/a/x?q=1"),
        "{location}"
    );
    assert_eq!((kept.status, service.requests()), (200, 1));
}

#[test]
fn redirect_rules_in_a_circle_are_a_failure_with_a_name() {
    let service = Upstream::echo();
    let plugin = |on_error: &str| {
        format!("{{kind: redirect, on_error: {on_error}, config: {{paths: [{{pattern: '^/(.*)$', replace: '/a/$1'}}]}}}}")
    };

    let closed = on_listener(&service, &plugin("closed")).get("/a");
    let open = on_listener(&service, &plugin("open")).get("/a");

    assert_eq!((closed.status, &*closed.why()), (508, "redirect.loop"));
    assert_eq!(open.status, 200);
}

#[test]
fn rewrite_edits_what_goes_upstream_and_not_what_policies_saw() {
    let service = Upstream::echo();
    let proxy = Proxy::http(&format!(
        "{}routes:\n- name: all\n  plugins: [{{kind: rewrite, config: {{strip_prefix: /v2, paths: [{{pattern: '^/user/', replace: '/people/'}}], add_prefix: /app, query: {{set: {{from: edge}}, remove: [debug]}}, host: 'orders.test:81'}}}}]\n  rules: [{{match: [{{path: {{prefix: /api}}}}], rewrite: {{path_prefix: /v2}}, pool: app}}]\n",
        pool("app", &[&service])
    ));

    let reply = proxy.get("/api/user/7?debug=1&x=%20");
    let climbing = proxy.get("/api/../user/7");

    assert_eq!(reply.status, 200);
    let seen = service.last();
    assert_eq!(seen.target, "/app/people/7?x=%20&from=edge");
    assert_eq!(seen.header("host"), Some("orders.test:81"));
    assert_eq!((climbing.status, &*climbing.why()), (404, "no_route"));
    proxy.logged(|line| {
        line["path"]
            .as_str()
            .is_some_and(|path| path.starts_with("/api/user/7"))
    });
}

#[test]
fn a_rewrite_that_climbs_above_the_root_is_refused() {
    let service = Upstream::echo();
    let plugin = "{kind: rewrite, config: {paths: [{pattern: '^/up', replace: '/..'}]}}";
    let proxy = on_route(&service, plugin);

    let reply = proxy.get("/up/x");

    assert_eq!((reply.status, &*reply.why()), (400, "bad_request.target"));
    assert_eq!(service.requests(), 0);
}

#[test]
fn security_headers_are_on_responses_of_services_and_of_the_proxy() {
    let service = Upstream::with(|seen, stream| {
        let fields = [("server", "secret/1.0"), ("x-frame-options", "ALLOWALL")];
        let status = if seen.target == "/gone" { 404 } else { 200 };
        crate::support::upstream::answer(stream, status, &fields, b"ok")
    });
    let proxy = on_route(
        &service,
        "{kind: security_headers, config: {preset: strict}}",
    );
    let dead = on_route(&Upstream::refusing(), "{kind: security_headers}");

    let (reply, own) = (proxy.get("/"), dead.get("/"));

    assert_eq!(reply.all("x-frame-options"), ["ALLOWALL"]);
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    assert!(reply
        .header("content-security-policy")
        .unwrap_or("")
        .contains("frame-ancestors 'none'"));
    assert_eq!(reply.header("server"), None);
    assert_eq!(
        reply.header("strict-transport-security"),
        None,
        "not over TLS"
    );
    assert_eq!(
        (own.status, own.header("x-content-type-options")),
        (502, Some("nosniff"))
    );
}

/// `hello hello hello` in gzip.
const HELLO: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xcb\x48\xcd\xc9\xc9\x57\xc8\x40\x90\x00\x80\x88\xf9\xe5\x11\x00\x00\x00";

/// 200 000 zeros in gzip, in a few hundred bytes.
const ZEROS: &[u8] = &[
    31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 237, 193, 49, 1, 0, 0, 0, 194, 160, 245, 79, 109, 6, 127, 160,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 128, 215, 0, 123, 88, 224, 92, 64, 13, 3, 0,
];

#[test]
fn compress_and_decompress_undo_each_other() {
    let text = "{\"a\": \"some text that is long enough to be worth it\"}".repeat(100);
    let body = text.clone();
    let service = Upstream::with(move |_, stream| {
        let fields = [("content-type", "application/json"), ("etag", "\"v1\"")];
        crate::support::upstream::answer(stream, 200, &fields, body.as_bytes())
    });
    for coding in ["gzip", "br", "zstd"] {
        let inner = on_route(&service, "{kind: compress}");
        let outer = Proxy::http(&format!(
            "pools: [{{name: app, endpoints: ['{}']}}]\n{ALL_TO_APP}  plugins: [{{kind: decompress, config: {{responses: always}}}}]\n",
            inner.address("web")
        ));
        let accept = format!("accept-encoding: {coding}\r\n");

        let (coded, plain) = (
            inner.ask("GET", "/", &accept),
            outer.ask("GET", "/", &accept),
        );

        assert_eq!(coded.header("content-encoding"), Some(coding));
        assert_eq!(
            coded.header("transfer-encoding"),
            Some("chunked"),
            "{coding}"
        );
        assert_eq!(
            (coded.header("etag"), coded.header("vary")),
            (Some("W/\"v1\""), Some("Accept-Encoding"))
        );
        assert!(
            coded.body.len() < text.len() / 4,
            "{coding}: {}",
            coded.body.len()
        );
        assert_eq!(
            (plain.header("content-encoding"), &*plain.text()),
            (None, &*text),
            "{coding}"
        );
    }
}

#[test]
fn compress_leaves_alone_what_it_must() {
    let service = Upstream::with(|seen, stream| {
        let kind = if seen.target == "/png" {
            "image/png"
        } else {
            "text/plain"
        };
        let body = if seen.target == "/short" {
            "a".repeat(10)
        } else {
            "a".repeat(5000)
        };
        crate::support::upstream::answer(stream, 200, &[("content-type", kind)], body.as_bytes())
    });
    let proxy = on_route(&service, "{kind: compress}");
    let dead = on_route(&Upstream::refusing(), "{kind: compress}");
    let ask = |proxy: &Proxy, method: &str, target: &str| {
        proxy.ask(method, target, "accept-encoding: gzip\r\n")
    };

    assert_eq!(
        ask(&proxy, "GET", "/").header("content-encoding"),
        Some("gzip")
    );
    for target in ["/png", "/short"] {
        let reply = ask(&proxy, "GET", target);
        assert_eq!(
            (
                reply.header("content-encoding"),
                reply.header("transfer-encoding")
            ),
            (None, None)
        );
    }
    assert_eq!(proxy.get("/").header("content-encoding"), None);
    let own = ask(&dead, "GET", "/");
    assert_eq!(
        (own.status, own.header("content-encoding"), &*own.why()),
        (502, None, "connect_refused")
    );
}

#[test]
fn decompress_takes_the_coding_off_uploads_and_refuses_bombs() {
    let service = Upstream::echo();
    let proxy = on_route(
        &service,
        "{kind: decompress, config: {max_size: 100KiB, max_ratio: 100000, refuse_unknown: true}}",
    );
    let send = |coding: &str, body: &[u8]| {
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-encoding: {coding}\r\ncontent-length: {}\r\n\r\n", body.len());
        proxy.connect().ask([head.as_bytes(), body].concat())
    };

    let plain = send("gzip", HELLO);
    let seen = service.last();
    let (bomb, junk) = (send("gzip", ZEROS), send("gzip", b"not gzip at all"));
    let unknown = send("deflate", b"x");

    assert_eq!(
        (plain.status, &seen.body[..]),
        (200, &b"hello hello hello"[..])
    );
    assert_eq!(
        (
            seen.header("content-encoding"),
            seen.header("content-length")
        ),
        (None, None)
    );
    assert_eq!((bomb.status, &*bomb.why()), (413, "decompress.too_large"));
    assert_eq!((junk.status, &*junk.why()), (400, "decompress.malformed"));
    assert_eq!(
        (unknown.status, &*unknown.why()),
        (415, "decompress.unsupported")
    );
    assert_eq!(unknown.header("accept-encoding"), Some("zstd, br, gzip"));
}

#[test]
fn waf_lite_names_the_check_that_refused() {
    let service = Upstream::echo();
    let proxy = on_route(
        &service,
        "{kind: waf_lite, config: {query_traversal: detect, methods: [GET, POST]}}",
    );
    let post = |body: &str| {
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        proxy
            .connect()
            .ask([head.as_bytes(), body.as_bytes()].concat())
    };

    let refused = [
        (proxy.get("/a/..%2f..%2fetc/passwd"), "waf.traversal"),
        (proxy.get("/%252e%252e/"), "waf.double_encoding"),
        (proxy.get("/?a=%00"), "waf.controls"),
        (proxy.get("/%c0%ae"), "waf.overlong_utf8"),
        (
            proxy.ask("GET", "/", "x-a: b\tc\r\n"),
            "waf.field_whitespace",
        ),
        (post("<xml/>"), "waf.body_start"),
    ];

    for (reply, cause) in refused {
        assert_eq!((reply.status, &*reply.why()), (400, cause));
    }
    let put = proxy.ask("PUT", "/", "");
    assert_eq!((put.status, put.header("allow")), (405, Some("GET, POST")));
    let passed = [
        proxy.get("/a%20b/%C3%A9?q=c%2B%2B"),
        proxy.get("/?file=../../x"),
        post("{}"),
    ];
    assert_eq!(passed.map(|reply| reply.status), [200; 3]);
    let marks = ["event=\"found_query_traversal\""];
    assert_eq!(proxy.metric("windrose_plugin_events_total", &marks), 1.0);
}

/// A proxy for browsers to a gRPC service.
fn for_browsers(service: &Grpc) -> Proxy {
    Proxy::http(&format!(
        "pools: [{{name: app, protocol: http2, endpoints: ['{}']}}]\n{ALL_TO_APP}  timeouts: {{idle: 1s}}\n  plugins: [{{kind: grpc_web, config: {{only: true}}}}]\n",
        service.address
    ))
}

/// A call of a browser.
fn call(proxy: &Proxy, method: &str, kind: &str, body: &[u8]) -> crate::support::Reply {
    let head = format!(
        "POST /demo.Echo/{method} HTTP/1.1\r\nhost: a\r\ncontent-type: {kind}\r\nx-grpc-web: 1\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    proxy.connect().ask([head.as_bytes(), body].concat())
}

/// The messages of a body, and the status in its last frame.
fn taken_apart(body: &[u8]) -> (Vec<u8>, String) {
    let mark = body
        .iter()
        .position(|byte| *byte == 0x80)
        .expect("a frame of trailers");
    let (messages, end) = body.split_at(mark);
    let length = u32::from_be_bytes(end[1..5].try_into().unwrap()) as usize;
    assert_eq!(length, end.len() - 5);
    (
        messages.to_vec(),
        String::from_utf8_lossy(&end[5..]).into_owned(),
    )
}

#[tokio::test]
async fn a_browser_calls_a_grpc_service_in_either_form() {
    let service = Grpc::start();
    let proxy = for_browsers(&service);
    let message = frame("hi");
    let encoded = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &message);

    let binary = call(&proxy, "unary", "application/grpc-web+proto", &message);
    let text = call(
        &proxy,
        "unary",
        "application/grpc-web-text+proto",
        encoded.as_bytes(),
    );

    let kinds = [&binary, &text].map(|reply| reply.header("content-type"));
    assert!(
        kinds[0].is_some_and(|kind| kind.starts_with("application/grpc-web")),
        "{kinds:?}"
    );
    assert!(
        kinds[1].is_some_and(|kind| kind.starts_with("application/grpc-web-text")),
        "{kinds:?}"
    );
    let (messages, end) = taken_apart(&binary.body);
    assert_eq!(messages, message);
    assert!(end.contains("grpc-status: 0\r\n"), "{end}");
    // Groups of base64, with padding wherever a piece ended.
    let mut decoded = Vec::new();
    for group in text.body.chunks(4) {
        decoded.extend(base64::Engine::decode(&base64::prelude::BASE64_STANDARD, group).unwrap());
    }
    let (messages, end) = taken_apart(&decoded);
    assert_eq!(messages, message);
    assert!(end.contains("grpc-status: 0\r\n"), "{end}");
    proxy.logged(|line| line["grpc_status"] == 0);
}

#[tokio::test]
async fn calls_that_are_refused_have_their_status_and_junk_its_cause() {
    let service = Grpc::start();
    let proxy = for_browsers(&service);
    let refusing = Upstream::refusing();
    let dead = Proxy::http(&format!(
        "pools: [{{name: app, protocol: http2, endpoints: ['{}']}}]\n{ALL_TO_APP}  plugins: [{{kind: grpc_web}}]\n",
        refusing.address
    ));

    let down = call(&dead, "unary", "application/grpc-web", &frame("hi"));
    // The service has begun its answer by then, or waits for a body that never comes whole.
    let mut junk = proxy.connect();
    let head = "POST /demo.Echo/unary HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc-web-text\r\ncontent-length: 4\r\n\r\n!!!!";
    junk.send(head);
    let other = call(&proxy, "unary", "application/json", b"{}");

    assert_eq!((down.status, down.header("grpc-status")), (200, Some("14")));
    assert_eq!(down.header("content-type"), Some("application/grpc-web"));
    proxy.logged(|line| line["why"] == "grpc_web.malformed");
    assert_eq!((other.status, &*other.why()), (415, "grpc_web.expected"));
}

#[tokio::test]
async fn a_compressed_stream_that_ends_with_trailers_is_whole() {
    let service = Grpc::start();
    let inner = Proxy::http(&format!(
        "pools: [{{name: app, protocol: http2, endpoints: ['{}']}}]\n{ALL_TO_APP}  plugins: [{{kind: compress}}, {{kind: headers, config: {{response: {{set: {{content-type: text/plain}}}}}}}}]\n",
        service.address
    ));
    let outer = Proxy::http(&format!(
        "pools: [{{name: app, endpoints: ['{}']}}]\n{ALL_TO_APP}  plugins: [{{kind: decompress, config: {{responses: always}}}}]\n",
        inner.address("web")
    ));
    let request =
        "POST /unary HTTP/1.1\r\nhost: a\r\naccept-encoding: gzip\r\ncontent-length: 2\r\n\r\nhi";

    let (coded, plain) = (inner.connect().ask(request), outer.connect().ask(request));

    assert_eq!(coded.header("content-encoding"), Some("gzip"));
    assert_eq!((plain.status, &*plain.text()), (200, "hi"));
}

#[test]
fn body_limit_bounds_types_and_responses() {
    let service = Upstream::with(|seen, stream| {
        let body = if seen.target == "/large" {
            "a".repeat(5000)
        } else {
            "ok".to_owned()
        };
        crate::support::upstream::answer(stream, 200, &[], body.as_bytes())
    });
    let plugin = "{kind: body_limit, config: {max: 1KiB, types: [{type: image/*, max: 2KiB}], require_length: true, max_response: 4KiB}}";
    let proxy = on_route(&service, plugin);
    let post = |kind: &str, length: usize| {
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n");
        proxy
            .connect()
            .ask([head.as_bytes(), &vec![b'a'; length]].concat())
            .status
    };

    assert_eq!(
        [
            post("image/png", 2000),
            post("text/plain", 2000),
            post("image/png", 3000)
        ],
        [200, 413, 413]
    );
    let chunked = proxy
        .connect()
        .ask("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n");
    assert_eq!(
        (chunked.status, &*chunked.why()),
        (411, "body_limit.no_length")
    );
    let large = proxy.get("/large");
    assert_eq!((large.status, &*large.why()), (502, "body_limit.response"));
}

#[test]
fn several_responds_are_a_mock_and_the_rest_goes_on() {
    let service = Upstream::answering("real");
    let proxy = on_route(
        &service,
        "{kind: respond, config: {json: {id: 7}, when: {path: /users/7}}}, {kind: respond, config: {status: 404, body: none, when: {path_prefix: /users/, query: {state: '*'}}}}",
    );

    let of = |target: &str| {
        let reply = proxy.get(target);
        (reply.status, reply.text())
    };

    assert_eq!(of("/users/7"), (200, "{\"id\":7}".to_owned()));
    assert_eq!(of("/users/8?state=new"), (404, "none".to_owned()));
    assert_eq!(of("/users/8"), (200, "real".to_owned()));
}
