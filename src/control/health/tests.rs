//! Health checks against origins on loopback: HTTP, TLS, gRPC and socket files.
//! It must not know how a check is made, only what the origin saw and what the verdict was.
//! Run by `cargo test`.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::Mutex;

use pingora::protocols::ALPN;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

use super::*;
use crate::control::pools::tests::{pool, refusing, settings, snapshot, until};
use crate::control::pools::PoolKeeper;
use crate::control::tests::Authority;
use crate::observe::metrics::Metrics;
use crate::snapshot::pool::{HealthKind, PoolProtocol, ProxyVersion, Source};
use crate::snapshot::tls::{authorities, PeerTls, Verify};

/// Checks one endpoint once.
async fn ask(settings: &PoolSettings, kind: HealthKind, address: &Address) -> Result<(), String> {
    ask_with(settings, health(kind), address).await
}

async fn ask_with(
    settings: &PoolSettings,
    health: Health,
    address: &Address,
) -> Result<(), String> {
    let pool = pool("web", Source::Static, None, &[]);
    let metrics = Metrics::new(8);
    let watch = Watch {
        prober: Arc::default(),
        slot: Slot::new(&pool, &Arc::default(), &metrics),
        check: probe::check(&Arc::default(), settings, &health),
        health,
        epoch: 0,
    };
    watch.ask(&watch.target(address).unwrap()).await
}

fn health(kind: HealthKind) -> Health {
    Health {
        kind,
        interval: Duration::from_millis(20),
        timeout: Duration::from_secs(10),
        rise: 2,
        fall: 3,
        port: None,
    }
}

fn plain() -> PoolSettings {
    settings(Source::Static, None)
}

fn http(statuses: (u16, u16)) -> HealthKind {
    HealthKind::Http {
        path: "/ready?full=1".into(),
        host: None,
        statuses,
    }
}

fn grpc(service: &str) -> HealthKind {
    HealthKind::Grpc {
        service: service.into(),
    }
}

fn trusting(authority: &Authority, sni: &str) -> PoolSettings {
    let mut settings = plain();
    settings.tls = Some(Arc::new(PeerTls {
        sni: sni.into(),
        verify: Verify::Full,
        ca: Some(Arc::new(authorities(&authority.pem()).unwrap())),
        own: None,
        fingerprint: "f".into(),
    }));
    settings
}

/// An origin that answers every connection with the same bytes and keeps what it was sent.
#[derive(Default)]
struct Origin {
    seen: Mutex<Vec<String>>,
}

impl Origin {
    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) {
        let mut bytes = Vec::new();
        // Version 2 of the PROXY protocol begins with what ends an HTTP header.
        while bytes.len() <= 4 || !bytes.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => bytes.push(byte),
                Err(_) => break,
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        self.seen.lock().unwrap().push(text);
        let _ = stream.write_all(answer.as_bytes()).await;
    }

    async fn new(answer: &'static str) -> (Arc<Origin>, Address) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let origin = Arc::<Origin>::default();
        let serving = origin.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serving.serve(stream, answer).await;
            }
        });
        (origin, address)
    }

    fn seen(&self) -> String {
        self.seen.lock().unwrap().concat()
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn http_is_healthy_within_the_statuses() {
    let (origin, address) =
        Origin::new("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;

    let without = ask(&plain(), http((200, 299)), &address).await;
    let with = ask(&plain(), http((200, 404)), &address).await;

    assert_eq!(without, Err("status 404, not 200 to 299".into()));
    assert_eq!(with, Ok(()));
    let seen = origin.seen().to_ascii_lowercase();
    assert!(seen.starts_with("get /ready?full=1 http/1.1\r\n"), "{seen}");
    assert!(seen.contains(&format!("host: {address}\r\n")), "{seen}");
}

#[tokio::test]
async fn an_endless_body_does_not_make_http_unhealthy() {
    let (_origin, address) =
        Origin::new("HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\nok").await;

    assert_eq!(ask(&plain(), http((200, 299)), &address).await, Ok(()));
}

#[tokio::test]
async fn http_asks_for_the_configured_host_at_the_configured_port() {
    let (origin, address) = Origin::new(OK).await;
    let Address::Tcp(at) = address else {
        unreachable!()
    };
    let mut health = health(HealthKind::Http {
        path: "/".into(),
        host: Some("web.test".into()),
        statuses: (200, 299),
    });
    health.port = Some(at.port());
    let elsewhere = Address::Tcp(refusing().await);

    let outcome = ask_with(&plain(), health, &elsewhere).await;

    assert_eq!(outcome, Ok(()));
    assert!(origin.seen().contains("web.test"));
}

#[tokio::test]
async fn socket_files_are_checked_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let origin = Arc::<Origin>::default();
    let serving = origin.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            serving.serve(stream, OK).await;
        }
    });
    let missing = Address::Unix(folder.path().join("none.sock"));
    let address = Address::Unix(path);

    assert_eq!(ask(&plain(), HealthKind::Tcp, &address).await, Ok(()));
    assert_eq!(ask(&plain(), http((200, 299)), &address).await, Ok(()));
    assert!(origin
        .seen()
        .to_ascii_lowercase()
        .contains("host: localhost\r\n"));
    assert!(ask(&plain(), HealthKind::Tcp, &missing).await.is_err());
}

