//! Mutual TLS between workloads: who is let in, who is refused with which word, and that nothing leaks between identities.
//! It must not know how certificates are verified; what it asserts is seen at the edge.
//! Part of the test binary.

use std::io::{Read, Write};

use crate::support::node::{folder, identity};
use crate::support::proxy::pool;
use crate::support::svid::{stolen, Recipe, Service};
use crate::support::tls::{connect, Wish};
use crate::support::{run, until, Authority, Conn, Echo, Load, Pair, Proxy, Upstream};
use openssl::x509::X509;

const WEB: &str = "spiffe://mesh.test/ns/shop/sa/web";
const PAY: &str = "spiffe://mesh.test/ns/shop/sa/pay";
const GET: &str = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";

/// A node whose workload `pay` is behind a mesh-inbound listener.
fn inbound(authority: &Authority, mode: &str, app: &Upstream) -> Proxy {
    Proxy::start_in(folder(authority, &[("pay", PAY)]), &inbound_yaml(mode, app))
}

fn inbound_yaml(mode: &str, app: &Upstream) -> String {
    let (identity, pool) = (identity(&[("pay", PAY, "")]), pool("app", &[app]));
    format!("listeners: [{{name: in, role: mesh-inbound, bind: '127.0.0.1:0', mtls: {{mode: {mode}}}}}]\n{identity}{pool}routes: [{{name: all, listeners: [in], rules: [{{pool: app}}]}}]\n")
}

/// A node whose workload `web` calls endpoints over mutual TLS.
fn outbound(authority: &Authority, endpoint: &str, extra: &str) -> Proxy {
    let identity = identity(&[("web", WEB, "")]);
    Proxy::start_in(
        folder(authority, &[("web", WEB)]),
        &format!("listeners: [{{name: web, role: mesh-outbound, bind: '127.0.0.1:0'}}]\n{identity}pools: [{{name: app, endpoints: ['{endpoint}'], mtls: {{peers: ['{PAY}']}}{extra}}}]\nroutes: [{{name: all, listeners: [web], rules: [{{pool: app}}]}}]\n"),
    )
}

/// Certificates that prove nothing, with the word for each, and the issuers to send along.
fn bad(authority: &Authority, id: &str) -> Vec<(&'static str, Pair, Vec<X509>)> {
    let narrow = Authority(authority.make(&Recipe::of(&[]).authority().permitting("other.test")));
    let case = |cause, recipe: Recipe<'_>| (cause, authority.make(&recipe), vec![]);
    let names = [id];
    let good = || Recipe::of(&names);
    vec![
        ("mtls.key", stolen(&authority.svid(id)), vec![]),
        case("mtls.expired", good().days(-3, -1)),
        case("mtls.not_yet_valid", good().days(1, 3)),
        case("mtls.trust_domain", Recipe::of(&["spiffe://other.test/a"])),
        case(
            "mtls.not_an_svid",
            Recipe::of(&[id, "spiffe://mesh.test/x"]),
        ),
        case("mtls.not_an_svid", good().authority()),
        case("mtls.not_an_svid", Recipe::of(&["a.test"])),
        case("mtls.untrusted", good().self_signed()),
        ("mtls.untrusted", Authority::new().svid(id), vec![]),
        (
            "mtls.constraint",
            narrow.svid(id),
            vec![narrow.0.cert.clone()],
        ),
    ]
}

#[test]
fn each_bad_caller_is_refused_with_its_own_cause_and_reaches_nobody() {
    let authority = Authority::new();
    let app = Upstream::echo();
    let proxy = inbound(&authority, "strict", &app);
    let address = proxy.address("in");
    let refused = |cause: &str, wish: &Wish<'_>| {
        let before = proxy.refusals("in", cause);
        if let Ok(mut conn) = connect(address, wish) {
            let _ = conn.stream.write_all(GET.as_bytes());
            assert!(conn.reply().is_err(), "{cause}: was answered");
        }
        until(cause, || {
            (proxy.refusals("in", cause) > before).then_some(())
        });
    };

    for (cause, pair, chain) in &bad(&authority, WEB) {
        let wish = Wish {
            certificate: Some(pair),
            chain,
            ..Wish::default()
        };
        refused(cause, &wish);
    }
    refused("mtls.no_certificate", &Wish::default());
    let mut plain = Conn::open(address);
    plain.send(GET);
    assert!(plain.ends());
    until("plaintext is refused", || {
        (proxy.refusals("in", "mtls.plaintext_refused") > 0.0).then_some(())
    });
    assert_eq!(app.connections(), 0);

    let good = authority.svid(WEB);
    let mut conn = connect(
        address,
        &Wish {
            certificate: Some(&good),
            ..Wish::default()
        },
    )
    .unwrap();
    assert_eq!(conn.stream.ssl().version_str(), "TLSv1.3");
    assert_eq!(conn.ask(GET).status, 200);
}

