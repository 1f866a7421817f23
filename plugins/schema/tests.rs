use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::beside::{address, Beside};
use super::*;

fn reading(folder: &Path) -> Reading {
    Reading {
        draft: None,
        formats: true,
        others: Arc::new(Beside::of(folder, |document| document)),
        patterns: PatternCache::new(),
    }
}

fn schema(schema: &Value) -> Schema {
    let made = Schema::of(schema, &address("schema"), &reading(Path::new(".")));
    made.unwrap_or_else(|wrong| panic!("{wrong:?}"))
}

fn wrong(schema: &Value) -> Wrong {
    match Schema::of(schema, &address("schema"), &reading(Path::new("."))) {
        Ok(_) => panic!("{schema} was taken"),
        Err(wrong) => wrong,
    }
}

fn check(schema: &Schema, value: &Value, most: usize) -> Said {
    schema.check(value, value.to_string().len(), most)
}

fn found(schema_value: &Value, value: &Value) -> Vec<(String, String)> {
    match check(&schema(schema_value), value, 20) {
        Said::Unfit(found, false) => found
            .into_iter()
            .map(|finding| (finding.pointer, finding.detail))
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn findings_say_where_and_what_the_schema_wants_but_no_value() {
    let schema = json!({
        "type": "object",
        "required": ["name"],
        "properties": {
            "age": {"type": "integer", "minimum": 0},
            "a/b": {"enum": [1]},
            "mail": {"format": "email"},
            "code": {"pattern": "^[a-z]+$", "maxLength": 3},
            "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": true},
        },
        "additionalProperties": false,
    });

    let found = found(
        &schema,
        &json!({"age": -7, "a/b": "hidden", "mail": "hidden", "code": "HIDDEN", "tags": ["a", 5, "a"], "hidden": 1}),
    );

    let pairs: Vec<(&str, &str)> = found.iter().map(|(at, what)| (&**at, &**what)).collect();
    for pair in [
        ("", "lacks the member \"name\""),
        ("", "has members that are not allowed"),
        ("/age", "must be at least 0"),
        ("/a~1b", "is none of the values that are allowed"),
        ("/mail", "is not of the format \"email\""),
        ("/code", "does not match the pattern"),
        ("/code", "must have at most 3 characters"),
        ("/tags", "has an item twice"),
        ("/tags/1", "must be string"),
    ] {
        assert!(pairs.contains(&pair), "{pair:?} in {pairs:?}");
    }
    assert_eq!(pairs.len(), 9, "{pairs:?}");
    let details = pairs.iter().map(|(_, detail)| detail.to_lowercase());
    assert!(!details.into_iter().any(|detail| detail.contains("hidden")));
}

#[test]
fn the_list_of_findings_is_bounded_and_says_so() {
    let schema = schema(&json!({"items": {"type": "string"}}));
    let many = Value::Array(vec![json!(1); 50]);

    let Said::Unfit(found, is_more) = check(&schema, &many, 10) else {
        panic!("it fits");
    };

    assert_eq!((found.len(), is_more), (10, true));
    assert_eq!(check(&schema, &many, 0), Said::Unfit(Vec::new(), false));
    // So many that not even collecting them ends in time.
    let many = Value::Array(vec![json!(1); 500_000]);
    assert_eq!(check(&schema, &many, 10), Said::Unfit(Vec::new(), true));
}

/// Two alternatives that both go down: collecting why neither fits doubles with each level.
#[test]
fn errors_that_multiply_by_each_level_are_not_collected() {
    let schema = schema(&json!({
        "anyOf": [
            {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["x"]},
            {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["y"]},
            {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["z"]},
        ],
    }));
    let mut value = json!({});
    for _ in 0..100 {
        value = json!({"a": value});
    }

    assert_eq!(check(&schema, &value, 10), Said::Unfit(Vec::new(), true));
}

#[test]
fn a_check_that_takes_too_long_ends() {
    let alternatives: Vec<Value> = (0..400)
        .map(|at| json!({"type": "object", "required": [format!("k{at}")]}))
        .collect();
    let schema = schema(&json!({"items": {"anyOf": alternatives}}));

    let value = Value::Array(vec![json!({"k399": 1}); 20_000]);

    assert!(matches!(schema.check(&value, 0, 10), Said::TooCostly));
}

#[test]
fn a_schema_that_refers_to_itself_for_ever_is_asked_to_an_end() {
    let schema =
        schema(&json!({"allOf": [{"$ref": "#"}], "anyOf": [{"$ref": "#"}, {"type": "integer"}]}));

    let said = check(&schema, &json!({"a": 1}), 10);

    assert!(matches!(said, Said::Fits | Said::Unfit(..)));
}

#[test]
fn what_is_no_schema_is_refused_where_it_is_wrong() {
    assert_eq!(
        wrong(&json!({"properties": {"a": {"type": "strng"}}})).pointer,
        "/properties/a/type"
    );
    assert_eq!(wrong(&json!({"minLength": -1})).pointer, "/minLength");
    let missing = wrong(&json!({"$ref": "#/$defs/none"}));
    assert!(missing.fact.contains("/$defs/none"), "{missing:?}");
}

#[test]
fn patterns_that_look_around_are_refused() {
    for pattern in ["^(?=.*a)b", "(a)\\1", "(?<!x)y"] {
        let refused = wrong(&json!({"properties": {"a": {"pattern": pattern}}}));
        assert!(refused.fact.contains("linear time"), "{refused:?}");
    }
    let large = wrong(&json!({"pattern": "((((a{1,99}){1,99}){1,99}){1,99})"}));
    assert!(!large.fact.is_empty());
    // Backtracking would take for ever.
    let hard = schema(&json!({"pattern": "^(a+)+$"}));
    let text = format!("{}!", "a".repeat(100_000));
    assert!(matches!(check(&hard, &json!(text), 1), Said::Unfit(..)));
}

#[test]
fn nothing_is_fetched() {
    for reference in [
        "https://example.test/schema.json",
        "http://127.0.0.1:1/x",
        "file:///etc/hostname",
        "../../../etc/hostname",
        "urn:x:y",
    ] {
        let refused = wrong(&json!({"items": {"$ref": reference}}));
        assert!(!refused.fact.is_empty(), "{reference}");
    }
}

#[test]
fn files_beside_it_are_read_and_others_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    put("inner/name.yaml", "type: string\nmaxLength: 3\n");
    put("outside.json", "{\"type\": \"string\"}");
    std::os::unix::fs::symlink(folder.path().join("outside.json"), inner.join("link.json"))
        .unwrap();
    let of = |schema: Value| Schema::of(&schema, &address("schema"), &reading(&inner));

    let named = of(json!({"items": {"$ref": "name.yaml"}}));
    let named = named.unwrap_or_else(|wrong| panic!("{wrong:?}"));
    assert_eq!(check(&named, &json!(["abc"]), 1), Said::Fits);
    assert!(matches!(
        check(&named, &json!(["abcd"]), 1),
        Said::Unfit(..)
    ));
    for outside in [
        "../outside.json",
        "%2E%2E/outside.json",
        "link.json",
        "none.json",
    ] {
        assert!(of(json!({"$ref": outside})).is_err(), "{outside}");
    }
}

