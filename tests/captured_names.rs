//! Captured applications that know nothing but a name: it leads to the service, wherever its address would have led.
//! It must not touch the rules of the machine it runs on. Without root every test here skips, and says so.
//! Part of the test binary.

use std::fs;

use crate::captured::{applied, APP, OUT};
use crate::support::netns::{Netns, World};

/// Addresses that nobody has.
const HOSTS: &str = "127.0.0.1 localhost
10.99.0.7 orders.shop eu.orders.shop
fd99::7 six.orders.shop
10.99.0.8 vault.shop
10.99.0.9 nobody.shop
";
const SERVERS: &str = "http=10.77.0.2:8080 tls=10.77.0.2:8443";
const SERVICES: &str = "services:
- {name: orders, hosts: [orders.shop, '*.orders.shop'], ports: [{port: 80, target: 8080}], endpoints: [10.77.0.2]}
- {name: vault, hosts: [vault.shop], ports: [{port: 443, protocol: tcp, target: 8443}], endpoints: [10.77.0.2]}
";

/// What curl prints as an application that resolves names with a file of its own.
fn curl(node: &Netns, hosts: &str, url: &str) -> String {
    let line = [
        "curl",
        "-ksS",
        "--max-time",
        "10",
        "-w",
        "%{http_code}",
        url,
    ];
    let done = node.run_as_with_hosts(APP, hosts, &line);
    String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned()
}

#[test]
fn a_name_leads_to_its_service_though_its_address_leads_nowhere() {
    let Some(world) = World::new() else { return };
    let _servers = world.outside.server(SERVERS);
    let node = &world.node;
    let blocking = OUT.replace("capture:", "unknown: block, capture:");
    let proxy = node.proxy(&format!("{blocking}{SERVICES}"));
    applied(node, &proxy, &["--user", APP]);
    let hosts = proxy.file("hosts");
    fs::write(&hosts, HOSTS).unwrap();
    let hosts = hosts.to_str().unwrap();

    for (url, path, to) in [
        ("http://orders.shop/by-name", "/by-name", "10.99.0.7:80"),
        ("http://eu.orders.shop/below", "/below", "10.99.0.7:80"),
        ("http://six.orders.shop/six", "/six", "[fd99::7]:80"),
    ] {
        assert_eq!(curl(node, hosts, url), "served\n200");
        let line = proxy.logged(|line| line["path"] == path);
        assert_eq!(
            (&line["route"], &line["destination"], &line["endpoint"]),
            (&"orders".into(), &to.into(), &"10.77.0.2:8080".into())
        );
    }
    assert_eq!(curl(node, hosts, "https://vault.shop/"), "served\n200");
    let line = proxy.logged(|line| line["sni"] == "vault.shop");
    assert_eq!(
        (&line["route"], &line["destination"]),
        (&"vault".into(), &"10.99.0.8:443".into())
    );
    let unknown = curl(node, hosts, "http://nobody.shop/");
    assert!(unknown.ends_with("502"), "{unknown}");
    let line = proxy.logged(|line| line["host"] == "nobody.shop");
    assert_eq!(line["why"], "destination_unknown");
}
