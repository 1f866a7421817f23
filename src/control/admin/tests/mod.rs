//! The admin address as a client sees it, over real connections on loopback.
//! It must not reach behind the responses, except to set up what they show.
//! Run by `cargo test`.

mod orders;
mod shown;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use pingora::apps::ServerApp;
use pingora::protocols::l4::stream::Stream;
use pingora::services::Service as _;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

use super::*;
use crate::control::pools::tests::{pool_of, settings, snapshot, until};
use crate::control::status::{BindState, ListenerState};
use crate::observe::clock;
use crate::observe::recorder::RecorderSettings;
use crate::snapshot::endpoint::{Address, Endpoints};
use crate::snapshot::pool::{Pool, Source};
use shown::shown;

/// An admin address on loopback.
struct Bench {
    address: SocketAddr,
    status: Arc<Status>,
    pool: Arc<Pool>,
    refuses: Arc<AtomicBool>,
}

struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    fn parse(text: &str) -> Reply {
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Reply {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    fn json(&self) -> Value {
        assert!(
            self.head.contains("content-type: application/json"),
            "{}",
            self.head
        );
        serde_json::from_str(&self.body).unwrap()
    }
}

impl Bench {
    async fn new() -> Bench {
        let status = Arc::<Status>::default();
        status.listeners.store(Arc::new(vec![ListenerState {
            name: "edge".into(),
            role: "ingress",
            protocol: "http",
            bind: "127.0.0.1:80".into(),
            open: Arc::default(),
            state: BindState::Listening,
        }]));
        let refuses = Arc::<AtomicBool>::default();
        let (desk, pool) = desk(Reach::Network, &status, &refuses);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Arc::new(HttpServer::new_app(desk));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serve(server.clone(), stream.into());
            }
        });
        Bench {
            address,
            status,
            pool,
            refuses,
        }
    }

    async fn send(&self, request: &str) -> Reply {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        Reply::parse(&text)
    }

    async fn ask(&self, method: &str, path: &str, fields: &str) -> Reply {
        let address = self.address;
        self.send(&format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{fields}\r\n"
        ))
        .await
    }

    async fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, "").await
    }
}

/// Connections of tests end by themselves; the shutdown signal must outlive them.
fn serve(server: Arc<HttpServer<Desk>>, stream: Stream) {
    tokio::spawn(async move {
        let (_running, shutdown) = watch::channel(false);
        let mut stream = Some(Box::new(stream) as pingora::protocols::Stream);
        while let Some(open) = stream {
            stream = server.process_new(open, &shutdown).await;
        }
    });
}

fn desk(reach: Reach, status: &Arc<Status>, refuses: &Arc<AtomicBool>) -> (Desk, Arc<Pool>) {
    let metrics = Metrics::new(8);
    let endpoints = Arc::<Endpoints>::default();
    let addresses: Vec<Address> = (1..=3)
        .map(|n| Address::Tcp(([10, 0, 0, n], 80).into()))
        .collect();
    let settings = settings(Source::Static, None);
    let pool = pool_of("web", settings, &addresses, &endpoints, &metrics);
    let current = Arc::new(Current::new(shown(&pool, &metrics)));
    let refuses = refuses.clone();
    let reload = move |order: Order| -> Reloading {
        let result = match refuses.load(Relaxed) || order == Order::RollBack {
            true => Err(vec!["a.yaml:1:1: wrong".to_owned()]),
            false => Ok(vec![match order {
                Order::Probation(terms) => format!("{terms:?}"),
                Order::Confirm(Some(generation)) => format!("generation {generation} confirmed"),
                _ => "route web changed".to_owned(),
            }]),
        };
        Box::pin(async move {
            Reload {
                at: SystemTime::UNIX_EPOCH,
                took: Duration::from_millis(12),
                generation: 7,
                result,
            }
        })
    };
    let admin = Admin {
        current,
        pools: PoolKeeper::new(endpoints, metrics.clone()),
        certs: CertKeeper::new(metrics.clone()),
        tasks: Arc::new(crate::control::tasks::TaskKeeper::new(metrics.clone())),
        recorder: Arc::new(Recorder::new(
            &RecorderSettings::default(),
            metrics.recorder(),
        )),
        metrics,
        status: status.clone(),
        reload: Arc::new(reload),
    };
    (
        Desk {
            admin,
            reach,
            proving: Default::default(),
            explaining: Default::default(),
        },
        pool,
    )
}

