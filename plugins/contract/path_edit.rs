//! A path edited by a regular expression, wherever it is written: in a route or in a plugin's settings.
//! It must not know which message the path belongs to.
//! Compiled with the configuration; applied for each request.

use std::borrow::Cow;

use regex::{Regex, RegexBuilder};

use super::Problem;

/// Replaces what a regular expression finds in a path, as often as it finds it.
#[derive(Debug, Clone)]
pub struct PathEdit {
    pattern: Regex,
    replace: Box<str>,
}

impl PathEdit {
    /// An edit that is known to be right.
    pub fn new(pattern: Regex, replace: &str) -> PathEdit {
        PathEdit {
            pattern,
            replace: replace.into(),
        }
    }

    /// An edit as an operator wrote it.
    ///
    /// # Errors
    /// An expression that is none or needs more than 1 MiB, and groups in the replacement that it does not have.
    pub fn parse(path: &str, pattern: &str, replace: &str) -> Result<PathEdit, Problem> {
        let built = RegexBuilder::new(pattern).size_limit(PATTERN_BYTES).build();
        let regex = built.map_err(|error| {
            let text = error.to_string();
            let why = text.lines().last().unwrap_or_default().trim();
            let why = why.trim_start_matches("error: ");
            Problem::at(
                format!("{path}.pattern"),
                format!("\"{pattern}\" is not a regular expression: {why}"),
            )
            .help("use RE2 syntax (no look-around, no back-references)")
        })?;
        match groups(replace).find(|name| !has_group(&regex, name)) {
            Some(name) => Err(Problem::at(
                format!("{path}.replace"),
                format!("the pattern has no group \"{name}\""),
            )
            .help("write `${1}` where letters, digits or `_` follow a group, and `$$` for the character itself")),
            None => Ok(PathEdit::new(regex, replace)),
        }
    }

    /// Whether the expression finds anything in a path.
    pub fn is_for(&self, path: &str) -> bool {
        self.pattern.is_match(path)
    }

    /// The path afterwards, which begins with a slash.
    pub fn apply<'p>(&self, path: &'p str) -> Cow<'p, str> {
        let edited = self.pattern.replace_all(path, &*self.replace);
        match edited.starts_with('/') {
            true => edited,
            false => Cow::Owned(format!("/{edited}")),
        }
    }
}

/// The groups that a replacement names, as the crate `regex` reads it.
fn groups(replace: &str) -> impl Iterator<Item = &str> {
    let mut rest = replace;
    std::iter::from_fn(move || loop {
        rest = &rest[rest.find('$')? + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
            continue;
        }
        if let Some((name, after)) = rest.strip_prefix('{').and_then(|it| it.split_once('}')) {
            rest = after;
            return Some(name);
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        rest = after;
        if !name.is_empty() {
            return Some(name);
        }
    })
}

fn has_group(regex: &Regex, name: &str) -> bool {
    match name.parse::<usize>() {
        Ok(index) => index < regex.captures_len(),
        Err(_) => regex.capture_names().flatten().any(|known| known == name),
    }
}

/// What an expression may need when compiled.
const PATTERN_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(pattern: &str, replace: &str, path: &str) -> String {
        let edit = PathEdit::parse("", pattern, replace).unwrap();
        edit.apply(path).into_owned()
    }

    #[test]
    fn groups_are_put_in_and_the_path_keeps_its_slash() {
        assert_eq!(edited("^/old/(.*)$", "/new/$1", "/old/a/b"), "/new/a/b");
        assert_eq!(edited("^/(?P<a>.)", "/${a}x", "/cd"), "/cxd");
        assert_eq!(edited("^/", "", "/a"), "/a");
        assert_eq!(edited("a", "$$", "/aa"), "/$$");
        assert_eq!(edited("none", "x", "/a"), "/a");
    }

    #[test]
    fn a_group_that_is_not_there_is_found_before_it_vanishes() {
        let problem = |pattern: &str, replace: &str| {
            let found = PathEdit::parse("paths[0]", pattern, replace).err();
            found.map(|problem| problem.path)
        };

        assert_eq!(problem("(a)", "$2"), Some("paths[0].replace".to_owned()));
        assert_eq!(problem("(a)", "$1x"), Some("paths[0].replace".to_owned()));
        assert_eq!(problem("(a)", "${1}x $$2 $ $"), None);
        assert_eq!(problem("(", ""), Some("paths[0].pattern".to_owned()));
        assert_eq!(
            problem("a{9999}{9999}", ""),
            Some("paths[0].pattern".to_owned())
        );
    }
}
