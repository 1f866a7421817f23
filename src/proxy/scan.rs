//! A header of HTTP/1, followed as its bytes come: its request line checked, its end found.
//! It must not know what the fields in between mean, but for how much body they announce.
//! Called by the header guard: Pingora escapes spaces and accepts control bytes, after which nobody could tell.

use windrose_plugins::contract::{causes, Cause};

/// Follows one header.
#[derive(Debug, Default)]
pub(super) struct HeaderScan {
    request: RequestLine,
    line: Line,
}

/// What there is of a line so far.
#[derive(Debug, Default, Clone, Copy)]
enum Line {
    #[default]
    Nothing,
    Cr,
    Text,
}

impl HeaderScan {
    /// Takes further bytes. When the header ends among them, says after how many; a bare line feed ends lines as it does for
    /// Pingora's parser, so that both see the same end.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Option<usize>, &'static Cause> {
        let mut begin = self.request.take(bytes).ok_or(&causes::BAD_TARGET)?;
        let fields = begin;
        for feed in memchr::memchr_iter(b'\n', &bytes[fields..]) {
            let feed = fields + feed;
            match self.line.and(&bytes[begin..feed]) {
                Line::Nothing | Line::Cr => return Ok(Some(feed + 1)),
                Line::Text => {}
            }
            self.line = Line::Nothing;
            begin = feed + 1;
        }
        self.line = self.line.and(&bytes[begin..]);
        Ok(None)
    }
}

impl Line {
    fn and(self, bytes: &[u8]) -> Line {
        match (self, bytes) {
            (line, []) => line,
            (Line::Nothing, [b'\r']) => Line::Cr,
            _ => Line::Text,
        }
    }
}

/// How many bytes of body a whole header announces. Only a guess at what to hand on together with it: what frames the body
/// is what Pingora reads in the header.
pub(super) fn announced(header: &[u8]) -> usize {
    let mut lines = header.split(|byte| *byte == b'\n');
    let length = lines.find_map(|line| {
        let (name, value) = line.split_at(line.iter().position(|byte| *byte == b':')?);
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return Some(usize::MAX);
        }
        let value = std::str::from_utf8(&value[1..]).ok()?;
        name.eq_ignore_ascii_case(b"content-length")
            .then(|| value.trim().parse().unwrap_or(0))
    });
    length.unwrap_or(0)
}

/// Checks a request line piece by piece: a method, one space, a target of visible ASCII, one space, a version (RFC 9112 section 3).
#[derive(Debug, Default)]
struct RequestLine {
    begun: bool,
    spaces: u8,
    done: bool,
}

impl RequestLine {
    /// Takes further bytes and says how many of them belong to it; `None` once it cannot be a request line.
    fn take(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.done {
            return Some(0);
        }
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                b'\r' => {}
                // Empty lines before a request are to be ignored (RFC 9112 section 2.2).
                b'\n' if !self.begun => {}
                b'\n' => {
                    self.done = true;
                    return (self.spaces == 2).then_some(at + 1);
                }
                b' ' => {
                    self.spaces += 1;
                    if self.spaces > 2 || !self.begun {
                        return None;
                    }
                }
                b'!'..=b'~' => self.begun = true,
                _ => return None,
            }
        }
        Some(bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Where Pingora's parser sees the end of a header: `Ok(None)` before it came, `Err` if there is none to come.
    fn parsed(bytes: &[u8]) -> Result<Option<usize>, httparse::Error> {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let status = httparse::Request::new(&mut fields).parse(bytes)?;
        Ok(match status {
            httparse::Status::Complete(end) => Some(end),
            httparse::Status::Partial => None,
        })
    }

    /// Bytes that headers are made of, in any order, often after a good beginning.
    fn bytes() -> impl Strategy<Value = String> {
        let begin = prop::sample::select(BEGINS);
        let rest = proptest::collection::vec(prop::sample::select(PARTS), 0..12);
        (begin, rest).prop_map(|(begin, rest)| format!("{begin}{}", rest.concat()))
    }

    const BEGINS: &[&str] = &["", "\r\n", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\n"];
    const PARTS: &[&str] = &[
        "\r\n",
        "\n",
        "\r",
        "GET / HTTP/1.1",
        "a: b",
        ":",
        " ",
        "\t",
        "x",
        "\r\n\r\n",
    ];

    proptest! {
        #[test]
        fn the_end_is_where_the_parser_sees_it(text in bytes()) {
            let bytes = text.as_bytes();
            match (HeaderScan::default().take(bytes), parsed(bytes)) {
                (Ok(scanned), Ok(parsed)) => prop_assert_eq!(scanned, parsed),
                (Ok(Some(end)), Err(_)) => prop_assert!(parsed(&bytes[..end]).is_err()),
                // Nothing is handed on, or nothing is believed.
                (Err(_), _) | (Ok(None), Err(_)) => {}
            }
        }
    }

    fn fits(pieces: &[&[u8]]) -> bool {
        let mut scan = HeaderScan::default();
        pieces.iter().all(|piece| scan.take(piece).is_ok())
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

    #[test]
    fn the_end_is_found_whatever_the_pieces() {
        let headers = [
            "GET / HTTP/1.1\r\n\r\n",
            "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n",
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
        ];
        for header in headers {
            let text = format!("{header}\r\n\r\nGET");
            for cut in 0..=header.len() {
                let (first, rest) = text.as_bytes().split_at(cut);
                let mut scan = HeaderScan::default();

                let early = scan.take(first).unwrap();
                let end = early.or_else(|| Some(cut + scan.take(rest).unwrap()?));

                assert_eq!(end, Some(header.len()), "{header:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn the_body_announced_is_that_of_the_header() {
        let of = |fields: &str| announced(format!("POST / HTTP/1.1\r\n{fields}\r\n").as_bytes());

        assert_eq!(of("Host: a:80\r\ncontent-Length:  12 \r\n"), 12);
        assert_eq!(of("Transfer-Encoding: chunked\r\n"), usize::MAX);
        assert_eq!(of("Content-Length: 1, 1\r\n"), 0);
        assert_eq!(of("X: Content-Length: 5\r\n"), 0);
    }
}
