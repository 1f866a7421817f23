//! Edits path, query and host of the request that goes upstream.
//! It must not know routes: the decision was made on the path as the client sent it, and a route's own `rewrite` comes first.
//! Called by the chain of a listener or route that names it, for each attempt.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;

use http::header::HOST;
use http::HeaderValue;
use pingora_http::RequestHeader;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{
    canonical_host, canonical_path, causes, field_value, Answer, Build, Cause, Hooks, PathEdit,
    Plugin, PluginDef, Problem, Safety, Texts, Verdict,
};
use crate::query::{decoded, encoded, pairs, set_target};

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// Settings of `rewrite`. What goes upstream is edited, after the route's own `rewrite`; routes, policies and other plugins still see
/// the path as the client sent it, in canonical form, so a rewrite can never lead past a rule. In order: `strip_prefix`, `paths`,
/// `add_prefix`, then the query.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Takes this off the beginning of paths that have it as whole parts: `/api` off `/api/a` and `/api`, not off `/apis`.
    /// Default: nothing.
    #[serde(default)]
    pub strip_prefix: Option<String>,
    /// Edits of the path: of these, the first whose pattern is found. At most 1000. Default: none.
    #[serde(default)]
    pub paths: Vec<PathRule>,
    /// Puts this before every path, such as `/v1`. Default: nothing.
    #[serde(default)]
    pub add_prefix: Option<String>,
    /// Edits of the query. Default: none.
    #[serde(default)]
    pub query: QueryEdits,
    /// The Host (HTTP/2: authority) to send, such as `orders.internal:8080`. Default: the one there is.
    #[serde(default)]
    pub host: Option<String>,
}

/// An edit of a path.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PathRule {
    /// What to find (RE2 syntax), such as `^/old/(.*)$`.
    pub pattern: String,
    /// What to put in its place, with `$1` or `${name}` for groups. The outcome is made canonical; one that climbs above the root is
    /// refused.
    pub replace: String,
}

/// Edits of a query. `remove` runs first, then `set`, then `add`. Names are compared as they are once decoded.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryEdits {
    /// Parameters to set by name, in place of every value they have. Default: none.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Parameters to add by name, with a value or a list of values. Default: none.
    #[serde(default)]
    pub add: BTreeMap<String, Texts>,
    /// Names of parameters to remove; `*` removes all of them. Default: none.
    #[serde(default)]
    pub remove: Vec<String>,
}

impl Plugin for Config {
    const KIND: &'static str = "rewrite";
    const ABOUT: &'static str = "edit path, query and host of what goes upstream";
    const EXAMPLE: &'static str = r#"strip_prefix: /api
paths:
- {pattern: "^/users/([0-9]+)$", replace: "/accounts/$1"}
add_prefix: /v1
query: {set: {source: edge}, remove: [debug]}"#;
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[];

    fn build(self, _: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let edits = Edits::of(self)?;
        Ok(Hooks::new().on_upstream_request(move |request| edits.apply(request.head)))
    }
}

/// The compiled settings.
struct Edits {
    strip: Option<String>,
    rules: Vec<PathEdit>,
    prefix: Option<String>,
    query: Option<Query>,
    host: Option<HeaderValue>,
}

/// Edits of a query: names that go, and pairs that come in the form they are sent.
struct Query {
    removes_all: bool,
    removed: Vec<String>,
    added: Vec<String>,
}

impl Edits {
    fn of(config: Config) -> Result<Edits, Vec<Problem>> {
        let mut problems = Vec::new();
        let prefix = |path: &str, text: Option<String>, problems: &mut Vec<Problem>| {
            let text = text?;
            let fits = text.len() > 1 && !text.ends_with('/');
            if !fits || canonical_path(&text).ok().as_deref() != Some(&text) {
                problems.push(
                    Problem::at(
                        path,
                        format!("\"{text}\" is not a canonical path without a slash at its end"),
                    )
                    .help("write it such as \"/api\""),
                );
            }
            Some(text)
        };
        let strip = prefix("strip_prefix", config.strip_prefix, &mut problems);
        let prefix = prefix("add_prefix", config.add_prefix, &mut problems);
        if config.paths.len() > MOST_RULES {
            let fact = format!(
                "has {} rules; there can be {MOST_RULES}",
                config.paths.len()
            );
            problems.push(Problem::at("paths", fact).help("use groups"));
        }
        let mut rules = Vec::new();
        for (index, rule) in config.paths.iter().enumerate() {
            let path = format!("paths[{index}]");
            if rule.replace.contains(['?', '#']) {
                problems.push(
                    Problem::at(format!("{path}.replace"), "a path has neither `?` nor `#`")
                        .help("edit the query with `query`"),
                );
            }
            match PathEdit::parse(&path, &rule.pattern, &rule.replace) {
                Ok(edit) => rules.push(edit),
                Err(problem) => problems.push(problem),
            }
        }
        let host = config.host.and_then(|name| host(&name, &mut problems));
        let query = Query::of(config.query);
        let edits = Edits {
            strip,
            rules,
            prefix,
            query,
            host,
        };
        if problems.is_empty() && edits.is_empty() {
            problems.push(
                Problem::at("", "edits nothing")
                    .help("write `strip_prefix`, `paths`, `add_prefix`, `query` or `host`"),
            );
        }
        match problems.is_empty() {
            true => Ok(edits),
            false => Err(problems),
        }
    }

