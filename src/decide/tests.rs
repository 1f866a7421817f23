use std::cmp::Reverse;
use std::sync::Arc;

use http::HeaderMap;
use proptest::prelude::*;

use super::*;
use crate::observe::metrics::Metrics;
use crate::snapshot::chain::Chain;
use crate::snapshot::route::{
    Action, Conditions, HeaderOps, PathPattern, Respond, Retry, Rewrite, Rule, Timeouts,
    ValueCondition,
};

fn rule(index: usize) -> Arc<Rule> {
    Arc::new(Rule {
        route: format!("r{index}").into(),
        index,
        path: "".into(),
        place: "".into(),
        action: Action::Respond(Respond {
            status: http::StatusCode::OK,
            body: bytes::Bytes::new(),
            content_type: http::HeaderValue::from_static("text/plain"),
        }),
        experiments: None,
        rewrite: Rewrite::default(),
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        timeouts: Timeouts::default(),
        retry: Retry::default(),
        body_limit: 0,
        priority: Default::default(),
        chain: Chain::default(),
    })
}

fn candidate(order: usize, host: &str, path: PathPattern, conditions: Conditions) -> Candidate {
    Candidate {
        rule: rule(order),
        alternative: 0,
        host: host.into(),
        path,
        conditions: Arc::new(conditions),
        policies: None,
        metrics: Metrics::new(10).route("l", "ingress", "r"),
        order: order as u32,
    }
}

/// The specification, read off the Gateway API text, with no tables: all that match, best first.
fn reference<'c>(
    all: &'c [Candidate],
    head: &Head<'_>,
    caller: &Caller<'_>,
) -> Option<&'c Candidate> {
    let host_fits = |candidate: &Candidate| match candidate.host.strip_prefix('*') {
        Some(suffix) => head.host.len() > suffix.len() && head.host.ends_with(suffix),
        None => candidate.host.is_empty() || *candidate.host == *head.host,
    };
    let path_fits = |candidate: &Candidate| match &candidate.path {
        PathPattern::Exact(path) => **path == *head.path,
        PathPattern::Prefix(prefix) => {
            let rest = head.path.strip_prefix(&**prefix);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        PathPattern::Regex(regex) => regex.is_match(head.path),
        PathPattern::Unknown => true,
    };
    let fits = |candidate: &&Candidate| {
        host_fits(candidate)
            && path_fits(candidate)
            && conditions::hold(candidate, head, caller, &mut Silent)
    };
    all.iter().filter(fits).min_by_key(|candidate| {
        let wildcard = candidate.host.starts_with('*') || candidate.host.is_empty();
        let path = match &candidate.path {
            PathPattern::Exact(_) => (0, Reverse(0)),
            PathPattern::Prefix(prefix) => (1, Reverse(prefix.len())),
            PathPattern::Regex(_) => (2, Reverse(0)),
            PathPattern::Unknown => (-1, Reverse(0)),
        };
        (
            wildcard,
            Reverse(candidate.host.len()),
            path,
            Reverse(candidate.conditions.rank()),
            candidate.order,
        )
    })
}

fn any_candidate() -> impl Strategy<Value = (String, PathPattern, Conditions)> {
    let host = prop_oneof![
        "a\\.test",
        "b\\.a\\.test",
        Just("*.test".to_owned()),
        Just("*.a.test".to_owned()),
        Just(String::new())
    ];
    let path = prop_oneof![
        "(/[xy]){1,3}".prop_map(|path| PathPattern::Exact(path.into())),
        "(/[xy]){0,3}".prop_map(|path| PathPattern::Prefix(path.into())),
        "/[xy]".prop_map(|path| PathPattern::Regex(
            regex::Regex::new(&format!("^(?:{path}.*)$")).unwrap()
        )),
        Just(PathPattern::Unknown),
    ];
    let method = prop::option::of(prop_oneof![Just(Method::GET), Just(Method::POST)]);
    let flags = (prop::bool::ANY, prop::bool::weighted(0.1));
    (host, path, method, flags).prop_map(|(host, path, method, (versioned, is_widened))| {
        let header = (
            http::HeaderName::from_static("x-v"),
            ValueCondition::Exact("1".into()),
        );
        let headers = if versioned { vec![header] } else { Vec::new() };
        (
            host,
            path,
            Conditions {
                is_widened,
                method,
                headers: headers.into(),
                ..Conditions::default()
            },
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn tables_decide_as_the_specification_reads(
        rules in prop::collection::vec(any_candidate(), 0..12),
        host in prop_oneof!["a\\.test", "b\\.a\\.test", "c\\.a\\.test", "other"],
        path in "(/[xyz]){1,4}/?",
        post in prop::bool::ANY,
        versioned in prop::bool::ANY,
    ) {
        let all: Vec<Candidate> = rules
            .into_iter()
            .enumerate()
            .map(|(order, (host, path, conditions))| candidate(order, &host, path, conditions))
            .collect();
        let table = RouteTable::new(all.clone());
        let mut headers = HeaderMap::new();
        if versioned {
            headers.insert("x-v", http::HeaderValue::from_static("1"));
        }
        let method = if post { Method::POST } else { Method::GET };
        let head = Head { method: &method, host: &host, path: &path, query: None, headers: &headers };
        let caller = Caller { address: "192.0.2.1".parse().unwrap(), sni: None, principal: None, destination: None, port: None };

        let found = decide(&table, &head, &caller, &mut Silent).map(|candidate| candidate.order);

        // A trailing slash belongs to the last segment: `/x/` is below the prefix `/x`.
        prop_assert_eq!(found, reference(&all, &head, &caller).map(|candidate| candidate.order));
    }
}