#[tokio::test]
async fn every_place_answers_and_says_its_length() {
    let bench = Bench::new().await;

    let posted = [
        Place::CachePurge,
        Place::Explain,
        Place::MeshProbe,
        Place::Reload,
        Place::Confirm,
        Place::RollBack,
    ];
    for entry in PLACES.iter().filter(|entry| !posted.contains(&entry.place)) {
        let get = bench.get(entry.path).await;
        let head = bench.ask("HEAD", entry.path, "").await;

        let length = format!("content-length: {}\r\n", get.body.len());
        assert_eq!(get.status, 200, "{}", entry.path);
        assert!(get.head.contains(&length), "{}: {}", entry.path, get.head);
        assert!(get.head.contains("cache-control: no-store"));
        assert_eq!(
            (head.status, head.body.as_str()),
            (200, ""),
            "{}",
            entry.path
        );
        assert!(head.head.contains("content-length: "), "{}", head.head);
    }
}

#[tokio::test]
async fn liveness_and_metrics_are_plain_text() {
    let bench = Bench::new().await;

    assert_eq!(bench.get("/livez").await.body, "ok");
    let metrics = bench.get("/metrics").await;
    assert!(metrics
        .head
        .contains("content-type: text/plain; version=0.0.4"));
}

#[tokio::test]
async fn readiness_says_why_not() {
    let bench = Bench::new().await;
    let ready = bench.get("/readyz").await.json();
    bench.status.draining.store(true, Relaxed);
    bench.status.disk_differs.store(true, Relaxed);
    let refused = Reload {
        at: SystemTime::UNIX_EPOCH,
        took: Duration::from_millis(3),
        generation: 7,
        result: Err(vec!["wrong".into()]),
    };
    bench.status.last_reload.store(Arc::new(Some(refused)));

    let reply = bench.get("/readyz").await;

    assert_eq!(
        (&ready["ready"], &ready["last_reload"]),
        (&true.into(), &Value::Null)
    );
    assert_eq!(reply.status, 503);
    let view = reply.json();
    assert_eq!(view["ready"], false);
    assert_eq!(view["reason"], "draining");
    assert_eq!(view["generation"], 7);
    assert_eq!(view["config_differs_from_disk"], true);
    assert_eq!(view["last_reload"]["ok"], false);
    assert_eq!(view["last_reload"]["at"], "1970-01-01T00:00:00Z");
    assert_eq!(view["last_reload"]["problems"][0], "wrong");
}

#[tokio::test]
async fn the_configuration_is_yaml_or_json() {
    let bench = Bench::new().await;

    let yaml = bench.get("/config").await;
    let json = bench.get("/config?format=json").await.json();

    assert_eq!(yaml.body, "pools:\n- name: web\n");
    assert!(yaml.head.contains("x-windrose-generation: 7"));
    assert_eq!(json["generation"], 7);
    assert_eq!(json["digest"], "d1");
    assert_eq!(json["config"]["pools"][0]["name"], "web");
    assert_eq!(json["warnings"][0], "pool <web> is unused");
}

