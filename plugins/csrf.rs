//! Refuses requests that another site makes a user's browser send (cross-site request forgery).
//! It must not know sessions: it judges by what browsers say of a request's origin, and by a token that is there twice.
//! Called by the chain of a listener or route that names it.

#[cfg(test)]
mod tests;

use http::header::{ORIGIN, UPGRADE};
use http::{HeaderName, Uri};
use pingora_http::RequestHeader;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{
    canonical_path, field_name, Answer, Blame, Build, Cause, Counter, Hooks, Plugin, PluginDef,
    Problem, Request, Safety, Side, Verdict,
};
use crate::host;
use crate::place::{Found, Place, Places};

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// Another site made the browser send it.
pub static CROSS_ORIGIN: Cause = Cause {
    name: "csrf.cross_origin",
    blame: Blame::Client,
    status: 403,
    title: "Forbidden",
    explanation: "A browser says that another site or origin made it send a request that may change something (`Sec-Fetch-Site`, `Origin`).",
    next_step: "If that other origin is meant to do so, add it to `trusted_origins` of the `csrf` plugin. Otherwise a page tries to act in the name of its visitor, or a link leads to what should not be a GET.",
};

/// The token is not there twice.
pub static TOKEN: Cause = Cause {
    name: "csrf.token",
    blame: Blame::Client,
    status: 403,
    title: "Forbidden",
    explanation: "The request may change something, and its field does not repeat the token of its cookie.",
    next_step: "Let the page's script copy the cookie into the field of `double_submit`, and the service set the cookie: a random one for each session.",
};

/// Settings of `csrf`. Requests by GET, HEAD and OPTIONS go on: they must not change anything. Of others, and of those that open a
/// WebSocket, those that a browser says another site makes are refused; clients that are no browsers say nothing, and go on.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Other origins that may send requests, such as `https://app.example.com`: scheme, host and port as browsers write them.
    /// At most 64. Default: none.
    #[serde(default)]
    pub trusted_origins: Vec<String>,
    /// Prefixes of canonical paths that anybody may send requests to, such as `/hooks/`; each begins and ends with `/`, or is
    /// one path. At most 64. Default: none.
    #[serde(default)]
    pub exempt: Vec<String>,
    /// Asks for a token as well, for browsers that say nothing of a request's origin: the value of a cookie, repeated in a
    /// field, which another site cannot do. The service makes the token and sets the cookie. Default: not asked for.
    #[serde(default)]
    pub double_submit: Option<DoubleSubmit>,
}

/// Where a token is twice.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DoubleSubmit {
    /// The cookie. With the prefix `__Host-` no neighbouring domain can set it.
    pub cookie: String,
    /// The field that repeats it, such as `x-csrf-token`.
    pub header: String,
}

impl Plugin for Config {
    const KIND: &'static str = "csrf";
    const ABOUT: &'static str = "refuse what another site makes a browser send";
    const EXAMPLE: &'static str = "trusted_origins: ['https://app.example.com']\nexempt: [/hooks/]\ndouble_submit: {cookie: __Host-csrf, header: x-csrf-token}";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[&CROSS_ORIGIN, &TOKEN];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let gate = self.gate(build)?;
        let token = gate.twice.iter().map(|(_, header)| header.as_str());
        let hooks = Hooks::new().with_credentials(token.map(str::to_owned));
        Ok(hooks.on_request(move |request| gate.check(request)))
    }
}

struct Gate {
    trusted: Vec<String>,
    exempt: Vec<String>,
    twice: Option<(Places, HeaderName)>,
    refused: Counter,
}

impl Config {
    fn gate(self, build: &Build<'_>) -> Result<Gate, Vec<Problem>> {
        let mut problems = Vec::new();
        for (path, length) in [
            ("trusted_origins", self.trusted_origins.len()),
            ("exempt", self.exempt.len()),
        ] {
            if length > MOST {
                let fact = format!("has {length} entries; {MOST} are the most");
                problems.push(Problem::at(path, fact));
            }
        }
        for (at, origin) in self.trusted_origins.iter().enumerate() {
            if !is_origin(origin) {
                let fact = format!("{origin:?} is no origin");
                let problem = Problem::at(format!("trusted_origins[{at}]"), fact);
                problems.push(problem.help("write it as browsers do: `https://app.example.com`, in lower case, no path, no port that goes without saying"));
            }
        }
        for (at, path) in self.exempt.iter().enumerate() {
            let is_canonical = canonical_path(path).is_ok_and(|canonical| *canonical == **path);
            if is_canonical && !path.contains(['?', '#']) {
                continue;
            }
            let fact = format!("{path:?} is no canonical path, and would match nothing");
            let remedy = "begin with \"/\" and leave out \"//\", \".\", \"..\", queries and escapes of plain characters";
            problems.push(Problem::at(format!("exempt[{at}]"), fact).help(remedy));
        }
        let twice = self.double_submit.as_ref().and_then(|double| {
            let cookie = [Place::Cookie(double.cookie.clone())];
            let mut wrong = Vec::new();
            let places = Places::of(&cookie, &[], &mut wrong);
            let wrong = wrong.into_iter().map(|one| Problem {
                path: "double_submit.cookie".to_owned(),
                ..one
            });
            problems.extend(wrong);
            match field_name(Side::Request, "double_submit.header", &double.header) {
                Ok(header) => Some((places, header)),
                Err(problem) => {
                    problems.push(problem);
                    None
                }
            }
        });
        match problems.is_empty() {
            true => Ok(Gate {
                trusted: self.trusted_origins,
                exempt: self.exempt,
                twice,
                refused: build.counter("refused"),
            }),
            false => Err(problems),
        }
    }
}

