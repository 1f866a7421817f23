use super::*;

fn one(parameter: &str) -> Instance {
    with(
        &format!("{{/p: {{get: {{parameters: [{parameter}]}}}}}}"),
        "undeclared: {parameters: reject}",
    )
}

fn at_path(parameter: &str) -> Instance {
    with(&format!("{{'/p/{{v}}': {{get: {{parameters: [{{name: v, in: path, required: true, {parameter}}}]}}}}}}"), "")
}

/// A schema that only this value fits.
fn only(value: &str, shape: &str) -> String {
    format!("schema: {{{shape}, const: {value}}}")
}

const LIST: &str = "type: array, items: {type: integer}";
const OBJECT: &str = "type: object, properties: {R: {type: integer}, G: {type: integer}}";
const LIST_VALUE: &str = "[3, 4]";
const OBJECT_VALUE: &str = "{R: 100, G: 200}";

/// Every combination of the table in section 4.8.12.6 of OpenAPI 3.1.0 that it defines, with values of its own; as the two below.
#[test]
fn every_style_in_paths_is_read_as_the_specification_writes_it() {
    for (style, explode, primitive, list, object) in [
        ("simple", false, "5", "3,4", "R,100,G,200"),
        ("simple", true, "5", "3,4", "R=100,G=200"),
        ("label", false, ".5", ".3,4", ".R,100,G,200"),
        ("label", true, ".5", ".3.4", ".R=100.G=200"),
        ("matrix", false, ";v=5", ";v=3,4", ";v=R,100,G,200"),
        ("matrix", true, ";v=5", ";v=3;v=4", ";R=100;G=200"),
    ] {
        for (schema, text) in [
            (only("5", "type: integer"), primitive),
            (only(LIST_VALUE, LIST), list),
            (only(OBJECT_VALUE, OBJECT), object),
        ] {
            let plugin = at_path(&format!("style: {style}, explode: {explode}, {schema}"));
            assert_eq!(
                get(&plugin, &format!("/p/{text}")),
                Ok(()),
                "{style} {explode} {text}"
            );
            assert_eq!(get(&plugin, "/p/9"), PARAMETER, "{style} {explode} {text}");
        }
    }
}

#[test]
fn every_style_in_queries_is_read_as_the_specification_writes_it() {
    for (style, schema, text) in [
        ("explode: true", only(LIST_VALUE, LIST), "v=3&v=4"),
        ("explode: false", only(LIST_VALUE, LIST), "v=3,4"),
        ("explode: true", only(OBJECT_VALUE, OBJECT), "R=100&G=200"),
        (
            "explode: false",
            only(OBJECT_VALUE, OBJECT),
            "v=R,100,G,200",
        ),
        (
            "style: spaceDelimited, explode: false",
            only(LIST_VALUE, LIST),
            "v=3%204",
        ),
        (
            "style: pipeDelimited, explode: false",
            only(LIST_VALUE, LIST),
            "v=3%7C4",
        ),
        (
            "style: deepObject, explode: true",
            only(OBJECT_VALUE, OBJECT),
            "v%5BR%5D=100&v[G]=200",
        ),
        ("style: form", only("5", "type: integer"), "v=5"),
    ] {
        let plugin = one(&format!("{{name: v, in: query, {style}, {schema}}}"));
        assert_eq!(
            get(&plugin, &format!("/p?{text}")),
            Ok(()),
            "{style} {text}"
        );
        assert_eq!(get(&plugin, "/p?v=9"), PARAMETER, "{style} {text}");
    }
}

