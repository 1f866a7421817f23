//! Distinguished names as text (RFC 4514), such as `CN=billing,O=Example`.
//! It must not know whose they are; values are escaped, so that no name can be written to look like another one.
//! Used by `contract::certificate` and by settings that hold such a name.

use std::fmt::Write as _;

use openssl::nid::Nid;
use openssl::x509::{X509NameEntryRef, X509NameRef};

/// A name as text: the part that says most first, `+` between those that stand together.
pub(super) fn text(name: &X509NameRef) -> String {
    let mut entries = name.entries();
    let mut parts = Vec::new();
    for together in groups(name) {
        let part: Vec<String> = entries.by_ref().take(together).map(entry).collect();
        parts.push(part.join("+"));
    }
    parts.extend(entries.map(entry));
    parts.reverse();
    parts.join(",")
}

/// How many entries stand together, in order: the sizes of the sets in the name's encoding, which the library does not tell.
fn groups(name: &X509NameRef) -> Vec<usize> {
    let der = name.to_der().unwrap_or_default();
    let Some((sets, _)) = element(&der) else {
        return Vec::new();
    };
    let mut sizes = Vec::new();
    let mut rest = sets;
    while let Some((mut set, after)) = element(rest) {
        let mut size = 0;
        while let Some((_, more)) = element(set) {
            (set, size) = (more, size + 1);
        }
        sizes.push(size);
        rest = after;
    }
    sizes
}

/// The content of the first element of an encoding (X.690), and what follows it.
fn element(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.get(1..)?.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

fn entry(entry: &X509NameEntryRef) -> String {
    let kind = entry.object();
    let kind = match kind.nid() {
        Nid::UNDEF => kind.to_string(),
        nid => nid
            .short_name()
            .map_or_else(|_| kind.to_string(), str::to_owned),
    };
    match entry.data().to_string() {
        Ok(value) => format!("{kind}={}", escaped(&value)),
        // Not text: as the standard writes what it does not know.
        Err(_) => {
            let mut text = format!("{kind}=#");
            for byte in entry.data().as_slice() {
                // Writing to a String cannot fail.
                let _ = write!(text, "{byte:02X}");
            }
            text
        }
    }
}

fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, one) in value.chars().enumerate() {
        match one {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => text.extend(['\\', one]),
            '#' if at == 0 => text.push_str("\\#"),
            ' ' if at == 0 || at == last => text.push_str("\\ "),
            one if one.is_control() => {
                for byte in one.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(text, "\\{byte:02X}");
                }
            }
            one => text.push(one),
        }
    }
    text
}

/// A name as somebody wrote it, in the form of [`text`]: without spaces between its parts, which many tools write.
///
/// # Errors
/// What is none, in words.
pub(super) fn normal(written: &str) -> Result<String, String> {
    let mut text = String::with_capacity(written.len());
    let mut is_between = true;
    let mut chars = written.trim().chars();
    while let Some(one) = chars.next() {
        match one {
            ' ' if is_between => continue,
            '\\' => {
                text.push(one);
                text.extend(chars.next());
                is_between = false;
                continue;
            }
            ',' | '+' => {
                let end = text.trim_end_matches(' ').len();
                // An escaped space belongs to the value.
                if !text[..end].ends_with('\\') {
                    text.truncate(end);
                }
                is_between = true;
            }
            _ => is_between = false,
        }
        text.push(one);
    }
    let is_one = |part: &str| {
        part.split_once('=')
            .is_some_and(|(kind, _)| !kind.is_empty())
    };
    match written.len() <= LONGEST && !text.starts_with('/') && is_one(&text) {
        true => Ok(text),
        false => Err(format!(
            "{text:?} is no distinguished name, such as \"CN=billing,O=Example\""
        )),
    }
}

const LONGEST: usize = 4096;

#[cfg(test)]
mod tests {
    use openssl::x509::{X509Name, X509NameBuilder};
    use proptest::prelude::*;

    use super::*;

    fn name(entries: &[(&str, &str)]) -> X509Name {
        let mut builder = X509NameBuilder::new().unwrap();
        for (kind, value) in entries {
            builder.append_entry_by_text(kind, value).unwrap();
        }
        builder.build()
    }

    #[test]
    fn the_part_that_says_most_comes_first_and_values_are_escaped() {
        let plain = name(&[("C", "DE"), ("O", "Example, Inc."), ("CN", "billing")]);
        assert_eq!(text(&plain), "CN=billing,O=Example\\, Inc.,C=DE");

        let forged = name(&[("O", "Evil"), ("CN", "billing,O=Example")]);
        assert_eq!(text(&forged), "CN=billing\\,O=Example,O=Evil");

        let odd = name(&[("CN", " #a\u{1}\u{e4}+ ")]);
        assert_eq!(text(&odd), "CN=\\ #a\\01\u{e4}\\+\\ ");
        assert_eq!(text(&name(&[])), "");
    }

    #[test]
    fn parts_that_stand_together_are_told_from_those_that_do_not() {
        // SEQUENCE { SET { CN=a, OU=b } }, as no builder here makes it.
        let der = b"\x30\x18\x31\x16\x30\x08\x06\x03\x55\x04\x03\x0c\x01a\x30\x0a\x06\x03\x55\x04\x0b\x0c\x03bbb";
        let together = X509Name::from_der(der).unwrap();

        assert_eq!(text(&together), "CN=a+OU=bbb");
        assert_eq!(text(&name(&[("CN", "a"), ("OU", "bbb")])), "OU=bbb,CN=a");
    }

    #[test]
    fn spaces_between_parts_do_not_matter_and_those_of_values_do() {
        assert_eq!(
            normal(" CN=a b , O=x + OU=y "),
            Ok("CN=a b,O=x+OU=y".to_owned())
        );
        assert_eq!(
            normal("CN=a\\, b\\ ,O=x"),
            Ok("CN=a\\, b\\ ,O=x".to_owned())
        );
        for wrong in ["", "billing", "/CN=billing/O=x", "=a"] {
            assert!(normal(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_name_is_its_own_normal_form(value in "[ -~\u{e4}]{1,20}") {
            let written = text(&name(&[("O", "x"), ("CN", &value)]));
            prop_assert_eq!(normal(&written), Ok(written));
        }

        #[test]
        fn any_bytes_are_read_without_harm(der in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = element(&der);
        }
    }
}
