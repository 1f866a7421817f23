use std::collections::BTreeMap;

use cel::common::types::CelString;
use cel::common::value::{CowVal, Val};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::Value as Json;

use super::*;

const WORDS: Vocabulary = Vocabulary {
    variables: &[
        "request.method",
        "request.headers",
        "source.namespace",
        "claims",
    ],
    maps: &["request.headers"],
    trees: &["claims"],
    loops: false,
};

struct Caller;

impl VariableResolver for Caller {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let text = match variable {
            "request.method" => "POST",
            "source.namespace" => "shop",
            "request.headers" => {
                let map = std::collections::HashMap::from([("x-tier", "gold")]);
                return cel::to_value(map).ok()?.try_into().ok().map(CowVal::Owned);
            }
            _ => return None,
        };
        Some(CowVal::owned(CelString::from(text)))
    }
}

fn holds(text: &str) -> Result<bool, String> {
    let expression = Expression::new(text, &WORDS)?;
    expression.holds(&Caller).map_err(|why| why.0)
}

#[test]
fn expressions_read_their_variables() {
    assert_eq!(holds("request.method == 'POST'"), Ok(true));
    assert_eq!(holds("source.namespace in ['web', 'edge']"), Ok(false));
    assert_eq!(holds("request.headers['x-tier'] == 'gold'"), Ok(true));
    assert_eq!(
        holds("has(request.headers.nope) && request.headers.nope == 'x'"),
        Ok(false)
    );
    assert_eq!(holds("source.namespace.startsWith('sh')"), Ok(true));
}

#[test]
fn what_is_not_there_has_no_outcome() {
    let error = holds("request.headers['x-none'] == 'a'").unwrap_err();
    assert!(error.contains("x-none"), "{error}");
}

#[test]
fn what_an_expression_asks_for_is_known_before() {
    let asks = |text: &str| Expression::new(text, &WORDS).unwrap();

    let one = asks("request.headers['a'] == claims.b.c || has(claims.d)");

    assert!(one.asks("request.headers") && one.asks("claims") && one.asks_any("request."));
    assert!(!one.asks("request.method") && !one.asks_any("source."));
}

#[test]
fn only_what_is_known_and_bounded_is_taken() {
    for (text, fact) in [
        ("request.method ==", ""),
        ("request.verb == 'GET'", "`request.verb` is not known"),
        ("now == 1", "`now` is not known"),
        ("request.method", "neither true nor false"),
        ("request.headers.a", "neither true nor false"),
        ("1 + 1", "neither true nor false"),
        ("[1, 2].all(x, x > 0)", "loops"),
        ("request.path.matches('a+')", "`matches` is not known"),
        ("has(request.method)", "not known here"),
        ("{'a': 1} == {'a': 1}", "maps"),
        ("request.headers.a.b == 'c'", "not known here"),
    ] {
        let error = Expression::new(text, &WORDS).map(drop).unwrap_err();
        assert!(error.contains(fact), "{text}: {error}");
    }
    let long = vec!["source.namespace == 'a'"; 60].join(" || ");
    let error = Expression::new(&long, &WORDS).map(drop).unwrap_err();
    assert!(error.contains("parts"), "{error}");
    let longer = vec!["source.namespace == 'a'"; 100].join(" || ");
    let error = Expression::new(&longer, &WORDS).map(drop).unwrap_err();
    assert!(error.contains("2048"), "{error}");
}

#[test]
fn no_text_is_too_deep_for_a_stack() {
    let nested = |open: &str, close: &str, depth: usize| {
        format!("{}true{}", open.repeat(depth), close.repeat(depth))
    };
    for (open, close) in [("(", ")"), ("!", ""), ("false ? false : ", ""), ("!(", ")")] {
        let deep = nested(open, close, 100);
        let error = Expression::new(&deep, &WORDS).map(drop).unwrap_err();
        assert!(error.contains("deep"), "{deep}: {error}");
        assert_eq!(holds(&nested(open, close, 16)), Ok(true), "{open}");
    }
    let signs = format!("1 == {}1", "- ".repeat(300));
    assert!(Expression::new(&signs, &WORDS).is_err());
    let sum = |parts| format!("size('a') == {}", vec!["1"; parts].join(" - "));
    assert!(Expression::new(&sum(90), &WORDS).is_err());
    let sum = sum(30);
    let small = std::thread::Builder::new()
        .name("small".to_owned())
        .stack_size(2 << 20);
    let outcome = small.spawn(move || holds(&sum)).unwrap().join().unwrap();
    assert_eq!(outcome, Ok(false));
}

