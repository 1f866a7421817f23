//! Every rule of consumers provoked, and what must stay silent.
//! It must not test plugins, which judge credentials.
//! Run by `cargo test`.

use super::{each_is_reported, reported};

const HASH: &str = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";

#[test]
fn names_and_groups_are_well_formed_and_each_consumers_own() {
    each_is_reported(&[
        (
            "consumers: [{name: a}, {name: a}]",
            "consumers[1].name: the name \"a\" is taken by consumers[0]",
        ),
        (
            "consumers: [{name: ''}]",
            "consumers[0].name: must not be empty",
        ),
        (
            "consumers: [{name: 'consumer:a'}]",
            "consumers[0].name: \"consumer:a\" cannot be a consumer's name",
        ),
        (
            "consumers: [{name: a, groups: ['']}]",
            "consumers[0].groups[0]: must not be empty",
        ),
    ]);
    let entries: Vec<String> = (0..65).map(|at| format!("k{at}: v")).collect();
    let found = reported(&format!(
        "consumers: [{{name: a, metadata: {{{}}}}}]",
        entries.join(", ")
    ));
    assert!(
        found.starts_with("consumers[0].metadata: has 65 entries"),
        "{found}"
    );
}

#[test]
fn keys_are_hashes_and_one_consumers() {
    let same = format!(
        "consumers: [{{name: a, keys: ['{HASH}']}}, {{name: b, keys: ['{}']}}]",
        HASH.to_uppercase()
    );
    each_is_reported(&[(
        &*same,
        "consumers[1].keys[0]: consumers[0] has the same key",
    )]);
    for wrong in [
        "secret",
        &HASH[1..],
        &HASH.replace('2', "g"),
        &HASH.replace("2c", "+c"),
    ] {
        let found = reported(&format!("consumers: [{{name: a, keys: ['{wrong}']}}]"));

        assert!(
            found.starts_with("consumers[0].keys[0]: is not the SHA-256"),
            "{found}"
        );
        assert!(!found.contains(wrong), "it may be the key itself");
    }
    assert_eq!(
        reported(&format!(
            "consumers: [{{name: 'Ann B.', keys: ['{HASH}']}}]"
        )),
        ""
    );
}

#[test]
fn what_an_issuer_calls_somebody_is_given_and_one_consumers() {
    each_is_reported(&[
        (
            "consumers: [{name: a, subjects: [{issuer: i, subject: s}]}, {name: b, subjects: [{issuer: i, subject: s}]}]",
            "consumers[1].subjects[0]: consumers[0] is called the same by this issuer",
        ),
        (
            "consumers: [{name: a, subjects: [{issuer: '', subject: s}]}]",
            "consumers[0].subjects[0].issuer: must not be empty",
        ),
        (
            "consumers: [{name: a, subjects: [{issuer: i, subject: ''}]}]",
            "consumers[0].subjects[0].subject: must not be empty",
        ),
    ]);
}

#[test]
fn certificates_say_one_thing_and_are_one_consumers() {
    let one = |mark: &str| format!("consumers: [{{name: a, certificates: [{{{mark}}}]}}]");
    let two = |first: &str, second: &str| {
        format!("consumers: [{{name: a, certificates: [{{{first}}}]}}, {{name: b, certificates: [{{{second}}}]}}]")
    };
    each_is_reported(&[
        (
            &*two("dns: a.test", "dns: A.Test"),
            "consumers[1].certificates[0]: consumers[0] is known by the same",
        ),
        (
            &*two("issuer: CN=x", "issuer: ' CN=x'"),
            "consumers[1].certificates[0]: consumers[0] is known by the same",
        ),
        (
            "consumers: [{name: a, certificates: [{}]}]",
            "consumers[0].certificates[0]: says nothing of a certificate",
        ),
        (
            &*one("dns: a, uri: b"),
            "consumers[0].certificates[0]: says several things",
        ),
        (
            &*one("fingerprint: abc"),
            "consumers[0].certificates[0].fingerprint: a fingerprint is a SHA-256",
        ),
        (
            &*one("subject: billing"),
            "consumers[0].certificates[0].subject: \"billing\" is no distinguished name",
        ),
        (
            &*one("dns: a, issuer: root"),
            "consumers[0].certificates[0].issuer: \"root\" is no distinguished name",
        ),
        (
            &*one("issuer: root"),
            "consumers[0].certificates[0].issuer: \"root\" is no distinguished name",
        ),
        (
            &*one("common_name: ''"),
            "consumers[0].certificates[0].common_name: it is empty",
        ),
    ]);
    let apart = two("dns: a, issuer: CN=x", "dns: a, issuer: CN=y");
    assert_eq!(reported(&apart), "");
}

#[test]
fn signing_keys_are_whole_and_have_names_of_their_own() {
    let secret = "secret: 0123456789abcdef0123456789abcdef";
    let one = |key: &str| format!("consumers: [{{name: a, signing_keys: [{{id: k, {key}}}]}}]");
    let twice = format!(
        "consumers: [{{name: a, signing_keys: [{{id: k, {secret}}}]}}, {{name: b, signing_keys: [{{id: k, {secret}}}]}}]"
    );
    let both = one(&format!("{secret}, public_key: x"));
    each_is_reported(&[
        (
            &*twice,
            "consumers[1].signing_keys[0].id: consumers[0] has a signing key of this name",
        ),
        (&*both, "consumers[0].signing_keys[0]: has both"),
        (
            &*one("secret: short"),
            "consumers[0].signing_keys[0].secret: the secret has 5 bytes",
        ),
        (
            &*one("secret: '#', encoding: hex"),
            "consumers[0].signing_keys[0].secret: is not written in its",
        ),
        (
            &*one("public_key: x"),
            "consumers[0].signing_keys[0].public_key: it is no public key",
        ),
        (
            &*one("public_key: x, encoding: hex"),
            "consumers[0].signing_keys[0].encoding: is for `secret` only",
        ),
        (
            "consumers: [{name: a, signing_keys: [{id: ''}]}]",
            "consumers[0].signing_keys[0].id: must not be empty",
        ),
    ]);
}
