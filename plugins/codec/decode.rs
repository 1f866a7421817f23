//! A body on its way out of a coding, piece by piece, with a bound on what may become of it.
//! It must not know who sent it nor what a refusal looks like.
//! Called by `decompress`. One stream holds at most 0.1 MiB (gzip), 9 MiB (zstd) or 17 MiB (br, whose window the sender chooses),
//! besides one piece's outcome.

use std::io::{self, Write};
use std::sync::Mutex;

use brotli::DecompressorWriter;
use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use zstd::stream::write::Decoder as ZstdDecoder;

use super::Coding;

/// How much may come out of a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    /// Bytes in all.
    pub(crate) size: u64,
    /// Bytes for each byte that went in.
    pub(crate) ratio: u64,
}

/// Why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// More would have come out than may.
    TooLarge,
    /// It is not in the coding, breaks off, or goes on after its end.
    Malformed,
}

/// A stream out of a coding. The mutex is never locked; see the encoder's.
pub(crate) struct Decoder {
    stream: Mutex<Option<Stream>>,
    bound: Bound,
    taken: u64,
}

enum Stream {
    Gzip(Box<MultiGzDecoder<Sink>>),
    Br(Box<DecompressorWriter<Sink>>),
    Zstd(ZstdDecoder<'static, Sink>),
}

/// Takes what comes out until it is too much. Libraries hand it over in small parts, so the bound holds within a piece too.
struct Sink {
    out: Vec<u8>,
    total: u64,
    allowed: u64,
    is_full: bool,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let total = self.total + bytes.len() as u64;
        if total > self.allowed {
            self.is_full = true;
            return Err(io::Error::other("more than may come out"));
        }
        self.total = total;
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Decoder {
    /// A stream that begins.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(crate) fn new(coding: Coding, bound: Bound) -> io::Result<Decoder> {
        let sink = Sink {
            out: Vec::new(),
            total: 0,
            allowed: 0,
            is_full: false,
        };
        let stream = match coding {
            Coding::Gzip => Stream::Gzip(Box::new(MultiGzDecoder::new(sink))),
            Coding::Br => Stream::Br(Box::new(DecompressorWriter::new(sink, BUFFER))),
            Coding::Zstd => {
                let mut decoder = ZstdDecoder::new(sink)?;
                decoder.window_log_max(ZSTD_WINDOW)?;
                Stream::Zstd(decoder)
            }
        };
        Ok(Decoder {
            stream: Mutex::new(Some(stream)),
            bound,
            taken: 0,
        })
    }

    /// What comes out for what goes in.
    ///
    /// # Errors
    /// Why the stream ended, which it then has for good.
    pub(crate) fn piece(&mut self, piece: &[u8]) -> Result<Bytes, Wrong> {
        self.taken = self.taken.saturating_add(piece.len() as u64);
        // The first bytes are mostly tables: what is small in itself is no bomb.
        let by_ratio = self.taken.saturating_mul(self.bound.ratio).max(FREE);
        let allowed = by_ratio.min(self.bound.size);
        let Some(stream) = self.stream.get_mut().ok().and_then(Option::as_mut) else {
            return Err(Wrong::Malformed);
        };
        stream.sink().allowed = allowed;
        let written = stream.write(piece);
        self.outcome(written)
    }

    /// The last of it.
    ///
    /// # Errors
    /// As [`Decoder::piece`]; also where the stream was not at its end.
    pub(crate) fn end(&mut self) -> Result<Bytes, Wrong> {
        // A body without a byte is nothing that could be decoded, and nothing is what becomes of it.
        if self.taken == 0 {
            return Ok(Bytes::new());
        }
        let Some(stream) = self.stream.get_mut().ok().and_then(Option::as_mut) else {
            return Err(Wrong::Malformed);
        };
        let finished = stream.finish();
        self.outcome(finished)
    }

    fn outcome(&mut self, result: io::Result<()>) -> Result<Bytes, Wrong> {
        let slot = self.stream.get_mut().map_err(|_| Wrong::Malformed)?;
        let Some(stream) = slot.as_mut() else {
            return Err(Wrong::Malformed);
        };
        let sink = stream.sink();
        let out = std::mem::take(&mut sink.out);
        let wrong = match (result, sink.is_full) {
            (Ok(()), false) => return Ok(Bytes::from(out)),
            (_, true) => Wrong::TooLarge,
            (Err(_), false) => Wrong::Malformed,
        };
        *slot = None;
        Err(wrong)
    }
}

impl Stream {
    fn sink(&mut self) -> &mut Sink {
        match self {
            Stream::Gzip(decoder) => decoder.get_mut(),
            Stream::Br(decoder) => decoder.get_mut(),
            Stream::Zstd(decoder) => decoder.get_mut(),
        }
    }

    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        let writer: &mut dyn Write = match self {
            Stream::Gzip(decoder) => decoder,
            Stream::Br(decoder) => decoder,
            Stream::Zstd(decoder) => decoder,
        };
        writer.write_all(piece)?;
        // What has been decoded does not wait in a buffer of the library's.
        writer.flush()
    }

