//! Codes of messages under a secret that both sides have (HMAC, RFC 2104), with what depends on the secret alone done once.
//! It must not know what messages are, nor show the secret.
//! Used by keys, and by what seals cookies.
//!
//! OpenSSL does the rest of the cryptography. For a code it makes two contexts and looks four things up by name each time, which is
//! thirty thousand instructions for messages that hash in five.

use hmac::{Hmac, Mac as _};
use sha2::{Sha256, Sha384, Sha512};

use super::algorithm::Algorithm;

/// A secret for one digest.
#[derive(Clone)]
pub(crate) struct Sha256Mac(Hmac<Sha256>);

/// A secret for all digests.
#[derive(Clone)]
pub(super) struct Macs {
    sha256: Hmac<Sha256>,
    sha384: Hmac<Sha384>,
    sha512: Hmac<Sha512>,
}

impl Sha256Mac {
    pub(crate) fn new(secret: &[u8]) -> Sha256Mac {
        Sha256Mac(Hmac::new_from_slice(secret).expect(ANY))
    }

    /// The code of these parts, one after the other.
    pub(crate) fn code(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }
}

impl Macs {
    pub(super) fn new(secret: &[u8]) -> Macs {
        Macs {
            sha256: Hmac::new_from_slice(secret).expect(ANY),
            sha384: Hmac::new_from_slice(secret).expect(ANY),
            sha512: Hmac::new_from_slice(secret).expect(ANY),
        }
    }

    /// Whether this is the code of the message, in a time that tells nothing of where it is not.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], code: &[u8]) -> bool {
        let outcome = match algorithm.digest_bytes() {
            32 => self.sha256.clone().chain_update(message).verify_slice(code),
            48 => self.sha384.clone().chain_update(message).verify_slice(code),
            _ => self.sha512.clone().chain_update(message).verify_slice(code),
        };
        outcome.is_ok()
    }
}

const ANY: &str = "a secret of any length is one";

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2);
        let text = digits.map(|pair| std::str::from_utf8(pair).unwrap());
        text.map(|pair| u8::from_str_radix(pair, 16).unwrap())
            .collect()
    }

    /// RFC 4231, test case 2.
    #[test]
    fn codes_are_those_of_the_standard() {
        let (secret, message) = (b"Jefe", b"what do ya want for nothing?");
        let all = [
            (Algorithm::HS256, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
            (Algorithm::HS384, "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649"),
            (Algorithm::HS512, "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"),
        ];
        let macs = Macs::new(secret);
        for (algorithm, code) in all {
            let code = bytes(code);
            assert!(macs.verifies(algorithm, message, &code));
            assert!(!macs.verifies(algorithm, b"another", &code));
            assert!(!macs.verifies(algorithm, message, &code[..code.len() - 1]));
            assert!(!macs.verifies(algorithm, message, &[&code[..], b"\0"].concat()));
            assert!(!macs.verifies(algorithm, message, b""));
        }
        let parts: [&[u8]; 2] = [&message[..5], &message[5..]];
        assert_eq!(Sha256Mac::new(secret).code(&parts)[..], bytes(all[0].1));
    }
}
