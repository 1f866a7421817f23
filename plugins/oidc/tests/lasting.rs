//! How sessions last and end: lifetimes, refreshes, secrets, logouts, and a provider that is away.
//! It must not test logins.
//! Part of the tests of `oidc`.

use serde_json::json;

use super::*;

const RENEWABLE: &str = r#","expires_in":100,"refresh_token":"rt-1""#;

#[test]
fn a_session_ends_when_it_is_not_used_or_too_old() {
    let mut scene = Scene::new("session: {idle: 10m, absolute: 1h}");
    let mut ann = Browser::default();
    ann.logs_in(&scene, "");
    let mut idle = ann.clone();

    for _ in 0..7 {
        scene.wait(500);
        assert_eq!(ann.asks(&scene, get("/")).who, "consumer:ann");
    }
    assert_eq!(
        idle.asks(&scene, get("/")).refused(),
        (401, "auth.oidc_session_expired")
    );
    assert_eq!(idle.session(), None);
    scene.wait(100);
    assert_eq!(ann.looks(&scene, "/").refused(), (302, "auth.oidc_login"));
}

#[test]
fn a_cookie_is_written_anew_only_now_and_then() {
    let mut scene = Scene::new("session: {idle: 10m}");
    let mut ann = Browser::default();
    ann.logs_in(&scene, "");
    let first = ann.session().unwrap().clone();

    scene.wait(59);
    ann.looks(&scene, "/");
    assert_eq!(ann.session(), Some(&first));
    scene.wait(1);
    ann.looks(&scene, "/");
    assert_ne!(ann.session(), Some(&first));
}

#[test]
fn tokens_are_renewed_once_for_all_requests_that_want_them() {
    let mut scene = Scene::new("access_token_header: x-token");
    let mut ann = Browser::default();
    ann.logs_in(&scene, RENEWABLE);
    scene.wait(95);
    scene.kit.forget_answers(TOKEN);
    let later = scene.kit.answer_later(TOKEN);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let ask = || async {
        let mut exchange = ann.with_cookies(page("/"));
        let verdict = scene.plugin.request_async(&mut exchange).await;
        assert!(matches!(verdict, Verdict::Continue), "{verdict:?}");
        scene.plugin.upstream_request(&mut exchange);
        all_of(&exchange.upstream.headers, "x-token").concat()
    };
    let answer = async {
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        let body = r#"{"access_token":"at-2","token_type":"Bearer","expires_in":100,"refresh_token":"rt-2"}"#;
        later.send(Ok(reply(200, &[], body))).unwrap();
    };

    let (one, two, three, ()) =
        runtime.block_on(async { tokio::join!(ask(), ask(), ask(), answer) });

    assert_eq!([one, two, three], ["at-2", "at-2", "at-2"]);
    let asked = scene.asked();
    assert_eq!(asked.len(), 2, "one for the login, one for all of them");
    assert!(asked[1]
        .text()
        .starts_with("grant_type=refresh_token&refresh_token=rt-1"));
    // A request that still has the old cookie gets the same.
    let mut old = ann.clone();
    assert_eq!(old.looks(&scene, "/").sent("x-token"), Some("at-2"));
    assert_eq!(scene.asked().len(), 2);
    scene.wait(95);
    let body = r#"{"access_token":"at-3","token_type":"Bearer","expires_in":100}"#;
    scene.refuses(200, body);
    assert_eq!(old.looks(&scene, "/").sent("x-token"), Some("at-3"));
    assert!(scene.asked()[2].text().contains("refresh_token=rt-2"));
    assert_eq!(scene.kit.counted("refreshed"), 2);
}

#[test]
fn a_client_that_leaves_does_not_lose_the_tokens() {
    let mut scene = Scene::new("access_token_header: x-token");
    let mut ann = Browser::default();
    ann.logs_in(&scene, RENEWABLE);
    scene.wait(95);
    scene.kit.forget_answers(TOKEN);
    let later = scene.kit.answer_later(TOKEN);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut exchange = ann.with_cookies(page("/"));
        {
            let asking = scene.plugin.request_async(&mut exchange);
            let left = async {
                for _ in 0..5 {
                    tokio::task::yield_now().await;
                }
            };
            // The client is gone before the provider answers.
            let mut asking = Box::pin(asking);
            std::future::poll_fn(|cx| {
                assert!(asking.as_mut().poll(cx).is_pending());
                std::task::Poll::Ready(())
            })
            .await;
            left.await;
        }
        let body = r#"{"access_token":"at-2","token_type":"Bearer","expires_in":100}"#;
        later.send(Ok(reply(200, &[], body))).unwrap();
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
    });

    assert_eq!(ann.looks(&scene, "/").sent("x-token"), Some("at-2"));
    assert_eq!(scene.asked().len(), 2);
}

