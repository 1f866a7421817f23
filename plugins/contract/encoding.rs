//! How bytes are written in settings.
//! It must not know what they are; they may be secrets, and are never quoted.
//! Used by settings that hold keys.

use base64::engine::general_purpose::STANDARD_NO_PAD;
use base64::Engine;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How bytes are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// As they are.
    #[default]
    Text,
    /// In base64 or base64url, with padding or without.
    Base64,
    /// In hexadecimal digits.
    Hex,
}

impl Encoding {
    /// Whether this is how bytes are written by default.
    pub fn is_text(&self) -> bool {
        *self == Encoding::Text
    }

    /// The bytes; none for a text that is not written so.
    pub fn decode(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Encoding::Text => Some(text.as_bytes().to_vec()),
            Encoding::Base64 => {
                let plain = text.trim().trim_end_matches('=');
                let plain = plain.replace('-', "+").replace('_', "/");
                STANDARD_NO_PAD.decode(plain).ok()
            }
            Encoding::Hex => {
                let text = text.trim();
                let digits = |at: usize| text.get(at..at + 2);
                let byte = |at| u8::from_str_radix(digits(at)?, 16).ok();
                let is_hex =
                    text.len().is_multiple_of(2) && text.bytes().all(|one| one.is_ascii_hexdigit());
                is_hex.then(|| (0..text.len()).step_by(2).map(byte).collect())?
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_as_they_are_written() {
        assert_eq!(Encoding::Text.decode("a=").unwrap(), b"a=");
        for text in ["_-8", "/+8=", "_-8="] {
            assert_eq!(
                Encoding::Base64.decode(text).unwrap(),
                [0xff, 0xef],
                "{text}"
            );
        }
        assert_eq!(Encoding::Hex.decode("ffEF\n").unwrap(), [0xff, 0xef]);
        for text in ["f", "fg", "\u{e9}f", "+f"] {
            assert_eq!(Encoding::Hex.decode(text), None, "{text}");
        }
        assert_eq!(Encoding::Base64.decode("a!"), None);
    }
}
