//! SPIFFE IDs: the names of workloads, the trust domains they belong to, and patterns that name several at once.
//! It must not know certificates; a name here is only well formed, not proven.
//! Parsed by the compiler and by `verify`, compared by everything that asks who somebody is.

use std::fmt;
use std::sync::Arc;

/// The name of a trust domain, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Reads a name such as `mesh.example`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<TrustDomain, &'static str> {
        if text.is_empty() {
            return Err("the trust domain is empty");
        }
        if text.len() > MOST_DOMAIN_BYTES {
            return Err("the trust domain is longer than 255 bytes");
        }
        let lower = text.to_ascii_lowercase();
        match lower.bytes().all(is_domain_byte) {
            true => Ok(TrustDomain(lower.into())),
            false => Err("a trust domain has only letters, digits, `.`, `-` and `_`: no port, user or percent escape"),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A SPIFFE ID in its canonical form: scheme and trust domain in lower case, the path as it came.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    text: Arc<str>,
    /// Bytes up to the end of the trust domain.
    domain_end: usize,
}

impl SpiffeId {
    /// Reads an ID (SPIFFE-ID, section 2).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<SpiffeId, &'static str> {
        if text.len() > MOST_ID_BYTES {
            return Err("the ID is longer than 2048 bytes");
        }
        let scheme = text.get(..SCHEME.len());
        if !scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME)) {
            return Err("the ID does not begin with `spiffe://`");
        }
        let rest = &text[SCHEME.len()..];
        let (domain, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let domain = TrustDomain::parse(domain)?;
        path_is_good(path)?;
        Ok(SpiffeId {
            domain_end: SCHEME.len() + domain.as_str().len(),
            text: format!("{SCHEME}{domain}{path}").into(),
        })
    }

    /// The whole ID.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name of its trust domain.
    pub fn domain(&self) -> &str {
        &self.text[SCHEME.len()..self.domain_end]
    }

    /// Its trust domain.
    pub fn trust_domain(&self) -> TrustDomain {
        TrustDomain(self.domain().into())
    }

    /// Its path with the leading `/`; empty for the ID of a trust domain itself.
    pub fn path(&self) -> &str {
        &self.text[self.domain_end..]
    }

    /// The value after a segment of this name, as in `/ns/shop/sa/web`.
    pub fn part(&self, name: &str) -> Option<&str> {
        let mut segments = self.path().split('/').skip(1);
        while let Some(segment) = segments.next() {
            let value = segments.next();
            if segment == name {
                return value;
            }
        }
        None
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpiffeId({})", self.text)
    }
}

/// Names IDs: whole segments may be `*` for any one segment, the last one `**` for one or more; the trust domain may be `*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdPattern {
    text: Box<str>,
    /// `None` for any.
    domain: Option<TrustDomain>,
    segments: Box<[Segment]>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Segment {
    Exact(Box<str>),
    Any,
    Rest,
}

impl IdPattern {
    /// Reads a pattern such as `spiffe://mesh.example/ns/*/sa/web` or `spiffe://partner.test/**`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<IdPattern, &'static str> {
        let Some(rest) = text.strip_prefix(SCHEME) else {
            return Err("the pattern does not begin with `spiffe://`");
        };
        let (domain, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let domain = match domain {
            "*" => None,
            domain => Some(TrustDomain::parse(domain)?),
        };
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let mut segments = Vec::with_capacity(parts.len());
        for (at, part) in parts.iter().enumerate() {
            segments.push(match *part {
                "*" => Segment::Any,
                "**" if at + 1 == parts.len() => Segment::Rest,
                "**" => return Err("`**` can only be the last segment"),
                part if part.contains('*') => {
                    return Err("`*` stands for a whole segment and not for a part of one")
                }
                part => {
                    path_is_good(&format!("/{part}"))?;
                    Segment::Exact(part.into())
                }
            });
        }
        if segments.is_empty() {
            return Err(
                "the pattern has no path; end it with `/**` for every workload of the trust domain",
            );
        }
        Ok(IdPattern {
            text: text.into(),
            domain,
            segments: segments.into(),
        })
    }

    /// Whether it names this ID.
    pub fn matches(&self, id: &SpiffeId) -> bool {
        let is_foreign = |domain: &TrustDomain| domain.as_str() != id.domain();
        if self.domain.as_ref().is_some_and(is_foreign) {
            return false;
        }
        let mut given = id.path().split('/').skip(1);
        for segment in &self.segments {
            let matches = match (segment, given.next()) {
                (_, None) => false,
                (Segment::Rest, Some(_)) => return true,
                (Segment::Any, Some(_)) => true,
                (Segment::Exact(wanted), Some(part)) => **wanted == *part,
            };
            if !matches {
                return false;
            }
        }
        given.next().is_none()
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for IdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn is_domain_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte)
}

