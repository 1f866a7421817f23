//! The numbers that balancing runs on: a hash of bytes that every process agrees on, and cheap random draws.
//! It must not know members, nor what its numbers choose; nothing here may change, or every key moves at once.
//! Called by whoever has a request's key in hand, and by the algorithms beside it.

/// The hash of a request's key for [`Choice::hash`](super::Choice::hash). It is the same in every process, on every
/// machine and in every version, so that replicas behind one address send a key to the same endpoint.
///
/// The low half is the CRC-32 (IEEE 802.3) of the bytes, which is what nginx takes from the key of
/// `hash ... consistent`: `ketama` reads only this half and so agrees with nginx. The high half is the high half of
/// FNV-1a (64 bit, Fowler, Noll, Vo) after a final mix; `maglev` reads both. No defence against chosen keys: a client that
/// picks its own key can pick its endpoint, which is the point of hashing.
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    (mix(fnv1a(bytes)) & 0xffff_ffff_0000_0000) | u64::from(crc32(bytes))
}

/// FNV-1a with 64 bits.
pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit of the input moves every bit of the output.
pub fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// CRC-32 of IEEE 802.3 over the bytes.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    Crc32::new().update(bytes).finish()
}

/// A CRC-32 under way; copies continue apart, as the points of a ring need.
#[derive(Clone, Copy)]
pub(super) struct Crc32(u32);

impl Crc32 {
    pub(super) fn new() -> Crc32 {
        Crc32(u32::MAX)
    }

    pub(super) fn update(self, bytes: &[u8]) -> Crc32 {
        Crc32(bytes.iter().fold(self.0, |crc, byte| {
            (crc >> 8) ^ CRC_TABLE[usize::from(crc as u8 ^ byte)]
        }))
    }

    pub(super) fn finish(self) -> u32 {
        !self.0
    }
}

/// Random draws from the bits a choice came with: SplitMix64, a handful of instructions each.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(bits: u64) -> Random {
        Random(bits)
    }

    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// A number below `bound`, by multiplication instead of division; the bias is `bound` in 2^64.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }
}

/// The odd number nearest to 2^64 divided by the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut crc = at as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn building_blocks_give_their_published_values() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);

        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);

        assert_eq!(Random::new(0).bits(), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn the_hash_of_a_key_never_changes() {
        assert_eq!(hash_bytes(b""), 0xf52a_15e9_0000_0000);
        assert_eq!(hash_bytes(b"203.0.113.7"), 0x12ba_66e1_5cb6_7576);
    }

    #[test]
    fn draws_below_a_bound_stay_below_it_and_reach_all() {
        let mut random = Random::new(7);
        let mut seen = [0; 10];

        for _ in 0..10_000 {
            seen[random.below(10) as usize] += 1;
        }

        assert!(
            seen.iter().all(|times| (900..1100).contains(times)),
            "{seen:?}"
        );
        assert_eq!(random.below(1), 0);
    }
}
