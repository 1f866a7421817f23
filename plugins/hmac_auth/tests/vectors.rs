//! Requests that RFC 9421 signs in its appendix B.
//! It must not make any of its own.
//! Part of the tests of `hmac_auth`.
//!
//! Left out: B.2.4, which signs a response; nothing here verifies those. Its algorithm is that of B.3.

use serde_json::Value;

use super::*;

fn outcome(case: &Value, change: bool) -> Result<String, &'static str> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let key = text(&case["key"]);
    let key = match key.starts_with("-----") {
        true => SigningKey::pem(&key).unwrap(),
        false => SigningKey::secret(&STANDARD.decode(key).unwrap()).unwrap(),
    };
    let someone = Consumer {
        name: "ann".to_owned(),
        ..Consumer::default()
    };
    let id = text(&case["keyid"]);
    let kit = Kit::new().with_consumer(someone, [Credential::Signing { id, key }]);
    kit.advance(Duration::from_secs(1_618_884_500));
    let request = &case["request"];
    let fields = request["fields"].as_array().unwrap();
    let host = fields.iter().find(|pair| pair[0] == "host").unwrap();
    let target = format!("https://{}{}", text(&host[1]), text(&request["target"]));
    let mut exchange = Exchange::new(&text(&request["method"]), &target);
    for pair in fields.iter().filter(|pair| pair[0] != "host") {
        let value = text(&pair[1]);
        let value = match change && pair[0] == "signature" {
            true => value.replacen("=:", "=:AAAA", 1),
            false => value,
        };
        exchange = exchange.with(&text(&pair[0]), &value);
    }
    let plugin = kit.instance(&PLUGIN, "cover: []\ndigest: checked");
    who(&plugin, &mut exchange)
}

#[test]
fn requests_of_the_rfc_are_verified() {
    let cases: Vec<Value> =
        serde_json::from_str(include_str!("../../vectors/rfc9421.json")).unwrap();

    for case in &cases {
        assert_eq!(outcome(case, false), ann(), "{}", case["case"]);
        let changed = outcome(case, true);
        assert_eq!(changed, Err("auth.signature_wrong"), "{}", case["case"]);
    }
    assert_eq!(cases.len(), 6);
}
