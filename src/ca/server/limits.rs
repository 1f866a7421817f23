//! How often the authority may be asked: strangers by address, nodes each by itself and all together; and how often it tells.
//! It must not know calls; each kind has a bucket.
//! Asked by the server before it reads a body.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::Refusal;

/// Buckets of tokens, and places.
#[derive(Default)]
pub(super) struct Limits {
    signs: Mutex<Option<Bucket>>,
    syncs: Mutex<Option<Bucket>>,
    node_signs: Mutex<HashMap<String, Bucket>>,
    node_syncs: Mutex<HashMap<String, Bucket>>,
    joins: Mutex<HashMap<IpAddr, Bucket>>,
    told: Mutex<(Option<Bucket>, u64)>,
    connections: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A connection's place among those of its address.
pub(super) struct Seat {
    connections: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut all = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.address);
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Bucket {
    level: f64,
    at: Instant,
}

/// What flows in each second, and how much fits.
#[derive(Clone, Copy)]
struct Rate {
    each_second: f64,
    most: f64,
}

impl Limits {
    /// A place for a connection of this address, unless it has its share already.
    pub(super) fn seat(&self, address: IpAddr) -> Option<Seat> {
        let address = network(address);
        let mut all = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(address).or_default();
        if *count >= MOST_OF_ADDRESS {
            return None;
        }
        *count += 1;
        Some(Seat {
            connections: self.connections.clone(),
            address,
        })
    }

    /// Certificates: signing is a lock, a signature and two waits for the disk. A node that has had its share takes none of the
    /// others'.
    pub(super) fn sign(&self, node: &str) -> Result<(), Refusal> {
        of_one(&self.node_signs, node.to_owned(), SIGN_NODE)?;
        let mut bucket = self.signs.lock().unwrap_or_else(PoisonError::into_inner);
        take(bucket.get_or_insert_with(|| SIGN.full()), SIGN)
    }

    /// Looks for new roots.
    pub(super) fn sync(&self, node: &str) -> Result<(), Refusal> {
        of_one(&self.node_syncs, node.to_owned(), SYNC_NODE)?;
        let mut bucket = self.syncs.lock().unwrap_or_else(PoisonError::into_inner);
        take(bucket.get_or_insert_with(|| SYNC.full()), SYNC)
    }

    /// Joins by address.
    pub(super) fn join(&self, address: IpAddr) -> Result<(), Refusal> {
        of_one(&self.joins, network(address), JOIN)
    }

    /// Whether a refusal is logged, and how many were not since the last one that was.
    pub(super) fn tell(&self) -> Option<u64> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let (bucket, left_out) = &mut *told;
        match take(bucket.get_or_insert_with(|| TELL.full()), TELL) {
            Ok(()) => Some(std::mem::take(left_out)),
            Err(_) => {
                *left_out += 1;
                None
            }
        }
    }
}

/// Takes from the bucket of one of many. Full ones are forgotten once there are many.
fn of_one<K: Eq + Hash>(
    buckets: &Mutex<HashMap<K, Bucket>>,
    key: K,
    rate: Rate,
) -> Result<(), Refusal> {
    let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
    if buckets.len() >= MOST_BUCKETS && !buckets.contains_key(&key) {
        let now = Instant::now();
        buckets.retain(|_, bucket| bucket.filled(rate, now) < rate.most);
        if buckets.len() >= MOST_BUCKETS {
            return Err(refusal());
        }
    }
    take(buckets.entry(key).or_insert_with(|| rate.full()), rate)
}

/// Addresses of one IPv6 network count as one.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(wide) => IpAddr::V6((u128::from(wide) >> 64 << 64).into()),
        narrow => narrow,
    }
}

impl Rate {
    fn full(self) -> Bucket {
        Bucket {
            level: self.most,
            at: Instant::now(),
        }
    }
}

impl Bucket {
    fn filled(self, rate: Rate, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        (self.level + since * rate.each_second).min(rate.most)
    }
}

fn take(bucket: &mut Bucket, rate: Rate) -> Result<(), Refusal> {
    let now = Instant::now();
    bucket.level = bucket.filled(rate, now);
    bucket.at = now;
    if bucket.level < 1.0 {
        return Err(refusal());
    }
    bucket.level -= 1.0;
    Ok(())
}

fn refusal() -> Refusal {
    Refusal::new(
        429,
        "ca.rate_limited",
        "too many calls; try again in a second",
    )
}

const SIGN: Rate = Rate {
    each_second: 100.0,
    most: 1000.0,
};
const SYNC: Rate = Rate {
    each_second: 200.0,
    most: 1000.0,
};
/// A node has up to some hundred workloads, and asks for all of them when it begins.
const SIGN_NODE: Rate = Rate {
    each_second: 20.0,
    most: 300.0,
};
const SYNC_NODE: Rate = Rate {
    each_second: 4.0,
    most: 40.0,
};
const TELL: Rate = Rate {
    each_second: 5.0,
    most: 50.0,
};
const JOIN: Rate = Rate {
    each_second: 2.0,
    most: 20.0,
};
/// Addresses, and nodes, that are told apart.
const MOST_BUCKETS: usize = 10_000;
/// Connections of one address at the same time.
const MOST_OF_ADDRESS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_that_asks_too_often_does_not_hinder_another() {
        let limits = Limits::default();
        let many: Vec<bool> = (0..30)
            .map(|_| limits.join([10, 0, 0, 1].into()).is_ok())
            .collect();

        assert!(many[..20].iter().all(|&passed| passed));
        assert!(!many[29]);
        assert!(limits.join([10, 0, 0, 2].into()).is_ok());
    }

    #[test]
    fn one_node_that_asks_too_often_does_not_hinder_another() {
        let limits = Limits::default();
        let signed = (0..2000).filter(|_| limits.sign("a").is_ok()).count();
        let synced = (0..2000).filter(|_| limits.sync("a").is_ok()).count();

        assert!((300..400).contains(&signed) && (40..80).contains(&synced));
        assert!(limits.sign("b").is_ok() && limits.sync("b").is_ok());
    }

    #[test]
    fn what_is_not_told_is_counted() {
        let limits = Limits::default();
        let told = (0..60).filter(|_| limits.tell().is_some()).count();

        assert!((50..60).contains(&told), "{told}");
        assert!(limits.told.lock().unwrap().1 > 0);
    }

    #[test]
    fn one_address_takes_only_its_share_of_connections() {
        let limits = Limits::default();
        let mut seats: Vec<Seat> = (0..64)
            .filter_map(|_| limits.seat([10, 0, 0, 1].into()))
            .collect();

        assert_eq!(seats.len(), 64);
        assert!(limits.seat([10, 0, 0, 1].into()).is_none());
        assert!(limits.seat([10, 0, 0, 2].into()).is_some());
        seats.pop();
        assert!(limits.seat([10, 0, 0, 1].into()).is_some());
    }

    #[test]
    fn addresses_of_one_network_are_one() {
        let limits = Limits::default();
        let passed = (0..30)
            .filter(|&last| limits.join([1, 2, 3, 4, 0, 0, 0, last].into()).is_ok())
            .count();

        assert_eq!(passed, 20);
    }
}
