//! Keys by URL: how they come, change, stay and fail.
//! It must not test tokens.
//! Part of the tests of `jwt`.

use std::time::Duration;

use super::*;
use crate::contract::CallFailure;
use crate::testkit::{reply, Task};

const URL: &str = "https://id.test/keys";
const CONFIG: &str = "issuer: https://id.test\naudience: orders\njwks: {url: https://id.test/keys}";

/// A set of this issuer's key under a name.
fn set(issuer: &Issuer, kid: &str) -> String {
    let raw = URL_SAFE_NO_PAD.encode(issuer.key.raw_public_key().unwrap());
    format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"{kid}","x":"{raw}"}}]}}"#)
}

fn token(issuer: &Issuer, kid: &str) -> String {
    let claims = RIGHT.replace("2000", "9999999");
    issuer.raw(&format!(r#"{{"alg":"EdDSA","kid":"{kid}"}}"#), &claims)
}

fn begun(kit: &Kit, config: &str) -> (Instance, Task) {
    let plugin = kit.instance(&PLUGIN, config);
    let task = kit.task(&plugin, "keys");
    (plugin, task)
}

fn says(plugin: &Instance, token: &str) -> Result<String, &'static str> {
    let mut exchange = Exchange::get("https://shop.test/");
    exchange = exchange.with("authorization", &format!("Bearer {token}"));
    match plugin.request(&mut exchange) {
        Verdict::Continue => Ok(exchange.principal().map_or(String::new(), Principal::id)),
        Verdict::Failed { cause, .. } => Err(cause.name),
        Verdict::Unknown(_) => Err("unknown"),
        verdict => Err(answered(verdict).cause.name),
    }
}

#[test]
fn keys_come_from_the_url_and_again_after_a_while() {
    let (kit, issuer) = (at(1500), Issuer::of("EdDSA"));
    kit.answer(URL, Ok(reply(200, &[], set(&issuer, "k1"))));
    let (plugin, mut task) = begun(&kit, CONFIG);

    assert_eq!(says(&plugin, &token(&issuer, "k1")), ann());
    kit.advance(Duration::from_secs(599));
    task.go_on();
    assert_eq!(kit.asked().len(), 1);
    kit.advance(Duration::from_secs(1));
    task.go_on();
    assert_eq!(kit.asked().len(), 2);
    assert_eq!(kit.counted("keys_got"), 2);
    assert!(!task.end());
}

#[test]
fn a_key_that_is_taken_away_is_not_believed_any_more() {
    let (kit, old, new) = (at(1500), Issuer::of("EdDSA"), Issuer::of("EdDSA"));
    kit.answer(URL, Ok(reply(200, &[], set(&old, "k1"))));
    kit.answer(URL, Ok(reply(200, &[], set(&new, "k2"))));
    let (plugin, mut task) = begun(&kit, CONFIG);
    assert_eq!(says(&plugin, &token(&old, "k1")), ann());

    kit.advance(Duration::from_secs(600));
    task.go_on();

    let forgotten = says(&plugin, &token(&old, "k1"));
    assert_eq!(
        forgotten,
        Err("auth.jwt_key_unknown"),
        "a remembered token, too"
    );
    assert_eq!(says(&plugin, &token(&new, "k2")), ann());
}

#[test]
fn a_name_that_is_not_known_has_keys_got_once_for_all_who_wait() {
    let (kit, old, new) = (at(1500), Issuer::of("EdDSA"), Issuer::of("EdDSA"));
    kit.answer(URL, Ok(reply(200, &[], set(&old, "k1"))));
    kit.answer(URL, Ok(reply(200, &[], set(&new, "k2"))));
    let (plugin, mut task) = begun(&kit, CONFIG);
    kit.advance(Duration::from_secs(31));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();

    let ask = || async {
        let header = format!("Bearer {}", token(&new, "k2"));
        let mut exchange = Exchange::get("https://shop.test/").with("authorization", &header);
        let verdict = plugin.request_async(&mut exchange).await;
        matches!(verdict, Verdict::Continue)
    };
    let work = async {
        tokio::task::yield_now().await;
        task.go_on();
    };
    let (one, two, three, ()) = runtime.block_on(async { tokio::join!(ask(), ask(), ask(), work) });

    assert_eq!((one, two, three), (true, true, true));
    assert_eq!(kit.asked().len(), 2, "one call for all of them");
    // Whoever sends nonsense now does not make the issuer be asked.
    for _ in 0..5 {
        assert_eq!(
            says(&plugin, &token(&new, "k3")),
            Err("auth.jwt_key_unknown")
        );
    }
    assert_eq!(kit.asked().len(), 2);
}

#[test]
fn keys_stay_while_the_issuer_fails_but_not_for_ever() {
    let (kit, issuer) = (at(1500), Issuer::of("EdDSA"));
    kit.answer(URL, Ok(reply(200, &[], set(&issuer, "k1"))));
    kit.answer(URL, Err(CallFailure::TimedOut));
    kit.answer(URL, Ok(reply(500, &[], "")));
    kit.answer(URL, Ok(reply(200, &[], "{\"keys\":[]}")));
    let (plugin, mut task) = begun(&kit, &CONFIG.replace("/keys}", "/keys, keep: 1h}"));

    for (wait, calls) in [(600, 2), (1, 3), (2, 4), (3, 4), (1, 5)] {
        kit.advance(Duration::from_secs(wait));
        task.go_on();
        assert_eq!(kit.asked().len(), calls);
        assert_eq!(says(&plugin, &token(&issuer, "k1")), ann());
    }
    assert_eq!(
        (kit.counted("keys_got"), kit.counted("keys_failed")),
        (1, 4)
    );
    let reloaded = kit.instance(&PLUGIN, &CONFIG.replace("/keys}", "/keys, keep: 1h}"));
    assert_eq!(
        says(&reloaded, &token(&issuer, "k1")),
        ann(),
        "they outlive a reload"
    );
    kit.advance(Duration::from_secs(3000));
    task.go_on();
    assert_eq!(
        says(&plugin, &token(&issuer, "k1")),
        Err("auth.keys_unavailable")
    );
}

#[test]
fn without_keys_nobody_gets_in_and_a_dry_run_does_not_know() {
    let (kit, issuer) = (at(1500), Issuer::of("EdDSA"));
    kit.answer(URL, Err(CallFailure::NoEndpoint));
    let (plugin, _task) = begun(&kit, CONFIG);

    assert_eq!(
        says(&plugin, &token(&issuer, "k1")),
        Err("auth.keys_unavailable")
    );
    let header = format!("Bearer {}", token(&issuer, "k1"));
    let mut dry = Exchange::get("https://shop.test/")
        .with("authorization", &header)
        .dry();
    assert!(matches!(plugin.request(&mut dry), Verdict::Unknown(_)));
    let mut none = Exchange::get("https://shop.test/").dry();
    assert_eq!(answered(plugin.request(&mut none)).cause, &causes::MISSING);
}

#[test]
fn published_secrets_and_other_urls_are_not_believed() {
    let kit = at(1500);
    let secret = URL_SAFE_NO_PAD.encode(SECRET);
    let keys = format!(r#"{{"keys":[{{"kty":"oct","k":"{secret}"}}]}}"#);
    kit.answer(URL, Ok(reply(200, &[], keys)));
    let (plugin, _task) = begun(&kit, CONFIG);

    let forged = says(&plugin, &Issuer::of("HS256").token(RIGHT));

    assert_eq!(forged, Err("auth.keys_unavailable"));
}

#[test]
fn an_issuer_describes_where_its_keys_are() {
    let config = "issuer: https://id.test\naudience: orders\njwks: {discovery: https://id.test/.well-known/openid-configuration}";
    let about = "https://id.test/.well-known/openid-configuration";
    for (said, expected) in [
        (
            r#"{"issuer":"https://id.test","jwks_uri":"https://id.test/keys"}"#,
            ann(),
        ),
        (
            r#"{"issuer":"https://id.test/","jwks_uri":"https://id.test/keys"}"#,
            Err("auth.keys_unavailable"),
        ),
        (
            r#"{"issuer":"https://id.test","jwks_uri":"https://evil.test/keys"}"#,
            Err("auth.keys_unavailable"),
        ),
        (
            r#"{"issuer":"https://id.test","jwks_uri":"http://id.test/keys"}"#,
            Err("auth.keys_unavailable"),
        ),
        (
            r#"{"issuer":"https://id.test"}"#,
            Err("auth.keys_unavailable"),
        ),
        ("nonsense", Err("auth.keys_unavailable")),
    ] {
        let (kit, issuer) = (at(1500), Issuer::of("EdDSA"));
        kit.answer(URL, Ok(reply(200, &[], set(&issuer, "k1"))));
        kit.answer(about, Ok(reply(200, &[], said.to_owned())));
        let (plugin, _task) = begun(&kit, config);
        assert_eq!(says(&plugin, &token(&issuer, "k1")), expected, "{said}");
    }
}

#[test]
fn wrong_settings_are_located() {
    let paths = |jwks: &str| {
        let config = format!("issuer: a\naudience: b\njwks: {{{jwks}}}");
        Kit::new().problem_paths(&PLUGIN, &config)
    };

    assert_eq!(paths(""), ["jwks"]);
    assert_eq!(
        paths("url: https://a.test/, discovery: https://a.test/"),
        ["jwks"]
    );
    assert_eq!(paths("url: ftp://a.test/"), ["jwks.url"]);
    assert_eq!(
        paths("url: {url: https://a.test/, pool: none}"),
        ["jwks.url.pool"]
    );
    assert_eq!(paths("url: https://a.test/, refresh: 5s"), ["jwks.refresh"]);
    assert_eq!(paths("url: https://a.test/, keep: 1m"), ["jwks.keep"]);
    assert_eq!(paths("url: https://a.test/, timeout: 1m"), ["jwks.timeout"]);
    let both = format!("{}\nkeys: [{{secret: {SECRET}}}]", CONFIG);
    assert_eq!(Kit::new().problem_paths(&PLUGIN, &both), ["jwks"]);
    let hmac = format!("{CONFIG}\nalgorithms: [HS256]");
    assert_eq!(Kit::new().problem_paths(&PLUGIN, &hmac), ["algorithms"]);
}
