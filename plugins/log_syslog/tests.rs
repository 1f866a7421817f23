use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::contract::WireFailure;
use crate::testkit::{Exchange, Instance, Kit};

const OWN: &str = "hostname: edge-1";

fn instance(kit: &Kit, server: &str, more: &str) -> Instance {
    kit.instance(&PLUGIN, &format!("server: '{server}'\n{OWN}\n{more}"))
}

fn pass(plugin: &Instance, path: &str, status: u16) {
    let mut exchange = Exchange::get("http://shop.test/")
        .with_path(path)
        .with_status(status);
    plugin.finish(&mut exchange, Duration::from_millis(12));
}

fn texts(kit: &Kit) -> Vec<String> {
    let sent = kit.sent().into_iter();
    sent.map(|(_, bytes)| String::from_utf8(bytes.to_vec()).unwrap())
        .collect()
}

/// Takes a stream of counted messages apart (RFC 6587 section 3.4.1).
fn counted(mut stream: &str) -> Vec<String> {
    let mut all = Vec::new();
    while !stream.is_empty() {
        let (length, rest) = stream.split_once(' ').unwrap();
        let (message, rest) = rest.split_at(length.parse().unwrap());
        all.push(message.to_owned());
        stream = rest;
    }
    all
}

/// The header's parts, and what follows them.
fn parts(message: &str) -> (Vec<&str>, &str) {
    let mut rest = message;
    let mut header = Vec::new();
    for _ in 0..6 {
        let (part, after) = rest.split_once(' ').unwrap();
        header.push(part);
        rest = after;
    }
    (header, rest)
}

#[test]
fn a_datagram_is_one_message_with_a_header_and_json() {
    let kit = Kit::new();
    let plugin = instance(
        &kit,
        "udp://logs",
        "request_headers: [user-agent, authorization]",
    );
    let mut task = kit.task(&plugin, "send");
    kit.advance(Duration::from_millis(1500));
    let mut exchange = Exchange::new("POST", "http://shop.test/raw?token=hidden")
        .with_path("/canonical")
        .with("user-agent", "a \"b\"\u{202e}")
        .with("authorization", "Bearer hidden")
        .with_status(201);
    plugin.finish(&mut exchange, Duration::from_millis(12));
    pass(&plugin, "/b", 404);
    pass(&plugin, "/c", 503);
    assert!(task.go_on());

    assert!(kit.sent().iter().all(|(far, _)| far == "udp://logs:514"));
    let texts = texts(&kit);
    assert!(!texts.concat().contains("hidden"), "{texts:?}");
    let (header, rest) = parts(&texts[0]);
    let pid = std::process::id().to_string();
    assert_eq!(
        header,
        [
            "<134>1",
            "1970-01-01T00:00:01.500Z",
            "edge-1",
            "windrose",
            &pid,
            "access"
        ]
    );
    let json = rest.strip_prefix("- ").unwrap();
    assert!(
        json.contains("\\u202e"),
        "a mark of direction is escaped: {json}"
    );
    let said: Value = serde_json::from_str(json).unwrap();
    assert_eq!(
        (&said["path"], &said["status"]),
        (&"/canonical".into(), &201.into())
    );
    assert_eq!(
        said["headers"],
        serde_json::json!({"user-agent": ["a \"b\"\u{202e}"], "authorization": ["***"]})
    );
    // local0, and notice or error by status.
    assert!(texts[1].starts_with("<133>1 ") && texts[2].starts_with("<131>1 "));
    assert_eq!(kit.counted("logged"), 3);
}

#[test]
fn a_stream_counts_octets_and_takes_what_waits_at_once() {
    let kit = Kit::new();
    let plugin = instance(&kit, "tcp://logs", "batch: 3");
    ["/ä", "/b", "/c", "/d"]
        .into_iter()
        .for_each(|path| pass(&plugin, path, 200));
    let mut task = kit.task(&plugin, "send");
    assert!(task.go_on());

    let sent = texts(&kit);
    let counts: Vec<_> = sent.iter().map(|text| counted(text).len()).collect();
    assert_eq!(counts, [3, 1]);
    assert!(counted(&sent[0])[0].contains("\"/ä\""));
    assert_eq!(kit.wires_opened(), 1);
}

#[test]
fn structured_data_is_escaped_and_holds_no_control_characters() {
    let kit = Kit::new();
    let plugin = instance(
        &kit,
        "unix:///dev/log",
        "format: structured\nid: shop@9999\nfacility: daemon\nseverity: {all: debug}\nrequest_headers: [x-*-*]\nquery: true",
    );
    let mut task = kit.task(&plugin, "send");
    pass(&plugin, "/a]b\"c\\d\ne\u{85}", 200);
    task.go_on();

    let sent = texts(&kit).remove(0);
    let (header, rest) = parts(&sent);
    assert_eq!(header[0], "<31>1");
    assert!(rest.starts_with("[shop@9999 "), "{rest}");
    assert!(
        rest.contains(" path=\"/a\\]b\\\"c\\\\d\u{fffd}e\u{fffd}\""),
        "{rest}"
    );
    assert!(
        rest.contains(" status=\"200\"") && !rest.contains("cause="),
        "{rest}"
    );
    assert!(
        rest.ends_with("] GET /a]b\"c\\d\u{fffd}e\u{fffd} 200"),
        "{rest}"
    );
    assert!(!sent.chars().any(char::is_control));
}

