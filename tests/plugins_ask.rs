//! Plugins that ask a service about each request, or tell one of it, as clients and services meet them.
//! It must not know their corner cases; their own tests do.
//! Part of the test binary.

use crate::support::proxy::{pool, ALL_TO_APP, WEB};
use crate::support::upstream::answer;
use crate::support::{Proxy, Upstream};

/// A proxy to `app` with one plugin that asks.
fn proxy(app: &Upstream, kind: &str, settings: &str) -> Proxy {
    Proxy::start(&configuration(app, kind, settings))
}

fn configuration(app: &Upstream, kind: &str, settings: &str) -> String {
    let plugins = format!("  plugins:\n  - {{kind: {kind}, {settings}}}\n");
    format!("{WEB}{}{ALL_TO_APP}{plugins}", pool("app", &[app]))
}

/// Lets in whoever has a cookie `user`, and sends everybody else to a login.
fn gatekeeper() -> Upstream {
    Upstream::with(|seen, stream| {
        let cookie = seen.header("cookie").unwrap_or_default();
        match cookie.strip_prefix("user=") {
            Some("broken") => answer(stream, 500, &[], b"oops"),
            Some(user) => {
                let fields = [
                    ("x-user", user),
                    ("set-cookie", "seen=1"),
                    ("x-inside", "1"),
                ];
                answer(stream, 200, &fields, b"")
            }
            None => {
                let to = format!(
                    "https://login.test/?rd={}",
                    seen.header("x-original-url").unwrap_or("")
                );
                let fields = [
                    ("location", &*to),
                    ("set-cookie", "a=1; Path=/"),
                    ("set-cookie", "b=2"),
                    ("content-type", "text/html"),
                    ("x-inside", "1"),
                ];
                answer(stream, 302, &fields, b"<a>log in</a>")
            }
        }
    })
}

#[test]
fn forward_auth_passes_the_services_answer_on_and_believes_only_its_fields() {
    let (app, gate) = (Upstream::echo(), gatekeeper());
    let settings = format!(
        "config: {{service: 'http://{}/verify', request_headers: [x-user], response_headers: [set-cookie], principal: x-user}}",
        gate.address
    );
    let proxy = proxy(&app, "forward_auth", &settings);

    let stranger = proxy.ask("GET", "/a%2e/b?c=d", "x-user: root\r\n");
    assert_eq!(
        (stranger.status, &*stranger.why()),
        (302, "auth.forward_denied")
    );
    assert_eq!(
        stranger.header("location"),
        Some("https://login.test/?rd=http://test/a./b?c=d")
    );
    assert_eq!(stranger.all("set-cookie"), ["a=1; Path=/", "b=2"]);
    assert_eq!(
        (&*stranger.text(), stranger.header("content-type")),
        ("<a>log in</a>", Some("text/html"))
    );
    assert_eq!(stranger.header("x-inside"), None);
    assert_eq!(app.requests(), 0);

    let ann = proxy.ask(
        "POST",
        "/",
        "cookie: user=ann\r\nx-user: root\r\nx_user: root\r\nconnection: x-user, keep-alive\r\ncontent-length: 0\r\n",
    );
    assert_eq!((ann.status, ann.all("set-cookie")), (200, vec!["seen=1"]));
    assert_eq!(app.last().all("x-user"), ["ann"]);
    assert_eq!(app.last().header("x_user"), None);
    assert_eq!(app.last().header("x-inside"), None);
    let asked = gate.last();
    assert_eq!((&*asked.method, &*asked.target), ("GET", "/verify"));
    assert_eq!(asked.header("x-forwarded-method"), Some("POST"));
    assert_eq!(asked.header("x-user"), None);
    proxy.logged(|line| line["principal"] == "consumer:ann" && line["status"] == 200);
}

#[test]
fn forward_auth_without_a_service_is_no_denial_and_does_what_on_error_says() {
    let app = Upstream::echo();
    for (gate, more) in [
        (Upstream::refusing(), ""),
        (gatekeeper(), ""),
        (Upstream::silent(), "timeout: 200ms, "),
    ] {
        let settings = format!(
            "config: {{{more}service: 'http://{}/', request_headers: [x-user]}}",
            gate.address
        );
        let closed = proxy(&app, "forward_auth", &settings);
        let reply = closed.ask("GET", "/", "cookie: user=broken\r\n");
        assert_eq!(
            (reply.status, &*reply.why()),
            (503, "auth.forward_unavailable")
        );
    }
    assert_eq!(app.requests(), 0);

    let gate = Upstream::refusing();
    let settings = format!(
        "on_error: open, config: {{service: 'http://{}/', request_headers: [x-user]}}",
        gate.address
    );
    let open = proxy(&app, "forward_auth", &settings);
    assert_eq!(open.ask("GET", "/", "x-user: root\r\n").status, 200);
    assert_eq!(app.last().header("x-user"), None, "nobody else may say it");
}
