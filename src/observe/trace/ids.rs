//! Random ids and their hex form.
//! It must not know what an id names.
//! Trace contexts are made from it.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

thread_local! {
    static STATE: Cell<[u64; 4]> = Cell::new(seed());
}

/// The standard library keys its hashers from the system's entropy, once for each thread.
fn seed() -> [u64; 4] {
    let keys = RandomState::new();
    [1_u64, 2, 3, 4].map(|lane| keys.hash_one(lane) | u64::from(lane == 1))
}

/// xoshiro256++: ids must not collide across a fleet; they are no secrets.
fn random() -> u64 {
    STATE.with(|state| {
        let [a, b, c, d] = state.get();
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c2, d2) = (c ^ a, d ^ b);
        state.set([a ^ d2, b ^ c2, c2 ^ (b << 17), d2.rotate_left(45)]);
        result
    })
}

/// A new trace id; never zero.
pub(super) fn trace_id() -> [u8; 16] {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&random().to_be_bytes());
    id[8..].copy_from_slice(&span_id());
    id
}

/// A new span id; never zero.
pub(super) fn span_id() -> [u8; 8] {
    random().max(1).to_be_bytes()
}

/// Writes bytes as hex; `out` has twice their length.
pub(super) fn write_hex(bytes: &[u8], out: &mut [u8]) {
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 0xf)];
    }
}

/// Reads exactly `N` bytes of hex.
pub(super) fn read_hex<const N: usize>(text: &[u8], case: Case) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0], case)? << 4 | digit(pair[1], case)?;
    }
    Some(out)
}

/// Which hex digits are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    /// As W3C demands.
    Lower,
    /// As B3 is found in the wild.
    Any,
}

fn digit(byte: u8, case: Case) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' if case == Case::Any => Some(byte - b'A' + 10),
        _ => None,
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_of_several_threads_are_all_distinct() {
        let threads: Vec<_> = (0..4)
            .map(|_| std::thread::spawn(|| (0..1000).map(|_| trace_id()).collect::<Vec<_>>()))
            .collect();

        let ids = threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("no panic"));

        assert_eq!(ids.collect::<HashSet<_>>().len(), 4000);
    }
}
