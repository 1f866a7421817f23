//! Keeps secrets in query strings and fields out of what is written down.
//! It must not know where the text goes; it hands on pieces of it.
//! The access log uses it for the target and the referrer, the recorder for every field of a request.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;

/// Hides the values of these fields and parameters from now on, whatever they are called: plugins find credentials there. Of more
/// than 1000 names the rest is hidden only if it tells.
pub fn hide<'n>(names: impl Iterator<Item = &'n str>) {
    let mut new: BTreeSet<Vec<u8>> = names.map(|name| lower(name.as_bytes())).collect();
    new.retain(|name| !is_telling(name) && name != b"cookie" && name != b"host");
    if new.is_empty() {
        return;
    }
    NAMED.rcu(|known| {
        let all = known.union(&new).take(MOST_NAMED).cloned();
        Arc::new(all.collect::<BTreeSet<_>>())
    });
}

/// Names that do not tell by themselves, in lower case.
static NAMED: LazyLock<ArcSwap<BTreeSet<Vec<u8>>>> = LazyLock::new(ArcSwap::default);

const MOST_NAMED: usize = 1000;

fn lower(name: &[u8]) -> Vec<u8> {
    name.to_ascii_lowercase()
}

/// Calls `piece` with the parts of a query string in order, values of telling keys replaced by `***`.
pub(super) fn query(query: &[u8], mut piece: impl FnMut(&[u8])) {
    for pair in query.split_inclusive(|byte| matches!(byte, b'&' | b';')) {
        let (pair, separator) = match pair.split_last() {
            Some((b'&' | b';', before)) => pair.split_at(before.len()),
            _ => (pair, &b""[..]),
        };
        match pair.iter().position(|byte| *byte == b'=') {
            Some(equals) if is_telling(&pair[..equals]) => {
                piece(&pair[..=equals]);
                piece(b"***");
            }
            _ => piece(pair),
        }
        piece(separator);
    }
}

/// The value of a request's field as it may be kept; `None` when there is nothing secret in it.
pub(super) fn field(name: &str, value: &[u8]) -> Option<Vec<u8>> {
    if name.eq_ignore_ascii_case("cookie") {
        return Some(crumbs(value));
    }
    if let Some(scheme) = scheme(value) {
        return Some([scheme, b" ***"].concat());
    }
    let named = FIELDS.iter().any(|known| name.eq_ignore_ascii_case(known));
    if named || is_telling(name.as_bytes()) || holds_jwt(value) {
        return Some(b"***".to_vec());
    }
    reference(value)
}

/// The names of cookies without their values.
fn crumbs(value: &[u8]) -> Vec<u8> {
    let crumb = |crumb: &[u8]| match crumb.iter().position(|byte| *byte == b'=') {
        Some(equals) => [crumb[..equals].trim_ascii(), b"=***"].concat(),
        None => b"***".to_vec(),
    };
    let crumbs: Vec<Vec<u8>> = value.split(|byte| *byte == b';').map(crumb).collect();
    crumbs.join(&b"; "[..])
}

/// The scheme of credentials (RFC 9110 section 11.4), whichever field they are in.
fn scheme(value: &[u8]) -> Option<&[u8]> {
    let space = value.iter().position(|byte| *byte == b' ')?;
    let word = &value[..space];
    let known = |known: &&str| word.eq_ignore_ascii_case(known.as_bytes());
    SCHEMES.iter().any(known).then_some(word)
}

/// Whether a JSON Web Token is in it: base64 of `{"` in front, and dots.
pub(super) fn holds_jwt(value: &[u8]) -> bool {
    let start = value.windows(3).position(|window| window == b"eyJ");
    start.is_some_and(|start| value[start..].contains(&b'.'))
}

/// A value that names an address: without its query, and without the password of `//user:password@host`.
fn reference(value: &[u8]) -> Option<Vec<u8>> {
    let question = value.iter().position(|byte| *byte == b'?');
    let (address, query) = value.split_at(question.map_or(value.len(), |at| at + 1));
    let slashes = address.windows(2).position(|window| window == b"//");
    let start = slashes.map_or(0, |at| at + 2);
    let end = address[start..].iter().position(|byte| *byte == b'/');
    let authority = &address[start..end.map_or(address.len(), |end| start + end)];
    let user = match authority.iter().rposition(|byte| *byte == b'@') {
        Some(at) if authority[..at].contains(&b':') => at,
        _ if query.is_empty() => return None,
        _ => 0,
    };
    let mut kept = address[..start].to_vec();
    if user > 0 {
        kept.extend_from_slice(b"***");
    }
    kept.extend_from_slice(&address[start + user..]);
    if !query.is_empty() {
        kept.extend_from_slice(b"***");
    }
    Some(kept)
}

/// Whether the value of this key is likely a secret. Rather one too many: a redacted value is an inconvenience.
fn is_telling(key: &[u8]) -> bool {
    if key.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        let key = decoded(key);
        return names_secret(&key) || is_named(&key);
    }
    names_secret(key) || is_named(key)
}

/// Whether a plugin finds credentials there.
fn is_named(key: &[u8]) -> bool {
    let named = NAMED.load();
    !named.is_empty() && named.contains(&lower(key))
}

