//! Tests of the access log as its reader finds it.
//! They must not know how lines are queued.
//! Run by `cargo test`.

use std::fs;
use std::io::Write;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Instant, UNIX_EPOCH};

use proptest::prelude::*;
use windrose_plugins::contract::causes;

use super::*;

fn entry() -> Entry<'static> {
    Entry {
        time: UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
        client: "192.0.2.7",
        client_port: 5000,
        destination: None,
        listener: "edge",
        role: "ingress",
        route: "shop",
        rule: 1,
        pool: "web",
        endpoint: "10.0.0.1:80",
        method: "GET",
        scheme: "https",
        host: "shop.example",
        path: "/cart?id=7&token=abc",
        protocol: "HTTP/2.0",
        status: 503,
        cause: Some(&causes::NO_HEALTHY_ENDPOINT),
        request_bytes: 0,
        response_bytes: 512,
        duration: Duration::from_micros(1500),
        upstream_duration: None,
        attempts: 2,
        reused: false,
        request_id: "r-1",
        trace_id: None,
        principal: Some("consumer:ann lee"),
        policy: "",
        audit: "",
        cache: "",
        user_agent: Some(b"curl/8 \xff\"x\""),
        referer: Some(b"https://a.example/?code=1&x=2"),
        notes: &[],
        tls_version: Some("TLSv1.3"),
        sni: Some("shop.example"),
        grpc_status: None,
    }
}

fn counter() -> IntCounter {
    IntCounter::default()
}

fn settings(to: LogTarget) -> AccessLogSettings {
    AccessLogSettings {
        to,
        ..AccessLogSettings::default()
    }
}

const LONG: Duration = Duration::from_secs(10);

fn json_of(entry: &Entry<'_>) -> String {
    let mut line = Vec::new();
    entry.json(&mut line);
    String::from_utf8(line).expect("UTF-8")
}

fn combined_of(entry: &Entry<'_>) -> String {
    let mut line = Vec::new();
    entry.combined(&mut line);
    String::from_utf8(line).expect("ASCII")
}

#[test]
fn a_json_line_names_the_cause_and_hides_secrets() {
    let line: serde_json::Value = serde_json::from_str(&json_of(&entry())).expect("JSON");

    let expected = serde_json::json!({
        "time": "2023-11-14T22:13:20.123000Z",
        "listener": "edge", "role": "ingress",
        "client": "192.0.2.7", "client_port": 5000,
        "method": "GET", "scheme": "https", "host": "shop.example",
        "path": "/cart", "query": "id=7&token=***", "protocol": "HTTP/2.0",
        "status": 503, "why": "no_healthy_endpoint", "blame": "upstream",
        "route": "shop", "rule": 1, "pool": "web", "endpoint": "10.0.0.1:80", "reused": false,
        "attempts": 2, "request_bytes": 0, "response_bytes": 512, "duration_ms": 1.5,
        "request_id": "r-1", "principal": "consumer:ann lee",
        "user_agent": "curl/8 \u{fffd}\"x\"", "referer": "https://a.example/?code=***&x=2",
        "tls_version": "TLSv1.3", "sni": "shop.example",
    });
    assert_eq!(line, expected);
}

#[test]
fn a_combined_line_is_apaches_with_ours_at_the_end() {
    let expected = concat!(
        r#"192.0.2.7 - consumer:ann\x20lee [14/Nov/2023:22:13:20 +0000] "#,
        r#""GET /cart?id=7&token=*** HTTP/2.0" 503 512 "https://a.example/?code=***&x=2" "#,
        r#""curl/8 \xff\"x\"" "shop" "web" "10.0.0.1:80" no_healthy_endpoint 0.001500 r-1"#,
        "\n"
    );

    assert_eq!(combined_of(&entry()), expected);
}

#[test]
fn an_endless_field_is_cut_with_a_mark() {
    let path = format!("/{}", "a".repeat(70_000));
    let long = Entry {
        path: &path,
        ..entry()
    };

    let line: serde_json::Value = serde_json::from_str(&json_of(&long)).expect("JSON");

    let logged = line["path"].as_str().expect("text");
    assert_eq!(logged.chars().count(), 4097);
    assert!(logged.ends_with("a\u{2026}"));
}

proptest! {
    #[test]
    fn no_bytes_make_a_second_line_or_break_the_form(
        path in any::<String>(),
        host in any::<String>(),
        id in any::<String>(),
        principal in any::<String>(),
        agent in proptest::collection::vec(any::<u8>(), 0..64),
        referer in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let hostile = Entry {
            path: &path,
            host: &host,
            sni: Some(&host),
            method: &host,
            request_id: &id,
            principal: Some(&principal),
            user_agent: Some(&agent),
            referer: Some(&referer),
            ..entry()
        };

        let json = json_of(&hostile);
        let combined = combined_of(&hostile);

        let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        prop_assert_eq!(value["request_id"].as_str().unwrap_or(""), id.as_str());
        prop_assert!(json.strip_suffix('\n').expect("ends").chars().all(|c| !c.is_control()));
        let printable = |byte: u8| matches!(byte, b' '..=b'~');
        prop_assert!(combined.strip_suffix('\n').expect("ends").bytes().all(printable));
        let unescaped = combined.replace(r"\\", "").replace("\\\"", "");
        prop_assert_eq!(unescaped.matches('"').count(), 12);
    }
}

