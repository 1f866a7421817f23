//! Sets, adds and removes header fields of the request that goes upstream and of the response that comes back.
//! It must not know which fields other plugins manage; it refuses only those that frame the message.
//! Called by the chain of a listener or route that names it.

mod template;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{
    change_request, change_response, field_name, Build, Cause, Hooks, Plugin, PluginDef, Principal,
    Problem, Request, Response, Safety, Side, Slot, Texts, Verdict,
};

use crate::statuses::Statuses;
use template::{Facts, Template};

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// Settings of `headers`. In every block `remove` runs first, then `set`, then `add`.
///
/// Values may hold `${request_id}`, `${client_ip}`, `${host}`, `${path}`, `${route}` and `${principal}`; write `$${`
/// for the characters `${` themselves. Bytes of a variable that a field cannot carry are percent-encoded.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Edits of the request as it goes upstream, after the proxy's own forwarded fields; plugins and routes still
    /// see the request as the client sent it. Default: none.
    #[serde(default)]
    pub request: Edits,
    /// Edits of the response as it goes to the client, also of answers the proxy makes itself. Default: none.
    #[serde(default)]
    pub response: ResponseEdits,
}

/// Edits of a request.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Edits {
    /// Fields to set by name, replacing every value they have. A value that comes out empty removes the field, so a
    /// client cannot supply `X-User` where `${principal}` is unknown. Default: none.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Fields to add by name, each with a value or a list of values; values that are there stay. A value that comes
    /// out empty is not added. Default: none.
    #[serde(default)]
    pub add: BTreeMap<String, Texts>,
    /// Names of fields to remove; a name that ends in `*` removes every field that begins with it, except those the
    /// connection needs. Default: none.
    #[serde(default)]
    pub remove: Vec<String>,
}

/// Edits of a response.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResponseEdits {
    /// As in the request block. `${principal}` is known once the request went upstream. Default: none.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// As in the request block. Default: none.
    #[serde(default)]
    pub add: BTreeMap<String, Texts>,
    /// As in the request block. Default: none.
    #[serde(default)]
    pub remove: Vec<String>,
    /// Only edits responses with these statuses: codes, classes or ranges, such as `[404, 5xx, 300-303]`.
    /// Default: every status.
    #[serde(default)]
    pub statuses: Texts,
}

impl Plugin for Config {
    const KIND: &'static str = "headers";
    const ABOUT: &'static str = "set, add and remove header fields";
    const EXAMPLE: &'static str = r#"request:
  set: {X-User: "${principal}"}
  remove: [X-Internal-*]
response:
  set: {Strict-Transport-Security: max-age=31536000}
  remove: [Server, X-Powered-By]"#;
    const SAFETY: Safety = Safety::Convenience;
    const CAUSES: &'static [&'static Cause] = &[];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let mut problems = Vec::new();
        let request = Compiled::of(Side::Request, &self.request, &mut problems);
        let statuses = Statuses::of("response.statuses", &self.response.statuses, &mut problems);
        let edits = Edits {
            set: self.response.set,
            add: self.response.add,
            remove: self.response.remove,
        };
        let response = Compiled::of(Side::Response, &edits, &mut problems);
        if problems.is_empty() && request.is_empty() && response.is_empty() {
            problems
                .push(Problem::at("", "edits nothing").help("add a `request` or `response` block"));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(hooks(request, response, statuses, build.slot()))
    }
}

fn hooks(
    request: Compiled,
    response: Compiled,
    statuses: Statuses,
    caller: Slot<Principal>,
) -> Hooks {
    let mut hooks = Hooks::new();
    let keeps_caller = response.needs_principal();
    if keeps_caller || !request.is_empty() {
        hooks = hooks.on_upstream_request(move |message| {
            if let (true, Some(principal)) = (keeps_caller, message.principal.as_ref()) {
                message.slots.put(caller, principal.clone());
            }
            edit_request(&request, message)
        });
    }
    if !response.is_empty() {
        hooks = hooks.on_response(move |message| {
            if statuses.is_empty() || statuses.has(message.head.status) {
                edit_response(&response, message, caller);
            }
            Verdict::Continue
        });
    }
    hooks
}

fn edit_request(edits: &Compiled, message: &mut Request<'_>) -> Verdict {
    let facts = Facts {
        client: message.client,
        principal: message.principal.as_ref(),
    };
    change_request(message.head, |fields| edits.apply(fields, &facts));
    Verdict::Continue
}

