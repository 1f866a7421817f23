//! A body on its way into a coding, piece by piece.
//! It must not know when it is worth it.
//! Called by `compress`. One stream holds at most 0.4 MiB (gzip), 2 MiB (zstd) or 3 MiB (br at quality 9), besides one piece's outcome.

use std::io::{self, Write};
use std::sync::Mutex;

use brotli::CompressorWriter;
use bytes::Bytes;
use flate2::write::GzEncoder;
use flate2::Compression;
use zstd::stream::write::Encoder as ZstdEncoder;

use super::Coding;

/// A stream into a coding. The mutex is never locked: slots want what is shared between threads, and zstd's context is not.
pub(crate) struct Encoder(Mutex<Option<Stream>>);

enum Stream {
    Gzip(GzEncoder<Vec<u8>>),
    Br(Box<CompressorWriter<Vec<u8>>>),
    Zstd(ZstdEncoder<'static, Vec<u8>>),
}

/// Whether what was taken in has to come out at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flush {
    /// It may wait for more.
    No,
    /// Now.
    Yes,
}

impl Encoder {
    /// A stream that begins.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(crate) fn new(coding: Coding, level: u8) -> io::Result<Encoder> {
        let stream = match coding {
            Coding::Gzip => {
                let level = Compression::new(u32::from(level));
                Stream::Gzip(GzEncoder::new(Vec::new(), level))
            }
            Coding::Br => {
                let writer = CompressorWriter::new(Vec::new(), BUFFER, u32::from(level), BR_WINDOW);
                Stream::Br(Box::new(writer))
            }
            Coding::Zstd => {
                let mut encoder = ZstdEncoder::new(Vec::new(), i32::from(level))?;
                encoder.window_log(ZSTD_WINDOW)?;
                Stream::Zstd(encoder)
            }
        };
        Ok(Encoder(Mutex::new(Some(stream))))
    }

    /// What comes out for what goes in; nothing after the end.
    ///
    /// # Errors
    /// None is known: the outcome is memory. A library may know better.
    pub(crate) fn piece(&mut self, piece: &[u8], flush: Flush) -> io::Result<Bytes> {
        let Some(stream) = self.stream() else {
            return Ok(Bytes::new());
        };
        let writer: &mut dyn Write = match stream {
            Stream::Gzip(encoder) => encoder,
            Stream::Br(encoder) => encoder,
            Stream::Zstd(encoder) => encoder,
        };
        writer.write_all(piece)?;
        if flush == Flush::Yes && !piece.is_empty() {
            writer.flush()?;
        }
        let out = match stream {
            Stream::Gzip(encoder) => encoder.get_mut(),
            Stream::Br(encoder) => encoder.get_mut(),
            Stream::Zstd(encoder) => encoder.get_mut(),
        };
        Ok(Bytes::from(std::mem::take(out)))
    }

    /// The last of it.
    ///
    /// # Errors
    /// As [`Encoder::piece`].
    pub(crate) fn end(&mut self) -> io::Result<Bytes> {
        let stream = self.0.get_mut().ok().and_then(Option::take);
        Ok(Bytes::from(match stream {
            None => Vec::new(),
            Some(Stream::Gzip(encoder)) => encoder.finish()?,
            Some(Stream::Br(encoder)) => encoder.into_inner(),
            Some(Stream::Zstd(encoder)) => encoder.finish()?,
        }))
    }

    fn stream(&mut self) -> Option<&mut Stream> {
        self.0.get_mut().ok()?.as_mut()
    }
}

const BUFFER: usize = 16 * 1024;
/// 256 KiB.
const BR_WINDOW: u32 = 18;
/// 512 KiB; RFC 9659 lets clients expect no more than 8 MiB.
const ZSTD_WINDOW: u32 = 19;
