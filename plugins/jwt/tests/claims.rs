//! What a token has to say, and what becomes of it.
//! It must not know signatures.
//! Part of the tests of `jwt`.

use super::*;
use crate::contract::{Consumer as Someone, Credential};
use crate::testkit::field;

fn outcome(kit: &Kit, more: &str, claims: &str) -> Result<String, &'static str> {
    let issuer = Issuer::of("HS256");
    let plugin = kit.instance(&PLUGIN, &config(&issuer, more));
    who(&plugin, &issuer.token(claims))
}

#[test]
fn a_token_holds_from_its_begin_to_its_end_with_the_skew() {
    let claims = |begin: &str| RIGHT.replace("\"iat\":1000", begin);
    for (seconds, begin, expected) in [
        (969, "\"nbf\":1000", Err("auth.jwt_not_yet_valid")),
        (970, "\"nbf\":1000", ann()),
        (969, "\"iat\":1000", Err("auth.jwt_not_yet_valid")),
        (2029, "\"nbf\":1000", ann()),
        (2030, "\"nbf\":1000", Err("auth.jwt_expired")),
        (970, "\"nbf\":1000.5", Err("auth.jwt_not_yet_valid")),
        (971, "\"nbf\":1000.5,\"iat\":1", ann()),
    ] {
        let outcome = outcome(&at(seconds), "", &claims(begin));
        assert_eq!(outcome, expected, "{seconds} {begin}");
    }
    let strict = outcome(&at(2000), "clock_skew: 0s", RIGHT);
    assert_eq!(strict, Err("auth.jwt_expired"));
}

#[test]
fn an_end_is_needed_unless_it_is_not_asked_for() {
    let endless = RIGHT.replace(",\"exp\":2000", "");

    assert_eq!(outcome(&at(1500), "", &endless), Err("auth.jwt_claim"));
    assert_eq!(outcome(&at(99_999), "require_exp: false", &endless), ann());
    let ended = outcome(&at(99_999), "require_exp: false", RIGHT);
    assert_eq!(ended, Err("auth.jwt_expired"));
}

#[test]
fn dates_are_numbers_from_1970_on() {
    for wrong in ["\"2000\"", "-1", "null", "[2000]", "true"] {
        let claims = RIGHT.replace("2000", wrong);
        assert_eq!(
            outcome(&at(1500), "", &claims),
            Err("auth.jwt_claim"),
            "{wrong}"
        );
    }
    let far = RIGHT.replace("2000", "1e300");
    assert_eq!(outcome(&at(1500), "", &far), ann());
    let overflowing = RIGHT.replace("2000", "1e999");
    assert_eq!(
        outcome(&at(1500), "", &overflowing),
        Err("auth.jwt_malformed")
    );
}

#[test]
fn issuer_and_audience_are_those_that_are_asked_for() {
    for (was, is, expected) in [
        ("id.test", "id.test/", Err("auth.jwt_issuer")),
        ("\"iss\":\"https://id.test\",", "", Err("auth.jwt_issuer")),
        (
            "\"https://id.test\"",
            "[\"https://id.test\"]",
            Err("auth.jwt_issuer"),
        ),
        ("\"orders\"", "\"Orders\"", Err("auth.jwt_audience")),
        ("\"aud\":\"orders\",", "", Err("auth.jwt_audience")),
        ("\"orders\"", "[]", Err("auth.jwt_audience")),
        ("\"orders\"", "{\"orders\":true}", Err("auth.jwt_audience")),
        ("\"orders\"", "[\"mail\",\"orders\"]", ann()),
    ] {
        let claims = RIGHT.replace(was, is);
        assert_eq!(outcome(&at(1500), "", &claims), expected, "{claims}");
    }
}

#[test]
fn claims_that_are_asked_for_have_to_be_there_and_right() {
    let claims = RIGHT.replace(
        '}',
        r#","tenant":"shop","realm":{"roles":["ops","dev"]},"level":3,"https://a.test/x":true}"#,
    );
    for (more, expected) in [
        ("required: [tenant, /realm/roles/0]", ann()),
        ("required: [https://a.test/x]", ann()),
        ("required: [nope]", Err("auth.jwt_claim")),
        ("required: [/realm/nope]", Err("auth.jwt_claim")),
        (
            "values: {tenant: [mall, shop], /realm/roles: ops, level: 3}",
            ann(),
        ),
        ("values: {tenant: mall}", Err("auth.jwt_claim")),
        ("values: {/realm: ops}", Err("auth.jwt_claim")),
        ("consumer: {claim: tenant}", Ok("consumer:shop".to_owned())),
        ("consumer: {claim: level}", Err("auth.jwt_claim")),
        ("consumer: {claim: azp}", Err("auth.jwt_claim")),
    ] {
        assert_eq!(outcome(&at(1500), more, &claims), expected, "{more}");
    }
    for sub in [
        "\"\"",
        "\"a\\u0000b\"",
        "\"a\\nb\"",
        &format!("\"{}\"", "a".repeat(257)),
    ] {
        let claims = RIGHT.replace("\"ann\"", sub);
        assert_eq!(
            outcome(&at(1500), "", &claims),
            Err("auth.jwt_claim"),
            "{sub}"
        );
    }
}