#[test]
fn what_cannot_be_sent_waits_and_the_pauses_grow() {
    let kit = Kit::new();
    let plugin = instance(&kit, "tls://logs.example", "queue: 3");
    let mut task = kit.task(&plugin, "send");
    let broken = || Some(WireFailure::Broken("refused".to_owned()));
    kit.break_wires(broken());
    (0..5).for_each(|_| pass(&plugin, "/", 200));
    let mut failed_after = |seconds: u64| {
        kit.advance(Duration::from_secs(seconds));
        task.go_on();
        kit.counted("failed")
    };

    assert_eq!(
        [
            failed_after(0),
            failed_after(1),
            failed_after(1),
            failed_after(1)
        ],
        [1, 2, 2, 3]
    );
    assert_eq!((kit.counted("dropped"), kit.counted("logged")), (2, 0));
    kit.break_wires(None);
    failed_after(4);
    assert_eq!((kit.counted("logged"), kit.sent().len()), (3, 1));
    // A wire that breaks is opened anew, and what was on it sent again.
    kit.break_wires(broken());
    pass(&plugin, "/again", 200);
    task.go_on();
    kit.break_wires(None);
    kit.advance(Duration::from_secs(1));
    task.go_on();
    assert_eq!((kit.counted("logged"), kit.wires_opened()), (4, 2));
}

#[test]
fn a_datagram_that_no_way_takes_does_not_hold_up_the_others() {
    let kit = Kit::new();
    let plugin = instance(&kit, "udp://logs", "");
    let mut task = kit.task(&plugin, "send");
    pass(&plugin, "/", 200);
    task.go_on();
    kit.break_wires(Some(WireFailure::TooLong));
    pass(&plugin, "/", 200);
    task.go_on();
    kit.break_wires(None);
    pass(&plugin, "/", 200);
    task.go_on();

    assert_eq!((kit.counted("lost"), kit.counted("logged")), (1, 2));
}

#[test]
fn messages_are_cut_to_their_bound_and_say_so() {
    let kit = Kit::new();
    for (format, most) in [("json", 1024), ("structured", 1024), ("json", 4096)] {
        let plugin = instance(
            &kit,
            "udp://logs",
            &format!(
                "format: {format}\nmessage_size: {most}\nquery: true\nrequest_headers: ['x-a*']"
            ),
        );
        let mut task = kit.task(&plugin, "send");
        let hostile = "\u{1}\"]\\ä".repeat(400);
        let mut exchange = Exchange::get(&format!("http://shop.test/?{}", "q".repeat(3000)))
            .with_path(&hostile)
            .with_status(200);
        for at in 0..30 {
            exchange = exchange.with(&format!("x-a{at}"), &"v".repeat(900));
        }
        plugin.finish(&mut exchange, Duration::ZERO);
        task.go_on();

        let text = texts(&kit).pop().unwrap();
        assert!(
            text.len() <= most && text.len() > 300,
            "{}: {text}",
            text.len()
        );
        if format == "json" {
            let said: Value =
                serde_json::from_str(parts(&text).1.strip_prefix("- ").unwrap()).unwrap();
            assert_eq!(said["cut"], true);
        }
    }
    assert_eq!(kit.counted("cut"), 3);
}

#[test]
fn only_those_asked_for_are_told_and_what_waits_survives_a_reload() {
    let kit = Kit::new();
    let before = instance(&kit, "tcp://logs", "only: failures");
    kit.break_wires(Some(WireFailure::Broken(String::new())));
    let mut task = kit.task(&before, "send");
    [200, 404, 503]
        .into_iter()
        .for_each(|status| pass(&before, "/", status));
    assert!(!task.end(), "it ends though the server is away");
    kit.break_wires(None);

    let after = instance(&kit, "tcp://logs", "only: errors");
    drop(before);
    let mut task = kit.task(&after, "send");
    pass(&after, "/", 404);
    pass(&after, "/", 200);
    assert!(!task.end());

    assert_eq!(kit.counted("logged"), 2);
}

#[test]
fn settings_that_cannot_be_meant_are_refused_where_they_stand() {
    for (config, paths) in [
        ("server: logs", &["server"][..]),
        ("server: 'tls://10.0.0.1'", &["server"]),
        ("server: 'tls://[::1]'", &["server"]),
        (
            "server: 'tcp://a'\nca: a.pem\nserver_name: b",
            &["ca", "server_name"],
        ),
        ("server: 'tls://a'\nca: none.pem", &["ca"]),
        ("server: 'udp://a'\nid: 'a@1'", &["id"]),
        (
            "server: 'udp://a'\nformat: structured\nid: 'a b@1'",
            &["id"],
        ),
        (
            "server: 'udp://a'\nformat: structured\nid: windrose",
            &["id"],
        ),
        (
            "server: 'udp://a'\nhostname: 'a b'\napp_name: ''\nmessage_id: ä",
            &["hostname", "app_name", "message_id"],
        ),
        ("server: 'udp://a'\nmessage_size: 64KiB", &["message_size"]),
        ("server: 'udp://a'\nmessage_size: 512B", &["message_size"]),
        (
            "server: 'udp://a'\nbatch: 0\nqueue: 0\nqueue_size: 1KiB\ntimeout: 2m",
            &["batch", "queue", "queue_size", "timeout"],
        ),
        ("server: 'udp://a'\nfacility: kern", &["facility"]),
        (
            "server: 'udp://a'\nseverity: {errors: bad}",
            &["severity.errors"],
        ),
        (
            "server: 'udp://a'\nrequest_headers: ['*']",
            &["request_headers[0]"],
        ),
    ] {
        assert_eq!(Kit::new().problem_paths(&PLUGIN, config), paths, "{config}");
    }
    let named = Kit::new().problem_paths(
        &PLUGIN,
        "server: 'tls://10.0.0.1'\nserver_name: logs.example",
    );
    assert_eq!(named, Vec::<String>::new());
}
