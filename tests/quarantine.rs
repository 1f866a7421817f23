//! `on_invalid: quarantine`: one broken object is refused with its cause, and the rest is served.
//! It must not know how objects are told apart; the unit tests of `config::quarantine` go through every stage.
//! Part of the test binary.

use std::fs;
use std::io::Read;

use crate::support::proxy::{pool, WEB};
use crate::support::{run, until, Conn, Proxy, Upstream};

const ON: &str = "on_invalid: quarantine\n";

/// Two routes by host, and one for everything else.
fn routes(a: &str, b: &str) -> String {
    format!(
        "routes:
- {{name: a, hosts: [a.test], {a}}}
- {{name: b, hosts: [b.test], {b}}}
- {{name: rest, rules: [{{respond: {{status: 200, body: rest}}}}]}}
"
    )
}

fn saying(text: &str) -> String {
    format!("rules: [{{respond: {{status: 200, body: {text}}}}}]")
}

/// Status, cause and body of a request to a host.
fn ask(proxy: &Proxy, host: &str) -> (u16, String, String) {
    let reply = proxy.ask("GET", "/", &format!("host: {host}\r\n"));
    let why = reply.header("x-windrose-why").unwrap_or_default();
    (reply.status, why.to_owned(), reply.text())
}

fn is_quarantined(proxy: &Proxy, host: &str) -> bool {
    let (status, why, _) = ask(proxy, host);
    (status, &*why) == (503, "quarantined")
}

#[test]
fn a_start_with_a_broken_route_serves_the_others_and_says_what_is_wrong() {
    let broken = "plugns: [], rules: [{respond: {status: 200}}]";

    let proxy = Proxy::http(&format!("{ON}{}", routes(broken, &saying("b"))));

    let (status, why, body) = ask(&proxy, "a.test");
    assert_eq!((status, &*why), (503, "quarantined"));
    assert!(
        body.contains("route \\\"a\\\"") && !body.contains("plugns"),
        "{body}"
    );
    assert_eq!(ask(&proxy, "b.test").2, "b");
    assert_eq!(ask(&proxy, "c.test").2, "rest", "and nothing else changed");
    let view = proxy.admin("/config?format=json")["quarantined"].clone();
    let problem = &view[0]["problems"][0];
    assert_eq!(
        (&view[0]["kind"], &view[0]["name"]),
        (&"route".into(), &"a".into())
    );
    assert!(problem["text"].to_string().contains("plugns"), "{view}");
    assert!(
        problem["place"].to_string().contains("windrose.yaml:6:"),
        "{view}"
    );
    let ready = proxy.admin("/readyz");
    assert_eq!(
        (&ready["ready"], &ready["quarantined"]),
        (&true.into(), &1.into())
    );
    assert_eq!(proxy.metric("windrose_config_quarantined", &["route"]), 1.0);
    let config = proxy.admin_reply("/config").text();
    assert!(
        config.starts_with("# route \"a\" is quarantined"),
        "{config}"
    );
    let page = proxy.admin_reply("/").text();
    assert!(page.contains("<h2>Quarantined</h2>"), "{page}");
    assert!(proxy.stderr().contains("route \"a\" is quarantined"));
}

#[test]
fn a_reload_that_breaks_a_pool_refuses_what_goes_to_it_until_it_is_repaired() {
    let (one, two) = (Upstream::answering("one"), Upstream::answering("two"));
    let config = |second: &str| {
        let rest = routes("rules: [{pool: first}]", "rules: [{pool: second}]");
        let first = pool("first", &[&one]).replacen("pools:\n", "", 1);
        format!("{ON}{WEB}pools:\n{first}{second}{rest}")
    };
    let good = pool("second", &[&two]).replacen("pools:\n", "", 1);
    let proxy = Proxy::start(&config(&good));
    assert_eq!(ask(&proxy, "b.test").2, "two");

    let outcome = proxy.reload(&config("- {name: second, endpoints: ['somewhere:80']}\n"));

    assert_eq!(outcome["ok"], true, "{outcome}");
    assert!(is_quarantined(&proxy, "b.test"));
    assert_eq!(ask(&proxy, "a.test").2, "one");
    assert_eq!(proxy.pool("second")["state"], "quarantined");
    let repaired = proxy.reload(&config(&good));
    assert!(
        repaired["changes"]
            .to_string()
            .contains("no longer quarantined"),
        "{repaired}"
    );
    assert_eq!(ask(&proxy, "b.test").2, "two");
    assert_eq!(proxy.metric("windrose_config_quarantined", &["pool"]), 0.0);
}

