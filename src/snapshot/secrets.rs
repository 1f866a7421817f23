//! Texts that must not be shown: what `${file:…}` and secret variables put into the configuration.
//! It must not know where they were put.
//! Filled by `config`; used wherever something of a snapshot is shown.

use serde::de::DeserializeOwned;
use serde::Serialize;
use serde_json::Value;

/// The texts, longest first, so that one inside another leaves nothing of it.
#[derive(Debug, Clone, Default)]
pub struct Secrets(Vec<String>);

impl Secrets {
    /// Shorter texts than four bytes hide nothing, and would be found everywhere.
    pub fn new<'t>(texts: impl Iterator<Item = &'t str>) -> Secrets {
        let mut all = Vec::new();
        for text in texts.filter(|text| text.len() >= SHORTEST) {
            // Some words quote values.
            all.push(text.escape_debug().to_string());
            all.push(text.to_owned());
        }
        all.sort_by(|one, other| other.len().cmp(&one.len()).then(one.cmp(other)));
        all.dedup();
        Secrets(all)
    }

    /// The text without secrets.
    pub fn hidden(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.0 {
            if text.contains(secret) {
                text = text.replace(secret, "***");
            }
        }
        text
    }

    /// The same data without secrets in its texts; keys stay.
    ///
    /// # Errors
    /// Data that is not plain.
    pub fn hidden_in<T: Serialize + DeserializeOwned>(&self, data: T) -> Result<T, String> {
        if self.0.is_empty() {
            return Ok(data);
        }
        let hidden = self.json(&data).and_then(serde_json::from_value);
        hidden.map_err(|error| format!("cannot be shown without secrets: {error}"))
    }

    /// Data as JSON, without secrets in its texts.
    ///
    /// # Errors
    /// Data that is not plain.
    pub fn json(&self, data: &impl Serialize) -> serde_json::Result<Value> {
        let mut value = serde_json::to_value(data)?;
        self.hide(&mut value);
        Ok(value)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn hide(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.hidden(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.hide(item)),
            Value::Object(entries) => entries.values_mut().for_each(|item| self.hide(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

const SHORTEST: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_whole_quoted_and_one_in_another() {
        let secrets = Secrets::new(["abcd", "abcdef", "say \"hi\"", "x"].into_iter());

        assert_eq!(secrets.hidden("Bearer abcdef, abcd x"), "Bearer ***, *** x");
        assert_eq!(
            secrets.hidden(&format!("is {:?}", "say \"hi\"")),
            "is \"***\""
        );
        assert_eq!(
            secrets.hidden_in(vec!["1 abcd".to_owned()]),
            Ok(vec!["1 ***".to_owned()])
        );
    }
}