    fn is_empty(&self) -> bool {
        self.strip.is_none()
            && self.rules.is_empty()
            && self.prefix.is_none()
            && self.query.is_none()
            && self.host.is_none()
    }

    fn apply(&self, head: &mut RequestHeader) -> Verdict {
        // `OPTIONS *` asks the server as a whole.
        if head.uri.path() != "*" {
            let Some((path, query)) = self.target(head) else {
                return Answer::of(&causes::BAD_TARGET).into();
            };
            let is_same = path == head.uri.path() && query.as_deref() == head.uri.query();
            if !is_same && !set_target(head, &path, query.as_deref()) {
                return Answer::of(&causes::BAD_TARGET).into();
            }
        }
        if let Some(host) = &self.host {
            // Cannot fail: the value is parsed.
            let _ = head.insert_header(HOST, host.clone());
        }
        Verdict::Continue
    }

    /// Path and query afterwards; `None` if the path climbs above the root.
    fn target(&self, head: &RequestHeader) -> Option<(String, Option<String>)> {
        let path = self.path(head.uri.path());
        let path = match path {
            Cow::Borrowed(path) => path.to_owned(),
            Cow::Owned(path) => canonical_path(&path).ok()?.into_owned(),
        };
        let query = head.uri.query();
        let query = match &self.query {
            Some(edits) => edits.apply(query),
            None => query.map(str::to_owned),
        };
        Some((path, query))
    }

    fn path<'p>(&self, path: &'p str) -> Cow<'p, str> {
        let mut out = Cow::Borrowed(path);
        if let Some(rest) = self
            .strip
            .as_ref()
            .and_then(|strip| path.strip_prefix(&**strip))
        {
            match rest {
                "" => out = Cow::Owned("/".to_owned()),
                rest if rest.starts_with('/') => out = Cow::Owned(rest.to_owned()),
                _ => {}
            }
        }
        if let Some(rule) = self.rules.iter().find(|rule| rule.is_for(&out)) {
            out = Cow::Owned(rule.apply(&out).into_owned());
        }
        if let Some(prefix) = &self.prefix {
            out = Cow::Owned(format!("{prefix}{out}"));
        }
        out
    }
}

impl Query {
    fn of(edits: QueryEdits) -> Option<Query> {
        let mut added = Vec::new();
        let pair = |name: &str, value: &str| format!("{}={}", encoded(name), encoded(value));
        for (name, value) in &edits.set {
            added.push(pair(name, value));
        }
        for (name, values) in &edits.add {
            added.extend(values.0.iter().map(|value| pair(name, value)));
        }
        let removes_all = edits.remove.iter().any(|name| name == "*");
        let mut removed = edits.remove;
        removed.extend(edits.set.into_keys());
        (!removed.is_empty() || !added.is_empty()).then_some(Query {
            removes_all,
            removed,
            added,
        })
    }

    /// The query afterwards. Parameters that stay keep their bytes and order; one without any left goes with its question mark.
    fn apply(&self, query: Option<&str>) -> Option<String> {
        let stays = |name: &str| {
            let name = decoded(name);
            !self.removes_all && !self.removed.iter().any(|gone| gone.as_bytes() == &*name)
        };
        let mut parts: Vec<&str> = query.unwrap_or("").split('&').collect();
        parts.retain(|part| pairs(part).all(|(name, _)| stays(name)) && !part.is_empty());
        parts.extend(self.added.iter().map(String::as_str));
        (!parts.is_empty()).then(|| parts.join("&"))
    }
}

fn host(name: &str, problems: &mut Vec<Problem>) -> Option<HeaderValue> {
    let value = match canonical_host(name) {
        Ok(_) => field_value("host", name),
        Err(_) => Err(Problem::at("host", format!("\"{name}\" is not a host"))
            .help("write a name or an address, with a port if it needs one")),
    };
    value.map_err(|problem| problems.push(problem)).ok()
}

const MOST_RULES: usize = 1000;