use std::future::Future;

#[test]
fn what_the_provider_refuses_to_renew_is_over() {
    let mut scene = Scene::new("");
    let mut ann = Browser::default();
    ann.logs_in(&scene, RENEWABLE);
    scene.wait(95);
    scene.refuses(400, r#"{"error":"invalid_grant"}"#);
    let mut script = ann.clone();

    assert_eq!(
        script.asks(&scene, get("/")).refused(),
        (401, "auth.oidc_refresh")
    );
    assert_eq!(script.session(), None);
    assert_eq!(ann.looks(&scene, "/").refused(), (302, "auth.oidc_login"));
    assert_eq!(
        scene.asked().len(),
        2,
        "a refusal is remembered for a moment"
    );
}

#[test]
fn a_refresh_for_another_user_is_none() {
    let mut scene = Scene::new("");
    let mut ann = Browser::default();
    ann.logs_in(&scene, RENEWABLE);
    scene.wait(95);
    scene.gives(&scene.identity("", &[("sub", json!("eve"))]), "");

    assert_eq!(ann.looks(&scene, "/").refused(), (502, "auth.oidc_subject"));
}

#[test]
fn a_provider_that_is_away_is_no_refusal() {
    let mut scene = Scene::new("");
    let mut ann = Browser::default();
    ann.logs_in(&scene, RENEWABLE);
    let (mut away, mut eve) = (Browser::default(), Browser::default());
    let login = away.looks(&scene, "/");
    let other = eve.looks(&scene, "/");
    scene.wait(95);

    scene.fails();
    assert_eq!(
        ann.looks(&scene, "/").refused(),
        (503, "auth.oidc_unavailable")
    );
    assert!(ann.session().is_some(), "the session is as it was");
    assert_eq!(
        away.comes_back(&scene, &login).refused(),
        (503, "auth.oidc_unavailable")
    );
    scene.refuses(401, r#"{"error":"invalid_client"}"#);
    assert_eq!(
        eve.comes_back(&scene, &other).refused(),
        (503, "auth.oidc_client_refused")
    );
    let body = r#"{"access_token":"at-2","token_type":"Bearer"}"#;
    scene.refuses(200, body);
    assert_eq!(ann.looks(&scene, "/").who, "consumer:ann", "and goes on");
}

#[test]
fn a_description_that_never_came_or_is_wrong_is_no_refusal_either() {
    let url = "https://id.test/.well-known/openid-configuration";
    let elsewhere = description("").replace("https://id.test/token", "https://tokens.test/token");
    for answer in [
        Err(CallFailure::NoEndpoint),
        Ok(reply(500, &[], "")),
        Ok(reply(200, &[], "<html>")),
        Ok(reply(
            200,
            &[],
            description("").replace("\"https://id.test\"", "\"https://evil.test\""),
        )),
        Ok(reply(200, &[], elsewhere)),
        Ok(reply(
            200,
            &[],
            description("").replace("https://id.test/auth", "javascript:alert(1)//"),
        )),
    ] {
        let kit = Kit::new();
        kit.answer(url, answer);
        kit.answer(
            "https://id.test/keys",
            Ok(reply(200, &[], Issuer::of("EdDSA").jwks("k"))),
        );
        let plugin = kit.instance(&PLUGIN, CONFIG);
        let _task = kit.task(&plugin, "provider");

        let outcome = Browser::default().asks_of(&plugin, page("/"));

        assert_eq!(outcome.refused(), (503, "auth.oidc_unavailable"));
        assert_eq!(kit.counted("provider_failed"), 1);
        let script = Browser::default().asks_of(&plugin, get("/"));
        assert_eq!(script.refused(), (401, "auth.oidc_missing"));
    }
}

#[test]
fn an_access_token_that_ended_and_is_wanted_ends_the_session() {
    let mut scene = Scene::new("access_token_header: x-token\nsession: {refresh: false}");
    let mut ann = Browser::default();
    ann.logs_in(&scene, RENEWABLE);
    scene.wait(95);
    assert_eq!(
        ann.asks(&scene, get("/")).refused(),
        (401, "auth.oidc_session_expired")
    );

    let mut plain = Scene::new("session: {refresh: false}");
    let mut bob = Browser::default();
    bob.logs_in(&plain, RENEWABLE);
    plain.wait(95);
    assert_eq!(bob.asks(&plain, get("/")).who, "consumer:ann");
}

#[test]
fn secrets_can_be_changed_without_ending_sessions() {
    let scene = Scene::new("");
    let mut ann = Browser::default();
    ann.logs_in(&scene, "");
    let old = ann.session().unwrap().clone();
    let new = "another example of thirty-two bytes.";
    let both = CONFIG.replace(&format!("[{SECRET}]"), &format!("['{new}', {SECRET}]"));
    let only = CONFIG.replace(SECRET, new);
    let (both, only) = (
        scene.kit.instance(&PLUGIN, &both),
        scene.kit.instance(&PLUGIN, &only),
    );

    assert_eq!(
        ann.clone().asks_of(&only, get("/")).refused(),
        (401, "auth.oidc_session")
    );
    assert_eq!(ann.asks_of(&both, get("/")).who, "consumer:ann");
    assert_ne!(ann.session(), Some(&old), "sealed anew");
    assert_eq!(ann.asks_of(&only, get("/")).who, "consumer:ann");
}

#[test]
fn a_large_session_takes_several_cookies_and_a_huge_one_is_refused() {
    let scene = Scene::new("headers: {x-note: note}");
    let with = |bytes: usize| {
        let mut ann = Browser::default();
        let away = ann.looks(&scene, "/");
        let note = [("note", json!("n".repeat(bytes)))];
        scene.gives(&scene.identity(&away.parameter("nonce"), &note), "");
        let back = ann.comes_back(&scene, &away);
        (ann, back)
    };

    let (mut ann, back) = with(6000);
    assert_eq!(back.why, "auth.oidc_logged_in");
    assert!(ann.jar.len() >= 3 && ann.jar.values().all(|value| value.len() < 4000));
    assert_eq!(
        ann.looks(&scene, "/").sent("x-note").map(str::len),
        Some(6000)
    );
    let mut cut = ann.clone();
    cut.jar.remove("__Host-oidc.1");
    assert_eq!(
        cut.asks(&scene, get("/")).refused(),
        (401, "auth.oidc_session")
    );
    assert!(
        cut.jar.is_empty(),
        "all pieces are taken away: {:?}",
        cut.jar.keys()
    );
    ann.looks(&scene, "/oauth2/logout");
    assert!(ann.jar.is_empty());
    let (ann, back) = with(14_000);
    assert_eq!(back.refused(), (500, "auth.oidc_session_size"));
    assert!(ann.jar.is_empty());
}

#[test]
fn a_logout_ends_the_session_here_and_at_the_provider() {
    let page = r#","end_session_endpoint":"https://id.test/bye""#;
    let scene = Scene::of("logout: {after: /goodbye}", page);
    let mut ann = Browser::default();
    ann.logs_in(&scene, "");
    let mut copied = ann.clone();

    let out = ann.looks(&scene, "/oauth2/logout");

    assert_eq!(out.refused(), (302, "auth.oidc_logged_out"));
    assert!(
        out.location
            .starts_with("https://id.test/bye?id_token_hint=ey"),
        "{}",
        out.location
    );
    assert_eq!(out.parameter("client_id"), "shop");
    assert_eq!(
        out.parameter("post_logout_redirect_uri"),
        "https://shop.test/goodbye"
    );
    assert!(ann.jar.is_empty());
    assert_eq!(
        copied.asks(&scene, get("/")).refused(),
        (401, "auth.oidc_session_ended")
    );
    assert_eq!(scene.kit.counted("logged_out"), 1);
    // Without a session there is nobody to log out there.
    let again = ann.looks(&scene, "/oauth2/logout");
    assert_eq!(again.location, "https://shop.test/goodbye");
}

#[test]
fn a_logout_can_be_of_this_site_only() {
    let page = r#","end_session_endpoint":"https://id.test/bye""#;
    let scene = Scene::of("logout: {provider: false}", page);
    let mut ann = Browser::default();
    ann.logs_in(&scene, "");

    let form = Exchange::new("POST", "https://shop.test/oauth2/logout");
    let out = ann.asks(&scene, form.with("sec-fetch-site", "same-origin"));

    assert_eq!((out.status, &*out.location), (303, "https://shop.test/"));
    assert_eq!(ann.session(), None);
}
