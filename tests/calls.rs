//! Calls and background tasks of plugins, through plugins that only tests have: which pools carry them, and what comes of them.
//! It must not know how an exchange is made; only what services, clients and operators see.
//! Part of the test binary.

use std::process::Output;

use tempfile::TempDir;

use crate::support::proxy::{pool, run_test_plugins, ALL_TO_APP, WEB};
use crate::support::upstream::answer;
use crate::support::{until, Proxy, Upstream};

/// A proxy to `app` whose plugin asks `idp`.
fn asking(app: &Upstream, pools: &str, config: &str) -> String {
    format!(
        "{WEB}{}{pools}{ALL_TO_APP}  plugins:\n  - kind: asking\n    config: {{{config}}}\n",
        pool("app", &[app])
    )
}

/// The counter of an event of the plugin.
fn event(proxy: &Proxy, name: &str) -> f64 {
    let mark = format!("event=\"{name}\"");
    proxy.metric("windrose_plugin_events_total", &["asking", &mark])
}

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn a_call_goes_through_the_pool_it_names_and_carries_the_requests_id_and_trace() {
    let (app, idp) = (Upstream::echo(), Upstream::answering("yes"));
    let pools = format!("- {{name: idp, endpoints: ['{}']}}\n", idp.address);
    let config = "service: {url: 'http://idp.test:81/ask?a=b', pool: idp}, timeout: 5s";
    let proxy = Proxy::with_failing_plugin(&asking(&app, &pools, config));

    let replies = [(); 2].map(|()| proxy.ask("GET", "/", &format!("traceparent: {PARENT}\r\n")));

    assert_eq!(replies.map(|reply| reply.status), [200, 200]);
    assert_eq!(app.last().header("x-said"), Some("200 yes"));
    let asked = idp.last();
    assert_eq!((&*asked.method, &*asked.target), ("GET", "/ask?a=b"));
    assert_eq!(asked.header("host"), Some("idp.test:81"));
    assert_eq!(asked.header("traceparent"), Some(PARENT));
    assert_eq!(
        asked.header("x-request-id"),
        app.last().header("x-request-id")
    );
    assert_eq!(
        (idp.requests(), idp.connections()),
        (2, 1),
        "one connection is kept"
    );
    assert_eq!(event(&proxy, "call_answered"), 2.0);
    let marks = ["pool=\"idp\"", "result=\"ok\""];
    assert_eq!(proxy.metric("windrose_pool_attempts_total", &marks), 2.0);
    assert!(
        !proxy.stderr().contains("unused_pool"),
        "{}",
        proxy.stderr()
    );
}

#[test]
fn a_url_makes_a_pool_of_its_own_that_plugins_share_and_views_show() {
    let (app, idp) = (Upstream::echo(), Upstream::answering("yes"));
    let config = format!("service: 'http://{}/ask', timeout: 5s", idp.address);
    let text = asking(&app, "", &config);
    let proxy = Proxy::with_failing_plugin(&text);

    assert_eq!(proxy.get("/").status, 200);

    assert_eq!(app.last().header("x-said"), Some("200 yes"));
    let name = format!("http://{}", idp.address);
    assert_eq!(
        proxy.pool(&name)["endpoints"][0]["address"],
        idp.address.to_string()
    );
    proxy.reload(&text.replace("/ask", "/other"));
    assert_eq!(proxy.get("/").status, 200);
    assert_eq!(idp.last().target, "/other");
    assert_eq!(idp.connections(), 1, "the pool stays over a reload");
    let status = proxy.admin("/status");
    let pools = status["pools"].as_array().into_iter().flatten();
    assert_eq!(pools.filter(|pool| pool["name"] == name).count(), 1);
}

#[test]
fn a_call_that_comes_to_nothing_says_why_and_is_counted() {
    let app = Upstream::answering("ok");
    let long = "x".repeat(101);
    let cases = [
        (
            Upstream::refusing(),
            "call_broken",
            "could not be asked: ConnectRefused",
        ),
        (
            Upstream::silent(),
            "call_timed_out",
            "did not answer in time",
        ),
        (Upstream::closing(), "call_broken", "could not be asked"),
        (Upstream::answering(&long), "call_too_large", "too large"),
    ];
    for (idp, counted, said) in cases {
        let config = format!("service: 'http://{}/', timeout: 300ms", idp.address);
        let proxy = Proxy::with_failing_plugin(&asking(&app, "", &config));

        let reply = proxy.get("/");

        assert_eq!(
            (reply.status, &*reply.why()),
            (503, "test.not_asked"),
            "{counted}"
        );
        assert_eq!(event(&proxy, counted), 1.0, "{counted}");
        let log = proxy.stderr();
        assert!(
            log.contains(&format!("http://{}/ ", idp.address)) && log.contains(said),
            "{log}"
        );
    }
    assert_eq!(app.requests(), 0);
}

