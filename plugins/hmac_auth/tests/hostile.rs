//! Signatures of attackers and of broken clients.
//! It must not know right ones beyond those that are changed.
//! Part of the tests of `hmac_auth`.

use super::*;

#[test]
fn what_was_changed_after_it_was_signed_is_refused() {
    let plugin = kit().instance(&PLUGIN, "{}");
    let moved = |target: &str| {
        let mut exchange = Exchange::get(target);
        let from = signed(get(), &PLAIN, NOW);
        for name in ["signature", "signature-input"] {
            let value = from.request.headers.get(name).unwrap().to_str().unwrap();
            exchange = exchange.with(name, value);
        }
        exchange
    };

    assert_eq!(who(&plugin, &mut moved("https://shop.test/a?x=1")), ann());
    for other in [
        "https://shop.test/b?x=1",
        "https://shop.test/a?x=2",
        "https://shop.test/a",
        "https://other.test/a?x=1",
    ] {
        let outcome = who(&plugin, &mut moved(other));
        let expected = ["auth.signature_wrong", "auth.signature_uncovered"];
        assert!(
            outcome.is_err_and(|cause| expected.contains(&cause)),
            "{other}"
        );
    }
}

#[test]
fn fields_that_are_no_signatures_are_malformed() {
    let plugin = kit().instance(&PLUGIN, "cover: []");
    let code = hmac("x");
    let input = "s=(\"@method\");created=1000;keyid=\"k1\"";
    let many = (0..5).map(|at| format!("s{at}=();created=1000;keyid=\"k1\""));
    let codes = (0..5).map(|at| format!("s{at}=:{code}:"));
    let long = format!("s=({});created=1", "\"a\" ".repeat(9000));
    for (input, signature) in [
        (input.to_owned(), "s".to_owned()),
        (input.to_owned(), "s=\"text\"".to_owned()),
        (input.to_owned(), format!("other=:{code}:")),
        (input.to_owned(), "s=:not base64!:".to_owned()),
        ("s=1".to_owned(), format!("s=:{code}:")),
        ("s=(".to_owned(), format!("s=:{code}:")),
        ("s=(1);created=1".to_owned(), format!("s=:{code}:")),
        (
            "s=(\"@status\");created=1".to_owned(),
            format!("s=:{code}:"),
        ),
        ("s=(\"Date\");created=1".to_owned(), format!("s=:{code}:")),
        (
            "s=(\"date\";sf);created=1".to_owned(),
            format!("s=:{code}:"),
        ),
        (
            "s=(\"date\";req);created=1".to_owned(),
            format!("s=:{code}:"),
        ),
        (
            "s=(\"date\" \"date\");created=1".to_owned(),
            format!("s=:{code}:"),
        ),
        (
            "s=(\"@query-param\");created=1".to_owned(),
            format!("s=:{code}:"),
        ),
        (
            many.collect::<Vec<_>>().join(", "),
            codes.collect::<Vec<_>>().join(", "),
        ),
        (long, format!("s=:{code}:")),
    ] {
        let exchange = get()
            .with("signature-input", &input)
            .with("signature", &signature);
        let outcome = who(&plugin, &mut { exchange });
        assert_eq!(outcome, Err("auth.signature_malformed"), "{input}");
    }
    let half = get().with("signature", &format!("s=:{code}:"));
    assert_eq!(who(&plugin, &mut { half }), Err("auth.signature_malformed"));
}

#[test]
fn a_component_that_could_mean_two_things_is_not_covered() {
    let plugin = kit().instance(&PLUGIN, "cover: []");
    let twice = Exchange::get("https://shop.test/a?x=1&x=2");
    let lines = [("\"@query-param\";name=\"x\"", "1")];

    let outcome = who(&plugin, &mut signed(twice, &lines, NOW));

    assert_eq!(outcome, Err("auth.signature_uncovered"));
}

#[test]
fn only_signatures_with_the_tag_are_looked_at() {
    let plugin = kit().instance(&PLUGIN, "tag: app");
    let tagged = format!("{NOW};tag=\"app\"");

    assert_eq!(who(&plugin, &mut signed(get(), &PLAIN, &tagged)), ann());
    assert_eq!(
        who(&plugin, &mut signed(get(), &PLAIN, NOW)),
        Err("auth.signature_missing")
    );
}

proptest::proptest! {
    #[test]
    fn no_fields_make_a_panic_or_get_through(
        input in "s=\\([\"@a-z; =]{0,40}\\);created=1000;keyid=\"k1\"[;a-z=\"0-9]{0,20}",
        code in "[ -~]{0,40}",
        query in "[a-z0-9=&%+]{0,30}",
    ) {
        let plugin = kit().instance(&PLUGIN, "cover: []");
        let exchange = Exchange::get(&format!("https://shop.test/?{query}"))
            .with("signature-input", &input)
            .with("signature", &format!("s=:{code}:"))
            .with("content-digest", &code);
        let mut exchange = exchange;
        proptest::prop_assert!(who(&plugin, &mut exchange).is_err());
    }
}
