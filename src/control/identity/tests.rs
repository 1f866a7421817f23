use std::path::Path;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::alarm::{level, Level};
use super::*;
use crate::control::pools::tests::snapshot;
use crate::snapshot::identity::tests::{Kind, Maker};
use crate::snapshot::identity::{Matches, Seed, SpireSocket, Svid, Workload};

const ID: &str = "spiffe://td/ns/shop/sa/web";

fn write(folder: &Path, name: &str, content: &[u8]) {
    let part = folder.join(format!("{name}.part"));
    std::fs::write(&part, content).unwrap();
    std::fs::rename(part, folder.join(name)).unwrap();
}

fn issue(folder: &Path, maker: &Maker, id: &str) {
    let (cert, key) = maker.issue(Kind::Svid(id));
    write(folder, "web.pem", &cert.to_pem().unwrap());
    write(folder, "web.key", &key.private_key_to_pem_pkcs8().unwrap());
}

/// A desk for workloads of these IDs, named by their last part.
pub(super) fn desk(source: Settings, ids: &[&str]) -> Desk {
    let registry = Arc::<Identities>::default();
    let workload = |id: &&str| {
        let name = id.rsplit('/').next().unwrap_or_default();
        let id = SpiffeId::parse(id).unwrap();
        Arc::new(Workload {
            bounds: Default::default(),
            name: name.into(),
            held: registry.held(name, &id),
            id,
            matches: Matches::default(),
            files: None,
            service: None,
        })
    };
    let identity = Identity {
        trust_domain: TrustDomain::parse("td").unwrap(),
        source,
        workloads: ids.iter().map(workload).collect(),
        federated: Vec::new(),
        hold: Duration::ZERO,
        on_expiry: crate::snapshot::identity::OnExpiry::Keep,
        seed: Seed::default(),
        registry: registry.clone(),
    };
    Desk::new(Arc::new(identity), Metrics::new(100))
}

fn identity(folder: &Path, registry: &Arc<Identities>) -> Arc<Identity> {
    let id = SpiffeId::parse(ID).unwrap();
    Arc::new(Identity {
        trust_domain: TrustDomain::parse("td").unwrap(),
        source: Settings::Files {
            bundle: folder.join("bundle.pem"),
        },
        workloads: vec![Arc::new(Workload {
            bounds: Default::default(),
            name: "web".into(),
            held: registry.held("web", &id),
            id,
            matches: Matches::default(),
            service: None,
            files: Some(SvidFiles {
                cert: folder.join("web.pem"),
                key: folder.join("web.key"),
            }),
        })],
        federated: vec![(
            TrustDomain::parse("other").unwrap(),
            folder.join("other.pem"),
        )],
        hold: Duration::ZERO,
        on_expiry: crate::snapshot::identity::OnExpiry::Keep,
        seed: Seed::default(),
        registry: registry.clone(),
    })
}

pub(super) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::interval(Duration::from_millis(20))
                .tick()
                .await;
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .expect(what);
}

#[tokio::test]
async fn files_are_followed_and_bad_ones_leave_what_is_in_use() {
    let folder = TempDir::new().unwrap();
    let (maker, other) = (Maker::new("root"), Maker::new("other"));
    write(folder.path(), "bundle.pem", &maker.root().to_pem().unwrap());
    write(folder.path(), "other.pem", &other.root().to_pem().unwrap());
    issue(folder.path(), &maker, ID);
    let registry = Arc::<Identities>::default();
    let keeper = IdentityKeeper::new(registry.clone(), Metrics::new(100), Arc::default());
    let identity = identity(folder.path(), &registry);
    let held = identity.workloads[0].held.clone();
    let mut snapshot = Snapshot::clone(&snapshot(Vec::new()));
    snapshot.identity = Some(identity);
    let serial = || held.svid().map(|svid| svid.serial.clone());

    keeper.follow(&snapshot);
    until("certificate and both roots", || {
        serial().is_some() && registry.trust().bundles.len() == 2
    })
    .await;
    let first = serial();

    issue(folder.path(), &maker, "spiffe://td/ns/shop/sa/other");
    until("another's certificate is refused", || {
        held.clock().failures > 0
    })
    .await;
    assert_eq!(serial(), first);
    assert!(held.clock().error.unwrap().contains("sa/other"));
    write(folder.path(), "web.key", b"no key");
    write(folder.path(), "bundle.pem", b"no roots");
    until("the source fails", || {
        registry.source().failing_since.is_some()
    })
    .await;
    assert_eq!(registry.trust().bundles.len(), 2);

    issue(folder.path(), &maker, ID);
    write(folder.path(), "bundle.pem", &maker.root().to_pem().unwrap());
    until("all is well", || {
        serial() != first && registry.source().failing_since.is_none() && held.clock().failures == 0
    })
    .await;

    snapshot.identity = None;
    keeper.follow(&snapshot);
    assert!(registry.trust().bundles.is_empty());
}