#[test]
fn a_call_turns_to_another_endpoint_when_one_cannot_be_reached_and_ejects_it_as_requests_would() {
    let (app, dead, idp) = (
        Upstream::echo(),
        Upstream::refusing(),
        Upstream::answering("yes"),
    );
    let pools = format!(
        "- {{name: idp, endpoints: ['{}', '{}'], balance: {{algorithm: round_robin}}, retry_budget: {{min_per_second: 100}}}}\n",
        dead.address, idp.address
    );
    let config = "service: {url: 'http://idp.test/', pool: idp}, timeout: 5s";
    let proxy = Proxy::with_failing_plugin(&asking(&app, &pools, config));

    let statuses: Vec<u16> = (0..12).map(|_| proxy.get("/").status).collect();

    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    let shown = proxy.pool("idp").to_string();
    assert!(shown.contains("ejected"), "{shown}");
}

#[test]
fn a_kept_connection_that_broke_is_no_failure() {
    let (app, idp) = (Upstream::echo(), Upstream::answering("yes"));
    let config = format!("service: 'http://{}/', timeout: 5s", idp.address);
    let proxy = Proxy::with_failing_plugin(&asking(&app, "", &config));
    for _ in 0..5 {
        assert_eq!(proxy.get("/").status, 200);
        idp.drop_connections();
    }

    assert_eq!(event(&proxy, "failed"), 0.0);
}

#[test]
fn calls_count_within_the_limits_of_their_pool() {
    let app = Upstream::echo();
    let idp = Upstream::with(|seen, stream| {
        // The first call holds the only place until its time is over.
        match seen.target.as_str() {
            "/" => answer(stream, 200, &[], b"yes"),
            _ => Ok(std::io::Read::read(stream, &mut [0; 1]).is_ok()),
        }
    });
    let pools = format!(
        "- {{name: idp, endpoints: ['{}'], limits: {{requests: 1}}}}\n",
        idp.address
    );
    let config = "service: {url: 'http://idp.test/hold', pool: idp}, timeout: 5s";
    let proxy = Proxy::with_failing_plugin(&asking(&app, &pools, config));
    let mut first = proxy.connect();
    first.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    until("the first call is under way", || {
        (idp.requests() == 1).then_some(())
    });

    let second = proxy.get("/");

    assert_eq!((second.status, &*second.why()), (503, "test.not_asked"));
    assert_eq!(event(&proxy, "call_full"), 1.0);
}

fn check(yaml: &str, arguments: &[&str]) -> Output {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("windrose.yaml");
    std::fs::write(&config, yaml).unwrap();
    let mut all = vec![arguments[0], "-c", config.to_str().unwrap()];
    all.extend(&arguments[1..]);
    run_test_plugins(&all)
}

