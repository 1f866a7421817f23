use tempfile::TempDir;

use super::*;
use crate::control::identity::tests::desk;
use crate::snapshot::identity::tests::{Kind, Maker};
use crate::snapshot::identity::Source as Settings;

const WEB: &str = "spiffe://td/web";

/// A node whose roots are the maker's.
fn node(maker: &Maker, folder: &TempDir) -> (Desk, Store) {
    let settings = CaSettings {
        address: "127.0.0.1:9".into(),
        root_hash: "0".repeat(64),
        token_file: None,
        state: folder.path().join("state"),
    };
    let store = Store::at(&settings.state);
    let desk = desk(Settings::Ca(settings), &[WEB]);
    let domain = desk.identity().trust_domain.clone();
    desk.bundles(HashMap::from([(domain, maker.bundle())]));
    (desk, store)
}

fn pair(maker: &Maker, from: i64, until: i64) -> Pair {
    let (cert, key) = maker.issue(Kind::Days(WEB, from, until));
    Pair {
        chain: vec![cert],
        key,
    }
}

fn shown(desk: &Desk) -> (Option<String>, String) {
    let held = &desk.identity().workloads[0].held;
    (
        held.svid().map(|svid| svid.serial.clone()),
        held.clock().error.unwrap_or_default(),
    )
}

#[tokio::test]
async fn with_a_clock_that_is_behind_a_certificate_is_waited_for_and_not_asked_for_again() {
    let (maker, folder) = (Maker::new("td"), TempDir::new().unwrap());
    let (desk, store) = node(&maker, &folder);
    let workload = desk.identity().workloads[0].clone();
    let shelf = Shelf::of(&store, None, &desk);
    let mut due = Due::now();
    assert!(shelf.take(&workload, &mut due, pair(&maker, -1, 2)));
    let before = shown(&desk).0;

    let early = pair(&maker, 1, 3);
    let is_used = shelf.take(&workload, &mut due, early.clone());

    let (serial, error) = shown(&desk);
    assert!(!is_used && serial == before);
    assert!(error.contains("clock is behind"), "{error}");
    assert!(
        !due.is_due() && due.left() > Duration::from_secs(3600),
        "{:?}",
        due.left()
    );
    let held = due.held().expect("it is kept");
    assert!(
        held.chain[0].serial_number().to_bn().unwrap()
            == early.chain[0].serial_number().to_bn().unwrap()
    );
}

#[tokio::test]
async fn what_peers_would_refuse_is_neither_used_nor_asked_for_in_a_circle() {
    let (maker, folder) = (Maker::new("td"), TempDir::new().unwrap());
    let (desk, store) = node(&maker, &folder);
    let workload = desk.identity().workloads[0].clone();
    let shelf = Shelf::of(&store, None, &desk);
    let mut due = Due::now();
    assert!(shelf.take(&workload, &mut due, pair(&maker, -1, 2)));
    let before = shown(&desk).0;

    // One that ended already is what a clock that is ahead sees.
    for wrong in [pair(&maker, -2, -1), pair(&Maker::new("td"), -1, 2)] {
        let waits: Vec<Duration> = (0..6)
            .map(|_| {
                assert!(!shelf.take(&workload, &mut due, wrong.clone()));
                due.left()
            })
            .collect();
        assert!(waits[5] > Duration::from_secs(5), "{waits:?}");
    }

    assert_eq!(shown(&desk).0, before);
    assert!(shown(&desk).1.contains("would be refused"));
}

#[tokio::test]
async fn what_is_on_disk_is_judged_before_it_is_used() {
    let (maker, folder) = (Maker::new("td"), TempDir::new().unwrap());
    let (desk, store) = node(&maker, &folder);
    let workload = desk.identity().workloads[0].clone();
    let wrong = pair(&Maker::new("td"), -1, 2);
    store.set_workload(&workload.id, &wrong).unwrap();
    let Settings::Ca(settings) = &desk.identity().source else {
        unreachable!()
    };

    let run = Run::begin(settings, &desk).await;

    assert_eq!(shown(&desk).0, None);
    assert!(run.workloads[0].1.is_due() && run.joining.is_some());
}
