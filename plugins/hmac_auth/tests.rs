use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;

use super::*;
use crate::contract::{Consumer, Credential, SigningKey};
use crate::testkit::{answered, field, Exchange, Instance, Kit};

mod hostile;
mod simple;
mod vectors;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn kit() -> Kit {
    let ann = Consumer {
        name: "ann".to_owned(),
        ..Consumer::default()
    };
    let key = SigningKey::secret(SECRET).unwrap();
    let id = "k1".to_owned();
    let kit = Kit::new().with_consumer(ann, [Credential::Signing { id, key }]);
    kit.advance(Duration::from_secs(1000));
    kit
}

fn hmac(text: &str) -> String {
    let key = PKey::hmac(SECRET).unwrap();
    let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
    STANDARD.encode(signer.sign_oneshot_to_vec(text.as_bytes()).unwrap())
}

/// A request signed over the lines of these components, with these parameters.
fn signed(exchange: Exchange, lines: &[(&str, &str)], parameters: &str) -> Exchange {
    let names: Vec<&str> = lines.iter().map(|(name, _)| *name).collect();
    let input = format!("({}){parameters}", names.join(" "));
    let mut base: String = lines
        .iter()
        .map(|(name, value)| format!("{name}: {value}\n"))
        .collect();
    base.push_str(&format!("\"@signature-params\": {input}"));
    exchange
        .with("signature-input", &format!("s={input}"))
        .with("signature", &format!("s=:{}:", hmac(&base)))
}

const PLAIN: [(&str, &str); 4] = [
    ("\"@method\"", "GET"),
    ("\"@authority\"", "shop.test"),
    ("\"@path\"", "/a"),
    ("\"@query\"", "?x=1"),
];
const NOW: &str = ";created=1000;keyid=\"k1\"";

fn get() -> Exchange {
    Exchange::get("https://shop.test/a?x=1")
}

fn who(plugin: &Instance, exchange: &mut Exchange) -> Result<String, &'static str> {
    match plugin.request(exchange) {
        Verdict::Continue => Ok(exchange.principal().map_or(String::new(), Principal::id)),
        Verdict::Failed { cause, .. } => Err(cause.name),
        Verdict::Unknown(_) => Err("unknown"),
        verdict => Err(answered(verdict).cause.name),
    }
}

fn ann() -> Result<String, &'static str> {
    Ok("consumer:ann".to_owned())
}

#[test]
fn a_signed_request_proves_whose_key_it_was() {
    let plugin = kit().instance(&PLUGIN, "{}");
    let mut exchange = signed(get(), &PLAIN, NOW);

    assert_eq!(who(&plugin, &mut exchange), ann());
    plugin.upstream_request(&mut exchange);
    assert!(!exchange.upstream.headers.contains_key("signature"));
    assert!(!exchange.upstream.headers.contains_key("signature-input"));
    let answer = answered(plugin.request(&mut get()));
    assert_eq!(answer.cause, &causes::MISSING);
    assert_eq!(
        field(&answer, "www-authenticate"),
        Some("Signature realm=\"Restricted\"")
    );
    let optional = kit().instance(&PLUGIN, "optional: true");
    assert_eq!(who(&optional, &mut get()), Ok(String::new()));
}

#[test]
fn larger_components_stand_for_smaller_ones_and_fields_can_be_asked_for() {
    let plugin = kit().instance(
        &PLUGIN,
        "cover: ['@method', '@path', '@query', '@authority', x-a]",
    );
    let whole = [
        ("\"@method\"", "GET"),
        ("\"@target-uri\"", "https://shop.test/a?x=1"),
        ("\"x-a\"", "1, 2"),
    ];
    let with = || get().with("x-a", " 1 ").with("x-a", "2");

    assert_eq!(who(&plugin, &mut signed(with(), &whole, NOW)), ann());
    let without = signed(with(), &whole[..2], NOW);
    let expected = Err("auth.signature_uncovered");
    assert_eq!(who(&plugin, &mut { without }), expected);
    let absent = signed(get(), &whole, NOW);
    assert_eq!(who(&plugin, &mut { absent }), expected);
    let parameter = [
        ("\"@query-param\";name=\"x\"", "1"),
        ("\"@request-target\"", "/a?x=1"),
    ];
    let plugin = kit().instance(&PLUGIN, "cover: ['@path']");
    assert_eq!(who(&plugin, &mut signed(get(), &parameter, NOW)), ann());
}

