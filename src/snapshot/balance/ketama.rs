//! Ketama: consistent hashing on a ring, the way nginx lays it out.
//! It must not know what was hashed.
//! Called by `Table::pick` for pools with `algorithm: ketama`.

use super::around;
use super::eligible::Eligible;
use super::hash::{Crc32, Random};
use crate::snapshot::pool::Member;

/// The ring of nginx's `hash ... consistent` (`ngx_http_upstream_hash_module.c`), so that traffic can move from nginx
/// without moving its keys.
///
/// A member has 160 points for each unit of weight. A point is the CRC-32 of host, a zero byte, port, and the point
/// before in four bytes, little-endian; the first follows 0. Hosts are written as in an address, IPv6 in brackets, a
/// socket file as its path without a port. So rings agree if nginx names its servers by address and port; a host name,
/// or a port left out, is other text there. (pingora-ketama has the same points for IPv4, but no brackets, no socket
/// files and no bound on points. libketama hashes with MD5 and has other points.)
///
/// The key's place is its CRC-32, the low half of [`hash_bytes`](super::hash_bytes); the first point at or after it
/// decides. Points of members that may not be chosen are passed over as in nginx, so other keys stay.
pub(super) struct Ketama {
    /// Sorted, without repetition, apart from their owners so that a search touches half the memory.
    points: Box<[u32]>,
    owners: Box<[u16]>,
    /// Positions by address.
    order: Box<[u16]>,
}

impl Ketama {
    pub(super) fn new(members: &[Member], weighted: &[(u16, u32)]) -> Ketama {
        let mut sorted = weighted.to_vec();
        sorted.sort_by_key(|(at, _)| &members[usize::from(*at)].endpoint.label);
        let total: u64 = sorted.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let mut ring = Vec::new();
        for (rank, (at, weight)) in (0_u16..).zip(&sorted) {
            let label = &members[usize::from(*at)].endpoint.label;
            let own = points(base(label)).take(point_count(*weight, total));
            ring.extend(own.map(|point| (point, rank)));
        }
        // Where two members have the same point the first by address keeps it, in every replica.
        ring.sort_unstable();
        ring.dedup_by_key(|(point, _)| *point);
        Ketama {
            points: ring.iter().map(|(point, _)| *point).collect(),
            owners: ring
                .iter()
                .map(|(_, rank)| sorted[usize::from(*rank)].0)
                .collect(),
            order: sorted.iter().map(|(at, _)| *at).collect(),
        }
    }

    pub(super) fn pick(&self, eligible: &Eligible<'_>) -> Option<u16> {
        if eligible.is_bounded() {
            let carries = |at| eligible.allows(at) && eligible.carries(at);
            if let Some(at) = self.find(eligible, carries) {
                return Some(at);
            }
        }
        self.find(eligible, |at| eligible.allows(at))
    }

    fn find(&self, eligible: &Eligible<'_>, may: impl Fn(u16) -> bool) -> Option<u16> {
        let key = eligible.choice().hash.unwrap_or(eligible.choice().random);
        let start = self.points.partition_point(|point| *point < key as u32);
        // A start behind the last point splits at the end, which begins at the front: the ring closes.
        for at in around(&self.owners, start).take(STEPS) {
            if may(at) {
                return Some(at);
            }
            if eligible.is_hopeless() {
                return None;
            }
        }
        let start = Random::new(key).below(self.order.len() as u64) as usize;
        around(&self.order, start).find(|at| may(*at))
    }
}

/// The checksum of host, zero byte and port, to be continued with points.
fn base(label: &str) -> Crc32 {
    let (host, port) = match label.strip_prefix("unix:") {
        Some(path) => (path, ""),
        None => label.rsplit_once(':').unwrap_or((label, "")),
    };
    Crc32::new()
        .update(host.as_bytes())
        .update(&[0])
        .update(port.as_bytes())
}

fn points(base: Crc32) -> impl Iterator<Item = u32> {
    let next = move |before: &u32| Some(base.update(&before.to_le_bytes()).finish());
    std::iter::successors(next(&0), next)
}

/// Points of a member: nginx's number, unless the ring would have more than [`MOST_POINTS`]. Then members share those by
/// weight, and each keeps one. A shorter list of points is the beginning of the longer one, so little moves even then.
fn point_count(weight: u32, total: u64) -> usize {
    let weight = u64::from(weight);
    let count = if total * POINTS_PER_WEIGHT <= MOST_POINTS {
        weight * POINTS_PER_WEIGHT
    } else {
        (weight * MOST_POINTS / total).max(1)
    };
    usize::try_from(count).unwrap_or(usize::MAX)
}

const POINTS_PER_WEIGHT: u64 = 160;

/// 1.5 MiB of ring. Reached at a sum of weights above 1638, which nginx would lay out in full, whatever it takes.
const MOST_POINTS: u64 = 262_144;

/// Points looked at before the order of addresses decides; more are passed only if one member has nearly all of them.
const STEPS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_bounded_and_shared_by_weight() {
        assert_eq!(point_count(3, 6), 480);
        assert_eq!(point_count(1638, 1638), 262_080);
        assert_eq!(point_count(1_000_000, 4_000_000), 65_536);
        assert_eq!(point_count(1, u64::from(u32::MAX)), 1);
    }

    #[test]
    fn a_socket_file_has_no_port_and_ipv6_keeps_its_brackets() {
        let crc = |text: &[u8]| Crc32::new().update(text).finish();

        assert_eq!(base("10.0.0.1:80").finish(), crc(b"10.0.0.1\x0080"));
        assert_eq!(base("[::1]:80").finish(), crc(b"[::1]\x0080"));
        assert_eq!(base("unix:/run/a:1").finish(), crc(b"/run/a:1\0"));
    }
}
