//! Fields that only somebody asked may say of a request: whatever a client sends of them is taken away.
//! It must not know who is asked, nor what the fields mean.
//! Used by plugins that tell the service behind the proxy what an authorization service or a token said.

use http::{HeaderMap, HeaderName, HeaderValue};
use pingora_http::RequestHeader;

use crate::contract::{change_request, field_name, Hooks, Problem, Request, Side, Slot, Verdict};

/// Names of fields, of which one that ends in `*` stands for all that begin with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Names {
    exact: Vec<HeaderName>,
    begins: Vec<String>,
    /// Whether `_` is in one of them.
    has_scores: bool,
}

impl Names {
    /// Names as written at a path of the settings.
    pub(crate) fn of(
        side: Side,
        path: &str,
        names: &[String],
        problems: &mut Vec<Problem>,
    ) -> Names {
        let mut all = Names {
            has_scores: names.iter().any(|name| name.contains('_')),
            ..Names::default()
        };
        for (at, name) in names.iter().enumerate() {
            let path = format!("{path}[{at}]");
            match name.strip_suffix('*') {
                None => match field_name(side, &path, name) {
                    Ok(name) => all.exact.push(name),
                    Err(problem) => problems.push(problem),
                },
                Some(begin) if begin.len() < SHORTEST || HeaderName::try_from(begin).is_err() => {
                    let fact = format!("\"{name}\" stands for too many fields, or for none");
                    let remedy =
                        "write at least three characters before the \"*\", such as \"x-auth-*\"";
                    problems.push(Problem::at(path, fact).help(remedy));
                }
                Some(begin) => all.begins.push(begin.to_ascii_lowercase()),
            }
        }
        if names.len() > MOST {
            let fact = format!("names {} fields, more than {MOST}", names.len());
            problems.push(Problem::at(path, fact).help("use a name that ends in \"*\""));
        }
        all
    }

    /// A single name more.
    pub(crate) fn add(&mut self, name: HeaderName) {
        self.has_scores |= name.as_str().contains('_');
        self.exact.push(name);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.begins.is_empty()
    }

    pub(crate) fn has(&self, name: &HeaderName) -> bool {
        self.exact.contains(name)
            || self
                .begins
                .iter()
                .any(|begin| name.as_str().starts_with(begin))
    }

    /// Whether a service could take a field for one of these: some read `_` and `-` as the same.
    fn is_taken_for(&self, name: &HeaderName) -> bool {
        let dashed = |name: &str| name.replace('_', "-");
        if self.has(name) {
            return true;
        }
        if !self.has_scores && !name.as_str().contains('_') {
            return false;
        }
        let name = dashed(name.as_str());
        let is_exact = |own: &HeaderName| dashed(own.as_str()) == name;
        let is_begun = |begin: &String| name.starts_with(&dashed(begin));
        self.exact.iter().any(is_exact) || self.begins.iter().any(is_begun)
    }

    /// The fields of a response that have these names and may go on, at most so many bytes of them.
    ///
    /// # Errors
    /// That there is more.
    pub(crate) fn picked(
        &self,
        headers: &HeaderMap,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, TooMuch> {
        let named = headers.iter().filter(|(name, _)| self.has(name));
        let picked: Vec<_> = named
            .filter(|(name, _)| field_name(Side::Response, "", name.as_str()).is_ok())
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let size = |(name, value): &(HeaderName, HeaderValue)| name.as_str().len() + value.len();
        match picked.iter().map(size).sum::<usize>() > LARGEST {
            true => Err(TooMuch),
            false => Ok(picked),
        }
    }

    /// Takes all of them away.
    pub(crate) fn strip(&self, head: &mut RequestHeader) {
        if self.is_empty() {
            return;
        }
        let taken = |name: &&HeaderName| self.is_taken_for(name);
        let names: Vec<HeaderName> = head.headers.keys().filter(taken).cloned().collect();
        for name in names {
            head.remove_header(&name);
        }
    }
}

/// More bytes of fields than go on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMuch;

/// What is granted to a request, from the moment it is known until the request goes upstream.
#[derive(Debug, Clone)]
pub(crate) struct Granted {
    names: Names,
    kept: Slot<Vec<(HeaderName, HeaderValue)>>,
}

impl Granted {
    pub(crate) fn new(names: Names, kept: Slot<Vec<(HeaderName, HeaderValue)>>) -> Granted {
        Granted { names, kept }
    }

    /// Takes away what the client sent. To be called before anybody is asked, so that it also holds where asking fails.
    pub(crate) fn strip(&self, request: &mut Request<'_>) {
        self.names.strip(request.head);
    }

    /// Grants fields to a request.
    pub(crate) fn grant(&self, request: &mut Request<'_>, fields: Vec<(HeaderName, HeaderValue)>) {
        set(request.head, &fields);
        request.slots.put(self.kept, fields);
    }

    /// Grants them to the request as it goes upstream. Only there it is certain what the service gets: a client can have fields taken
    /// away by naming them in `Connection`.
    pub(crate) fn apply(&self, request: &mut Request<'_>) {
        self.names.strip(request.head);
        if let Some(fields) = request.slots.value(self.kept) {
            set(request.head, fields);
        }
    }

    /// Grants again what was granted, after somebody has taken fields away.
    pub(crate) fn renew(&self, request: &mut Request<'_>) {
        if request.slots.value(self.kept).is_some() {
            self.apply(request);
        }
    }

    /// Lets a plugin around this one know of it.
    pub(crate) fn tell(&self, mut hooks: Hooks) -> Hooks {
        if !self.names.is_empty() {
            hooks.granted.push(self.clone());
        }
        hooks
    }

    /// Attaches [`Granted::apply`].
    /// `ends` is a field more that does not go on.
    pub(crate) fn attach(self, hooks: Hooks, ends: Option<HeaderName>) -> Hooks {
        if self.names.is_empty() && ends.is_none() {
            return hooks;
        }
        self.tell(hooks).on_upstream_request(move |request| {
            if let Some(name) = &ends {
                request.head.remove_header(name);
            }
            self.apply(request);
            Verdict::Continue
        })
    }
}

fn set(head: &mut RequestHeader, fields: &[(HeaderName, HeaderValue)]) {
    if fields.is_empty() {
        return;
    }
    change_request(head, |map| {
        for (name, value) in fields {
            map.append(name, value.clone());
        }
    });
}

const SHORTEST: usize = 3;
const MOST: usize = 64;
/// Bytes of names and values that one answer may add to a request.
const LARGEST: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_taken_away_however_it_is_spelled() {
        let mut problems = Vec::new();
        let written = ["x-user", "x_mail", "x-auth_id", "x_team_*", "x-role-*"].map(str::to_owned);
        let names = Names::of(Side::Request, "", &written, &mut problems);
        assert_eq!(problems.len(), 0);
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        for name in [
            "x-user",
            "x_user",
            "x-mail",
            "x_mail",
            "x-auth-id",
            "x_auth_id",
            "x-auth_id",
            "x-team-a",
            "x_team_a",
            "x_role_a",
            "x-role-a",
            "x_other",
            "x-other",
            "x-role",
        ] {
            head.append_header(name, "1").unwrap();
        }

        names.strip(&mut head);

        let mut left: Vec<&str> = head.headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["x-other", "x-role", "x_other"]);
    }
}
