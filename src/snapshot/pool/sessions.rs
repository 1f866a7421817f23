//! Names of endpoints in cookies: which endpoint a session has, said without saying where it is.
//! It must not know requests or responses.
//! Built with each endpoint set; the fast path looks names up and writes them.

use std::fmt::Write as _;

use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;

use super::{Affinity, Balance, Member};

/// The name of each member, and the member of each name.
pub struct Sessions {
    /// By position in the set.
    names: Box<[Box<str>]>,
    /// Names in order, with positions.
    sorted: Box<[(Box<str>, u16)]>,
}

impl Sessions {
    /// The names, for a pool that keeps sessions by cookie.
    ///
    /// A name is the begin of HMAC-SHA-256 over the endpoint's address with the pool's key: the same in every process,
    /// after every restart and whatever other endpoints there are. Without a secret the key is the pool's name, which
    /// hides an address from a look but not from someone who tries all of them.
    pub(super) fn of(balance: &Balance, members: &[Member]) -> Option<Sessions> {
        let Some(Affinity::Cookie(cookie)) = &balance.affinity else {
            return None;
        };
        let names: Box<[Box<str>]> = members
            .iter()
            .map(|member| name(&cookie.key, &member.endpoint.label))
            .collect();
        let mut sorted: Vec<(Box<str>, u16)> = names.iter().cloned().zip(0..u16::MAX).collect();
        sorted.sort();
        Some(Sessions {
            names,
            sorted: sorted.into(),
        })
    }

    /// The member of a name. Anyone may write a cookie: a name that is none is no session.
    pub fn find(&self, name: &[u8]) -> Option<u16> {
        let at = self
            .sorted
            .binary_search_by(|(known, _)| known.as_bytes().cmp(name));
        at.ok().map(|at| self.sorted[at].1)
    }

    /// The name of the member at a position.
    pub fn name(&self, at: usize) -> Option<&str> {
        self.names.get(at).map(|name| &**name)
    }
}

/// 64 bits in hexadecimal: enough to tell 10,000 endpoints apart, and short in every request.
fn name(key: &[u8], label: &str) -> Box<str> {
    let signed = || {
        let key = PKey::hmac(key)?;
        let mut signer = Signer::new(MessageDigest::sha256(), &key)?;
        signer.sign_oneshot_to_vec(label.as_bytes())
    };
    let mut name = String::with_capacity(16);
    // OpenSSL fails here only without memory; an empty name is nobody's.
    for byte in signed().unwrap_or_default().iter().take(8) {
        let _ = write!(name, "{byte:02x}");
    }
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_depends_on_key_and_address_alone_and_shows_neither() {
        let one = name(b"web", "10.0.0.1:80");

        assert_eq!(one.len(), 16);
        assert_eq!(one, name(b"web", "10.0.0.1:80"));
        assert_ne!(one, name(b"web", "10.0.0.2:80"));
        assert_ne!(one, name(b"other", "10.0.0.1:80"));
    }
}
