//! Text that is both a field's value and a word in logs: made once, shared by whoever needs either.
//! It must not know which field it becomes.
//! Connections keep their client's address in it, requests their id and authority.

use std::fmt;
use std::ops::Deref;

use http::HeaderValue;

/// Visible ASCII, spaces and tabs, ready to be sent. The default is empty.
#[derive(Clone)]
pub struct WireText(HeaderValue);

impl WireText {
    /// This text; `None` if a byte of it is another.
    pub fn new(text: &str) -> Option<WireText> {
        WireText::received(HeaderValue::from_str(text).ok()?)
    }

    /// The text of a field that arrived, sharing its bytes.
    pub fn received(value: HeaderValue) -> Option<WireText> {
        value.to_str().is_ok().then_some(WireText(value))
    }

    /// 128 bits as 32 digits.
    pub fn hex(high: u64, low: u64) -> WireText {
        // By hand: formatting costs ten times as much, for every request.
        let bits = u128::from(high) << 64 | u128::from(low);
        let mut digits = [0; 32];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(bits.to_be_bytes()) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 0xf)];
        }
        WireText(HeaderValue::from_bytes(&digits).unwrap_or(HeaderValue::from_static("")))
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// For a field; no bytes are copied.
    pub fn value(&self) -> HeaderValue {
        self.0.clone()
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

impl Deref for WireText {
    type Target = str;

    fn deref(&self) -> &str {
        // What it may hold was checked when it was made; this looks at many bytes at a time.
        std::str::from_utf8(self.0.as_bytes()).unwrap_or_default()
    }
}

impl Default for WireText {
    fn default() -> WireText {
        WireText(HeaderValue::from_static(""))
    }
}

impl fmt::Debug for WireText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
