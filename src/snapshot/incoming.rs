//! What the slow path hands to the fast path with each accepted connection, and how it asks for its end.
//! It must not know who accepts or who serves.
//! Built by `control::listeners`, consumed by `proxy::accept`.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;

/// A connection that was just accepted.
pub struct Incoming {
    /// The socket.
    pub socket: Socket,
    /// The peer as the kernel names it; loopback for socket files.
    pub peer: SocketAddr,
    /// The address it was accepted at; unspecified for socket files.
    pub local: SocketAddr,
    /// The listener it came through.
    pub slot: Arc<Slot>,
}

/// A socket of either kind.
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A socket file.
    Unix(UnixStream),
}

/// What a bound listener keeps across generations.
pub struct Slot {
    /// The listener's name.
    pub name: Arc<str>,
    /// Open connections.
    pub open: Arc<AtomicU32>,
    /// Open connections by client.
    pub clients: Clients,
    /// Turns true when the listener or the process goes away: finish what is under way, start nothing new.
    pub drain: watch::Receiver<bool>,
}

const SHARDS: usize = 16;

/// Open connections by client address; IPv6 by /64, since one client owns at least that.
#[derive(Default)]
pub struct Clients([Mutex<HashMap<IpAddr, u32>>; SHARDS]);

/// Counts a connection as open until dropped.
pub struct Open {
    slot: Arc<Slot>,
    client: Option<IpAddr>,
}

/// Which bound was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The listener's.
    Listener,
    /// The client's.
    Client,
}

impl Open {
    /// Counts a connection unless the listener has `most` already.
    pub fn listener(slot: &Arc<Slot>, most: u32) -> Result<Open, Full> {
        let open = Open {
            slot: slot.clone(),
            client: None,
        };
        match slot.open.fetch_add(1, Relaxed) < most {
            true => Ok(open),
            false => Err(Full::Listener),
        }
    }

    /// Counts it for its client too, unless the client has `most` already; 0 for no bound.
    pub fn client(&mut self, address: IpAddr, most: u32) -> Result<(), Full> {
        if most == 0 {
            return Ok(());
        }
        let key = client_key(address);
        let mut clients = self
            .slot
            .clients
            .shard(key)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = clients.entry(key).or_default();
        if *count >= most {
            return Err(Full::Client);
        }
        *count += 1;
        self.client = Some(key);
        Ok(())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.slot.open.fetch_sub(1, Relaxed);
        let Some(key) = self.client else { return };
        let mut clients = self
            .slot
            .clients
            .shard(key)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = clients.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&key);
            }
        }
    }
}

impl Clients {
    fn shard(&self, key: IpAddr) -> &Mutex<HashMap<IpAddr, u32>> {
        let last = match key {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(address) => address.octets()[7],
        };
        &self.0[usize::from(last) % SHARDS]
    }
}

fn client_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot() -> Arc<Slot> {
        let (_, drain) = watch::channel(false);
        Arc::new(Slot {
            name: "l".into(),
            open: Arc::default(),
            clients: Clients::default(),
            drain,
        })
    }

    #[test]
    fn connections_are_counted_until_they_end() {
        let slot = slot();
        let first = Open::listener(&slot, 1);
        assert!(first.is_ok());

        assert!(matches!(Open::listener(&slot, 1), Err(Full::Listener)));
        drop(first);

        assert!(Open::listener(&slot, 1).is_ok());
        assert_eq!(slot.open.load(Relaxed), 0);
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_client() {
        let slot = slot();
        let mut first = Open::listener(&slot, 9).unwrap_or_else(|_| unreachable!());
        let mut second = Open::listener(&slot, 9).unwrap_or_else(|_| unreachable!());

        assert_eq!(first.client("2001:db8::1".parse().unwrap(), 1), Ok(()));
        assert_eq!(
            second.client("2001:db8::2".parse().unwrap(), 1),
            Err(Full::Client)
        );
        assert_eq!(second.client("2001:db8:0:1::2".parse().unwrap(), 1), Ok(()));
    }
}
