//! Logins from beginning to end, and what requests in a session become.
//! It must not test what attackers do.
//! Part of the tests of `oidc`.

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::prelude::{Engine, BASE64_STANDARD};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::*;

#[test]
fn a_page_is_sent_to_the_provider_with_all_that_protects_the_login() {
    let scene = Scene::new("scopes: [openid, email]\nparameters: {prompt: login}");
    let mut ann = Browser::default();

    let away = ann.looks(&scene, "/page?x=1");

    assert_eq!(away.refused(), (302, "auth.oidc_login"));
    assert!(
        away.location
            .starts_with("https://id.test/auth?a=b&response_type=code&"),
        "{}",
        away.location
    );
    for (name, value) in [
        ("client_id", "shop"),
        ("redirect_uri", "https://shop.test/oauth2/callback"),
        ("scope", "openid email"),
        ("code_challenge_method", "S256"),
        ("prompt", "login"),
    ] {
        assert_eq!(away.parameter(name), value);
    }
    for random in ["state", "nonce", "code_challenge"] {
        assert_eq!(away.parameter(random).len(), 43, "{random}");
    }
    assert_eq!((ann.logins(), ann.jar.len()), (1, 1));
    let kept = ann.jar.values().next().unwrap();
    assert!(kept.len() < 600 && !kept.contains(&away.parameter("state")));
}

#[test]
fn a_login_ends_at_the_page_where_it_began_and_the_session_proves_the_user() {
    let scene = Scene::new("headers: {x-user: sub, x-roles: /realm/roles}\nconsumer: {claim: sub}");
    let mut ann = Browser::default();
    let away = ann.looks(&scene, "/page?x=1&y=%2F");
    let roles = [("realm", json!({"roles": ["a", "b"]}))];
    scene.gives(&scene.identity(&away.parameter("nonce"), &roles), "");

    let back = ann.comes_back(&scene, &away);
    let inside = ann.asks(
        &scene,
        get("/page")
            .with("cookie", "other=1")
            .with("x-user", "root"),
    );

    assert_eq!(back.refused(), (302, "auth.oidc_logged_in"));
    assert_eq!(back.location, "https://shop.test/page?x=1&y=%2F");
    assert_eq!(ann.logins(), 0);
    assert_eq!((inside.status, &*inside.who), (200, "consumer:ann"));
    assert_eq!(inside.sent("x-user"), Some("ann"));
    assert_eq!(inside.sent("x-roles"), Some("a,b"));
    assert_eq!(
        inside.sent("cookie"),
        Some("other=1"),
        "our cookies end here"
    );
    let asked = &scene.asked()[0];
    let verifier = pairs(asked.text())
        .find(|(name, _)| *name == "code_verifier")
        .unwrap()
        .1;
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
    assert_eq!(challenge, away.parameter("code_challenge"));
    assert!(asked.text().starts_with("grant_type=authorization_code&code=c-1&redirect_uri=https%3A%2F%2Fshop.test%2Foauth2%2Fcallback&"));
    let basic = BASE64_STANDARD.encode("shop:s3cret");
    assert_eq!(
        asked.header("authorization"),
        Some(&*format!("Basic {basic}"))
    );
    assert_eq!(scene.kit.counted("logged_in"), 1);
}

#[test]
fn several_tabs_log_in_beside_each_other() {
    let scene = Scene::new("");
    let mut ann = Browser::default();
    let tabs: Vec<Outcome> = (0..3)
        .map(|tab| ann.looks(&scene, &format!("/tab/{tab}")))
        .collect();
    assert_eq!(ann.logins(), 3);

    for (tab, away) in tabs.iter().enumerate().rev() {
        scene.gives(&scene.identity(&away.parameter("nonce"), &[]), "");
        let back = ann.comes_back(&scene, away);
        assert_eq!(back.location, format!("https://shop.test/tab/{tab}"));
    }

    assert_eq!(ann.logins(), 0);
    assert_eq!(ann.looks(&scene, "/").who, "consumer:ann");
}

