use super::*;
use crate::contract::{Consumer, Credential};
use crate::testkit::{answered, field, went_on, Exchange, Instance, Kit};

fn kit() -> Kit {
    let ann = Consumer {
        name: "ann".to_owned(),
        ..Consumer::default()
    };
    let keys = [b"k1".as_slice(), b"a+b/c=="].map(|key| Credential::Key(key_hash(key)));
    Kit::new().with_consumer(ann, keys)
}

fn plugin(config: &str) -> Instance {
    kit().instance(&PLUGIN, config)
}

fn who(plugin: &Instance, mut exchange: Exchange) -> Result<String, &'static str> {
    match plugin.request(&mut exchange) {
        Verdict::Continue => Ok(exchange.principal().map_or(String::new(), Principal::id)),
        verdict => Err(answered(verdict).cause.name),
    }
}

const ALL: &str =
    "from: [{header: x-api-key}, {header: authorization}, {query: key}, {cookie: key}]";

#[test]
fn a_key_in_any_of_the_places_proves_its_consumer() {
    let plugin = plugin(ALL);
    let get = || Exchange::get("https://shop.test/");
    let ann = Ok("consumer:ann".to_owned());

    assert_eq!(who(&plugin, get().with("x-api-key", "k1")), ann);
    assert_eq!(who(&plugin, get().with("authorization", "bearer k1")), ann);
    assert_eq!(who(&plugin, get().with("authorization", "ApiKey k1")), ann);
    assert_eq!(
        who(&plugin, Exchange::get("https://shop.test/?a=1&key=k1")),
        ann
    );
    assert_eq!(
        who(&plugin, Exchange::get("https://shop.test/?key=a%2Bb/c==")),
        ann
    );
    assert_eq!(who(&plugin, get().with("cookie", "a=b; key=k1")), ann);
}

#[test]
fn what_is_missing_wrong_or_twice_is_refused_with_a_challenge() {
    let plugin = plugin(ALL);
    let get = || Exchange::get("https://shop.test/");

    assert_eq!(who(&plugin, get()), Err("auth.key_missing"));
    assert_eq!(
        who(&plugin, get().with("authorization", "Basic k1")),
        Err("auth.key_missing")
    );
    assert_eq!(
        who(&plugin, get().with("x-api-key", "")),
        Err("auth.key_missing")
    );
    assert_eq!(
        who(&plugin, get().with("x-api-key", "k2")),
        Err("auth.key_wrong")
    );
    let twice = get().with("x-api-key", "k1").with("x-api-key", "k1");
    assert_eq!(who(&plugin, twice), Err("auth.key_wrong"));
    assert_eq!(
        who(&plugin, Exchange::get("https://shop.test/?key=k1&key=k2")),
        Err("auth.key_wrong")
    );
    // A wrong key is not made good by a right one somewhere else.
    let both = get().with("x-api-key", "k2").with("cookie", "key=k1");
    assert_eq!(who(&plugin, both), Err("auth.key_wrong"));
    let long = "k".repeat(LONGEST_KEY + 1);
    assert_eq!(
        who(&plugin, get().with("x-api-key", &long)),
        Err("auth.key_wrong")
    );
    let answer = answered(plugin.request(&mut get()));
    assert_eq!(
        field(&answer, "www-authenticate"),
        Some("ApiKey realm=\"Restricted\"")
    );
}

#[test]
fn without_a_key_an_optional_one_lets_go_on_unproven() {
    let plugin = plugin("optional: true");

    assert_eq!(
        who(&plugin, Exchange::get("https://shop.test/")),
        Ok(String::new())
    );
    let wrong = Exchange::get("https://shop.test/").with("x-api-key", "k2");
    assert_eq!(who(&plugin, wrong), Err("auth.key_wrong"));
}

#[test]
fn keys_end_here_unless_they_are_to_go_on() {
    let sent = |config: &str| {
        let mut exchange = Exchange::get("https://shop.test/a?x=1&key=k1&y")
            .with("x-api-key", "k1")
            .with("cookie", "a=b; key=k1; c=d");
        let plugin = plugin(&format!("{ALL}\n{config}"));
        assert!(went_on(&plugin.request(&mut exchange)));
        plugin.upstream_request(&mut exchange);
        let head = &exchange.upstream;
        let text = |name: &str| {
            head.headers
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        (head.uri.to_string(), text("x-api-key"), text("cookie"))
    };

    let (target, field, cookie) = sent("");
    assert_eq!((&*target, field), ("/a?x=1&y", None));
    assert_eq!(cookie.as_deref(), Some("a=b; c=d"));
    let (target, field, _) = sent("forward_credentials: true");
    assert_eq!(
        (&*target, field.as_deref()),
        ("/a?x=1&key=k1&y", Some("k1"))
    );
}

#[test]
fn a_request_that_was_only_a_key_is_still_one() {
    let mut exchange = Exchange::get("https://shop.test/a?key=k1").with("cookie", "key=k1");
    let plugin = plugin(ALL);

    plugin.upstream_request(&mut exchange);

    assert_eq!(exchange.upstream.uri.to_string(), "/a");
    assert!(!exchange.upstream.headers.contains_key("cookie"));
}

#[test]
fn wrong_settings_are_located() {
    let paths = |config: &str| kit().problem_paths(&PLUGIN, config);

    assert_eq!(paths("from: []"), ["from"]);
    assert_eq!(paths("from: [{header: 'a b'}]"), ["from[0].header"]);
    assert_eq!(
        paths("from: [{query: 'a=b'}, {cookie: ''}]"),
        ["from[0].query", "from[1].cookie"]
    );
    assert_eq!(paths("from: [{query: k}, {query: k}]"), ["from[1]"]);
    assert_eq!(paths("realm: \"a\\nb\""), ["realm"]);
    assert_eq!(
        Kit::new().problem_paths(&PLUGIN, "{}"),
        [""],
        "nobody has a key"
    );
}

#[test]
fn a_dry_run_decides_the_same_and_counts_nothing() {
    let kit = kit();
    let plugin = kit.instance(&PLUGIN, "{}");

    let verdict = plugin.request(&mut Exchange::get("https://shop.test/").dry());

    assert_eq!(answered(verdict).cause, &MISSING);
    assert_eq!(kit.counted("refused"), 0);
}

proptest::proptest! {
    #[test]
    fn no_query_or_cookie_makes_a_panic(query in "[ -~]{0,80}", cookie in "[ -~]{0,80}") {
        let plugin = plugin(ALL);
        let Ok(target) = format!("https://shop.test/?{query}").parse::<http::Uri>() else {
            return Ok(());
        };
        let mut exchange = Exchange::get(&target.to_string()).with("cookie", &cookie);
        let _ = plugin.request(&mut exchange);
        let _ = plugin.upstream_request(&mut exchange);
    }
}

#[test]
fn a_parameter_is_known_however_its_name_is_encoded() {
    let plugin = plugin("from: [{query: key}]");
    let get = |query: &str| Exchange::get(&format!("https://shop.test/?{query}"));

    assert!(who(&plugin, get("%6bey=k1")).is_ok());
    assert_eq!(who(&plugin, get("key=k1&k%65y=k2")), Err("auth.key_wrong"));
    let mut exchange = get("a=1&k%65y=k1");
    plugin.request(&mut exchange);
    plugin.upstream_request(&mut exchange);
    assert_eq!(exchange.upstream.uri, "/?a=1");
}

#[test]
fn the_proxy_is_told_where_keys_travel() {
    let config = "from: [{header: X-Client}, {query: k}, {cookie: c}]";

    assert_eq!(plugin(config).hooks.credentials, ["x-client", "k"]);
}
