//! What a check of the mesh found, and how it is told.
//! It must not look for anything.
//! Filled by the checks beside it.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::json;

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    /// Proven to be as it should be.
    Ok,
    /// It could not be looked at, and why is said.
    NotProven,
    /// It works, and someone should look.
    Warning,
    /// Not as it should be.
    Wrong,
}

impl Word {
    fn as_str(self) -> &'static str {
        match self {
            Word::Ok => "ok",
            Word::NotProven => "not proven",
            Word::Warning => "warning",
            Word::Wrong => "WRONG",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    area: &'static str,
    word: Word,
    fact: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    remedy: String,
}

/// Everything that was looked at.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    /// Adds one. `remedy` says what to do, and is empty where nothing is to be done.
    pub(super) fn add(
        &mut self,
        area: &'static str,
        word: Word,
        fact: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.0.push(Finding {
            area,
            word,
            fact: fact.into(),
            remedy: remedy.into(),
        });
    }

    /// One that is as it should be.
    pub(super) fn ok(&mut self, area: &'static str, fact: impl Into<String>) {
        self.add(area, Word::Ok, fact, "");
    }

    /// The worst of all.
    pub(super) fn worst(&self) -> Word {
        let words = self.0.iter().map(|finding| finding.word);
        words.max().unwrap_or(Word::Ok)
    }

    /// For programs.
    pub(super) fn json(&self) -> String {
        let all = json!({"worst": self.worst(), "findings": self.0});
        format!("{all:#}")
    }

    /// For people: a line for each, and below it what to do.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.0 {
            let word = finding.word.as_str();
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{word:11} {:13} {}", finding.area, finding.fact);
            if !finding.remedy.is_empty() {
                let _ = writeln!(text, "{:25} -> {}", "", finding.remedy);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_decides_and_remedies_are_told() {
        let mut found = Findings::default();
        assert_eq!(found.worst(), Word::Ok);
        found.ok("process", "is ready");
        found.add(
            "peers",
            Word::Wrong,
            "10.0.0.1:1 does not answer",
            "start it",
        );

        assert_eq!(found.worst(), Word::Wrong);
        assert!(found.text().ends_with("-> start it\n"), "{}", found.text());
    }
}
