//! Sends clients elsewhere: to TLS, to the one host name, to paths that moved.
//! It must not know routes; a route that only ever redirects uses its own `redirect` action.
//! Called by the chain of a listener or route that names it; on a listener it comes before the decision.

mod moved;
#[cfg(test)]
mod tests;

use http::HeaderValue;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{
    causes, Answer, Blame, Build, Cause, Hooks, Plugin, PluginDef, Problem, Request, Safety,
    Verdict,
};

use moved::Moves;

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// The plugin sent the client elsewhere.
pub static REDIRECT: Cause = Cause {
    name: "redirect",
    blame: Blame::Policy,
    status: 308,
    title: "Moved",
    explanation: "A `redirect` plugin sent the client to another scheme, host or path; the service was not asked.",
    next_step: "Nothing is wrong. The answer's Location says where to; the plugin's settings say why.",
};

/// The plugin's rules go in a circle.
pub static LOOP: Cause = Cause {
    name: "redirect.loop",
    blame: Blame::Proxy,
    status: 508,
    title: "Redirected in a circle",
    explanation: "The rules of a `redirect` plugin change their own result again, eight times over; a client that followed would never arrive.",
    next_step: "Anchor the patterns, such as `^/old/(.*)$`, so that no replacement matches a rule itself.",
};

/// Settings of `redirect`. Everything that is to change is changed by one answer, which is given only where something does change.
/// Addresses are absolute, their host is the request's own or one written here, and their path is canonical: no request can make
/// them point to a host of its choice.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Sends requests that came without TLS to `https`. Behind another proxy that ends TLS, list it in the listener's
    /// `trusted_proxies`, or clients go in a circle. Default: `false`.
    #[serde(default)]
    pub https: bool,
    /// The port of `https` addresses. Default: `443`.
    #[serde(default)]
    pub https_port: Option<u16>,
    /// Sends requests for any other host to this one, such as `www.shop.test`. Default: hosts stay.
    #[serde(default)]
    pub host: Option<String>,
    /// Paths that moved: of these, the first whose pattern is found in the canonical path. At most 1000. Default: none.
    #[serde(default)]
    pub paths: Vec<Moved>,
    /// `add` or `remove` a slash at the end of paths. `add` leaves paths alone whose last part has a dot. Default: paths stay.
    #[serde(default)]
    pub trailing_slash: Option<Slash>,
    /// Beginnings of canonical paths that are never redirected, such as `/.well-known/acme-challenge/`. Default: none.
    #[serde(default)]
    pub except: Vec<String>,
    /// 301, 302, 303, 307 or 308. With 307 and 308 the method and body stay. Default: `308`.
    #[serde(default = "permanent")]
    pub status: u16,
}

/// A path that moved.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Moved {
    /// What to find in the canonical path (RE2 syntax), such as `^/old/(.*)$`.
    pub pattern: String,
    /// What to put in its place, with `$1` or `${name}` for groups. A `?` begins a query, which goes before the request's own.
    pub replace: String,
    /// The host it moved to. Groups cannot stand here. Default: the host as it would be without this rule.
    #[serde(default)]
    pub host: Option<String>,
    /// 301, 302, 303, 307 or 308. Default: the plugin's.
    #[serde(default)]
    pub status: Option<u16>,
}

/// What to do with the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Slash {
    /// Ends with a slash.
    Add,
    /// Ends without one, but for `/` itself.
    Remove,
}

fn permanent() -> u16 {
    308
}

impl Plugin for Config {
    const KIND: &'static str = "redirect";
    const ABOUT: &'static str = "send clients to TLS, to one host, to paths that moved";
    const EXAMPLE: &'static str = r#"https: true
host: www.shop.test
paths:
- {pattern: "^/old/(.*)$", replace: "/new/$1", status: 301}
except: [/.well-known/acme-challenge/]"#;
    const SAFETY: Safety = Safety::Convenience;
    const CAUSES: &'static [&'static Cause] = &[&REDIRECT, &LOOP];

    fn build(self, _: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let moves = Moves::of(self)?;
        Ok(Hooks::new().on_request(move |request| verdict(&moves, request)))
    }
}

fn verdict(moves: &Moves, request: &Request<'_>) -> Verdict {
    let to = match moves.of_request(request) {
        Ok(None) => return Verdict::Continue,
        Ok(Some(to)) => to,
        Err(moved::Wrong::Loop) => {
            return Verdict::Failed {
                cause: &LOOP,
                reason: "its rules change their own result again and again".to_owned(),
            }
        }
        Err(moved::Wrong::Host) => return Answer::of(&causes::BAD_HOST).into(),
        Err(moved::Wrong::Path) => return Answer::of(&causes::BAD_TARGET).into(),
    };
    // Bytes of a query that no field can carry: the service would not have got the request either.
    let Ok(location) = HeaderValue::from_str(&to.location) else {
        return Answer::of(&causes::BAD_TARGET).into();
    };
    let mut answer = Answer::of(&REDIRECT).with(http::header::LOCATION, location);
    answer.status = to.status;
    answer.body = Some((HeaderValue::from_static("text/plain"), bytes::Bytes::new()));
    answer.into()
}