/// An origin as browsers write it (RFC 6454 section 6.2).
fn is_origin(text: &str) -> bool {
    let plain = text.strip_prefix("https://").map(|rest| (rest, ":443"));
    let plain = plain.or_else(|| text.strip_prefix("http://").map(|rest| (rest, ":80")));
    let Some((rest, port)) = plain else {
        return false;
    };
    let is_written_so = rest == rest.to_ascii_lowercase() && !rest.ends_with(port);
    let uri = text.parse::<Uri>().ok();
    let authority = uri.as_ref().and_then(|uri| uri.authority());
    is_written_so && authority.is_some_and(|one| one.as_str() == rest && !rest.contains('@'))
}

impl Gate {
    fn check(&self, request: &Request<'_>) -> Verdict {
        let Err(cause) = self.judge(request.head, request.client.path) else {
            return Verdict::Continue;
        };
        if request.effects.is_live() {
            (self.refused)(1);
        }
        Answer::of(cause).into()
    }

    fn judge(&self, head: &RequestHeader, path: &str) -> Result<(), &'static Cause> {
        let is_safe = matches!(head.method.as_str(), "GET" | "HEAD" | "OPTIONS");
        // A WebSocket begins as a GET, carries cookies, and no preflight asks for it: its page has to be one of ours, too.
        let opens = head.headers.contains_key(UPGRADE);
        if is_safe && !opens || self.is_exempt(path) {
            return Ok(());
        }
        if self.comes_from_here(head) == Some(false) {
            return Err(&CROSS_ORIGIN);
        }
        match &self.twice {
            // Pages cannot add fields to it.
            _ if is_safe => Ok(()),
            Some((cookie, header)) if !is_repeated(head, cookie, header) => Err(&TOKEN),
            Some(_) | None => Ok(()),
        }
    }

    fn is_exempt(&self, path: &str) -> bool {
        self.exempt.iter().any(|one| match one.ends_with('/') {
            true => path.starts_with(one.as_str()),
            false => path == one,
        })
    }

    /// Whether the browser says that a page of this origin, or of a trusted one, sends it; none where it says nothing.
    fn comes_from_here(&self, head: &RequestHeader) -> Option<bool> {
        let headers = &head.headers;
        let mut origins = headers.get_all(ORIGIN).iter();
        let (origin, other) = (origins.next(), origins.next());
        let origin = origin.map(|origin| origin.to_str().unwrap_or_default());
        if other.is_some() {
            return Some(false);
        }
        if origin.is_some_and(|origin| self.trusted.iter().any(|one| one == origin)) {
            return Some(true);
        }
        // Pages cannot write this one. `none` is the user: an address typed, a bookmark.
        let mut sites = headers.get_all("sec-fetch-site").iter();
        if let Some(site) = sites.next() {
            let is_own = matches!(site.as_bytes(), b"same-origin" | b"none");
            return Some(is_own && sites.next().is_none());
        }
        // Older browsers: the origin's host is the one that was asked. `null` is nobody's.
        let (scheme, of_origin) = origin?.split_once("://").unwrap_or_default();
        let port = if scheme == "https" { ":443" } else { ":80" };
        Some(host::asked(head).is_some_and(|host| {
            // Browsers leave the port out that goes without saying; what stands between need not.
            let host = host.strip_suffix(port).unwrap_or(host);
            !of_origin.is_empty() && host.eq_ignore_ascii_case(of_origin)
        }))
    }
}

fn is_repeated(head: &RequestHeader, cookie: &Places, header: &HeaderName) -> bool {
    let mut fields = head.headers.get_all(header).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else {
        return false;
    };
    match cookie.look(head) {
        Found::One(token) => {
            let field = field.as_bytes();
            token.len() >= SHORTEST_TOKEN
                && token.len() == field.len()
                && openssl::memcmp::eq(&token, field)
        }
        Found::Nothing | Found::Several => false,
    }
}

const MOST: usize = 64;
/// A token that can be guessed is none: 16 letters of base64 are 96 bits.
const SHORTEST_TOKEN: usize = 16;
