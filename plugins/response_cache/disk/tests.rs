//! What is in a folder comes back as it was, and nothing else does.
//! They must not need a task: the folder is written and read here.
//! Part of the unit tests.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn counter() -> (Counter, Arc<AtomicU64>) {
    let count = Arc::<AtomicU64>::default();
    let counted = count.clone();
    (
        Arc::new(move |by| {
            counted.fetch_add(by, Relaxed);
        }),
        count,
    )
}

fn disk(folder: &Path, most: u64) -> (Disk, Arc<AtomicU64>) {
    let (failed, failures) = counter();
    let counters = Counters {
        restored: counter().0,
        failed,
    };
    let disk = Disk::new(folder, "cache", most, counters);
    fs::create_dir_all(&disk.folder).unwrap();
    (disk, failures)
}

fn stored(key: u8, body: &str) -> Arc<Stored> {
    let mut head = ResponseHeader::build(200, None).unwrap();
    head.append_header("x-a", "1").unwrap();
    head.append_header("x-a", HeaderValue::from_bytes(b"\xff").unwrap())
        .unwrap();
    Arc::new(Stored {
        head,
        body: body.to_owned().into(),
        key: [key; 32],
        place: [key + 100; 32],
        vary: vec![(HeaderName::from_static("accept"), b"a/b".to_vec())],
        tags: vec!["one".into()],
        terms: Terms {
            born: Duration::from_secs(7),
            lifetime: Duration::from_secs(60),
            stale_while_revalidate: Duration::from_secs(1),
            stale_if_error: Duration::from_secs(2),
            is_strict: true,
            is_confirmed_each_time: false,
        },
    })
}

#[test]
fn what_was_kept_comes_back_as_it_was() {
    let folder = TempDir::new().unwrap();
    let (disk, failures) = disk(folder.path(), 1 << 20);
    let (one, two) = (stored(1, "first"), stored(2, "second"));
    disk.apply(vec![
        Change::Kept(one.clone()),
        Change::Kept(two.clone()),
        Change::Gone(two.key, two.vary.clone()),
    ]);

    let all = disk.restore();

    assert_eq!(all.len(), 1);
    let back = &all[0];
    assert_eq!(
        (&back.body, back.key, back.place),
        (&one.body, one.key, one.place)
    );
    assert_eq!(
        (&back.vary, &back.tags, back.terms),
        (&one.vary, &one.tags, one.terms)
    );
    let values = |stored: &Stored| {
        let all = stored.head.headers.get_all("x-a").iter();
        all.map(|value| value.as_bytes().to_vec())
            .collect::<Vec<_>>()
    };
    assert_eq!(values(back), values(&one));
    assert_eq!(failures.load(Relaxed), 0);
}

#[test]
fn what_is_broken_or_beyond_the_bound_is_removed() {
    let folder = TempDir::new().unwrap();
    let (disk, _) = disk(folder.path(), 4096);
    let path = disk.path(&stored(1, ""));
    disk.apply(
        (1..=40)
            .map(|key| Change::Kept(stored(key, "body")))
            .collect(),
    );
    fs::write(&path, b"WRC1 nonsense").unwrap();
    fs::write(disk.folder.join("stranger"), b"").unwrap();

    let all = disk.restore();

    assert!(!all.is_empty() && all.len() < 20, "{}", all.len());
    assert!(all.iter().all(|one| one.key != [1; 32]));
    assert_eq!(disk.files().count(), all.len());
}

#[test]
fn a_file_under_another_name_is_not_believed() {
    let folder = TempDir::new().unwrap();
    let (disk, _) = disk(folder.path(), 1 << 20);
    disk.apply(vec![Change::Kept(stored(1, "body"))]);
    fs::rename(disk.path(&stored(1, "")), disk.path(&stored(2, ""))).unwrap();

    assert!(disk.restore().is_empty());
}

#[test]
fn what_was_kept_anew_while_nobody_followed_is_written_anew() {
    let folder = TempDir::new().unwrap();
    let (disk, failures) = disk(folder.path(), 1 << 20);
    let store = crate::contract::StateRegistry::default().shared(
        "cache",
        "the stored responses",
        Store::default,
    );
    let keep = |body: &str| {
        let stored = Stored::clone(&stored(1, body));
        let kept = store.with(Effects::Live, |store| store.keep(1 << 20, 0, stored));
        assert_eq!(kept, Ok(true));
    };

    for body in ["old", "new"] {
        keep(body);
        disk.level(&store);
    }

    let all = disk.restore();
    assert_eq!((all.len(), &*all[0].body), (1, &b"new"[..]));
    assert_eq!(failures.load(Relaxed), 0);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut whole = MAGIC.to_vec();
        whole.extend_from_slice(&bytes);
        let sum: [u8; 32] = Sha256::digest(&whole).into();
        whole.extend_from_slice(&sum);

        prop_assert!(parse(&bytes).is_none() && parse(&whole).is_none());
    }

    #[test]
    fn one_bit_that_changed_is_noticed(at in 0_usize..400, bit in 0_u8..8) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("one");
        write(&path, &stored(1, "body")).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;

        prop_assert!(parse(&bytes).is_none());
    }
}
