//! Trailers as the last frame of a body.
//! It must not know what a status means.
//! Called by `grpc_web` when a response ends.

use http::HeaderMap;

/// A frame of trailers: its mark, its length, and a line for each field, as in a header of HTTP/1.
pub(super) fn frame(trailers: &HeaderMap) -> Vec<u8> {
    let mut frame = vec![TRAILERS, 0, 0, 0, 0];
    for (name, value) in trailers {
        frame.extend_from_slice(name.as_str().as_bytes());
        frame.extend_from_slice(b": ");
        frame.extend_from_slice(value.as_bytes());
        frame.extend_from_slice(b"\r\n");
    }
    // Headers of HTTP/2 are bounded far below.
    let length = u32::try_from(frame.len() - 5).unwrap_or(u32::MAX);
    frame[1..5].copy_from_slice(&length.to_be_bytes());
    frame
}

/// The highest bit: not a message.
const TRAILERS: u8 = 0x80;
