//! How Pingora connects to an endpoint of a pool.
//! It must not know which endpoint is chosen.
//! Made once for each set, at its first attempt, and completed for each: ten thousand templates would be megabytes.

use std::os::unix::net::SocketAddr as UnixAddr;
use std::sync::OnceLock;
use std::time::Duration;

use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::ALPN;
use pingora::upstreams::peer::HttpPeer;

use super::{PoolProtocol, PoolSettings};
use crate::snapshot::endpoint::Address;
use crate::snapshot::own;

/// What Pingora connects with to the endpoints of a set, which only lacks an address; `None` for pools of bytes. Made by the
/// first who connects.
#[derive(Default)]
pub struct Template(OnceLock<Option<Box<HttpPeer>>>);

impl Template {
    /// The peer at an address; `None` for a path that is none.
    pub(super) fn at(
        &self,
        pool: &str,
        settings: &PoolSettings,
        address: &Address,
    ) -> Option<Box<HttpPeer>> {
        let template = self.0.get_or_init(|| template(pool, settings));
        let address = match address {
            Address::Tcp(address) => SocketAddr::Inet(*address),
            Address::Unix(path) => SocketAddr::Unix(UnixAddr::from_pathname(path).ok()?),
        };
        let mut peer = template.clone()?;
        peer._address = address;
        Some(peer)
    }
}

/// Its group key separates whatever Pingora's own pool key leaves out: pool, trust, own certificate and idle time never share a
/// socket with another pool's.
fn template(pool: &str, settings: &PoolSettings) -> Option<Box<HttpPeer>> {
    if settings.protocol == PoolProtocol::Tcp {
        return None;
    }
    let tls = settings.tls.as_ref().map(|tls| &tls.sni);
    // In a tunnel the node is who proves itself, and what is carried is in the clear.
    let direct = settings.mtls.as_ref().filter(|mtls| mtls.hbone.is_none());
    let sni = tls.or_else(|| direct.map(|mtls| &mtls.sni));
    let nowhere = std::net::SocketAddr::from(([0, 0, 0, 0], 1));
    let mut peer = HttpPeer::new(nowhere, sni.is_some(), sni.cloned().unwrap_or_default());
    let options = &mut peer.options;
    options.connection_timeout = Some(settings.connect_timeout);
    options.total_connection_timeout = Some(settings.connect_timeout * 2);
    options.idle_timeout = Some(settings.idle_timeout);
    if settings.protocol != PoolProtocol::Http1 {
        options.h2_ping_interval = Some(PING);
        options.h2_stream_window_size = Some(H2_WINDOW);
        options.h2_connection_window_size = Some(connection_window(settings.h2_streams));
    }
    options.max_h2_streams = settings.h2_streams as usize;
    options.alpn = match settings.protocol {
        PoolProtocol::Http1 | PoolProtocol::Tcp => ALPN::H1,
        PoolProtocol::Http2 => ALPN::H2,
        PoolProtocol::Auto => ALPN::H2H1,
    };
    own::mark(options);
    if let Some(tls) = &settings.tls {
        tls.apply(&mut peer);
    }
    peer.group_key = group_key(pool, settings);
    Some(Box::new(peer))
}

/// How often an HTTP/2 connection is asked whether the other end is still there, as Linkerd does; Pingora waits five seconds for
/// the answer. Without, a node that was cut off holds every request that is sent to it until its own time is over.
const PING: Duration = Duration::from_secs(10);

/// Bytes that an upstream may send in one HTTP/2 stream before somebody reads them. Pingora's own 8 MiB are also all that its
/// connections may have unread: one client who does not read would hold that much, and two would stop every other one on the
/// connection.
pub const H2_WINDOW: u32 = 1 << 20;

/// As many as in all of its streams, so that none has to wait for the others' readers.
fn connection_window(streams: u32) -> u32 {
    const MOST: u32 = (1 << 31) - 1;
    H2_WINDOW.saturating_mul(streams.max(1)).min(MOST)
}

fn group_key(pool: &str, settings: &PoolSettings) -> u64 {
    use std::hash::{BuildHasher, Hash, Hasher};
    let mut hasher = ahash::RandomState::with_seeds(1, 2, 3, 4).build_hasher();
    pool.hash(&mut hasher);
    settings.idle_timeout.hash(&mut hasher);
    settings.protocol.hash_into(&mut hasher);
    if let Some(tls) = &settings.tls {
        tls.fingerprint.hash(&mut hasher);
    }
    hasher.finish()
}

impl PoolProtocol {
    fn hash_into(self, hasher: &mut impl std::hash::Hasher) {
        hasher.write_u8(self as u8);
    }
}