#[test]
fn loops_are_bounded_where_they_are_known() {
    let with = Vocabulary {
        loops: true,
        ..WORDS
    };
    let new = |text: &str| Expression::new(text, &with).map(drop);

    assert_eq!(new("claims.a.exists(x, x == request.method)"), Ok(()));
    assert_eq!(new("claims.a.exists_one(x, x.b == 1 && claims.c)"), Ok(()));
    assert!(new("claims.a.map(x, x)").is_err());
    assert!(new("claims.a.filter(x, true) == []").is_err());
    assert!(new("claims.a.all(x, claims.b.all(y, x == y))").is_err());
    assert!(new("claims.a.all(x, true) && x == 1").is_err());
}

/// A value of the conformance cases: `{"int": "1"}`, `{"list": […]}` and so on.
struct Given<'j>(&'j Json);

impl Given<'_> {
    fn parts(&self) -> (&str, &Json) {
        let (kind, value) = self.0.as_object().unwrap().iter().next().unwrap();
        (kind, value)
    }
}

impl Serialize for Given<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let (kind, value) = self.parts();
        let text = || value.as_str().unwrap();
        match kind {
            "bool" => to.serialize_bool(value.as_bool().unwrap()),
            "int" => to.serialize_i64(text().parse().unwrap()),
            "uint" => to.serialize_u64(text().parse().unwrap()),
            "double" => to.serialize_f64(text().parse().unwrap()),
            "string" => to.serialize_str(text()),
            "list" => {
                let mut all = to.serialize_seq(None)?;
                for item in value.as_array().unwrap() {
                    all.serialize_element(&Given(item))?;
                }
                all.end()
            }
            "map" => {
                let mut all = to.serialize_map(None)?;
                for pair in value.as_array().unwrap() {
                    all.serialize_entry(&Given(&pair[0]), &Given(&pair[1]))?;
                }
                all.end()
            }
            _ => to.serialize_unit(),
        }
    }
}

struct Bound(BTreeMap<String, Box<dyn Val>>);

impl VariableResolver for Bound {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        Some(CowVal::Borrowed(&**self.0.get(variable)?))
    }
}

/// What becomes of a case: `None` where an expression of this kind is not taken here.
fn outcome(case: &Json) -> Option<Result<Value, String>> {
    let text = case["expr"].as_str().unwrap();
    let given = case["given"].as_object();
    let names: Vec<&'static str> = given
        .into_iter()
        .flatten()
        .map(|(name, _)| &*name.clone().leak())
        .collect();
    let names: &'static [&'static str] = names.leak();
    let vocabulary = Vocabulary {
        variables: names,
        maps: &[],
        trees: names,
        loops: true,
    };
    let program = compiled(text).ok()?;
    Judge::of(&vocabulary).node(program.expression()).ok()?;
    let bound = given.into_iter().flatten().map(|(name, value)| {
        let value: Box<dyn Val> = cel::to_value(Given(value)).unwrap().try_into().unwrap();
        (name.clone(), value)
    });
    let bound = Bound(bound.collect());
    Some(evaluated(&program, &bound).map_err(|why| why.0))
}

/// Cases of Google's that come out otherwise here, each with the reason.
const LEFT_OUT: &[(&str, &str)] = &[];

#[test]
fn conformance_cases_of_what_is_known_come_out_as_they_should() {
    let cases: Vec<Json> =
        serde_json::from_str(include_str!("../vectors/cel_conformance.json")).unwrap();
    let (mut differ, mut asked) = (Vec::new(), 0);

    for case in &cases {
        let Some(outcome) = outcome(case) else {
            continue;
        };
        asked += 1;
        let is_right = match (&outcome, &case["is"]) {
            (Err(_), is) => is.get("error").is_some(),
            (Ok(_), is) if is.get("error").is_some() => false,
            (Ok(value), is) => *value == cel::to_value(Given(is)).unwrap(),
        };
        if !is_right {
            differ.push(case["name"].as_str().unwrap());
        }
    }

    let left_out: Vec<&str> = LEFT_OUT.iter().map(|(name, _)| *name).collect();
    assert_eq!(differ, left_out);
    assert!(
        asked > 300,
        "{asked} of {} are of what is known",
        cases.len()
    );
}
