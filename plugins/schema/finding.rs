//! What is wrong with a value: where, and what was expected of it.
//! It must not repeat values, which may be secrets; names of members stand in pointers only.
//! Made from the validator's errors, shown to clients.

use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use jsonschema::ValidationError;
use serde_json::Value;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// A JSON pointer into the value (RFC 6901).
    pub(crate) pointer: String,
    /// What, in words of the schema.
    pub(crate) detail: String,
}

impl Finding {
    /// What an error says.
    pub(super) fn of(error: &ValidationError<'_>) -> Finding {
        Finding {
            pointer: cut(error.instance_path().as_str(), 256),
            detail: cut(&detail(error.kind()), 256),
        }
    }
}

fn cut(text: &str, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

fn detail(kind: &Kind) -> String {
    match kind {
        Kind::AdditionalItems { limit } => format!("has more than {limit} items"),
        Kind::AdditionalProperties { .. } | Kind::UnevaluatedProperties { .. } => {
            "has members that are not allowed".to_owned()
        }
        Kind::UnevaluatedItems { .. } => "has items that are not allowed".to_owned(),
        Kind::AnyOf { .. } | Kind::OneOfNotValid { .. } => {
            "fits none of the alternatives".to_owned()
        }
        Kind::OneOfMultipleValid { .. } => "fits more than one of the alternatives".to_owned(),
        Kind::Not { .. } | Kind::FalseSchema => "is not allowed".to_owned(),
        Kind::Constant { .. } => "is not the value that is expected".to_owned(),
        Kind::Enum { .. } => "is none of the values that are allowed".to_owned(),
        Kind::Contains => "has not the items that it needs".to_owned(),
        Kind::UniqueItems => "has an item twice".to_owned(),
        Kind::PropertyNames { .. } => "has a member whose name is not allowed".to_owned(),
        Kind::Required { property } => match property {
            Value::String(name) => format!("lacks the member \"{name}\""),
            _ => "lacks a member".to_owned(),
        },
        Kind::Type { kind } => format!("must be {}", types(kind)),
        Kind::Format { format } => format!("is not of the format \"{format}\""),
        Kind::Pattern { .. } => "does not match the pattern".to_owned(),
        Kind::ContentEncoding { content_encoding } => format!("is not in {content_encoding}"),
        Kind::ContentMediaType { content_media_type } => format!("is not {content_media_type}"),
        bound => bound_of(bound),
    }
}

fn bound_of(kind: &Kind) -> String {
    match kind {
        Kind::Minimum { limit } => format!("must be at least {limit}"),
        Kind::Maximum { limit } => format!("must be at most {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("must be more than {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("must be less than {limit}"),
        Kind::MultipleOf { multiple_of } => format!("must be a multiple of {multiple_of}"),
        Kind::MinLength { limit } => format!("must have at least {limit} characters"),
        Kind::MaxLength { limit } => format!("must have at most {limit} characters"),
        Kind::MinItems { limit } => format!("must have at least {limit} items"),
        Kind::MaxItems { limit } => format!("must have at most {limit} items"),
        Kind::MinProperties { limit } => format!("must have at least {limit} members"),
        Kind::MaxProperties { limit } => format!("must have at most {limit} members"),
        _ => "does not fit".to_owned(),
    }
}

fn types(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Single(one) => one.to_string(),
        TypeKind::Multiple(several) => {
            let names: Vec<String> = several.iter().map(|one| one.to_string()).collect();
            names.join(" or ")
        }
    }
}
