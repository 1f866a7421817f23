//! Errors planted in a sound configuration: each is told once, at its place, and none that is not there.

use proptest::prelude::*;

use crate::config::build::tests::built;
use crate::config::report::Severity;

/// What is found, as `line path`, warnings with a mark.
fn found(text: &str) -> Vec<String> {
    let report = match built(text, None) {
        Ok(built) => built.warnings,
        Err(report) => report,
    };
    let findings = report.findings().iter();
    findings
        .map(|finding| {
            let line = finding.place.as_ref().map_or(0, |place| place.line);
            let mark = match finding.severity {
                Severity::Error => "",
                Severity::Warning => " (warning)",
            };
            format!("{line} {}{mark}", finding.path)
        })
        .collect()
}

/// A configuration in which everything refers to something else. After a line, those with a mark are what it should not be, each
/// with the path at which that is told; `\n` in them begins a line.
const LINES: &str = include_str!("planted.txt");

/// A line, and what it should not be with the path at which that is told.
type Line = (&'static str, Vec<(String, &'static str)>);

fn lines() -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for line in LINES.lines() {
        match line
            .strip_prefix("! ")
            .and_then(|bad| bad.split_once(" => "))
        {
            Some((bad, path)) => {
                let bad = bad.replace("\\n", "\n");
                lines.last_mut().unwrap().1.push((bad, path));
            }
            None => lines.push((line, Vec::new())),
        }
    }
    lines
}

/// The text with some of the lines as they should not be, and what is to be told of it.
fn planted(chosen: impl Fn(usize) -> Option<usize>) -> (String, Vec<String>) {
    let (mut text, mut expected, mut line) = (String::new(), Vec::new(), 1);
    for (at, (good, bad)) in lines().iter().enumerate() {
        let wrong = chosen(at).filter(|_| !bad.is_empty());
        let wrong = wrong.map(|which| &bad[which % bad.len()]);
        let written = wrong.map_or(*good, |(bad, _)| bad.as_str());
        line += written.lines().count();
        // What is added stands on a line of its own, and is what is wrong.
        expected.extend(wrong.map(|(_, path)| format!("{} {path}", line - 1)));
        text.push_str(written);
        text.push('\n');
    }
    (text, expected)
}

#[test]
fn the_configuration_that_errors_are_planted_in_is_sound() {
    let (text, _) = planted(|_| None);

    assert_eq!(found(&text), [""; 0], "{text}");
}

#[test]
fn each_error_alone_is_told_once() {
    for (at, (_, bad)) in lines().iter().enumerate() {
        for which in 0..bad.len() {
            let (text, expected) = planted(|one| (one == at).then_some(which));

            assert_eq!(
                found(&text),
                expected,
                "{text}\n{:?}",
                built(&text, None).err()
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn as_many_errors_are_told_as_there_are(
        chosen in prop::collection::vec(prop::option::weighted(0.3, any::<u8>()), 100),
    ) {
        let (text, expected) = planted(|at| chosen[at].map(usize::from));

        let found = found(&text);

        prop_assert_eq!(found, expected, "{}", text);
    }
}