#[tokio::test]
async fn rules_stand_in_order_of_precedence() {
    let bench = Bench::new().await;

    let view = bench.get("/routes").await.json();

    let hosts = view["listeners"][0]["hosts"].as_array().unwrap().clone();
    let names: Vec<&str> = hosts
        .iter()
        .map(|host| host["host"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["web.test", "*.test", "*"]);
    let rules = hosts[0]["rules"].as_array().unwrap();
    let of_host: Vec<&str> = rules
        .iter()
        .map(|rule| rule["route"].as_str().unwrap())
        .collect();
    assert_eq!(of_host, ["r6", "r4", "r5", "r3"]);
    assert_eq!(rules[0]["path"]["exact"], "/a");
    assert_eq!(rules[2]["conditions"][0], "header x-beta = ***");
    assert_eq!(rules[0]["timeouts"]["response_header_ms"], 60_000.0);
    assert_eq!(rules[0]["place"], "a.yaml:3");
    assert_eq!(hosts[1]["rules"][0]["action"]["pool"], "web");
    assert_eq!(hosts[2]["rules"][0]["path"]["prefix"], "/");
    assert_eq!(hosts[2]["rules"][0]["action"]["respond"]["status"], 200);
}

#[tokio::test]
async fn endpoints_say_why_they_are_out() {
    let bench = Bench::new().await;
    let set = bench.pool.set.load_full();
    let state = |at: usize| &set.members[at].endpoint.state;
    let minute = Duration::from_secs(60);
    state(1).outlier.shut(clock::now(), minute);
    state(2).healthy.store(false, Relaxed);
    state(0).in_flight.store(4, Relaxed);
    state(0).latency.store(2.5e6_f64.to_bits(), Relaxed);

    let view = bench.get("/pools").await.json();

    let pool = &view["pools"][0];
    assert_eq!(
        (&pool["name"], &pool["algorithm"]),
        (&"web".into(), &"round_robin".into())
    );
    assert_eq!((&pool["total"], &pool["available"]), (&3.into(), &1.into()));
    let endpoints = &pool["endpoints"];
    assert_eq!(endpoints[0]["in_flight"], 4);
    assert_eq!(endpoints[0]["latency_ms"], 2.5);
    assert_eq!(endpoints[0]["why"], Value::Null);
    assert!((59..=60).contains(&endpoints[1]["ejected_seconds_left"].as_u64().unwrap()));
    assert!(endpoints[1]["why"].as_str().unwrap().starts_with("ejected"));
    assert!(endpoints[2]["why"]
        .as_str()
        .unwrap()
        .starts_with("health check"));
}

#[tokio::test]
async fn listeners_show_what_became_of_them() {
    let bench = Bench::new().await;
    let failed = ListenerState {
        name: "edge".into(),
        role: "ingress",
        protocol: "http",
        bind: "127.0.0.1:80".into(),
        open: Arc::new(AtomicU32::new(3)),
        state: BindState::Failed("address in use".into()),
    };
    bench.status.listeners.store(Arc::new(vec![failed]));

    let view = bench.get("/listeners").await.json();

    let listener = &view["listeners"][0];
    assert_eq!(listener["state"], "failed");
    assert_eq!(listener["problem"], "address in use");
    assert_eq!(listener["open_connections"], 3);
    assert_eq!(listener["certificates"], Value::Array(Vec::new()));
}

#[tokio::test]
async fn the_overview_of_everything_names_what_needs_attention_first() {
    let bench = Bench::new().await;
    let well = bench.get("/status").await.json();
    let set = bench.pool.set.load_full();
    set.members[0].endpoint.state.healthy.store(false, Relaxed);
    bench.status.disk_differs.store(true, Relaxed);
    let reason = Some("a.yaml:1:1: wrong".to_owned());
    bench.status.disk_reason.store(Arc::new(reason));
    bench.status.note(7, false, "reload refused".into());

    let view = bench.get("/status").await.json();

    assert_eq!(
        (&well["well"], &well["attention"][0]),
        (&true.into(), &Value::Null)
    );
    assert_eq!(view["well"], false);
    assert_eq!(view["attention"][0]["severity"], "error");
    assert!(view["attention"][0]["what"].to_string().contains("wrong"));
    assert_eq!(
        view["attention"][1]["what"],
        "pool web: 2 of 3 endpoints can be used"
    );
    assert_eq!(view["config"]["disk"], "refused");
    assert_eq!(view["pools"][0]["out"][0]["endpoint"], "10.0.0.1:80");
    assert_eq!(view["reloads"][0]["outcome"], "reload refused");
}

#[tokio::test]
async fn other_methods_and_paths_are_told_what_there_is() {
    let bench = Bench::new().await;

    let posted = bench.ask("POST", "/pools", "Content-Length: 0\r\n").await;
    let unknown = bench.get("/nothing").await;

    assert_eq!(posted.status, 405);
    assert!(posted.head.contains("allow: get, head"));
    assert_eq!(unknown.status, 404);
    let paths = unknown.json()["paths"].as_array().unwrap().len();
    assert_eq!(paths, PLACES.len());
}

#[tokio::test]
async fn hosts_that_are_names_are_refused() {
    let bench = Bench::new().await;
    let with_host =
        |host: &str| format!("GET /livez HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");

    assert_eq!(bench.send(&with_host("evil.example")).await.status, 403);
    assert_eq!(
        bench.send(&with_host("evil.example:9901")).await.status,
        403
    );
    assert_eq!(bench.send(&with_host("localhost:9901")).await.status, 200);
    assert_eq!(bench.send(&with_host("[::1]:9901")).await.status, 200);
}

#[test]
fn only_addresses_and_localhost_are_local() {
    for host in [
        "127.0.0.1",
        "10.0.0.1:80",
        "[::1]",
        "[fd00::1]:9901",
        "LOCALHOST",
        "localhost:1",
    ] {
        assert!(is_local(host), "{host}");
    }
    for host in [
        "",
        "web",
        "127.0.0.1.evil.example",
        "localhost.evil.example:80",
        "::1",
        "[web]",
        "1.2.3",
    ] {
        assert!(!is_local(host), "{host}");
    }
}

#[tokio::test]
async fn a_body_does_not_become_the_next_request() {
    let bench = Bench::new().await;
    let inner = "GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    let request = format!(
        "POST /reload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n\r\n{inner}GET /pools HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
        inner.len()
    );
    let mut stream = TcpStream::connect(bench.address).await.unwrap();

    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();

    assert!(text.starts_with("HTTP/1.1 403"), "{text}");
    assert!(!text.contains("\r\n\r\nok"), "{text}");
}

