//! Captured connections: where they were going before they were brought here, and whether they are the proxy's own.
//! It must not know routes or what is spoken.
//! Called by `accept` for each connection of a listener that captures, and by whoever connects to endpoints.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Mutex, PoisonError};

use pingora::protocols::Digest;
use socket2::SockRef;
use tokio::net::TcpStream;
use windrose_plugins::contract::causes;

use super::accept::Refusal;
use crate::snapshot::capture::How;
use crate::snapshot::incoming::Socket;
use crate::snapshot::listener::Bind;
use crate::snapshot::Snapshot;

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
fn is_local(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}

/// Remembers a connection that Pingora made.
pub(super) fn remember(own: &Own, digest: Option<&Digest>) {
    let digest = digest.and_then(|digest| digest.socket_digest.as_ref());
    let local = digest.and_then(|digest| digest.local_addr()?.as_inet().copied());
    if let Some(local) = local {
        own.made(local);
    }
}

pub(super) fn looped(detail: &str) -> Refusal {
    Refusal::new(&causes::CAPTURE_LOOP, detail)
}

const SHARDS: usize = 16;
/// Addresses remembered in each shard; the oldest goes first.
const MOST: usize = 1024;

/// The addresses that the proxy's own connections to endpoints begin at, while a listener captures: at most 16,384.
#[derive(Default)]
pub struct Own([Mutex<Ring>; SHARDS]);

#[derive(Default)]
struct Ring {
    known: HashSet<SocketAddr>,
    order: VecDeque<SocketAddr>,
}

impl Own {
    fn shard(&self, address: SocketAddr) -> &Mutex<Ring> {
        &self.0[usize::from(address.port()) % SHARDS]
    }

    /// Remembers a connection by its own end.
    pub(super) fn made(&self, local: SocketAddr) {
        let local = SocketAddr::new(local.ip().to_canonical(), local.port());
        let shard = self.shard(local);
        let mut ring = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if !ring.known.insert(local) {
            return;
        }
        ring.order.push_back(local);
        if ring.order.len() > MOST {
            if let Some(oldest) = ring.order.pop_front() {
                ring.known.remove(&oldest);
            }
        }
    }

    /// Whether a connection that came in is one of our own. An address that is remembered may belong to somebody else by
    /// now, so the kernel's tables have the last word; they are read only then.
    pub(super) async fn has_made(&self, peer: SocketAddr) -> bool {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let is_known = {
            let ring = self.shard(peer).lock();
            let ring = ring.unwrap_or_else(PoisonError::into_inner);
            ring.known.contains(&peer)
        };
        if !is_known {
            return false;
        }
        let holds = tokio::task::spawn_blocking(move || holds(peer)).await;
        holds.unwrap_or(true)
    }
}

/// Whether this process holds a TCP socket that is bound to an address.
fn holds(local: SocketAddr) -> bool {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
    let text: String = tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .collect();
    let inodes: HashSet<&str> = inodes(&text, local.port()).collect();
    let Ok(descriptors) = fs::read_dir("/proc/self/fd") else {
        return true;
    };
    let mut links = descriptors
        .flatten()
        .filter_map(|one| fs::read_link(one.path()).ok());
    links.any(|link| {
        let link = link.to_string_lossy();
        let inode = link
            .strip_prefix("socket:[")
            .and_then(|rest| rest.strip_suffix(']'));
        inode.is_some_and(|inode| inodes.contains(inode))
    })
}

/// The inodes of sockets in a table of `/proc/net` that begin at a port and are no listeners.
fn inodes(table: &str, port: u16) -> impl Iterator<Item = &str> {
    let suffix = format!(":{port:04X}");
    table.lines().filter_map(move |line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let local = words.next()?;
        let state = words.nth(1)?;
        let inode = words.nth(5)?;
        (local.ends_with(&suffix) && state != LISTENING).then_some(inode)
    })
}

const LISTENING: &str = "0A";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_found_by_the_port_they_begin_at() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 x\n   1: 0100007F:1F90 0100007F:0050 01 00000000:00000000 00:00000000 00000000     0        0 12 1 x\n";

        assert_eq!(inodes(table, 8080).collect::<Vec<_>>(), ["12"]);
        assert_eq!(inodes(table, 80).count(), 0);
    }

    #[tokio::test]
    async fn only_connections_that_this_process_still_holds_are_its_own() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let held = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let address = held.local_addr().unwrap();
        let own = Own::default();

        assert!(!own.has_made(address).await, "nobody said so");
        own.made(address);
        assert!(own.has_made(address).await);
        drop((held, listener));
        assert!(!own.has_made(address).await, "it is closed");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let own = Own::default();
        for last in 0..u32::from(u16::MAX) {
            own.made(SocketAddr::from((std::net::Ipv4Addr::from(last), 16)));
        }

        let ring = own.0[0].lock().unwrap();
        assert_eq!((ring.known.len(), ring.order.len()), (MOST, MOST));
    }
}
