use super::*;
use crate::contract::{key_hash, Consumer, Credential, SigningKey};
use crate::testkit::{answered, fields, Exchange, Instance, Kit};

fn kit() -> Kit {
    let ann = Consumer {
        name: "ann".to_owned(),
        ..Consumer::default()
    };
    let key = SigningKey::secret(b"0123456789abcdef0123456789abcdef").unwrap();
    let signing = Credential::Signing {
        id: "k".to_owned(),
        key,
    };
    // bcrypt of `U*U`.
    let password = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW".to_owned();
    let credentials = [
        Credential::Key(key_hash(b"k1")),
        signing,
        Credential::Password(password),
    ];
    Kit::new().with_consumer(ann, credentials)
}

const EITHER: &str = "of: [{kind: key_auth}, {kind: basic_auth}]";
const BOTH: &str = "need: all\nof: [{kind: key_auth}, {kind: basic_auth}]";
/// `ann:U*U`, and `ann:wrong`.
const RIGHT: &str = "Basic YW5uOlUqVQ==";
const WRONG: &str = "Basic YW5uOndyb25n";

fn get() -> Exchange {
    Exchange::get("https://shop.test/")
}

fn who(plugin: &Instance, exchange: Exchange) -> Result<String, &'static str> {
    let mut exchange = exchange;
    match plugin.request(&mut exchange) {
        Verdict::Continue => Ok(exchange.principal().map_or(String::new(), Principal::id)),
        Verdict::Failed { cause, .. } => Err(cause.name),
        Verdict::Unknown(_) => Err("unknown"),
        verdict => Err(answered(verdict).cause.name),
    }
}

fn ann() -> Result<String, &'static str> {
    Ok("consumer:ann".to_owned())
}

#[test]
fn any_of_them_is_enough() {
    let plugin = kit().instance(&PLUGIN, EITHER);

    assert_eq!(who(&plugin, get().with("x-api-key", "k1")), ann());
    assert_eq!(who(&plugin, get().with("authorization", RIGHT)), ann());
    let wrong_key = get().with("x-api-key", "k2").with("authorization", RIGHT);
    assert_eq!(who(&plugin, wrong_key), ann(), "the other one is right");
}

#[test]
fn the_answer_is_of_the_first_whose_credentials_came_with_all_challenges() {
    let plugin = kit().instance(&PLUGIN, EITHER);
    let answer = |exchange: Exchange| {
        let mut exchange = exchange;
        let answer = answered(plugin.request(&mut exchange));
        exchange.answer(&answer);
        let challenges = fields(&exchange.response.headers, "www-authenticate");
        let challenges: Vec<String> = challenges.into_iter().map(str::to_owned).collect();
        (answer.cause.name, challenges)
    };

    let (none, challenges) = answer(get());
    assert_eq!(none, "auth.key_missing");
    assert_eq!(challenges.len(), 2);
    assert!(challenges[0].starts_with("ApiKey ") && challenges[1].starts_with("Basic "));
    let (wrong, challenges) = answer(get().with("authorization", WRONG));
    assert_eq!((wrong, challenges.len()), ("auth.basic_wrong", 2));
    let both = get().with("authorization", WRONG).with("x-api-key", "k2");
    assert_eq!(answer(both).0, "auth.key_wrong");
}

#[test]
fn without_any_credentials_an_optional_one_lets_go_on_unproven() {
    for config in [
        &format!("{EITHER}\noptional: true"),
        "of: [{kind: key_auth, config: {optional: true}}, {kind: basic_auth}]",
    ] {
        let plugin = kit().instance(&PLUGIN, config);
        assert_eq!(who(&plugin, get()), Ok(String::new()));
        assert_eq!(who(&plugin, get().with("authorization", RIGHT)), ann());
        let wrong = who(&plugin, get().with("authorization", WRONG));
        assert_eq!(wrong, Err("auth.basic_wrong"));
        let proven = who(&plugin, get().as_consumer("before"));
        assert_eq!(proven, Ok("consumer:before".to_owned()));
    }
}

#[test]
fn nobody_from_before_makes_good_what_is_wrong() {
    let plugin = kit().instance(&PLUGIN, EITHER);

    assert_eq!(
        who(&plugin, get().as_consumer("before")),
        Err("auth.key_missing")
    );
}