fn said(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[test]
fn targets_that_cannot_be_called_are_problems_with_a_remedy() {
    let app = Upstream::refusing();
    let pools = "- {name: idp, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}\n- {name: raw, protocol: tcp, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}\n- {name: tls, endpoints: ['10.0.0.1:1', '10.0.0.2:1'], tls: {sni: a}}\n- {name: with, endpoints: ['10.0.0.1:1', '10.0.0.2:1'], proxy_protocol: v2}\n";
    for (service, expected) in [
        (
            "{url: 'http://a/', pool: idpp}",
            "no pool is named \"idpp\"",
        ),
        ("{url: 'http://a/', pool: idpp}", "did you mean \"idp\"?"),
        ("{url: 'https://a/', pool: idp}", "speaks in the clear"),
        ("{url: 'http://a/', pool: tls}", "speaks TLS"),
        ("{url: 'http://a/', pool: raw}", "protocol \"tcp\""),
        ("{url: 'http://a/', pool: with}", "`proxy_protocol`"),
        ("'https://10.0.0.1/'", "certificates have names"),
        ("'idp.test'", "none of http://, h2c:// and https://"),
        ("{url: 'http://a/', pol: idp}", "pol"),
    ] {
        let yaml = asking(&app, pools, &format!("service: {service}, timeout: 1s"));

        let output = check(&yaml, &["check"]);

        let said = said(&output);
        assert!(
            !output.status.success() && said.contains(expected),
            "{service}: {said}"
        );
        assert!(said.contains("windrose.yaml:"), "{said}");
    }
}

#[test]
fn a_dry_run_says_whom_it_would_ask_and_asks_nobody() {
    let (app, idp) = (Upstream::refusing(), Upstream::answering("yes"));
    let config = format!("service: 'http://{}/ask?secret', timeout: 5s", idp.address);
    let yaml = asking(&app, "", &config);
    let tests =
        format!("{yaml}tests:\n- request: {{url: 'http://test/'}}\n  expect: {{route: all}}\n");

    let explained = said(&check(&yaml, &["explain", "GET", "http://test/"]));
    let checked = check(&tests, &["check"]);

    let expected = format!("asks http://{}/ask", idp.address);
    assert!(
        explained.contains(&expected) && !explained.contains("secret"),
        "{explained}"
    );
    assert!(checked.status.success(), "{}", said(&checked));
    assert_eq!(idp.connections(), 0);
}

/// What a ticking plugin said, each word once in a row.
fn words(heard: &Upstream) -> Vec<String> {
    let mut words: Vec<String> = heard.seen().into_iter().map(|seen| seen.target).collect();
    words.dedup();
    words
}

fn ticking(app: &Upstream, heard: &Upstream, config: &str) -> String {
    let plugins = match config {
        "" => String::new(),
        config => format!(
            "  plugins:\n  - kind: ticking\n    config: {{service: 'http://{}', {config}}}\n",
            heard.address
        ),
    };
    format!("{WEB}{}{ALL_TO_APP}{plugins}", pool("app", &[app]))
}

fn until_heard(heard: &Upstream, word: &str) {
    until(word, || {
        words(heard).iter().any(|one| one == word).then_some(())
    });
}

#[test]
fn a_task_lives_as_long_as_its_plugin_is_in_force_and_the_next_begins_after_its_end() {
    let (app, heard) = (Upstream::answering("ok"), Upstream::answering("ok"));
    let mut proxy = Proxy::with_failing_plugin(&ticking(&app, &heard, "word: a"));
    until_heard(&heard, "/a/lives");
    assert_eq!(proxy.admin("/status")["background_tasks"], 1);
    let shown = proxy.admin("/plugins")["plugins"][0]["background"][0].clone();
    assert_eq!(
        (&shown["task"], &shown["state"]),
        (&"tick".into(), &"runs".into())
    );

    proxy.reload(&ticking(&app, &heard, "word: b"));
    until_heard(&heard, "/b/lives");
    proxy.reload(&ticking(&app, &heard, ""));
    until_heard(&heard, "/b/ends");
    assert_eq!(proxy.admin("/status")["background_tasks"], 0);
    proxy.reload(&ticking(&app, &heard, "word: c"));
    until_heard(&heard, "/c/lives");
    proxy.signal("TERM");
    proxy.wait_exit();

    let expected = ["a", "b", "c"]
        .map(|word| ["begins", "lives", "ends"].map(|what| format!("/{word}/{what}")));
    assert_eq!(words(&heard), expected.concat());
}

#[test]
fn a_task_that_panics_begins_again_and_is_told() {
    let (app, heard) = (Upstream::answering("ok"), Upstream::answering("ok"));
    let proxy = Proxy::with_failing_plugin(&ticking(&app, &heard, "word: a, dies: true"));

    until("it begins again", || (heard.requests() >= 2).then_some(()));

    assert_eq!(proxy.get("/").status, 200);
    let marks = ["ticking", "event=\"task_ended_early\""];
    assert!(proxy.metric("windrose_plugin_events_total", &marks) >= 1.0);
    let log = proxy.stderr();
    assert!(
        log.contains("task=tick") && log.contains("panicked: it was told to"),
        "{log}"
    );
    let attention = until("it waits", || {
        let text = proxy.admin("/status")["attention"].to_string();
        text.contains("background task tick").then_some(text)
    });
    assert!(attention.contains("ended by itself"), "{attention}");
}

#[test]
fn a_dry_run_begins_no_task() {
    let (app, heard) = (Upstream::answering("ok"), Upstream::answering("ok"));
    let yaml = ticking(&app, &heard, "word: a");

    let checked = check(&yaml, &["check"]);
    let explained = check(&yaml, &["explain", "GET", "http://test/"]);

    assert!(checked.status.success() && explained.status.success());
    assert_eq!(heard.connections(), 0);
}
