//! How a listener takes connections that were made for somebody else: where they were going is asked of the kernel.
//! It must not know the rules that bring such connections here, nor sockets.
//! Part of a listener; built by `config::compile`, read by `control::listeners` (for the socket) and `proxy::capture`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use windrose_plugins::contract::{causes, Cause};

use super::route::Candidate;
use super::ssrf::Guard;

/// How captured connections reach a listener's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Their destination was rewritten (REDIRECT); the kernel remembers the original one.
    Redirect,
    /// They came as they are (TPROXY); the socket's own address is the original destination.
    Transparent,
}

/// What becomes of what no route and no service is for.
#[derive(Clone)]
pub enum Unknown {
    /// It is refused.
    Block,
    /// It goes on to where it was going, by this rule.
    Passthrough(Arc<Candidate>),
}

/// What is spoken at a port, as far as it was written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// HTTP: silence and other bytes are refused.
    Http,
    /// Bytes: nothing is looked at.
    Tcp,
}

/// What a capturing listener does.
#[derive(Clone)]
pub struct Capture {
    /// How connections come.
    pub how: How,
    /// What becomes of what nothing is for.
    pub unknown: Unknown,
    /// How long neither side may speak before the connection is taken for bytes.
    pub detect_timeout: Duration,
    /// What is spoken at ports.
    pub hints: Arc<AHashMap<u16, Hint>>,
    /// What forbids destinations that nothing is for; `None` for nothing but what never may be.
    pub guard: Option<Arc<Guard>>,
    /// Ports at which servers spoke first. The same in the next generation.
    pub learned: Arc<Learned>,
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture")
            .field("how", &self.how)
            .finish_non_exhaustive()
    }
}

impl Capture {
    /// What is taken for a destination that nothing is for.
    ///
    /// # Errors
    /// The cause to refuse it with. What goes on never goes to this machine's loopback: whoever is captured could reach
    /// what listens there for the proxy's own user alone. Nor does it go to link-local addresses, where clouds hand out
    /// credentials by who asks: a workload that may ask for some has a route or a service for that address.
    pub fn unknown(
        &self,
        destination: Option<SocketAddr>,
    ) -> Result<&Arc<Candidate>, &'static Cause> {
        let may_go = |to: SocketAddr| {
            let ip = to.ip().to_canonical();
            !ip.is_loopback()
                && !ip.is_unspecified()
                && !ip.is_multicast()
                && !is_of_the_link(ip)
                && to.port() != 0
        };
        match &self.unknown {
            Unknown::Passthrough(candidate) if destination.is_some_and(may_go) => {
                let guard = self.guard.as_ref().zip(destination);
                match guard.and_then(|(guard, to)| guard.forbids(to.ip())) {
                    Some(_) => Err(&causes::ADDRESS_FORBIDDEN),
                    None => Ok(candidate),
                }
            }
            Unknown::Passthrough(_) | Unknown::Block => Err(&causes::DESTINATION_UNKNOWN),
        }
    }

    /// What is spoken at a port, where it is written.
    pub fn written(&self, port: u16) -> Option<Hint> {
        self.hints.get(&port).copied()
    }

    /// What is spoken at a port where nothing is known of it: bytes where servers speak first.
    pub fn usual(&self, port: u16) -> Option<Hint> {
        SERVERS_FIRST.contains(&port).then_some(Hint::Tcp)
    }
}

/// Addresses that mean something else at each machine: those of the link (RFC 3927, RFC 4291 section 2.5.6), and the metadata
/// service of Amazon's cloud in IPv6.
fn is_of_the_link(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip == METADATA,
    }
}

const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Ports whose protocols cannot be told by looking, or whose servers speak first: SMTP, MySQL and Galera, PostgreSQL, Redis,
/// Elasticsearch, memcached. The list is Linkerd's, which users of meshes know.
const SERVERS_FIRST: [u16; 8] = [25, 587, 3306, 4444, 5432, 6379, 9300, 11211];

/// Ports at which servers spoke before clients: there is no waiting for the client any more before the server is asked. What
/// clients say is looked at all the same, so that nobody who answers first at a port turns the port into one of bytes.
pub struct Learned(Box<[AtomicBool]>);

impl Default for Learned {
    fn default() -> Learned {
        Learned((0..=u16::MAX).map(|_| AtomicBool::new(false)).collect())
    }
}

impl Learned {
    /// Remembers who spoke first at a port.
    pub fn spoke(&self, port: u16, is_server: bool) {
        self.0[usize::from(port)].store(is_server, Relaxed);
    }

    /// Whether a server did the last time.
    pub fn is_server_first(&self, port: u16) -> bool {
        self.0[usize::from(port)].load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_another_thing_at_each_machine_is_not_gone_on_to() {
        let at = |ip: &str| is_of_the_link(ip.parse().unwrap());

        assert!(at("169.254.169.254") && at("fe80::1") && at("fd00:ec2::254"));
        assert!(!at("10.0.0.1") && !at("fd00::1") && !at("2001:db8::1"));
    }
}
