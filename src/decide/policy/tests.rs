//! Tests of rulings, without a configuration: order, audit, what is not known.
//! They must not know how a refusal is told.
//! Run by `cargo test`.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, Method};
use windrose_plugins::contract::{causes, Principal, PrincipalKind};

use super::subject::Workload;
use super::*;
use crate::decide::Head;
use crate::observe::metrics::Metrics;
use crate::snapshot::net::NetSet;
use crate::snapshot::policy::{
    expression, Effect, From, Mode, PolicyRule, PolicySet, Services, Target, When, NO_POLICY,
};
use crate::snapshot::route::{HostPattern, PathPattern, PrincipalPattern};

mod targets;

fn workload(name: &str) -> Principal {
    Principal::new(PrincipalKind::Workload, name)
}

fn web() -> Principal {
    workload("spiffe://mesh.test/ns/shop/sa/web")
}

/// A policy with these rules; `deny` and `audit` are read from its name.
fn policy(name: &str, rules: Vec<(From, When)>) -> Policy {
    let metrics = Metrics::new(100);
    let rules = rules
        .into_iter()
        .enumerate()
        .map(|(at, (from, when))| PolicyRule {
            path: "".into(),
            place: "gw.yaml:1".into(),
            from,
            when,
            metrics: metrics.policy(name, &at.to_string()),
        });
    Policy {
        name: name.into(),
        place: "gw.yaml:1".into(),
        effect: match name.contains("deny") {
            true => Effect::Deny,
            false => Effect::Allow,
        },
        mode: match name.contains("audit") {
            true => Mode::Audit,
            false => Mode::Enforce,
        },
        target: Target::default(),
        rules: rules.collect(),
        unmatched: metrics.policy(name, ""),
    }
}

fn set(default: Effect, mut policies: Vec<Policy>) -> PolicySet {
    policies.sort_by_key(|policy| policy.effect == Effect::Allow);
    PolicySet {
        default,
        default_place: "".into(),
        has_audit: policies.iter().any(|policy| policy.mode == Mode::Audit),
        policies: policies.into_iter().map(Arc::new).collect(),
        unmatched: Metrics::new(100).policy(NO_POLICY, ""),
    }
}

fn of(principals: &[&str]) -> From {
    From {
        principals: principals
            .iter()
            .map(|it| PrincipalPattern::new(it))
            .collect(),
        ..From::default()
    }
}

fn not_of(principals: &[&str]) -> From {
    From {
        not_principals: of(principals).principals,
        ..From::default()
    }
}

fn under(path: &str) -> When {
    When {
        paths: [PathPattern::Prefix(path.into())].into(),
        ..When::default()
    }
}

fn any() -> (From, When) {
    (From::default(), When::default())
}

/// What becomes of `GET /admin/x` by this caller: the cause, or `ok`, and what decided.
fn asked(set: &PolicySet, principal: Option<&Principal>) -> (&'static str, String) {
    ruled(set, principal, Some("/admin/x"))
}

fn ruled(
    set: &PolicySet,
    principal: Option<&Principal>,
    path: Option<&str>,
) -> (&'static str, String) {
    let headers = HeaderMap::new();
    let head = path.map(|path| Head {
        method: &Method::GET,
        host: "shop.test",
        path,
        query: None,
        headers: &headers,
    });
    let ruling = authorize(set, &subject(principal, head), &mut Deaf);
    let word = ruling.cause.map_or("ok", |cause| cause.name);
    (word, ruling.by.to_string())
}

fn subject<'a>(principal: Option<&'a Principal>, http: Option<Head<'a>>) -> Subject<'a> {
    Subject {
        principal,
        peer: None,
        client: IpAddr::from([10, 1, 2, 3]),
        port: Some(8443),
        listener: "mesh",
        route: "shop",
        pool: "app",
        sni: None,
        http,
    }
}

#[test]
fn without_policies_the_default_decides() {
    assert_eq!(
        asked(&set(Effect::Allow, vec![]), None),
        ("ok", "default".into())
    );
    assert_eq!(
        asked(&set(Effect::Deny, vec![]), None),
        ("policy_denied", "default".into())
    );
}

#[test]
fn a_denial_comes_before_what_allows_and_before_the_default() {
    let policies = || {
        vec![
            policy("allow", vec![any()]),
            policy(
                "deny",
                vec![(of(&["spiffe://mesh.test/ns/shop/*"]), under("/admin"))],
            ),
        ]
    };
    let set = set(Effect::Allow, policies());

    assert_eq!(
        asked(&set, Some(&web())),
        ("policy_denied", "deny[0]".into())
    );
    assert_eq!(ruled(&set, Some(&web()), Some("/administrator")).0, "ok");
    assert_eq!(
        asked(&set, Some(&workload("spiffe://mesh.test/ns/ops/sa/a"))).0,
        "ok"
    );
}

