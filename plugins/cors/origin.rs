//! Which origins are allowed: exact, any subdomain, a regular expression, or all.
//! It must not know what an allowed origin may do.
//! Called by `cors`, which parses the patterns while it is built.

use std::collections::HashSet;

use http::{HeaderValue, Uri};
use regex::Regex;

use crate::contract::Problem;

/// Parsed patterns.
#[derive(Default)]
pub(super) struct Origins {
    any: bool,
    exact: HashSet<String>,
    subdomains: Vec<Subdomains>,
    regexes: Vec<Regex>,
}

/// `https://*.example.com:8443` as the text before and after the star.
struct Subdomains {
    before: String,
    after: String,
}

impl Origins {
    pub(super) fn of(patterns: &[String], problems: &mut Vec<Problem>) -> Origins {
        let mut origins = Origins::default();
        for (index, pattern) in patterns.iter().enumerate() {
            let path = format!("origins[{index}]");
            problems.extend(origins.line(&path, pattern).err());
        }
        if patterns.is_empty() {
            problems
                .push(Problem::at("origins", "no origin is allowed").help(
                    "list origins such as \"https://app.example.com\", or remove the plugin",
                ));
        }
        origins
    }

    fn line(&mut self, path: &str, pattern: &str) -> Result<(), Problem> {
        if pattern == "*" {
            self.any = true;
        } else if pattern == "null" {
            self.exact.insert(pattern.to_owned());
        } else if let Some(expression) = pattern.strip_prefix('~') {
            // Anchored for the operator: a forgotten `$` is the classic hole, as it lets `example.com.evil.test` in.
            let regex = Regex::new(&format!("^(?:{expression})$")).map_err(|error| {
                Problem::at(
                    path,
                    format!("\"{expression}\" is not a regular expression"),
                )
                .help(last_line(&error))
            })?;
            self.regexes.push(regex);
        } else if let Some((before, after)) = pattern.split_once("://*.") {
            check_origin(path, pattern, &format!("{before}://x.{after}"))?;
            self.subdomains.push(Subdomains {
                before: format!("{before}://"),
                after: format!(".{after}"),
            });
        } else {
            check_origin(path, pattern, pattern)?;
            self.exact.insert(pattern.to_owned());
        }
        Ok(())
    }

    /// Whether every origin is allowed, so responses do not depend on it.
    pub(super) fn are_any(&self) -> bool {
        self.any
    }

    /// What `Access-Control-Allow-Origin` says to this origin; `None` when it is not allowed.
    pub(super) fn allow(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        if self.any {
            return Some(HeaderValue::from_static("*"));
        }
        let text = origin.to_str().ok()?;
        let allowed = self.exact.contains(text)
            || self.subdomains.iter().any(|pattern| pattern.matches(text))
            || self.regexes.iter().any(|regex| regex.is_match(text));
        allowed.then(|| origin.clone())
    }
}

impl Subdomains {
    fn matches(&self, origin: &str) -> bool {
        let star = origin
            .strip_prefix(&self.before)
            .and_then(|rest| rest.strip_suffix(&self.after));
        // Only letters a host name has, so that no user info, port or path can hide in the star.
        star.is_some_and(|labels| {
            !labels.is_empty()
                && labels.split('.').all(|label| !label.is_empty())
                && labels
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        })
    }
}

/// Browsers compare origins by text, so the setting must be written exactly as they send it.
fn check_origin(path: &str, written: &str, origin: &str) -> Result<(), Problem> {
    let refuse = |fact: String, remedy: &str| Err(Problem::at(path, fact).help(remedy));
    let uri = match origin.parse::<Uri>() {
        Ok(uri) if uri.scheme().is_some() && uri.authority().is_some() => uri,
        Ok(_) | Err(_) => {
            return refuse(
                format!("\"{written}\" is not an origin"),
                "write scheme, host and port if it is not the default one, such as \"https://app.example.com\"",
            );
        }
    };
    let scheme = uri.scheme_str().unwrap_or_default();
    let default_port = match scheme {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    };
    let authority = uri.authority().map(|authority| authority.as_str());
    if origin != format!("{scheme}://{}", authority.unwrap_or_default()) {
        return refuse(
            format!("\"{written}\" has a path, and origins have none"),
            "remove what follows the host and port, also the last slash",
        );
    }
    if origin.chars().any(|c| c.is_ascii_uppercase()) || origin.contains(['*', '@']) {
        return refuse(
            format!("\"{written}\" is not how browsers write an origin"),
            "use lower case, no user name, and a star only as the first label, such as \"https://*.example.com\"",
        );
    }
    if uri.port_u16().is_some() && uri.port_u16() == default_port {
        return refuse(
            format!("\"{written}\" names the default port, which browsers leave out"),
            "remove the port",
        );
    }
    Ok(())
}

fn last_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}
