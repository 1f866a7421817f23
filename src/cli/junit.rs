//! What `check` found, as a JUnit report for continuous integration.
//! It must not judge; it sorts findings under the tests they belong to.
//! Called by `check`.

use std::path::Path;

use quick_junit::{NonSuccessKind, Report as JUnit, TestCase, TestCaseStatus, TestSuite};

use crate::config::report::{Finding, Report, Severity};

/// Writes the report: one case for each test, and one for the configuration as a whole.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn write(
    file: &Path,
    config: &Path,
    tests: &[(String, String)],
    report: &Report,
) -> Result<(), String> {
    let errors = report.findings().iter();
    let errors: Vec<&Finding> = errors
        .filter(|finding| finding.severity == Severity::Error)
        .collect();
    let of_test = |finding: &Finding| {
        let below = |path: &str| {
            let rest = finding.path.strip_prefix(path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        tests.iter().position(|(path, _)| below(path))
    };
    let mut suite = TestSuite::new(config.display().to_string());
    let whole = errors.iter().filter(|finding| of_test(finding).is_none());
    let is_whole = whole.clone().next().is_none();
    suite.add_test_case(case("the configuration", "configuration", whole.copied()));
    for (at, (path, name)) in tests.iter().enumerate() {
        let own = errors.iter().filter(|finding| of_test(finding) == Some(at));
        let mut case = case(name, path, own.copied());
        if !is_whole {
            // A configuration that cannot be built has no tests that ran.
            case.status = TestCaseStatus::skipped();
        }
        suite.add_test_case(case);
    }
    let mut junit = JUnit::new("windrose check");
    junit.add_test_suite(suite);
    let text = junit.to_string().map_err(|error| error.to_string())?;
    std::fs::write(file, text)
        .map_err(|error| format!("{} cannot be written: {error}", file.display()))
}

fn case<'f>(name: &str, class: &str, errors: impl Iterator<Item = &'f Finding>) -> TestCase {
    let said: Vec<String> = errors.map(ToString::to_string).collect();
    let status = if said.is_empty() {
        TestCaseStatus::success()
    } else {
        let mut failed = TestCaseStatus::non_success(NonSuccessKind::Failure);
        failed
            .set_message(said[0].lines().next().unwrap_or_default())
            .set_description(said.join("\n"));
        failed
    };
    let mut case = TestCase::new(name, status);
    case.set_classname(class);
    case
}
