//! How often the authority may be asked: strangers by address, nodes all together.
//! It must not know calls; each kind has a bucket.
//! Asked by the server before it reads a body.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::Refusal;

/// Buckets of tokens, and places.
#[derive(Default)]
pub(super) struct Limits {
    signs: Mutex<Option<Bucket>>,
    syncs: Mutex<Option<Bucket>>,
    joins: Mutex<HashMap<IpAddr, Bucket>>,
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

    /// Certificates: signing is a lock, a signature and two waits for the disk.
    pub(super) fn sign(&self) -> Result<(), Refusal> {
        let mut bucket = self.signs.lock().unwrap_or_else(PoisonError::into_inner);
        take(bucket.get_or_insert_with(|| SIGN.full()), SIGN)
    }

    pub(super) fn sync(&self) -> Result<(), Refusal> {
        let mut bucket = self.syncs.lock().unwrap_or_else(PoisonError::into_inner);
        take(bucket.get_or_insert_with(|| SYNC.full()), SYNC)
    }

    /// Joins by address.
    pub(super) fn join(&self, address: IpAddr) -> Result<(), Refusal> {
        let address = network(address);
        let mut buckets = self.joins.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MOST_ADDRESSES {
            let now = Instant::now();
            buckets.retain(|_, bucket| bucket.filled(JOIN, now) < JOIN.most);
        }
        if buckets.len() >= MOST_ADDRESSES && !buckets.contains_key(&address) {
            return Err(refusal());
        }
        take(buckets.entry(address).or_insert_with(|| JOIN.full()), JOIN)
    }
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
const JOIN: Rate = Rate {
    each_second: 2.0,
    most: 20.0,
};
const MOST_ADDRESSES: usize = 10_000;
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
