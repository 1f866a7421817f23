//! The process's own connections to others: made here where Pingora does not make them, and marked so that the kernel's rules
//! can tell them from those of applications; remembered while a listener captures, to be known should they come in again.
//! It must not know whom they are for. The mark belongs to the process: `app` sets it once, before anything connects.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};

use super::ssrf::Guard;
use pingora::upstreams::peer::PeerOptions;
use socket2::SockRef;
use tokio::net::{lookup_host, TcpSocket, TcpStream, UdpSocket};

static MARK: OnceLock<u32> = OnceLock::new();

/// Marks every connection from now on (SO_MARK); needs `CAP_NET_ADMIN`.
pub fn set_mark(mark: u32) {
    let _ = MARK.set(mark);
}

/// Connects to an address.
///
/// # Errors
/// The system's.
pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(mark) = MARK.get() {
        SockRef::from(&socket).set_mark(*mark)?;
    }
    let stream = socket.connect(address).await?;
    if is_watched() {
        if let Ok(local) = stream.local_addr() {
            made((local, address), stream.as_raw_fd());
        }
    }
    Ok(stream)
}

/// Connects to a name or address with a port: to the first of its addresses that answers, and that the guard allows.
///
/// # Errors
/// The system's, of the last address.
pub async fn connect_to(authority: &str, guard: Option<&Guard>) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host(authority).await? {
        if let Some(forbidden) = forbidden(guard, address) {
            failed = forbidden;
            continue;
        }
        match connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// A socket that sends datagrams to a name or address with a port: to the first of its addresses that there is a way to.
///
/// # Errors
/// The system's, of the last address.
pub async fn datagrams_to(authority: &str, guard: Option<&Guard>) -> io::Result<UdpSocket> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host(authority).await? {
        if let Some(forbidden) = forbidden(guard, address) {
            failed = forbidden;
            continue;
        }
        match datagrams(address).await {
            Ok(socket) => return Ok(socket),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn forbidden(guard: Option<&Guard>, address: SocketAddr) -> Option<io::Error> {
    let why = guard?.forbids(address.ip())?;
    let fact = format!("{address} {why}, and `ssrf_guard` forbids it");
    Some(io::Error::new(io::ErrorKind::PermissionDenied, fact))
}

async fn datagrams(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    if let Some(mark) = MARK.get() {
        SockRef::from(&socket).set_mark(*mark)?;
    }
    socket.connect(address).await?;
    Ok(socket)
}

/// Has Pingora mark the connections that it makes with these options.
pub fn mark(options: &mut PeerOptions) {
    let Some(mark) = MARK.get() else { return };
    options.upstream_tcp_sock_tweak_hook = Some(Arc::new(|socket: &TcpSocket| {
        let marked = SockRef::from(socket).set_mark(*mark);
        marked.map_err(|error| {
            pingora::Error::because(
                pingora::ErrorType::SocketError,
                "marking a connection needs CAP_NET_ADMIN",
                error,
            )
        })
    }));
}

/// The two ends of a connection: where it begins, and where it leads.
pub type Ends = (SocketAddr, SocketAddr);

static WATCHED: AtomicBool = AtomicBool::new(false);
static MADE: LazyLock<Made> = LazyLock::new(Made::default);

/// Remembers connections from now on: a listener captures.
pub fn watch() {
    WATCHED.store(true, Relaxed);
}

/// Whether connections are remembered.
pub fn is_watched() -> bool {
    WATCHED.load(Relaxed)
}

/// Remembers a connection by its ends and its socket.
pub fn made(ends: Ends, fd: RawFd) {
    if let Some(inode) = inode(fd) {
        MADE.made(ends, inode);
    }
}

/// The socket of a connection with these ends, if one was made; it may be closed by now, and the ends somebody else's.
pub fn socket(ends: Ends) -> Option<u32> {
    MADE.socket(ends)
}

/// Forgets a connection that is known to be over.
pub fn forget(ends: Ends, socket: u32) {
    MADE.forget(ends, socket);
}

/// The number by which the kernel tells sockets apart, as `/proc` shows it.
fn inode(fd: RawFd) -> Option<u32> {
    let link = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
    let number = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
    number.parse().ok()
}

const SHARDS: usize = 16;
/// Connections remembered in each shard; the oldest goes first.
const MOST: usize = 1024;

/// The process's connections: at most 16,384.
#[derive(Default)]
struct Made([Mutex<Ring>; SHARDS]);

#[derive(Default)]
struct Ring {
    known: HashMap<Ends, u32>,
    order: VecDeque<Ends>,
}

impl Made {
    fn shard(&self, ends: Ends) -> MutexGuard<'_, Ring> {
        let shard = &self.0[usize::from(ends.0.port()) % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn made(&self, ends: Ends, socket: u32) {
        let ends = canonical(ends);
        let mut ring = self.shard(ends);
        if ring.known.insert(ends, socket).is_some() {
            return;
        }
        ring.order.push_back(ends);
        if ring.order.len() > MOST {
            if let Some(oldest) = ring.order.pop_front() {
                ring.known.remove(&oldest);
            }
        }
    }

    fn socket(&self, ends: Ends) -> Option<u32> {
        let ends = canonical(ends);
        self.shard(ends).known.get(&ends).copied()
    }

    fn forget(&self, ends: Ends, socket: u32) {
        let ends = canonical(ends);
        let mut ring = self.shard(ends);
        if ring.known.get(&ends) == Some(&socket) {
            ring.known.remove(&ends);
            ring.order.retain(|one| *one != ends);
        }
    }
}

fn canonical((from, to): Ends) -> Ends {
    let plain = |one: SocketAddr| SocketAddr::new(one.ip().to_canonical(), one.port());
    (plain(from), plain(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(last: u32) -> Ends {
        let from = SocketAddr::from((std::net::Ipv4Addr::from(last), 16));
        (from, SocketAddr::from(([10, 0, 0, 1], 80)))
    }

    #[test]
    fn what_is_remembered_is_bounded_and_can_be_forgotten() {
        let made = Made::default();
        for last in 0..u32::from(u16::MAX) {
            made.made(ends(last), last);
        }

        let newest = u32::from(u16::MAX) - 1;
        assert_eq!(
            (made.socket(ends(newest)), made.socket(ends(0))),
            (Some(newest), None)
        );
        made.forget(ends(newest), 7);
        assert_eq!(
            made.socket(ends(newest)),
            Some(newest),
            "it is another's by now"
        );
        made.forget(ends(newest), newest);
        assert_eq!(made.socket(ends(newest)), None);
        let ring = made.shard(ends(0));
        assert_eq!((ring.known.len(), ring.order.len()), (MOST - 1, MOST - 1));
    }

    #[tokio::test]
    async fn connections_are_made_by_name_and_known_by_their_socket() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        watch();

        let stream = connect_to(&format!("localhost:{port}"), None).await;
        // Where `localhost` is IPv6 first, the other family is tried as well.
        let stream = stream.unwrap();

        let ends = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        assert_eq!(socket(ends), inode(stream.as_raw_fd()));
        assert!(socket(ends).is_some());
    }
}