#[test]
fn the_type_keeps_other_tokens_of_the_issuer_out() {
    let issuer = Issuer::of("HS256");
    let plugin = at(1500).instance(&PLUGIN, &config(&issuer, "typ: at+jwt"));
    let of = |typ: &str| issuer.raw(&format!(r#"{{"alg":"HS256","typ":"{typ}"}}"#), RIGHT);

    assert_eq!(who(&plugin, &of("at+jwt")), ann());
    assert_eq!(who(&plugin, &of("application/AT+JWT")), ann());
    assert_eq!(who(&plugin, &of("JWT")), Err("auth.jwt_claim"));
    assert_eq!(who(&plugin, &issuer.token(RIGHT)), Err("auth.jwt_claim"));
}

#[test]
fn scopes_that_are_missing_are_named() {
    let issuer = Issuer::of("HS256");
    let scopes = "scopes: ['orders:read', 'orders:write']";
    let plugin = at(1500).instance(&PLUGIN, &config(&issuer, scopes));
    let of = |scope: &str| issuer.token(&RIGHT.replace('}', &format!(",{scope}}}")));

    assert_eq!(
        who(&plugin, &of(r#""scope":"a orders:write orders:read""#)),
        ann()
    );
    assert_eq!(
        who(&plugin, &of(r#""scp":["orders:read","orders:write"]"#)),
        ann()
    );
    let few = format!("Bearer {}", of(r#""scope":"orders:read orders:writer""#));
    let mut few = Exchange::get("https://shop.test/").with("authorization", &few);
    let answer = answered(plugin.request(&mut few));
    assert_eq!((answer.status, answer.cause), (403, &causes::SCOPE));
    assert_eq!(
        field(&answer, "www-authenticate"),
        Some("Bearer realm=\"Restricted\", error=\"insufficient_scope\", scope=\"orders:read orders:write\"")
    );
}

#[test]
fn challenges_say_what_is_wrong_and_nothing_of_the_token() {
    let issuer = Issuer::of("HS256");
    let plugin = at(1500).instance(&PLUGIN, &config(&issuer, "realm: 'the \"shop\"'"));
    let challenge = |exchange: Exchange| {
        let mut exchange = exchange;
        let answer = answered(plugin.request(&mut exchange));
        field(&answer, "www-authenticate").map(str::to_owned)
    };
    let get = || Exchange::get("https://shop.test/");
    let bare = "Bearer realm=\"the \\\"shop\\\"\"";

    assert_eq!(challenge(get()).as_deref(), Some(bare));
    let expired = issuer.token(&RIGHT.replace("2000", "1400"));
    let expired = get().with("authorization", &format!("Bearer {expired}"));
    let expected =
        format!("{bare}, error=\"invalid_token\", error_description=\"The token has expired\"");
    assert_eq!(challenge(expired), Some(expected));
}

#[test]
fn a_consumer_is_known_by_name_or_by_what_its_issuer_calls_it() {
    let someone = |name: &str| Someone {
        name: name.to_owned(),
        ..Someone::default()
    };
    let subject = |issuer: &str| Credential::Subject {
        issuer: issuer.to_owned(),
        subject: "4711".to_owned(),
    };
    let kit = at(1500)
        .with_consumer(someone("ann"), [subject("https://id.test")])
        .with_consumer(someone("bob"), [subject("https://other.test")]);
    let called = RIGHT.replace("\"ann\"", "\"4711\"");

    let by = |more: &str, claims: &str| outcome(&kit, &format!("consumer: {{{more}}}"), claims);

    assert_eq!(by("by: subject", &called), ann());
    assert_eq!(by("by: subject", RIGHT), Err("auth.jwt_consumer"));
    assert_eq!(by("required: true", RIGHT), ann());
    assert_eq!(by("required: true", &called), Err("auth.jwt_consumer"));
    assert_eq!(by("by: name", &called), Ok("consumer:4711".to_owned()));
}

#[test]
fn claims_go_on_as_fields_and_copies_of_clients_do_not() {
    let issuer = Issuer::of("HS256");
    let more = "optional: true\nheaders: {x-user: sub, x-roles: /realm/roles, x-realm: realm, x-none: nope, x-bad: bad}";
    let plugin = at(1500).instance(&PLUGIN, &config(&issuer, more));
    let claims = RIGHT.replace(
        '}',
        r#","realm":{"roles":["ops","a,b",7,"x\ny"]},"bad":"a\r\nx-admin: 1"}"#,
    );
    let forged = || {
        let names = ["x-user", "x-roles", "x-realm", "x-none", "x-bad", "x_user"];
        names
            .into_iter()
            .fold(Exchange::get("https://shop.test/"), |all, name| {
                all.with(name, "forged")
            })
    };
    let token = format!("Bearer {}", issuer.token(&claims));
    let mut with = forged().with("authorization", &token);
    let mut without = forged();

    assert_eq!(ask(&plugin, &mut with), ann());
    assert_eq!(ask(&plugin, &mut without), Ok(String::new()));

    let sent = |exchange: &Exchange, name: &str| {
        let value = exchange.request.headers.get(name);
        value.map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(sent(&with, "x-user").as_deref(), Some("ann"));
    assert_eq!(sent(&with, "x-roles").as_deref(), Some("ops,7"));
    assert!(sent(&with, "x-realm").unwrap().starts_with("{\"roles\":"));
    assert_eq!((sent(&with, "x-none"), sent(&with, "x-bad")), (None, None));
    assert!(!format!("{:?}", without.request.headers).contains("forged"));
    // A client that names a field in `Connection` has it taken away before; what goes upstream has it all the same.
    with.request.remove_header("x-user");
    plugin.upstream_request(&mut with);
    assert_eq!(with.upstream.headers.get("x-user").unwrap(), "ann");
}

#[test]
fn later_plugins_get_the_claims() {
    let issuer = Issuer::of("HS256");
    let plugin = at(1500).instance(&PLUGIN, &config(&issuer, ""));
    let token = format!("Bearer {}", issuer.token(RIGHT));
    let mut exchange = Exchange::get("https://shop.test/").with("authorization", &token);

    assert_eq!(ask(&plugin, &mut exchange), ann());

    let claims = exchange.principal().and_then(|who| who.claims.clone());
    assert_eq!(claims.unwrap()["aud"], "orders");
}
