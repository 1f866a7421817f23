//! Requests decided twice, by the old and the new configuration, and what would become of them otherwise.
//! It must not decide: it compares explanations.
//! Part of a plan.

use std::collections::BTreeMap;

use serde::Serialize;

use super::changes::list;
use crate::explain::{words, Explanation, Outcome, Question};

/// What came of a replay.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Replayed {
    /// Requests that were compared.
    pub requests: usize,
    /// Those that fare otherwise.
    pub changed: usize,
    /// Those that could not be asked again.
    pub skipped: usize,
    /// The changes by kind, most frequent first.
    pub groups: Vec<Group>,
    /// Those that policies would newly deny, by what denies.
    pub denied: Vec<Ruled>,
    /// Those that policies deny and newly would not, by what denies now.
    pub allowed: Vec<Ruled>,
}

/// Requests that policies judge otherwise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ruled {
    /// The rule, policy or default that denies, before or after.
    pub by: String,
    /// How many.
    pub requests: usize,
    /// Some of them, as method, address and caller.
    pub examples: Vec<String>,
}

impl Replayed {
    /// What policies judge otherwise, on one line.
    pub fn ruled(&self) -> String {
        let told = |ruled: &[Ruled]| {
            let count: usize = ruled.iter().map(|one| one.requests).sum();
            let by: Vec<&str> = ruled.iter().map(|one| &*one.by).collect();
            match by.is_empty() {
                true => "0".to_owned(),
                false => format!("{count} (by {})", list(&by)),
            }
        };
        format!(
            "of {} recorded requests {} would newly be denied and {} newly be allowed",
            self.requests,
            told(&self.denied),
            told(&self.allowed)
        )
    }

    /// Takes note of what policies say before and after.
    fn judge(&mut self, question: &Question, old: &Explanation, new: &Explanation) {
        let denied = |explanation: &Explanation| {
            let ruling = explanation.ruling.as_ref();
            let ruling = ruling.filter(|ruling| ruling.verdict == "deny");
            ruling.map(|ruling| ruling.by.clone())
        };
        let (by, all) = match (denied(old), denied(new)) {
            (None, Some(by)) => (by, &mut self.denied),
            (Some(by), None) => (by, &mut self.allowed),
            _ => return,
        };
        let at = all.iter().position(|one| one.by == by);
        let at = at.unwrap_or_else(|| {
            all.push(Ruled {
                by,
                requests: 0,
                examples: Vec::new(),
            });
            all.len() - 1
        });
        let ruled = &mut all[at];
        ruled.requests += 1;
        if ruled.examples.len() < EXAMPLES {
            let caller = new.request.principal.as_deref();
            let caller = caller.map_or("anybody".to_owned(), str::to_owned);
            let Question { method, url, .. } = question;
            ruled.examples.push(format!("{method} {url} as {caller}"));
        }
    }
}

/// Requests that change in the same way.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// The change in words.
    pub change: String,
    /// How many.
    pub requests: usize,
    /// Some of them, as method and address.
    pub examples: Vec<String>,
}

/// Requests of a group that are named.
const EXAMPLES: usize = 3;

/// Compares what two sides say to the same requests. An error means that a side cannot be asked this, such as for a listener
/// that it does not have.
pub fn replay(
    questions: &[Question],
    mut old: impl FnMut(&Question) -> Result<Explanation, String>,
    mut new: impl FnMut(&Question) -> Result<Explanation, String>,
) -> Replayed {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    let mut replayed = Replayed::default();
    for question in questions {
        let Ok(before) = old(question) else {
            replayed.skipped += 1;
            continue;
        };
        replayed.requests += 1;
        let change = match new(question) {
            Ok(after) => {
                replayed.judge(question, &before, &after);
                difference(&before.outcome, &after.outcome)
            }
            Err(problem) => Some(format!("can no longer be asked: {problem}")),
        };
        let Some(change) = change else { continue };
        replayed.changed += 1;
        let group = groups.entry(change.clone()).or_insert_with(|| Group {
            change,
            requests: 0,
            examples: Vec::new(),
        });
        group.requests += 1;
        if group.examples.len() < EXAMPLES {
            let example = format!("{} {}", question.method, question.url);
            group.examples.push(example);
        }
    }
    replayed.groups = groups.into_values().collect();
    replayed
        .groups
        .sort_by_key(|group| std::cmp::Reverse(group.requests));
    replayed
}