#[test]
fn signatures_hold_for_a_while() {
    for (parameters, expected) in [
        (";created=700;keyid=\"k1\"", ann()),
        (";created=669;keyid=\"k1\"", Err("auth.signature_time")),
        (";created=1030;keyid=\"k1\"", ann()),
        (";created=1031;keyid=\"k1\"", Err("auth.signature_time")),
        (";created=1000;expires=980;keyid=\"k1\"", ann()),
        (
            ";created=1000;expires=970;keyid=\"k1\"",
            Err("auth.signature_time"),
        ),
        (
            ";created=1000;expires=\"9999\";keyid=\"k1\"",
            Err("auth.signature_time"),
        ),
        (";keyid=\"k1\"", Err("auth.signature_malformed")),
        (";created=1000", Err("auth.signature_malformed")),
        (";created=-1;keyid=\"k1\"", Err("auth.signature_malformed")),
        (";created=1000;keyid=\"k2\"", Err("auth.signature_key")),
        (";created=1000;keyid=\"k1\";alg=\"hmac-sha256\"", ann()),
        (
            ";created=1000;keyid=\"k1\";alg=\"ed25519\"",
            Err("auth.signature_wrong"),
        ),
    ] {
        let plugin = kit().instance(&PLUGIN, "{}");
        let outcome = who(&plugin, &mut signed(get(), &PLAIN, parameters));
        assert_eq!(outcome, expected, "{parameters}");
    }
}

#[test]
fn a_nonce_is_let_through_once_until_it_could_not_be_repeated() {
    let kit = kit();
    let config = "require_nonce: true\nmax_nonces: 2";
    let plugin = kit.instance(&PLUGIN, config);
    let with = |nonce: &str, created: u32| {
        let parameters = format!(";created={created};keyid=\"k1\";nonce=\"{nonce}\"");
        signed(get(), &PLAIN, &parameters)
    };

    assert_eq!(who(&plugin, &mut with("a", 1000)), ann());
    assert_eq!(
        who(&plugin, &mut with("a", 1000)),
        Err("auth.signature_replayed")
    );
    let reloaded = kit.instance(&PLUGIN, config);
    assert_eq!(
        who(&reloaded, &mut with("a", 1000)),
        Err("auth.signature_replayed")
    );
    assert_eq!(who(&plugin, &mut with("b", 1000)), ann());
    assert_eq!(
        who(&plugin, &mut with("c", 1000)),
        Err("auth.signature_busy")
    );
    assert_eq!(who(&plugin, &mut with("c", 1000).dry()), Err("unknown"));
    let none = who(&plugin, &mut signed(get(), &PLAIN, NOW));
    assert_eq!(none, Err("auth.signature_uncovered"));
    kit.advance(Duration::from_secs(331));
    assert_eq!(who(&plugin, &mut with("c", 1300)), ann());
}

/// What becomes of a body in two pieces whose digest was signed.
fn sent(config: &str, digest: &str, body: [&str; 2]) -> Result<(), &'static str> {
    let lines = [
        PLAIN[0],
        PLAIN[1],
        PLAIN[2],
        PLAIN[3],
        ("\"content-digest\"", digest),
    ];
    let plugin = kit().instance(&PLUGIN, config);
    let mut exchange = get()
        .with("content-length", "18")
        .with("content-digest", digest);
    exchange = signed(exchange, &lines, NOW);
    who(&plugin, &mut exchange)?;
    for (at, piece) in body.into_iter().enumerate() {
        let mut piece = Some(bytes::Bytes::copy_from_slice(piece.as_bytes()));
        let verdict = plugin.request_body(&mut exchange, &mut piece, at == 1);
        if let Verdict::Answer(answer) = verdict {
            return Err(answer.cause.name);
        }
    }
    Ok(())
}

