//! The PROXY protocol, versions 1 and 2 (haproxy.org, proxy-protocol.txt, 2020), read and written.
//! It must not know whom to believe.
//! `accept` reads it from strangers (pure, fuzzed); `upstream` and `tcp` write it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::snapshot::pool::ProxyVersion;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V1_LONGEST: usize = 107;
/// Addresses and extensions of a version 2 header that are read; longer ones are refused.
const V2_LONGEST: usize = 16 + 4096;

/// What the bytes begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// A whole header of this length; the client and the address it connected to, unless it speaks for itself (`LOCAL`, `UNKNOWN`).
    Header {
        /// Bytes to consume.
        length: usize,
        /// Client and destination.
        addresses: Option<(SocketAddr, SocketAddr)>,
    },
    /// Could become a header with more bytes.
    Partial,
    /// No header.
    Absent,
    /// A header that is broken.
    Malformed,
}

/// Reads a header.
pub fn read(bytes: &[u8]) -> Reading {
    let sign = &SIGNATURE[..bytes.len().min(12)];
    if !bytes.is_empty() && bytes.starts_with(sign) {
        return if bytes.len() < 16 {
            Reading::Partial
        } else {
            read_v2(bytes)
        };
    }
    let start = &b"PROXY "[..bytes.len().min(6)];
    match bytes.starts_with(start) {
        true if bytes.len() < 6 => Reading::Partial,
        true => read_v1(bytes),
        false => Reading::Absent,
    }
}

fn read_v1(bytes: &[u8]) -> Reading {
    let window = &bytes[..bytes.len().min(V1_LONGEST)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < V1_LONGEST {
            Reading::Partial
        } else {
            Reading::Malformed
        };
    };
    let Ok(line) = std::str::from_utf8(&window[..end]) else {
        return Reading::Malformed;
    };
    let words: Vec<&str> = line.split(' ').collect();
    let addresses = match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", family @ ("TCP4" | "TCP6"), source, target, source_port, target_port] => {
            let client = v1_address(family, source, source_port);
            match client.zip(v1_address(family, target, target_port)) {
                Some(addresses) => Some(addresses),
                None => return Reading::Malformed,
            }
        }
        _ => return Reading::Malformed,
    };
    Reading::Header {
        length: end + 2,
        addresses,
    }
}

fn v1_address(family: &str, address: &str, port: &str) -> Option<SocketAddr> {
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|_| digits)?;
    let address: IpAddr = address.parse().ok()?;
    (address.is_ipv4() == (family == "TCP4")).then(|| SocketAddr::new(address, port))
}

fn read_v2(bytes: &[u8]) -> Reading {
    let length = 16 + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if bytes[12] >> 4 != 2 || length > V2_LONGEST {
        return Reading::Malformed;
    }
    let Some(body) = bytes.get(16..length) else {
        return Reading::Partial;
    };
    let addresses = match (bytes[12] & 0xf, bytes[13]) {
        (0, _) => None,
        (1, 0x11) => match body.get(..12) {
            Some(b) => {
                let ip = |at: usize| Ipv4Addr::new(b[at], b[at + 1], b[at + 2], b[at + 3]);
                let port = |at: usize| u16::from_be_bytes([b[at], b[at + 1]]);
                Some((
                    SocketAddr::from((ip(0), port(8))),
                    SocketAddr::from((ip(4), port(10))),
                ))
            }
            None => return Reading::Malformed,
        },
        (1, 0x21) => match (body.first_chunk::<16>(), body.get(16..32), body.get(32..36)) {
            (Some(source), Some(target), Some(ports)) => {
                let target: [u8; 16] = target.try_into().unwrap_or_default();
                let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
                let client = SocketAddr::from((Ipv6Addr::from(*source), port(0)));
                Some((client, SocketAddr::from((Ipv6Addr::from(target), port(2)))))
            }
            _ => return Reading::Malformed,
        },
        // Unspecified, UDP and socket files: the sender has nothing to say about the client.
        (1, _) => None,
        _ => return Reading::Malformed,
    };
    Reading::Header { length, addresses }
}

/// The header that tells an endpoint about a client.
pub fn write(version: ProxyVersion, client: SocketAddr, target: SocketAddr) -> Vec<u8> {
    let (client, target) = same_family(client, target);
    match version {
        ProxyVersion::V1 => {
            let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
            let (c, t) = (client.ip(), target.ip());
            format!(
                "PROXY {family} {c} {t} {} {}\r\n",
                client.port(),
                target.port()
            )
            .into_bytes()
        }
        ProxyVersion::V2 => {
            let mut bytes = SIGNATURE.to_vec();
            let mut body = Vec::with_capacity(36);
            for address in [client, target] {
                match address.ip() {
                    IpAddr::V4(ip) => body.extend(ip.octets()),
                    IpAddr::V6(ip) => body.extend(ip.octets()),
                }
            }
            body.extend(client.port().to_be_bytes());
            body.extend(target.port().to_be_bytes());
            bytes.extend([0x21, if client.is_ipv4() { 0x11 } else { 0x21 }]);
            bytes.extend((body.len() as u16).to_be_bytes());
            bytes.extend(body);
            bytes
        }
    }
}

/// One header has one family; an address of the other is mapped into IPv6.
fn same_family(client: SocketAddr, target: SocketAddr) -> (SocketAddr, SocketAddr) {
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let mapped = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(IpAddr::V6(ip.to_ipv6_mapped()), address.port()),
        IpAddr::V6(_) => address,
    };
    let (client, target) = (plain(client), plain(target));
    match client.is_ipv4() == target.is_ipv4() {
        true => (client, target),
        false => (mapped(client), mapped(target)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addresses() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
        let v4 =
            (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::from((ip, port)));
        let v4b =
            (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::from((ip, port)));
        (v4, v4b)
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back((client, target) in addresses(), v1 in any::<bool>(), tail in any::<[u8; 5]>()) {
            let version = if v1 { ProxyVersion::V1 } else { ProxyVersion::V2 };
            let mut bytes = write(version, client, target);
            let length = bytes.len();
            bytes.extend(tail);

            prop_assert_eq!(read(&bytes), Reading::Header { length, addresses: Some((client, target)) });
            prop_assert_eq!(read(&bytes[..length - 1]), Reading::Partial);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), signed in any::<bool>()) {
            let bytes = if signed { [&SIGNATURE[..], &bytes].concat() } else { bytes };
            let _ = read(&bytes);
        }
    }

    #[test]
    fn broken_headers_are_told_from_absent_ones() {
        assert_eq!(read(b"GET / HTTP/1.1\r\n"), Reading::Absent);
        assert_eq!(read(b"PROXY TCP4 1.2.3.4 x 1 2\r\n"), Reading::Malformed);
        assert_eq!(
            read(b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n"),
            Reading::Malformed
        );
        assert_eq!(read(&[b'P'; 200]), Reading::Absent);
        assert_eq!(
            read(&[b"PROXY ".as_slice(), &[b'x'; 200]].concat()),
            Reading::Malformed
        );
        assert_eq!(
            read(b"PROXY UNKNOWN\r\nGET"),
            Reading::Header {
                length: 15,
                addresses: None
            }
        );
    }
}
