//! Captured connections: where they were going before they were brought here, and whether they are the proxy's own.
//! It must not know routes or what is spoken.
//! Called by `accept` for each connection of a listener that captures, and by whoever connects to endpoints.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::RawFd;

use pingora::protocols::Digest;
use socket2::SockRef;
use tokio::net::TcpStream;
use windrose_plugins::contract::causes;

use super::accept::Refusal;
use super::diag;
use crate::snapshot::capture::How;
use crate::snapshot::incoming::Socket;
use crate::snapshot::listener::Bind;
use crate::snapshot::{own, Snapshot};

/// Where a captured connection was going.
///
/// # Errors
/// When that is the proxy itself.
pub(super) fn destination(
    socket: &Socket,
    local: SocketAddr,
    how: How,
    snapshot: &Snapshot,
) -> Result<SocketAddr, Refusal> {
    let Socket::Tcp(socket) = socket else {
        return Err(looped("a socket file captures nothing"));
    };
    let destination = match how {
        How::Transparent => local,
        // Without a rewritten destination the kernel knows none: somebody dialled the listener itself.
        How::Redirect => original(socket).unwrap_or(local),
    };
    let destination = SocketAddr::new(destination.ip().to_canonical(), destination.port());
    let is_here = how == How::Redirect && destination.port() == local.port();
    let is_direct = is_here && destination.ip() == local.ip().to_canonical();
    if is_direct || is_own_address(destination, snapshot) {
        return Err(looped(&format!("{destination} is the proxy's own address")));
    }
    Ok(destination)
}

fn original(socket: &TcpStream) -> Option<SocketAddr> {
    let socket = SockRef::from(socket);
    let found = match socket.original_dst_v4() {
        Ok(found) => Some(found),
        Err(_) => socket.original_dst_v6().ok(),
    };
    found.and_then(|address| address.as_socket())
}

/// Whether one of the proxy's own sockets listens at an address.
fn is_own_address(address: SocketAddr, snapshot: &Snapshot) -> bool {
    let listeners = snapshot.listeners.iter().map(|listener| &listener.bind);
    let mut bound = listeners
        .chain(&snapshot.admin)
        .filter_map(|bind| match bind {
            Bind::Tcp(bound) => Some(*bound),
            Bind::Unix(_) => None,
        });
    bound.any(|bound| {
        let is_any = bound.ip().is_unspecified();
        let same = bound.ip().to_canonical() == address.ip();
        bound.port() == address.port() && (same || is_any && is_local(address.ip()))
    })
}

/// Whether an address is one of this machine's: only such can be bound.
pub(super) fn is_local(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}

/// Remembers a connection that Pingora made.
pub(super) fn remember(fd: RawFd, digest: Option<&Digest>) {
    let socket = digest.and_then(|digest| digest.socket_digest.as_ref());
    let ends = socket.and_then(|socket| {
        let (from, to) = (socket.local_addr()?, socket.peer_addr()?);
        Some((*from.as_inet()?, *to.as_inet()?))
    });
    if let Some(ends) = ends {
        own::made(ends, fd);
    }
}

pub(super) fn looped(detail: &str) -> Refusal {
    Refusal::new(&causes::CAPTURE_LOOP, detail)
}

/// Whether a captured connection is one of our own: it has both ends of one that was made here, and the kernel says that it is
/// still the same socket. Ends that only look alike ask the kernel nothing, and those that are somebody else's by now are forgotten.
pub(super) fn is_own(client: SocketAddr, destination: SocketAddr) -> bool {
    let ends = (client, destination);
    let Some(socket) = own::socket(ends) else {
        return false;
    };
    let is_same = match diag::ask(client, destination) {
        Ok(origin) => origin.socket == socket,
        // Without an answer both ends are proof enough: two connections never share them at a time.
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    };
    if !is_same {
        own::forget(ends, socket);
    }
    is_same
}

/// Refuses a captured connection that is one of our own.
///
/// # Errors
/// When it is.
pub(super) fn not_own(client: SocketAddr, destination: SocketAddr) -> Result<(), Refusal> {
    match is_own(client, destination) {
        true => Err(looped("it is the proxy's own connection")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;

    use super::*;

    #[tokio::test]
    async fn only_connections_that_this_process_still_holds_are_its_own() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        own::watch();
        let held = own::connect(to).await.unwrap();
        let from = held.local_addr().unwrap();

        assert!(is_own(from, to));
        drop((held, listener));
        assert!(!is_own(from, to), "it is closed");
        assert_eq!(own::socket((from, to)), None, "it is still remembered");
    }

    #[tokio::test]
    async fn others_that_begin_at_the_same_address_are_not_our_own() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        own::watch();
        let ours = own::connect(to).await.unwrap();
        let from = ours.local_addr().unwrap();

        // An application's connection to elsewhere may begin at the same address and port.
        assert!(!is_own(from, other.local_addr().unwrap()));
        // And its very ends may be an application's once ours is closed.
        own::made((from, to), listener.as_raw_fd());
        assert!(!is_own(from, to));
    }
}
