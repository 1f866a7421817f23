//! A content security policy as operators write it, with the mistakes that browsers pass over in silence.
//! It must not know every directive there is: browsers learn new ones.
//! Called by `security_headers` while it is built.

use std::collections::BTreeSet;

use crate::contract::Problem;

/// Adds who may show the response in a frame, unless the policy says it itself.
pub(super) fn with_ancestors(policy: Option<String>, ancestors: Option<String>) -> Option<String> {
    match (policy, ancestors) {
        (policy, None) => policy,
        // Of an allow list nothing else can speak; for the rest `X-Frame-Options` is enough where there is no policy.
        (None, Some(ancestors)) if ancestors.contains("://") => {
            Some(format!("frame-ancestors {ancestors}"))
        }
        (None, Some(_)) => None,
        (Some(policy), Some(_)) if names(&policy).any(|name| name == "frame-ancestors") => {
            Some(policy)
        }
        (Some(policy), Some(ancestors)) => {
            let policy = policy.trim_end_matches([' ', ';']);
            Some(format!("{policy}; frame-ancestors {ancestors}"))
        }
    }
}

/// Finds what browsers would ignore or read as something else.
pub(super) fn check(path: &'static str, policy: &str, problems: &mut Vec<Problem>) {
    let mut seen = BTreeSet::new();
    for directive in directives(policy) {
        let mut words = directive.split_ascii_whitespace();
        let name = words.next().unwrap_or("").to_ascii_lowercase();
        if !name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
        {
            problems.push(
                Problem::at(path, format!("\"{name}\" is not the name of a directive")).help(
                    "directives are parted by \";\", such as \"default-src 'self'; img-src *\"",
                ),
            );
        } else if !seen.insert(name.clone()) {
            problems.push(
                Problem::at(
                    path,
                    format!("\"{name}\" is there twice, and browsers use the first only"),
                )
                .help("write all of its sources in one place"),
            );
        }
        if let Some(word) = words.find(|word| is_bare_keyword(word)) {
            problems.push(
                Problem::at(
                    path,
                    format!("\"{word}\" without quotes is the name of a host"),
                )
                .help(format!("write \"'{word}'\"")),
            );
        }
    }
    if directives(policy).next().is_none() {
        problems.push(Problem::at(path, "is empty").help("write a policy, or `off`"));
    }
}

/// The same for a policy that is only reported.
pub(super) fn check_reported(path: &'static str, policy: &str, problems: &mut Vec<Problem>) {
    check(path, policy, problems);
    if !names(policy).any(|name| matches!(&*name, "report-to" | "report-uri")) {
        problems.push(
            Problem::at(path, "is reported to nobody")
                .help("add a `report-to` or `report-uri` directive"),
        );
    }
}

fn directives(policy: &str) -> impl Iterator<Item = &str> {
    policy
        .split(';')
        .map(str::trim)
        .filter(|text| !text.is_empty())
}

fn names(policy: &str) -> impl Iterator<Item = String> + '_ {
    let first = |directive: &str| {
        directive
            .split_ascii_whitespace()
            .next()
            .map(str::to_ascii_lowercase)
    };
    directives(policy).filter_map(first)
}

fn is_bare_keyword(word: &str) -> bool {
    const KEYWORDS: [&str; 7] = [
        "self",
        "none",
        "unsafe-inline",
        "unsafe-eval",
        "unsafe-hashes",
        "strict-dynamic",
        "wasm-unsafe-eval",
    ];
    let is_hash = ["nonce-", "sha256-", "sha384-", "sha512-"];
    KEYWORDS.contains(&word) || is_hash.iter().any(|start| word.starts_with(start))
}
