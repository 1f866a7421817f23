//! JSON Schemas: compiled while a plugin is built, asked about values of strangers in bounded time and memory.
//! It must not know messages; where a schema stands is told by whoever compiles it.
//! Used by `json_schema` and `openapi`.

pub(crate) mod beside;
pub(crate) mod bounds;
pub(crate) mod finding;
mod meter;
pub(crate) mod refusal;
pub(crate) mod responses;

use std::sync::Arc;

use jsonschema::{
    Draft, PatternCache, PatternOptions, Registry, Retrieve, ValidationError, Validator,
};
use serde_json::Value;

pub(crate) use finding::Finding;
use meter::{Meter, Metered, Seen};

/// A schema, ready to be asked.
pub(crate) struct Schema(Validator<Metered>);

/// What a schema says of a value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// It fits.
    Fits,
    /// It does not: some of what is wrong, and whether there is more.
    Unfit(Vec<Finding>, bool),
    /// To find out takes longer than it may.
    TooCostly,
}

/// How schemas are read.
#[derive(Clone)]
pub(crate) struct Reading {
    /// The dialect; that of `$schema`, or 2020-12, where it is left out.
    pub(crate) draft: Option<Draft>,
    /// Whether formats that are known are rules.
    pub(crate) formats: bool,
    /// Where other documents come from.
    pub(crate) others: Arc<dyn Retrieve>,
    /// Patterns that were compiled, for schemas that share them.
    pub(crate) patterns: PatternCache,
}

impl Schema {
    /// Compiles a schema of its own that has this address.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn of(schema: &Value, address: &str, reading: &Reading) -> Result<Schema, Wrong> {
        let options = reading.options().with_base_uri(address);
        let options = options.with_retriever(Handed(reading.others.clone()));
        let built = options.build(schema);
        built.map(Schema).map_err(|error| Wrong::of(&error))
    }

    /// Compiles a schema that stands in documents that were read before.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn in_documents(
        schema: &Value,
        documents: &Registry<'_>,
        reading: &Reading,
    ) -> Result<Schema, Wrong> {
        let options = reading.options().with_registry(documents).offline();
        let built = options.build(schema);
        built.map(Schema).map_err(|error| Wrong::of(&error))
    }

    /// Asks about a value that was read from so many bytes; of what is wrong with it, at most `most` things are said.
    pub(crate) fn check(&self, value: &Value, bytes: usize, most: usize) -> Said {
        let meter = Meter::of(LOOKS + LOOKS_PER_BYTE * bytes as u64);
        let fits = self.0.is_valid(Seen::of(value, &meter));
        if meter.is_out() {
            return Said::TooCostly;
        }
        match fits {
            true => Said::Fits,
            false => self.unfit(value, most),
        }
    }

    /// What is wrong. The validator collects everything there is, also below branches that do not fit, which can be exponentially
    /// more than the value; so it gets a small meter of its own, and nothing is said where that runs out.
    fn unfit(&self, value: &Value, most: usize) -> Said {
        if most == 0 {
            return Said::Unfit(Vec::new(), false);
        }
        let meter = Meter::of(LOOKS_FOR_ERRORS);
        let mut errors = self.0.iter_errors(Seen::of(value, &meter));
        if meter.is_out() {
            return Said::Unfit(Vec::new(), true);
        }
        let found: Vec<Finding> = errors
            .by_ref()
            .take(most)
            .map(|error| Finding::of(&error))
            .collect();
        let is_more = errors.next().is_some();
        Said::Unfit(found, is_more)
    }
}

impl Reading {
    fn options(&self) -> jsonschema::ValidationOptions<'_, Arc<dyn Retrieve>, Metered> {
        let options = jsonschema::options_for::<Metered>()
            .should_validate_formats(self.formats)
            // Linear in the text, whatever pattern; those that look around or back are refused when the schema is read.
            .with_pattern_options(PatternOptions::regex().size_limit(PATTERN))
            .with_pattern_cache(self.patterns.clone())
            // A stranger's pattern is not compiled to see whether it is one.
            .with_format("regex", |_| true);
        match self.draft {
            Some(draft) => options.with_draft(draft),
            None => options,
        }
    }
}

/// The options take a retriever by value.
struct Handed(Arc<dyn Retrieve>);

impl Retrieve for Handed {
    fn retrieve(
        &self,
        address: &jsonschema::Uri<String>,
    ) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        self.0.retrieve(address)
    }
}

/// What is wrong with a schema.
#[derive(Debug, Clone)]
pub(crate) struct Wrong {
    /// A JSON pointer into it; empty where it is not known.
    pub(crate) pointer: String,
    /// What.
    pub(crate) fact: String,
}

impl Wrong {
    fn of(error: &ValidationError<'_>) -> Wrong {
        use jsonschema::error::ValidationErrorKind as Kind;
        let fact = match error.kind() {
            Kind::Format { format } if format == "regex" => {
                "a pattern is none that is read in linear time: patterns that look around or refer back are not taken".to_owned()
            }
            Kind::Referencing(error) => shortened(&error.to_string()),
            _ => shortened(&error.to_string()),
        };
        Wrong {
            pointer: error.instance_path().as_str().to_owned(),
            fact,
        }
    }
}

/// Text of an error, not longer than a line or three.
pub(crate) fn shortened(text: &str) -> String {
    let text = text.replace(['\n', '\r'], " ");
    match text.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Looks that any check may take, and further ones for each byte of the value.
const LOOKS: u64 = 1_000_000;
const LOOKS_PER_BYTE: u64 = 128;
/// Looks while errors are collected, each of which takes some 300 bytes.
const LOOKS_FOR_ERRORS: u64 = 20_000;
/// Bytes of a compiled pattern.
const PATTERN: usize = 1 << 20;

#[cfg(test)]
mod tests;