#[test]
fn all_of_them_have_to_let_it_go_on() {
    let plugin = kit().instance(&PLUGIN, BOTH);
    let both = || get().with("x-api-key", "k1").with("authorization", RIGHT);

    assert_eq!(who(&plugin, both()), ann());
    assert_eq!(
        who(&plugin, get().with("x-api-key", "k1")),
        Err("auth.basic_missing")
    );
    assert_eq!(
        who(&plugin, get().with("authorization", RIGHT)),
        Err("auth.key_missing")
    );
}

#[test]
fn all_credentials_end_here_whichever_was_right() {
    let plugin = kit().instance(&PLUGIN, EITHER);
    let mut exchange = get().with("x-api-key", "k1").with("authorization", WRONG);

    assert!(matches!(plugin.request(&mut exchange), Verdict::Continue));
    plugin.upstream_request(&mut exchange);

    assert!(!exchange.upstream.headers.contains_key("x-api-key"));
    assert!(!exchange.upstream.headers.contains_key("authorization"));
}

#[test]
fn one_that_cannot_do_its_work_goes_before_refusals_but_not_before_a_proof() {
    let jwt = "{kind: jwt, config: {issuer: any, audience: any, jwks: {url: https://id.test/}}}";
    let plugin = kit().instance(&PLUGIN, &format!("of: [{jwt}, {{kind: key_auth}}]"));
    let token = || get().with("authorization", "Bearer a.b.c");

    assert_eq!(plugin.hooks.background.len(), 1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut dry = token().dry();
    let verdict = runtime.block_on(plugin.request_async(&mut dry));
    assert!(matches!(verdict, Verdict::Unknown(_)));
    assert_eq!(who(&plugin, token().with("x-api-key", "k1").dry()), ann());
    let mut task = kit_task(&plugin);
    assert!(task.go_on());
    assert_eq!(who(&plugin, token().with("x-api-key", "k1")), ann());
    assert_eq!(
        who(&plugin, token().with("x-api-key", "k2")),
        Err("auth.keys_unavailable")
    );
    assert!(!task.end());
}

fn kit_task(plugin: &Instance) -> crate::testkit::Task {
    kit().task(plugin, "nested")
}

#[test]
fn they_can_be_nested_and_problems_say_where() {
    let nested = "of: [{kind: auth, config: {need: all, of: [{kind: key_auth}, {kind: basic_auth}]}}, {kind: hmac_auth}]";
    let plugin = kit().instance(&PLUGIN, nested);
    let both = get().with("x-api-key", "k1").with("authorization", RIGHT);
    assert_eq!(who(&plugin, both), ann());
    let paths = |config: &str| kit().problem_paths(&PLUGIN, config);

    assert_eq!(paths("of: [{kind: key_auth}]"), ["of"]);
    assert_eq!(
        paths("of: [{kind: key_auth}, {kind: key_aut}]"),
        ["of[1].kind"]
    );
    assert_eq!(
        paths("of: [{kind: key_auth}, {kind: request_id}]"),
        ["of[1].kind"]
    );
    assert_eq!(
        paths("of: [{kind: key_auth, config: {from: []}}, {kind: basic_auth, config: {nope: 1}}]"),
        ["of[0].config.from", "of[1].config.nope"]
    );
    assert_eq!(
        paths("of: [{kind: auth, config: {of: [{kind: x}, {kind: key_auth}]}}, {kind: key_auth}]"),
        ["of[0].config.of[0].kind"]
    );
    assert_eq!(paths(&format!("{BOTH}\noptional: true")), ["optional"]);
}

#[test]
fn a_dry_run_is_told_what_each_of_them_says() {
    let plugin = kit().instance(
        &PLUGIN,
        "of: [{kind: auth, config: {of: [{kind: key_auth}, {kind: hmac_auth}]}}, {kind: basic_auth}, {kind: key_auth, config: {from: [{header: x-b}]}}]",
    );
    let mut exchange = get().with("authorization", RIGHT).dry();

    assert!(crate::testkit::went_on(&plugin.request(&mut exchange)));

    let parts = exchange.parts();
    let told: Vec<_> = parts
        .iter()
        .map(|part| (&*part.kind, &*part.path, part.depth, &part.turn))
        .collect();
    let absent = |cause: &'static Cause| PartTurn::Answered(401, cause);
    let expected = [
        ("auth", "of[0]", 0, absent(&crate::key_auth::MISSING)),
        ("key_auth", "of[0]", 1, absent(&crate::key_auth::MISSING)),
        (
            "hmac_auth",
            "of[1]",
            1,
            absent(crate::hmac_auth::PLUGIN.absent.unwrap()),
        ),
        (
            "basic_auth",
            "of[1]",
            0,
            PartTurn::Continued(Some("consumer:ann".to_owned())),
        ),
        ("key_auth", "of[2]", 0, PartTurn::NotReached),
    ];
    let expected: Vec<_> = expected
        .iter()
        .map(|(kind, path, depth, turn)| (*kind, *path, *depth, turn))
        .collect();
    assert_eq!(told, expected);

    let mut live = get().with("authorization", RIGHT);
    plugin.request(&mut live);
    assert!(live.parts().is_empty());
}

#[test]
fn what_wants_the_body_is_no_part_of_it() {
    let config = "of: [{kind: key_auth}, {kind: forward_auth, config: {service: 'http://a/', method: original, with_request_body: {max_bytes: 1B}}}]";

    assert_eq!(kit().problem_paths(&PLUGIN, config), ["of[1].kind"]);
}

/// Two issuers, told apart by their secrets, whose tokens both say who `x-user` is.
const ISSUERS: &str = "
- {kind: key_auth}
- {kind: jwt, config: {issuer: any, audience: any, require_exp: false, headers: {x-user: sub}, keys: [{secret: 0123456789abcdef0123456789abcdef}]}}
- {kind: jwt, config: {issuer: any, audience: any, require_exp: false, headers: {x_user: sub}, keys: [{secret: fedcba9876543210fedcba9876543210}]}}";

fn token(secret: &[u8]) -> String {
    let issuer = crate::jwt::tests::Issuer::with_secret(secret);
    let token = issuer.raw(r#"{"alg":"HS256"}"#, r#"{"sub":"eve"}"#);
    format!("Bearer {token}")
}

#[test]
fn what_the_one_that_decides_says_is_not_taken_away_by_others() {
    let one = ("0123456789abcdef0123456789abcdef", "x-user");
    let other = ("fedcba9876543210fedcba9876543210", "x_user");
    for (secret, name) in [one, other] {
        for config in [
            format!("of: {ISSUERS}"),
            format!(
                "of:\n- {{kind: key_auth}}\n- kind: auth\n  config:\n    of: {}",
                ISSUERS.replace('\n', "\n    ")
            ),
        ] {
            let plugin = kit().instance(&PLUGIN, &config);
            let mut exchange = get()
                .with("authorization", &token(secret.as_bytes()))
                .with("x-user", "admin");

            assert!(matches!(plugin.request(&mut exchange), Verdict::Continue));
            plugin.upstream_request(&mut exchange);

            for head in [&exchange.request, &exchange.upstream] {
                assert_eq!(fields(&head.headers, name), ["eve"], "{config}");
                let spelled = ["x-user", "x_user"];
                let count = spelled.map(|name| fields(&head.headers, name).len());
                assert_eq!(count.iter().sum::<usize>(), 1);
            }
        }
    }
}

#[test]
fn what_only_those_may_say_that_were_not_asked_is_taken_away_at_once() {
    let plugin = kit().instance(&PLUGIN, &format!("of: {ISSUERS}"));
    let mut exchange = get().with("x-api-key", "k1").with("x-user", "admin");

    assert!(matches!(plugin.request(&mut exchange), Verdict::Continue));

    // Also for plugins behind this one, and for policies.
    assert!(!exchange.request.headers.contains_key("x-user"));
}

#[test]
fn what_changes_responses_is_no_part_of_it() {
    let forward = |more: &str| {
        format!("of: [{{kind: key_auth}}, {{kind: forward_auth, config: {{service: 'http://a/'{more}}}}}]")
    };
    let grpc = |more: &str| {
        format!(
            "of: [{{kind: key_auth}}, {{kind: ext_authz, config: {{service: 'h2c://a/'{more}}}}}]"
        )
    };

    assert_eq!(kit().problem_paths(&PLUGIN, &forward("")), [""; 0]);
    let adds = forward(", response_headers: [x-a]");
    assert_eq!(kit().problem_paths(&PLUGIN, &adds), ["of[1].kind"]);
    assert_eq!(kit().problem_paths(&PLUGIN, &grpc("")), ["of[1].kind"]);
    assert_eq!(
        kit().problem_paths(&PLUGIN, &grpc(", response_headers: []")),
        [""; 0]
    );
    let cors = "of: [{kind: key_auth}, {kind: cors, config: {origins: ['*']}}]";
    assert_eq!(kit().problem_paths(&PLUGIN, cors), ["of[1].kind"]);
}
