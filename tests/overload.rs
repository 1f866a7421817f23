//! A process over its bounds: who is refused first, and who never is.
//! It must not know how overload is measured.
//! Part of the test binary.

use crate::support::client::Reply;
use crate::support::proxy::{pool, run, WEB};
use crate::support::{until, Proxy, Upstream};

/// A route for each class, one that answers by itself, and a bound on memory that the process passes by being there.
fn yaml(upstream: &Upstream, overload: &str) -> String {
    let pool = pool("app", &[upstream]);
    format!(
        "{WEB}{pool}routes:\n- name: classes\n  rules:\n  - {{match: [{{path: {{exact: /low}}}}], pool: app, priority: low}}\n  - {{match: [{{path: {{exact: /high}}}}], pool: app, priority: high}}\n  - {{match: [{{path: {{exact: /critical}}}}], pool: app, priority: critical}}\n  - {{match: [{{path: {{exact: /own}}}}], respond: {{status: 200}}}}\n  - pool: app\n{overload}"
    )
}

const TOO_MUCH: &str = "overload: {lag: 0s, descriptors: 0%, memory: 1%, memory_limit: 64MiB}\n";

fn is_refused(reply: &Reply) -> bool {
    match (reply.status, &*reply.why()) {
        (200, _) => false,
        (503, "overloaded") => {
            assert_eq!(reply.header("retry-after"), Some("1"));
            true
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn lower_classes_are_refused_first_and_some_requests_never() {
    let upstream = Upstream::answering("done");
    let proxy = Proxy::start(&yaml(&upstream, TOO_MUCH));

    let mut was_between = false;
    until("all but critical requests are refused", || {
        // Asked in this order, a level that rises meanwhile cannot make the higher one look refused first.
        let high = is_refused(&proxy.get("/high"));
        let low = is_refused(&proxy.get("/low"));
        was_between |= low && !high;
        assert!(!is_refused(&proxy.get("/critical")));
        assert!(!is_refused(&proxy.get("/own")));
        assert_eq!(proxy.admin_reply("/readyz").status, 200);
        let refused = proxy.admin("/pools")["overload"]["refused_percent"].clone();
        (refused["high"] == 100.0 && refused["critical"] == 0.0).then_some(())
    });

    assert!(was_between, "low was never refused before high");
    assert!(is_refused(&proxy.get("/")));
    assert!(proxy.metric("windrose_overload_shed_total", &["high"]) >= 1.0);
    assert_eq!(
        proxy.metric("windrose_overload_shed_total", &["critical"]),
        0.0
    );
    assert!(proxy
        .stderr()
        .contains("overloaded: requests of low priority"));
    let config = proxy.config();
    let ask = ["explain", "--live", "GET", "http://test/low", "-c"];
    let told = run(&[&ask[..], &[config.to_str().unwrap()]].concat());
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(
        told.contains("priority low: 100 % of its requests are refused now"),
        "{told}"
    );
}

#[test]
fn a_reload_without_bounds_takes_everybody_again() {
    let upstream = Upstream::answering("done");
    let proxy = Proxy::start(&yaml(&upstream, TOO_MUCH));
    until("low requests are refused", || {
        is_refused(&proxy.get("/low")).then_some(())
    });

    proxy.reload(&yaml(&upstream, ""));

    assert!(!is_refused(&proxy.get("/low")));
    until("gauges tell that nothing is looked at", || {
        let level = proxy.metric("windrose_overload_level_percent", &[]);
        let memory = proxy.metric("windrose_overload_used_percent", &["memory"]);
        (level == 0.0 && memory == 0.0).then_some(())
    });
}

#[test]
fn only_trusted_callers_name_the_class_of_their_requests() {
    let upstream = Upstream::answering("done");
    let overload = TOO_MUCH.replace('}', ", priority_header: x-class}");
    let trusting = |networks: &str| {
        let yaml = yaml(&upstream, &overload);
        yaml.replace(
            "127.0.0.1:0\n",
            &format!("127.0.0.1:0\n  trusted_proxies: [{networks}]\n"),
        )
    };
    let trusted = Proxy::start(&trusting("127.0.0.0/8"));
    let others = Proxy::start(&trusting("10.0.0.0/8"));
    for proxy in [&trusted, &others] {
        until("normal requests are refused", || {
            let view = proxy.admin("/pools")["overload"]["refused_percent"].clone();
            (view["normal"] == 100.0).then_some(())
        });
    }

    let ask = |proxy: &Proxy| is_refused(&proxy.ask("GET", "/", "x-class: critical\r\n"));
    assert_eq!((ask(&trusted), ask(&others)), (false, true));
    assert_eq!(upstream.last().header("x-class"), Some("critical"));
    let other = others.ask("GET", "/critical", "X-Class: critical\r\n");
    assert_eq!(other.status, 200);
    let told = upstream.last();
    assert_eq!(
        told.header("x-class"),
        None,
        "an inner proxy would believe it"
    );
    assert!(is_refused(&trusted.ask(
        "GET",
        "/",
        "x-class: whatever\r\n"
    )));
}

#[test]
fn connections_of_bytes_are_refused_by_the_class_of_their_route() {
    let upstream = Upstream::answering("done");
    let address = upstream.address;
    let proxy = Proxy::start(&format!(
        "listeners:\n- {{name: web, bind: '127.0.0.1:0', protocol: tcp}}\npools:\n- {{name: app, protocol: tcp, endpoints: ['{address}']}}\nroutes:\n- {{name: all, protocol: tcp, priority: low, rules: [{{pool: app}}]}}\n{TOO_MUCH}"
    ));

    until("low connections are refused", || {
        proxy.connect();
        let marks = ["overloaded", "route=\"all\""];
        (proxy.metric("windrose_request_causes_total", &marks) > 0.0).then_some(())
    });
}