#[test]
fn every_style_in_fields_and_cookies_is_read_as_the_specification_writes_it() {
    for (explode, schema, text) in [
        (false, only("5", "type: integer"), "5"),
        (false, only(LIST_VALUE, LIST), "3,4"),
        (false, only(OBJECT_VALUE, OBJECT), "R,100,G,200"),
        (true, only(OBJECT_VALUE, OBJECT), "R=100,G=200"),
    ] {
        let of = |place: &str, name: &str, field: &str| {
            let plugin = one(&format!(
                "{{name: {name}, in: {place}, explode: {explode}, {schema}}}"
            ));
            send(
                &plugin,
                Exchange::get("http://api.test/p").with(place, field),
            )
        };
        let plugin = one(&format!(
            "{{name: x-v, in: header, explode: {explode}, {schema}}}"
        ));
        let by_field = |text: &str| {
            send(
                &plugin,
                Exchange::get("http://api.test/p").with("x-v", text),
            )
        };
        assert_eq!(
            (by_field(text), by_field("9")),
            (Ok(()), PARAMETER),
            "{text}"
        );
        if !explode {
            assert_eq!(
                of("cookie", "v", &format!("a=b; v={text}")),
                Ok(()),
                "{text}"
            );
            assert_eq!(of("cookie", "v", "v=9"), PARAMETER, "{text}");
        }
    }
}

#[test]
fn text_is_read_by_what_the_schema_lets_it_be() {
    let fits = |schema: &str, text: &str| {
        get(
            &one(&format!("{{name: v, in: query, schema: {{{schema}}}}}")),
            &format!("/p?v={text}"),
        )
    };

    assert_eq!(fits("type: string, enum: ['5']", "5"), Ok(()));
    assert_eq!(fits("type: integer", "5"), Ok(()));
    assert_eq!(fits("type: boolean", "true"), Ok(()));
    assert_eq!(fits("type: [integer, string], minLength: 1", "x"), Ok(()));
    assert_eq!(fits("type: [integer, 'null']", ""), Ok(()));
    assert_eq!(
        fits("oneOf: [{type: integer}, {enum: [auto]}]", "auto"),
        Ok(())
    );
    assert_eq!(
        fits("oneOf: [{type: integer}, {enum: [auto]}]", "7"),
        Ok(())
    );
    assert_eq!(fits("allOf: [{type: integer}, {minimum: 3}]", "3"), Ok(()));
    assert_eq!(fits("maxLength: 3", "abc"), Ok(()));
    assert_eq!(
        fits(
            "type: string, format: uuid",
            "095be615-a8ad-4c33-8e9c-c7612fbf6c9f"
        ),
        Ok(())
    );
    for (schema, text) in [
        ("type: integer", "x"),
        ("type: integer", "5.5"),
        ("type: integer", "+5"),
        ("type: integer", "%205"),
        ("type: integer", "0x10"),
        ("type: integer", "1e999"),
        ("type: integer", ""),
        ("type: boolean", "TRUE"),
        ("type: boolean", "1"),
        ("maxLength: 3", "abcd"),
        ("oneOf: [{type: integer}, {enum: [auto]}]", "manual"),
        ("type: string, format: uuid", "x"),
        ("type: string", "%ff"),
    ] {
        assert_eq!(fits(schema, text), PARAMETER, "{schema}: {text}");
    }
}

#[test]
fn a_parameter_that_is_there_twice_is_refused() {
    let plugin = one("{name: v, in: query, schema: {type: integer}}, {name: x-v, in: header, schema: {type: integer}}, {name: c, in: cookie, schema: {type: integer}}");
    let with_field = |name: &str, value: &str| Exchange::get("http://api.test/p").with(name, value);

    assert_eq!(get(&plugin, "/p?v=1&v=1"), PARAMETER);
    assert_eq!(get(&plugin, "/p?v=1&%76=1"), PARAMETER);
    assert_eq!(
        send(&plugin, with_field("x-v", "1").with("x-v", "2")),
        PARAMETER
    );
    assert_eq!(send(&plugin, with_field("cookie", "c=1; c=2")), PARAMETER);
    assert_eq!(
        send(&plugin, with_field("cookie", "c=1").with("cookie", "c=2")),
        PARAMETER
    );
    let deep =
        one("{name: v, in: query, style: deepObject, schema: {type: object, properties: {a: {}}}}");
    assert_eq!(get(&deep, "/p?v[a]=1&v[a]=2"), PARAMETER);
}