    fn finish(&mut self) -> io::Result<()> {
        match self {
            Stream::Gzip(decoder) => decoder.try_finish(),
            Stream::Br(decoder) => decoder.close(),
            Stream::Zstd(decoder) => decoder.do_finish(),
        }
    }
}

const BUFFER: usize = 4 * 1024;
/// 8 MiB, as RFC 9659 has it.
const ZSTD_WINDOW: u32 = 23;
/// What may come out whatever went in.
const FREE: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::encode::{Encoder, Flush};
    use super::*;

    const ALL: [Coding; 3] = [Coding::Zstd, Coding::Br, Coding::Gzip];
    const WIDE: Bound = Bound {
        size: 1 << 30,
        ratio: 1 << 20,
    };

    fn encoded(coding: Coding, pieces: &[&[u8]]) -> Vec<u8> {
        let mut encoder = Encoder::new(coding, 3).unwrap();
        let mut out = Vec::new();
        for piece in pieces {
            out.extend(encoder.piece(piece, Flush::No).unwrap());
        }
        out.extend(encoder.end().unwrap());
        out
    }

    fn decoded(coding: Coding, bytes: &[u8], step: usize, bound: Bound) -> Result<Vec<u8>, Wrong> {
        let mut decoder = Decoder::new(coding, bound).unwrap();
        let mut out = Vec::new();
        for piece in bytes.chunks(step) {
            out.extend(decoder.piece(piece)?);
        }
        out.extend(decoder.end()?);
        Ok(out)
    }

    #[test]
    fn a_flushed_piece_can_be_read_at_once() {
        for coding in ALL {
            let mut encoder = Encoder::new(coding, 3).unwrap();
            let mut decoder = Decoder::new(coding, WIDE).unwrap();
            for text in ["data: one\n\n", "data: two\n\n"] {
                let coded = encoder.piece(text.as_bytes(), Flush::Yes).unwrap();
                assert_eq!(decoder.piece(&coded).unwrap(), text, "{coding:?}");
            }
        }
    }

    #[test]
    fn a_bomb_ends_at_its_bound_and_gives_nothing_more() {
        let zeros = vec![0; 8 << 20];
        for coding in ALL {
            let bomb = encoded(coding, &[&zeros]);
            let by_size = Bound {
                size: 1 << 20,
                ratio: 1 << 20,
            };
            let by_ratio = Bound {
                size: 1 << 30,
                ratio: 10,
            };
            for bound in [by_size, by_ratio] {
                let mut decoder = Decoder::new(coding, bound).unwrap();
                let first = bomb.chunks(64).find_map(|piece| decoder.piece(piece).err());
                assert_eq!(first, Some(Wrong::TooLarge), "{coding:?}");
                assert!(decoder.piece(b"x").is_err());
            }
        }
    }

    #[test]
    fn a_stream_that_breaks_off_or_goes_on_is_malformed() {
        for coding in ALL {
            let whole = encoded(coding, &[&[b'a'; 5000]]);
            for cut in 1..whole.len() {
                let broken = decoded(coding, &whole[..cut], 7, WIDE);
                assert_eq!(broken, Err(Wrong::Malformed), "{coding:?} at {cut}");
            }
            let more = [&whole[..], b"junk"].concat();
            assert_eq!(
                decoded(coding, &more, 7, WIDE),
                Err(Wrong::Malformed),
                "{coding:?}"
            );
        }
    }

    #[test]
    fn members_of_gzip_and_frames_of_zstd_follow_each_other() {
        for coding in [Coding::Gzip, Coding::Zstd] {
            let two = [encoded(coding, &[b"one"]), encoded(coding, &[b"two"])].concat();
            assert_eq!(
                decoded(coding, &two, 5, WIDE).as_deref(),
                Ok(&b"onetwo"[..])
            );
        }
    }

    #[test]
    fn nothing_becomes_nothing() {
        for coding in ALL {
            assert_eq!(decoded(coding, b"", 1, WIDE).as_deref(), Ok(&b""[..]));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn whatever_goes_in_comes_out(body in proptest::collection::vec(any::<u8>(), 1..5000), cut in 0_usize..5000, step in 1_usize..700) {
            let cut = cut.min(body.len());
            for coding in ALL {
                let coded = encoded(coding, &[&body[..cut], b"", &body[cut..]]);
                let out = decoded(coding, &coded, step, WIDE);
                prop_assert_eq!(out.as_deref(), Ok(&body[..]));
            }
        }

        #[test]
        fn junk_is_refused_without_a_panic(body in proptest::collection::vec(any::<u8>(), 1..2000), step in 1_usize..700) {
            for coding in ALL {
                let bound = Bound { size: 1 << 16, ratio: 100 };
                if let Ok(out) = decoded(coding, &body, step, bound) {
                    prop_assert!(out.len() <= 1 << 16);
                }
            }
        }
    }
}
