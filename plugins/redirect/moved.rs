//! Where a request is sent instead: scheme, host and path changed at once.
//! It must not know how the answer is written.
//! Compiled by `redirect` while it is built, asked for each request.

use std::borrow::Cow;

use super::{Config, Moved, Slash};
use crate::contract::{canonical_host, canonical_path, Location, PathEdit, Problem, Request};

/// The compiled settings.
pub(super) struct Moves {
    https: bool,
    https_port: Option<u16>,
    host: Option<String>,
    rules: Vec<Rule>,
    slash: Option<Slash>,
    except: Vec<String>,
    status: u16,
}

struct Rule {
    edit: PathEdit,
    host: Option<String>,
    status: Option<u16>,
}

/// Where to.
pub(super) struct To {
    pub(super) location: String,
    pub(super) status: u16,
}

/// Why there is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    /// The rules go in a circle.
    Loop,
    /// The request names no host.
    Host,
    /// What the rules make of the path is none.
    Path,
}

/// A path and what the rules made of it.
struct Step<'p> {
    path: Cow<'p, str>,
    query: Option<String>,
    host: Option<&'p str>,
    status: Option<u16>,
}

impl Moves {
    pub(super) fn of(config: Config) -> Result<Moves, Vec<Problem>> {
        let mut problems = Vec::new();
        status("status", config.status, &mut problems);
        if config.https_port == Some(0) || (config.https_port.is_some() && !config.https) {
            problems.push(
                Problem::at(
                    "https_port",
                    "is a port of `https: true` only, from 1 to 65535",
                )
                .help("set `https: true`, or remove this line"),
            );
        }
        for (index, start) in config.except.iter().enumerate() {
            if !is_canonical(start) {
                problems.push(not_canonical(format!("except[{index}]"), start));
            }
        }
        if config.paths.len() > MOST_RULES {
            let fact = format!(
                "has {} rules; there can be {MOST_RULES}",
                config.paths.len()
            );
            problems
                .push(Problem::at("paths", fact).help("use groups, or routes with a `redirect`"));
        }
        let host = config
            .host
            .and_then(|name| host("host", &name, &mut problems));
        let paths = config.paths.iter().enumerate();
        let rules = paths.filter_map(|(index, rule)| Rule::of(index, rule, &mut problems));
        let rules: Vec<Rule> = rules.collect();
        if problems.is_empty()
            && rules.is_empty()
            && host.is_none()
            && config.trailing_slash.is_none()
            && !config.https
        {
            problems.push(
                Problem::at("", "sends nobody anywhere")
                    .help("set `https`, `host`, `paths` or `trailing_slash`"),
            );
        }
        match problems.is_empty() {
            true => Ok(Moves {
                https: config.https,
                https_port: config.https_port,
                host,
                rules,
                slash: config.trailing_slash,
                except: config.except,
                status: config.status,
            }),
            false => Err(problems),
        }
    }

    /// Where this request is sent; nowhere if nothing changes.
    pub(super) fn of_request(&self, request: &Request<'_>) -> Result<Option<To>, Wrong> {
        let client = request.client;
        let is_except = |start: &String| client.path.starts_with(start.as_str());
        if client.path == "*" || self.except.iter().any(is_except) {
            return Ok(None);
        }
        let step = self.settle(client.path)?;
        let to_https = self.https && !client.secure;
        let host = step.host.or(self.host.as_deref()).unwrap_or(client.host);
        if !to_https && host == client.host && step.path == client.path && step.query.is_none() {
            return Ok(None);
        }
        if host.is_empty() {
            return Err(Wrong::Host);
        }
        let own = request.head.uri.query();
        let query = match (&step.query, own) {
            (Some(new), Some(own)) => Some(Cow::Owned(format!("{new}&{own}"))),
            (Some(new), None) => Some(Cow::Borrowed(new.as_str())),
            (None, own) => own.map(Cow::Borrowed),
        };
        let location = Location {
            scheme: if to_https || client.secure {
                "https"
            } else {
                "http"
            },
            host,
            port: match to_https {
                true => self.https_port,
                // Another host is another place: this one's port says nothing about it.
                false => port(request).filter(|_| host == client.host),
            },
            path: &step.path,
            query: query.as_deref(),
        };
        Ok(Some(To {
            location: location.to_string(),
            status: step.status.unwrap_or(self.status),
        }))
    }

