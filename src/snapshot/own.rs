//! The process's own connections to others: made here where Pingora does not make them, and marked so that the kernel's rules
//! can tell them from those of applications.
//! It must not know whom they are for. The mark belongs to the process: `app` sets it once, before anything connects.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use pingora::upstreams::peer::PeerOptions;
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};

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
    let Some(mark) = MARK.get() else {
        return TcpStream::connect(address).await;
    };
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    SockRef::from(&socket).set_mark(*mark)?;
    socket.connect(address).await
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
