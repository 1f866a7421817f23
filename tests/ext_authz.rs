//! `ext_authz` against a service over HTTP/2 that speaks Envoy's protocol, its messages written byte by byte.
//! It must not know corner cases; the plugin's own tests do.
//! Part of the test binary.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response};

use crate::support::grpc::all;
use crate::support::proxy::{pool, ALL_TO_APP, WEB};
use crate::support::{Proxy, Upstream};

/// An authorization service: lets in whoever has the cookie `user=ann`, has no answer for `user=broken`.
struct Authz {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Authz {
    fn start() -> Authz {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        std::thread::spawn(move || {
            let builder = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            builder.unwrap().block_on(serve(listener, counted));
        });
        Authz {
            address,
            connections,
        }
    }
}

async fn serve(listener: std::net::TcpListener, connections: Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    while let Ok((stream, _)) = listener.accept().await {
        connections.fetch_add(1, SeqCst);
        tokio::spawn(async move {
            let Ok(mut connection) = h2::server::handshake(stream).await else {
                return;
            };
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                tokio::spawn(async move {
                    let is_check =
                        request.uri().path() == "/envoy.service.auth.v3.Authorization/Check";
                    let mut body = request.into_body();
                    let asked = all(&mut body).await.unwrap_or_default();
                    let says = |text: &[u8]| asked.windows(text.len()).any(|part| part == text);
                    let head = Response::builder().header("content-type", "application/grpc");
                    if !is_check || says(b"user=broken") {
                        let head = head.header("grpc-status", "13").body(()).unwrap();
                        let _ = respond.send_response(head, true);
                        return;
                    }
                    let answer = if says(b"user=ann") { ALLOWED } else { DENIED };
                    let mut frame = vec![0, 0, 0, 0, u8::try_from(answer.len()).unwrap()];
                    frame.extend(answer);
                    let mut sending = respond
                        .send_response(head.body(()).unwrap(), false)
                        .unwrap();
                    sending.send_data(Bytes::from(frame), false).unwrap();
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", 0.into());
                    sending.send_trailers(trailers).unwrap();
                });
            }
        });
    }
}

/// `status` (1) with code 0, `ok_response` (3) with a header: `x-user: ann`.
const ALLOWED: &[u8] = b"\x0a\x00\x1a\x11\x12\x0f\x0a\x0d\x0a\x06x-user\x12\x03ann";
/// `status` (1) with code 7, `denied_response` (2) with status 401.
const DENIED: &[u8] = b"\x0a\x02\x08\x07\x12\x05\x0a\x03\x08\x91\x03";

fn proxy(app: &Upstream, pools: &str, service: &str) -> Proxy {
    Proxy::start(&format!(
        "{WEB}{}{pools}{ALL_TO_APP}  plugins:\n  - {{kind: ext_authz, config: {{service: {service}, request_headers: [x-user]}}}}\n",
        pool("app", &[app])
    ))
}

#[test]
fn a_service_over_grpc_allows_denies_and_fails() {
    let (app, authz) = (Upstream::echo(), Authz::start());
    let named = format!(
        "- {{name: authz, protocol: http2, endpoints: ['{}']}}\n",
        authz.address
    );
    for (pools, service) in [
        ("", format!("'h2c://{}'", authz.address)),
        (
            &*named,
            "{url: 'h2c://authz.test/', pool: authz}".to_owned(),
        ),
    ] {
        let proxy = proxy(&app, pools, &service);
        let ask = |user: &str| {
            proxy.ask(
                "GET",
                "/",
                &format!("cookie: user={user}\r\nx-user: root\r\n"),
            )
        };
        let before = authz.connections.load(SeqCst);

        let replies = ["ann", "mallory", "broken", "ann"].map(ask);

        let seen = replies.each_ref().map(|reply| (reply.status, reply.why()));
        let expected = [
            (200, ""),
            (401, "auth.ext_authz_denied"),
            (503, "auth.ext_authz_unavailable"),
            (200, ""),
        ];
        assert_eq!(seen, expected.map(|(status, why)| (status, why.to_owned())));
        assert_eq!(app.last().all("x-user"), ["ann"]);
        assert_eq!(
            authz.connections.load(SeqCst) - before,
            1,
            "calls share a connection"
        );
        assert!(
            proxy.stderr().contains("gRPC status 13"),
            "{}",
            proxy.stderr()
        );
    }
}

#[test]
fn a_service_that_is_no_grpc_service_is_a_failure() {
    let (app, http1) = (Upstream::echo(), Upstream::answering("ok"));
    let proxy = proxy(&app, "", &format!("'h2c://{}'", http1.address));

    let reply = proxy.get("/");

    assert_eq!(
        (reply.status, &*reply.why()),
        (503, "auth.ext_authz_unavailable")
    );
    assert_eq!(app.requests(), 0);
}

#[test]
fn the_service_decides_by_the_body_and_larger_ones_go_as_the_settings_say() {
    let (app, authz) = (Upstream::echo(), Authz::start());
    let proxy = |partial: bool| {
        Proxy::start(&format!(
            "{WEB}{}{ALL_TO_APP}  plugins:\n  - {{kind: ext_authz, config: {{service: 'h2c://{}', request_headers: [x-user], with_request_body: {{max_bytes: 16B, allow_partial: {partial}}}}}}}\n",
            pool("app", &[&app]),
            authz.address
        ))
    };
    let (whole, partial) = (proxy(false), proxy(true));
    let post = |proxy: &Proxy, body: &str| {
        let length = body.len();
        let fields = format!("content-length: {length}\r\n");
        let mut client = proxy.connect();
        client.ask(format!(
            "POST / HTTP/1.1\r\nhost: test\r\n{fields}\r\n{body}"
        ))
    };

    assert_eq!(post(&whole, "user=ann").status, 200);
    assert_eq!(post(&whole, "user=bob").why(), "auth.ext_authz_denied");
    let long = format!("user=ann{}", "x".repeat(200_000));
    let refused = post(&whole, &long);
    assert_eq!(
        (refused.status, &*refused.why()),
        (413, "auth.ext_authz_too_large")
    );
    let reply = post(&partial, &long);
    assert_eq!((reply.status, app.last().length), (200, long.len()));
    assert_eq!(app.last().header("x-user"), Some("ann"));
    let late = format!("{}user=ann", "x".repeat(200_000));
    assert_eq!(
        post(&partial, &late).why(),
        "auth.ext_authz_denied",
        "nobody looked so far"
    );
}
