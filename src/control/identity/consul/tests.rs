use std::net::SocketAddr;
use std::sync::Mutex;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::*;
use crate::control::identity::tests::{desk, until};
use crate::snapshot::identity::tests::{Kind, Maker};
use crate::snapshot::identity::{ConsulAddress, Source as Settings};

const WEB: &str = "spiffe://td/ns/default/dc/dc1/svc/web";

/// What the agent holds; `None` for a failure.
#[derive(Clone)]
struct Holds {
    index: u64,
    roots: String,
    leaf: Option<String>,
}

/// An agent whose queries block until its state changes.
struct FakeAgent {
    address: SocketAddr,
    holds: watch::Sender<Holds>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl FakeAgent {
    async fn start(holds: Holds) -> FakeAgent {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, receiver) = watch::channel(holds);
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let seen = requests.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, receiver.clone(), seen.clone()));
            }
        });
        FakeAgent {
            address,
            holds: sender,
            requests,
        }
    }

    fn asked(&self, part: &str) -> bool {
        self.requests
            .lock()
            .unwrap()
            .iter()
            .any(|request| request.contains(part))
    }
}

async fn answer(
    mut stream: TcpStream,
    mut holds: watch::Receiver<Holds>,
    seen: Arc<Mutex<Vec<String>>>,
) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let request = String::from_utf8(request).unwrap();
    let index = request
        .split("index=")
        .nth(1)
        .and_then(|rest| rest.split('&').next()?.parse::<u64>().ok());
    seen.lock().unwrap().push(request.clone());
    let now = holds
        .wait_for(|holds| index != Some(holds.index))
        .await
        .unwrap()
        .clone();
    let body = if request.contains("/ca/roots") {
        Some(now.roots)
    } else {
        now.leaf
    };
    let (status, body) = body.map_or((500, "rpc error: no leader".to_owned()), |body| (200, body));
    let length = body.len();
    let index = now.index;
    let text = format!("HTTP/1.1 {status} X\r\nx-consul-index: {index}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    let _ = stream.write_all(text.as_bytes()).await;
}

fn roots(maker: &Maker, domain: &str) -> String {
    let pem = String::from_utf8(maker.root().to_pem().unwrap()).unwrap();
    serde_json::json!({"ActiveRootID": "a", "TrustDomain": domain, "Roots": [{"ID": "a", "RootCert": pem, "Active": true}]}).to_string()
}

fn leaf(maker: &Maker) -> Option<String> {
    let (cert, key) = maker.issue(Kind::Svid(WEB));
    let text = |pem: Vec<u8>| String::from_utf8(pem).unwrap();
    let leaf = serde_json::json!({
        "CertPEM": text(cert.to_pem().unwrap()), "PrivateKeyPEM": text(key.private_key_to_pem_pkcs8().unwrap()),
        "Service": "web", "ServiceURI": WEB,
    });
    Some(leaf.to_string())
}

fn settings(agent: &FakeAgent, folder: &TempDir) -> ConsulSettings {
    let token = folder.path().join("token");
    std::fs::write(&token, "s3cret\n").unwrap();
    ConsulSettings {
        address: ConsulAddress::Tcp(agent.address),
        token_file: Some(token),
    }
}

#[tokio::test]
async fn leaves_and_roots_come_when_they_change() {
    let folder = TempDir::new().unwrap();
    let maker = Maker::new("td");
    let agent = FakeAgent::start(Holds {
        index: 7,
        roots: roots(&maker, "td"),
        leaf: leaf(&maker),
    })
    .await;
    let settings = settings(&agent, &folder);
    let desk = desk(Settings::Consul(settings.clone()), &[WEB]);
    let registry = desk.identity().registry.clone();
    let source = Consul::new(&settings);
    let scene = async {
        until("the first leaf and roots", || {
            serial(&desk).is_some() && registry.trust().bundles.len() == 1
        })
        .await;
        until("a query that blocks", || {
            agent.asked("ca/leaf/web?index=7&wait=600s")
        })
        .await;
        assert!(agent.asked("x-consul-token: s3cret"));
        let first = serial(&desk);

        agent
            .holds
            .send(Holds {
                index: 8,
                roots: roots(&maker, "td"),
                leaf: leaf(&maker),
            })
            .unwrap();
        until("the next leaf", || serial(&desk) != first).await;
    };

    tokio::select! {
        () = source.run(&desk) => unreachable!(),
        () = scene => {}
    }
}

#[tokio::test]
async fn what_fails_leaves_what_is_in_use_and_an_index_may_begin_anew() {
    let folder = TempDir::new().unwrap();
    let maker = Maker::new("td");
    let agent = FakeAgent::start(Holds {
        index: 9,
        roots: roots(&maker, "td"),
        leaf: leaf(&maker),
    })
    .await;
    let settings = settings(&agent, &folder);
    let desk = desk(Settings::Consul(settings.clone()), &[WEB]);
    let registry = desk.identity().registry.clone();
    let of_leaf = || {
        desk.identity().workloads[0]
            .held
            .clock()
            .error
            .unwrap_or_default()
    };
    let of_roots = || registry.source().error.unwrap_or_default();
    let source = Consul::new(&settings);
    let scene = async {
        until("the first leaf", || serial(&desk).is_some()).await;
        let first = serial(&desk);

        agent
            .holds
            .send(Holds {
                index: 10,
                roots: roots(&maker, "else"),
                leaf: None,
            })
            .unwrap();
        until("failures are told", || {
            of_leaf().contains("no leader") && of_roots().contains("else")
        })
        .await;
        assert_eq!(serial(&desk), first);

        agent
            .holds
            .send(Holds {
                index: 2,
                roots: roots(&maker, "td"),
                leaf: leaf(&maker),
            })
            .unwrap();
        until("it recovers", || {
            serial(&desk) != first && of_roots().is_empty()
        })
        .await;
    };

    tokio::select! {
        () = source.run(&desk) => unreachable!(),
        () = scene => {}
    }
}

fn serial(desk: &Desk) -> Option<String> {
    desk.identity().workloads[0]
        .held
        .svid()
        .map(|svid| svid.serial.clone())
}
