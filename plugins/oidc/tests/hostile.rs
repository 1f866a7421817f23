//! What attackers try: with callbacks, cookies, identities and addresses.
//! It must not test what honest browsers do.
//! Part of the tests of `oidc`.

use serde_json::{json, Value};

use super::*;

/// A login under way, with an identity that would be right unless it is changed.
fn under_way(scene: &Scene) -> (Browser, Outcome) {
    let mut ann = Browser::default();
    let away = ann.looks(scene, "/");
    scene.gives(&scene.identity(&away.parameter("nonce"), &[]), "");
    (ann, away)
}

#[test]
fn a_callback_that_this_browser_did_not_begin_is_refused() {
    let scene = Scene::new("");
    let (ann, away) = under_way(&scene);
    let (eve, evil) = under_way(&scene);

    // Somebody makes a browser come with another login's state: it has no cookie for it.
    let mut victim = ann.clone();
    assert_eq!(
        victim.comes_back(&scene, &evil).refused(),
        (400, "auth.oidc_state")
    );
    assert_eq!(
        Browser::default().comes_back(&scene, &away).refused(),
        (400, "auth.oidc_state")
    );
    // The cookie's name alone is no login.
    let (name, _) = eve.jar.iter().next().unwrap();
    let own = ann.jar.values().next().unwrap();
    victim.jar.insert(name.clone(), own.clone());
    assert_eq!(
        victim.comes_back(&scene, &evil).refused(),
        (400, "auth.oidc_state")
    );
    victim.jar.insert(name.clone(), "made-up".to_owned());
    assert_eq!(
        victim.comes_back(&scene, &evil).refused(),
        (400, "auth.oidc_state")
    );
    assert!(scene.asked().is_empty(), "no code is spent for it");
    assert_eq!(victim.session(), None);
}

#[test]
fn a_state_is_good_for_once_and_not_for_ever() {
    let mut scene = Scene::new("login: {timeout: 5m}");
    let (mut ann, away) = under_way(&scene);
    let (mut late, slow) = under_way(&scene);
    scene.gives(&scene.identity(&away.parameter("nonce"), &[]), "");
    assert_eq!(
        ann.comes_back(&scene, &away).refused(),
        (302, "auth.oidc_logged_in")
    );

    assert_eq!(
        ann.comes_back(&scene, &away).refused(),
        (400, "auth.oidc_state")
    );
    scene.wait(300);
    assert_eq!(
        late.comes_back(&scene, &slow).refused(),
        (400, "auth.oidc_login_expired")
    );
}