fn names_secret(key: &[u8]) -> bool {
    let holds = |part: &str| {
        key.windows(part.len())
            .any(|window| window.eq_ignore_ascii_case(part.as_bytes()))
    };
    let is_word = |word: &[u8]| {
        WORDS
            .iter()
            .any(|known| word.eq_ignore_ascii_case(known.as_bytes()))
    };
    PARTS.iter().any(|part| holds(part))
        || ends_with_key(key)
        || key.split(|byte| !byte.is_ascii_alphanumeric()).any(is_word)
}

/// `key`, `api_key`, `apiKey`, `accesskey`.
fn ends_with_key(key: &[u8]) -> bool {
    key.len() >= 3 && key[key.len() - 3..].eq_ignore_ascii_case(b"key")
}

fn decoded(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len());
    let mut rest = key;
    while let Some((&byte, after)) = rest.split_first() {
        let escape = match (byte, after) {
            (b'%', [high, low, ..]) => digit(*high).zip(digit(*low)),
            _ => None,
        };
        if let Some((high, low)) = escape {
            out.push(high << 4 | low);
            rest = &after[2..];
        } else {
            out.push(byte);
            rest = after;
        }
    }
    out
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

/// Telling wherever they stand in a key.
const PARTS: &[&str] = &[
    "token",
    "secret",
    "passw",
    "signature",
    "credential",
    "apikey",
    "sessionid",
    "sessid",
    "authori",
    "cookie",
    "passphrase",
    "csrf",
    "xsrf",
];

/// Telling only as a word of their own: `code`, not `postcode`.
const WORDS: &[&str] = &[
    "key", "sig", "code", "auth", "jwt", "pwd", "pass", "otp", "session", "sid",
];

/// Fields that are secret whatever is in them, besides those whose names tell.
const FIELDS: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "x-forwarded-client-cert",
    "sec-websocket-protocol",
];

/// Schemes of credentials.
const SCHEMES: &[&str] = &["basic", "bearer", "digest", "negotiate", "token", "apikey"];

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(text: &str) -> String {
        let mut out = Vec::new();
        query(text.as_bytes(), |piece| out.extend_from_slice(piece));
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn secrets_in_fields_are_replaced_and_the_rest_stays() {
        for (name, given, kept) in [
            ("Authorization", "Basic YTpi", Some("Basic ***")),
            ("authorization", "hush", Some("***")),
            ("x-api-key", "hush", Some("***")),
            ("x-original-authorization", "hush", Some("***")),
            ("sec-websocket-protocol", "v1, bearer.hush", Some("***")),
            ("ok-access-passphrase", "hush", Some("***")),
            ("x-csrf", "hush", Some("***")),
            ("X-Auth-Token", "hush", Some("***")),
            ("x-amz-security-token", "hush", Some("***")),
            ("cookie", "a=hush; b=hush;hush", Some("a=***; b=***; ***")),
            ("x-handed-on", "bearer hush", Some("bearer ***")),
            ("x-user", "eyJhbGciOi.e30.hush", Some("***")),
            (
                "referer",
                "https://a:hush@b/c?t=hush",
                Some("https://***@b/c?***"),
            ),
            ("host", "a:hush@b", Some("***@b")),
            ("x-uri", "/a?b", Some("/a?***")),
            ("accept", "text/html;q=0.8, */*", None),
            ("from", "someone@example.com", None),
            ("x-forwarded-for", "2001:db8::1", None),
            ("user-agent", "curl/8", None),
        ] {
            let found = field(name, given.as_bytes());

            let found = found.map(|value| String::from_utf8(value).expect("UTF-8"));
            assert_eq!(found.as_deref(), kept, "{name}: {given}");
        }
    }

    #[test]
    fn values_of_telling_keys_are_replaced_and_the_rest_stays() {
        for (given, logged) in [
            ("page=2&token=abc", "page=2&token=***"),
            ("access_token=a;id=3&", "access_token=***;id=3&"),
            (
                "API-Key=a&apiKey=b&accesskey=c",
                "API-Key=***&apiKey=***&accesskey=***",
            ),
            ("X-Amz-Signature=a&sig=b", "X-Amz-Signature=***&sig=***"),
            ("user[password]=a", "user[password]=***"),
            ("%74oken=a&t%6fken=b", "%74oken=***&t%6fken=***"),
            (
                "code=a&postcode=b&keyword=c",
                "code=***&postcode=b&keyword=c",
            ),
            ("token=a=b", "token=***"),
            ("token&&==x", "token&&==x"),
            ("PHPSESSID=a", "PHPSESSID=***"),
            ("", ""),
        ] {
            assert_eq!(redacted(given), logged, "{given}");
        }
    }

    #[test]
    fn names_that_plugins_give_are_hidden_too() {
        hide(["X-Odd-Client", "odd_k"].into_iter());

        assert_eq!(
            redacted("odd_k=hush&ODD%5Fk=hush&odd_kk=a"),
            "odd_k=***&ODD%5Fk=***&odd_kk=a"
        );
        assert_eq!(field("x-odd-client", b"hush"), Some(b"***".to_vec()));
        assert_eq!(field("x-odd-clients", b"a"), None);
    }
}
