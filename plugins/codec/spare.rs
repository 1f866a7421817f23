//! Streams that ended, kept for the next bodies: making one costs more than coding a short body.
//! It must not keep more than it says, nor streams of other levels than its own.
//! Owned by a `compress` instance; its streams come back by themselves.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::encode::{Encoder, Stream};
use super::Coding;

/// Levels by coding.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Levels {
    pub(crate) gzip: u8,
    pub(crate) br: u8,
    pub(crate) zstd: u8,
}

/// What waits for a body. A stream of brotli cannot begin again, so none of them does.
pub(crate) struct Spare {
    levels: Levels,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    gzip: Vec<Stream>,
    zstd: Vec<Stream>,
    bytes: usize,
}

impl Spare {
    pub(crate) fn new(levels: Levels) -> Arc<Spare> {
        Arc::new(Spare {
            levels,
            waiting: Mutex::default(),
        })
    }

    /// A stream that begins.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(crate) fn begin(self: &Arc<Spare>, coding: Coding) -> io::Result<Encoder> {
        let level = match coding {
            Coding::Gzip => self.levels.gzip,
            Coding::Br => self.levels.br,
            Coding::Zstd => self.levels.zstd,
        };
        let kept = self.waiting().take(coding);
        let stream = kept.map_or_else(|| Stream::new(coding, level), Ok)?;
        Ok(Encoder::of(stream, self.clone()))
    }

    /// Takes one back, as far as there is room.
    pub(super) fn give(&self, stream: Stream) {
        if !self.waiting().has_room_for(&stream) {
            return;
        }
        // Now, and without the lock: no client waits for it.
        if let Some(stream) = stream.anew() {
            self.waiting().keep(stream);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// The one that ended last: its memory is the likeliest to be near the processor.
    fn take(&mut self, coding: Coding) -> Option<Stream> {
        let stream = match coding {
            Coding::Gzip => self.gzip.pop(),
            Coding::Zstd => self.zstd.pop(),
            Coding::Br => None,
        }?;
        self.bytes = self.bytes.saturating_sub(stream.bytes());
        Some(stream)
    }

    fn has_room_for(&self, stream: &Stream) -> bool {
        self.bytes + stream.bytes() <= MOST
    }

    fn keep(&mut self, stream: Stream) {
        if !self.has_room_for(&stream) {
            return;
        }
        self.bytes += stream.bytes();
        match stream {
            Stream::Gzip(_) => self.gzip.push(stream),
            Stream::Zstd(_) => self.zstd.push(stream),
            Stream::Br(_) => {}
        }
    }
}

/// Bytes of an instance: sixteen streams of zstd at its default level. There are as many at work as threads, and more are open while
/// bodies trickle.
const MOST: usize = 32 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::decode::{Bound, Decoder};
    use super::super::encode::Flush;
    use super::*;

    const ALL: [Coding; 3] = [Coding::Zstd, Coding::Br, Coding::Gzip];
    const LEVELS: Levels = Levels {
        gzip: 5,
        br: 4,
        zstd: 3,
    };

    fn coded(encoder: &mut Encoder, body: &[u8], flush: Flush) -> Vec<u8> {
        let mut out = encoder.piece(body, flush).unwrap().to_vec();
        out.extend(encoder.end().unwrap());
        out
    }

    fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let bound = Bound {
            size: 1 << 30,
            ratio: 1 << 20,
        };
        let mut decoder = Decoder::new(coding, bound).unwrap();
        let mut out = decoder.piece(bytes).unwrap().to_vec();
        out.extend(decoder.end().unwrap());
        out
    }

    fn waiting(spare: &Spare) -> (usize, usize) {
        let waiting = spare.waiting();
        (waiting.gzip.len(), waiting.zstd.len())
    }

    #[test]
    fn a_stream_that_ended_begins_again_as_a_new_one_would() {
        let spare = Spare::new(LEVELS);
        for coding in ALL {
            let first = coded(&mut spare.begin(coding).unwrap(), BODY, Flush::No);
            let before = waiting(&spare);
            let second = coded(&mut spare.begin(coding).unwrap(), BODY, Flush::No);

            assert_eq!(first, second, "{coding:?}");
            assert_eq!(waiting(&spare), before, "it is the same one");
        }
        assert_eq!(waiting(&spare), (1, 1));
    }

    #[test]
    fn nothing_of_a_body_that_broke_off_is_in_the_next() {
        let spare = Spare::new(LEVELS);
        for coding in ALL {
            let mut broken = spare.begin(coding).unwrap();
            broken
                .piece(b"a secret of somebody else", Flush::No)
                .unwrap();
            drop(broken);

            let next = coded(&mut spare.begin(coding).unwrap(), BODY, Flush::No);

            assert_eq!(decoded(coding, &next), BODY, "{coding:?}");
        }
    }

    /// The numbers are those of the settings' description.
    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        for (level, each) in [(3, 2 << 20), (9, 12 << 20)] {
            let spare = Spare::new(Levels {
                zstd: level,
                ..LEVELS
            });
            for coding in ALL {
                let begin = |_| spare.begin(coding).unwrap();
                let mut many: Vec<Encoder> = (0..20).map(begin).collect();
                for encoder in &mut many {
                    coded(encoder, BODY, Flush::No);
                }
            }

            let waiting = spare.waiting();
            let bytes: usize = waiting.zstd.iter().map(Stream::bytes).sum();
            assert!(bytes <= waiting.zstd.len() * each, "{bytes} at {level}");
            assert!((2..20).contains(&waiting.zstd.len()));
            let all = bytes + waiting.gzip.len() * waiting.gzip.first().map_or(0, Stream::bytes);
            assert_eq!(waiting.bytes, all);
            assert!(all <= MOST);
        }
    }

    #[test]
    fn a_stream_outlives_its_instance() {
        let spare = Spare::new(LEVELS);
        let mut encoder = spare.begin(Coding::Zstd).unwrap();
        drop(spare);

        assert_eq!(
            decoded(Coding::Zstd, &coded(&mut encoder, BODY, Flush::Yes)),
            BODY
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Sizes around those of buffers, bodies that can and cannot be made shorter, one stream after the other.
        #[test]
        fn whatever_goes_in_comes_out(sizes in prop::collection::vec((0_usize..3 * 64 * 1024, any::<bool>(), any::<bool>()), 1..5), seed: u32) {
            let spare = Spare::new(LEVELS);
            let mut state = seed | 1;
            for (size, is_random, flushes) in sizes {
                let body: Vec<u8> = (0..size).map(|at| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    if is_random { (state >> 24) as u8 } else { (at / 7) as u8 }
                }).collect();
                let flush = if flushes { Flush::Yes } else { Flush::No };
                for coding in ALL {
                    let mut encoder = spare.begin(coding).unwrap();
                    let mut out = Vec::new();
                    for piece in body.chunks(10_000) {
                        out.extend(encoder.piece(piece, flush).unwrap());
                    }
                    out.extend(encoder.end().unwrap());
                    prop_assert!(encoder.piece(b"more", flush).unwrap().is_empty());
                    prop_assert_eq!(decoded(coding, &out), &body[..]);
                }
            }
        }
    }

    const BODY: &[u8] = &[b'a'; 5000];
}
