//! Attempts over two hops: what proxies one behind the other make of a service that fails.
//! It must not know how attempts are judged inside.
//! Part of the test binary.

use tempfile::TempDir;

use crate::support::proxy::ALL_TO_APP;
use crate::support::{Authority, Proxy, Upstream};

const RETRY: &str = "    retry: {statuses: [503], attempts: 2, backoff: {base: 1ms, max: 1ms}}\n";
const NEVER: &str = "    retry: {attempts: 0}\n";
/// No bound but the attempts themselves.
const SETTINGS: &str = "  ejection: {consecutive_failures: 0}\n";
const TRUSTING: &str =
    "listeners:\n- {name: web, bind: '127.0.0.1:0', trusted_proxies: [127.0.0.0/8]}\n";
const DOUBTING: &str = "listeners:\n- {name: web, bind: '127.0.0.1:0'}\n";

/// A proxy in front of something, with this listener and this rule.
fn hop(listeners: &str, address: std::net::SocketAddr, rule: &str) -> Proxy {
    let pool = format!("pools:\n- name: app\n  endpoints: ['{address}']\n{SETTINGS}");
    Proxy::start(&format!("{listeners}{pool}{ALL_TO_APP}{rule}"))
}

fn refused_behind(proxy: &Proxy) -> f64 {
    proxy.metric(
        "windrose_request_retries_refused_total",
        &["reason=\"behind\""],
    )
}

#[test]
fn only_the_hop_next_to_the_failure_tries_again() {
    let busy = Upstream::statuses(&[503]);
    let node = hop(TRUSTING, busy.address, RETRY);
    let edge = hop(DOUBTING, node.address("web"), RETRY);

    let reply = edge.get("/");

    assert_eq!(reply.status, 503);
    assert_eq!(busy.requests(), 3);
    assert_eq!(refused_behind(&edge), 1.0);
    assert_eq!(reply.header("x-windrose-no-retry"), None);
}

#[test]
fn a_hop_that_does_not_try_again_leaves_it_to_the_one_before() {
    let busy = Upstream::statuses(&[503]);
    let node = hop(TRUSTING, busy.address, NEVER);
    let edge = hop(DOUBTING, node.address("web"), RETRY);

    edge.get("/");

    let seen = busy.seen();
    let numbers: Vec<_> = seen
        .iter()
        .map(|one| one.header("x-windrose-attempt"))
        .collect();
    assert_eq!(numbers, [None, Some("2"), Some("3")]);
}

#[test]
fn attempts_of_all_hops_together_are_no_more_than_one_may_make() {
    let busy = Upstream::statuses(&[503]);
    let node = hop(TRUSTING, busy.address, RETRY);

    let reply = node.ask("GET", "/", "x-windrose-attempt: 2\r\n");

    assert_eq!(reply.status, 503);
    assert_eq!(busy.requests(), 2);
    assert_eq!(reply.header("x-windrose-no-retry"), Some("1"));
}

#[test]
fn a_stranger_cannot_say_which_attempt_it_is() {
    let busy = Upstream::statuses(&[503]);
    let node = hop(DOUBTING, busy.address, RETRY);

    let reply = node.ask("GET", "/", "x-windrose-attempt: 9\r\n");

    assert_eq!(busy.requests(), 3);
    assert_eq!(busy.seen()[0].header("x-windrose-attempt"), None);
    assert_eq!(reply.header("x-windrose-no-retry"), None);
}

#[test]
fn a_service_may_ask_for_no_further_attempt() {
    let busy = Upstream::with(|_, stream| {
        crate::support::upstream::answer(stream, 503, &[("x-windrose-no-retry", "1")], b"full")
    });
    let node = hop(DOUBTING, busy.address, RETRY);

    node.get("/");

    assert_eq!(busy.requests(), 1);
    assert_eq!(refused_behind(&node), 1.0);
}

/// A hop whose only workload is `id`, with this listener, and a pool with these settings.
fn workload(authority: &Authority, id: &str, listener: &str, pool: &str) -> Proxy {
    let folder = TempDir::new().unwrap();
    authority.write_bundle(folder.path(), "bundle.pem");
    authority.svid(id).write(folder.path(), "own");
    Proxy::start_in(
        folder,
        &format!("listeners:\n- {{name: web, bind: '127.0.0.1:0', {listener}}}\nidentity:\n  trust_domain: mesh.test\n  source: {{files: {{bundle: bundle.pem}}}}\n  workloads: [{{name: own, id: '{id}', certificate: {{cert: own.crt, key: own.key}}}}]\npools:\n- name: app\n{SETTINGS}  {pool}\nroutes:\n- name: all\n  listeners: [web]\n  rules:\n  - pool: app\n{RETRY}"),
    )
}

#[test]
fn workloads_that_prove_who_they_are_are_believed_about_attempts() {
    let busy = Upstream::statuses(&[503]);
    let (authority, web, pay) = (
        Authority::new(),
        "spiffe://mesh.test/web",
        "spiffe://mesh.test/pay",
    );
    let to = format!("endpoints: ['{}']", busy.address);
    let node = workload(&authority, pay, "role: mesh-inbound, mtls: {}", &to);
    let to = format!(
        "endpoints: ['{}']\n  mtls: {{peers: ['{pay}']}}",
        node.address("web")
    );
    let caller = workload(&authority, web, "role: mesh-outbound", &to);

    let reply = caller.get("/");

    assert_eq!(reply.status, 503);
    assert_eq!(busy.requests(), 3);
    assert_eq!(refused_behind(&caller), 1.0);
    assert_eq!(reply.header("x-windrose-no-retry"), None);
}