#[test]
fn applications_are_told_who_calls_and_nobody_can_pretend() {
    let authority = Authority::new();
    let app = Upstream::echo();
    let proxy = inbound(&authority, "permissive", &app);
    let caller = authority.svid(WEB);
    let wish = Wish {
        certificate: Some(&caller),
        alpn: b"\x08http/1.1",
        ..Wish::default()
    };
    let claims = format!("GET / HTTP/1.1\r\nhost: test\r\nx-forwarded-client-cert: URI={PAY}\r\nx_forwarded_client_cert: URI={PAY}\r\n\r\n");

    let mut conn = connect(proxy.address("in"), &wish).unwrap();
    assert_eq!(conn.ask(&claims).status, 200);
    let told = app.last();
    assert_eq!(Conn::open(proxy.address("in")).ask(&claims).status, 200);
    let untold = app.last();

    let hash = caller.hash();
    assert_eq!(
        told.all("x-forwarded-client-cert"),
        [format!("By={PAY};Hash={hash};URI={WEB}")]
    );
    assert!(untold.all("x-forwarded-client-cert").is_empty());
    for seen in [told, untold] {
        assert!(seen.all("x_forwarded_client_cert").is_empty());
    }
    proxy.logged(|line| line["principal"] == WEB);
}

#[test]
fn each_bad_endpoint_is_refused_before_it_hears_of_the_request() {
    let authority = Authority::new();
    let mut cases = bad(&authority, PAY);
    cases.push((
        "mtls.wrong_peer",
        authority.svid("spiffe://mesh.test/ns/shop/sa/other"),
        vec![],
    ));

    for (cause, pair, chain) in &cases {
        let service = Service::start(pair, chain);
        let proxy = outbound(&authority, &service.address.to_string(), "");

        let reply = proxy.get("/secret");

        assert_eq!((reply.status, &*reply.why()), (502, *cause));
        assert_eq!(service.heard(), "", "{cause}");
    }
    let good = Service::start(&authority.svid(PAY), &[]);
    let proxy = outbound(&authority, &good.address.to_string(), "");
    assert_eq!(proxy.get("/").text(), WEB);
}

#[test]
fn two_identities_never_share_a_connection() {
    let authority = Authority::new();
    let service = Service::start(&authority.svid(PAY), &[]);
    let shop = "spiffe://mesh.test/ns/shop/sa/shop";
    let identity = identity(&[
        ("web", WEB, "listeners: [web]"),
        ("shop", shop, "listeners: [shop]"),
    ]);
    let proxy = Proxy::start_in(
        folder(&authority, &[("web", WEB), ("shop", shop)]),
        &format!("listeners: [{{name: web, role: mesh-outbound, bind: '127.0.0.1:0'}}, {{name: shop, role: mesh-outbound, bind: '127.0.0.1:0'}}, {{name: other, role: mesh-outbound, bind: '127.0.0.1:0'}}]\n{identity}pools: [{{name: app, endpoints: ['{}'], mtls: {{peers: ['{PAY}']}}}}]\nroutes: [{{name: all, listeners: [web, shop, other], rules: [{{pool: app}}]}}]\n", service.address),
    );
    let ask = |listener: &str| Conn::open(proxy.address(listener)).ask(GET);

    for _ in 0..5 {
        assert_eq!(ask("web").text(), WEB);
        assert_eq!(ask("shop").text(), shop);
    }

    assert_eq!(service.connections(), 2);
    let unknown = ask("other");
    assert_eq!((unknown.status, &*unknown.why()), (503, "mtls.no_identity"));
    assert_eq!(service.connections(), 2);
}

