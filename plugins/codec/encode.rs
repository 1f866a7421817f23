//! A body on its way into a coding, piece by piece.
//! It must not know when it is worth it.
//! Called by `compress`, whose settings say how much a stream holds, besides one piece's outcome.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use brotli::CompressorWriter;
use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};
use zstd::zstd_safe::{
    get_error_name, CCtx, CParameter, InBuffer, OutBuffer, ResetDirective, SafeResult,
};

use super::spare::Spare;
use super::Coding;

/// A stream into a coding. The mutex is never locked: slots want what is shared between threads, and zstd's context is not.
pub(crate) struct Encoder {
    stream: Mutex<Option<Stream>>,
    /// Where it goes once it ended, for others.
    home: Option<Arc<Spare>>,
}

pub(super) enum Stream {
    Gzip(Compress),
    Br(Box<CompressorWriter<Vec<u8>>>),
    Zstd(CCtx<'static>),
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
    /// A stream that nobody has after it.
    ///
    /// # Errors
    /// When there is no memory for it.
    #[cfg(test)]
    pub(crate) fn new(coding: Coding, level: u8) -> io::Result<Encoder> {
        Ok(Encoder {
            stream: Mutex::new(Some(Stream::new(coding, level)?)),
            home: None,
        })
    }

    /// A stream that is as new and goes back to where it is from.
    pub(super) fn of(stream: Stream, home: Arc<Spare>) -> Encoder {
        Encoder {
            stream: Mutex::new(Some(stream)),
            home: Some(home),
        }
    }

    /// What comes out for what goes in; nothing after the end.
    ///
    /// # Errors
    /// None is known: the outcome is memory. A library may know better. Nothing comes out after one.
    pub(crate) fn piece(&mut self, piece: &[u8], flush: Flush) -> io::Result<Bytes> {
        let mut out = Vec::new();
        let Some(mut stream) = self.take() else {
            return Ok(Bytes::new());
        };
        match &mut stream {
            Stream::Gzip(encoder) => {
                let flush = match flush {
                    Flush::Yes if !piece.is_empty() => FlushCompress::Sync,
                    Flush::Yes | Flush::No => FlushCompress::None,
                };
                deflate(encoder, piece, flush, &mut out)?;
            }
            Stream::Zstd(encoder) => {
                into_zstd(encoder, piece, &mut out)?;
                if flush == Flush::Yes && !piece.is_empty() {
                    until_done(&mut out, |out| encoder.flush_stream(out))?;
                }
            }
            Stream::Br(encoder) => {
                encoder.write_all(piece)?;
                if flush == Flush::Yes && !piece.is_empty() {
                    encoder.flush()?;
                }
                out = std::mem::take(encoder.get_mut());
            }
        }
        self.stream = Mutex::new(Some(stream));
        Ok(out.into())
    }

    /// The last of it.
    ///
    /// # Errors
    /// As [`Encoder::piece`].
    pub(crate) fn end(&mut self) -> io::Result<Bytes> {
        let mut out = Vec::new();
        let Some(mut stream) = self.take() else {
            return Ok(Bytes::new());
        };
        match &mut stream {
            Stream::Gzip(encoder) => deflate(encoder, &[], FlushCompress::Finish, &mut out)?,
            Stream::Zstd(encoder) => until_done(&mut out, |out| encoder.end_stream(out))?,
            Stream::Br(_) => {}
        }
        match stream {
            Stream::Br(encoder) => out = encoder.into_inner(),
            stream => self.give_back(stream),
        }
        Ok(out.into())
    }

    fn take(&mut self) -> Option<Stream> {
        self.stream.get_mut().ok().and_then(Option::take)
    }

    fn give_back(&self, stream: Stream) {
        if let Some(home) = &self.home {
            home.give(stream);
        }
    }
}

/// Also where a client left before the end.
impl Drop for Encoder {
    fn drop(&mut self) {
        if let Some(stream) = self.take() {
            self.give_back(stream);
        }
    }
}

impl Stream {
    /// # Errors
    /// When there is no memory for it.
    pub(super) fn new(coding: Coding, level: u8) -> io::Result<Stream> {
        Ok(match coding {
            Coding::Gzip => {
                let level = Compression::new(u32::from(level));
                Stream::Gzip(Compress::new_gzip(level, GZIP_WINDOW))
            }
            Coding::Br => {
                let writer = CompressorWriter::new(Vec::new(), BUFFER, u32::from(level), BR_WINDOW);
                Stream::Br(Box::new(writer))
            }
            Coding::Zstd => {
                let mut encoder = CCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
                for parameter in [
                    CParameter::CompressionLevel(i32::from(level)),
                    CParameter::WindowLog(ZSTD_WINDOW),
                ] {
                    of_zstd(encoder.set_parameter(parameter))?;
                }
                Stream::Zstd(encoder)
            }
        })
    }