#[tokio::test]
async fn the_overview_escapes_and_loads_nothing() {
    let bench = Bench::new().await;

    let page = bench.get("/").await;

    assert!(page.head.contains("content-type: text/html"));
    assert!(page.head.contains("default-src 'none'"));
    assert!(page.body.contains("pool &lt;web&gt; is unused"));
    assert!(page.body.contains("<a href=\"/pools\">"));
    assert!(!page.body.contains("http://") && !page.body.contains("https://"));
}

#[tokio::test]
async fn thousands_of_endpoints_are_shown() {
    let metrics = Metrics::new(8);
    let endpoints = Arc::<Endpoints>::default();
    let addresses: Vec<Address> = (0..10_000_u16)
        .map(|n| Address::Tcp(([10, 0, n.to_be_bytes()[0], n.to_be_bytes()[1]], 80).into()))
        .collect();
    let pool = pool_of(
        "web",
        settings(Source::Static, None),
        &addresses,
        &endpoints,
        &metrics,
    );
    let keeper = PoolKeeper::new(endpoints, metrics);

    let view = pools::view(&snapshot(vec![pool]), &keeper);

    let text = serde_json::to_string(&view).unwrap();
    assert!(text.contains("10.0.39.15:80"));
}

#[tokio::test]
async fn the_service_binds_a_socket_file_for_its_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let (desk, _pool) = desk(Reach::Network, &Arc::default(), &Arc::default());
    let mut service = service(&Bind::Unix(path.clone()), desk.admin);
    let (_running, shutdown) = watch::channel(false);
    assert_eq!(service.threads, Some(1));

    tokio::spawn(async move { service.start_service(None, shutdown, 1).await });
    until("the socket", || path.exists()).await;
    let is_private = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777 == 0o600;
    until("its mode", is_private).await;
    let mut stream = UnixStream::connect(&path).await.unwrap();
    let request = b"GET /livez HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();

    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
}