#[test]
fn a_code_of_another_login_is_refused() {
    let scene = Scene::new("");
    let (mut ann, away) = under_way(&scene);
    let (_, evil) = under_way(&scene);

    // The provider does not look at PKCE, and gives what Eve's code is for.
    scene.gives(
        &scene.identity(&evil.parameter("nonce"), &[("sub", json!("eve"))]),
        "",
    );
    assert_eq!(
        ann.comes_back(&scene, &away).refused(),
        (400, "auth.oidc_nonce")
    );
    assert_eq!((ann.session(), ann.logins()), (None, 0));

    let (mut ann, away) = under_way(&scene);
    scene.refuses(400, r#"{"error":"invalid_grant"}"#);
    assert_eq!(
        ann.comes_back(&scene, &away).refused(),
        (400, "auth.oidc_code")
    );
}

#[test]
fn another_issuer_cannot_answer() {
    let says = r#","authorization_response_iss_parameter_supported":true"#;
    for (more, iss, expected) in [
        ("", "&iss=https%3A%2F%2Fevil.test", "auth.oidc_issuer"),
        ("", "&iss=https%3A%2F%2Fid.test", "auth.oidc_logged_in"),
        ("", "", "auth.oidc_logged_in"),
        (says, "", "auth.oidc_issuer"),
        (says, "&iss=https%3A%2F%2Fid.test%2F", "auth.oidc_issuer"),
        (says, "&iss=https%3A%2F%2Fid.test", "auth.oidc_logged_in"),
    ] {
        let scene = Scene::of("", more);
        let (mut ann, away) = under_way(&scene);
        let state = away.parameter("state");
        let back = ann.looks(
            &scene,
            &format!("/oauth2/callback?code=c&state={state}{iss}"),
        );

        assert_eq!(back.why, expected, "{more} {iss}");
    }
}

#[test]
fn what_is_no_answer_of_a_provider_is_refused_before_anything_is_asked() {
    let scene = Scene::new("");
    let (ann, away) = under_way(&scene);
    let state = away.parameter("state");
    let huge = "c".repeat(9000);
    let queries = [
        String::new(),
        format!("state={state}"),
        "code=c".to_owned(),
        format!("state={state}&code=c&code=d"),
        format!("state={state}&state={state}&code=c"),
        format!("state={state}&st%61te={state}&code=c"),
        format!("state={state}&code="),
        format!("state={state}&code=c&error=access_denied"),
        format!("state={state}&code=c%0Ad"),
        format!("state={state}&code={huge}"),
    ];
    for query in queries {
        let back = ann
            .clone()
            .looks(&scene, &format!("/oauth2/callback?{query}"));
        assert_eq!(back.refused(), (400, "auth.oidc_callback"), "{query:.80}");
    }
    let post = Exchange::new(
        "POST",
        &format!("https://shop.test/oauth2/callback?code=c&state={state}"),
    );
    assert_eq!(
        ann.clone().asks(&scene, post).refused(),
        (400, "auth.oidc_callback")
    );
    let odd = ann
        .clone()
        .looks(&scene, "/oauth2/callback?code=c&state=%00");
    assert_eq!(odd.refused(), (400, "auth.oidc_callback"));
    assert!(scene.asked().is_empty());
}

#[test]
fn errors_of_the_provider_are_told_apart() {
    let scene = Scene::new("");
    for (error, status, why) in [
        ("access_denied", 403, "auth.oidc_denied"),
        ("login_required", 403, "auth.oidc_denied"),
        ("server_error", 502, "auth.oidc_provider_error"),
        ("%3Cscript%3E", 502, "auth.oidc_provider_error"),
    ] {
        let (mut ann, away) = under_way(&scene);
        let target = format!(
            "/oauth2/callback?error={error}&state={}",
            away.parameter("state")
        );
        assert_eq!(ann.looks(&scene, &target).refused(), (status, why));
        assert_eq!(ann.logins(), 0);
    }
}

#[test]
fn identities_that_are_not_right_make_no_session() {
    let at_hash = json!("AAAAAAAAAAAAAAAAAAAAAA");
    let now = START;
    let cases: [(&str, Value, &str); 12] = [
        ("iss", json!("https://evil.test"), "auth.oidc_token_issuer"),
        ("aud", json!("other"), "auth.oidc_token_audience"),
        ("aud", json!(["shop", "other"]), "auth.oidc_token_audience"),
        ("azp", json!("other"), "auth.oidc_token_audience"),
        ("exp", json!(now - 31), "auth.oidc_token_expired"),
        ("iat", json!(now + 60), "auth.oidc_token_early"),
        ("nbf", json!(now + 60), "auth.oidc_token_early"),
        ("exp", json!("soon"), "auth.oidc_token_claim"),
        ("sub", json!(""), "auth.oidc_token_claim"),
        ("sub", json!(5), "auth.oidc_token_claim"),
        ("nonce", Value::Null, "auth.oidc_nonce"),
        ("at_hash", at_hash, "auth.oidc_at_hash"),
    ];
    let scene = Scene::new("");
    for (name, value, why) in cases {
        let (mut ann, away) = under_way(&scene);
        let change = [(name, value.clone())];
        scene.gives(&scene.identity(&away.parameter("nonce"), &change), "");
        let back = ann.comes_back(&scene, &away);

        assert_eq!(back.why, why, "{name} {value}");
        assert!(back.status == 502 || why == "auth.oidc_nonce");
        assert_eq!(ann.session(), None);
    }
}

#[test]
fn what_an_identity_says_of_itself_is_taken_where_it_is_right() {
    let scene = Scene::new("");
    let hash = openssl::hash::hash(openssl::hash::MessageDigest::sha256(), b"at-1").unwrap();
    let half = base64::Engine::encode(
        &base64::engine::general_purpose::URL_SAFE_NO_PAD,
        &hash[..16],
    );
    let several = json!(["shop", "other"]);
    let (mut ann, away) = under_way(&scene);
    let change = [
        ("at_hash", json!(half)),
        ("aud", several),
        ("azp", json!("shop")),
    ];
    scene.gives(&scene.identity(&away.parameter("nonce"), &change), "");

    assert_eq!(ann.comes_back(&scene, &away).why, "auth.oidc_logged_in");
}

#[test]
fn only_the_providers_signature_counts() {
    let scene = Scene::new("");
    let other = Issuer::of("RS256");
    let (mut ann, away) = under_way(&scene);
    let right = scene.identity(&away.parameter("nonce"), &[]);
    let claims = right.split('.').nth(1).unwrap().to_owned();
    let decoded =
        base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, &claims).unwrap();
    let claims_text = String::from_utf8(decoded).unwrap();
    // The provider's public key, taken for a secret.
    let public = scene.issuer.pem();
    let confused = Issuer::with_secret(public.as_bytes());
    let header = |text: &str| {
        base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text)
    };
    let cases = [
        (
            format!("{}.{claims}.", header(r#"{"alg":"none"}"#)),
            "auth.oidc_token_algorithm",
        ),
        (
            confused.raw(r#"{"alg":"HS256","kid":"k1"}"#, &claims_text),
            "auth.oidc_token_algorithm",
        ),
        (
            other.raw(r#"{"alg":"RS256","kid":"k1"}"#, &claims_text),
            "auth.oidc_token_signature",
        ),
        (
            other.raw(r#"{"alg":"RS256","kid":"k9"}"#, &claims_text),
            "auth.oidc_token_key",
        ),
        (
            scene
                .issuer
                .raw(r#"{"alg":"RS256","kid":"k1","typ":"at+jwt"}"#, &claims_text),
            "auth.oidc_token_malformed",
        ),
        (
            scene
                .issuer
                .raw(r#"{"alg":"RS256","crit":["x"]}"#, &claims_text),
            "auth.oidc_token_malformed",
        ),
        (format!("{right}.x"), "auth.oidc_token_malformed"),
        (
            right[..right.len() - 2].to_owned(),
            "auth.oidc_token_signature",
        ),
    ];
    for (identity, why) in cases {
        let mut trying = ann.clone();
        scene.gives(&identity, "");
        assert_eq!(trying.comes_back(&scene, &away).refused(), (502, why));
        assert_eq!(trying.session(), None);
    }
    scene.refuses(200, r#"{"access_token":"a","token_type":"Bearer"}"#);
    assert_eq!(
        ann.comes_back(&scene, &away).refused(),
        (502, "auth.oidc_token_malformed")
    );
}

#[test]
fn cookies_that_were_changed_cut_or_swapped_are_no_session() {
    let scene = Scene::new("");
    let mut ann = Browser::default();
    ann.looks(&scene, "/other");
    let login = ann.jar.values().next().unwrap().clone();
    ann.logs_in(&scene, "");
    let session = ann.session().unwrap().clone();
    let with = |value: String| {
        let mut browser = Browser::default();
        browser.jar.insert("__Host-oidc".to_owned(), value);
        let refused = browser.asks(&scene, get("/"));
        assert_eq!(browser.session(), None, "it is taken away");
        (refused.status, refused.why, refused.who)
    };
    let refused = (401, "auth.oidc_session".to_owned(), String::new());

    let mut changed = session.clone().into_bytes();
    let middle = changed.len() / 2;
    changed[middle] = if changed[middle] == b'A' { b'B' } else { b'A' };
    assert_eq!(with(String::from_utf8(changed).unwrap()), refused);
    assert_eq!(with(session[..session.len() - 1].to_owned()), refused);
    assert_eq!(with(format!("2{}", &session[1..])), refused);
    assert_eq!(with(format!("1{login}")), refused, "a login is no session");
    // A session is no login either.
    let away = ann.looks(&scene, "/elsewhere");
    assert_eq!(away.who, "consumer:ann");
    let other = CONFIG.replace("id: shop", "id: other");
    let other = scene.kit.build_as("other", &PLUGIN, &other).unwrap();
    let elsewhere = ann.asks_of(&other, get("/"));
    assert_eq!(
        elsewhere.refused(),
        (401, "auth.oidc_session"),
        "another client's session"
    );
}

#[test]
fn a_session_that_was_there_before_is_replaced_by_a_login() {
    let scene = Scene::new("");
    let (mut eve, away) = under_way(&scene);
    scene.gives(
        &scene.identity(&away.parameter("nonce"), &[("sub", json!("eve"))]),
        "",
    );
    eve.comes_back(&scene, &away);
    let planted = eve.session().unwrap().clone();
    let (mut ann, away) = under_way(&scene);
    ann.jar.insert("__Host-oidc".to_owned(), planted.clone());

    scene.gives(&scene.identity(&away.parameter("nonce"), &[]), "");
    ann.comes_back(&scene, &away);

    assert_ne!(ann.session(), Some(&planted));
    assert_eq!(ann.looks(&scene, "/").who, "consumer:ann");
    assert_eq!(
        eve.looks(&scene, "/").who,
        "consumer:eve",
        "she stays who she is"
    );
}

#[test]
fn nobody_is_sent_to_another_site() {
    let scene = Scene::new("");
    for (target, expected) in [
        ("//evil.test/x", "https://shop.test//evil.test/x"),
        ("/\\evil.test", "https://shop.test/\\evil.test"),
        ("/@evil.test", "https://shop.test/@evil.test"),
        (
            "/?next=https://evil.test",
            "https://shop.test/?next=https://evil.test",
        ),
        (&*format!("/a?{}", "x".repeat(2000)), "https://shop.test/a"),
        (&*format!("/{}", "x".repeat(2000)), "https://shop.test/"),
    ] {
        let mut ann = Browser::default();
        let away = ann.asks(&scene, raw_page(target));
        scene.gives(&scene.identity(&away.parameter("nonce"), &[]), "");

        assert_eq!(ann.comes_back(&scene, &away).location, expected);
    }
}

/// A page with this target as it is in the request line.
fn raw_page(target: &str) -> Exchange {
    let mut exchange = page("/");
    exchange
        .request
        .set_uri(http::Uri::builder().path_and_query(target).build().unwrap());
    exchange
}

#[test]
fn hosts_that_are_not_the_sites_are_refused() {
    let scene = Scene::new("");
    for url in [
        "https://evil.test/",
        "http://shop.test/",
        "https://shop.test.evil.test/oauth2/callback",
    ] {
        let exchange = Exchange::get(url).with("accept", "text/html");
        assert_eq!(
            Browser::default().asks(&scene, exchange).refused(),
            (403, "auth.oidc_origin")
        );
    }
}

#[test]
fn logins_under_way_are_bounded_and_the_oldest_goes_first() {
    let mut scene = Scene::new("login: {most: 2}");
    let mut ann = Browser::default();
    let mut tabs = Vec::new();
    for tab in 0..4 {
        tabs.push(ann.looks(&scene, &format!("/{tab}")));
        scene.wait(1);
    }
    assert_eq!(ann.logins(), 2);
    assert_eq!(
        ann.clone().comes_back(&scene, &tabs[0]).refused(),
        (400, "auth.oidc_state")
    );

    for number in 0..40 {
        ann.jar
            .insert(format!("__Host-oidc.login.{number:016}"), "junk".to_owned());
    }
    ann.looks(&scene, "/");
    assert!(ann.logins() <= 12, "junk is taken away: {}", ann.logins());
}

#[test]
fn other_sites_cannot_log_people_out() {
    let scene = Scene::new("");
    let mut ann = Browser::default();
    ann.logs_in(&scene, "");

    let foreign = page("/oauth2/logout").with("sec-fetch-site", "cross-site");
    assert_eq!(
        ann.asks(&scene, foreign).refused(),
        (403, "auth.oidc_logout_foreign")
    );
    let put = Exchange::new("PUT", "https://shop.test/oauth2/logout");
    assert_eq!(
        ann.asks(&scene, put).refused(),
        (403, "auth.oidc_logout_foreign")
    );
    assert_eq!(ann.looks(&scene, "/").who, "consumer:ann");
}

proptest::proptest! {
    #[test]
    fn any_query_is_read_without_harm(query in "[a-z=&%+0-9]{0,80}") {
        let _ = callback::Back::read(&query);
    }
}
