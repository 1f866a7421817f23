//! Splits that keep a user in one share, and requests that name their share.
//! It must not know how shares are drawn; the unit tests of `snapshot::route::split` do.
//! Part of the test binary.

use std::collections::BTreeSet;

use base64::Engine as _;
use serde_json::Value;

use crate::support::proxy::WEB;
use crate::support::{run, Proxy, Upstream};

/// Two services, and YAML of a rule that splits between them.
struct Scene {
    proxy: Proxy,
    _services: [Upstream; 2],
}

impl Scene {
    /// `beside` stands beside the split, `before` at the top level.
    fn new(weights: [u32; 2], beside: &str) -> Scene {
        let services = [Upstream::answering("stable"), Upstream::answering("canary")];
        let proxy = Proxy::http(&yaml(&services, weights, beside));
        Scene {
            proxy,
            _services: services,
        }
    }

    fn share(&self, fields: &str) -> String {
        self.proxy.ask("GET", "/", fields).text()
    }

    /// The users of the canary.
    fn canary(&self, users: std::ops::Range<u32>) -> BTreeSet<u32> {
        let mut conn = self.proxy.connect();
        let mut is_canary = |user: &u32| {
            let fields = format!("host: test\r\ncookie: a=1; user=u{user}; b=2\r\n");
            let reply = conn.ask(format!("GET / HTTP/1.1\r\n{fields}\r\n"));
            reply.text() == "canary"
        };
        users.filter(|user| is_canary(user)).collect()
    }

    fn chosen(&self, share: &str, by: &str) -> f64 {
        let marks = [&*format!("share=\"{share}\""), &format!("by=\"{by}\"")];
        self.proxy.metric("windrose_split_requests_total", &marks)
    }
}

fn yaml(services: &[Upstream; 2], [stable, canary]: [u32; 2], beside: &str) -> String {
    let [one, two] = services.each_ref().map(|service| service.address);
    format!(
        "pools:\n- {{name: stable, endpoints: ['{one}']}}\n- {{name: next, endpoints: ['{two}']}}\n\
         routes:\n- name: all\n  rules:\n  - split:\n    - {{pool: stable, weight: {stable}}}\n    - {{pool: next, weight: {canary}, name: canary}}\n{beside}"
    )
}

#[test]
fn a_user_stays_in_the_share_and_growing_it_keeps_everybody_who_was_in() {
    let sticky = "    sticky: {cookie: user}\n";
    let scene = Scene::new([95, 5], sticky);

    let before = scene.canary(0..400);
    let again = scene.canary(0..400);
    let reload = scene
        .proxy
        .reload(&format!("{}{}", crate::support::proxy::WEB, {
            yaml(&scene._services, [80, 20], sticky)
        }));
    let after = scene.canary(0..400);

    assert_eq!(reload["ok"], true, "{reload}");
    assert_eq!(before, again);
    // The law decides these numbers for good; nothing here is random.
    assert!(
        !before.is_empty() && before.len() < after.len(),
        "{before:?} {after:?}"
    );
    assert!(after.is_superset(&before), "{before:?} {after:?}");
    assert_eq!(scene.chosen("canary", "chance"), 0.0);
    assert!(scene.chosen("canary", "sticky") > 0.0);
}

#[test]
fn a_request_without_the_key_is_dealt_by_chance() {
    let scene = Scene::new([0, 1], "    sticky: {query: user}\n");

    let seen = [scene.share(""), scene.proxy.get("/?user=").text()];

    assert_eq!(seen, ["canary", "canary"]);
    assert_eq!(scene.chosen("canary", "chance"), 2.0);
}

#[test]
fn every_kind_of_key_decides() {
    for key in [
        "client_ip",
        "{header: x-user}",
        "{cookie: user}",
        "{query: user}",
    ] {
        let scene = Scene::new([1, 1], &format!("    sticky: {key}\n"));

        let ask = || {
            let fields = "x-user: 7\r\ncookie: user=7\r\n";
            scene.proxy.ask("GET", "/?user=7", fields).text()
        };
        let seen: BTreeSet<String> = (0..20).map(|_| ask()).collect();

        assert_eq!(seen.len(), 1, "{key}");
        let sticky = scene.chosen("stable", "sticky") + scene.chosen("canary", "sticky");
        assert_eq!(sticky, 20.0, "{key}");
    }
}

#[test]
fn a_request_can_name_its_share_and_an_unknown_name_is_ignored() {
    let scene = Scene::new([1, 0], "    override: {header: x-share, everyone: true}\n");

    let seen = ["canary", " canary ", "stable", "Canary", "next", ""]
        .map(|name| scene.share(&format!("x-share: {name}\r\n")));

    assert_eq!(
        seen,
        ["canary", "canary", "stable", "stable", "stable", "stable"]
    );
    assert_eq!(scene.chosen("canary", "override"), 2.0);
}

#[test]
fn a_cookie_can_name_the_share_before_the_key_decides() {
    let scene = Scene::new(
        [1, 0],
        "    sticky: client_ip\n    override: {cookie: share, everyone: true}\n",
    );

    assert_eq!(scene.share("cookie: x=1; share=canary\r\n"), "canary");
    assert_eq!(scene.share("cookie: x=1\r\n"), "stable");
}

