//! Sessions beside other ways to prove who calls, inside an `auth`.
//! It must not know how logins work.
//! Part of the tests of `oidc`.

use super::*;
use crate::contract::{key_hash, Consumer, Credential};

/// The provider's scene with an `auth` of an API key and sessions.
fn scene() -> Scene {
    let bob = Consumer {
        name: "bob".to_owned(),
        ..Consumer::default()
    };
    let kit = Kit::new().with_consumer(bob, [Credential::Key(key_hash(b"k1"))]);
    let mut scene = Scene::in_kit(kit, "", "");
    let inner = format!("{CONFIG}headers: {{x-user: sub}}").replace('\n', "\n    ");
    let config = format!("of:\n- {{kind: key_auth}}\n- kind: oidc\n  config:\n    {inner}");
    scene.plugin = scene.kit.instance(&crate::auth::PLUGIN, &config);
    scene.task = scene.kit.task(&scene.plugin, "nested");
    scene
}

#[test]
fn a_browser_logs_in_and_a_program_shows_its_key() {
    let mut scene = scene();
    scene.task.go_on();
    let mut browser = Browser::default();

    let back = browser.logs_in(&scene, "");
    assert_eq!(back.refused(), (302, "auth.oidc_logged_in"));
    assert_eq!(back.challenge, "");
    let page = browser.asks(&scene, get("/page").with("x-user", "admin"));
    assert_eq!(
        (page.who.as_str(), page.sent("x-user")),
        ("consumer:ann", Some("ann"))
    );
    assert_eq!(page.sent("cookie"), None);
    let program = Browser::default().asks(
        &scene,
        get("/api").with("x-api-key", "k1").with("x-user", "admin"),
    );
    assert_eq!(
        (program.who.as_str(), program.sent("x-user")),
        ("consumer:bob", None)
    );
    let nobody = Browser::default().with_cookies(get("/api"));
    let mut nobody = nobody;
    let answer = answered(scene.plugin.request(&mut nobody));
    assert_eq!(
        (answer.status, answer.cause.name),
        (401, "auth.key_missing")
    );
    let challenges = answer
        .headers
        .iter()
        .filter(|(name, _)| *name == WWW_AUTHENTICATE);
    assert_eq!(challenges.count(), 2);
}

#[test]
fn a_session_is_written_anew_there_too() {
    let mut scene = scene();
    scene.task.go_on();
    let mut browser = Browser::default();
    browser.logs_in(&scene, "");
    let before = browser.session().cloned();

    scene.wait(600);
    let page = browser.looks(&scene, "/page");

    assert_eq!(page.who, "consumer:ann");
    assert!(browser.session().is_some() && browser.session() != before.as_ref());
}