#[test]
fn a_split_refuses_the_share_of_a_broken_pool() {
    let service = Upstream::answering("ok");
    let good = pool("good", &[&service]);
    let split = "rules: [{split: [{pool: good, weight: 1}, {pool: bad, weight: 1}]}]";
    let proxy = Proxy::http(&format!(
        "{ON}{good}- {{name: bad}}\n{}",
        routes(split, &saying("b"))
    ));

    let statuses: Vec<u16> = (0..60).map(|_| ask(&proxy, "a.test").0).collect();

    assert!(
        statuses.contains(&200) && statuses.contains(&503),
        "{statuses:?}"
    );
    assert!(statuses.iter().all(|status| matches!(status, 200 | 503)));
}

#[test]
fn a_broken_guard_closes_its_route_and_no_other() {
    for guard in [
        "{kind: ip_filter, config: {alow: ['10.0.0.0/8']}}",
        "{kind: basic_auth, config: {htpasswd: nowhere}}",
    ] {
        let guarded = format!("plugins: [{guard}], {}", saying("secret"));

        let proxy = Proxy::http(&format!("{ON}{}", routes(&guarded, &saying("b"))));

        assert!(is_quarantined(&proxy, "a.test"), "{guard}");
        assert_eq!(ask(&proxy, "b.test").2, "b");
    }
}

#[test]
fn a_listener_with_a_broken_guard_refuses_everything() {
    let listener = |name: &str| {
        format!("- {{name: {name}, protocol: {name}, bind: '127.0.0.1:0', plugins: [{{kind: ip_filter, config: {{alow: []}}}}]}}\n")
    };
    let service = Upstream::answering("ok");
    let bytes = pool("p", &[&service]) + "  protocol: tcp\n";
    let tcp = "- {name: t, protocol: tcp, rules: [{pool: p}]}\n";
    let proxy = Proxy::start(&format!(
        "{ON}{WEB}{}{}{}{bytes}{}{tcp}",
        listener("http"),
        listener("auto"),
        listener("tcp"),
        routes(&saying("a"), &saying("b"))
    ));

    let request = "GET / HTTP/1.1\r\nhost: a.test\r\n\r\n";
    let reply = Conn::open(proxy.address("http")).ask(request);
    let (mut auto, mut tcp) = (
        Conn::open(proxy.address("auto")),
        Conn::open(proxy.address("tcp")),
    );

    let why = reply.header("x-windrose-why");
    assert_eq!((reply.status, why), (503, Some("quarantined")));
    assert!(
        auto.ends() && tcp.ends(),
        "closed where bytes may pass through"
    );
    assert_eq!(proxy.get("/").text(), "rest");
    assert_eq!(service.connections(), 0);
}

#[test]
fn a_broken_match_does_not_fall_through_to_a_catch_all() {
    let broken = "rules: [{match: [{path: {regex: '(('}}], respond: {status: 200}}]";

    let proxy = Proxy::http(&format!("{ON}{}", routes(broken, &saying("b"))));

    assert!(is_quarantined(&proxy, "a.test"));
    assert_eq!(ask(&proxy, "b.test").2, "b");
}

#[test]
fn a_certificate_that_is_missing_takes_down_its_listener_only() {
    let tls =
        "{name: tls, bind: '127.0.0.1:0', tls: {certificates: [{cert: no.pem, key: no.key}]}}";
    let config = format!("{ON}{WEB}- {tls}\n{}", routes(&saying("a"), &saying("b")));

    let proxy = Proxy::start(&config);

    assert_eq!(ask(&proxy, "a.test").2, "a");
    let view = proxy.admin("/listeners");
    assert_eq!(view["quarantined"][0]["name"], "tls", "{view}");
    assert_eq!(view["quarantined"][0]["effect"], "it is left out");
}

#[test]
fn a_listener_that_runs_keeps_its_socket_and_settings_when_it_breaks() {
    let listener = |bind: &str| format!("listeners:\n- {{name: web, bind: '{bind}'}}\n");
    let config = |bind: &str, text: &str| {
        format!(
            "{ON}{}{}",
            listener(bind),
            routes(&saying(text), &saying("b"))
        )
    };
    let proxy = Proxy::start(&config("127.0.0.1:0", "old"));
    let before = proxy.address("web");

    let outcome = proxy.reload(&config("localhost", "new"));

    assert_eq!(outcome["ok"], true, "{outcome}");
    assert_eq!(proxy.address("web"), before);
    assert_eq!(
        ask(&proxy, "a.test").2,
        "new",
        "with the routes of the new configuration"
    );
}

