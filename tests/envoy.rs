//! Envoy at the other end of mutual TLS: it calls workloads here, workloads here call it, and each refuses a wrong identity.
//! It must not know how either verifies; what counts is who was let in, what the application heard, and the word for a refusal.
//! Part of the test binary; where Envoy is not installed, each test says that it is skipped.

use crate::support::envoy::{Envoy, Who};
use crate::support::proxy::pool;
use crate::support::svid::Recipe;
use crate::support::{self, until, Authority, Conn, Proxy, Upstream};
const WEB: &str = "spiffe://mesh.test/ns/shop/sa/web";
const PAY: &str = "spiffe://mesh.test/ns/shop/sa/pay";
const OTHER: &str = "spiffe://mesh.test/ns/shop/sa/other";

/// A node with one workload.
fn node(authority: &Authority, id: &str, listener: &str, rest: &str) -> Proxy {
    let (folder, identity) = support::node(authority, id);
    Proxy::start_in(
        folder,
        &format!("listeners: [{{name: web, bind: '127.0.0.1:0', {listener}}}]\n{identity}{rest}routes: [{{name: all, listeners: [web], rules: [{{pool: app}}]}}]\n"),
    )
}

/// A node with the application behind it.
fn callee(authority: &Authority, app: &Upstream) -> Proxy {
    let listener = "role: mesh-inbound, mtls: {mode: strict}";
    node(authority, PAY, listener, &pool("app", &[app]))
}

/// A node whose application, `id`, calls Envoy.
fn caller(authority: &Authority, id: &str, envoy: &Envoy) -> Proxy {
    let pool = format!(
        "pools: [{{name: app, protocol: auto, endpoints: ['{}'], mtls: {{peers: ['{PAY}']}}}}]\n",
        envoy.address()
    );
    node(authority, id, "role: mesh-outbound", &pool)
}

/// Something that says it is a workload, by what it says of itself.
const CLAIM: &str = "GET /x HTTP/1.1\r\nhost: test\r\nx-forwarded-client-cert: URI=spiffe://mesh.test/ns/shop/sa/admin\r\n\r\n";

#[test]
fn envoy_calls_a_workload_and_is_known_by_its_certificate() {
    let (authority, app) = (Authority::new(), Upstream::echo());
    let proxy = callee(&authority, &app);
    let who = Who {
        svid: authority.svid(WEB),
        roots: &authority,
        expects: PAY,
    };
    let hash = who.svid.hash();
    let Some(envoy) = Envoy::calling(proxy.address("web"), &who) else {
        return;
    };

    let reply = Conn::open(envoy.address()).ask(CLAIM);

    assert_eq!(reply.status, 200, "{}", reply.text());
    let told = app.last();
    let told = told.all("x-forwarded-client-cert");
    assert_eq!(told, [format!("By={PAY};Hash={hash};URI={WEB}")]);
    let line = proxy.logged(|line| line["path"] == "/x");
    let seen = (&line["principal"], &line["protocol"]);
    assert_eq!(seen, (&WEB.into(), &"HTTP/2".into()));
}

#[test]
fn envoy_with_a_wrong_certificate_is_refused_with_the_word_for_it() {
    let (authority, app) = (Authority::new(), Upstream::echo());
    let proxy = callee(&authority, &app);
    let strangers = [
        ("mtls.untrusted", Authority::new().svid(WEB)),
        (
            "mtls.trust_domain",
            authority.svid("spiffe://other.test/web"),
        ),
        (
            "mtls.expired",
            authority.make(&Recipe::of(&[WEB]).days(-3, -1)),
        ),
    ];

    for (cause, svid) in strangers {
        let who = Who {
            svid,
            roots: &authority,
            expects: PAY,
        };
        let Some(envoy) = Envoy::calling(proxy.address("web"), &who) else {
            return;
        };

        let reply = Conn::open(envoy.address()).ask(CLAIM);

        assert_eq!(reply.status, 503, "{cause}");
        until(cause, || (proxy.refusals("web", cause) > 0.0).then_some(()));
    }
    assert_eq!(app.connections(), 0);
}

#[test]
fn envoy_refuses_a_workload_that_is_not_the_one_it_calls() {
    let (authority, app) = (Authority::new(), Upstream::echo());
    let proxy = callee(&authority, &app);
    let who = Who {
        svid: authority.svid(WEB),
        roots: &authority,
        expects: OTHER,
    };
    let Some(envoy) = Envoy::calling(proxy.address("web"), &who) else {
        return;
    };

    let reply = Conn::open(envoy.address()).ask(CLAIM);

    assert_eq!(reply.status, 503);
    assert!(envoy.stat("cluster.other.ssl.fail_verify_san") > 0);
    until("the broken handshake is counted", || {
        (proxy.refusals("web", "mtls.refused") > 0.0).then_some(())
    });
    assert_eq!(app.connections(), 0);
}

#[test]
fn a_workload_calls_envoy_and_is_known_by_its_certificate() {
    let (authority, app) = (Authority::new(), Upstream::echo());
    let who = Who {
        svid: authority.svid(PAY),
        roots: &authority,
        expects: WEB,
    };
    let Some(envoy) = Envoy::called(app.address, &who) else {
        return;
    };
    let proxy = caller(&authority, WEB, &envoy);

    let replies: Vec<_> = (0..5).map(|_| proxy.connect().ask(CLAIM).status).collect();

    assert_eq!(replies, [200; 5]);
    assert!(app.last().all("x-forwarded-client-cert").is_empty());
    assert_eq!(envoy.stat("http.in.downstream_cx_http2_total"), 1);
}

#[test]
fn envoy_that_is_another_workload_hears_nothing_of_a_request() {
    let (authority, app) = (Authority::new(), Upstream::echo());
    let cases = [
        ("mtls.wrong_peer", authority.svid(OTHER)),
        ("mtls.untrusted", Authority::new().svid(PAY)),
    ];

    for (cause, svid) in cases {
        let who = Who {
            svid,
            roots: &authority,
            expects: WEB,
        };
        let Some(envoy) = Envoy::called(app.address, &who) else {
            return;
        };
        let proxy = caller(&authority, WEB, &envoy);

        let reply = proxy.get("/secret");

        assert_eq!((reply.status, &*reply.why()), (502, cause));
        assert_eq!(envoy.stat("http.in.downstream_rq_total"), 0);
    }
    assert_eq!(app.connections(), 0);
}

#[test]
fn a_workload_that_envoy_does_not_expect_is_told_so() {
    let (authority, app) = (Authority::new(), Upstream::echo());
    let who = Who {
        svid: authority.svid(PAY),
        roots: &authority,
        expects: WEB,
    };
    let Some(envoy) = Envoy::called(app.address, &who) else {
        return;
    };
    let proxy = caller(&authority, OTHER, &envoy);

    let reply = proxy.get("/secret");

    assert_eq!(
        (reply.status, &*reply.why()),
        (502, "mtls.refused"),
        "{}",
        proxy.stderr()
    );
    assert_eq!(envoy.stat("http.in.downstream_rq_total"), 0);
    assert_eq!(app.connections(), 0);
}