#[tokio::test]
async fn pools_that_send_the_proxy_protocol_send_it_in_checks() {
    let (origin, address) = Origin::new(OK).await;
    let mut settings = plain();
    settings.proxy_protocol = Some(ProxyVersion::V1);

    let first = ask(&settings, http((200, 299)), &address).await;
    settings.proxy_protocol = Some(ProxyVersion::V2);
    let second = ask(&settings, HealthKind::Tcp, &address).await;

    assert_eq!((first, second), (Ok(()), Ok(())));
    assert!(
        origin.seen().starts_with("PROXY UNKNOWN\r\nGET "),
        "{}",
        origin.seen()
    );
    until("the second header", || origin.seen().contains("QUIT\n")).await;
}

#[tokio::test]
async fn refusal_and_silence_are_unhealthy() {
    let dead = Address::Tcp(refusing().await);
    // Never accepts: the system completes the connection, nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_address = Address::Tcp(silent.local_addr().unwrap());
    let mut short = health(http((200, 299)));
    short.timeout = Duration::from_millis(100);

    let refused = ask(&plain(), HealthKind::Tcp, &dead).await;
    let unanswered = ask_with(&plain(), short, &silent_address).await;

    assert_eq!(refused, Err("connection refused".into()));
    assert_eq!(unanswered, Err("no answer in time".into()));
}

#[tokio::test]
async fn tls_is_checked_as_the_pool_would_speak_it() {
    let authority = Authority::new();
    let address = authority.serve("web.test", &[], |_| async {}).await;

    let good = ask(&trusting(&authority, "web.test"), HealthKind::Tcp, &address).await;
    let other_name = ask(&trusting(&authority, "api.test"), HealthKind::Tcp, &address).await;
    let other_issuer = trusting(&Authority::new(), "web.test");
    let other_issuer = ask(&other_issuer, HealthKind::Tcp, &address).await;

    assert_eq!(good, Ok(()));
    assert!(other_name.is_err());
    assert!(other_issuer.is_err());
}

#[tokio::test]
async fn https_is_checked_by_name() {
    let authority = Authority::new();
    let origin = Arc::<Origin>::default();
    let serving = origin.clone();
    let answer = move |stream| {
        let serving = serving.clone();
        async move { serving.serve(stream, OK).await }
    };
    let address = authority.serve("web.test", b"\x08http/1.1", answer).await;

    let outcome = ask(
        &trusting(&authority, "web.test"),
        http((200, 299)),
        &address,
    )
    .await;

    assert_eq!(outcome, Ok(()));
    assert!(origin
        .seen()
        .to_ascii_lowercase()
        .contains("host: web.test\r\n"));
}

/// Answers one HTTP/2 connection: `web` is serving, `api` is not, other services are unknown.
async fn serve_grpc(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((mut request, mut respond))) = connection.accept().await {
        let respond = async move {
            assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
            let mut body = Vec::new();
            while let Some(Ok(piece)) = request.body_mut().data().await {
                body.extend_from_slice(&piece);
            }
            let head = http::Response::builder().header("content-type", "application/grpc");
            let status: u8 = match body.get(7..) {
                Some(b"web") | None => 1,
                Some(b"api") => 2,
                Some(_) => {
                    let head = head.header("grpc-status", "5").body(()).unwrap();
                    let _ = respond.send_response(head, true);
                    return;
                }
            };
            let mut send = respond
                .send_response(head.body(()).unwrap(), false)
                .unwrap();
            let message = vec![0, 0, 0, 0, 2, 8, status];
            send.send_data(message.into(), false).unwrap();
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            send.send_trailers(trailers).unwrap();
        };
        tokio::spawn(respond);
    }
}

