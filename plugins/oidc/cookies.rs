//! The cookies of `oidc`: a session's, in as many pieces as it needs, and one for each login under way.
//! It must not know what is in them.
//! Used by everything of `oidc` that reads or writes cookies.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

/// Names and attributes of cookies for one place.
pub(super) struct Cookies {
    /// `oidc`, say.
    name: String,
    /// Bytes of a session at most.
    most: usize,
}

/// Whether they are kept from plain HTTP: then their names say so, and no other host can set them (RFC 6265bis section 4.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Https,
    Http,
}

/// What a request has of a session.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Came {
    Nothing,
    /// Pieces are missing, there twice, or too many.
    Broken,
    Whole(Vec<u8>),
}

impl Cookies {
    pub(super) fn new(name: &str, most: usize) -> Cookies {
        Cookies {
            name: name.to_owned(),
            most,
        }
    }

    fn session_name(&self, scheme: Scheme, piece: usize) -> String {
        let prefix = prefix(scheme);
        match piece {
            0 => format!("{prefix}{}", self.name),
            piece => format!("{prefix}{}.{piece}", self.name),
        }
    }

    fn login_name(&self, scheme: Scheme, mark: &str) -> String {
        format!("{}{}.login.{mark}", prefix(scheme), self.name)
    }

    /// The session that a request has.
    pub(super) fn session(&self, headers: &HeaderMap, scheme: Scheme) -> Came {
        let first = match only(headers, &self.session_name(scheme, 0)) {
            Ok(None) => return Came::Nothing,
            Ok(Some(first)) => first,
            Err(Twice) => return Came::Broken,
        };
        let count = first
            .first()
            .and_then(|digit| char::from(*digit).to_digit(36));
        let count = count.map_or(0, |count| count as usize);
        if !(1..=MOST_PIECES).contains(&count) {
            return Came::Broken;
        }
        let mut whole = first[1..].to_vec();
        for piece in 1..count {
            match only(headers, &self.session_name(scheme, piece)) {
                Ok(Some(more)) => whole.extend_from_slice(more),
                Ok(None) | Err(Twice) => return Came::Broken,
            }
        }
        match whole.len() <= self.most {
            true => Came::Whole(whole),
            false => Came::Broken,
        }
    }

    /// The fields that keep a session for so many seconds, pieces of an older one taken away; `None` where it is too large.
    pub(super) fn keep_session(
        &self,
        headers: &HeaderMap,
        scheme: Scheme,
        sealed: &str,
        seconds: u64,
    ) -> Option<Vec<HeaderValue>> {
        if sealed.len() > self.most {
            return None;
        }
        let pieces: Vec<&str> = pieces(sealed);
        let count = char::from_digit(u32::try_from(pieces.len()).ok()?, 36)?;
        let mut fields = Vec::new();
        for (at, piece) in pieces.iter().enumerate() {
            let name = self.session_name(scheme, at);
            let value = match at {
                0 => format!("{count}{piece}"),
                _ => (*piece).to_owned(),
            };
            fields.push(set(scheme, &name, &value, seconds)?);
        }
        let rest = self.pieces_of(headers, scheme, pieces.len());
        fields.extend(rest.filter_map(|name| set(scheme, &name, "", 0)));
        Some(fields)
    }

    /// The fields that end a session.
    pub(super) fn end_session(&self, headers: &HeaderMap, scheme: Scheme) -> Vec<HeaderValue> {
        let all = self.pieces_of(headers, scheme, 0);
        all.filter_map(|name| set(scheme, &name, "", 0)).collect()
    }

