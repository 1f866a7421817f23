//! What is outside is reached through a named gateway on another node: over mutual TLS with the one it is expected to be, judged
//! there, and in no other way.
//! It must not touch the rules of the machine it runs on. Without root every test here skips, and says so. Part of the test binary.

use std::fs;

use crate::captured::{applied, heard, APP};
use crate::support::netns::{Lan, Netns, Server};
use crate::support::node::node;
use crate::support::{until, Authority, Proxy};

const WEB: &str = "spiffe://mesh.test/ns/shop/sa/web";
const GATE: &str = "spiffe://mesh.test/ns/edge/sa/gateway";
const HOSTS: &str = "10.99.0.5 api.partner.test\n";

/// An application's node at 10.88.0.1, a gateway at 10.88.0.2, and a machine outside at 10.88.0.3.
struct Scene {
    node: Proxy,
    gateway: Proxy,
    _outside: Server,
    lan: Lan,
}

const NODE: &str = "listeners: [{name: out, role: mesh-outbound, bind: '0.0.0.0:15001', protocol: auto, capture: redirect, unknown: block, detect_timeout: 300ms}]
pools:
- {name: egress, protocol: auto, endpoints: ['10.88.0.2:15006'], mtls: {peers: ['spiffe://mesh.test/ns/edge/sa/gateway']}, connections: {connect_timeout: 1s}}
- {name: egress-bytes, protocol: tcp, endpoints: ['10.88.0.2:2525'], mtls: {peers: ['spiffe://mesh.test/ns/edge/sa/gateway'], hbone: {port: 15008}}, connections: {connect_timeout: 1s}}
services:
- {name: partner, hosts: [api.partner.test], ports: [{port: 80}], pool: egress}
- {name: mail, addresses: [10.99.0.6], ports: [{port: 25, protocol: tcp}], pool: egress-bytes}
";

const GATEWAY: &str = "listeners:
- {name: in, role: mesh-inbound, bind: '0.0.0.0:15006', mtls: {mode: strict}}
- {name: tunnels, role: mesh-inbound, bind: '0.0.0.0:15008', protocol: tcp, mtls: {hbone: true}}
pools:
- {name: partner, endpoints: ['10.88.0.3:8080']}
- {name: mail, protocol: tcp, endpoints: ['10.88.0.3:2525']}
routes:
- {name: partner, listeners: [in], hosts: [api.partner.test], rules: [{pool: partner}]}
- {name: mail, protocol: tcp, listeners: [tunnels], rules: [{match: [{destinations: [{ports: [2525]}]}], pool: mail}]}
";
const POLICIES: &str = "policies:
- {name: partners, action: allow, to: {routes: [partner]}, rules: [{from: {principals: ['spiffe://mesh.test/ns/shop/sa/web']}, when: {methods: [GET]}}]}
- {name: mailers, action: allow, to: {routes: [mail]}, rules: [{from: {principals: ['spiffe://mesh.test/ns/shop/sa/MAILER']}}]}
";

fn policies(mailer: &str) -> String {
    POLICIES.replace("MAILER", mailer)
}

fn start(space: &Netns, authority: &Authority, id: &str, yaml: &str) -> (Proxy, String) {
    let (folder, identity) = node(authority, id);
    let yaml = format!("{yaml}{identity}");
    (space.proxy_in(folder, &yaml), identity)
}

impl Scene {
    /// With the gateway as somebody, where `mailer` may send mail.
    fn new(gateway: &str, mailer: &str) -> Option<Scene> {
        let lan = Lan::new(3)?;
        let outside = lan.nodes[2].server("http=10.88.0.3:8080 banner=10.88.0.3:2525");
        lan.nodes[2].count(&[8080, 2525]);
        let authority = Authority::new();
        let (node, _) = start(&lan.nodes[0], &authority, WEB, NODE);
        let yaml = format!("{GATEWAY}{}", policies(mailer));
        let (gateway, _) = start(&lan.nodes[1], &authority, gateway, &yaml);
        applied(&lan.nodes[0], &node, &["--user", APP]);
        fs::write(node.file("hosts"), HOSTS).unwrap();
        Some(Scene {
            node,
            gateway,
            _outside: outside,
            lan,
        })
    }

