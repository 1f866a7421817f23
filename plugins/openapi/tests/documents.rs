use super::*;

fn problems(document: &str) -> Vec<String> {
    let found = Kit::new().problems(&PLUGIN, &format!("document: {document}"));
    found
        .into_iter()
        .map(|problem| {
            assert_eq!(problem.path, "document");
            problem.fact
        })
        .collect()
}

fn of_paths(paths: &str) -> Vec<String> {
    problems(&format!("{{openapi: 3.1.0, paths: {paths}}}"))
}

#[test]
fn documents_of_other_kinds_are_refused() {
    for (document, fact) in [
        ("{swagger: '2.0'}", "Swagger 2.0"),
        ("{openapi: 4.0.0}", "not 3.0.x or 3.1.x"),
        ("{}", "not 3.0.x or 3.1.x"),
        ("[]", "not 3.0.x or 3.1.x"),
        ("{openapi: 3.1.0, paths: {}}", "has no paths"),
        (
            "{openapi: 3.1.0, jsonSchemaDialect: 'urn:x', paths: {/a: {get: {}}}}",
            "jsonSchemaDialect",
        ),
    ] {
        let found = problems(document);
        assert!(found[0].contains(fact), "{document}: {found:?}");
    }
}

/// What is wrong with a parameter, and words of what is said.
const PARAMETERS: [(&str, &str); 17] = [
    ("{name: a, in: body, schema: {}}", "`in` is one of"),
    ("{in: query, schema: {}}", "needs `name`"),
    ("{name: a, in: query}", "either `schema` or `content`"),
    (
        "{name: a, in: query, schema: {}, content: {}}",
        "either `schema` or `content`",
    ),
    (
        "{name: a, in: query, content: {text/plain: {schema: {}}}}",
        "other types are not supported",
    ),
    (
        "{name: a, in: query, style: label, schema: {}}",
        "is not one for parameters in query",
    ),
    (
        "{name: a, in: query, style: deepObject, schema: {type: string}}",
        "for objects",
    ),
    (
        "{name: a, in: query, style: pipeDelimited, explode: true, schema: {type: array}}",
        "`explode: false` only",
    ),
    (
        "{name: a, in: cookie, schema: {type: array}}",
        "have no form with `explode: true`",
    ),
    (
        "{name: a, in: query, schema: {type: [array, string]}}",
        "does not tell",
    ),
    (
        "{name: a, in: query, schema: {type: array, items: {type: array}}}",
        "has no form in text",
    ),
    (
        "{name: a, in: query, schema: {type: object, properties: {b: {type: object}}}}",
        "has no form in text",
    ),
    (
        "{name: a, in: path, required: true, schema: {}}",
        "is not in the path",
    ),
    ("{name: a, in: path, schema: {}}", "`required: true`"),
    (
        "{name: a, in: query, schema: {}}, {name: a, in: query, schema: {}}",
        "declared twice",
    ),
    ("{name: a b, in: header, schema: {}}", "no header field's"),
    ("{name: a, in: query, explode: 1, schema: {}}", "`explode`"),
];

/// What is wrong with paths.
const PATHS: [(&str, &str); 15] = [
        ("{a: {get: {}}}", "begins with"),
        ("{'/{a}/{a}': {get: {}}}", "stands in it twice"),
        ("{'/{a': {get: {}}}", "not closed"),
        ("{'/a}': {get: {}}}", "not opened"),
        ("{'/{a}{b}': {get: {}}}", "nothing stands between"),
        ("{'/{a}': {get: {}}}", "\"a\" is not declared"),
        ("{/a/../b: {get: {}}}", "no path keeps"),
        ("{/a: {gett: {}}}", "not known in a path item"),
        ("{/a: {post: {requestBody: {}}}}", "needs `content`"),
        ("{/a: {post: {requestBody: {content: {json: {}}}}}}", "not a media type"),
        ("{/a: {post: {requestBody: {content: {application/x-www-form-urlencoded: {schema: {type: array}}}}}}}", "a form is an object"),
        ("{/a: {post: {requestBody: {content: {application/x-www-form-urlencoded: {schema: {type: object}, encoding: {b: {style: deepObject}}}}}}}}", "not supported"),
        ("{/a: {post: {requestBody: {content: {application/json: {schema: {properties: {b: {pattern: '(?=a)'}}}}}}}}}", "linear time"),
        ("{/a: {get: {servers: [{url: '/{v}'}]}}}", "not in `variables`"),
        ("{/a: {get: {servers: [{}]}}}", "needs `url`"),
];