#[tokio::test]
async fn complete_states_take_away_what_they_do_not_have() {
    let folder = TempDir::new().unwrap();
    let maker = Maker::new("root");
    let registry = Arc::<Identities>::default();
    let identity = identity(folder.path(), &registry);
    let held = identity.workloads[0].held.clone();
    let desk = Desk::new(identity, Metrics::new(100));
    let svid = |id: &str| {
        let (cert, key) = maker.issue(Kind::Svid(id));
        Svid::new(vec![cert], key).unwrap()
    };

    desk.complete(vec![svid("spiffe://td/x"), svid(ID)]);
    assert!(held.svid().is_some());
    desk.complete(vec![svid("spiffe://td/x")]);

    assert!(held.svid().is_none());
}

#[tokio::test]
async fn certificates_that_are_not_good_now_do_not_replace_one_that_is() {
    let folder = TempDir::new().unwrap();
    let maker = Maker::new("root");
    let identity = identity(folder.path(), &Arc::default());
    let workload = identity.workloads[0].clone();
    let held = &workload.held;
    let desk = Desk::new(identity, Metrics::new(100));
    let svid = |from, to| {
        let (cert, key) = maker.issue(Kind::Days(ID, from, to));
        Svid::new(vec![cert], key).unwrap()
    };
    let serial = || held.svid().map(|svid| svid.serial.clone());

    desk.put(&workload, svid(-3, -2), None).unwrap();
    desk.put(&workload, svid(-1, 1), None).unwrap();
    let good = serial();
    let ended = desk.put(&workload, svid(-2, -1), None).unwrap_err();
    let early = desk.put(&workload, svid(1, 2), None).unwrap_err();

    assert_eq!(serial(), good);
    assert!(ended.contains("has ended"), "{ended}");
    assert!(early.contains("is good in"), "{early}");
    assert_eq!(held.clock().error, Some(early));
    desk.put(&workload, svid(-1, 3), None).unwrap();
    assert_ne!(serial(), good);
}

#[tokio::test]
async fn roots_of_another_source_or_trust_domain_do_not_stay() {
    let folder = TempDir::new().unwrap();
    let maker = Maker::new("root");
    let registry = Arc::<Identities>::default();
    let keeper = IdentityKeeper::new(registry.clone(), Metrics::new(100), Arc::default());
    let domain = |name| TrustDomain::parse(name).unwrap();
    let generation = |trust_domain, source| {
        let identity = Arc::into_inner(identity(folder.path(), &registry)).unwrap();
        let mut snapshot = Snapshot::clone(&snapshot(Vec::new()));
        snapshot.identity = Some(Arc::new(Identity {
            trust_domain: domain(trust_domain),
            source: Settings::Spire(SpireSocket::parse(source).unwrap()),
            federated: Vec::new(),
            ..identity
        }));
        snapshot
    };
    let all = || ["td", "far"].map(|name| (domain(name), maker.bundle()));
    let known = |name| registry.trust().bundles.contains_key(&domain(name));

    keeper.follow(&generation("td", "unix:/nowhere/one"));
    registry.set_source_bundles(all().into());
    keeper.follow(&generation("td", "unix:/nowhere/two"));
    assert!(known("td") && known("far"), "until the new one answers");
    forget(registry.clone(), Instant::now()).await;
    assert!(!known("td") && !known("far"), "it never did");

    registry.set_source_bundles(all().into());
    keeper.follow(&generation("far", "unix:/nowhere/two"));
    assert!(!known("td") && known("far"), "of the new trust domain only");
    registry.set_source_bundles(all().into());
    forget(registry.clone(), Instant::now()).await;
    assert!(known("td") && known("far"), "the new one answered");
}

#[test]
fn alarms_come_before_the_end() {
    let maker = Maker::new("root");
    let (cert, key) = maker.issue(Kind::Days(ID, -3, 1));
    let svid = Svid::new(vec![cert], key).unwrap();
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs() as i64;
    let day = 86_400;

    assert_eq!(level(None, now), Level::Missing);
    assert_eq!(level(Some(&svid), now - day), Level::Well);
    assert_eq!(level(Some(&svid), now + 60), Level::Late);
    assert_eq!(level(Some(&svid), now + day), Level::Expired);
}
