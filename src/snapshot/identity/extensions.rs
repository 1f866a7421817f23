//! The extensions of a certificate that OpenSSL's binding does not tell: whether it is an authority, and which are critical.
//! It must not verify anything, nor know SPIFFE.
//! Called by `verify` with bytes from strangers; bounded and pure, never panics.

/// What the extensions of a certificate say.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Extensions<'a> {
    /// Every URI among subjectAltName, byte by byte: OpenSSL's binding leaves out those that are not UTF-8.
    pub(super) uris: Vec<&'a [u8]>,
    /// Whether basicConstraints names it an authority.
    pub(super) is_authority: bool,
    /// Whether keyUsage is critical.
    pub(super) key_usage_is_critical: bool,
    /// Whether subjectAltName is critical.
    pub(super) names_are_critical: bool,
}

/// Reads a certificate in DER (RFC 5280 section 4.1). `None` for bytes that are none.
pub(super) fn read(der: &[u8]) -> Option<Extensions<'_>> {
    let mut certificate = Reader(Reader(der).of(SEQUENCE)?);
    let mut body = Reader(certificate.of(SEQUENCE)?);
    let mut found = Extensions::default();
    while let Some((tag, content)) = body.next() {
        if tag != EXTENSIONS {
            continue;
        }
        let mut all = Reader(Reader(content).of(SEQUENCE)?);
        while !all.0.is_empty() {
            one(all.of(SEQUENCE)?, &mut found)?;
        }
    }
    Some(found)
}

/// `SEQUENCE { extnID, critical DEFAULT FALSE, extnValue OCTET STRING }`.
fn one<'a>(extension: &'a [u8], found: &mut Extensions<'a>) -> Option<()> {
    let mut extension = Reader(extension);
    let id = extension.of(OBJECT)?;
    let (mut tag, mut content) = extension.next()?;
    let mut is_critical = false;
    if tag == BOOLEAN {
        is_critical = content != [0];
        (tag, content) = extension.next()?;
    }
    if tag != OCTETS {
        return None;
    }
    match id {
        BASIC_CONSTRAINTS => {
            let mut constraints = Reader(Reader(content).of(SEQUENCE)?);
            let is_true = |(tag, value): (u8, &[u8])| tag == BOOLEAN && value != [0];
            found.is_authority |= constraints.next().is_some_and(is_true);
        }
        KEY_USAGE => found.key_usage_is_critical = is_critical,
        SUBJECT_ALT_NAME => {
            found.names_are_critical = is_critical;
            let mut names = Reader(Reader(content).of(SEQUENCE)?);
            while !names.0.is_empty() {
                let (tag, name) = names.next()?;
                if tag == URI {
                    found.uris.push(name);
                }
            }
        }
        _ => {}
    }
    Some(())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next element, which must be of this kind.
    fn of(&mut self, wanted: u8) -> Option<&'a [u8]> {
        let (tag, content) = self.next()?;
        (tag == wanted).then_some(content)
    }

    /// The next element: its tag, always of one byte here, and its content.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&short, rest) = rest.split_first()?;
        let (length, rest) = match short {
            0..=0x7f => (usize::from(short), rest),
            // Certificates that came through OpenSSL are far smaller than 2^32 bytes.
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
                let length = bytes
                    .iter()
                    .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
                (length, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }
}

const BOOLEAN: u8 = 0x01;
const OCTETS: u8 = 0x04;
const OBJECT: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
/// `[3] EXPLICIT`.
const EXTENSIONS: u8 = 0xa3;
/// `uniformResourceIdentifier [6] IMPLICIT IA5String`.
const URI: u8 = 0x86;
/// 2.5.29.19
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
/// 2.5.29.15
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
/// 2.5.29.17
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{Kind, Maker};
    use super::*;

    #[test]
    fn authorities_and_critical_extensions_are_seen() {
        let maker = Maker::new("td");
        let der = |kind| maker.issue(kind).0.to_der().unwrap();
        let (svid, authority) = (der(Kind::Svid("spiffe://td/a")), der(Kind::Authority));

        let (svid, authority) = (read(&svid).unwrap(), read(&authority).unwrap());

        assert!(!svid.is_authority && svid.key_usage_is_critical && !svid.names_are_critical);
        assert_eq!(svid.uris, [b"spiffe://td/a"]);
        assert!(authority.is_authority && authority.uris.is_empty());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..900, to in any::<u8>()) {
            let _ = read(&bytes);
            let mut der = Maker::new("td").root().to_der().unwrap();
            let at = at % der.len();
            der[at] = to;
            let _ = read(&der);
        }
    }
}
