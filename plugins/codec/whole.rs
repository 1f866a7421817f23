//! A body that is there whole, without its coding: for plugins that look into bodies.
//! It must not know what they look for; what goes on upstream stays as it came.
//! Called by hooks that see bodies whole; their bound on bodies holds for what comes out as well.

use bytes::Bytes;
use http::HeaderMap;

use super::decode::{Bound, Decoder, Wrong};
use super::{coding, Coded, Coding};

/// Why there is no plain body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotPlain {
    /// The coding is not known here, or there are several on top of each other.
    Unknown,
    /// It is not in its coding.
    Malformed,
    /// More comes out than may.
    TooLarge,
}

/// What a body is once its coding is taken off, at most so many bytes and at most a hundred for each that came.
///
/// # Errors
/// Why there is none.
pub(crate) fn plain(headers: &HeaderMap, body: &Bytes, most: u64) -> Result<Bytes, NotPlain> {
    match coding(headers) {
        Coded::Plain => Ok(body.clone()),
        Coded::Otherwise => Err(NotPlain::Unknown),
        Coded::As(coding) => decoded(coding, body, most),
    }
}

/// As [`plain`], of what is in this coding.
///
/// # Errors
/// As there.
pub(crate) fn decoded(coding: Coding, body: &[u8], most: u64) -> Result<Bytes, NotPlain> {
    let bound = Bound {
        size: most,
        ratio: RATIO,
    };
    let mut decoder = Decoder::new(coding, bound).map_err(|_| NotPlain::TooLarge)?;
    let all = decoder.piece(body).and_then(|first| {
        let rest = decoder.end()?;
        Ok(match rest.is_empty() {
            true => first,
            false => Bytes::from([first, rest].concat()),
        })
    });
    all.map_err(|wrong| match wrong {
        Wrong::TooLarge => NotPlain::TooLarge,
        Wrong::Malformed => NotPlain::Malformed,
    })
}

/// As `max_ratio` of `decompress`.
const RATIO: u64 = 100;

#[cfg(test)]
mod tests {
    use super::super::encode::Encoder;
    use super::*;

    fn headers(coding: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("content-encoding", http::HeaderValue::from_static(coding));
        headers
    }

    fn coded(coding: Coding, body: &[u8]) -> Bytes {
        let mut encoder = Encoder::new(coding, 3).unwrap();
        let mut out = encoder
            .piece(body, super::super::encode::Flush::No)
            .unwrap()
            .to_vec();
        out.extend(encoder.end().unwrap());
        out.into()
    }

    #[test]
    fn a_body_comes_out_plain_or_not_at_all() {
        let body = coded(Coding::Gzip, b"{\"a\": 1}");
        let zeros = coded(Coding::Br, &vec![0; 1 << 20]);

        assert_eq!(plain(&HeaderMap::new(), &body, 1), Ok(body.clone()));
        assert_eq!(
            plain(&headers("gzip"), &body, 100).as_deref(),
            Ok(&b"{\"a\": 1}"[..])
        );
        assert_eq!(plain(&headers("gzip"), &body, 7), Err(NotPlain::TooLarge));
        assert_eq!(
            plain(&headers("br"), &zeros, 1 << 30),
            Err(NotPlain::TooLarge)
        );
        assert_eq!(
            plain(&headers("zstd"), &body, 100),
            Err(NotPlain::Malformed)
        );
        assert_eq!(
            plain(&headers("gzip, br"), &body, 100),
            Err(NotPlain::Unknown)
        );
        assert_eq!(
            plain(&headers("deflate"), &body, 100),
            Err(NotPlain::Unknown)
        );
        assert_eq!(
            plain(&headers("gzip"), &body.slice(..5), 100),
            Err(NotPlain::Malformed)
        );
    }
}
