use std::collections::BTreeMap;

use super::*;
use crate::contract::{Consumer, Principal};
use crate::testkit::{answered, Exchange, Instance, Kit};

fn kit() -> Kit {
    let ann = Consumer {
        name: "ann".to_owned(),
        groups: ["staff".to_owned()].into(),
        metadata: BTreeMap::from([("plan".to_owned(), "gold".to_owned())]),
    };
    Kit::new().with_consumer(ann, [])
}

fn plugin(config: &str) -> Instance {
    kit().instance(&PLUGIN, config)
}

fn says(plugin: &Instance, mut exchange: Exchange) -> Result<(), &'static str> {
    match plugin.request(&mut exchange) {
        Verdict::Continue => Ok(()),
        Verdict::Failed { cause, .. } => Err(cause.name),
        verdict => Err(answered(verdict).cause.name),
    }
}

fn get() -> Exchange {
    Exchange::get("https://shop.test/shop/a?x=1").with("x-tenant", "shop")
}

/// A request of somebody with a token that says this.
fn with_claims(claims: &str) -> Exchange {
    let claims = serde_json::from_str(claims).unwrap();
    let principal = Principal {
        claims: Some(Arc::new(claims)),
        ..Principal::consumer("ann")
    };
    get().proven(principal)
}

#[test]
fn expressions_read_the_request_and_who_calls() {
    for text in [
        "request.method == 'GET' && request.host == 'shop.test'",
        "request.path.startsWith('/shop/') && request.query == 'x=1'",
        "request.headers['x-tenant'] == 'shop'",
        "!('x-none' in request.headers)",
        "source.address == '192.0.2.1' && source.secure",
        "destination.listener == 'test' && destination.route == 'test'",
        "source.consumer == 'ann' && source.principal == 'consumer:ann'",
        "'staff' in source.groups && source.groups.exists(g, g.startsWith('st'))",
        "source.metadata.plan == 'gold' && size(source.metadata) == 1",
        "request.headers.exists(name, name == 'x-tenant')",
        "source.secure",
        "size(claims) == 0",
    ] {
        let plugin = plugin(&format!("allow: {text:?}"));
        assert_eq!(says(&plugin, get().as_consumer("ann")), Ok(()), "{text}");
    }
    let unproven = plugin("allow: source.consumer == '' && size(source.groups) == 0");
    assert_eq!(says(&unproven, get()), Ok(()));
}

#[test]
fn expressions_read_claims() {
    let claims = r#"{"sub":"ann","admin":true,"level":3,"share":0.5,"realm":{"roles":["ops","dev"]},"https://a.test/x":"y"}"#;
    for text in [
        "claims.sub == 'ann' && claims.admin",
        "claims.admin",
        "claims['admin'] == true",
        "claims.level == 3 && claims.level >= 2 && claims.level + 1 == 4",
        "claims.share < 1.0",
        "'ops' in claims.realm.roles && size(claims.realm.roles) == 2",
        "claims.realm.roles.all(role, role != 'root')",
        "claims['https://a.test/x'] == 'y'",
        "has(claims.realm.roles) && !has(claims.realm.nope)",
        "request.path.startsWith('/' + string(request.headers['x-tenant']) + '/')",
    ] {
        let plugin = plugin(&format!("allow: {text:?}"));
        assert_eq!(says(&plugin, with_claims(claims)), Ok(()), "{text}");
    }
}

#[test]
fn who_is_denied_is_refused_and_where_some_are_allowed_the_others_are() {
    let plugin = plugin("deny: request.method == 'DELETE'\nallow: [source.consumer == 'ann', source.consumer == 'bob']");

    assert_eq!(says(&plugin, get().as_consumer("bob")), Ok(()));
    assert_eq!(says(&plugin, get()), Err("policy_denied.cel"));
    let delete = Exchange::new("DELETE", "https://shop.test/").as_consumer("ann");
    assert_eq!(says(&plugin, delete), Err("policy_denied.cel"));
    let only_deny = self::plugin("deny: request.method == 'DELETE'");
    assert_eq!(says(&only_deny, get()), Ok(()));
}

#[test]
fn what_has_no_outcome_lets_nobody_in_and_has_its_own_cause() {
    for text in [
        "request.headers['x-none'] == 'a'",
        "claims.nope == 'a'",
        "source.metadata.plan == 'gold'",
        "claims.sub",
        "int(request.query) == 1",
    ] {
        let plugin = plugin(&format!("allow: {text:?}"));
        assert_eq!(says(&plugin, get()), Err("policy_failed.cel"), "{text}");
        let plugin = self::plugin(&format!("deny: {text:?}"));
        assert_eq!(says(&plugin, get()), Err("policy_failed.cel"), "{text}");
    }
    let other = plugin("allow: [claims.nope == 'a', request.method == 'GET']");
    assert_eq!(says(&other, get()), Ok(()));
}

#[test]
fn expressions_that_cannot_be_used_are_located() {
    let paths = |config: &str| kit().problem_paths(&PLUGIN, config);

    assert_eq!(paths("{}"), [""]);
    assert_eq!(paths("allow: request.verb == 'a'"), ["allow[0]"]);
    assert_eq!(
        paths("deny: ['request.method ==', source.secure]"),
        ["deny[0]"]
    );
    let many = vec!["source.secure"; 33].join(", ");
    assert_eq!(paths(&format!("allow: [{many}]")), ["allow"]);
    for text in [
        "request.method",
        "claims.roles.map(r, r)",
        "claims.a.all(x, claims.b.exists(y, x == y))",
        "source.metadata.a.b == 'c'",
        "request.path.matches('a+')",
        "r.exists(r, r == 'a')",
    ] {
        assert_eq!(paths(&format!("allow: {text:?}")), ["allow[0]"], "{text}");
    }
}

#[test]
fn a_dry_run_decides_the_same_and_counts_nothing() {
    let kit = kit();
    let plugin = kit.instance(&PLUGIN, "deny: source.secure");

    assert_eq!(says(&plugin, get().dry()), Err("policy_denied.cel"));
    assert_eq!(kit.counted("refused"), 0);
}

proptest::proptest! {
    #[test]
    fn no_request_makes_a_panic(value in "[ -~]{0,80}", query in "[a-z0-9=&%+]{0,40}") {
        let plugin = plugin("allow: request.headers['x-a'] == request.query || claims.a.b.c == 1\ndeny: request.headers.exists(n, n == request.query)");
        let exchange = Exchange::get(&format!("https://shop.test/?{query}")).with("x-a", &value);
        let _ = says(&plugin, exchange);
    }
}

#[test]
fn a_field_that_is_no_text_is_still_there() {
    let plugin = plugin("deny: \"'x-odd' in request.headers\"");
    let mut exchange = get();
    let odd = http::HeaderValue::from_bytes(b"a\xff").unwrap();
    exchange.request.insert_header("x-odd", odd).unwrap();

    assert_eq!(says(&plugin, exchange), Err("policy_denied.cel"));
}
