//! A set of keys, and which of them a signature may have been made with.
//! It must not know what was signed: a key is picked by algorithm and name before anything else of a token is believed.
//! Made by plugins while they are built, or when an issuer's keys have come.

use super::{Algorithm, Key};
use crate::json;

/// Keys that are believed alike: those of one issuer.
#[derive(Debug, Default)]
pub(crate) struct KeySet(Vec<Key>);

/// What a signature may have been made with.
#[derive(Debug)]
pub(crate) enum Pick<'a> {
    /// These, to be tried in order; at least one, few enough.
    Keys(Vec<&'a Key>),
    /// No key has this name.
    NoSuchId,
    /// There are keys, and none is for this algorithm.
    NotForThis,
    /// So many keys would have to be tried that the signer has to name one.
    TooMany,
}

impl KeySet {
    /// A set of these.
    ///
    /// # Errors
    /// Too many, two of one name and kind, or secrets among public keys; in words.
    pub(crate) fn new(keys: Vec<Key>) -> Result<KeySet, String> {
        if keys.len() > MOST_KEYS {
            return Err(format!(
                "there are {} keys; {MOST_KEYS} are the most",
                keys.len()
            ));
        }
        let secrets = keys.iter().filter(|key| key.is_secret()).count();
        if secrets != 0 && secrets != keys.len() {
            return Err("secrets and public keys are in one set".to_owned());
        }
        for (at, key) in keys.iter().enumerate() {
            let is_same = |other: &&Key| {
                let shares = |one: &Algorithm| other.fits(*one);
                key.id.is_some() && other.id == key.id && key.algorithms().iter().any(shares)
            };
            if keys[..at].iter().any(|other| is_same(&other)) {
                return Err("two keys of one kind have the same `kid`".to_owned());
            }
        }
        Ok(KeySet(keys))
    }

    /// A set in JSON (JWKS, RFC 7517 section 5). Keys that do not verify signatures, or that are not known here, are passed
    /// over, as issuers add kinds that not everybody knows.
    ///
    /// # Errors
    /// Text that is no set, sets that [`KeySet::new`] refuses, and sets without any key that can be used; in words.
    pub(crate) fn jwks(text: &[u8]) -> Result<KeySet, String> {
        if text.len() > MOST_BYTES {
            return Err(format!("it is larger than {MOST_BYTES} bytes"));
        }
        let set = json::strict_object(text).map_err(|error| format!("it is no JSON: {error}"))?;
        let listed = set.get("keys").and_then(|keys| keys.as_array());
        let listed = listed.ok_or("it has no list `keys`")?;
        if listed.len() > MOST_KEYS {
            return Err(format!(
                "it has {} keys; {MOST_KEYS} are the most",
                listed.len()
            ));
        }
        let mut why = "the list is empty".to_owned();
        let mut keys = Vec::new();
        for one in listed {
            match one.as_object().map(Key::jwk) {
                Some(Ok(key)) => keys.push(key),
                Some(Err(fact)) => why = fact,
                None => why = "it is no object".to_owned(),
            }
        }
        match keys.is_empty() {
            true => Err(format!("none of its keys can be used; of the last: {why}")),
            false => KeySet::new(keys),
        }
    }

    /// What a signature by this algorithm, whose signer calls its key so, may have been made with. A key without a name is
    /// taken for any.
    pub(crate) fn pick(&self, algorithm: Algorithm, id: Option<&str>) -> Pick<'_> {
        let named = |key: &&Key| match (&key.id, id) {
            (Some(own), Some(id)) => own == id,
            (None, _) | (_, None) => true,
        };
        let mut named = self.0.iter().filter(named).peekable();
        if named.peek().is_none() {
            return Pick::NoSuchId;
        }
        let fit: Vec<&Key> = named.filter(|key| key.fits(algorithm)).collect();
        match fit.len() {
            0 => Pick::NotForThis,
            1..=MOST_TRIES => Pick::Keys(fit),
            _ => Pick::TooMany,
        }
    }

    /// Its keys, to be put into another set.
    pub(crate) fn into_keys(self) -> Vec<Key> {
        self.0
    }

    /// Whether they are secrets, not public keys.
    pub(crate) fn holds_secrets(&self) -> bool {
        self.0.iter().any(Key::is_secret)
    }

    /// Every algorithm that some key is for.
    pub(crate) fn algorithms(&self) -> impl Iterator<Item = Algorithm> + '_ {
        self.0
            .iter()
            .flat_map(|key| key.algorithms().iter().copied())
    }
}

const MOST_KEYS: usize = 100;
const MOST_BYTES: usize = 512 * 1024;
/// A forged signature costs as many verifications.
const MOST_TRIES: usize = 4;