fn edit_response(edits: &Compiled, message: &mut Response<'_>, caller: Slot<Principal>) {
    let facts = Facts {
        client: message.client,
        principal: message.slots.value(caller),
    };
    change_response(message.head, |fields| edits.apply(fields, &facts));
}

/// Edits with every name and value parsed.
#[derive(Default)]
struct Compiled {
    remove: Vec<HeaderName>,
    remove_prefixes: Vec<String>,
    set: Vec<(HeaderName, Template)>,
    add: Vec<(HeaderName, Template)>,
}

impl Compiled {
    fn of(side: Side, edits: &Edits, problems: &mut Vec<Problem>) -> Compiled {
        let block = match side {
            Side::Request => "request",
            Side::Response => "response",
        };
        let mut compiled = Compiled::default();
        for (index, name) in edits.remove.iter().enumerate() {
            let path = format!("{block}.remove[{index}]");
            problems.extend(compiled.remove_line(side, &path, name).err());
        }
        for (name, value) in &edits.set {
            let path = format!("{block}.set.{name}");
            match (field_name(side, &path, name), Template::of(&path, value)) {
                (Ok(name), Ok(template)) => compiled.set.push((name, template)),
                (name, value) => problems.extend(name.err().into_iter().chain(value.err())),
            }
        }
        for (name, values) in &edits.add {
            let path = format!("{block}.add.{name}");
            let parsed = removable(side, &path, name);
            for value in &values.0 {
                match (parsed.clone(), Template::of(&path, value)) {
                    (Ok(name), Ok(template)) => compiled.add.push((name, template)),
                    (name, value) => problems.extend(name.err().into_iter().chain(value.err())),
                }
            }
        }
        compiled
    }

    fn remove_line(&mut self, side: Side, path: &str, name: &str) -> Result<(), Problem> {
        match name.strip_suffix('*') {
            Some("") => Err(Problem::at(path, "\"*\" would remove every field")
                .help("write the beginning of the names, such as \"X-Internal-*\"")),
            Some(prefix) => {
                // A prefix such as `x-` is a name too, so the same rule says which characters are allowed.
                HeaderName::from_bytes(prefix.as_bytes()).map_err(|_| {
                    Problem::at(
                        path,
                        format!("\"{name}\" is not the beginning of a field name"),
                    )
                })?;
                self.remove_prefixes.push(prefix.to_ascii_lowercase());
                Ok(())
            }
            None => {
                self.remove.push(removable(side, path, name)?);
                Ok(())
            }
        }
    }

    fn apply(&self, fields: &mut HeaderMap, facts: &Facts<'_>) {
        for name in &self.remove {
            fields.remove(name);
        }
        for name in self.with_prefix(fields) {
            fields.remove(name);
        }
        for (name, template) in &self.set {
            match template.render(facts) {
                Some(value) => fields.insert(name, value),
                None => fields.remove(name),
            };
        }
        for (name, template) in &self.add {
            if let Some(value) = template.render(facts) {
                fields.append(name, value);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.remove.is_empty()
            && self.remove_prefixes.is_empty()
            && self.set.is_empty()
            && self.add.is_empty()
    }

    fn needs_principal(&self) -> bool {
        let mut templates = self.set.iter().chain(&self.add);
        templates.any(|(_, template)| template.needs_principal())
    }

    /// The fields of this message that a removed prefix covers, except those the connection needs.
    fn with_prefix(&self, headers: &HeaderMap) -> Vec<HeaderName> {
        if self.remove_prefixes.is_empty() {
            return Vec::new();
        }
        let is_covered = |name: &&HeaderName| {
            let mut prefixes = self.remove_prefixes.iter();
            prefixes.any(|prefix| name.as_str().starts_with(prefix))
                && removable(Side::Request, "", name.as_str()).is_ok()
        };
        headers.keys().filter(is_covered).cloned().collect()
    }
}

/// A request has exactly one Host field (RFC 9112 section 3.2), so it can be set but not added or removed.
fn removable(side: Side, path: &str, name: &str) -> Result<HeaderName, Problem> {
    let name = field_name(side, path, name)?;
    match name == http::header::HOST {
        true => Err(
            Problem::at(path, "a request has exactly one \"host\" field")
                .help("use `set` to change it"),
        ),
        false => Ok(name),
    }
}