    /// What curl prints as the application: the body, the status, and the cause.
    fn curl(&self, arguments: &[&str]) -> String {
        let mut line = vec!["curl", "-s", "--max-time", "10", "-w", "%{http_code}"];
        line.extend(arguments);
        let hosts = self.node.file("hosts");
        let done = self.lan.nodes[0].run_as_with_hosts(APP, hosts.to_str().unwrap(), &line);
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    fn came(&self) -> [u64; 2] {
        [8080, 2525].map(|port| self.lan.nodes[2].arrivals(port))
    }
}

const MAIL: &str = "exec 3<>/dev/tcp/10.99.0.6/25; head -c 5 <&3";

#[test]
fn what_is_outside_is_reached_through_the_gateway_which_judges() {
    let Some(scene) = Scene::new(GATE, "web") else {
        return;
    };

    assert_eq!(scene.curl(&["http://api.partner.test/v1"]), "served\n200");
    assert_eq!(heard(&scene.lan.nodes[0], MAIL), "HELLO");

    let line = scene.node.logged(|line| line["path"] == "/v1");
    assert_eq!(
        (&line["route"], &line["pool"]),
        (&"partner".into(), &"egress".into())
    );
    let line = scene.gateway.logged(|line| line["path"] == "/v1");
    assert_eq!(
        (&line["principal"], &line["endpoint"]),
        (&WEB.into(), &"10.88.0.3:8080".into())
    );
    let line = scene.gateway.logged(|line| line["route"] == "mail");
    assert_eq!(line["principal"], WEB);
    assert_eq!(scene.came(), [1, 1]);
    let denied = scene.curl(&["-X", "DELETE", "http://api.partner.test/v2"]);
    assert!(denied.ends_with("403"), "{denied}");
    let line = scene.gateway.logged(|line| line["path"] == "/v2");
    assert_eq!(
        (&line["why"], &line["policy"]),
        (&"policy_denied".into(), &"partners".into())
    );
    assert_eq!(scene.came(), [1, 1], "the outside heard nothing of it");
}

#[test]
fn there_is_no_way_past_the_gateway() {
    let Some(scene) = Scene::new(GATE, "somebody-else") else {
        return;
    };
    let node = &scene.lan.nodes[0];

    let direct = scene.curl(&["http://10.88.0.3:8080/direct"]);
    let bytes = heard(node, "exec 3<>/dev/tcp/10.88.0.3/2525; head -c 5 <&3");
    let mail = heard(node, MAIL);

    assert!(direct.ends_with("502"), "{direct}");
    let line = scene.node.logged(|line| line["path"] == "/direct");
    assert_eq!(line["why"], "destination_unknown");
    assert_eq!((&*bytes, &*mail), ("", ""));
    let line = scene.gateway.logged(|line| line["route"] == "mail");
    assert_eq!(
        (&line["why"], &line["policy"]),
        (&"policy_denied".into(), &"mailers".into())
    );
    assert_eq!(scene.came(), [0, 0]);
    let past = ["curl", "-s", "--max-time", "10", "http://10.88.0.3:8080/"];
    let past = node.run_as("0", &past);
    assert_eq!(
        past.stdout, b"served\n",
        "who is not captured gets there: the proxy blocks, not the network"
    );
}

#[test]
fn a_gateway_that_is_down_or_somebody_else_is_told_and_nothing_goes_round_it() {
    let Some(mut scene) = Scene::new("spiffe://mesh.test/ns/edge/sa/thief", "web") else {
        return;
    };
    let why = |scene: &Scene, path: &str| {
        let told = scene.curl(&[&format!("http://api.partner.test{path}")]);
        assert!(told.ends_with("502"), "{told}");
        scene.node.logged(|line| line["path"] == path)["why"].clone()
    };

    assert_eq!(why(&scene, "/thief"), "mtls.wrong_peer");
    assert_eq!(heard(&scene.lan.nodes[0], MAIL), "");
    scene
        .node
        .logged(|line| line["route"] == "mail" && line["why"] == "mtls.wrong_peer");
    scene.gateway.signal("KILL");
    scene.gateway.wait_exit();
    until("the gateway is gone", || {
        (why(&scene, "/down") == "connect_refused").then_some(())
    });
    assert_eq!(heard(&scene.lan.nodes[0], MAIL), "");
    scene
        .node
        .logged(|line| line["route"] == "mail" && line["why"] == "connect_refused");

    assert_eq!(scene.came(), [0, 0]);
}
