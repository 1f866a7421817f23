//! Settings that are wrong, and where.
//! It must not run requests.
//! Part of the tests of `jwt`.

use super::*;
use crate::keys::Key;

fn paths(config: &str) -> Vec<String> {
    Kit::new().problem_paths(&PLUGIN, config)
}

fn with(more: &str) -> String {
    format!("issuer: a\naudience: b\n{more}")
}

#[test]
fn what_tokens_have_to_say_is_not_left_open_by_chance() {
    assert_eq!(paths("audience: b\nkeys: []"), [""]);
    assert_eq!(
        paths("issuer: []\naudience: [any, b]"),
        ["issuer", "audience", "keys"]
    );
    assert_eq!(paths("issuer: any\naudience: any"), ["keys"]);
}

#[test]
fn keys_that_are_wrong_are_located_and_not_quoted() {
    let secret = format!("secret: {SECRET}");
    for (key, path) in [
        ("{}".to_owned(), "keys[0]"),
        (format!("{{{secret}, jwk: {{}}}}"), "keys[0]"),
        (format!("{{secret: {}}}", &SECRET[..31]), "keys[0].secret"),
        (
            format!("{{{secret}, encoding: base64, alg: RS256}}"),
            "keys[0].alg",
        ),
        ("{secret: '#', encoding: hex}".to_owned(), "keys[0].secret"),
        ("{pem: nonsense}".to_owned(), "keys[0].pem"),
        (
            "{pem: nonsense, encoding: hex}".to_owned(),
            "keys[0].encoding",
        ),
        (
            "{pem_file: /nonexistent.pem}".to_owned(),
            "keys[0].pem_file",
        ),
        (
            "{jwks_file: /nonexistent.json}".to_owned(),
            "keys[0].jwks_file",
        ),
        ("{jwk: {kty: EC}}".to_owned(), "keys[0].jwk"),
        ("{jwk: {kty: oct, k: AA}, kid: a}".to_owned(), "keys[0]"),
    ] {
        let problems = Kit::new().problems(&PLUGIN, &with(&format!("keys: [{key}]")));
        assert_eq!(problems[0].path, path, "{key}");
        let told = format!("{problems:?}");
        assert!(
            !told.contains(&SECRET[..31]) && !told.contains("nonsense"),
            "{told}"
        );
    }
}

#[test]
fn keys_of_a_file_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let jwk = r#"{"kty":"OKP","crv":"Ed25519","kid":"k","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "right.json",
        &format!("{{\"keys\":[{jwk},{{\"kty\":\"new\"}}]}}"),
    );
    write("twice.json", &format!("{{\"keys\":[{jwk},{jwk}]}}"));
    write("none.json", r#"{"keys":[{"kty":"new"}]}"#);
    write("list.json", "[]");
    write("key.pem", &Issuer::of("ES384").pem());
    let kit = Kit::new().in_folder(folder.path());
    let paths = |key: &str| kit.problem_paths(&PLUGIN, &with(&format!("keys: [{key}]")));

    assert_eq!(paths("{jwks_file: right.json}"), [""; 0]);
    assert_eq!(paths("{pem_file: key.pem, kid: a, alg: ES384}"), [""; 0]);
    assert_eq!(paths("{pem_file: key.pem, alg: ES256}"), ["keys[0].alg"]);
    for wrong in ["twice", "none", "list"] {
        let key = format!("{{jwks_file: {wrong}.json}}");
        assert_eq!(paths(&key), ["keys[0].jwks_file"], "{wrong}");
    }
}

#[test]
fn secrets_and_public_keys_are_not_mixed() {
    let key = Issuer::of("ES256").setting();
    let both = with(&format!("keys: [{{secret: {SECRET}}}, {key}]"));

    assert_eq!(paths(&both), ["keys"]);
}

#[test]
fn numbers_and_names_that_are_wrong_are_located() {
    let key = format!("keys: [{{secret: {SECRET}}}]");
    for (more, path) in [
        ("clock_skew: 11m", "clock_skew"),
        ("max_token_bytes: 100", "max_token_bytes"),
        ("max_token_bytes: 1MiB", "max_token_bytes"),
        ("remember: 1000001", "remember"),
        ("algorithms: [ES256]", "algorithms[0]"),
        ("algorithms: [none]", "algorithms[0]"),
        ("scopes: ['a b']", "scopes[0]"),
        ("values: {a: []}", "values.a"),
        ("required: ['']", "required[0]"),
        ("headers: {'a b': sub}", "headers.a b"),
        ("headers: {connection: sub}", "headers.connection"),
        ("headers: {authorization: sub}", "headers.authorization"),
        ("from: []", "from"),
        ("from: [{header: a}, {header: a}]", "from[1]"),
        ("realm: \"a\\nb\"", "realm"),
        ("consumer: {by: subject}", "consumer.by"),
        ("consumer: {claim: ''}", "consumer.claim"),
    ] {
        assert_eq!(paths(&with(&format!("{key}\n{more}"))), [path], "{more}");
    }
}

#[test]
fn private_and_weak_keys_are_refused() {
    let rsa = |bits| PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap();
    let private = String::from_utf8(rsa(2048).private_key_to_pem_pkcs8().unwrap()).unwrap();
    let weak = String::from_utf8(rsa(1024).public_key_to_pem().unwrap()).unwrap();

    assert!(Key::pem(&private).unwrap_err().contains("private"));
    assert!(Key::pem(&weak).unwrap_err().contains("1024"));
    let jwk = r#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    let jwk = crate::json::strict_object(jwk.as_bytes()).unwrap();
    assert!(Key::jwk(&jwk).unwrap_err().contains("private"));
}
