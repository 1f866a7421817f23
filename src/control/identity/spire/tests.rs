use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, Response};
use proptest::prelude::*;
use prost::Message;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::mpsc;

use super::message::{X509Svid, X509SvidResponse};
use super::*;
use crate::control::identity::tests::{desk, until};
use crate::snapshot::identity::tests::{Kind, Maker};
use crate::snapshot::identity::Source as Settings;

const WEB: &str = "spiffe://td/web";
const API: &str = "spiffe://td/api";

/// What the agent does next: sends a state, or ends the call with a status.
enum Act {
    Send(X509SvidResponse),
    End(&'static str),
}

/// An agent that does what it is told, call after call.
struct Agent {
    folder: TempDir,
    acts: mpsc::UnboundedSender<Act>,
    calls: Arc<AtomicUsize>,
}

impl Agent {
    fn start() -> Agent {
        let folder = TempDir::new().unwrap();
        let listener = UnixListener::bind(folder.path().join("agent.sock")).unwrap();
        let (acts, mut told) = mpsc::unbounded_channel();
        let calls = Arc::<AtomicUsize>::default();
        let counted = calls.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                let Some(Ok((request, answer))) = connection.accept().await else {
                    continue;
                };
                assert_eq!(request.uri().path(), "/SpiffeWorkloadAPI/FetchX509SVID");
                assert_eq!(request.headers()["workload.spiffe.io"], "true");
                counted.fetch_add(1, SeqCst);
                tokio::select! {
                    () = act(answer, &mut told) => {}
                    _ = connection.accept() => {}
                }
                // What was sent has to leave.
                let _ = tokio::time::timeout(Duration::from_millis(200), connection.accept()).await;
            }
        });
        Agent {
            folder,
            acts,
            calls,
        }
    }

    fn socket(&self) -> SpireSocket {
        SpireSocket::Unix(self.folder.path().join("agent.sock"))
    }

    fn send(&self, svids: Vec<X509Svid>) {
        let federated_bundles = HashMap::from([(
            "spiffe://other".to_owned(),
            Maker::new("other").root().to_der().unwrap(),
        )]);
        self.acts
            .send(Act::Send(X509SvidResponse {
                svids,
                federated_bundles,
            }))
            .ok()
            .unwrap();
    }
}

async fn act(mut answer: SendResponse<Bytes>, told: &mut mpsc::UnboundedReceiver<Act>) {
    let head = Response::builder()
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let mut body = answer.send_response(head, false).unwrap();
    while let Some(act) = told.recv().await {
        match act {
            Act::Send(message) => {
                let message = message.encode_to_vec();
                let mut frame = vec![0];
                frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
                frame.extend(message);
                // In two pieces, as a network may do.
                let rest = frame.split_off(7);
                body.send_data(frame.into(), false).unwrap();
                body.send_data(rest.into(), false).unwrap();
            }
            Act::End(status) => {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", status.parse().unwrap());
                return body.send_trailers(trailers).unwrap();
            }
        }
    }
}

fn svid(maker: &Maker, id: &str) -> X509Svid {
    let (cert, key) = maker.issue(Kind::Svid(id));
    X509Svid {
        spiffe_id: id.into(),
        x509_svid: cert.to_der().unwrap(),
        x509_svid_key: key.private_key_to_pkcs8().unwrap(),
        bundle: maker.root().to_der().unwrap(),
        hint: String::new(),
    }
}

#[tokio::test]
async fn every_message_is_the_complete_state() {
    let agent = Agent::start();
    let maker = Maker::new("td");
    let desk = desk(Settings::Spire(agent.socket()), &[WEB, API]);
    let registry = desk.identity().registry.clone();
    let held = |at: usize| desk.identity().workloads[at].held.svid();
    let source = Spire::new(agent.socket());
    let scene = async {
        agent.send(vec![svid(&maker, WEB), svid(&maker, API)]);
        until("both have one", || held(0).is_some() && held(1).is_some()).await;
        assert_eq!(registry.trust().bundles.len(), 2);
        let first = held(0).unwrap().serial.clone();

        agent.send(vec![svid(&maker, WEB)]);
        until("what is absent is withdrawn", || held(1).is_none()).await;
        assert_ne!(held(0).unwrap().serial, first);

        let mut broken = svid(&maker, WEB);
        broken.x509_svid_key = vec![1, 2, 3];
        let kept = held(0).unwrap().serial.clone();
        agent.send(vec![broken]);
        until("nonsense is told", || registry.source().error.is_some()).await;
        assert_eq!(held(0).unwrap().serial, kept);

        agent.acts.send(Act::End("14")).ok().unwrap();
        until("it is asked again", || agent.calls.load(SeqCst) == 2).await;
        agent.send(vec![svid(&maker, WEB)]);
        until("and believed", || registry.source().error.is_none()).await;
        assert_ne!(held(0).unwrap().serial, kept);
    };

    tokio::select! {
        () = source.run(&desk) => unreachable!(),
        () = scene => {}
    }
}

#[tokio::test]
async fn who_is_not_registered_yet_is_asked_for_again_and_who_is_wrong_is_not() {
    let agent = Agent::start();
    let desk = desk(Settings::Spire(agent.socket()), &[WEB]);
    let registry = desk.identity().registry.clone();
    let source = Spire::new(agent.socket());
    let scene = async {
        agent.acts.send(Act::End("7")).ok().unwrap();
        until("it is asked again", || agent.calls.load(SeqCst) == 2).await;
        assert!(registry
            .source()
            .error
            .unwrap()
            .contains("PermissionDenied"));

        agent.acts.send(Act::End("12")).ok().unwrap();
        until("it is given up", || {
            registry
                .source()
                .error
                .is_some_and(|error| error.contains("not asked again"))
        })
        .await;
        let again = tokio::time::timeout(Duration::from_secs(2), async {
            until("never", || agent.calls.load(SeqCst) > 2).await;
        });
        assert!(again.await.is_err());
    };

    tokio::select! {
        () = source.run(&desk) => unreachable!(),
        () = scene => {}
    }
}

#[test]
fn certificates_that_end_too_early_are_no_panic() {
    let der = Maker::new("td").root().to_der().unwrap();
    let twice = [der.clone(), der.clone()].concat();

    assert_eq!(message::certificates(&twice).unwrap().len(), 2);
    assert!(message::certificates(&[]).unwrap().is_empty());
    for cut in [1, 3, 4, der.len() - 1, der.len() + 2] {
        assert!(message::certificates(&twice[..cut]).is_err(), "{cut}");
    }
}

proptest! {
    #[test]
    fn no_bytes_of_an_agent_make_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = message::certificates(&bytes);
        if let Ok(message) = X509SvidResponse::decode(&*bytes) {
            let _ = message.svids.into_iter().map(X509Svid::into_pair).count();
        }
    }
}
