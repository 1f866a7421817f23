//! Just enough HTTP/1.1 to speak for services and for a client: heads, bodies by length or in chunks.
//! It must not know what is asked or answered.
//! Used by `services`, `chat` and `client`.

use std::io::{Error, ErrorKind, Result};

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt};

/// The start line and fields of a message.
pub(super) struct Head {
    /// The request line or status line.
    pub(super) start: String,
    /// Fields as received, names in lower case.
    pub(super) fields: Vec<(String, String)>,
}

impl Head {
    /// Reads a head; `None` where the other side closed between messages.
    pub(super) async fn read<R: AsyncBufRead + Unpin>(reader: &mut R) -> Result<Option<Head>> {
        let Some(start) = line(reader).await? else {
            return Ok(None);
        };
        let mut fields = Vec::new();
        loop {
            let line = line(reader).await?.ok_or(ErrorKind::UnexpectedEof)?;
            if line.is_empty() {
                return Ok(Some(Head { start, fields }));
            }
            if fields.len() == MOST_FIELDS {
                return Err(broken("too many fields"));
            }
            let (name, value) = line.split_once(':').ok_or(broken("a field has no colon"))?;
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// The first field of that name, which is given in lower case.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        let (_, value) = fields.find(|(known, _)| known == name)?;
        Some(value)
    }

    /// The second word of the start line: a request's target or a response's status.
    pub(super) fn second(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// Reads the body that follows this head; without length and chunks there is none.
    pub(super) async fn body<R: AsyncBufRead + Unpin>(&self, reader: &mut R) -> Result<Vec<u8>> {
        if let Some(length) = self.field("content-length") {
            let length = length
                .parse()
                .map_err(|_| broken("a length is no number"))?;
            return exactly(reader, length).await;
        }
        match self.field("transfer-encoding") {
            Some(coding) if coding.eq_ignore_ascii_case("chunked") => chunks(reader).await,
            _ => Ok(Vec::new()),
        }
    }
}

async fn line<R: AsyncBufRead + Unpin>(reader: &mut R) -> Result<Option<String>> {
    let mut line = Vec::new();
    let read = reader
        .take(LONGEST_LINE)
        .read_until(b'\n', &mut line)
        .await?;
    if read == 0 {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(broken("a line has no end"));
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    let line = String::from_utf8(line).map_err(|_| broken("a line is not UTF-8"))?;
    Ok(Some(line))
}

async fn exactly<R: AsyncRead + Unpin>(reader: &mut R, length: u64) -> Result<Vec<u8>> {
    if length > LONGEST_BODY {
        return Err(broken("a body is too long for a demo"));
    }
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body).await?;
    match body.len() as u64 == length {
        true => Ok(body),
        false => Err(ErrorKind::UnexpectedEof.into()),
    }
}

async fn chunks<R: AsyncBufRead + Unpin>(reader: &mut R) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = line(reader).await?.ok_or(ErrorKind::UnexpectedEof)?;
        let digits = size.split(';').next().unwrap_or_default().trim();
        let size =
            u64::from_str_radix(digits, 16).map_err(|_| broken("a chunk's size is no number"))?;
        if body.len() as u64 + size.min(LONGEST_BODY) > LONGEST_BODY {
            return Err(broken("a body is too long for a demo"));
        }
        body.extend(exactly(reader, size).await?);
        // The line's end after a chunk; after the last one, trailers up to an empty line.
        while line(reader).await?.is_some_and(|line| !line.is_empty()) {}
        if size == 0 {
            return Ok(body);
        }
    }
}

fn broken(fact: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, fact)
}

const MOST_FIELDS: usize = 200;
const LONGEST_LINE: u64 = 64 << 10;
const LONGEST_BODY: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn heads_and_bodies_follow_each_other_on_one_connection() {
        let bytes = "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi\
                     HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x\r\nd\r\n0\r\n\r\n";
        let mut reader = bytes.as_bytes();

        let first = Head::read(&mut reader).await.unwrap().unwrap();
        let first_body = first.body(&mut reader).await.unwrap();
        let second = Head::read(&mut reader).await.unwrap().unwrap();
        let second_body = second.body(&mut reader).await.unwrap();
        let end = Head::read(&mut reader).await.unwrap();

        assert_eq!((first.second(), first.field("host")), ("/a", Some("x")));
        assert_eq!((&*first_body, &*second_body), (&b"hi"[..], &b"abcd"[..]));
        assert_eq!(second.second(), "200");
        assert!(end.is_none());
    }

    #[tokio::test]
    async fn a_body_that_ends_early_is_an_error() {
        let mut reader = &b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"[..];

        let head = Head::read(&mut reader).await.unwrap().unwrap();

        assert!(head.body(&mut reader).await.is_err());
    }
}
