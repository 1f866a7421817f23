//! Certificates that change on disk under a keeper that watches them.
//! It must not know when the keeper looks; it waits for what becomes of it.
//! Run by `cargo test`.

use super::*;
use crate::control::pools::tests::until;
use crate::control::tests::{Authority, Issued};
use crate::snapshot::certs::{ClientAuth, TerminationSettings};

/// A listener with certificate files in a folder of their own.
struct Bench {
    authority: Authority,
    folder: tempfile::TempDir,
    keeper: Arc<CertKeeper>,
}

impl Bench {
    fn new() -> Bench {
        Bench {
            authority: Authority::new(),
            folder: tempfile::tempdir().unwrap(),
            keeper: CertKeeper::new(Metrics::new(8)),
        }
    }

    fn files(&self, name: &str) -> CertFiles {
        CertFiles {
            cert: self.folder.path().join(format!("{name}.crt")),
            key: self.folder.path().join(format!("{name}.key")),
            hosts: Vec::new(),
            default: false,
        }
    }

    fn write(&self, name: &str, issued: &Issued) {
        let files = self.files(name);
        std::fs::write(files.cert, &issued.cert).unwrap();
        std::fs::write(files.key, &issued.key).unwrap();
    }

    /// A termination with the files as they are now, as the compiler makes it.
    fn source(&self, names: &[&str]) -> CertSource {
        let files: Vec<CertFiles> = names.iter().map(|name| self.files(name)).collect();
        let read = |files: &CertFiles| {
            let (cert, key) = (std::fs::read(&files.cert), std::fs::read(&files.key));
            Arc::new(Cert::new(&cert.unwrap(), &key.unwrap(), &[], false).unwrap())
        };
        let certs = CertSet::new(files.iter().map(read).collect());
        CertSource {
            listener: "web".into(),
            termination: Arc::new(Termination::new(settings(), Vec::new(), certs, None).unwrap()),
            files,
        }
    }

    fn has_problem(&self) -> bool {
        !self.keeper.problems("web").is_empty()
    }
}

fn settings() -> TerminationSettings {
    TerminationSettings {
        only_tls13: false,
        only_tls12: false,
        alpn: b"\x08http/1.1",
        ciphers: None,
        client: ClientAuth::None,
        resumption: true,
        handshake_timeout: Duration::from_secs(10),
    }
}

fn subjects(termination: &Termination) -> Vec<String> {
    let certs = termination.certs.load();
    certs.all.iter().map(|cert| cert.subject.clone()).collect()
}

#[tokio::test]
async fn a_renewed_certificate_is_put_into_force() {
    let bench = Bench::new();
    bench.write("web", &bench.authority.issue("web.test", 30));
    let source = bench.source(&["web"]);
    let termination = source.termination.clone();
    bench.keeper.follow(vec![source]);

    bench.write("web", &bench.authority.issue("new.test", 90));

    until("the new certificate", || {
        subjects(&termination) == ["new.test"]
    })
    .await;
    assert!(termination.certs.load().find(Some("new.test")).is_some());
}

#[tokio::test]
async fn a_pair_that_does_not_fit_stays_as_it_was_and_holds_nothing_up() {
    let bench = Bench::new();
    bench.write("web", &bench.authority.issue("web.test", 30));
    bench.write("api", &bench.authority.issue("api.test", 30));
    let source = bench.source(&["web", "api"]);
    let termination = source.termination.clone();
    let before = termination.certs.load_full();
    bench.keeper.follow(vec![source]);
    let is_read = || !Arc::ptr_eq(&before, &termination.certs.load_full());
    until("the first look", is_read).await;

    let other = bench.authority.issue("other.test", 30);
    std::fs::write(bench.files("web").cert, &other.cert).unwrap();
    until("the problem", || bench.has_problem()).await;
    bench.write("api", &bench.authority.issue("api2.test", 30));
    let renewed = || subjects(&termination) == ["web.test", "api2.test"];
    until("the other certificate", renewed).await;

    let problem = &bench.keeper.problems("web")[0];
    assert!(
        problem.ends_with("web.crt: the key is not the certificate's"),
        "{problem}"
    );
    std::fs::write(bench.files("web").key, &other.key).unwrap();
    let repaired = || subjects(&termination) == ["other.test", "api2.test"];
    until("the repair", repaired).await;
    assert!(!bench.has_problem());
}

#[tokio::test]
async fn files_that_went_away_leave_the_certificates_of_the_compiler() {
    let bench = Bench::new();
    bench.write("web", &bench.authority.issue("web.test", 30));
    let source = bench.source(&["web"]);
    let termination = source.termination.clone();
    std::fs::remove_file(bench.files("web").key).unwrap();

    bench.keeper.follow(vec![source]);

    until("the problem", || bench.has_problem()).await;
    assert_eq!(subjects(&termination), ["web.test"]);
}

#[tokio::test]
async fn a_termination_that_stays_is_not_read_again() {
    let bench = Bench::new();
    bench.write("web", &bench.authority.issue("web.test", 30));
    let source = bench.source(&["web"]);
    let termination = source.termination.clone();
    let before = termination.certs.load_full();
    bench.keeper.follow(vec![source.clone()]);
    until("the first look", || {
        !Arc::ptr_eq(&before, &termination.certs.load_full())
    })
    .await;
    let read = termination.certs.load_full();

    bench.keeper.follow(vec![source]);
    bench.keeper.look(Wake::Event);
    bench.keeper.look(Wake::Poll);

    assert!(Arc::ptr_eq(&read, &termination.certs.load_full()));
}

#[test]
fn days_are_whole_and_below_zero_after_the_end() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400 * 10);

    assert_eq!(days_left(86_400 * 12 - 1, now), 1);
    assert_eq!(days_left(86_400 * 10, now), 0);
    assert_eq!(days_left(86_400 * 10 - 1, now), -1);
    assert_eq!(days_left(i64::MAX, now), i64::MAX / 86_400 - 10);
}