#[test]
fn where_something_allows_nothing_else_is() {
    let set = set(
        Effect::Allow,
        vec![
            policy(
                "ops",
                vec![(of(&["spiffe://mesh.test/ns/ops/*"]), When::default())],
            ),
            policy("api", vec![(From::default(), under("/api"))]),
        ],
    );

    assert_eq!(asked(&set, Some(&web())), ("policy_denied", "ops".into()));
    assert_eq!(
        ruled(&set, Some(&web()), Some("/api")),
        ("ok", "api[0]".into())
    );
}

#[test]
fn a_policy_without_rules_matches_nothing() {
    let none = |name| set(Effect::Allow, vec![policy(name, vec![])]);

    assert_eq!(asked(&none("allow"), Some(&web())).0, "policy_denied");
    assert_eq!(asked(&none("deny"), Some(&web())).0, "ok");
}

#[test]
fn a_caller_of_whom_nothing_is_proven_is_told_so() {
    let allow = set(
        Effect::Allow,
        vec![policy("allow", vec![(of(&["*"]), When::default())])],
    );
    let all_but = set(
        Effect::Allow,
        vec![policy(
            "allow",
            vec![(not_of(&["consumer:x"]), When::default())],
        )],
    );
    let strict = set(
        Effect::Allow,
        vec![policy("deny", vec![(not_of(&["*"]), When::default())])],
    );
    let one = set(
        Effect::Allow,
        vec![policy(
            "deny",
            vec![(of(&["spiffe://mesh.test/*"]), When::default())],
        )],
    );

    for set in [&allow, &all_but, &strict] {
        assert_eq!(asked(set, None).0, "identity_missing");
        assert_eq!(asked(set, Some(&web())).0, "ok");
    }
    // Nobody is not the one who is denied.
    assert_eq!(asked(&one, None).0, "ok");
}

#[test]
fn what_cannot_be_known_of_bytes_counts_against_the_caller() {
    let deny = set(
        Effect::Allow,
        vec![policy("deny", vec![(From::default(), under("/admin"))])],
    );
    let allow = set(
        Effect::Allow,
        vec![policy("allow", vec![(From::default(), under("/"))])],
    );
    let ports = When {
        ports: [8443].into(),
        ..When::default()
    };
    let port = set(
        Effect::Deny,
        vec![policy("allow", vec![(From::default(), ports)])],
    );

    assert_eq!(ruled(&deny, Some(&web()), None).0, "policy_denied");
    assert_eq!(ruled(&allow, Some(&web()), None).0, "policy_denied");
    assert_eq!(ruled(&port, Some(&web()), None).0, "ok");
}

#[test]
fn the_name_in_tls_is_the_host_of_bytes() {
    let hosts = When {
        hosts: [HostPattern::new("*.db.test")].into(),
        ..When::default()
    };
    let set = set(
        Effect::Allow,
        vec![policy("deny", vec![(From::default(), hosts)])],
    );
    let with = |sni| {
        let subject = Subject {
            sni,
            ..subject(None, None)
        };
        authorize(&set, &subject, &mut Deaf).allows()
    };

    assert!(!with(Some("a.db.test")) && with(Some("a.test")) && !with(None));
}

#[test]
fn networks_narrow_a_rule_and_take_from_it() {
    let nets = |net: &str| NetSet::new([net.parse().unwrap()]);
    let from = From {
        clients: nets("10.0.0.0/8"),
        not_clients: nets("10.1.0.0/16"),
        ..From::default()
    };
    let set = set(
        Effect::Allow,
        vec![policy("deny", vec![(from, When::default())])],
    );
    let allows = |client: [u8; 4]| {
        let subject = Subject {
            client: client.into(),
            ..subject(None, None)
        };
        authorize(&set, &subject, &mut Deaf).allows()
    };

    assert!(!allows([10, 2, 0, 1]) && allows([10, 1, 0, 1]) && allows([11, 0, 0, 1]));
}

#[test]
fn parts_of_a_workloads_id_can_be_asked_for() {
    let shop = From {
        namespaces: [PrincipalPattern::new("sho*")].into(),
        trust_domains: ["mesh.test".into()].into(),
        service_accounts: [(Some("shop".into()), PrincipalPattern::new("web"))].into(),
        ..From::default()
    };
    let set = set(
        Effect::Deny,
        vec![policy("allow", vec![(shop, When::default())])],
    );
    let consul = workload("spiffe://mesh.test/ns/shop/dc/east/svc/web");

    assert_eq!(asked(&set, Some(&web())).0, "ok");
    assert_eq!(asked(&set, Some(&consul)).0, "ok");
    for id in [
        "spiffe://other.test/ns/shop/sa/web",
        "spiffe://mesh.test/ns/web/sa/web",
        "spiffe://mesh.test/ns/shop/sa/webber",
    ] {
        assert_eq!(asked(&set, Some(&workload(id))).0, "policy_denied", "{id}");
    }
    // They have none of the parts, and are known to be somebody else.
    let consumer = Principal::consumer("web");
    for other in [workload("spiffe://mesh.test/some/path"), consumer] {
        assert_eq!(asked(&set, Some(&other)).0, "policy_denied");
    }
    assert_eq!(asked(&set, None).0, "identity_missing");
}

