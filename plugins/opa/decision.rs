//! What a policy decided: the result of the data API.
//! It must not know the request.
//! Part of `opa`.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::DENIED;
use crate::contract::{field_name, Answer, Reply, Side};
use crate::json::strict_object;

type Fields = Vec<(HeaderName, HeaderValue)>;

/// A decision.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Decision {
    /// With fields for the service.
    Allow(Fields),
    Deny(Refusal),
    /// The policy has no word for it.
    Undefined,
}

/// How it is refused.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Refusal {
    status: Option<u16>,
    pub(super) headers: Fields,
    body: Option<Bytes>,
}

impl Refusal {
    pub(super) fn answer(&self) -> Answer {
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        Answer {
            status: self.status.unwrap_or(DENIED.status),
            headers: self.headers.clone(),
            body: self.body.clone().map(|body| (text, body)),
            ..Answer::of(&DENIED)
        }
    }
}

impl Decision {
    /// Reads a response.
    ///
    /// # Errors
    /// Why it is no decision, without what is in it.
    pub(super) fn of(reply: &Reply) -> Result<Decision, String> {
        if reply.status != 200 {
            return Err(format!("the agent answered with status {}", reply.status));
        }
        // A member that is there twice could be both.
        let mut answer = strict_object(&reply.body)
            .map_err(|_| "the agent's answer is no JSON object".to_owned())?;
        match answer.remove("result") {
            None => Ok(Decision::Undefined),
            Some(Value::Bool(true)) => Ok(Decision::Allow(Vec::new())),
            Some(Value::Bool(false)) => Ok(Decision::Deny(Refusal::default())),
            Some(Value::Object(result)) => Decision::of_object(&result),
            Some(_) => Err("the result is neither true, false nor an object".to_owned()),
        }
    }

    fn of_object(result: &Map<String, Value>) -> Result<Decision, String> {
        let headers = fields(result.get("headers"))?;
        match result.get("allow") {
            Some(Value::Bool(true)) => Ok(Decision::Allow(headers)),
            Some(Value::Bool(false)) => Ok(Decision::Deny(Refusal {
                status: status(result.get("status"))?,
                headers,
                body: body(result.get("body"))?,
            })),
            // A package without the rule answers with its other rules.
            None => Ok(Decision::Undefined),
            Some(_) => Err("`allow` in the result is neither true nor false".to_owned()),
        }
    }
}

fn fields(headers: Option<&Value>) -> Result<Fields, String> {
    let headers = match headers {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(headers)) => headers,
        Some(_) => return Err("`headers` in the result is no object".to_owned()),
    };
    let mut all = Vec::new();
    let mut size = 0;
    for (name, value) in headers {
        // A name of the agent's is not repeated in logs unless it is one.
        let name = field_name(Side::Response, "", name)
            .map_err(|_| "`headers` in the result has a name that cannot be set".to_owned())?;
        let values = match value {
            Value::Array(values) => values.as_slice(),
            one => std::slice::from_ref(one),
        };
        for value in values {
            let value = value
                .as_str()
                .and_then(|text| HeaderValue::from_str(text).ok());
            let value =
                value.ok_or_else(|| format!("the field {name} in the result is no plain text"))?;
            size += name.as_str().len() + value.len();
            all.push((name.clone(), value));
        }
    }
    match size > LARGEST {
        true => Err("`headers` in the result has more than 16 KiB".to_owned()),
        false => Ok(all),
    }
}

fn status(status: Option<&Value>) -> Result<Option<u16>, String> {
    let Some(status) = status.filter(|status| !status.is_null()) else {
        return Ok(None);
    };
    let number = status
        .as_u64()
        .and_then(|status| u16::try_from(status).ok());
    match number.filter(|status| (300..=599).contains(status)) {
        Some(status) => Ok(Some(status)),
        None => Err("`status` in the result is not from 300 to 599".to_owned()),
    }
}

fn body(body: Option<&Value>) -> Result<Option<Bytes>, String> {
    match body {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() <= LONGEST => Ok(Some(text.clone().into())),
        Some(Value::String(_)) => Err("`body` in the result is longer than 64 KiB".to_owned()),
        Some(_) => Err("`body` in the result is no text".to_owned()),
    }
}

const LARGEST: usize = 16 << 10;
const LONGEST: usize = 64 << 10;