#[tokio::test]
async fn grpc_is_healthy_only_while_serving() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_grpc(stream));
        }
    });

    let server = ask(&plain(), grpc(""), &address).await;
    let web = ask(&plain(), grpc("web"), &address).await;
    let api = ask(&plain(), grpc("api"), &address).await;
    let other = ask(&plain(), grpc("other"), &address).await;

    assert_eq!((server, web), (Ok(()), Ok(())));
    assert_eq!(api, Err("status NOT_SERVING".into()));
    assert_eq!(
        other,
        Err("gRPC status 5: the service is unknown to it".into())
    );
}

#[tokio::test]
async fn grpc_over_tls_needs_http2() {
    let authority = Authority::new();
    let address = authority.serve("web.test", b"\x02h2", serve_grpc).await;
    let old = authority
        .serve("web.test", b"\x08http/1.1", serve_grpc)
        .await;
    let settings = trusting(&authority, "web.test");

    assert_eq!(ask(&settings, grpc("web"), &address).await, Ok(()));
    assert!(ask(&settings, grpc("web"), &old).await.is_err());
}

#[tokio::test]
async fn grpc_of_an_http1_server_is_unhealthy() {
    let (_origin, address) = Origin::new("HTTP/1.1 400 Bad Request\r\n\r\n").await;

    assert!(ask(&plain(), grpc(""), &address).await.is_err());
}

#[tokio::test]
async fn http_checks_of_an_http2_pool_use_prior_knowledge() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap());
    let host = address.to_string();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let is_right = request
                .uri()
                .authority()
                .is_some_and(|a| a.as_str() == host);
            let status = if is_right { 204 } else { 400 };
            let head = http::Response::builder().status(status).body(()).unwrap();
            respond.send_response(head, true).unwrap();
        }
    });
    let mut settings = plain();
    settings.protocol = PoolProtocol::Http2;

    assert_eq!(ask(&settings, http((200, 299)), &address).await, Ok(()));
}

#[test]
fn the_protocol_of_the_pool_is_offered() {
    let offered = |protocol, kind: HealthKind| {
        let mut settings = plain();
        settings.protocol = protocol;
        probe::alpn(&kind, settings.protocol)
    };

    assert_eq!(offered(PoolProtocol::Http1, HealthKind::Tcp), ALPN::H1);
    assert_eq!(offered(PoolProtocol::Auto, http((200, 299))), ALPN::H2H1);
    assert_eq!(offered(PoolProtocol::Tcp, grpc("")), ALPN::H2);
}

#[tokio::test]
async fn many_endpoints_are_checked_a_bounded_number_at_a_time() {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let served = most.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (open, most) = (open.clone(), served.clone());
            tokio::spawn(async move {
                most.fetch_max(open.fetch_add(1, Relaxed) + 1, Relaxed);
                let _ = stream.read(&mut [0; 512]).await;
                tokio::task::yield_now().await;
                // Before the answer, since the check that gets it makes room for the next.
                open.fetch_sub(1, Relaxed);
                let _ = stream.write_all(OK.as_bytes()).await;
            });
        }
    });
    let addresses: Vec<Address> = (1..=200)
        .map(|n| Address::Tcp(([127, 0, 0, n], port).into()))
        .collect();
    let pool = pool(
        "web",
        Source::Static,
        Some(health(http((200, 299)))),
        &addresses,
    );
    let keeper = PoolKeeper::new(Arc::default(), Metrics::new(8));

    keeper.follow(&snapshot(vec![pool.clone()]));

    let set = pool.set.load_full();
    until("a check of each", || {
        let mut members = set.members.iter();
        members.all(|member| member.endpoint.state.checks.load(Relaxed) > 0)
    })
    .await;
    assert!(
        (2..=CHECKS_AT_ONCE).contains(&most.load(Relaxed)),
        "{most:?}"
    );
}
