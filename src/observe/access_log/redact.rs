//! Keeps secrets in query strings out of the log.
//! It must not know the form of the line; it hands on pieces of text.
//! The line formats use it for the target and the referrer.

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

/// Whether the value of this key is likely a secret. Rather one too many: a redacted value is an inconvenience.
fn is_telling(key: &[u8]) -> bool {
    if key.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return names_secret(&decoded(key));
    }
    names_secret(key)
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
];

/// Telling only as a word of their own: `code`, not `postcode`.
const WORDS: &[&str] = &[
    "key", "sig", "code", "auth", "jwt", "pwd", "pass", "otp", "session", "sid",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(text: &str) -> String {
        let mut out = Vec::new();
        query(text.as_bytes(), |piece| out.extend_from_slice(piece));
        String::from_utf8(out).expect("UTF-8")
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
            ("", ""),
        ] {
            assert_eq!(redacted(given), logged, "{given}");
        }
    }
}
