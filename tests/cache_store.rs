//! The store of a cache as operators meet it: explained, bounded, purged, kept over reloads and restarts.
//! It must not know how responses are chosen; `cache` does.
//! Part of the test binary.

use crate::cache::{cached, counting, route, status, with};
use crate::support::proxy::WEB;
use crate::support::{run, until, Upstream};

#[test]
fn a_reload_keeps_the_store() {
    let service = counting(&[]);
    let proxy = cached(&service);
    assert_eq!(proxy.get("/a").text(), "answer 1");

    let more =
        "- name: other\n  rules: [{match: [{path: {exact: /other}}], respond: {status: 200}}]\n";
    let outcome = proxy.reload(&format!("{WEB}{}{more}", route(&service, "", "")));
    assert_eq!(outcome["ok"], true, "{outcome}");

    assert_eq!(proxy.get("/a").text(), "answer 1");
    assert_eq!(service.requests(), 1);
}

#[test]
fn many_keys_stay_within_the_bound() {
    let service = counting(&[]);
    let proxy = with(&service, "", "memory: 64KiB, object: 1KiB");
    let mut conn = proxy.connect();

    for number in 0..2000 {
        let reply = conn.ask(format!("GET /{number} HTTP/1.1\r\nhost: test\r\n\r\n"));
        assert_eq!(reply.status, 200);
    }

    let view = proxy.admin("/cache");
    let store = &view["caches"][0];
    assert!(store["bytes"].as_u64().unwrap() <= 64 << 10, "{view}");
    assert!(store["objects"].as_u64().unwrap() > 10, "{view}");
}

#[test]
fn explain_tells_what_the_cache_would_do() {
    let service = counting(&[]);
    let proxy = cached(&service);

    let path = proxy.config();
    let explain = |arguments: &[&str]| {
        let mut all = vec!["explain", "-c", path.to_str().unwrap()];
        all.extend(arguments);
        String::from_utf8_lossy(&run(&all).stdout).into_owned()
    };
    let told = explain(&["GET", "http://test/a?token=secret"]);
    let passed = explain(&["GET", "http://test/a", "-H", "if-match: x"]);
    let written = explain(&["DELETE", "http://test/a"]);

    assert!(told.contains("looks for http://test/a?…"), "{told}");
    assert!(told.contains("what it holds is unknown here"), "{told}");
    assert!(passed.contains("is passed by: precondition"), "{passed}");
    assert!(written.contains("takes out what it holds"), "{written}");
    assert_eq!(service.requests(), 0);
}

#[test]
fn responses_are_purged_by_url_by_tag_and_all_at_once() {
    let service = counting(&[("surrogate-key", "blue round")]);
    let proxy = cached(&service);
    let path = proxy.config();
    let cache = |arguments: &[&str]| {
        let mut all = vec!["cache", "-c", path.to_str().unwrap()];
        all.extend(arguments);
        let done = run(&all);
        let said = [done.stdout, done.stderr].concat();
        (
            done.status.success(),
            String::from_utf8_lossy(&said).trim().to_owned(),
        )
    };
    let stored = |target: &str| status(&proxy.get(target)).contains("hit");
    for target in ["/a", "/b?c=1", "/d"] {
        assert!(!stored(target) && stored(target));
    }

    assert!(
        cache(&["show"]).1.contains(": 3 responses, "),
        "{:?}",
        cache(&["show"])
    );
    assert_eq!(
        cache(&["purge", "--url", "http://TEST/./b?c=1"]),
        (true, "purged 1".into())
    );
    assert!(stored("/a") && !stored("/b?c=1"));
    assert_eq!(
        cache(&["purge", "--tag", "blue"]),
        (true, "purged 3".into())
    );
    assert!(!stored("/a"));
    assert_eq!(cache(&["purge", "--all"]), (true, "purged 1".into()));
    let (succeeded, said) = cache(&["purge", "--all", "--plugin", "none"]);
    assert!(
        !succeeded && said.contains("no cache is named \"none\""),
        "{said}"
    );
    let unmeant = proxy
        .ask_admin("POST", "/cache/purge?all", "content-length: 0\r\n")
        .unwrap();
    assert_eq!(unmeant.status, 403);
    assert!(proxy.get("/a").header("surrogate-key").is_none());
}

#[test]
fn a_second_cache_in_a_list_is_refused() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("windrose.yaml");
    let service = Upstream::answering("x");
    let yaml = format!("{WEB}{}", route(&service, "{kind: response_cache}, ", ""));
    std::fs::write(&file, yaml).unwrap();

    let done = run(&["check", "-c", file.to_str().unwrap()]);

    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(
        !done.status.success() && said.contains("a second cache"),
        "{said}"
    );
}

#[test]
fn a_folder_keeps_responses_over_a_restart_but_not_what_was_purged() {
    let folder = tempfile::TempDir::new().unwrap();
    let service = counting(&[]);
    let config = format!("folder: '{}'", folder.path().display());
    let files = || {
        let folders = std::fs::read_dir(folder.path()).unwrap().flatten();
        let files = folders.flat_map(|own| std::fs::read_dir(own.path()).unwrap());
        files.flatten().count()
    };
    let proxy = with(&service, "", &config);
    assert_eq!(proxy.get("/a").text(), "answer 1");
    assert_eq!(proxy.get("/b").text(), "answer 2");
    until("both are written", || (files() == 2).then_some(()));
    let purged = "content-length: 0\r\nx-windrose-admin: reload\r\n";
    let target = "/cache/purge?url=http://test/b";
    assert_eq!(proxy.ask_admin("POST", target, purged).unwrap().status, 200);
    until("one is removed", || (files() == 1).then_some(()));
    drop(proxy);

    let proxy = with(&service, "", &config);

    let kept = until("it is read", || {
        let reply = proxy.ask("GET", "/a", "cache-control: only-if-cached\r\n");
        (reply.status == 200).then_some(reply)
    });
    assert_eq!(kept.text(), "answer 1");
    assert_eq!(proxy.get("/b").text(), "answer 3");
}

#[test]
fn a_response_hook_refuses_stored_responses_with_its_own_cause() {
    let service = counting(&[]);
    let proxy = cached(&service);
    assert_eq!(proxy.get("/a").text(), "answer 1");
    let limit = "config: {}}, {kind: body_limit, config: {max_response: 4B}}]";
    let limited = route(&service, "", "").replace("config: {}}]", limit);
    let outcome = proxy.reload(&format!("{WEB}{limited}"));
    assert_eq!(outcome["ok"], true, "{outcome}");

    let reply = proxy.get("/a");

    let why = reply.why();
    assert_eq!((reply.status, &*why), (502, "body_limit.response"));
    assert!(!reply.text().contains("answer 1"), "{}", reply.text());
    assert_eq!(service.requests(), 1);
}