    /// Names of pieces from this one on that a request has.
    fn pieces_of<'h>(
        &'h self,
        headers: &'h HeaderMap,
        scheme: Scheme,
        from: usize,
    ) -> impl Iterator<Item = String> + 'h {
        let names = (from..MOST_PIECES).map(move |piece| self.session_name(scheme, piece));
        names.filter(|name| crumbs(headers).any(|(one, _)| one == name.as_bytes()))
    }

    /// The login of this mark, if a request has exactly one.
    pub(super) fn login<'h>(
        &self,
        headers: &'h HeaderMap,
        scheme: Scheme,
        mark: &str,
    ) -> Option<&'h [u8]> {
        only(headers, &self.login_name(scheme, mark)).unwrap_or_default()
    }

    /// Every login that a request has, by its mark; so many at most.
    pub(super) fn logins<'h>(
        &self,
        headers: &'h HeaderMap,
        scheme: Scheme,
    ) -> Vec<(&'h str, &'h [u8])> {
        let begin = self.login_name(scheme, "");
        let logins = crumbs(headers).filter_map(|(name, value)| {
            let mark = name.strip_prefix(begin.as_bytes())?;
            let mark = std::str::from_utf8(mark)
                .ok()
                .filter(|mark| is_mark(mark))?;
            Some((mark, value))
        });
        logins.take(MOST_LOGINS_READ).collect()
    }

    /// The field that keeps a login for so many seconds.
    pub(super) fn keep_login(
        &self,
        scheme: Scheme,
        mark: &str,
        sealed: &str,
        seconds: u64,
    ) -> Option<HeaderValue> {
        set(scheme, &self.login_name(scheme, mark), sealed, seconds)
    }

    /// The field that ends a login.
    pub(super) fn end_login(&self, scheme: Scheme, mark: &str) -> Option<HeaderValue> {
        set(scheme, &self.login_name(scheme, mark), "", 0)
    }

    /// Whether a cookie of this name is one of these, of either scheme.
    pub(super) fn are_ours(&self, name: &[u8]) -> bool {
        let bare = name.strip_prefix(prefix(Scheme::Https).as_bytes());
        let rest = bare.unwrap_or(name).strip_prefix(self.name.as_bytes());
        rest.is_some_and(|rest| {
            let is_piece = |rest: &[u8]| !rest.is_empty() && rest.iter().all(u8::is_ascii_digit);
            rest.is_empty()
                || rest.strip_prefix(b".").is_some_and(is_piece)
                || rest.starts_with(b".login.")
        })
    }
}

