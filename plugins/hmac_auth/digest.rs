//! The digest of a body (RFC 9530), compared while it passes.
//! It must not keep the body.
//! Made by the gate when a digest was signed; fed by the hook on the pieces.

use http::HeaderMap;
use sfv::{Dictionary, ListEntry, Parser};
use sha2::{Digest, Sha256, Sha512};

/// What a body has to come to.
pub(super) struct Expected {
    is: Vec<u8>,
    so_far: SoFar,
}

#[derive(Clone)]
enum SoFar {
    Sha256(Sha256),
    Sha512(Box<Sha512>),
}

impl Expected {
    /// What `Content-Digest` says: the strongest digest that is known here. None where there is none, or the field is wrong.
    pub(super) fn of(headers: &HeaderMap) -> Option<Expected> {
        let mut text = Vec::new();
        for value in headers.get_all("content-digest") {
            if !text.is_empty() {
                text.extend(b", ");
            }
            text.extend(value.as_bytes());
        }
        let all = Parser::new(&text).parse::<Dictionary>().ok()?;
        let of = |name: &str, length: usize| match all.get(name)? {
            ListEntry::Item(item) => {
                let bytes = item.bare_item.as_byte_sequence()?;
                (bytes.len() == length).then(|| bytes.to_vec())
            }
            ListEntry::InnerList(_) => None,
        };
        if all.contains_key("sha-512") {
            return Some(Expected {
                is: of("sha-512", 64)?,
                so_far: SoFar::Sha512(Box::default()),
            });
        }
        Some(Expected {
            is: of("sha-256", 32)?,
            so_far: SoFar::Sha256(Sha256::new()),
        })
    }

    /// A further attempt sends the body from its begin.
    pub(super) fn begin(&mut self) {
        self.so_far = match self.so_far {
            SoFar::Sha256(_) => SoFar::Sha256(Sha256::new()),
            SoFar::Sha512(_) => SoFar::Sha512(Box::default()),
        };
    }

    /// Takes a piece; `false` when that was the last one and the body is another.
    pub(super) fn take(&mut self, piece: &[u8], last: bool) -> bool {
        match &mut self.so_far {
            SoFar::Sha256(hash) => hash.update(piece),
            SoFar::Sha512(hash) => hash.update(piece),
        }
        !last || self.is_right()
    }

    /// Whether it is the digest of an empty body.
    pub(super) fn is_of_nothing(&self) -> bool {
        self.is_right()
    }

    fn is_right(&self) -> bool {
        let own = match self.so_far.clone() {
            SoFar::Sha256(hash) => hash.finalize().to_vec(),
            SoFar::Sha512(hash) => hash.finalize().to_vec(),
        };
        own == self.is
    }
}
