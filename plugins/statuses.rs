//! Statuses as operators write them: codes, classes and ranges.
//! It must not know what holds for them.
//! Used by plugins that act on some responses only.

use http::StatusCode;

use crate::contract::{Problem, Texts};

/// Some statuses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Statuses(Vec<(u16, u16)>);

impl Statuses {
    /// Those that stand at `path`; what is none becomes a problem.
    pub(crate) fn of(path: &str, texts: &Texts, problems: &mut Vec<Problem>) -> Statuses {
        let mut ranges = Vec::new();
        for (index, text) in texts.0.iter().enumerate() {
            match range(text) {
                Some(range) => ranges.push(range),
                None => {
                    let fact = format!("\"{text}\" is not a status, class or range of statuses");
                    let problem = Problem::at(format!("{path}[{index}]"), fact);
                    problems.push(problem.help(
                        "write a code such as 404, a class such as 5xx or a range such as 300-303",
                    ));
                }
            }
        }
        Statuses(ranges)
    }

    /// Whether none is written.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is one of them.
    pub(crate) fn has(&self, status: StatusCode) -> bool {
        let status = status.as_u16();
        self.0.iter().any(|(a, b)| (*a..=*b).contains(&status))
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let code = |text: &str| {
        let code = text.trim().parse::<u16>().ok()?;
        (100..=599).contains(&code).then_some(code)
    };
    if let Some(class) = text.strip_suffix("xx") {
        let first = code(&format!("{class}00"))?;
        return Some((first, first + 99));
    }
    match text.split_once('-') {
        Some((first, last)) => Some((code(first)?, code(last)?)).filter(|(a, b)| a <= b),
        None => code(text).map(|code| (code, code)),
    }
}
