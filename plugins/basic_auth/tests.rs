use std::future::Future;
use std::time::Duration;

use super::*;
use crate::testkit::{answered, field, fields, went_on, Exchange, Instance, Kit};

/// Cost 4 is the cheapest bcrypt has.
fn hash(password: &str) -> String {
    bcrypt::hash(password, 4).unwrap()
}

fn ann() -> String {
    format!("users: {{ann: {}}}", hash("secret"))
}

fn with(credentials: &str) -> Exchange {
    let encoded = STANDARD.encode(credentials);
    Exchange::get("http://shop.test/").with("authorization", &format!("Basic {encoded}"))
}

fn refusal(plugin: &Instance, mut exchange: Exchange) -> &'static str {
    let answer = answered(plugin.request(&mut exchange));
    assert_eq!(answer.status, 401);
    assert!(field(&answer, "www-authenticate").is_some());
    assert!(exchange.principal().is_none());
    answer.cause.name
}

#[test]
fn right_credentials_prove_a_consumer_and_end_here() {
    let plugin = Kit::new().instance(&PLUGIN, &ann());
    let mut exchange = with("ann:secret");

    let verdict = plugin.request(&mut exchange);
    plugin.upstream_request(&mut exchange);

    assert!(went_on(&verdict));
    assert_eq!(
        exchange.principal().map(Principal::id).as_deref(),
        Some("consumer:ann")
    );
    assert!(fields(&exchange.upstream.headers, "authorization").is_empty());
}

#[test]
fn credentials_go_on_when_asked() {
    let config = format!("{}\nforward_credentials: true", ann());
    let plugin = Kit::new().instance(&PLUGIN, &config);
    let mut exchange = with("ann:secret");

    plugin.request(&mut exchange);
    plugin.upstream_request(&mut exchange);

    assert_eq!(fields(&exchange.upstream.headers, "authorization").len(), 1);
}

#[test]
fn the_scheme_has_no_case_and_passwords_may_hold_colons() {
    let config = format!("users: {{ann: {}}}", hash("a:b:ä"));
    let plugin = Kit::new().instance(&PLUGIN, &config);
    let field = format!("bAsIc {}", STANDARD.encode("ann:a:b:ä"));
    let mut exchange = Exchange::get("http://shop.test/").with("authorization", &field);

    assert!(went_on(&plugin.request(&mut exchange)));
}

#[test]
fn no_credentials_or_another_scheme_are_missing() {
    let plugin = Kit::new().instance(&PLUGIN, &ann());
    let plain = Exchange::get("http://shop.test/");
    let bearer = Exchange::get("http://shop.test/").with("authorization", "Bearer abc");

    assert_eq!(refusal(&plugin, plain), "auth.basic_missing");
    assert_eq!(refusal(&plugin, bearer), "auth.basic_missing");
}

#[test]
fn wrong_passwords_unknown_users_and_broken_fields_are_wrong() {
    let plugin = Kit::new().instance(&PLUGIN, &ann());
    let raw = |value: &str| Exchange::get("http://shop.test/").with("authorization", value);

    for exchange in [
        with("ann:wrong"),
        with("ann:"),
        with("bob:secret"),
        with(":"),
        with("no colon"),
        raw("Basic"),
        raw("Basic %%%"),
        with("ann:secret").with("authorization", "Basic YTpi"),
    ] {
        assert_eq!(refusal(&plugin, exchange), "auth.basic_wrong");
    }
}

#[test]
fn the_challenge_quotes_the_realm() {
    let config = format!("{}\nrealm: 'a \"b\" \\ c'", ann());
    let plugin = Kit::new().instance(&PLUGIN, &config);

    let answer = answered(plugin.request(&mut Exchange::get("http://shop.test/")));

    assert_eq!(
        field(&answer, "www-authenticate"),
        Some(r#"Basic realm="a \"b\" \\ c", charset="UTF-8""#)
    );
}

#[test]
fn right_credentials_are_hashed_once_and_again_when_forgotten() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, &ann());
    let log_in = || assert!(went_on(&plugin.request(&mut with("ann:secret"))));

    log_in();
    log_in();
    assert_eq!(kit.counted("hashed"), 1);
    kit.advance(Duration::from_secs(300));
    log_in();
    assert_eq!(kit.counted("hashed"), 2);
}

#[test]
fn wrong_credentials_are_hashed_every_time_also_of_unknown_users() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, &ann());

    for credentials in ["ann:wrong", "ann:wrong", "bob:x", "bob:x"] {
        refusal(&plugin, with(credentials));
    }

    assert_eq!(kit.counted("hashed"), 4);
    assert_eq!(kit.counted("refused"), 4);
}

#[test]
fn remembering_can_be_turned_off() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, &format!("{}\nremember: 0s", ann()));

    plugin.request(&mut with("ann:secret"));
    plugin.request(&mut with("ann:secret"));

    assert_eq!(kit.counted("hashed"), 2);
}