#[test]
fn who_has_no_such_part_is_not_spared_by_a_rule_for_all_others() {
    let others = || From {
        not_namespaces: [PrincipalPattern::new("shop")].into(),
        ..From::default()
    };
    let rules = || vec![(others(), When::default())];
    let deny = set(Effect::Allow, vec![policy("deny", rules())]);
    let allow = set(Effect::Deny, vec![policy("allow", rules())]);
    let other = workload("spiffe://mesh.test/some/path");

    for set in [&deny, &allow] {
        assert_eq!(asked(set, Some(&other)).0, "policy_denied");
        assert_eq!(asked(set, None).0, "identity_missing");
    }
}

#[test]
fn ids_are_read_by_their_words() {
    let of = |id| Workload::of(id).map(|it| (it.trust_domain, it.namespace, it.account));

    assert_eq!(of("spiffe://a/ns/b/sa/c"), Some(("a", "b", "c")));
    assert_eq!(of("spiffe://a/ap/p/ns/b/dc/d/svc/c"), Some(("a", "b", "c")));
    assert_eq!(of("spiffe://a/x/ns/b/sa/c"), Some(("a", "", "")));
    // Who may name what is below an account must not pass for it.
    assert_eq!(of("spiffe://a/ns/b/sa/c/d"), Some(("a", "", "")));
    assert_eq!(of("spiffe://a/ns/x/ns/b/sa/c"), Some(("a", "", "")));
    assert_eq!(of("spiffe://a/1/2/3/4/5/6/7/8/9/10"), Some(("a", "", "")));
    assert_eq!(of("consumer:ann"), None);
}

#[test]
fn a_consumer_does_not_hide_the_workload_it_came_through() {
    let consumer = Principal::consumer("ann");
    let from = From {
        consumers: [PrincipalPattern::new("ann")].into(),
        ..of(&["spiffe://mesh.test/*"])
    };
    let set = set(
        Effect::Deny,
        vec![policy("allow", vec![(from, When::default())])],
    );
    let peer = web();
    let allows = |principal, peer| {
        let subject = Subject {
            principal,
            peer,
            ..subject(None, None)
        };
        authorize(&set, &subject, &mut Deaf).allows()
    };

    assert!(allows(Some(&consumer), Some(&peer)));
    assert!(!allows(Some(&consumer), None) && !allows(Some(&peer), Some(&peer)));
}

#[test]
fn an_expression_without_outcome_refuses_with_its_own_cause() {
    let cel = |text: &str| When {
        cel: Some(expression(text).unwrap()),
        ..When::default()
    };
    let broken = || cel("request.headers['x-tier'] == 'gold'");
    let deny = set(
        Effect::Allow,
        vec![policy("deny", vec![(From::default(), broken())])],
    );
    let allow = set(
        Effect::Allow,
        vec![policy("allow", vec![(From::default(), broken())])],
    );
    let other = set(
        Effect::Allow,
        vec![policy("allow", vec![(From::default(), broken()), any()])],
    );
    let sound = set(
        Effect::Deny,
        vec![policy(
            "allow",
            vec![(
                From::default(),
                cel("source.namespace == 'shop' && destination.port == 8443"),
            )],
        )],
    );

    assert_eq!(asked(&deny, Some(&web())).0, "policy_unevaluable");
    assert_eq!(asked(&allow, Some(&web())).0, "policy_unevaluable");
    assert_eq!(asked(&other, Some(&web())), ("ok", "allow[1]".into()));
    assert_eq!(asked(&sound, Some(&web())).0, "ok");
    // One about a request cannot be asked of bytes.
    assert_eq!(ruled(&deny, None, None).0, "policy_denied");
}

#[test]
fn audit_decides_nothing_and_says_what_it_would() {
    let would = |set: &PolicySet| {
        let web = web();
        let ruling = authorize(set, &subject(Some(&web), None), &mut Deaf);
        let would = ruling
            .would
            .map(|it| (it.cause.map(|cause| cause.name), it.by.to_string()));
        (ruling.allows(), would)
    };
    let denies = set(Effect::Allow, vec![policy("deny-audit", vec![any()])]);
    let narrows = set(
        Effect::Allow,
        vec![policy(
            "audit",
            vec![(of(&["spiffe://mesh.test/ns/ops/*"]), When::default())],
        )],
    );
    let widens = set(Effect::Deny, vec![policy("audit", vec![any()])]);
    let agrees = set(
        Effect::Allow,
        vec![policy("allow", vec![any()]), policy("audit", vec![any()])],
    );

    let denied = Some(causes::POLICY_DENIED.name);
    assert_eq!(
        would(&denies),
        (true, Some((denied, "deny-audit[0]".into())))
    );
    assert_eq!(would(&narrows), (true, Some((denied, "audit".into()))));
    assert_eq!(would(&widens), (false, Some((None, "audit[0]".into()))));
    assert_eq!(would(&agrees), (true, None));
}
