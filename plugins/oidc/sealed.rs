//! Texts that only this proxy, and others with the same secret, can make and read: AES-256-GCM, a key of its own for each.
//! It must not know what is in them; what they are for is sealed with them, so that none can be taken for another.
//! Used for the session's cookies and those of logins under way.

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine;
use openssl::error::ErrorStack;
use openssl::memcmp;
use openssl::rand::rand_bytes;
use openssl::symm::{decrypt_aead, encrypt_aead, Cipher};

use crate::keys::mac::Sha256Mac;

/// Secrets, the newest first: it seals, all of them open.
pub(super) struct Seal {
    secrets: Vec<Sha256Mac>,
    /// What is sealed here is for nobody with the same secret and other settings.
    about: String,
}

/// What was in a sealed text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) content: Vec<u8>,
    /// Whether an older secret sealed it.
    pub(super) is_old: bool,
}

impl Seal {
    /// Seals with the first of these secrets; `about` says for whom.
    ///
    /// # Errors
    /// Which secret is too short or too long, by its place.
    pub(super) fn new(secrets: &[String], about: &[&str]) -> Result<Seal, (usize, String)> {
        let mut keys = Vec::new();
        for (at, secret) in secrets.iter().enumerate() {
            if !(SHORTEST..=LONGEST).contains(&secret.len()) {
                let fact = format!(
                    "has {} bytes; from {SHORTEST} to {LONGEST} are needed",
                    secret.len()
                );
                return Err((at, fact));
            }
            keys.push(Sha256Mac::new(secret.as_bytes()));
        }
        let mut all = String::new();
        for part in about {
            all.push_str(&format!("{}:{part};", part.len()));
        }
        Ok(Seal {
            secrets: keys,
            about: all,
        })
    }

    /// Seals a content for a purpose. `None` where the system gives no random numbers.
    pub(super) fn seal(&self, purpose: &str, content: &[u8]) -> Option<String> {
        let mut sealed = vec![0; HEAD];
        rand_bytes(&mut sealed[1..]).ok()?;
        sealed[0] = VERSION;
        let (salt, nonce) = sealed[1..].split_at(SALT);
        let key = derived(self.secrets.first()?, salt);
        let about = self.bound(purpose);
        let mut tag = [0; TAG];
        let cipher = Cipher::aes_256_gcm();
        let hidden = encrypt_aead(cipher, &key, Some(nonce), &about, content, &mut tag).ok()?;
        sealed.extend(hidden);
        sealed.extend(tag);
        Some(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// What is in a text that was sealed for this purpose; nothing where it was changed, cut, or is none.
    pub(super) fn open(&self, purpose: &str, text: &[u8]) -> Option<Opened> {
        let sealed = URL_SAFE_NO_PAD.decode(text).ok()?;
        if sealed.len() < HEAD + TAG || sealed[0] != VERSION {
            return None;
        }
        let (head, rest) = sealed.split_at(HEAD);
        let (hidden, tag) = rest.split_at(rest.len() - TAG);
        let (salt, nonce) = head[1..].split_at(SALT);
        let about = self.bound(purpose);
        let opened = self.secrets.iter().enumerate().find_map(|(at, secret)| {
            let key = derived(secret, salt);
            let cipher = Cipher::aes_256_gcm();
            let content = decrypt_aead(cipher, &key, Some(nonce), &about, hidden, tag).ok()?;
            Some(Opened {
                content,
                is_old: at > 0,
            })
        });
        // What a text that is none leaves there, the next handshake of the thread would take for its own.
        drop(ErrorStack::get());
        opened
    }

    fn bound(&self, purpose: &str) -> Vec<u8> {
        format!("{purpose};{}", self.about).into_bytes()
    }
}

/// A key for one text: two texts that happen to have one nonce still have different keys.
fn derived(secret: &Sha256Mac, salt: &[u8]) -> [u8; 32] {
    secret.code(&[b"windrose sealed text 1", salt])
}

/// Random bytes as text that URLs and cookies can carry. `None` where the system gives none.
pub(super) fn random_text(bytes: usize) -> Option<String> {
    let mut random = vec![0; bytes];
    rand_bytes(&mut random).ok()?;
    Some(URL_SAFE_NO_PAD.encode(random))
}

/// Whether both are the same, in a time that tells nothing of where they differ.
pub(super) fn same(one: &str, other: &str) -> bool {
    one.len() == other.len() && memcmp::eq(one.as_bytes(), other.as_bytes())
}

const VERSION: u8 = 1;
const SALT: usize = 16;
const NONCE: usize = 12;
const TAG: usize = 16;
const HEAD: usize = 1 + SALT + NONCE;
const SHORTEST: usize = 32;
const LONGEST: usize = 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OLD: &str = "an old secret of thirty-two bytes";
    const NEW: &str = "a new secret of thirty-two bytes!";

    fn seal(secrets: &[&str], about: &[&str]) -> Seal {
        let secrets: Vec<String> = secrets.iter().map(|one| (*one).to_owned()).collect();
        Seal::new(&secrets, about).unwrap_or_else(|(_, fact)| panic!("{fact}"))
    }

    #[test]
    fn what_is_sealed_can_be_opened_and_never_looks_the_same() {
        let seal = seal(&[NEW], &["a"]);

        let (one, other) = (
            seal.seal("p", b"text").unwrap(),
            seal.seal("p", b"text").unwrap(),
        );

        assert_ne!(one, other);
        let opened = seal.open("p", one.as_bytes()).unwrap();
        assert_eq!((&*opened.content, opened.is_old), (&b"text"[..], false));
        assert!(!one.contains("text"));
    }

    #[test]
    fn an_older_secret_still_opens_and_one_that_is_gone_does_not() {
        let sealed = seal(&[OLD], &["a"]).seal("p", b"text").unwrap();

        let both = seal(&[NEW, OLD], &["a"]).open("p", sealed.as_bytes());
        assert!(both.is_some_and(|opened| opened.is_old));
        assert_eq!(seal(&[NEW], &["a"]).open("p", sealed.as_bytes()), None);
    }

    #[test]
    fn a_text_for_something_else_is_none() {
        let sealed = seal(&[NEW], &["a", "b"]).seal("p", b"text").unwrap();

        for (about, purpose) in [
            (&["a", "b"][..], "q"),
            (&["a"], "p"),
            (&["ab"], "p"),
            (&["a", "c"], "p"),
        ] {
            let other = seal(&[NEW], about);
            assert_eq!(other.open(purpose, sealed.as_bytes()), None);
        }
    }

    #[test]
    fn whatever_is_changed_or_cut_opens_to_nothing() {
        let seal = seal(&[NEW], &["a"]);
        let sealed = seal.seal("p", b"some text").unwrap();

        for at in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(seal.open("p", &changed), None, "changed at {at}");
            assert_eq!(
                seal.open("p", &sealed.as_bytes()[..at]),
                None,
                "cut at {at}"
            );
        }
        assert!(ErrorStack::get().errors().is_empty());
    }

    #[test]
    fn short_secrets_are_refused_without_being_told() {
        let refused = Seal::new(&[NEW.to_owned(), "sesame".to_owned()], &[])
            .err()
            .unwrap();

        assert_eq!(
            refused,
            (1, "has 6 bytes; from 32 to 1024 are needed".to_owned())
        );
    }

    proptest! {
        #[test]
        fn nothing_that_is_made_up_opens(text in "[A-Za-z0-9_-]{0,120}") {
            prop_assert_eq!(seal(&[NEW], &["a"]).open("p", text.as_bytes()), None);
        }
    }
}
