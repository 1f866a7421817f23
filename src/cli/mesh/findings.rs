//! What a check of the mesh found, and how it is told.
//! It must not look for anything.
//! Filled by `probes`.

use std::fmt::Write as _;

use serde::Serialize;

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    /// As it should be.
    Well,
    /// Not looked at, and why is said.
    Skipped,
    /// Someone should look.
    Doubt,
    /// Not as it should be.
    Wrong,
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
    pub(super) fn well(&mut self, area: &'static str, fact: impl Into<String>) {
        self.add(area, Word::Well, fact, "");
    }

    /// The worst of all.
    pub(super) fn worst(&self) -> Word {
        let words = self.0.iter().map(|finding| finding.word);
        words.max().unwrap_or(Word::Well)
    }

    /// For programs.
    pub(super) fn json(&self) -> String {
        serde_json::to_string_pretty(&self.0).unwrap_or_default()
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.0 {
            let word = match finding.word {
                Word::Well => "well",
                Word::Skipped => "skipped",
                Word::Doubt => "doubt",
                Word::Wrong => "WRONG",
            };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{word:8}{:14}{}", finding.area, finding.fact);
            if !finding.remedy.is_empty() {
                let _ = writeln!(text, "{:22}-> {}", "", finding.remedy);
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
        assert_eq!(found.worst(), Word::Well);
        found.well("process", "is ready");
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
