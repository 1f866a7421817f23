//! The request line of HTTP/1, checked on the bytes as they come.
//! It must not know what follows the line.
//! Called by the header guard: Pingora escapes spaces and accepts control bytes, after which nobody could tell.

/// Checks a request line piece by piece: a method, one space, a target of visible ASCII, one space, a version (RFC 9112 section 3).
#[derive(Debug, Default)]
pub(super) struct RequestLine {
    begun: bool,
    spaces: u8,
    done: bool,
}

impl RequestLine {
    /// Takes further bytes; `false` once the line cannot be one.
    pub(super) fn take(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            if self.done {
                return true;
            }
            match byte {
                b'\r' => {}
                // Empty lines before a request are to be ignored (RFC 9112 section 2.2).
                b'\n' if !self.begun => {}
                b'\n' => {
                    self.done = true;
                    return self.spaces == 2;
                }
                b' ' => {
                    self.spaces += 1;
                    if self.spaces > 2 || !self.begun {
                        return false;
                    }
                }
                b'!'..=b'~' => self.begun = true,
                _ => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pieces: &[&[u8]]) -> bool {
        let mut line = RequestLine::default();
        pieces.iter().all(|piece| line.take(piece))
    }

    #[test]
    fn lines_are_judged_whatever_their_pieces() {
        assert!(fits(&[b"GET / HTTP/1.1\r\nHost: a b c d\r\n\r\n"]));
        assert!(fits(&[b"\r\nGE", b"T /", b" HTTP/1.1\r", b"\n\x00"]));
        assert!(!fits(&[b"GET /a b HTTP/1.1\r\n"]));
        assert!(!fits(&[b"GET /\x01 HTTP/1.1\r\n"]));
        assert!(!fits(&[b"GET /\xc3\xa4 HTTP/1.1\r\n"]));
        assert!(!fits(&[b"GARBAGE\r\n"]));
        assert!(!fits(&[b" GET / HTTP/1.1\r\n"]));
    }
}