#[test]
fn a_body_is_the_one_that_was_signed() {
    // RFC 9530 appendix B, and RFC 9421 section B.2.
    let sha512 = "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:";
    let sha256 = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:";
    let right = ["{\"hello\": ", "\"world\"}"];

    for digest in [
        sha256,
        sha512,
        &format!("{sha256}, {sha512}"),
        &format!("md5=:AA==:, {sha256}"),
    ] {
        assert_eq!(sent("{}", digest, right), Ok(()), "{digest}");
        let other = sent("{}", digest, ["{\"hello\": ", "\"wörld\"}"]);
        assert_eq!(other, Err("auth.signature_digest"));
    }
    for wrong in [
        "md5=:AA==:",
        "sha-256=:AA==:",
        "sha-256=1",
        "sha-256",
        "sha-256=(:AA==:)",
    ] {
        assert_eq!(
            sent("{}", wrong, right),
            Err("auth.signature_digest"),
            "{wrong}"
        );
    }
    assert_eq!(sent("digest: ignored", "md5=:AA==:", right), Ok(()));
    let plugin = kit().instance(&PLUGIN, "{}");
    let bare = signed(get().with("content-length", "18"), &PLAIN, NOW);
    assert_eq!(who(&plugin, &mut { bare }), Err("auth.signature_uncovered"));
    let checked = kit().instance(&PLUGIN, "digest: checked");
    let bare = signed(get().with("transfer-encoding", "chunked"), &PLAIN, NOW);
    assert_eq!(who(&checked, &mut { bare }), ann());
}

#[test]
fn wrong_settings_are_located() {
    let paths = |config: &str| kit().problem_paths(&PLUGIN, config);

    assert_eq!(
        paths("max_age: 0s\nclock_skew: 11m"),
        ["max_age", "clock_skew"]
    );
    assert_eq!(
        paths("max_age: 61m\nmax_nonces: 0"),
        ["max_age", "max_nonces"]
    );
    assert_eq!(
        paths("cover: ['@status', 'X-A', date]"),
        ["cover[0]", "cover[1]"]
    );
    assert_eq!(paths("scheme: simple\ntag: a\ncover: []"), ["cover", "tag"]);
    assert_eq!(paths("realm: \"a\\nb\""), ["realm"]);
    assert_eq!(Kit::new().problem_paths(&PLUGIN, "{}"), [""]);
}

#[test]
fn a_body_that_no_field_announces_has_to_be_signed_as_well() {
    let plugin = kit().instance(&PLUGIN, "{}");

    // Over HTTP/2 neither a length nor a coding says that a body follows.
    let streams = who(&plugin, &mut signed(get().streaming(), &PLAIN, NOW));
    assert_eq!(streams, Err("auth.signature_uncovered"));
    assert_eq!(
        who(&plugin, &mut signed(get().over_http2(), &PLAIN, NOW)),
        ann()
    );
    let nothing = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";
    let mut lines = PLAIN.to_vec();
    lines.push(("\"content-digest\"", nothing));
    let mut streams = signed(
        get().streaming().with("content-digest", nothing),
        &lines,
        NOW,
    );
    assert_eq!(who(&plugin, &mut streams), ann());
    let mut piece = Some(bytes::Bytes::from_static(b"unsigned"));
    let answer = answered(plugin.request_body(&mut streams, &mut piece, true));
    assert_eq!(answer.cause, &causes::DIGEST);
    assert!(field(&answer, "www-authenticate").is_some(), "as every 401");
}

#[test]
fn a_body_that_is_sent_again_is_compared_from_its_begin() {
    let digest = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:";
    let mut lines = PLAIN.to_vec();
    lines.push(("\"content-digest\"", digest));
    for config in ["{}", "forward_credentials: true"] {
        let plugin = kit().instance(&PLUGIN, config);
        let exchange = get().with("content-length", "18");
        let mut exchange = signed(exchange.with("content-digest", digest), &lines, NOW);
        assert_eq!(who(&plugin, &mut exchange), ann());

        for attempt in 0..2 {
            plugin.upstream_request(&mut exchange);
            let mut piece = Some(bytes::Bytes::from_static(b"{\"hello\": \"world\"}"));
            let verdict = plugin.request_body(&mut exchange, &mut piece, true);
            assert!(matches!(verdict, Verdict::Continue), "{attempt}");
        }
    }
}

#[test]
fn over_http2_the_authority_is_the_one_that_was_asked_for() {
    let plugin = kit().instance(&PLUGIN, "{}");

    let mut exchange = signed(get().over_http2().with("host", "other.test"), &PLAIN, NOW);
    assert_eq!(who(&plugin, &mut exchange), ann());
    let other = Exchange::get("https://other.test/a?x=1").over_http2();
    let mut exchange = signed(other.with("host", "shop.test"), &PLAIN, NOW);
    assert_eq!(who(&plugin, &mut exchange), Err("auth.signature_wrong"));
}
