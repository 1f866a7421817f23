//! The configuration's own tests: requests are explained, and the explanation is compared with what was expected.
//! It must not decide anything itself.
//! Called by `build`, so that `check` and every reload run them.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;

use super::report::Report;
use super::schema::{Config, ConfigTest, Expect, TestRequest};
use crate::explain::{explain, words, Explanation, Outcome, PoolSeen, Question};
use crate::snapshot::Snapshot;

/// Runs every test; each difference is an error at the test's path.
pub(super) fn run(config: &Config, snapshot: &Snapshot, report: &mut Report) {
    for (path, test, route) in config.all_tests() {
        let name = test.title();
        let mut test = test.clone();
        if let Some(route) = route {
            test.expect.route.get_or_insert_with(|| route.name.clone());
        }
        match explain(snapshot, &question(&test.request), false) {
            Ok(explanation) => compare(&explanation, &test, &path, &name, report),
            Err(fact) => report.error(
                format!("{path}.request"),
                format!("test \"{name}\": {fact}"),
                "",
            ),
        }
    }
}

fn question(request: &TestRequest) -> Question {
    let headers = request.headers.iter();
    Question {
        method: request.method.clone(),
        url: request.url.clone(),
        headers: headers
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        body: request.body.as_ref().map(|body| STANDARD.encode(body)),
        from: request.from,
        principal: request.principal.clone(),
        sni: request.sni.clone(),
        listener: request.listener.clone(),
        destination: request.destination,
        ..Question::default()
    }
}

fn compare(
    explanation: &Explanation,
    test: &ConfigTest,
    path: &str,
    name: &str,
    report: &mut Report,
) {
    let expect: &Expect = &test.expect;
    let outcome = &explanation.outcome;
    let mut differs = |key: &str, wanted: &str, found: Option<&str>| {
        let found = found.map_or("none".to_owned(), |found| format!("\"{found}\""));
        let came = outcome.cause.as_ref().map_or(String::new(), |cause| {
            format!("the request ended with cause `{cause}`")
        });
        report.error(
            format!("{path}.expect.{key}"),
            format!("test \"{name}\": expected \"{wanted}\", found {found}"),
            came,
        );
    };
    let texts = [
        ("route", &expect.route, &outcome.route),
        ("path", &expect.path, &outcome.path),
        ("host", &expect.host, &outcome.host),
        ("location", &expect.location, &outcome.location),
        ("cause", &expect.cause, &outcome.cause),
        ("policy", &expect.policy, &outcome.policy),
        (
            "principal",
            &expect.principal,
            &explanation.request.principal,
        ),
    ];
    for (key, wanted, found) in texts {
        if let Some(wanted) = wanted.as_ref().filter(|_| wanted != found) {
            differs(key, wanted, found.as_deref());
        }
    }
    for (key, wanted, found) in destinations(expect, outcome) {
        differs(key, &wanted, found.as_deref());
    }
    if let Some(wanted) = expect
        .status
        .filter(|wanted| outcome.status != Some(*wanted))
    {
        differs(
            "status",
            &wanted.to_string(),
            outcome.status.map(|status| status.to_string()).as_deref(),
        );
    }
    for (field, wanted) in &expect.headers {
        let found = outcome
            .headers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(field));
        let found = found.map(|(_, value)| value);
        if found != Some(wanted) {
            differs(
                &format!("headers.{field}"),
                wanted,
                found.map(String::as_str),
            );
        }
    }
}

/// How the pools differ from those expected: what, the one wanted and the one found.
fn destinations(expect: &Expect, outcome: &Outcome) -> Vec<(&'static str, String, Option<String>)> {
    let mut differences = Vec::new();
    let first = outcome.pools.first();
    let has_pool = |wanted: &&String| outcome.pools.iter().any(|pool| pool.name == **wanted);
    if let Some(wanted) = expect.pool.as_ref().filter(|wanted| !has_pool(wanted)) {
        let found = first.map(|pool| pool.name.clone());
        differences.push(("pool", wanted.clone(), found));
    }
    let has_subset = |pool: &PoolSeen| pool.subset == expect.subset;
    if !expect.subset.is_empty() && !outcome.pools.iter().any(has_subset) {
        let found = first.map(|pool| words::labels(&pool.subset));
        let found = found.filter(|found| !found.is_empty());
        differences.push(("subset", words::labels(&expect.subset), found));
    }
    differences
}