#[test]
fn what_cannot_be_placed_refuses_the_reload() {
    let config = |a: &str| format!("{ON}{WEB}{}", routes(a, &saying("b")));
    let proxy = Proxy::start(&config(&saying("a")));

    let unplaced = config(&saying("new")).replace("hosts: [a.test]", "hosts: ['a b']");
    let outcome = proxy.reload(&unplaced);

    assert_eq!(outcome["ok"], false, "{outcome}");
    let told = outcome["problems"].to_string();
    assert!(
        told.contains("refuses the whole configuration: where the route"),
        "{told}"
    );
    assert_eq!(ask(&proxy, "a.test").2, "a");
}

#[test]
fn a_byte_route_that_is_broken_closes_its_connections() {
    let proxy = Proxy::start(&format!(
        "{ON}listeners: [{{name: bytes, protocol: tcp, bind: '127.0.0.1:0'}}]
pools: [{{name: p, protocol: tcp, endpoints: ['127.0.0.1:1']}}]
routes: [{{name: r, protocol: tcp, body_limit: 1B, rules: [{{pool: p}}]}}]
"
    ));

    let mut stream = std::net::TcpStream::connect(proxy.address("bytes")).unwrap();

    assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
}

#[test]
fn the_commands_tell_what_is_quarantined() {
    let proxy = Proxy::http(&format!("{ON}{}", routes(&saying("a"), &saying("b"))));
    let broken = "rules: [{pool: nowhere}]";
    proxy.rewrite(&format!("{ON}{WEB}{}", routes(broken, &saying("b"))));
    let config = proxy.config();
    let config = config.to_str().unwrap();

    let checked = run(&["check", "-c", config]);
    let as_run = run(&["check", "--as-run", "-c", config]);
    let json = run(&["check", "--json", "-c", config]);
    let reloaded = proxy.reload_command();

    let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(checked.status.code(), Some(1), "a check is strict");
    assert_eq!(as_run.status.code(), Some(0), "{}", told(&as_run.stderr));
    assert!(told(&checked.stderr).contains("run: quarantines route \"a\""));
    assert!(told(&json.stdout).contains("\"effect\":\"quarantines route \\\"a\\\"\""));
    assert_eq!(reloaded.status.code(), Some(0));
    assert!(told(&reloaded.stderr).contains("warning: route \"a\" is quarantined"));
    assert!(told(&reloaded.stdout).contains("route \"a\": quarantined"));
}

#[test]
fn an_upgrade_takes_what_is_quarantined_along() {
    let broken = "rules: [{pool: nowhere}]";
    let mut proxy = Proxy::http(&format!("{ON}{}", routes(broken, &saying("b"))));

    let done = run(&["upgrade", "-c", proxy.config().to_str().unwrap()]);
    proxy.wait_exit();

    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{told}");
    assert!(is_quarantined(&proxy, "a.test"));
    assert_eq!(ask(&proxy, "b.test").2, "b");
}

#[test]
fn a_reload_finds_the_file_again_that_was_missing() {
    let guarded = format!(
        "plugins: [{{kind: basic_auth, config: {{htpasswd: users}}}}], {}",
        saying("secret")
    );
    let config = format!("{ON}{WEB}{}", routes(&guarded, &saying("b")));
    let proxy = Proxy::start(&config);
    assert!(is_quarantined(&proxy, "a.test"));

    let user = format!("me:$2y$04${}\n", ".".repeat(53));
    fs::write(proxy.file("users"), user).unwrap();
    let outcome = proxy.reload(&config);

    assert!(
        outcome["changes"]
            .to_string()
            .contains("no longer quarantined"),
        "{outcome}"
    );
    assert_eq!(ask(&proxy, "a.test").0, 401);
}

#[test]
fn the_status_names_what_is_quarantined() {
    let broken = "plugns: [], rules: [{respond: {status: 200}}]";
    let proxy = Proxy::http(&format!("{ON}{}", routes(broken, &saying("b"))));

    let output = run(&["status", "-c", proxy.config().to_str().unwrap()]);

    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("route \"a\" is quarantined: "), "{text}");
    assert!(text.contains("unknown key \"plugns\""), "{text}");
}

/// A node whose services come from a file and from the configuration itself.
fn mesh(services: &str) -> String {
    format!(
        "{ON}listeners:
- {{name: web, role: mesh-outbound, bind: '127.0.0.1:0'}}
- {{name: db, role: mesh-outbound, bind: '127.0.0.1:0', protocol: tcp, service: ledger}}
- {{name: any, role: mesh-outbound, bind: '127.0.0.1:0', service: shop}}
services_from: {{file: 'services.d/*.yaml'}}
services:
{services}"
    )
}

