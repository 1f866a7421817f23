//! Where a matched request goes: the path sent upstream, or the address of a redirect.
//! It must not know how either is sent.
//! Called by the proxy, `explain` and config tests after `decide`.

use std::borrow::Cow;

use windrose_plugins::contract::Location;

use super::Head;
use crate::snapshot::route::{Candidate, PathPattern, PathRewrite, Redirect};

/// The path sent upstream for a canonical path.
pub fn rewritten_path<'p>(candidate: &Candidate, path: &'p str) -> Cow<'p, str> {
    rewrite(&candidate.rule.rewrite.path, &candidate.path, path)
}

fn rewrite<'p>(rewrite: &PathRewrite, pattern: &PathPattern, path: &'p str) -> Cow<'p, str> {
    match rewrite {
        PathRewrite::Keep => Cow::Borrowed(path),
        PathRewrite::Whole(whole) => Cow::Owned(whole.to_string()),
        PathRewrite::Prefix(replacement) => Cow::Owned(replace_prefix(pattern, replacement, path)),
        PathRewrite::Regex(edit) => edit.apply(path),
    }
}

/// Replaces the matched prefix so that exactly one slash joins the parts, as the Gateway API's table for ReplacePrefixMatch has it.
fn replace_prefix(pattern: &PathPattern, replacement: &str, path: &str) -> String {
    let matched = match pattern {
        PathPattern::Prefix(prefix) => prefix.len(),
        PathPattern::Exact(_) | PathPattern::Regex(_) | PathPattern::Unknown => path.len(),
    };
    let rest = path[matched.min(path.len())..].trim_start_matches('/');
    let start = replacement.trim_end_matches('/');
    let slash_stays = path.len() > matched && path[matched..].starts_with('/');
    match (start, rest) {
        ("", rest) => format!("/{rest}"),
        (start, "") if slash_stays => format!("{start}/"),
        (_, "") => replacement.to_owned(),
        (start, rest) => format!("{start}/{rest}"),
    }
}

/// The address a redirect points to. `port` is the one the client named, `secure` whether it came over TLS.
pub fn location(
    redirect: &Redirect,
    candidate: &Candidate,
    head: &Head<'_>,
    port: Option<u16>,
    secure: bool,
) -> String {
    let own_scheme = if secure { "https" } else { "http" };
    let scheme = redirect.scheme.as_deref().unwrap_or(own_scheme);
    let host = redirect.host.as_deref().unwrap_or(head.host);
    let kept = if redirect.scheme.is_some() {
        None
    } else {
        port
    };
    let path = rewrite(&redirect.path, &candidate.path, head.path);
    let location = Location {
        scheme,
        host,
        port: redirect.port.or(kept),
        path: &path,
        query: head.query,
    };
    location.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacing_a_prefix_leaves_one_slash_between() {
        // prefix, replacement, path, expected: the table of the Gateway API reference
        let cases = [
            ("/foo", "/xyz", "/foo/bar", "/xyz/bar"),
            ("/foo", "/xyz/", "/foo/bar", "/xyz/bar"),
            ("/foo", "/xyz", "/foo", "/xyz"),
            ("/foo", "/xyz", "/foo/", "/xyz/"),
            ("/foo", "/", "/foo/bar", "/bar"),
            ("/foo", "/", "/foo", "/"),
            ("/foo", "/", "/foo/", "/"),
            ("", "/v2", "/bar", "/v2/bar"),
        ];
        for (prefix, replacement, path, expected) in cases {
            let pattern = PathPattern::Prefix(prefix.into());
            assert_eq!(
                replace_prefix(&pattern, replacement, path),
                expected,
                "{prefix} {replacement} {path}"
            );
        }
    }
}
