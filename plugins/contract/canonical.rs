//! One canonical form of host and path, for routing, policy and upstream alike.
//! It must not know routes.
//! The proxy calls it once for each request before the decision, plugins for what they make of a path; borrows when nothing has
//! to change.

use std::borrow::Cow;

/// A host that cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadHost;

/// A path that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadPath {
    /// A byte that may not stand in a target, or an encoded NUL.
    Byte,
    /// A percent sign without two hex digits.
    Escape,
    /// More `..` than folders.
    AboveRoot,
}

/// A host in canonical form.
#[derive(Debug, PartialEq, Eq)]
pub struct Host<'a> {
    /// Lower case, without port or trailing dot.
    pub name: Cow<'a, str>,
    /// The port, if one was given.
    pub port: Option<u16>,
}

/// Host and port of a Host field or authority (RFC 9110 section 7.2). Names, IPv4 and bracketed IPv6 are let through.
///
/// # Errors
/// When it is empty, has an empty label or characters no host has, or a port that is none.
pub fn canonical_host(text: &str) -> Result<Host<'_>, BadHost> {
    let (name, port) = split_port(text)?;
    let name = name.strip_suffix('.').unwrap_or(name);
    let bracketed = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    let fits = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.len() <= 253 && is_name(name),
    };
    if !fits {
        return Err(BadHost);
    }
    let upper = name.bytes().any(|byte| byte.is_ascii_uppercase());
    let name = if upper {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    };
    Ok(Host { name, port })
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), BadHost> {
    let colon = match text.rfind(']') {
        Some(bracket) => text[bracket..].find(':').map(|at| bracket + at),
        None => text.find(':'),
    };
    let Some(colon) = colon else {
        return Ok((text, None));
    };
    match &text[colon + 1..] {
        "" => Ok((&text[..colon], None)),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            let port = digits.parse().map_err(|_| BadHost)?;
            Ok((&text[..colon], Some(port)))
        }
        _ => Err(BadHost),
    }
}

/// Labels of host characters, none of them empty: `shop.test..` would be another name to routes than `shop.test`.
fn is_name(name: &str) -> bool {
    let mut before = b'.';
    let fits = name.bytes().all(|byte| {
        let is_empty_label = byte == b'.' && before == b'.';
        before = byte;
        is_host_byte(byte) && !is_empty_label
    });
    fits && before != b'.'
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')
}

/// The canonical form of a path: unreserved characters decoded, other escapes in upper case, `.` and `..` resolved,
/// runs of `/` made one (RFC 3986 section 6.2.2). `%2F` stays encoded, so it never becomes a separator.
///
/// # Errors
/// What makes the path unfit.
pub fn canonical_path(path: &str) -> Result<Cow<'_, str>, BadPath> {
    if is_canonical(path.as_bytes()) {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = decode_unreserved(path.as_bytes())?;
    let mut segments: Vec<&str> = Vec::new();
    let last = decoded.rsplit('/').next().unwrap_or_default();
    let folder = matches!(last, "" | "." | "..");
    for segment in decoded.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop().ok_or(BadPath::AboveRoot)?;
            }
            segment => segments.push(segment),
        }
    }
    let mut out = String::with_capacity(decoded.len() + 1);
    for segment in &segments {
        out.push('/');
        out.push_str(segment);
    }
    if folder || segments.is_empty() {
        out.push('/');
    }
    Ok(Cow::Owned(out))
}

/// Whether a path has nothing to change: the common case, decided in one pass.
fn is_canonical(path: &[u8]) -> bool {
    if path.first() != Some(&b'/') {
        return false;
    }
    let mut before = 0;
    for byte in path {
        match byte {
            b'/' | b'.' if before == b'/' => return false,
            b'%' | b'\\' | 0..=b' ' | 0x7f.. => return false,
            _ => before = *byte,
        }
    }
    true
}

fn decode_unreserved(path: &[u8]) -> Result<String, BadPath> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let high = rest
                    .next()
                    .and_then(|digit| (*digit as char).to_digit(16))
                    .ok_or(BadPath::Escape)?;
                let low = rest
                    .next()
                    .and_then(|digit| (*digit as char).to_digit(16))
                    .ok_or(BadPath::Escape)?;
                let value = (high * 16 + low) as u8;
                match value {
                    0 => return Err(BadPath::Byte),
                    value if is_unreserved(value) => out.push(value as char),
                    value => out.push_str(&format!("%{value:02X}")),
                }
            }
            b'\\' | 0..=b' ' | 0x7f.. => return Err(BadPath::Byte),
            byte => out.push(*byte as char),
        }
    }
    Ok(out)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> Result<String, BadPath> {
        canonical_path(text).map(Cow::into_owned)
    }

    #[test]
    fn plain_paths_are_borrowed() {
        assert!(matches!(canonical_path("/a/b.txt"), Ok(Cow::Borrowed(_))));
        assert!(matches!(canonical_path("/"), Ok(Cow::Borrowed(_))));
    }

    #[test]
    fn every_spelling_of_a_path_becomes_one() {
        for spelling in [
            "/admin/x",
            "//admin/x",
            "/./admin/x",
            "/b/../admin/x",
            "/%61dmin/x",
            "/b/%2e%2E/admin//x",
        ] {
            assert_eq!(path(spelling).as_deref(), Ok("/admin/x"), "{spelling}");
        }
    }

    #[test]
    fn encoded_slashes_stay_encoded() {
        assert_eq!(path("/a%2fb").as_deref(), Ok("/a%2Fb"));
    }

    #[test]
    fn paths_that_lie_are_refused() {
        assert_eq!(path("/../etc"), Err(BadPath::AboveRoot));
        assert_eq!(path("/a%00"), Err(BadPath::Byte));
        assert_eq!(path("/a\\b"), Err(BadPath::Byte));
        assert_eq!(path("/a%2"), Err(BadPath::Escape));
        assert_eq!(path("/a%zz"), Err(BadPath::Escape));
    }

    #[test]
    fn folders_keep_their_trailing_slash() {
        assert_eq!(path("/a/b/..").as_deref(), Ok("/a/"));
        assert_eq!(path("/a//").as_deref(), Ok("/a/"));
        assert_eq!(path("*").as_deref(), Ok("/*"));
    }

    #[test]
    fn hosts_lose_port_case_and_trailing_dot() {
        let host = canonical_host("Shop.Example.COM.:8443").unwrap();

        assert_eq!(
            (host.name.as_ref(), host.port),
            ("shop.example.com", Some(8443))
        );
        assert_eq!(canonical_host("[::1]:80").unwrap().name, "[::1]");
    }

    #[test]
    fn hosts_that_are_none_are_refused() {
        for text in [
            "", "a b", "a,b", "a/b", "user@a", "a:x", "a:70000", "[::1", "a:1:2", ".", ".a", "a..",
            "a..b", "a..:80",
        ] {
            assert_eq!(canonical_host(text), Err(BadHost), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_a_fixed_point(text in "/[ -~]{0,40}") {
            if let Ok(once) = path(&text) {
                prop_assert_eq!(path(&once), Ok(once.clone()));
                prop_assert!(!once.contains("//") && !once.split('/').any(|segment| segment == ".."));
            }
        }
    }
}