/// What a login is known by among several: letters and digits that cookies' names may have.
pub(super) fn is_mark(mark: &str) -> bool {
    mark.len() == MARK
        && mark
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Two cookies have the same name: somebody else may have set one of them.
struct Twice;

fn only<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h [u8]>, Twice> {
    let mut named = crumbs(headers).filter(|(one, _)| *one == name.as_bytes());
    match (named.next(), named.next()) {
        (None, _) => Ok(None),
        (Some((_, value)), None) => Ok(Some(value)),
        (Some(_), Some(_)) => Err(Twice),
    }
}

/// Every cookie of a request, as it came.
fn crumbs(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    let fields = headers.get_all(COOKIE).iter();
    let crumbs = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
    crumbs.filter_map(|crumb| {
        let crumb = crumb.trim_ascii();
        let equals = crumb.iter().position(|byte| *byte == b'=')?;
        Some((&crumb[..equals], &crumb[equals + 1..]))
    })
}

/// As many as there have to be, one at least. What is sealed is ASCII.
fn pieces(sealed: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = sealed;
    while rest.len() > PIECE {
        let (piece, more) = rest.split_at(PIECE);
        pieces.push(piece);
        rest = more;
    }
    pieces.push(rest);
    pieces
}

fn set(scheme: Scheme, name: &str, value: &str, seconds: u64) -> Option<HeaderValue> {
    let secure = match scheme {
        Scheme::Https => "; Secure",
        Scheme::Http => "",
    };
    let text = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn prefix(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Https => "__Host-",
        Scheme::Http => "",
    }
}

/// Bytes of a piece: browsers keep cookies of 4096 with their names and attributes.
const PIECE: usize = 3800;
const MOST_PIECES: usize = 9;
/// Bytes of a mark.
pub(super) const MARK: usize = 16;
/// Logins of one request that are looked at.
const MOST_LOGINS_READ: usize = 32;
/// Bytes of a session at most, whatever the settings say.
pub(super) const MOST_BYTES: usize = PIECE * MOST_PIECES;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cookies() -> Cookies {
        Cookies::new("oidc", MOST_BYTES)
    }

    /// What a browser sends after it got these fields.
    fn back(fields: &[HeaderValue]) -> HeaderMap {
        let pairs: Vec<&str> = fields
            .iter()
            .map(|field| field.to_str().unwrap().split(';').next().unwrap())
            .filter(|pair| !pair.ends_with('='))
            .collect();
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_str(&pairs.join("; ")).unwrap());
        headers
    }

    fn of(text: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_str(text).unwrap());
        headers
    }

    #[test]
    fn a_session_comes_back_in_as_many_pieces_as_it_needs() {
        for (length, count) in [(10, 1), (3800, 1), (3801, 2), (20_000, 6)] {
            let sealed = "s".repeat(length);
            let kept = cookies().keep_session(&HeaderMap::new(), Scheme::Https, &sealed, 60);

            let kept = kept.unwrap();
            assert_eq!(kept.len(), count);
            assert!(kept
                .iter()
                .all(|field| field.len() <= 4096 && field.is_sensitive()));
            let came = cookies().session(&back(&kept), Scheme::Https);
            assert_eq!(came, Came::Whole(sealed.into_bytes()));
        }
        let huge = "s".repeat(MOST_BYTES + 1);
        assert_eq!(
            cookies().keep_session(&HeaderMap::new(), Scheme::Https, &huge, 60),
            None
        );
    }

    #[test]
    fn cookies_cannot_be_read_by_pages_nor_set_by_other_hosts() {
        let kept = cookies()
            .keep_session(&HeaderMap::new(), Scheme::Https, "s", 60)
            .unwrap();
        assert_eq!(
            kept[0],
            "__Host-oidc=1s; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"
        );
        let plain = cookies()
            .keep_session(&HeaderMap::new(), Scheme::Http, "s", 60)
            .unwrap();
        assert_eq!(
            plain[0],
            "oidc=1s; Path=/; Max-Age=60; HttpOnly; SameSite=Lax"
        );
    }

    #[test]
    fn pieces_that_are_missing_twice_or_too_many_make_no_session() {
        for text in [
            "__Host-oidc=2abc",
            "__Host-oidc=1a; __Host-oidc=1b",
            "__Host-oidc=2a; __Host-oidc.1=b; __Host-oidc.1=c",
            "__Host-oidc=",
            "__Host-oidc=0a",
            "__Host-oidc=za",
            "__Host-oidc=aabc",
        ] {
            assert_eq!(
                cookies().session(&of(text), Scheme::Https),
                Came::Broken,
                "{text}"
            );
        }
        assert_eq!(
            cookies().session(&of("oidc=1a"), Scheme::Https),
            Came::Nothing
        );
        let small = Cookies::new("oidc", 3);
        assert_eq!(
            small.session(&of("__Host-oidc=1abcd"), Scheme::Https),
            Came::Broken
        );
    }

    #[test]
    fn pieces_of_an_older_session_are_taken_away() {
        let before = of("__Host-oidc=3a; __Host-oidc.1=b; __Host-oidc.2=c; other=x");

        let kept = cookies()
            .keep_session(&before, Scheme::Https, "s", 60)
            .unwrap();
        let ended = cookies().end_session(&before, Scheme::Https);

        let names = |fields: &[HeaderValue]| -> Vec<String> {
            let name = |field: &HeaderValue| {
                field
                    .to_str()
                    .unwrap()
                    .split(';')
                    .next()
                    .unwrap()
                    .to_owned()
            };
            fields.iter().map(name).collect()
        };
        assert_eq!(
            names(&kept),
            ["__Host-oidc=1s", "__Host-oidc.1=", "__Host-oidc.2="]
        );
        assert_eq!(
            names(&ended),
            ["__Host-oidc=", "__Host-oidc.1=", "__Host-oidc.2="]
        );
        assert!(ended[0].to_str().unwrap().contains("Max-Age=0"));
    }

    #[test]
    fn only_our_own_cookies_are_ours() {
        for name in [
            "oidc",
            "__Host-oidc",
            "oidc.1",
            "__Host-oidc.12",
            "__Host-oidc.login.abc",
        ] {
            assert!(cookies().are_ours(name.as_bytes()), "{name}");
        }
        for name in ["oidc2", "oidc.", "oidc.x", "xoidc", "__Secure-oidc", ""] {
            assert!(!cookies().are_ours(name.as_bytes()), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_cookies_are_read_without_harm(text in "[ -~]{0,80}", name in "(__Host-)?oidc(\\.[0-9]|\\.login\\.[a-z]{0,20})?") {
            let headers = of(&format!("{name}={text}"));
            let _ = cookies().session(&headers, Scheme::Https);
            let _ = cookies().logins(&headers, Scheme::Https);
            let _ = cookies().end_session(&headers, Scheme::Http);
        }
    }
}
