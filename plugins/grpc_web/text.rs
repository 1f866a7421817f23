//! Base64 as the text form of gRPC-Web has it: groups of four, with padding wherever a sender flushed.
//! It must not know frames.
//! Called by `grpc_web` for each piece of a body.

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use bytes::Bytes;

/// The base64 of a piece.
pub(super) fn encoded(piece: &[u8]) -> Bytes {
    Bytes::from(STANDARD.encode(piece))
}

/// A stream out of base64; keeps at most three characters.
#[derive(Debug, Default)]
pub(super) struct Decoding {
    rest: Vec<u8>,
}

impl Decoding {
    /// What a piece stands for; `None` if it is no base64, or if the last one ends within a group.
    pub(super) fn piece(&mut self, piece: &[u8], last: bool) -> Option<Bytes> {
        let mut text = std::mem::take(&mut self.rest);
        text.extend_from_slice(piece);
        let whole = text.len() - text.len() % 4;
        self.rest = text.split_off(whole);
        if last && !self.rest.is_empty() {
            return None;
        }
        let mut out = Vec::with_capacity(whole / 4 * 3);
        let mut left = &text[..];
        while !left.is_empty() {
            // Up to the group with the next padding, and with it.
            let padding = left.iter().position(|byte| *byte == b'=');
            let end = padding.map_or(left.len(), |at| at - at % 4 + 4);
            let (groups, after) = left.split_at(end);
            STANDARD.decode_vec(groups, &mut out).ok()?;
            left = after;
        }
        Some(Bytes::from(out))
    }
}
