//! Questions to the kernel about a connection's other end, over netlink (`sock_diag`): an exact look-up by both addresses that
//! answers within the system call from a hash table, without walking `/proc`.
//! It must not know what follows. Asked by `caller` for who calls, and by `capture` for whether it is the proxy itself.
//!
//! A socket in another network namespace is not found. Where no connection has these addresses the kernel answers with a socket that
//! listens at the port, and one that was closed has neither owner nor file: such answers are nobody's.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Type};

/// What the kernel knows of a socket.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) user: Option<u32>,
    /// The number of its control group's folder.
    pub(super) group: Option<u64>,
    /// Its control group by name.
    pub(super) group_name: Option<String>,
    /// The number by which the kernel tells sockets apart; 0 where nobody asked it.
    pub(super) socket: u32,
}

/// Asks whose socket is at `client`, connected to `local`.
///
/// # Errors
/// `NotFound` where no process has one; others where the kernel could not be asked.
pub(super) fn ask(client: SocketAddr, local: SocketAddr) -> io::Result<Origin> {
    let client = SocketAddr::new(client.ip().to_canonical(), client.port());
    let local = SocketAddr::new(local.ip().to_canonical(), local.port());
    let kind = Type::DGRAM.nonblocking().cloexec();
    let mut socket = socket2::Socket::new(
        Domain::from(AF_NETLINK),
        kind,
        Some(Protocol::from(SOCK_DIAG)),
    )?;
    // A datagram socket of its own address family: connected to the kernel by default.
    socket.write_all(&question(client, local)?)?;
    let mut answer = [0; 2048];
    let read = socket.read(&mut answer)?;
    reading(&answer[..read], client, local).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2` (linux/netlink.h, linux/inet_diag.h).
fn question(client: SocketAddr, local: SocketAddr) -> io::Result<Vec<u8>> {
    let mut message = Vec::with_capacity(QUESTION_BYTES);
    message.extend((QUESTION_BYTES as u32).to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    let family = match (client.ip(), local.ip()) {
        (IpAddr::V4(_), IpAddr::V4(_)) => AF_INET,
        (IpAddr::V6(_), IpAddr::V6(_)) => AF_INET6,
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    message.extend([family, IPPROTO_TCP, 0, 0]);
    message.extend(u32::MAX.to_ne_bytes());
    message.extend(client.port().to_be_bytes());
    message.extend(local.port().to_be_bytes());
    for address in [client.ip(), local.ip()] {
        let mut bytes = [0; 16];
        match address {
            IpAddr::V4(address) => bytes[..4].copy_from_slice(&address.octets()),
            IpAddr::V6(address) => bytes.copy_from_slice(&address.octets()),
        }
        message.extend(bytes);
    }
    message.extend([0; 4]);
    // No cookie: any socket with these addresses.
    message.extend([0xff; 8]);
    Ok(message)
}

/// `struct inet_diag_msg`, then attributes. Only of the very connection that was asked for, while a process has it open.
fn reading(answer: &[u8], client: SocketAddr, local: SocketAddr) -> Option<Origin> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    if kind != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    let length = u32::from_ne_bytes(answer.get(..4)?.try_into().ok()?) as usize;
    let body = answer.get(16..length.min(answer.len()))?;
    let is_open = OPEN.contains(body.get(1)?) && *body.get(68..72)? != [0; 4];
    if !is_open || ends(body)? != (client, local) {
        return None;
    }
    let user = u32::from_ne_bytes(body.get(64..68)?.try_into().ok()?);
    let mut origin = Origin {
        user: Some(user),
        socket: u32::from_ne_bytes(body.get(68..72)?.try_into().ok()?),
        ..Origin::default()
    };
    let mut rest = body.get(72..).unwrap_or(&[]);
    while let (Some(length), Some(kind)) = (rest.get(..2), rest.get(2..4)) {
        let length = usize::from(u16::from_ne_bytes(length.try_into().ok()?));
        let kind = u16::from_ne_bytes(kind.try_into().ok()?);
        let value = rest.get(4..length)?;
        if kind == INET_DIAG_CGROUP_ID {
            origin.group = value.try_into().ok().map(u64::from_ne_bytes);
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    Some(origin)
}

/// The addresses in an answer; those of IPv4 come as IPv6 from sockets that speak both.
fn ends(body: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let family = *body.first()?;
    let end = |port: usize, at: usize| {
        let port = u16::from_be_bytes(body.get(port..port + 2)?.try_into().ok()?);
        let bytes = <[u8; 16]>::try_from(body.get(at..at + 16)?).ok()?;
        let address = match (family, bytes) {
            (AF_INET, [a, b, c, d, ..]) => IpAddr::from([a, b, c, d]),
            (AF_INET6, bytes) => IpAddr::from(bytes).to_canonical(),
            _ => return None,
        };
        Some(SocketAddr::new(address, port))
    };
    Some((end(4, 8)?, end(6, 24)?))
}

/// States of a socket that a process may have open: established, both of waiting for the other's end, waiting for its own.
const OPEN: [u8; 4] = [1, 4, 5, 8];
const AF_NETLINK: i32 = 16;
const SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const INET_DIAG_CGROUP_ID: u16 = 21;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const QUESTION_BYTES: usize = 16 + 56;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_kernel_says_whose_socket_it_is() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let own = rustix::process::getuid().as_raw();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (client, local) = (client.local_addr().unwrap(), client.peer_addr().unwrap());

        // The client is open until the end of the test: `client` above is shadowed, not dropped.
        let origin = ask(client, local);
        let nobody = ask("127.0.0.1:1".parse().unwrap(), local);

        assert_eq!(origin.unwrap().user, Some(own));
        assert!(nobody.is_err());
    }

    #[test]
    fn callers_that_speak_both_families_are_found_by_their_ipv4_address() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let socket = socket2::Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        socket.set_only_v6(false).unwrap();
        let mapped = SocketAddr::new("::ffff:127.0.0.1".parse().unwrap(), to.port());
        socket.connect(&mapped.into()).unwrap();
        let client = socket.local_addr().unwrap().as_socket().unwrap();

        let origin = ask(client, to);

        let own = rustix::process::getuid().as_raw();
        assert_eq!(origin.unwrap().user, Some(own));
    }

    #[test]
    fn strangers_are_not_taken_for_who_listens_at_their_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap();
        let any = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = any.local_addr().unwrap().port();

        let same = ask(own, "127.0.0.1:1".parse().unwrap());
        let far = ask(SocketAddr::new("192.0.2.1".parse().unwrap(), port), own);

        assert!(same.is_err(), "{same:?}");
        assert!(far.is_err(), "{far:?}");
    }

    #[test]
    fn clients_that_have_left_are_not_taken_for_root() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let stream = std::net::TcpStream::connect(local).unwrap();
        let client = stream.local_addr().unwrap();
        let (mut held, _) = listener.accept().unwrap();
        drop(stream);
        // The end has come: the kernel alone has the client's socket now.
        assert_eq!(held.read(&mut [0; 1]).unwrap(), 0);

        let origin = ask(client, local);

        assert!(origin.is_err(), "{origin:?}");
    }

    #[test]
    fn answers_that_are_none_are_not_read() {
        let end = SocketAddr::from(([127, 0, 0, 1], 1));
        let reading = |answer: &[u8]| super::reading(answer, end, end);
        assert_eq!(reading(&[]), None);
        assert_eq!(reading(&[0xff; 200]), None);
        let mut short = vec![0; 40];
        short[4] = 20;
        short[0] = 200;
        assert_eq!(reading(&short), None);
    }
}
