//! Wires: how a plugin's task sends bytes to a peer that speaks no HTTP, as streams or as datagrams.
//! It must not know sockets; whoever builds plugins hands in what opens a wire.
//! Plugins get [`Wires`] from `Build::wires`; the test kit records what was sent.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

/// Where a wire leads. Names are looked up each time one is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Far {
    /// Datagrams over UDP.
    Udp {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
    },
    /// A stream over TCP.
    Tcp {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
    },
    /// A stream over TLS 1.2 or later, the peer's certificate verified.
    Tls {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
        /// The name that the certificate has to have.
        name: String,
        /// Authorities to believe instead of the system's, in PEM.
        ca: Option<Vec<u8>>,
    },
    /// Datagrams to a Unix socket.
    Unix {
        /// Its path.
        path: PathBuf,
    },
}

impl Far {
    /// Whether what is sent arrives in the pieces it was sent in.
    pub fn has_datagrams(&self) -> bool {
        matches!(self, Far::Udp { .. } | Far::Unix { .. })
    }
}

impl fmt::Display for Far {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, port) = match self {
            Far::Udp { host, port } => ("udp", host, port),
            Far::Tcp { host, port } => ("tcp", host, port),
            Far::Tls { host, port, .. } => ("tls", host, port),
            Far::Unix { path } => return write!(f, "unix:{}", path.display()),
        };
        match host.contains(':') {
            true => write!(f, "{scheme}://[{host}]:{port}"),
            false => write!(f, "{scheme}://{host}:{port}"),
        }
    }
}

/// Why nothing was sent, or why it is not known to have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WireFailure {
    /// The datagram is longer than the way takes.
    TooLong,
    /// The wire is of no use any more, or there is none; the text is for people.
    Broken(String),
}

/// The future of an operation.
pub type WireFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, WireFailure>> + Send + 'a>>;

/// A wire that is open. Dropping it closes it where it is.
pub trait Wire: Send {
    /// Sends bytes: all of them, or as one datagram. That it succeeds does not say that they arrived.
    fn send(&mut self, bytes: Bytes) -> WireFuture<'_, ()>;

    /// Lets the peer have what is on its way, for a second at most.
    fn close(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Opens wires to one peer.
pub trait Wires: Send + Sync {
    /// Opens one.
    fn open(&self) -> WireFuture<'_, Box<dyn Wire>>;
}

/// What a wire is opened with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireSettings {
    /// Where it leads.
    pub far: Far,
    /// Time for opening it, and for each sending.
    pub timeout: Duration,
}
