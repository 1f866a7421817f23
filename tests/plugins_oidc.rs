//! `oidc` as browsers meet it: through a real listener, with a provider that keeps to the standard.
//! It must not know its corner cases; its own tests do.
//! Part of the test binary.

use std::collections::BTreeMap;
use std::sync::Barrier;

use crate::support::provider::Provider;
use crate::support::proxy::{pool, ALL_TO_APP, WEB};
use crate::support::{Proxy, Reply, Upstream};

fn configuration(provider: &Provider, service: &Upstream, more: &str, plugin: &str) -> String {
    format!(
        "{WEB}{}{ALL_TO_APP}  plugins:\n  - kind: oidc\n    config: {{issuer: '{}', client: {{id: shop, secret: s3cret}}, secrets: [an example of at least thirty-two bytes], origins: 'http://test', headers: {{x-mail: email}}{more}}}\n{plugin}",
        pool("app", &[service]),
        provider.issuer()
    )
}

/// Somebody with cookies, at one proxy.
#[derive(Clone)]
struct Browser<'p> {
    proxy: &'p Proxy,
    jar: BTreeMap<String, String>,
}

impl<'p> Browser<'p> {
    fn of(proxy: &'p Proxy) -> Browser<'p> {
        Browser {
            proxy,
            jar: BTreeMap::new(),
        }
    }

    fn looks(&mut self, target: &str) -> Reply {
        self.asks(target, "accept: text/html\r\nsec-fetch-mode: navigate\r\n")
    }

    fn asks(&mut self, target: &str, fields: &str) -> Reply {
        let pairs: Vec<String> = self
            .jar
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let reply = self.proxy.ask(
            "GET",
            target,
            &format!("{fields}cookie: {}\r\n", pairs.join("; ")),
        );
        for field in reply.all("set-cookie") {
            assert!(field.contains("; HttpOnly; SameSite=Lax"), "{field}");
            let (name, value) = field.split(';').next().unwrap().split_once('=').unwrap();
            match field.contains("Max-Age=0;") {
                true => self.jar.remove(name),
                false => self.jar.insert(name.to_owned(), value.to_owned()),
            };
        }
        reply
    }

    /// From a page to the provider and back; what the callback was.
    fn logs_in(&mut self, provider: &Provider, target: &str) -> Reply {
        let away = self.looks(target);
        assert_eq!((away.status, &*away.why()), (302, "auth.oidc_login"));
        let back = provider.visit(away.header("location").unwrap());
        self.looks(back.strip_prefix("http://test").unwrap())
    }
}

fn why(reply: &Reply) -> (u16, String) {
    (reply.status, reply.why())
}

#[test]
fn a_browser_logs_in_is_known_and_logs_out() {
    let (provider, service) = (Provider::start(300), Upstream::echo());
    let proxy = Proxy::start(&configuration(
        &provider,
        &service,
        "",
        "  - {kind: cel, config: {allow: \"'staff' in claims.groups\"}}\n",
    ));
    let mut ann = Browser::of(&proxy);

    let script = ann.asks("/api", "accept: application/json\r\n");
    assert_eq!(why(&script), (401, "auth.oidc_missing".to_owned()));
    let back = ann.logs_in(&provider, "//evil.test/page?x=1");
    assert_eq!(why(&back), (302, "auth.oidc_logged_in".to_owned()));
    assert_eq!(
        back.header("location"),
        Some("http://test//evil.test/page?x=1")
    );
    let inside = ann.asks("/api", "x-mail: forged\r\nx_mail: forged\r\n");
    let seen = service.last();
    let mut copied = ann.clone();
    let out = ann.looks("/oauth2/logout");
    let home = provider.visit(out.header("location").unwrap());

    assert_eq!(inside.status, 200);
    assert_eq!(seen.all("x-mail"), ["ann@shop.test"]);
    assert_eq!((seen.header("x_mail"), seen.header("cookie")), (None, None));
    proxy.logged(|line| line["principal"] == "consumer:ann" && line["status"] == 200);
    assert_eq!(why(&out), (302, "auth.oidc_logged_out".to_owned()));
    assert_eq!((&*home, ann.jar.len()), ("http://test/", 0));
    assert_eq!(
        why(&copied.asks("/", "")),
        (401, "auth.oidc_session_ended".to_owned())
    );
    let log = std::fs::read_to_string(proxy.file("access.log")).unwrap();
    assert!(!log.contains("code-1"), "{log}");
    let shown = proxy.admin_reply("/config").text();
    assert!(
        !shown.contains("s3cret") && !shown.contains("an example of"),
        "{shown}"
    );
}

#[test]
fn stolen_changed_and_mixed_up_cookies_lead_nowhere() {
    let (provider, service) = (Provider::start(300), Upstream::echo());
    let proxy = Proxy::start(&configuration(&provider, &service, "", ""));
    let (mut ann, mut eve) = (Browser::of(&proxy), Browser::of(&proxy));
    let away = eve.looks("/");
    let back = provider.visit(away.header("location").unwrap());
    let back = back.strip_prefix("http://test").unwrap();

    let mixed = ann.looks(back);
    let cookie = eve.jar.values().next().unwrap().clone();
    ann.jar.insert("oidc".to_owned(), format!("1{cookie}"));
    let swapped = ann.asks("/", "");
    let huge = ann.looks(&format!(
        "/oauth2/callback?code={}&state=s",
        "c".repeat(7000)
    ));
    let twice = eve.looks(&format!("{back}&code=other"));
    let right = eve.looks(back);
    let again = eve.looks(back);

    let all = [mixed, swapped, huge, twice, right, again];
    let expected = [
        (400, "auth.oidc_state"),
        (401, "auth.oidc_session"),
        (400, "auth.oidc_state"),
        (400, "auth.oidc_callback"),
        (302, "auth.oidc_logged_in"),
        (400, "auth.oidc_state"),
    ];
    assert_eq!(
        all.each_ref().map(why),
        expected.map(|(status, why)| (status, why.to_owned()))
    );
    assert_eq!((provider.given(), service.requests()), (1, 0));
}

#[test]
fn tokens_are_renewed_once_and_what_was_withdrawn_is_over() {
    let (provider, service) = (Provider::start(1), Upstream::echo());
    let more = ", access_token_header: x-token";
    let proxy = Proxy::start(&configuration(&provider, &service, more, ""));
    let mut ann = Browser::of(&proxy);
    ann.logs_in(&provider, "/");
    let begin = Barrier::new(6);

    let tokens: Vec<String> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..6)
            .map(|_| {
                let mut tab = ann.clone();
                let begin = &begin;
                scope.spawn(move || {
                    begin.wait();
                    let reply = tab.asks("/", "");
                    let echoed = reply.json()["headers"].to_string();
                    assert_eq!(reply.status, 200);
                    echoed
                })
            })
            .collect();
        asking.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(
        tokens
            .iter()
            .all(|echoed| echoed.contains(r#"["x-token","at-2"]"#)),
        "{tokens:?}"
    );
    assert_eq!(provider.given(), 2, "one login, one refresh");

    ann.asks("/", "");
    provider.withdraw();
    assert_eq!(
        why(&ann.asks("/", "")),
        (401, "auth.oidc_refresh".to_owned())
    );
}

#[test]
fn a_provider_that_is_away_is_told_and_sessions_go_on() {
    let (provider, service) = (Provider::start(300), Upstream::echo());
    let yaml = configuration(&provider, &service, "", "");
    let proxy = Proxy::start(&yaml);
    let mut ann = Browser::of(&proxy);
    ann.logs_in(&provider, "/");
    let gone = Upstream::refusing();
    let away = format!("http://{}", gone.address);
    let open = yaml.replace("  - kind: oidc\n", "  - kind: oidc\n    on_error: open\n");

    drop(provider.service);
    let during = ann.asks("/", "");
    let issuer = yaml
        .split("issuer: '")
        .nth(1)
        .unwrap()
        .split('\'')
        .next()
        .unwrap();
    let closed = Proxy::start(&yaml.replace(issuer, &away));
    let opened = Proxy::start(&open.replace(issuer, &away));

    assert_eq!(during.status, 200, "a session needs no provider");
    let refused = Browser::of(&closed).looks("/");
    assert_eq!(why(&refused), (503, "auth.oidc_unavailable".to_owned()));
    assert_eq!(Browser::of(&opened).looks("/").status, 200);
    assert!(closed.stderr().contains("auth.oidc_unavailable"));
}
