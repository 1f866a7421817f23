//! Tokens of attackers: each kind of confusion that RFC 8725 names, and what no issuer would make.
//! It must not know right tokens beyond the one that is changed.
//! Part of the tests of `jwt`.

use super::*;

fn plugin(issuer: &Issuer) -> Instance {
    at(1500).instance(&PLUGIN, &config(issuer, ""))
}

#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let issuer = Issuer::of(algorithm);
        let plugin = plugin(&issuer);
        for secret in [issuer.pem(), issuer.pem().trim().to_owned()] {
            let forger = Issuer {
                algorithm: "HS256",
                key: PKey::hmac(secret.as_bytes()).unwrap(),
            };
            assert_eq!(
                who(&plugin, &forger.token(RIGHT)),
                Err("auth.jwt_algorithm")
            );
        }
    }
}

#[test]
fn nothing_unsigned_is_taken() {
    let issuer = Issuer::of("RS256");
    let plugin = plugin(&issuer);
    let claims = URL_SAFE_NO_PAD.encode(RIGHT);
    for name in ["none", "None", "NONE", "nOnE", "", "HS255", "rs256"] {
        let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{name}"}}"#));
        let bare = format!("{header}.{claims}.");
        assert_eq!(who(&plugin, &bare), Err("auth.jwt_algorithm"), "{name}");
        let header = format!(r#"{{"alg":"{name}"}}"#);
        let signed = issuer.raw(&header, RIGHT);
        assert_eq!(who(&plugin, &signed), Err("auth.jwt_algorithm"), "{name}");
    }
    let unsigned = issuer.token(RIGHT);
    let (signed, _) = unsigned.rsplit_once('.').unwrap();
    assert_eq!(
        who(&plugin, &format!("{signed}.")),
        Err("auth.jwt_signature")
    );
}

#[test]
fn only_algorithms_that_are_wanted_and_fit_the_key_are_taken() {
    let mut issuer = Issuer::of("RS256");
    let plugin = at(1500).instance(&PLUGIN, &config(&issuer, "algorithms: [RS256]"));
    assert_eq!(who(&plugin, &issuer.token(RIGHT)), ann());

    issuer.algorithm = "PS256";
    assert_eq!(
        who(&plugin, &issuer.token(RIGHT)),
        Err("auth.jwt_algorithm")
    );
    issuer.algorithm = "ES256";
    let header = r#"{"alg":"ES256"}"#;
    let curve = Issuer::of("ES256").raw(header, RIGHT);
    assert_eq!(who(&plugin, &curve), Err("auth.jwt_algorithm"));
}

#[test]
fn a_token_does_not_say_where_its_key_is() {
    let (issuer, forger) = (Issuer::of("ES256"), Issuer::of("ES256"));
    let plugin = plugin(&issuer);
    let jwk = r#"{"kty":"EC","crv":"P-256","x":"04N0xi21hshyvBp7I167sbE_bXqyqkAPfefdklMO7wY","y":"UI8exy-C06a7DUnjIdENkxeFtHM4-l_41LqEw9nVgmw"}"#;
    for more in [
        r#""jku":"http://127.0.0.1:1/keys""#.to_owned(),
        r#""x5u":"http://127.0.0.1:1/certificate""#.to_owned(),
        r#""x5c":["MIIB"]"#.to_owned(),
        format!(r#""jwk":{jwk}"#),
    ] {
        let header = format!(r#"{{"alg":"ES256",{more}}}"#);
        assert_eq!(
            who(&plugin, &forger.raw(&header, RIGHT)),
            Err("auth.jwt_signature")
        );
        assert_eq!(who(&plugin, &issuer.raw(&header, RIGHT)), ann(), "{header}");
    }
}

#[test]
fn the_name_of_a_key_is_a_name_and_nothing_else() {
    let issuer = Issuer::of("HS256");
    let named = format!("issuer: any\naudience: any\nkeys: [{{secret: {SECRET}, kid: k1}}]");
    let plugin = at(1500).instance(&PLUGIN, &named);
    let of = |kid: &str| {
        let kid = serde_json::to_string(kid).unwrap();
        issuer.raw(&format!(r#"{{"alg":"HS256","kid":{kid}}}"#), RIGHT)
    };

    assert_eq!(who(&plugin, &of("k1")), ann());
    assert_eq!(
        who(&plugin, &issuer.token(RIGHT)),
        ann(),
        "one key, no name"
    );
    let long = "k".repeat(1024);
    for kid in [
        "",
        "k2",
        "K1",
        "k1\0",
        "../../dev/null",
        "' OR '1'='1",
        "k1|sh",
        &long,
    ] {
        assert_eq!(who(&plugin, &of(kid)), Err("auth.jwt_key_unknown"), "{kid}");
    }
    let longer = of(&"k".repeat(1025));
    assert_eq!(who(&plugin, &longer), Err("auth.jwt_malformed"));
}

#[test]
fn nobody_makes_many_keys_be_tried() {
    let issuer = Issuer::of("HS256");
    let keys: Vec<String> = (0..5)
        .map(|at| format!("{{secret: {at}{SECRET}, kid: k{at}}}"))
        .collect();
    let keys = format!("issuer: any\naudience: any\nkeys: [{}]", keys.join(", "));
    let plugin = at(1500).instance(&PLUGIN, &keys);

    assert_eq!(
        who(&plugin, &issuer.token(RIGHT)),
        Err("auth.jwt_key_unknown")
    );
}

#[test]
fn what_is_not_one_plain_token_is_malformed() {
    let issuer = Issuer::of("HS256");
    let plugin = plugin(&issuer);
    let right = issuer.token(RIGHT);
    let parts: Vec<&str> = right.split('.').collect();
    let (header, claims, code) = (parts[0], parts[1], parts[2]);
    let head = |header: &str| issuer.raw(header, RIGHT);
    for token in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        format!("{header}.{claims}"),
        format!("{right}."),
        format!("{right}.{code}.{code}"),
        format!("{header}=.{claims}.{code}"),
        format!("{header}.{claims}.{code}="),
        format!("{header}.{claims}.{}", code.replace('_', "/") + "+"),
        format!("{header}.{claims} .{code}"),
        format!("{right}\t x"),
        head("[]"),
        head(r#"{"alg":["HS256"]}"#),
        head(r#"{"typ":"JWT"}"#),
        head(r#"{"alg":"HS256","alg":"HS256"}"#),
        head(r#"{"alg":"none","\u0061lg":"HS256"}"#),
        head(r#"{"alg":"HS256","crit":["exp"],"exp":1}"#),
        head(r#"{"alg":"HS256","crit":[]}"#),
        head(r#"{"alg":"HS256","b64":false}"#),
        head(r#"{"alg":"HS256","cty":"JWT"}"#),
        head(r#"{"alg":"HS256","kid":7}"#),
        issuer.token(r#"["iss"]"#),
        issuer.token(&RIGHT.replace("\"sub\"", "\"sub\":\"bob\",\"sub\"")),
        issuer.token("{\"sub\":\"\u{fffd}\"} x"),
        format!("{{\"payload\":\"{claims}\",\"protected\":\"{header}\",\"signature\":\"{code}\"}}"),
    ] {
        let outcome = who(&plugin, &token);
        let expected = ["auth.jwt_malformed", "auth.jwt_missing"];
        assert!(
            outcome.is_err_and(|cause| expected.contains(&cause)),
            "{token}"
        );
    }
}

#[test]
fn a_token_of_another_spelling_is_another_token() {
    // The last letter of a code of 32 bytes carries two bits that mean nothing: they have to be zero.
    let issuer = Issuer::of("HS256");
    let plugin = plugin(&issuer);
    let right = issuer.token(RIGHT);
    let last = right.as_bytes()[right.len() - 1];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = alphabet.iter().position(|one| *one == last).unwrap();
    let other = alphabet[at + 1] as char;

    let spelled = format!("{}{other}", &right[..right.len() - 1]);

    assert_eq!(who(&plugin, &spelled), Err("auth.jwt_malformed"));
}

#[test]
fn what_is_too_long_is_not_looked_at() {
    let issuer = Issuer::of("HS256");
    let plugin = at(1500).instance(&PLUGIN, &config(&issuer, "max_token_bytes: 256B"));
    let filled = |length: usize| {
        let claims = RIGHT.replace('}', &format!(",\"x\":\"{}\"}}", "y".repeat(length)));
        issuer.token(&claims)
    };

    assert_eq!(who(&plugin, &issuer.token(RIGHT)), ann());
    assert!(filled(100).len() > 256);
    assert_eq!(who(&plugin, &filled(100)), Err("auth.jwt_malformed"));
    let deep = issuer.token(&format!("{{\"a\":{}", "[".repeat(4000)));
    assert_eq!(
        who(&plugin_of_default(&issuer), &deep),
        Err("auth.jwt_malformed")
    );
}

fn plugin_of_default(issuer: &Issuer) -> Instance {
    plugin(issuer)
}

proptest::proptest! {
    #[test]
    fn no_text_makes_a_panic_or_gets_through(token in "[ -~]{0,120}") {
        let plugin = plugin(&Issuer::of("HS256"));
        proptest::prop_assert!(who(&plugin, &token).is_err());
    }

    #[test]
    fn no_header_or_claims_make_a_panic(
        header in "\\{\"alg\":\"HS256\"[,\":a-z0-9\\[\\]{}]{0,40}\\}",
        claims in "\\{[,\":a-z0-9\\[\\]{}]{0,60}\\}",
    ) {
        let issuer = Issuer::of("HS256");
        let plugin = plugin(&issuer);
        proptest::prop_assert!(who(&plugin, &issuer.raw(&header, &claims)).is_err());
    }
}