#[test]
fn what_is_required_has_to_be_there_and_the_answer_names_it() {
    let plugin = one("{name: limit, in: query, required: true, schema: {type: integer, maximum: 5}}, {name: x-a, in: header, required: true, schema: {}}, {name: c, in: cookie, required: true, schema: {}}, {name: e, in: query, allowEmptyValue: true, schema: {type: integer}}");

    let answer = answered(plugin.request(&mut Exchange::get("http://api.test/p?limit=4711")));
    assert_eq!(
        problem(&answer)["errors"],
        json!([
            {"parameter": "query.limit", "detail": "must be at most 5"},
            {"parameter": "header.x-a", "detail": "is missing"},
            {"parameter": "cookie.c", "detail": "is missing"},
        ])
    );
    assert!(!problem(&answer).to_string().contains("4711"));
    let right = |query: &str| {
        Exchange::get(&format!("http://api.test/p?{query}"))
            .with("x-a", "1")
            .with("cookie", "c=")
    };
    assert_eq!(send(&plugin, right("limit=5&e=")), Ok(()));
    let unknown = answered(plugin.request(&mut right("limit=5&hidden=1")));
    assert_eq!(
        problem(&unknown)["errors"][0]["detail"],
        "has 1 parameters that are not declared"
    );
}

#[test]
fn parameters_of_a_path_hold_for_its_operations_unless_declared_anew() {
    let plugin = with("{/p: {parameters: [{name: a, in: query, required: true, schema: {}}, {name: b, in: query, required: true, schema: {}}], get: {parameters: [{name: a, in: query, schema: {}}]}}}", "");

    assert_eq!(get(&plugin, "/p?b=1"), Ok(()));
    assert_eq!(get(&plugin, "/p?a=1"), PARAMETER);
}

#[test]
fn json_in_a_parameter_is_read_strictly() {
    let plugin = one("{name: q, in: query, content: {application/json: {schema: {type: object, properties: {a: {type: integer}}}}}}");

    assert_eq!(get(&plugin, "/p?q=%7B%22a%22:1%7D"), Ok(()));
    assert_eq!(get(&plugin, "/p?q=%7B%22a%22:%22x%22%7D"), PARAMETER);
    assert_eq!(get(&plugin, "/p?q=%7B%22a%22:1,%22a%22:1%7D"), PARAMETER);
    assert_eq!(get(&plugin, "/p?q=%7B"), PARAMETER);
}

#[test]
fn fields_that_the_specification_says_to_ignore_are_ignored() {
    let plugin = one("{name: Accept, in: header, required: true, schema: {enum: [x]}}, {name: Authorization, in: header, required: true, schema: {}}");

    assert_eq!(get(&plugin, "/p"), Ok(()));
}

proptest! {
    /// What is written in a style is read back, whatever is in it.
    #[test]
    fn a_list_survives_its_style(items in proptest::collection::vec("[ -~\u{e9}]{1,5}", 1..5)) {
        let value = serde_json::to_string(&items).unwrap();
        let written: Vec<String> = items.iter().map(|item| crate::query::encoded(item)).collect();
        let schema = only(&value, "type: array, items: {type: string}");
        for (style, between) in [("explode: true", "&v="), ("explode: false", ","), ("style: pipeDelimited, explode: false", "|")] {
            let plugin = one(&format!("{{name: v, in: query, {style}, {schema}}}"));
            // An item's own bar is an escape like that between items: the style cannot tell them apart.
            if style.contains("pipe") && items.iter().any(|item| item.contains('|')) {
                continue;
            }
            prop_assert_eq!(get(&plugin, &format!("/p?v={}", written.join(between))), Ok(()), "{}", style);
        }
        let plugin = at_path(&schema);
        if !items.iter().any(|item| item.starts_with('.')) {
            prop_assert_eq!(get(&plugin, &format!("/p/{}", written.join(","))), Ok(()));
        }
    }
}