#[test]
fn earlier_dialects_are_read_as_they_were() {
    let four = json!({"$schema": "http://json-schema.org/draft-04/schema#", "maximum": 5, "exclusiveMaximum": true});
    let seven = json!({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}], "additionalItems": false});
    let twenty = json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "prefixItems": [{"type": "string"}], "items": false});

    assert!(matches!(
        check(&schema(&four), &json!(5), 1),
        Said::Unfit(..)
    ));
    for dialect in [seven, twenty] {
        let schema = schema(&dialect);
        assert_eq!(check(&schema, &json!(["a"]), 1), Said::Fits);
        assert!(matches!(
            check(&schema, &json!(["a", 1]), 1),
            Said::Unfit(..)
        ));
    }
    assert!(!wrong(&json!({"$schema": "https://example.test/dialect"}))
        .fact
        .is_empty());
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i32>().prop_map(Value::from),
        "[a-c]{0,3}".prop_map(Value::String),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            proptest::collection::btree_map("[a-c]", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    /// The meter changes nothing of what is said.
    #[test]
    fn what_is_said_is_what_the_validator_says_by_itself(value in values()) {
        let one = json!({
            "$defs": {"tree": {"anyOf": [
                {"type": "integer", "multipleOf": 2},
                {"type": "string", "pattern": "^a"},
                {"type": "array", "items": {"$ref": "#/$defs/tree"}, "uniqueItems": true},
                {"type": "object", "properties": {"a": {"$ref": "#/$defs/tree"}}, "propertyNames": {"enum": ["a", "b"]}, "unevaluatedProperties": {"const": null}},
            ]}},
            "$ref": "#/$defs/tree",
        });

        let plain = jsonschema::validator_for(&one).unwrap().is_valid(&value);

        prop_assert_eq!(check(&schema(&one), &value, 0) == Said::Fits, plain);
    }
}
