//! The configuration's own tests: requests are explained, and the explanation is compared with what was expected.
//! It must not decide anything itself.
//! Called by `build`, so that `check` and every reload run them.

use super::report::Report;
use super::schema::{Config, ConfigTest, Expect, TestRequest};
use crate::explain::{explain, Outcome, Question};
use crate::snapshot::Snapshot;

/// Runs every test; each difference is an error at the test's path.
pub(super) fn run(config: &Config, snapshot: &Snapshot, report: &mut Report) {
    for (at, test) in config.tests.iter().enumerate() {
        let path = format!("tests[{at}]");
        let name = test
            .name
            .clone()
            .unwrap_or_else(|| format!("{} {}", test.request.method, test.request.url));
        match explain(snapshot, &question(&test.request), false) {
            Ok(explanation) => compare(&explanation.outcome, test, &path, &name, report),
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
        from: request.from,
        principal: request.principal.clone(),
        listener: request.listener.clone(),
        ..Question::default()
    }
}

fn compare(outcome: &Outcome, test: &ConfigTest, path: &str, name: &str, report: &mut Report) {
    let expect: &Expect = &test.expect;
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
    ];
    for (key, wanted, found) in texts {
        if let Some(wanted) = wanted.as_ref().filter(|_| wanted != found) {
            differs(key, wanted, found.as_deref());
        }
    }
    let has_pool = |wanted: &&String| outcome.pools.iter().any(|pool| pool.name == **wanted);
    if let Some(wanted) = expect.pool.as_ref().filter(|wanted| !has_pool(wanted)) {
        let found = outcome.pools.first().map(|pool| pool.name.as_str());
        differs("pool", wanted, found);
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