    /// Applies the rules until they change nothing more, so that a client is sent once and not from one to the next.
    fn settle<'p>(&'p self, path: &'p str) -> Result<Step<'p>, Wrong> {
        let mut step = Step {
            path: Cow::Borrowed(path),
            query: None,
            host: None,
            status: None,
        };
        for _ in 0..MOST_STEPS {
            let rule = self.rules.iter().find(|rule| rule.edit.is_for(&step.path));
            let Some((rule, (path, query))) = rule.map(|rule| (rule, rule.moved(&step.path)))
            else {
                return self.end(step);
            };
            let path = canonical_path(&path).map_err(|_| Wrong::Path)?.into_owned();
            let is_still = path == step.path;
            if is_still && query.is_some() && rule.host.is_none() {
                return Err(Wrong::Loop);
            }
            step.path = Cow::Owned(path);
            step.query = query.or(step.query);
            step.host = rule.host.as_deref().or(step.host);
            step.status = rule.status.or(step.status);
            // Elsewhere other rules hold.
            if is_still || step.host.is_some() {
                return self.end(step);
            }
        }
        Err(Wrong::Loop)
    }

    fn end<'p>(&self, mut step: Step<'p>) -> Result<Step<'p>, Wrong> {
        let has_slash = step.path.ends_with('/');
        match self.slash {
            Some(Slash::Remove) if has_slash && step.path.len() > 1 => {
                let path = step.path.trim_end_matches('/');
                step.path = Cow::Owned(if path.is_empty() { "/" } else { path }.to_owned());
            }
            Some(Slash::Add) if !has_slash && !last_has_dot(&step.path) => {
                step.path = Cow::Owned(format!("{}/", step.path));
            }
            Some(_) | None => {}
        }
        Ok(step)
    }
}

impl Rule {
    fn of(index: usize, rule: &Moved, problems: &mut Vec<Problem>) -> Option<Rule> {
        let path = format!("paths[{index}]");
        if rule.replace.contains('#') {
            problems.push(
                Problem::at(
                    format!("{path}.replace"),
                    "an address with a fragment is not made here",
                )
                .help("leave out `#` and what follows; browsers keep the fragment they have"),
            );
        }
        if let Some(given) = rule.status {
            status(&format!("{path}.status"), given, problems);
        }
        let host = rule.host.as_ref();
        let host = host.and_then(|name| host_at(format!("{path}.host"), name, problems));
        let edit = PathEdit::parse(&path, &rule.pattern, &rule.replace);
        let edit = edit.map_err(|problem| problems.push(problem)).ok()?;
        Some(Rule {
            edit,
            host,
            status: rule.status,
        })
    }

    /// The path afterwards, and the query that the replacement begins.
    fn moved(&self, path: &str) -> (String, Option<String>) {
        // A canonical path has no bare question mark: one can only be the replacement's.
        let moved = self.edit.apply(path);
        match moved.split_once('?') {
            Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
            None => (moved.into_owned(), None),
        }
    }
}

fn last_has_dot(path: &str) -> bool {
    path.rsplit('/')
        .next()
        .is_some_and(|last| last.contains('.'))
}

/// The port the client named, of which the proxy has checked that it is one.
fn port(request: &Request<'_>) -> Option<u16> {
    let host = request.head.headers.get(http::header::HOST);
    let host = host.and_then(|value| value.to_str().ok());
    let authority = request.head.uri.authority().map(|it| it.as_str());
    canonical_host(authority.or(host)?).ok()?.port
}

fn status(path: &str, status: u16, problems: &mut Vec<Problem>) {
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        problems.push(
            Problem::at(path, format!("{status} is not a status of a redirect"))
                .help("use 301, 302, 303, 307 or 308"),
        );
    }
}

fn host(path: &str, name: &str, problems: &mut Vec<Problem>) -> Option<String> {
    host_at(path.to_owned(), name, problems)
}

fn host_at(path: String, name: &str, problems: &mut Vec<Problem>) -> Option<String> {
    match canonical_host(name) {
        Ok(host) if host.port.is_none() => Some(host.name.into_owned()),
        Ok(_) | Err(_) => {
            problems.push(Problem::at(path, format!("\"{name}\" is not a host")).help(
                "write a name or an address without scheme and port, such as \"www.shop.test\"",
            ));
            None
        }
    }
}

fn is_canonical(path: &str) -> bool {
    canonical_path(path).is_ok_and(|canonical| canonical == path)
}

fn not_canonical(path: String, text: &str) -> Problem {
    Problem::at(
        path,
        format!("\"{text}\" is not the beginning of a canonical path"),
    )
    .help("begin with \"/\" and leave out \"//\", \".\", \"..\" and escapes of plain characters")
}

/// How often rules may follow each other.
const MOST_STEPS: usize = 8;
const MOST_RULES: usize = 1000;