/// Empty, or `/` before each segment; none of them empty, `.` or `..`.
fn path_is_good(path: &str) -> Result<(), &'static str> {
    let Some(segments) = path.strip_prefix('/') else {
        return Ok(());
    };
    for segment in segments.split('/') {
        match segment {
            "" => return Err("the path has an empty segment or ends with `/`"),
            "." | ".." => return Err("the path has a segment `.` or `..`"),
            _ => {}
        }
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if !segment.bytes().all(good) {
            return Err("path segments have only letters, digits, `.`, `-` and `_`: no query, fragment or percent escape");
        }
    }
    Ok(())
}

const SCHEME: &str = "spiffe://";
const MOST_ID_BYTES: usize = 2048;
const MOST_DOMAIN_BYTES: usize = 255;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn good_ids_are_read_in_their_canonical_form() {
        let id = SpiffeId::parse("SPIFFE://Mesh.Example/ns/Shop/sa/web-1").unwrap();

        assert_eq!(id.as_str(), "spiffe://mesh.example/ns/Shop/sa/web-1");
        assert_eq!(
            (id.domain(), id.path()),
            ("mesh.example", "/ns/Shop/sa/web-1")
        );
        assert_eq!(
            (id.part("ns"), id.part("sa")),
            (Some("Shop"), Some("web-1"))
        );
        assert_eq!((id.part("Shop"), id.part("dc")), (None, None));
        assert_eq!(SpiffeId::parse("spiffe://td").unwrap().path(), "");
    }

    #[test]
    fn everything_else_is_refused() {
        let long = format!("spiffe://td/{}", "a".repeat(2048));
        let wide = format!("spiffe://{}/a", "a".repeat(256));
        for bad in [
            "",
            "spiffe:/td/a",
            "http://td/a",
            "spiffe:///a",
            "spiffe://td/",
            "spiffe://td//a",
            "spiffe://td/a/",
            "spiffe://td/./a",
            "spiffe://td/..",
            "spiffe://td/a?b",
            "spiffe://td/a#b",
            "spiffe://td/%61",
            "spiffe://td/a b",
            "spiffe://td:80/a",
            "spiffe://me@td/a",
            "spiffe://t%64/a",
            "spiffe://[::1]/a",
            "spiffe://td/é",
            "spiffe://tĐ/a",
            "spiffe://td/a\0",
            &long,
            &wide,
        ] {
            assert!(SpiffeId::parse(bad).is_err(), "{bad}");
        }
        let exact = format!(
            "spiffe://{}/{}",
            "d".repeat(255),
            "a".repeat(2048 - 9 - 255 - 1)
        );
        assert_eq!(exact.len(), 2048);
        assert!(SpiffeId::parse(&exact).is_ok());
    }

    #[test]
    fn patterns_match_whole_segments() {
        let matches = |pattern: &str, id: &str| {
            IdPattern::parse(pattern)
                .unwrap()
                .matches(&SpiffeId::parse(id).unwrap())
        };

        assert!(matches(
            "spiffe://td/ns/*/sa/web",
            "spiffe://td/ns/shop/sa/web"
        ));
        assert!(!matches(
            "spiffe://td/ns/*/sa/web",
            "spiffe://td/ns/shop/x/sa/web"
        ));
        assert!(matches("spiffe://td/**", "spiffe://td/a/b"));
        assert!(!matches("spiffe://td/**", "spiffe://td"));
        assert!(!matches("spiffe://td/**", "spiffe://other/a"));
        assert!(matches("spiffe://*/a", "spiffe://other/a"));
        assert!(!matches("spiffe://td/a", "spiffe://td/a/b"));
        assert!(!matches("spiffe://td/a", "spiffe://td/A"));
        for bad in [
            "td/a",
            "spiffe://td",
            "spiffe://td/a*",
            "spiffe://td/**/a",
            "spiffe://td/",
            "spiffe://t*/a",
        ] {
            assert!(IdPattern::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_canonical_and_bounded(text in "(spiffe|SPIFFE|http)?(://|:/)?[a-zA-Z0-9._:@%-]{0,12}(/[a-zA-Z0-9._*%?#é-]{0,6}){0,4}") {
            if let Ok(id) = SpiffeId::parse(&text) {
                prop_assert_eq!(SpiffeId::parse(id.as_str()).unwrap(), id.clone());
                prop_assert!(id.as_str().eq_ignore_ascii_case(&text));
                prop_assert!(text.ends_with(id.path()));
                prop_assert!(!id.domain().is_empty() && id.domain().bytes().all(is_domain_byte));
                prop_assert!(!id.path().ends_with('/') && !id.path().contains("//"));
                if !id.path().is_empty() {
                    prop_assert!(IdPattern::parse(id.as_str()).unwrap().matches(&id));
                }
            }
        }

        #[test]
        fn good_ids_are_all_read(domain in "[a-z0-9._-]{1,20}", path in "(/[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,8}){0,4}") {
            let text = format!("spiffe://{domain}{path}");
            let id = SpiffeId::parse(&text).unwrap();
            prop_assert_eq!(id.as_str(), &text);
            prop_assert_eq!((id.domain(), id.path()), (&*domain, &*path));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}") {
            let _ = (SpiffeId::parse(&text), IdPattern::parse(&text), TrustDomain::parse(&text));
        }
    }
}