#[test]
fn scripts_and_changes_are_refused_and_not_sent_away() {
    let scene = Scene::new("");
    let cases = [
        get("/api"),
        get("/api").with("accept", "application/json"),
        page("/api").with("sec-purpose", "prefetch;prerender"),
        get("/api")
            .with("accept", "text/html")
            .with("sec-fetch-mode", "cors"),
        get("/api")
            .with("accept", "text/html")
            .with("x-requested-with", "XMLHttpRequest"),
        Exchange::new("POST", "https://shop.test/form")
            .with("accept", "text/html")
            .with("sec-fetch-mode", "navigate"),
    ];
    for exchange in cases {
        let mut ann = Browser::default();
        let outcome = ann.asks(&scene, exchange);

        assert_eq!(outcome.refused(), (401, "auth.oidc_missing"));
        assert_eq!(outcome.challenge, "Cookie realm=\"Restricted\"");
        assert!(ann.jar.is_empty());
    }
    let old = Browser::default().asks(&scene, get("/").with("accept", "text/html"));
    assert_eq!(old.refused(), (302, "auth.oidc_login"));
    assert_eq!(scene.kit.counted("refused"), 6);
}

#[test]
fn requests_without_a_session_can_all_be_refused_or_all_go_on() {
    let refusing = Scene::new("unauthenticated: refuse");
    assert_eq!(
        Browser::default().looks(&refusing, "/").refused(),
        (401, "auth.oidc_missing")
    );
    let passing = Scene::new("unauthenticated: pass\nheaders: {x-user: sub}");
    let outcome = Browser::default().asks(&passing, page("/").with("x_user", "root"));
    assert_eq!((outcome.status, &*outcome.who), (200, ""));
    assert_eq!(outcome.sent("x_user"), None);
    let elsewhere = Exchange::get("https://other.test/");
    assert_eq!(Browser::default().asks(&passing, elsewhere).status, 200);
}