#[test]
fn callers_are_known_by_the_user_of_their_socket() {
    let authority = Authority::new();
    let service = Service::start(&authority.svid(PAY), &[]);
    let own = rustix::process::getuid().as_raw();
    let shop = "spiffe://mesh.test/ns/shop/sa/shop";
    let identity = identity(&[
        ("web", WEB, &format!("users: [{own}]")),
        ("shop", shop, "users: [4242]"),
    ]);
    let proxy = Proxy::start_in(
        folder(&authority, &[("web", WEB), ("shop", shop)]),
        &format!("listeners: [{{name: web, role: mesh-outbound, bind: '127.0.0.1:0'}}]\n{identity}pools: [{{name: app, endpoints: ['{}'], mtls: {{peers: ['{PAY}']}}}}]\nroutes: [{{name: all, listeners: [web], rules: [{{pool: app}}]}}]\n", service.address),
    );

    assert_eq!(proxy.get("/").text(), WEB);
}

#[test]
fn two_nodes_speak_http2_and_health_checks_prove_themselves() {
    let authority = Authority::new();
    let app = Upstream::echo();
    let there = inbound(&authority, "strict", &app);
    let endpoint = there.address("in").to_string();
    let here = outbound(&authority, &endpoint, ", protocol: auto, health: {http: {path: /healthz}, interval: 100ms, timeout: 100ms, fall: 1, rise: 1}");

    let reply = here.get("/");

    assert_eq!(reply.status, 200);
    let line = there.logged(|line| line["path"] == "/");
    assert_eq!(
        (&line["principal"], &line["protocol"]),
        (&WEB.into(), &"HTTP/2".into())
    );
    until("a health check arrives over mutual TLS", || {
        (app.last().target == "/healthz").then_some(())
    });
    assert_eq!(here.pool("app")["endpoints"][0]["healthy"], true);
}

#[test]
fn a_port_goes_from_permissive_to_strict_without_a_dropped_request() {
    let authority = Authority::new();
    let app = Upstream::answering("ok");
    let there = inbound(&authority, "permissive", &app);
    let endpoint = there.address("in");
    let plain = |mtls: &str| {
        format!("listeners: [{{name: web, role: mesh-outbound, bind: '127.0.0.1:0'}}]\n{}pools: [{{name: app, endpoints: ['{endpoint}']{mtls}}}]\nroutes: [{{name: all, listeners: [web], rules: [{{pool: app}}]}}]\n", identity(&[("web", WEB, "")]))
    };
    let here = Proxy::start_in(folder(&authority, &[("web", WEB)]), &plain(""));
    let load = Load::default()
        .http(here.address("web"))
        .new_connections(here.address("web"));

    load.runs(20);
    here.reload(&plain(&format!(", mtls: {{peers: ['{PAY}']}}")));
    load.runs(20);
    there.reload(&inbound_yaml("strict", &app));
    load.runs(20);

    let outcome = load.finish();
    assert_eq!(outcome.failures, Vec::<String>::new());
    let mut late = Conn::open(endpoint);
    late.send(GET);
    assert!(late.ends());
}

#[test]
fn certificates_rotate_under_load_without_a_failed_request() {
    let authority = Authority::new();
    let app = Upstream::answering("ok");
    let there = inbound(&authority, "strict", &app);
    let here = outbound(&authority, &there.address("in").to_string(), "");
    let load = Load::default()
        .http(here.address("web"))
        .new_connections(here.address("web"));
    let renewals =
        |proxy: &Proxy| proxy.metric("windrose_identity_renewals_total", &["result=\"ok\""]);

    for _ in 0..4 {
        let before = (renewals(&here), renewals(&there));
        authority.svid(WEB).write(here.file("").as_path(), "web");
        authority.svid(PAY).write(there.file("").as_path(), "pay");
        until("both nodes use new certificates", || {
            (renewals(&here) > before.0 && renewals(&there) > before.1).then_some(())
        });
        load.runs(20);
    }
    std::fs::write(here.file("web.key"), "no key").unwrap();
    until("the broken file is told of", || {
        (here.metric("windrose_identity_renewals_total", &["result=\"failed\""]) > 0.0)
            .then_some(())
    });
    load.runs(20);

    let outcome = load.finish();
    assert_eq!(outcome.failures, Vec::<String>::new());
    assert!(here
        .stderr()
        .contains("certificate stays as it was: workload=web"));
    assert!(
        here.metric(
            "windrose_identity_expiry_timestamp_seconds",
            &["workload=\"web\""]
        ) > 0.0
    );
}

