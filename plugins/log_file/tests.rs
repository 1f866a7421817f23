use std::time::{Duration, Instant};

use super::*;
use crate::testkit::{Exchange, Instance, Kit};

fn finish(plugin: &Instance, status: u16) {
    let mut exchange = Exchange::get("http://shop.test/a").with_status(status);
    plugin.finish(&mut exchange, Duration::from_millis(5));
}

/// Waits until the file has so many whole lines; one that crosses a page of the file can be seen half written.
fn lines(path: &std::path::Path, count: usize) -> Vec<serde_json::Value> {
    let begun = Instant::now();
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        let lines: Vec<_> = whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        if lines.len() >= count {
            return lines;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "never came: {count} lines, {text}"
        );
        std::thread::yield_now();
    }
}

#[test]
fn each_request_is_a_line_and_renamed_files_are_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let kit = Kit::new().in_folder(folder.path());
    let plugin = kit.instance(&PLUGIN, "path: log.jsonl");
    let path = folder.path().join("log.jsonl");
    assert!(!path.exists(), "building opens nothing");

    finish(&plugin, 200);
    finish(&plugin, 404);
    let first = lines(&path, 2);
    assert_eq!(
        (&first[0]["status"], &first[1]["status"]),
        (&200.into(), &404.into())
    );

    let old = folder.path().join("log.jsonl.1");
    std::fs::rename(&path, &old).unwrap();
    let begun = Instant::now();
    while !path.exists() {
        finish(&plugin, 500);
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::yield_now();
    }
    assert_eq!(lines(&path, 1)[0]["status"], 500);
}

#[test]
fn only_those_asked_for_are_written_and_a_reload_goes_on_with_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let kit = Kit::new().in_folder(folder.path());
    let failures = kit.instance(&PLUGIN, "path: log.jsonl\nonly: failures");
    for status in [200, 404, 503] {
        finish(&failures, status);
    }
    let errors = kit.instance(&PLUGIN, "path: log.jsonl\nonly: errors");
    for status in [200, 404] {
        finish(&errors, status);
    }

    let lines = lines(&folder.path().join("log.jsonl"), 2);

    assert_eq!(
        (&lines[0]["status"], &lines[1]["status"]),
        (&503.into(), &404.into())
    );
}

#[test]
fn what_cannot_be_written_is_counted_and_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let kit = Kit::new().in_folder(folder.path());
    let plugin = kit.instance(&PLUGIN, "path: none/log.jsonl\nqueue: 1");

    let begun = Instant::now();
    while kit.counted("failed") == 0 || kit.counted("dropped") == 0 {
        finish(&plugin, 200);
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    assert_eq!(kit.counted("written"), 0);
}

#[test]
fn wrong_settings_are_located_all_at_once() {
    let paths = |config: &str| Kit::new().problem_paths(&PLUGIN, config);

    assert_eq!(paths("path: ''\nqueue: 0"), ["path", "queue"]);
    assert_eq!(paths("path: logs/"), ["path"]);
    assert_eq!(paths("path: a\nonly: some"), ["only"]);
    assert_eq!(paths("{}").len(), 1);
}

#[test]
fn a_signal_begins_a_new_file_with_the_next_line() {
    let folder = tempfile::tempdir().unwrap();
    let kit = Kit::new().in_folder(folder.path());
    let plugin = kit.instance(&PLUGIN, "path: log.jsonl");
    let path = folder.path().join("log.jsonl");
    finish(&plugin, 200);
    lines(&path, 1);
    let old = folder.path().join("log.jsonl.1");
    std::fs::rename(&path, &old).unwrap();

    (plugin.hooks.reopen.as_ref().unwrap())();
    finish(&plugin, 500);

    assert_eq!(lines(&path, 1)[0]["status"], 500);
    assert_eq!(lines(&old, 1).len(), 1);
}

#[test]
fn at_the_end_what_waits_is_written_first() {
    let folder = tempfile::tempdir().unwrap();
    let kit = Kit::new().in_folder(folder.path());
    let plugin = kit.instance(&PLUGIN, "path: log.jsonl");
    let mut task = kit.task(&plugin, "write");
    (0..5000).for_each(|_| finish(&plugin, 200));

    let begun = Instant::now();
    while task.end() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it never ends");
        std::thread::yield_now();
    }

    let text = std::fs::read_to_string(folder.path().join("log.jsonl")).unwrap();
    assert_eq!(text.lines().count(), 5000);
}