#[test]
fn what_the_provider_says_of_the_user_besides_counts_as_well() {
    let scene = Scene::new("userinfo: true\nheaders: {x-mail: email, x-user: sub}\nrequire: {claims: {groups: [staff]}}");
    let says = |body: &str| {
        scene.kit.forget_answers("https://id.test/me");
        scene
            .kit
            .answer("https://id.test/me", Ok(reply(200, &[], body.to_owned())));
    };
    let mut ann = Browser::default();

    says(r#"{"sub":"ann","email":"ann@shop.test","groups":["x","staff"],"iss":"forged"}"#);
    assert_eq!(ann.logs_in(&scene, "").status, 302);
    let inside = ann.looks(&scene, "/");
    assert_eq!(inside.sent("x-mail"), Some("ann@shop.test"));
    let asked = scene.kit.asked();
    let asked = asked
        .iter()
        .find(|asked| asked.url == "https://id.test/me")
        .unwrap();
    assert_eq!(asked.header("authorization"), Some("Bearer at-1"));

    says(r#"{"sub":"eve","groups":["staff"]}"#);
    assert_eq!(
        Browser::default().logs_in(&scene, "").refused(),
        (502, "auth.oidc_subject")
    );
    says("[]");
    assert_eq!(
        Browser::default().logs_in(&scene, "").refused(),
        (503, "auth.oidc_unavailable")
    );
}

#[test]
fn who_lacks_a_claim_a_scope_or_a_name_is_refused_in_the_session() {
    let cases = [
        (
            "require: {claims: {groups: [staff]}}",
            "",
            "auth.oidc_claim",
        ),
        ("require: {scopes: [orders]}", "", "auth.oidc_scope"),
        (
            "require: {scopes: [orders]}\nscopes: [openid, orders]",
            r#","scope":"openid""#,
            "auth.oidc_scope",
        ),
        ("consumer: {claim: email}", "", "auth.oidc_claim"),
        ("consumer: {required: true}", "", "auth.oidc_consumer"),
    ];
    for (config, more, why) in cases {
        let scene = Scene::new(config);
        let mut ann = Browser::default();
        ann.logs_in(&scene, more);
        let outcome = ann.looks(&scene, "/");

        assert_eq!(outcome.refused(), (403, why), "{config}");
        assert_eq!(outcome.who, "");
    }
    let scene = Scene::new("require: {scopes: [orders]}\nscopes: [openid, orders]");
    let mut ann = Browser::default();
    ann.logs_in(&scene, "");
    assert_eq!(
        ann.looks(&scene, "/").who,
        "consumer:ann",
        "what was asked for was granted"
    );
}

#[test]
fn the_access_token_goes_to_the_service_where_that_is_wanted() {
    for (header, value) in [("authorization", "Bearer at-1"), ("x-token", "at-1")] {
        let scene = Scene::new(&format!("access_token_header: {header}"));
        let mut ann = Browser::default();
        ann.logs_in(&scene, r#","expires_in":300"#);

        let inside = ann.asks(&scene, page("/").with(header, "forged"));

        assert_eq!(inside.sent(header), Some(value));
    }
    let scene = Scene::new("");
    let mut ann = Browser::default();
    ann.logs_in(&scene, r#","expires_in":300"#);
    let inside = ann.asks(&scene, page("/").with("authorization", "Basic x"));
    assert_eq!(
        inside.sent("authorization"),
        Some("Basic x"),
        "the service's own"
    );
}

#[test]
fn the_proxy_proves_itself_as_it_is_registered() {
    let key = openssl::pkey::PKey::generate_ed25519().unwrap();
    let pem = String::from_utf8(key.private_key_to_pem_pkcs8().unwrap()).unwrap();
    let with = |client: &str| {
        let config = CONFIG.replace("{id: shop, secret: s3cret}", client);
        let kit = Kit::new();
        let mut scene = Scene::in_kit(kit, "", "");
        scene.plugin = scene.kit.instance(&PLUGIN, &config);
        Browser::default().logs_in(&scene, "");
        scene.asked().pop().unwrap()
    };

    let post = with("{id: shop, secret: 's3&ret', send: post}");
    assert!(post
        .text()
        .ends_with("&client_id=shop&client_secret=s3%26ret"));
    assert_eq!(post.header("authorization"), None);
    let none = with("{id: shop}");
    assert!(none.text().ends_with("&client_id=shop"));
    let signed = with(&format!("{{id: shop, private_key: {pem:?}, key_id: k7}}"));
    let proof = pairs(signed.text())
        .find(|(name, _)| *name == "client_assertion")
        .unwrap()
        .1;
    let parts: Vec<&str> = proof.split('.').collect();
    let part = |at: usize| -> serde_json::Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[at]).unwrap()).unwrap()
    };
    assert_eq!(part(0), json!({"alg": "EdDSA", "typ": "JWT", "kid": "k7"}));
    assert_eq!(
        (&part(1)["aud"], &part(1)["sub"]),
        (&json!(TOKEN), &json!("shop"))
    );
    let mut verifier = openssl::sign::Verifier::new_without_digest(&key).unwrap();
    let message = format!("{}.{}", parts[0], parts[1]);
    let signature = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
    assert!(verifier
        .verify_oneshot(&signature, message.as_bytes())
        .unwrap());
}

#[test]
fn a_dry_run_asks_nobody_and_changes_nothing() {
    let scene = Scene::new("");
    let calls = scene.kit.asked().len();
    let mut ann = Browser::default();

    let outcome = ann.asks(&scene, page("/").dry());
    assert_eq!(outcome.why, "unknown: the provider's description");
    let script = ann.asks(&scene, get("/").dry());
    assert_eq!(script.refused(), (401, "auth.oidc_missing"));

    assert_eq!((scene.kit.asked().len(), ann.jar.len()), (calls, 0));
    assert_eq!(scene.kit.counted("refused"), 0);
}
