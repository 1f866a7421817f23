//! What a request costs: a number, what an expression comes to, or what a field of its response says.
//! It must not count anything.
//! Used by `rate_limit` and `quota`.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use schemars::{json_schema, JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::Deserialize;

use crate::cel::subject::{Subject, VOCABULARY};
use crate::contract::{field_name, Consumers, Problem, Request, Side};
use crate::expression::{Expression, Outcome};

/// A cost as operators write it: `5`, an expression, or `{response_header: X-Cost, default: 1}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CostSetting {
    /// So many uses.
    Fixed(u64),
    /// What an expression comes to.
    Expression(String),
    /// What a field of the response says.
    Response(FromResponse),
}

/// A cost that the response tells.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FromResponse {
    /// The field, with a whole number up to 1 000 000 000.
    pub response_header: String,
    /// What is taken before the response is there, and stays where it does not say; 1 to 1 000 000. Default: 1.
    #[serde(default = "one")]
    pub default: u64,
}

fn one() -> u64 {
    1
}

impl<'de> Deserialize<'de> for CostSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<CostSetting, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = CostSetting;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number, an expression, or {response_header: NAME}")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<CostSetting, E> {
                Ok(CostSetting::Fixed(number))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<CostSetting, E> {
                Ok(CostSetting::Expression(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CostSetting, A::Error> {
                FromResponse::deserialize(MapAccessDeserializer::new(map))
                    .map(CostSetting::Response)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl JsonSchema for CostSetting {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Cost".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let response = generator.subschema_for::<FromResponse>();
        json_schema!({
            "oneOf": [
                { "type": "integer", "minimum": 1, "maximum": MOST },
                { "type": "string", "maxLength": crate::expression::LONGEST_EXPRESSION },
                response,
            ]
        })
    }
}

/// A cost that is ready.
pub(crate) enum Cost {
    Fixed(u64),
    Said(Box<Expression>, Arc<Consumers>),
    Told { name: HeaderName, before: u64 },
}

/// What a response says of its cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// So many.
    Uses(u64),
    /// Nothing.
    Nothing,
    /// Something that is no cost.
    Unreadable,
}

impl Cost {
    /// What the setting `cost` says.
    pub(crate) fn of(
        setting: Option<&CostSetting>,
        consumers: &Arc<Consumers>,
        problems: &mut Vec<Problem>,
    ) -> Cost {
        let mut within = |path: &str, uses: u64, most: u64| {
            if !(1..=most).contains(&uses) {
                let fact = format!("must be from 1 to {most}, found {uses}");
                problems.push(Problem::at(path, fact).help("leave it out for 1"));
            }
        };
        match setting {
            None => Cost::Fixed(1),
            Some(CostSetting::Fixed(uses)) => {
                within("cost", *uses, MOST);
                Cost::Fixed(*uses)
            }
            Some(CostSetting::Expression(text)) => match Expression::of_value(text, &VOCABULARY) {
                Ok(expression) => Cost::Said(expression.into(), consumers.clone()),
                Err(fact) => {
                    let fact = format!("the expression cannot be used: {fact}");
                    problems.push(Problem::at("cost", fact).help(REMEDY));
                    Cost::Fixed(1)
                }
            },
            Some(CostSetting::Response(told)) => {
                within("cost.default", told.default, MOST_BEFORE);
                let name = field_name(
                    Side::Response,
                    "cost.response_header",
                    &told.response_header,
                );
                match name {
                    Ok(name) => Cost::Told {
                        name,
                        before: told.default,
                    },
                    Err(problem) => {
                        problems.push(problem);
                        Cost::Fixed(1)
                    }
                }
            }
        }
    }

    /// What is taken before the request goes on.
    ///
    /// # Errors
    /// The expression comes to nothing that is a cost.
    pub(crate) fn before(&self, request: &Request<'_>) -> Result<u64, String> {
        let (expression, consumers) = match self {
            Cost::Fixed(uses) | Cost::Told { before: uses, .. } => return Ok(*uses),
            Cost::Said(expression, consumers) => (expression, consumers),
        };
        let why = match expression.value(&Subject::of(request, consumers)) {
            Ok(Outcome::Number(number)) => match u64::try_from(number) {
                Ok(uses) if uses <= MOST => return Ok(uses),
                _ => format!("{number} is no cost"),
            },
            Ok(Outcome::Text(_) | Outcome::Truth(_)) => "it is no number".to_owned(),
            Err(why) => why.0,
        };
        Err(format!("cost \"{}\": {why}", expression.text))
    }

    /// What the response says; `None` where it is not asked.
    pub(crate) fn told(&self, headers: &HeaderMap) -> Option<Told> {
        let Cost::Told { name, .. } = self else {
            return None;
        };
        let mut values = headers.get_all(name).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Some(match headers.contains_key(name) {
                true => Told::Unreadable,
                false => Told::Nothing,
            });
        };
        let digits = value.as_bytes().trim_ascii();
        let is_number = (1..=10).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
        let text = std::str::from_utf8(digits).ok().filter(|_| is_number);
        let uses = text.and_then(|text| text.parse().ok());
        Some(
            uses.filter(|uses| *uses <= MOST)
                .map_or(Told::Unreadable, Told::Uses),
        )
    }

    /// Whether a response tells it.
    pub(crate) fn is_told(&self) -> bool {
        matches!(self, Cost::Told { .. })
    }
}

/// The most that a request may cost.
pub(crate) const MOST: u64 = 1_000_000_000;
const MOST_BEFORE: u64 = 1_000_000;
const REMEDY: &str = "write an expression as the plugin `cel` knows them, which comes to a whole number, such as \"request.method == 'POST' ? 5 : 1\"";

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(setting: &str) -> (Cost, Vec<Problem>) {
        let mut problems = Vec::new();
        let setting: CostSetting = serde_json::from_str(setting).unwrap();
        let cost = Cost::of(Some(&setting), &Arc::default(), &mut problems);
        (cost, problems)
    }

    #[test]
    fn responses_tell_whole_numbers_and_nothing_else() {
        let (cost, problems) = cost(r#"{"response_header": "X-Cost"}"#);
        assert!(problems.is_empty());
        let told = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-cost", value.parse().unwrap());
            }
            cost.told(&headers).unwrap()
        };

        assert_eq!(told(&[]), Told::Nothing);
        assert_eq!(told(&[" 12 "]), Told::Uses(12));
        assert_eq!(told(&["0"]), Told::Uses(0));
        assert_eq!(told(&["1000000000"]), Told::Uses(MOST));
        for wrong in [
            &["1000000001"][..],
            &["-1"],
            &["1.5"],
            &["+1"],
            &[""],
            &["1", "1"],
            &["1, 1"],
            &["99999999999999999999"],
        ] {
            assert_eq!(told(wrong), Told::Unreadable, "{wrong:?}");
        }
    }

    #[test]
    fn wrong_costs_are_refused_where_they_stand() {
        for (setting, path) in [
            ("0", "cost"),
            ("1000000001", "cost"),
            ("\"1 +\"", "cost"),
            ("\"nobody\"", "cost"),
            (r#"{"response_header": "a b"}"#, "cost.response_header"),
            (
                r#"{"response_header": "x-cost", "default": 0}"#,
                "cost.default",
            ),
        ] {
            let (_, problems) = cost(setting);
            assert_eq!(problems[0].path, path, "{setting}");
        }
        for setting in [
            "[]",
            "1.5",
            "-1",
            r#"{"response_header": "a", "x": 1}"#,
            "{}",
        ] {
            assert!(
                serde_json::from_str::<CostSetting>(setting).is_err(),
                "{setting}"
            );
        }
    }
}
