//! Tokens and keys that others published, and what has to be said of each.
//! It must not make any of its own; the neighbours do.
//! Part of the tests of `jwt`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::causes;
use super::super::token::Token;
use crate::contract::Cause;
use crate::keys::{Key, KeySet, Pick};

/// What becomes of a token up to its signature, as the gate goes.
fn verify(keys: &KeySet, token: &str) -> Result<(), &'static Cause> {
    let token = Token::read(token.as_bytes())?;
    match keys.pick(token.algorithm, token.key.as_deref()) {
        Pick::Keys(keys) => {
            let signs = |key: &&Key| key.verifies(token.algorithm, token.signed, &token.signature);
            keys.iter()
                .any(signs)
                .then_some(())
                .ok_or(&causes::SIGNATURE)
        }
        Pick::NotForThis => Err(&causes::ALGORITHM),
        Pick::NoSuchId | Pick::TooMany => Err(&causes::KEY_UNKNOWN),
    }
}

/// A key or a set of them, as the vectors have either.
fn keys(value: &Value) -> Result<KeySet, String> {
    match value.get("keys") {
        Some(_) => KeySet::jwks(value.to_string().as_bytes()),
        None => KeySet::new(vec![Key::jwk(value.as_object().unwrap())?]),
    }
}

/// Runs a file of Wycheproof's; the ids of the cases that came out otherwise than it says, and how many there were.
fn wycheproof(text: &str) -> (BTreeSet<u64>, usize) {
    let file: Value = serde_json::from_str(text).unwrap();
    let (mut differ, mut count) = (BTreeSet::new(), 0);
    for group in file["testGroups"].as_array().unwrap() {
        // Secrets have no public half.
        let key = match &group["public"] {
            Value::Null => &group["private"],
            key => key,
        };
        for case in group["tests"].as_array().unwrap() {
            let token = case["jws"].as_str().map(str::to_owned);
            let token = token.unwrap_or_else(|| case["jws"].to_string());
            let outcome = keys(key).ok().and_then(|keys| verify(&keys, &token).ok());
            count += 1;
            if outcome.is_some() != (case["result"] == "valid") {
                differ.insert(case["tcId"].as_u64().unwrap());
            }
        }
    }
    (differ, count)
}

/// Cases of which something else is said here than there, each with the reason.
const SIGNATURES_LEFT_OUT: [(u64, &str); 8] = [
    (346, "refused: the key says that it is for PS256, and the token is signed with PS384"),
    (347, "refused: the key says that it is for \"ES521\", which is no algorithm"),
    (350, "refused: as 346"),
    (351, "refused: as 347"),
    (367, "taken: its padding got lost in the file, the token is letter for letter the valid one of case 357"),
    (370, "taken: as 367"),
    (372, "refused: there is a \"?\" in the base64url, which RFC 7515 section 2 knows nothing of"),
    (373, "refused: as 372"),
];
const KEYS_LEFT_OUT: [(u64, &str); 1] = [(
    4,
    "taken: the second key of the name is not base64url (bits are left over) and passed over, as RFC 7517 section 5 says",
)];

fn ids(left_out: &[(u64, &str)]) -> BTreeSet<u64> {
    left_out.iter().map(|(id, _)| *id).collect()
}

#[test]
fn signatures_of_wycheproof_are_judged_as_it_says() {
    let (differ, count) = wycheproof(include_str!(
        "../../vectors/wycheproof_json_web_signature_test.json"
    ));

    assert_eq!((differ, count), (ids(&SIGNATURES_LEFT_OUT), 401));
}

#[test]
fn keys_of_wycheproof_are_judged_as_it_says() {
    let (differ, count) = wycheproof(include_str!(
        "../../vectors/wycheproof_json_web_key_test.json"
    ));

    assert_eq!((differ, count), (ids(&KEYS_LEFT_OUT), 26));
}

#[test]
fn examples_of_the_rfcs_are_verified_or_refused() {
    let cases: Vec<Value> =
        serde_json::from_str(include_str!("../../vectors/rfc_jose.json")).unwrap();

    for case in &cases {
        let outcome = verify(
            &keys(&case["key"]).unwrap(),
            case["token"].as_str().unwrap(),
        );
        let refused = outcome.err().map(|cause| cause.name);
        assert_eq!(refused, case["refused"].as_str(), "{}", case["case"]);
    }
    assert_eq!(cases.len(), 12);
}