#[test]
fn what_is_not_supported_names_its_place() {
    let parameter =
        |parameter: &str| of_paths(&format!("{{/p: {{get: {{parameters: [{parameter}]}}}}}}"));
    let place = "document#/paths/~1p/get/parameters/0";
    for (written, fact) in PARAMETERS {
        let found = parameter(written);
        assert!(found[0].contains(fact), "{written}: {found:?}");
        assert!(found[0].starts_with("document#/paths/~1p/get"), "{found:?}");
    }
    assert!(parameter("{name: a, in: query, schema: {type: strng}}")[0]
        .starts_with(&format!("{place}/schema: ")));
}

#[test]
fn paths_that_are_wrong_name_their_place() {
    for (paths, fact) in PATHS {
        let found = of_paths(paths);
        assert!(
            found.iter().any(|found| found.contains(fact)),
            "{paths}: {found:?}"
        );
    }
    let same = of_paths("{'/p/{a}': {get: {parameters: [{name: a, in: path, required: true, schema: {}}]}}, '/p/{b}': {post: {parameters: [{name: b, in: path, required: true, schema: {}}]}}}");
    assert!(same[0].contains("fits the same paths"), "{same:?}");
    let statuses = Kit::new().problems(&PLUGIN, "document: {openapi: 3.1.0, paths: {/a: {get: {responses: {'2x0': {}}}}}}\nresponses: report");
    assert!(statuses[0].fact.contains("is no status"), "{statuses:?}");
}

#[test]
fn references_that_lead_nowhere_or_in_a_circle_are_found() {
    for (reference, fact) in [
        ("'#/components/parameters/none'", "leads nowhere"),
        ("'#/paths/~1p/get/parameters/0'", "in a circle"),
        ("'https://example.test/a.yaml'", "nothing is fetched"),
        ("'/etc/hostname'", "no file beside"),
        ("'../../a.yaml'", "out of the document's folder"),
        ("'none.yaml#/a'", "cannot be read"),
    ] {
        let found = of_paths(&format!(
            "{{/p: {{get: {{parameters: [{{$ref: {reference}}}]}}}}}}"
        ));
        assert!(found[0].contains(fact), "{reference}: {found:?}");
        assert!(
            found[0].starts_with("document#/paths/~1p/get/parameters/0"),
            "{found:?}"
        );
    }
    let schema = of_paths("{/p: {post: {requestBody: {content: {application/json: {schema: {$ref: '#/components/schemas/none'}}}}}}}");
    assert!(
        schema[0]
            .starts_with("document#/paths/~1p/post/requestBody/content/application~1json/schema"),
        "{schema:?}"
    );
}

