//! What a body may be: media types, and the schema of those that are looked into.
//! It must not know whose body it is; types that are no JSON and no form are judged by their name only.
//! Made while the plugin is built, for requests and for responses.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::documents::{Flaw, Node};
use super::shape::{form, Member, Shape};
use super::Compiler;
use crate::media::Kind;
use crate::query::{decoded, pairs};
use crate::schema::Schema;

/// The media types of a body.
pub(super) struct Content {
    /// The most special first.
    types: Vec<(Kind, String, Media)>,
}

/// A media type.
pub(super) struct Media {
    pub(super) looks: Looks,
}

/// What is looked at in a body.
pub(super) enum Looks {
    /// That it is there.
    Presence,
    /// JSON of this schema; any where there is none.
    Json(Option<Arc<Schema>>),
    /// A form, read by this shape.
    Form(Box<(Arc<Schema>, Shape)>),
}

impl Content {
    /// Compiles what stands under `content`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn of(content: &Node<'_>, compiler: &Compiler<'_>) -> Result<Content, Flaw> {
        let documents = compiler.documents;
        let mut types = Vec::new();
        for (name, media) in content.members() {
            let bare = name.split(';').next().unwrap_or_default().trim();
            let kind = Kind::of(bare).filter(|_| bare == "*/*" || !bare.starts_with('*'));
            let kind = match (kind, bare) {
                // Both stars, which patterns of settings do not have.
                (_, "*/*") => Kind::Star(String::new(), String::new()),
                (Some(kind), _) => kind,
                (None, _) => return Err(documents.flaw(&media, "is not a media type")),
            };
            let looks = looks(&bare.to_ascii_lowercase(), &media, compiler)?;
            types.push((kind, bare.to_ascii_lowercase(), Media { looks }));
        }
        let weight = |name: &str| match name {
            "*/*" => 2,
            name if name.contains('*') => 1,
            _ => 0,
        };
        types.sort_by_key(|(_, name, _)| weight(name));
        Ok(Content { types })
    }

    /// The entry for a type in lower case.
    pub(super) fn media(&self, kind: &str) -> Option<&Media> {
        let found = self.types.iter().find(|(pattern, _, _)| pattern.is(kind));
        found.map(|(_, _, media)| media)
    }
}

fn looks(name: &str, media: &Node<'_>, compiler: &Compiler<'_>) -> Result<Looks, Flaw> {
    let schema = media.member("schema");
    let is_json = name == "application/json" || name.ends_with("+json");
    match schema {
        schema if is_json => {
            let schema = schema.map(|schema| compiler.schema(&schema)).transpose()?;
            Ok(Looks::Json(schema))
        }
        Some(schema) if name == "application/x-www-form-urlencoded" => {
            for (_, encoding) in media.member("encoding").iter().flat_map(Node::members) {
                let keys = ["style", "explode", "allowReserved"];
                let is_usual = encoding.text("style").is_none_or(|style| style == "form")
                    && encoding.value.get("explode") != Some(&Value::Bool(false));
                if keys.iter().any(|key| encoding.value.get(key).is_some()) && !is_usual {
                    let fact = "a form's members are read in the style form with `explode: true`; others are not supported";
                    return Err(compiler.documents.flaw(&encoding, fact));
                }
            }
            let shape = form(compiler.documents, &schema)?;
            if !matches!(shape, Shape::Object(..)) {
                return Err(compiler.documents.flaw(&schema, "a form is an object"));
            }
            Ok(Looks::Form(Box::new((compiler.schema(&schema)?, shape))))
        }
        _ => Ok(Looks::Presence),
    }
}

/// The object that a form stands for.
///
/// # Errors
/// It is not UTF-8, or has a member twice that is no list.
pub(super) fn form_value(body: &[u8], shape: &Shape) -> Result<Value, FormFlaw> {
    let Shape::Object(members, others) = shape else {
        return Err(FormFlaw::Malformed);
    };
    let text = std::str::from_utf8(body).map_err(|_| FormFlaw::Malformed)?;
    let plain =
        |text: &str| String::from_utf8(decoded(text).into_owned()).map_err(|_| FormFlaw::Malformed);
    let mut object = Map::new();
    let mut lists: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (name, text) in pairs(text) {
        let (name, text) = (plain(name)?, plain(text)?);
        let kinds = match members.get(&name) {
            Some(Member::List(kinds)) => {
                lists.entry(name).or_default().push(kinds.value(&text));
                continue;
            }
            Some(Member::One(kinds)) => *kinds,
            None => *others,
        };
        if object.insert(name, kinds.value(&text)).is_some() {
            return Err(FormFlaw::Twice);
        }
    }
    let lists = lists.into_iter();
    object.extend(lists.map(|(name, items)| (name, Value::Array(items))));
    Ok(Value::Object(object))
}

/// What is wrong with a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FormFlaw {
    Malformed,
    Twice,
}