    /// Makes it as new, whatever it was in the middle of. `None` where a new one is as good.
    pub(super) fn anew(mut self) -> Option<Stream> {
        match &mut self {
            Stream::Gzip(encoder) => encoder.reset(),
            Stream::Zstd(encoder) => {
                encoder.reset(ResetDirective::SessionOnly).ok()?;
            }
            Stream::Br(_) => return None,
        }
        Some(self)
    }

    /// Bytes that one holds which has coded something, and which is kept.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Stream::Gzip(_) => GZIP_BYTES,
            Stream::Zstd(encoder) => encoder.sizeof(),
            Stream::Br(_) => 0,
        }
    }
}

/// Takes all of a piece in, and what is to come out at once out.
fn deflate(
    encoder: &mut Compress,
    mut piece: &[u8],
    flush: FlushCompress,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    loop {
        out.reserve(ROOM);
        let before = encoder.total_in();
        let status = encoder.compress_vec(piece, out, flush)?;
        let taken = usize::try_from(encoder.total_in() - before).unwrap_or(usize::MAX);
        piece = piece.get(taken..).unwrap_or_default();
        // Room that is left says that nothing more wants to come out.
        let is_done = piece.is_empty() && out.len() < out.capacity();
        match (status, flush) {
            (Status::StreamEnd, _) => return Ok(()),
            (Status::Ok | Status::BufError, FlushCompress::Finish) => {}
            (Status::Ok | Status::BufError, _) if is_done => return Ok(()),
            (Status::Ok, _) => {}
            (Status::BufError, _) if piece.is_empty() => return Ok(()),
            (Status::BufError, _) => return Err(io::Error::other("the stream is stuck")),
        }
    }
}

fn into_zstd(encoder: &mut CCtx<'_>, piece: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let mut input = InBuffer::around(piece);
    while input.pos() < piece.len() {
        out.reserve(ROOM);
        let filled = out.len();
        let mut output = OutBuffer::around_pos(out, filled);
        of_zstd(encoder.compress_stream(&mut output, &mut input))?;
    }
    Ok(())
}

/// Asks for more until there is none.
fn until_done(
    out: &mut Vec<u8>,
    mut more: impl FnMut(&mut OutBuffer<'_, Vec<u8>>) -> SafeResult,
) -> io::Result<()> {
    loop {
        out.reserve(ROOM);
        let filled = out.len();
        if of_zstd(more(&mut OutBuffer::around_pos(out, filled)))? == 0 {
            return Ok(());
        }
    }
}

fn of_zstd(result: SafeResult) -> io::Result<usize> {
    result.map_err(|code| io::Error::other(get_error_name(code)))
}

/// What is made room for at a time: most pieces come out as less.
const ROOM: usize = 4 * 1024;
const BUFFER: usize = 4 * 1024;
/// Window, chains and hashes of zlib-ng with what waits to be written, at any level.
const GZIP_BYTES: usize = 400 * 1024;
/// 32 KiB, the largest there is.
const GZIP_WINDOW: u8 = 15;
/// 256 KiB.
const BR_WINDOW: u32 = 18;
/// 512 KiB; RFC 9659 lets clients expect no more than 8 MiB.
const ZSTD_WINDOW: u32 = 19;