#[test]
fn schemas_that_refer_to_each_other_are_compiled_and_asked() {
    let plugin = Kit::new().instance(&PLUGIN, "document: {openapi: 3.1.0, paths: {/pets: {post: {requestBody: {content: {application/json: {schema: {$ref: '#/components/schemas/A'}}}}}}}, components: {schemas: {A: {type: object, properties: {b: {$ref: '#/components/schemas/B'}}}, B: {type: array, items: {$ref: '#/components/schemas/A'}}}}}");

    assert_eq!(
        send(&plugin, post("application/json", r#"{"b": [{"b": []}]}"#)),
        Ok(())
    );
    assert_eq!(
        send(&plugin, post("application/json", r#"{"b": [{"b": {}}]}"#)),
        Err((422, "openapi.mismatch"))
    );
}

#[test]
fn a_parameter_whose_schema_holds_itself_is_refused_quickly() {
    let found = problems("{openapi: 3.1.0, paths: {/p: {get: {parameters: [{name: a, in: query, schema: {$ref: '#/components/schemas/A'}}]}}}, components: {schemas: {A: {allOf: [{$ref: '#/components/schemas/A'}]}}}}");

    assert!(found[0].contains("of itself"), "{found:?}");
}

/// Found in a document of others: its shape was looked for without end.
#[test]
fn a_parameter_whose_lists_hold_themselves_is_refused_quickly() {
    for schema in [
        "{type: array, items: {$ref: '#/components/schemas/A'}}",
        "{$ref: '#/components/schemas/A'}",
        "{$ref: '#/components/schemas/B'}",
    ] {
        let found = problems(&format!("{{openapi: 3.1.0, paths: {{/p: {{get: {{parameters: [{{name: a, in: query, schema: {schema}}}]}}}}}}, components: {{schemas: {{A: {{type: object, properties: {{b: {{type: array, items: {{$ref: '#/components/schemas/A'}}}}}}}}, B: {{type: array, items: {{$ref: '#/components/schemas/B'}}}}}}}}}}"));

        assert!(found[0].contains("has no form in text"), "{found:?}");
    }
}

#[test]
fn files_beside_the_document_are_part_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    std::fs::create_dir(folder.path().join("parts")).unwrap();
    put(
        "api.yaml",
        "openapi: 3.0.3\npaths:\n  /pets: {$ref: 'parts/pets.yaml#/item'}\n",
    );
    put("parts/pets.yaml", "item:\n  post:\n    parameters:\n      - $ref: '../common.json#/limit'\n    requestBody: {content: {application/json: {schema: {$ref: '#/Pet'}}}}\n    responses: {200: {description: ok}}\nPet: {type: object, nullable: true, properties: {tag: {$ref: ../common.json#/tag}}}\n");
    put(
        "common.json",
        r#"{"limit": {"name": "limit", "in": "query", "schema": {"type": "integer"}}, "tag": {"type": "string"}}"#,
    );
    let plugin = Kit::new()
        .in_folder(folder.path())
        .instance(&PLUGIN, "file: api.yaml");

    assert_eq!(
        send(&plugin, post("application/json", r#"{"tag": "a"}"#)),
        Ok(())
    );
    assert_eq!(send(&plugin, post("application/json", "null")), Ok(()));
    assert_eq!(
        send(&plugin, post("application/json", r#"{"tag": 1}"#)),
        Err((422, "openapi.mismatch"))
    );
    let mut limited = post("application/json", "{}");
    limited.request.set_uri("/pets?limit=x".parse().unwrap());
    assert_eq!(send(&plugin, limited), PARAMETER);
}

#[test]
fn schemas_of_3_0_mean_what_they_meant() {
    let of = |schema: &str, body: &str| {
        let text = format!("document: {{openapi: 3.0.3, paths: {{/pets: {{post: {{requestBody: {{content: {{application/json: {{schema: {schema}}}}}}}}}}}}}}}");
        send(
            &Kit::new().instance(&PLUGIN, &text),
            post("application/json", body.to_owned()),
        )
    };

    assert_eq!(of("{type: string, nullable: true}", "null"), Ok(()));
    assert!(of("{type: string}", "null").is_err());
    assert!(of("{type: integer, minimum: 5, exclusiveMinimum: true}", "5").is_err());
    assert_eq!(
        of(
            "{type: object, properties: {nullable: {type: boolean}}}",
            r#"{"nullable": true}"#
        ),
        Ok(())
    );
    // What is data stays as it is.
    assert_eq!(
        of(
            "{enum: [{type: string, nullable: true}]}",
            r#"{"type": "string", "nullable": true}"#
        ),
        Ok(())
    );
}

#[test]
fn hostile_documents_are_refused_before_they_cost_much() {
    let folder = tempfile::tempdir().unwrap();
    let kit = Kit::new().in_folder(folder.path());
    let refused = |text: &str| {
        std::fs::write(folder.path().join("api.yaml"), text).unwrap();
        kit.problems(&PLUGIN, "file: api.yaml")
    };
    let mut laughs = "openapi: 3.1.0\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        laughs += &format!("a{level}: &a{level} [{}]\n", [&*before; 10].join(", "));
    }

    assert_eq!(refused(&laughs).len(), 1);
    assert_eq!(
        refused(&format!("openapi: 3.1.0\npaths: {}", "{a: ".repeat(500))).len(),
        1
    );
    assert_eq!(refused(&"[".repeat(100_000)).len(), 1);
    assert_eq!(
        refused("openapi: 3.1.0\npaths: {/a: {get: {}}, /a: {get: {}}}").len(),
        1
    );
    assert_eq!(
        refused(&format!("openapi: 3.1.0\nx: {}", "y".repeat(17 << 20))).len(),
        1
    );
    // Schemas made of the next twice, and so on.
    let mut doubling = "openapi: 3.1.0\npaths: {/p: {get: {parameters: [{name: a, in: query, schema: {$ref: '#/s/S0'}}]}}}\ns:\n".to_owned();
    for at in 0..28 {
        doubling += &format!("  S{at}: {{allOf: [{{$ref: '#/s/S{next}'}}, {{$ref: '#/s/S{next}'}}, {{$ref: '#/s/S{next}'}}]}}\n", next = at + 1);
    }
    assert!(refused(&format!("{doubling}  S28: {{type: integer}}\n"))[0]
        .fact
        .contains("more than 10000"));
    // Many things wrong: the first twenty are told.
    let wrong: String = (0..100).map(|at| format!("  /a{at}: {{x: 1}}\n")).collect();
    assert_eq!(
        refused(&format!("openapi: 3.1.0\npaths:\n{wrong}")).len(),
        20
    );
}

proptest! {
    #[test]
    fn any_template_is_taken_apart_or_refused(text in "[/{}a-c.%*é-]{0,20}") {
        if let Ok(template) = super::super::paths::Template::of(&text) {
            let pattern = regex::Regex::new(&format!("^{}$", template.pattern())).unwrap();
            if let Some(path) = template.path() {
                prop_assert!(pattern.is_match(&path));
                let mut paths = super::super::paths::Paths::default();
                paths.leaf(&template, || ());
                prop_assert!(paths.find(&path).is_some());
            }
        }
    }
}