#[test]
fn a_reload_keeps_the_memory_but_not_of_a_changed_password() {
    let kit = Kit::new();
    let config = ann();
    let before = kit.instance(&PLUGIN, &config);
    assert!(went_on(&before.request(&mut with("ann:secret"))));

    let same = kit.instance(&PLUGIN, &config);
    assert!(went_on(&same.request(&mut with("ann:secret"))));
    assert_eq!(kit.counted("hashed"), 1);

    let changed = kit.instance(&PLUGIN, &format!("users: {{ann: {}}}", hash("new")));
    assert_eq!(refusal(&changed, with("ann:secret")), "auth.basic_wrong");
    let removed = kit.instance(&PLUGIN, &format!("users: {{bob: {}}}", hash("new")));
    assert_eq!(refusal(&removed, with("ann:secret")), "auth.basic_wrong");
}

#[test]
fn users_of_a_file_log_in_too() {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("bob:{}\r\n", hash("hidden").replace("$2b$", "$2y$"));
    std::fs::write(folder.path().join("users"), line).unwrap();
    let kit = Kit::new().in_folder(folder.path());
    let plugin = kit.instance(&PLUGIN, &format!("{}\nhtpasswd: users", ann()));

    assert!(went_on(&plugin.request(&mut with("ann:secret"))));
    assert!(went_on(&plugin.request(&mut with("bob:hidden"))));
}

/// Starts a request and leaves it waiting for bcrypt.
async fn start(request: &mut std::pin::Pin<Box<impl Future<Output = Verdict>>>) {
    std::future::poll_fn(|context| {
        assert!(request.as_mut().poll(context).is_pending());
        std::task::Poll::Ready(())
    })
    .await;
}

/// Runs a test on a runtime whose only blocking thread is taken until the test drops what it is given: until then
/// no bcrypt ends, however fast it is.
fn run<F: Future<Output = ()>>(test: impl FnOnce(std::sync::mpsc::Sender<()>) -> F) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.max_blocking_threads(1).build().unwrap();
    let (hold, held) = std::sync::mpsc::channel();
    runtime.spawn_blocking(move || held.recv());
    runtime.block_on(test(hold));
}

#[test]
fn beyond_running_and_waiting_the_plugin_is_busy() {
    let kit = Kit::new();
    let config = format!("{}\nmax_running: 1\nmax_waiting: 1", ann());
    let plugin = kit.instance(&PLUGIN, &config);
    let (plugin, counts) = (&plugin, &kit);
    run(|hold| async move {
        let (mut one, mut two, mut three) = (with("a:1"), with("b:2"), with("c:3"));
        let mut running = Box::pin(plugin.request_async(&mut one));
        let mut waiting = Box::pin(plugin.request_async(&mut two));
        start(&mut running).await;
        start(&mut waiting).await;

        let verdict = plugin.request_async(&mut three).await;
        drop(hold);

        assert!(
            matches!(&verdict, Verdict::Failed { cause, .. } if cause.name == "auth.basic_busy")
        );
        assert_eq!(answered(running.await).status, 401);
        assert_eq!(answered(waiting.await).status, 401);
        assert_eq!(counts.counted("busy"), 1);
    });
}

#[test]
fn whoever_waited_with_the_same_credentials_is_not_hashed_again() {
    let kit = Kit::new();
    let config = format!("{}\nmax_running: 1", ann());
    let plugin = kit.instance(&PLUGIN, &config);
    let (plugin, counts) = (&plugin, &kit);
    run(|hold| async move {
        let (mut one, mut two) = (with("ann:secret"), with("ann:secret"));
        let mut first = Box::pin(plugin.request_async(&mut one));
        start(&mut first).await;
        let mut second = Box::pin(plugin.request_async(&mut two));
        start(&mut second).await;
        drop(hold);

        assert!(went_on(&first.await) && went_on(&second.await));
        assert_eq!(counts.counted("hashed"), 1);
    });
}

#[test]
fn a_client_that_leaves_gives_its_place_back_once_bcrypt_is_done() {
    let config = format!("{}\nmax_running: 1\nmax_waiting: 1", ann());
    let plugin = Kit::new().instance(&PLUGIN, &config);
    run(|hold| async move {
        let mut left = with("ann:wrong");
        let mut leaving = Box::pin(plugin.request_async(&mut left));
        start(&mut leaving).await;
        drop(leaving);

        let mut next = with("ann:secret");
        let mut coming = Box::pin(plugin.request_async(&mut next));
        // The place is still taken: a client cannot start more work by leaving.
        start(&mut coming).await;
        drop(hold);
        assert!(went_on(&coming.await));
    });
}

#[test]
fn a_dry_run_decides_the_same_and_remembers_nothing() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, &ann());

    assert!(went_on(&plugin.request(&mut with("ann:secret").dry())));
    assert_eq!(
        refusal(&plugin, with("ann:wrong").dry()),
        "auth.basic_wrong"
    );
    assert_eq!((kit.counted("hashed"), kit.counted("refused")), (0, 0));
    assert!(went_on(&plugin.request(&mut with("ann:secret"))));
    assert_eq!(kit.counted("hashed"), 1);
}

#[test]
fn wrong_settings_are_located() {
    let kit = Kit::new();
    let with_users = |more: &str| format!("{}\n{more}", ann());

    assert_eq!(
        kit.problem_paths(&PLUGIN, &with_users("realm: \"a\\nb\"\nmax_running: 0")),
        ["realm", "max_running"]
    );
    assert_eq!(
        kit.problem_paths(&PLUGIN, &with_users("remember: long")),
        ["remember"]
    );
}
