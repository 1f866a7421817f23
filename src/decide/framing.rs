//! The framing of a request whose whole body is known.
//! It must not know how it became known; what else describes the body is left as it is.
//! The proxy and `explain` call it, so that both see the same message.

use http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use pingora::http::RequestHeader;
use pingora::Result;

/// Writes the length in place of whatever framed the body. Nobody has to be asked to send it any more.
///
/// # Errors
/// When the head can take no more fields.
pub fn framed(head: &mut RequestHeader, length: usize) -> Result<()> {
    head.remove_header(&TRANSFER_ENCODING);
    head.remove_header(&EXPECT);
    head.insert_header(CONTENT_LENGTH, length)
}