#[test]
fn lines_of_many_threads_all_arrive_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let dropped = counter();
    let log =
        AccessLog::new(settings(LogTarget::File(path.clone())), dropped.clone()).expect("opens");

    std::thread::scope(|scope| {
        for _ in 0..4 {
            let log = log.clone();
            scope.spawn(move || (0..500).for_each(|_| log.log(&entry())));
        }
    });

    assert!(log.flush(LONG));
    let text = fs::read_to_string(path).expect("text");
    assert_eq!(text.lines().count(), 2000);
    let expected = json_of(&entry());
    assert!(text.lines().all(|line| line == expected.trim_end()));
    assert_eq!(dropped.get(), 0);
}

#[test]
fn after_a_rename_reopen_begins_a_new_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, old) = (folder.path().join("a.log"), folder.path().join("a.log.1"));
    let log = AccessLog::new(settings(LogTarget::File(path.clone())), counter()).expect("opens");
    log.log(&entry());
    assert!(log.flush(LONG));
    fs::rename(&path, &old).expect("renames");
    log.log(&entry());

    log.reopen();
    log.log(&entry());

    assert!(log.flush(LONG));
    assert_eq!(fs::read_to_string(old).expect("text").lines().count(), 2);
    assert_eq!(fs::read_to_string(path).expect("text").lines().count(), 1);
}

#[test]
fn new_settings_lose_no_line_and_a_bad_file_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, second) = (folder.path().join("1.log"), folder.path().join("2.log"));
    let log = AccessLog::new(settings(LogTarget::File(first.clone())), counter()).expect("opens");

    log.log(&entry());
    let absent = LogTarget::File(folder.path().join("no/such/folder.log"));
    assert!(log.reconfigure(settings(absent)).is_err());
    log.log(&entry());
    log.reconfigure(AccessLogSettings {
        format: Format::Combined,
        ..settings(LogTarget::File(second.clone()))
    })
    .expect("opens");
    log.log(&entry());
    log.reconfigure(settings(LogTarget::Off))
        .expect("nothing to open");
    log.log(&entry());

    assert!(!log.enabled());
    assert!(log.flush(LONG));
    assert_eq!(fs::read_to_string(first).expect("text").lines().count(), 2);
    let second = fs::read_to_string(second).expect("text");
    assert_eq!(second, combined_of(&entry()));
}

#[test]
fn a_full_disk_counts_the_lines_it_cost() {
    let dropped = counter();
    let to = LogTarget::File("/dev/full".into());
    let log = AccessLog::new(settings(to), dropped.clone()).expect("opens");

    (0..3).for_each(|_| log.log(&entry()));

    assert!(log.flush(LONG));
    assert_eq!(dropped.get(), 3);
}

#[test]
fn a_line_wakes_a_writer_that_sleeps() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let log = AccessLog::new(settings(LogTarget::File(path.clone())), counter()).expect("opens");

    for lines in 1..=3 {
        until(|| log.0.queue.is_idle());
        log.log(&entry());
        until(|| fs::read_to_string(&path).expect("text").lines().count() == lines);
    }
}

#[test]
fn lines_logged_before_the_end_are_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let log = AccessLog::new(settings(LogTarget::File(path.clone())), counter()).expect("opens");

    (0..5).for_each(|_| log.log(&entry()));
    drop(log);

    until(|| fs::read_to_string(&path).expect("text").lines().count() == 5);
}

fn until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time");
        thread::yield_now();
    }
}

/// A target that takes nothing until it is told to go on.
struct Stalled {
    entered: Sender<()>,
    go_on: Receiver<()>,
}

impl Write for Stalled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.entered.send(());
        let _ = self.go_on.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stalled_target_costs_lines_but_never_time() {
    let (entered, wait_entered) = mpsc::channel();
    let (release, go_on) = mpsc::channel();
    let dropped = counter();
    let target = Target::to(Stalled { entered, go_on });
    let small = AccessLogSettings {
        queue: 10,
        ..AccessLogSettings::default()
    };
    let log = AccessLog::start(&small, target, dropped.clone()).expect("starts");
    log.log(&entry());
    wait_entered.recv().expect("the writer stalls");
    let begun = Instant::now();

    (0..50).for_each(|_| log.log(&entry()));

    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(dropped.get(), 40);
    assert!(!log.flush(Duration::from_millis(1)));
    drop(release);
    assert!(log.flush(LONG));
}

/// A target that takes a few bytes of the first write and then fails once.
struct Torn {
    taken: Arc<std::sync::Mutex<Vec<u8>>>,
    writes: usize,
}

impl Write for Torn {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writes += 1;
        let many = match self.writes {
            1 => 5,
            2 => return Err(io::ErrorKind::StorageFull.into()),
            _ => bytes.len(),
        };
        let mut taken = self.taken.lock().expect("not poisoned");
        taken.extend_from_slice(&bytes[..many]);
        Ok(many)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_line_torn_by_a_failing_write_does_not_spoil_the_next() {
    let taken = Arc::default();
    let target = Target::to(Torn {
        taken: Arc::clone(&taken),
        writes: 0,
    });
    let dropped = counter();
    let log =
        AccessLog::start(&AccessLogSettings::default(), target, dropped.clone()).expect("starts");

    log.log(&entry());
    assert!(log.flush(LONG));
    log.log(&entry());
    assert!(log.flush(LONG));

    let text = String::from_utf8(taken.lock().expect("not poisoned").clone()).expect("UTF-8");
    assert_eq!(text, format!("{{\"tim\n{}", json_of(&entry())));
    assert_eq!(dropped.get(), 1);
}
