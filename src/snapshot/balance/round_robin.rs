//! Turns by weight, smoothly.
//! It must not know load or latency.
//! Called by `Table::pick` for pools with `algorithm: round_robin`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::eligible::Eligible;
use super::hash::Random;

/// nginx's smooth weighted round robin (`ngx_http_upstream_round_robin.c`, since 1.3.1) worked out in advance: weights
/// 5, 1, 1 go a a b a c a a and not a a a a a b c. One atomic addition instead of nginx's walk over all peers.
///
/// Weights are divided by their greatest common divisor. If a sequence would still be longer than 4096 (or eight times
/// the members), weights are scaled: each member has the turns it should have in a sequence of that length, give or take
/// one, and never none. Every table starts somewhere else, or a fleet of proxies would send its first request after a
/// reload to the same endpoint.
pub(super) struct RoundRobin {
    sequence: Box<[u16]>,
    ticket: Ticket,
}

/// The counter on a cache line of its own: every thread writes it, and the rest of the table is only read.
#[repr(align(64))]
struct Ticket(AtomicU64);

impl RoundRobin {
    pub(super) fn new(weighted: &[(u16, u32)]) -> RoundRobin {
        RoundRobin {
            sequence: smooth(weighted),
            // The upper half is dropped so that no process lives to see the counter wrap.
            ticket: Ticket(AtomicU64::new(
                ahash::RandomState::new().hash_one(0) & 0xffff_ffff,
            )),
        }
    }

    pub(super) fn pick(&self, eligible: &Eligible<'_>) -> Option<u16> {
        let mut random = Random::new(eligible.choice().random);
        // A fresh ticket for each member passed over, instead of a look ahead: so the turns of a lost member go to all
        // others in turn. Looking ahead would give them to whoever follows it in the sequence.
        for _ in 0..self.sequence.len().min(TICKETS) {
            let ticket = self.ticket.0.fetch_add(1, Relaxed);
            let at = self.sequence[(ticket % self.sequence.len() as u64) as usize];
            // A newcomer leaves out turns the same way, so that they too go to all others.
            if eligible.allows(at) && eligible.takes_turn(at, &mut random) {
                return Some(at);
            }
            if eligible.is_hopeless() {
                return None;
            }
        }
        eligible.scan(&mut random, None)
    }
}

/// The sequence of positions. In each step every member gains its weight, the one with most is next and loses the sum.
fn smooth(weighted: &[(u16, u32)]) -> Box<[u16]> {
    let turns = turns(weighted);
    if turns.iter().all(|turns| *turns == 1) {
        return weighted.iter().map(|(at, _)| *at).collect();
    }
    let length: i64 = turns.iter().sum();
    let mut current = vec![0; turns.len()];
    let mut sequence = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    for _ in 0..length {
        let mut best = 0;
        for at in 0..turns.len() {
            current[at] += turns[at];
            if current[at] > current[best] {
                best = at;
            }
        }
        current[best] -= length;
        sequence.push(weighted[best].0);
    }
    sequence.into()
}

/// How many places in the sequence each member gets.
fn turns(weighted: &[(u16, u32)]) -> Vec<i64> {
    let weights = weighted.iter().map(|(_, weight)| u64::from(*weight));
    let divisor = weights.clone().fold(0, greatest_common_divisor).max(1);
    let sum = weights.clone().sum::<u64>() / divisor;
    let longest = LONGEST.max(8 * weighted.len() as u64);
    let turns = weights.map(|weight| weight / divisor).map(|weight| {
        if sum <= longest {
            weight
        } else {
            ((weight * longest + sum / 2) / sum).max(1)
        }
    });
    turns.map(|turns| turns as i64).collect()
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Longest sequence for up to 512 members: 8 KiB, and weights are right to a four-thousandth of the traffic.
const LONGEST: u64 = 4096;

/// Members passed over before giving up on turns; more happens only when nearly all weight is out.
const TICKETS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(weights: &[u32]) -> Vec<u16> {
        let weighted: Vec<_> = (0..).zip(weights.iter().copied()).collect();
        smooth(&weighted).into_vec()
    }

    #[test]
    fn the_sequence_is_the_one_nginx_published() {
        assert_eq!(sequence(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn weights_with_a_common_divisor_give_the_short_sequence() {
        assert_eq!(sequence(&[500, 100, 100]), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(sequence(&[7, 7, 7]), [0, 1, 2]);
    }

    #[test]
    fn a_long_sequence_is_scaled_and_right_to_one_turn() {
        let weights = [1_000_003, 333_331, 77, 1];
        let sum: u32 = weights.iter().sum();

        let sequence = sequence(&weights);

        assert!(sequence.len() as u64 <= LONGEST + 4, "{}", sequence.len());
        for (at, weight) in (0..).zip(weights) {
            let turns = sequence.iter().filter(|turn| **turn == at).count();
            let exact = f64::from(weight) / f64::from(sum) * LONGEST as f64;
            assert!(turns >= 1);
            assert!((turns as f64 - exact).abs() <= 1.0, "{turns} {exact}");
        }
    }
}
