//! Reading what a connection begins with: a TLS ClientHello's server name, an HTTP/2 preface, an HTTP/1 request line.
//! It must not know what follows from it.
//! Called by `accept` on bytes from strangers; pure, fuzzed, never panics.

/// What the first bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// A TLS handshake; the server name asked for, in lower case.
    Tls(Option<String>),
    /// HTTP/2 with prior knowledge.
    Http2,
    /// An HTTP/1 request.
    Http1,
    /// Something else.
    Opaque,
    /// Not enough bytes to tell.
    Unknown,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A ClientHello may be split over records; more than this is taken for an attack.
pub const MOST: usize = 16 * 1024;

/// What the bytes so far begin with.
pub fn opening(bytes: &[u8]) -> Opening {
    match bytes.first() {
        None => Opening::Unknown,
        Some(0x16) => client_hello(bytes),
        Some(_) if bytes.starts_with(PREFACE) => Opening::Http2,
        Some(_) if PREFACE.starts_with(bytes) => Opening::Unknown,
        Some(_) => http1(bytes),
    }
}

/// Whether it could be a method and a target: token characters, then a space.
fn http1(bytes: &[u8]) -> Opening {
    let token = bytes
        .iter()
        .take(33)
        .take_while(|byte| is_token(**byte))
        .count();
    match bytes.get(token) {
        None if token <= 32 => Opening::Unknown,
        Some(b' ') if token > 0 && token <= 32 => Opening::Http1,
        _ => Opening::Opaque,
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The server name of a ClientHello (RFC 8446 section 4.1.2, RFC 6066 section 3), also when split over records.
fn client_hello(bytes: &[u8]) -> Opening {
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        let (Some(kind), Some(length)) = (rest.first(), rest.get(3..5)) else {
            return Opening::Unknown;
        };
        if *kind != 0x16 {
            return Opening::Opaque;
        }
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        let body = &rest[5..];
        message.extend_from_slice(&body[..length.min(body.len())]);
        if let Some(needed) = needed(&message) {
            if message.len() >= needed {
                return Opening::Tls(server_name(&message[4..needed]));
            }
        }
        if body.len() < length {
            return Opening::Unknown;
        }
        rest = &body[length..];
        if rest.is_empty() {
            return Opening::Unknown;
        }
    }
}

/// Length of the handshake message, once its head is there.
fn needed(message: &[u8]) -> Option<usize> {
    let head = message.get(..4)?;
    Some(4 + (usize::from(head[1]) << 16 | usize::from(head[2]) << 8 | usize::from(head[3])))
}

fn server_name(hello: &[u8]) -> Option<String> {
    let mut at = Reader(hello);
    at.skip(2 + 32)?;
    let session = at.length8()?;
    at.skip(session)?;
    let ciphers = at.length16()?;
    at.skip(ciphers)?;
    let compressions = at.length8()?;
    at.skip(compressions)?;
    let extensions = at.length16()?;
    let mut extensions = Reader(at.take(extensions)?);
    loop {
        let kind = extensions.length16()?;
        let length = extensions.length16()?;
        let body = extensions.take(length)?;
        if kind == 0 {
            let mut names = Reader(body);
            names.skip(2)?;
            let name_kind = names.length8()?;
            let length = names.length16()?;
            let name = names.take(length)?;
            let name = std::str::from_utf8(name).ok().filter(|_| name_kind == 0)?;
            return Some(name.trim_end_matches('.').to_ascii_lowercase());
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn skip(&mut self, length: usize) -> Option<()> {
        self.take(length).map(|_| ())
    }

    fn length8(&mut self) -> Option<usize> {
        self.take(1).map(|byte| usize::from(byte[0]))
    }

    fn length16(&mut self) -> Option<usize> {
        self.take(2)
            .map(|bytes| usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hello(name: &str) -> Vec<u8> {
        let name = name.as_bytes();
        let mut sni = vec![0, 0];
        let list = name.len() + 3;
        sni.extend(((list + 2) as u16).to_be_bytes());
        sni.extend((list as u16).to_be_bytes());
        sni.push(0);
        sni.extend((name.len() as u16).to_be_bytes());
        sni.extend(name);
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.push(0);
        body.extend([0, 2, 0x13, 1, 1, 0]);
        body.extend((sni.len() as u16).to_be_bytes());
        body.extend(sni);
        let mut message = vec![1, 0];
        message.extend((body.len() as u16).to_be_bytes());
        message.extend(body);
        message
    }

    fn records(message: &[u8], size: usize) -> Vec<u8> {
        let record =
            |part: &[u8]| [&[0x16, 3, 1][..], &(part.len() as u16).to_be_bytes(), part].concat();
        message.chunks(size).flat_map(record).collect()
    }

    #[test]
    fn the_server_name_is_found_also_over_several_records() {
        for size in [1000, 20] {
            let bytes = records(&hello("Shop.Example"), size);

            assert_eq!(opening(&bytes), Opening::Tls(Some("shop.example".into())));
            assert_eq!(opening(&bytes[..bytes.len() - 1]), Opening::Unknown);
        }
    }

    #[test]
    fn openings_are_told_apart() {
        assert_eq!(opening(PREFACE), Opening::Http2);
        assert_eq!(opening(b"PRI"), Opening::Unknown);
        assert_eq!(opening(b"GET / HTTP/1.1\r\n"), Opening::Http1);
        assert_eq!(opening(b"GET"), Opening::Unknown);
        assert_eq!(opening(b"\x00\x01"), Opening::Opaque);
        assert_eq!(opening(b"SSH-2.0-OpenSSH_9\r\n"), Opening::Opaque);
        assert_eq!(opening(b""), Opening::Unknown);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), tls in any::<bool>()) {
            let mut bytes = bytes;
            if tls && bytes.len() > 6 {
                bytes[0] = 0x16;
                bytes[3] = 0;
            }
            let _ = opening(&bytes);
        }
    }
}