#[test]
fn a_broken_service_is_refused_by_its_names_and_others_are_served() {
    let (shop, ledger) = (Upstream::answering("shop"), Upstream::answering("ledger"));
    let folder = tempfile::TempDir::new().unwrap();
    let files = folder.path().join("services.d");
    fs::create_dir(&files).unwrap();
    let write = |mtls: &str| {
        let text = format!(
            "- {{name: cart, hosts: [cart, '*.cart.test'], addresses: [192.0.2.7], ports: [{{port: 80}}], endpoints: ['{}']{mtls}}}\n",
            ledger.address
        );
        fs::write(files.join("next"), text).unwrap();
        fs::rename(files.join("next"), files.join("cart.yaml")).unwrap();
    };
    write(", mtls: {worklod: web}");
    let services = format!(
        "- {{name: shop, ports: [{{port: 80}}], endpoints: ['{}']}}
- {{name: ledger, ports: [{{port: 5432, protocol: tcp}}], endpoints: [nowhere.test]}}
",
        shop.address
    );

    let proxy = Proxy::start_in(folder, &mesh(&services));

    assert_eq!(ask(&proxy, "shop").2, "shop");
    assert_eq!(
        Conn::open(proxy.address("any"))
            .ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .text(),
        "shop"
    );
    for host in ["cart", "a.cart.test", "cart:80"] {
        assert!(is_quarantined(&proxy, host), "{host}");
    }
    assert!(Conn::open(proxy.address("db")).ends());
    let view = proxy.admin("/config?format=json")["quarantined"].clone();
    let named = |at: usize| (view[at]["kind"].clone(), view[at]["name"].clone());
    assert_eq!(named(0), ("service".into(), "ledger".into()), "{view}");
    assert_eq!(named(1), ("service".into(), "cart".into()), "{view}");
    let told = view[1]["problems"].to_string();
    assert!(
        told.contains("worklod") && told.contains("cart.yaml:1:"),
        "{told}"
    );
    assert_eq!(
        proxy.metric("windrose_config_quarantined", &["service"]),
        2.0
    );
    assert!(proxy.stderr().contains("service \"cart\" is quarantined"));
    write("");
    until("the service is repaired", || {
        (ask(&proxy, "cart").2 == "ledger").then_some(())
    });
    assert_eq!(
        proxy.metric("windrose_config_quarantined", &["service"]),
        1.0
    );
}

#[test]
fn of_two_services_at_one_address_or_of_one_name_what_is_sound_goes_on() {
    let shop = Upstream::answering("shop");
    let at = |name: &str, address: &str| {
        format!(
            "- {{name: {name}, addresses: [{address}], ports: [{{port: 80}}], endpoints: ['{}']}}\n",
            shop.address
        )
    };
    let services = [
        at("shop", "192.0.2.1"),
        at("cart", "192.0.2.1"),
        at("twin", "192.0.2.3"),
        at("twin", "192.0.2.4"),
        "- {name: ledger, ports: [{port: 5432, protocol: tcp}], endpoints: ['127.0.0.1:1']}\n"
            .into(),
    ];
    let folder = tempfile::TempDir::new().unwrap();
    fs::create_dir(folder.path().join("services.d")).unwrap();

    let proxy = Proxy::start_in(folder, &mesh(&services.concat()));

    assert_eq!(ask(&proxy, "shop").2, "shop");
    assert!(is_quarantined(&proxy, "cart"));
    assert!(is_quarantined(&proxy, "twin"));
}

#[test]
fn services_that_cannot_be_placed_refuse_the_reload() {
    let shop = Upstream::answering("shop");
    let service = |more: &str| {
        let bytes =
            "- {name: ledger, ports: [{port: 5432, protocol: tcp}], endpoints: ['127.0.0.1:1']}\n";
        format!(
            "{bytes}- {{name: shop, endpoints: ['{}'], {more}}}\n",
            shop.address
        )
    };
    // Files would be followed, and a reload of theirs could be taken for the one that is asked for.
    let mesh = |services: &str| {
        let from = "services_from: {file: 'services.d/*.yaml'}\n";
        mesh(services).replace(from, "")
    };
    let proxy = Proxy::start(&mesh(&service("ports: [{port: 80}]")));
    for unplaced in [
        "ports: [{port: 80}], hosts: ['a b']",
        "ports: [{port: 80}], host: [shop.test]",
        "ports: [{port: 80}], adresses: [192.0.2.1]",
        "ports: [{port: 80}], addresses: [nowhere]",
        "ports: [{port: 80, protocol: smtp}]",
        "ports: [{port: 80, protocl: tcp}]",
        "ports: []",
    ] {
        let outcome = proxy.reload(&mesh(&service(unplaced)));

        let told = outcome["problems"].to_string();
        let reason = "refuses the whole configuration: what the service is called by";
        assert!(told.contains(reason), "{unplaced}: {outcome}");
    }
    assert_eq!(ask(&proxy, "shop").2, "shop");
}