#[test]
fn bytes_are_carried_inside_mutual_tls() {
    let authority = Authority::new();
    let echo = Echo::start();
    let there = Proxy::start_in(
        folder(&authority, &[("pay", PAY)]),
        &format!("listeners: [{{name: in, role: mesh-inbound, bind: '127.0.0.1:0', protocol: tcp, mtls: {{}}}}]\n{}pools: [{{name: app, protocol: tcp, endpoints: ['{}']}}]\nroutes: [{{name: all, listeners: [in], protocol: tcp, rules: [{{pool: app}}]}}]\n", identity(&[("pay", PAY, "")]), echo.address),
    );
    let here = |peer: &str| {
        Proxy::start_in(
            folder(&authority, &[("web", WEB)]),
            &format!("listeners: [{{name: web, role: mesh-outbound, bind: '127.0.0.1:0', protocol: tcp}}]\n{}pools: [{{name: app, protocol: tcp, endpoints: ['{}'], mtls: {{peers: ['{peer}']}}}}]\nroutes: [{{name: all, listeners: [web], protocol: tcp, rules: [{{pool: app}}]}}]\n", identity(&[("web", WEB, "")]), there.address("in")),
        )
    };

    let (right, wrong) = (here(PAY), here(WEB));
    let mut conn = right.connect();
    conn.send("ping");
    assert_eq!(conn.exactly(4).unwrap(), b"ping");
    drop(conn);
    there.logged(|line| line["principal"] == WEB && line["scheme"] == "tcp");

    let mut refused = wrong.connect();
    let _ = refused.stream.write_all(b"ping");
    let mut back = Vec::new();
    let _ = refused.stream.read_to_end(&mut back);
    assert!(back.is_empty());
    wrong.logged(|line| line["why"] == "mtls.wrong_peer");
}

#[test]
fn views_and_explanations_show_who_is_asked_for_and_who_is_shown() {
    let (authority, app) = (Authority::new(), Upstream::echo());
    let there = inbound(&authority, "permissive", &app);
    let here = outbound(&authority, "127.0.0.1:9", "");
    let explain = |proxy: &Proxy, listener: &str| {
        let config = proxy.config();
        let config = config.to_str().unwrap();
        let done = run(&[
            "explain",
            "GET",
            "http://test/",
            "-c",
            config,
            "--listener",
            listener,
        ]);
        String::from_utf8(done.stdout).unwrap()
    };

    let listener = there.admin("/listeners")["listeners"][0]["mtls"].clone();
    assert_eq!(listener["mode"], "permissive");
    assert_eq!(listener["workload"]["id"], PAY);
    let pool = here.pool("app")["mtls"].clone();
    assert_eq!(
        (&pool["peers"][0], &pool["workload"]["name"]),
        (&PAY.into(), &"web".into())
    );
    let told = explain(&there, "in");
    assert!(
        told.contains(&format!("mutual TLS, permissive; callers meet pay, {PAY}")),
        "{told}"
    );
    let told = explain(&here, "web");
    assert!(
        told.contains(&format!("endpoints have to be {PAY}; they meet web, {WEB}")),
        "{told}"
    );
}

#[test]
fn a_name_that_a_caller_asks_for_chooses_nobody_for_what_goes_on() {
    const SHOP: &str = "spiffe://mesh.test/ns/shop/sa/shop";
    let authority = Authority::new();
    let behind = Service::start(&authority.svid(PAY), &[]);
    let node = |of_web: &str| {
        let workloads = [("web", WEB, of_web), ("shop", SHOP, "")];
        let identity = identity(&workloads);
        Proxy::start_in(
            folder(&authority, &[("web", WEB), ("shop", SHOP)]),
            &format!("listeners: [{{name: in, role: mesh-inbound, bind: '127.0.0.1:0', mtls: {{}}}}]\n{identity}pools: [{{name: app, endpoints: ['{}'], mtls: {{peers: ['{PAY}']}}}}]\nroutes: [{{name: all, listeners: [in], rules: [{{pool: app}}]}}]\n", behind.address),
        )
    };
    let caller = authority.svid(PAY);
    let asks = |proxy: &Proxy| {
        let wish = Wish {
            certificate: Some(&caller),
            sni: Some("shop"),
            ..Wish::default()
        };
        connect(proxy.address("in"), &wish).unwrap().ask(GET)
    };
    let (of_web, of_nobody) = (node("listeners: [in]"), node(""));

    let (at_web, at_nobody) = (asks(&of_web), asks(&of_nobody));

    assert_eq!((at_web.status, &*at_web.text()), (200, WEB));
    assert_eq!(
        (at_nobody.status, &*at_nobody.why()),
        (503, "mtls.no_identity")
    );
    assert_eq!(behind.connections(), 1);
}