#[test]
fn strangers_cannot_choose_a_share() {
    let far = Scene::new(
        [1, 0],
        "    override: {header: x-share, clients: [192.0.2.0/24]}\n",
    );
    let near = Scene::new(
        [1, 0],
        "    override: {header: x-share, clients: [127.0.0.0/8]}\n",
    );
    let nobody = Scene::new(
        [1, 0],
        "    override: {header: x-share, clients: [127.0.0.0/8], principals: ['consumer:qa*']}\n",
    );

    let seen = [&far, &near, &nobody].map(|scene| scene.share("x-share: canary\r\n"));

    assert_eq!(seen, ["stable", "canary", "stable"]);
}

#[test]
fn a_principal_proven_by_a_plugin_may_choose() {
    let plugins = format!("    override: {{header: x-share, principals: ['consumer:qa']}}\n    plugins:\n    - kind: basic_auth\n      config: {{users: {{qa: '{HASH}', dev: '{HASH}'}}}}\n");
    let scene = Scene::new([1, 0], &plugins);
    let ask = |name: &str| {
        let encoded = base64::prelude::BASE64_STANDARD.encode(format!("{name}:{PASSWORD}"));
        let fields = format!("x-share: canary\r\nauthorization: Basic {encoded}\r\n");
        scene.share(&fields)
    };

    let (qa, dev) = (ask("qa"), ask("dev"));

    assert_eq!((&*qa, &*dev), ("canary", "stable"));
}

#[test]
fn explain_reads_the_request_that_came_and_the_pool_that_was_decided() {
    let folder = tempfile::TempDir::new().unwrap();
    let config = folder.path().join("windrose.yaml");
    let pool = |name: &str, time: &str| {
        format!("- {{name: {name}, endpoints: ['127.0.0.1:1'], connections: {{connect_timeout: {time}}}, balance: {{affinity: {{cookie: {{name: at}}}}}}}}\n")
    };
    let text = format!(
        "{WEB}pools:\n{}{}routes:\n- name: all\n  rules:\n  - split: [{{pool: one, weight: 1}}, {{pool: two, weight: 1}}]\n    override: {{header: x-share, everyone: true}}\n    request_headers: {{remove: [cookie]}}\n",
        pool("one", "1s"),
        pool("two", "2s")
    );
    std::fs::write(&config, text).unwrap();
    let fields = ["-H", "x-share: two", "-H", "cookie: at=unknown"];
    let arguments = ["explain", "--json", "-c", config.to_str().unwrap()];

    let output = run(&[&arguments[..], &fields, &["GET", "http://test/"]].concat());

    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let outcome = &told["outcome"];
    assert_eq!(outcome["times"]["connect_ms"], 2000);
    let affinity = outcome["pools"][0]["affinity"].as_str().unwrap();
    assert!(affinity.contains("names no endpoint"), "{affinity}");
}

#[test]
fn explain_and_tests_know_the_share_that_the_request_decides_on() {
    let scene = Scene::new(
        [1, 0],
        "    sticky: {cookie: user}\n    override: {header: x-share, everyone: true}\n",
    );
    let config = scene.proxy.config();
    let explained = |field: &str| -> Value {
        let arguments = ["explain", "--json", "-c", config.to_str().unwrap(), "-H"];
        let output = run(&[&arguments[..], &[field, "GET", "http://test/"]].concat());
        serde_json::from_slice(&output.stdout).expect("JSON")
    };

    let named = explained("x-share: canary");
    let keyed = explained("cookie: user=7");
    let dealt = explained("x-share: nothing");
    let redacted = explained("cookie: user=***");

    let share = |told: &Value| {
        let outcome = &told["outcome"];
        (
            outcome["share"].clone(),
            outcome["pools"][0]["name"].clone(),
        )
    };
    assert_eq!(named["outcome"]["share"]["by"], "override");
    assert_eq!(share(&named).1, "next");
    assert_eq!(keyed["outcome"]["share"]["name"], "stable");
    assert_eq!(keyed["outcome"]["share"]["by"], "sticky");
    assert_eq!(keyed["outcome"]["pools"][0]["share_percent"], 100.0);
    assert_eq!(share(&dealt).0, Value::Null);
    assert_eq!(dealt["outcome"]["pools"].as_array().unwrap().len(), 2);
    assert_eq!(share(&redacted).0, Value::Null);
}

#[test]
fn the_view_of_routes_shows_what_decides() {
    let scene = Scene::new(
        [3, 1],
        "    sticky: {cookie: user}\n    override: {header: x-share, clients: [127.0.0.0/8]}\n",
    );

    let view = scene.proxy.admin("/routes");

    let split = &view["listeners"][0]["hosts"][0]["rules"][0]["action"]["split"];
    assert_eq!(split["sticky"], "cookie user");
    assert_eq!(split["override"], "header x-share, for client 127.0.0.0/8");
    assert_eq!(split["shares"][1]["name"], "canary");
    assert_eq!(split["shares"][1]["pool"], "next");
    assert_eq!(split["shares"][1]["weight"], 1);
}

const PASSWORD: &str = "U*U";
const HASH: &str = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