/// The most important difference in words; `None` when the request fares the same.
fn difference(old: &Outcome, new: &Outcome) -> Option<String> {
    let answer = |outcome: &Outcome| {
        let cause = outcome.cause.as_deref()?;
        Some(format!("{} {cause}", outcome.status.unwrap_or_default()))
    };
    let pools = |outcome: &Outcome| {
        let pools = outcome.pools.iter().map(|pool| {
            let subset = match pool.subset.is_empty() {
                true => String::new(),
                false => format!(" ({})", words::labels(&pool.subset)),
            };
            match pool.share_percent {
                100.0 => format!("{}{subset}", pool.name),
                share => format!("{}{subset} {share} %", pool.name),
            }
        });
        pools.collect::<Vec<_>>().join(" and ")
    };
    match (answer(old), answer(new)) {
        (None, Some(after)) => {
            return Some(format!(
                "would become {after} instead of going to pool {}",
                pools(old)
            ))
        }
        (Some(before), None) => return Some(format!("to pool {} instead of {before}", pools(new))),
        (Some(before), Some(after)) if before != after => {
            return Some(format!("would become {after} instead of {before}"))
        }
        _ => {}
    }
    if pools(old) != pools(new) {
        return Some(format!("to pool {} instead of {}", pools(new), pools(old)));
    }
    if old.location != new.location {
        let location = |outcome: &Outcome| outcome.location.clone().unwrap_or_default();
        return Some(format!(
            "redirected to {} instead of {}",
            location(new),
            location(old)
        ));
    }
    let parts = [
        ("path", old.path != new.path),
        ("host", old.host != new.host),
        ("route", old.route != new.route),
        ("fields", sorted(old) != sorted(new)),
        ("times", old.times != new.times),
        ("fault", old.faults != new.faults),
        ("mirror", old.mirrors != new.mirrors),
    ];
    let differing: Vec<&str> = parts
        .iter()
        .filter(|(_, differs)| *differs)
        .map(|(what, _)| *what)
        .collect();
    (!differing.is_empty())
        .then(|| format!("to the same pool with another {}", differing.join(", ")))
}

fn sorted(outcome: &Outcome) -> Vec<&(String, String)> {
    let mut headers: Vec<_> = outcome.headers.iter().collect();
    headers.sort();
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(pool: &str) -> Outcome {
        let pool = crate::explain::PoolSeen {
            name: pool.to_owned(),
            place: String::new(),
            share_percent: 100.0,
            limits: Vec::new(),
            balance: String::new(),
            mtls: None,
            subset: Default::default(),
            subset_fallback: None,
            affinity: None,
            levels: Vec::new(),
            endpoints: Vec::new(),
        };
        Outcome {
            pools: vec![pool],
            ..Outcome::default()
        }
    }

    #[test]
    fn the_most_important_difference_is_told() {
        let refused = Outcome {
            status: Some(401),
            cause: Some("auth.basic_missing".into()),
            ..Outcome::default()
        };
        let moved = Outcome {
            path: Some("/b".into()),
            ..outcome("a")
        };

        let told = |old: &Outcome, new: &Outcome| difference(old, new).unwrap_or_default();

        assert_eq!(told(&outcome("a"), &outcome("b")), "to pool b instead of a");
        assert_eq!(
            told(&outcome("a"), &refused),
            "would become 401 auth.basic_missing instead of going to pool a"
        );
        assert_eq!(
            told(&refused, &outcome("b")),
            "to pool b instead of 401 auth.basic_missing"
        );
        assert_eq!(
            told(&outcome("a"), &moved),
            "to the same pool with another path"
        );
        assert_eq!(told(&moved, &moved), "");
    }
}
