//! Which method answers which HTTP method and path, as the options of a descriptor set say (`google.api.http`).
//! It must not know requests.
//! Read when a configuration is; asked for each request.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::Method as Verb;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor,
    Value,
};

use super::path::{Captured, Template};

/// A method that can be called.
#[derive(Debug)]
pub(super) struct Method {
    /// `/package.Service/Method`.
    pub(super) path: String,
    pub(super) input: MessageDescriptor,
    pub(super) output: MessageDescriptor,
    /// Whether it answers with any number of messages.
    pub(super) streams: bool,
}

/// What the body of a request is.
#[derive(Debug, PartialEq)]
pub(super) enum Body {
    /// There is none that counts.
    Nothing,
    /// The message.
    Whole,
    /// This field of it.
    Field(FieldDescriptor),
}

/// One way to call a method.
#[derive(Debug)]
pub(super) struct Binding {
    pub(super) method: Arc<Method>,
    verb: Verb,
    pub(super) template: Template,
    pub(super) body: Body,
    /// The field of the response that is sent; all of it if there is none.
    pub(super) answer: Option<FieldDescriptor>,
}

/// All of them, those that say more first.
#[derive(Debug)]
pub(super) struct Bindings {
    pub(super) pool: DescriptorPool,
    pub(super) all: Vec<Binding>,
}

impl Bindings {
    /// Reads the options of these services, or of all if none is named. `unannotated` binds methods without options to
    /// `POST /package.Service/Method`.
    ///
    /// # Errors
    /// What is wrong, each with the method it is about.
    pub(super) fn of(
        pool: DescriptorPool,
        services: &[String],
        unannotated: bool,
    ) -> Result<Bindings, Vec<String>> {
        let mut wrong = Vec::new();
        let mut all = Vec::new();
        let is_meant = |name: &str| services.is_empty() || services.iter().any(|one| one == name);
        for service in pool.services().filter(|one| is_meant(one.full_name())) {
            for method in service.methods().filter(|one| !one.is_client_streaming()) {
                match bindings(&pool, &method, unannotated) {
                    Ok(found) => all.extend(found),
                    Err(why) => wrong.push(format!("{}: {why}", method.full_name())),
                }
            }
        }
        all.sort_by_key(|one| (one.verb.to_string(), one.template.shape()));
        for pair in all.windows(2) {
            let [one, other] = pair else { continue };
            if one.verb == other.verb && one.template.shape() == other.template.shape() {
                let both = (&one.method.path, &other.method.path);
                wrong.push(format!(
                    "{} and {} are bound to the same paths",
                    both.0, both.1
                ));
            }
        }
        match wrong.is_empty() {
            true => Ok(Bindings { pool, all }),
            false => Err(wrong),
        }
    }

    /// The binding for a request, by its place, and what the path sets.
    pub(super) fn find(&self, verb: &Verb, path: &str) -> Option<(usize, Captured)> {
        let mut fitting = self
            .all
            .iter()
            .enumerate()
            .filter(|(_, one)| one.verb == *verb);
        fitting.find_map(|(at, one)| Some((at, one.template.matches(path)?)))
    }

    /// Methods that are bound.
    pub(super) fn methods(&self) -> usize {
        let paths: BTreeSet<&str> = self.all.iter().map(|one| &*one.method.path).collect();
        paths.len()
    }
}

fn bindings(
    pool: &DescriptorPool,
    method: &MethodDescriptor,
    unannotated: bool,
) -> Result<Vec<Binding>, String> {
    let about = Arc::new(Method {
        path: format!("/{}/{}", method.parent_service().full_name(), method.name()),
        input: method.input(),
        output: method.output(),
        streams: method.is_server_streaming(),
    });
    let options = method.options();
    let rule = pool
        .get_extension_by_name("google.api.http")
        .filter(|one| options.has_extension(one));
    let rule = rule.map(|one| options.get_extension(&one).into_owned());
    let Some(Value::Message(rule)) = rule else {
        return match unannotated {
            false => Ok(Vec::new()),
            true => Ok(vec![Binding {
                verb: Verb::POST,
                template: Template::parse(&about.path)?,
                body: Body::Whole,
                answer: None,
                method: about,
            }]),
        };
    };
    let more = rule.get_field_by_name("additional_bindings");
    let more = more.as_deref().and_then(Value::as_list).unwrap_or_default();
    let more = more.iter().filter_map(Value::as_message);
    let mut all = vec![binding(&rule, &about)?];
    for rule in more.take(MOST_ADDITIONAL) {
        all.push(binding(rule, &about)?);
    }
    Ok(all)
}

fn binding(rule: &DynamicMessage, method: &Arc<Method>) -> Result<Binding, String> {
    let (verb, path) = pattern(rule)?;
    let template = Template::parse(&path).map_err(|why| format!("\"{path}\": {why}"))?;
    for field in template.fields() {
        let found = field_of(&method.input, field);
        let found = found.ok_or_else(|| format!("\"{path}\": no field is \"{field}\""))?;
        if found.is_list() || found.is_map() || !is_text(&found.kind()) {
            return Err(format!(
                "\"{path}\": \"{field}\" cannot be a part of a path"
            ));
        }
    }
    let body = match &*text(rule, "body") {
        "" => Body::Nothing,
        "*" => Body::Whole,
        name => {
            let field = method.input.get_field_by_name(name);
            Body::Field(field.ok_or_else(|| format!("body: no field is \"{name}\""))?)
        }
    };
    let answer = match &*text(rule, "response_body") {
        "" => None,
        name => {
            let field = method.output.get_field_by_name(name);
            Some(field.ok_or_else(|| format!("response_body: no field is \"{name}\""))?)
        }
    };
    Ok(Binding {
        method: method.clone(),
        verb,
        template,
        body,
        answer,
    })
}

/// The HTTP method and path of a rule.
fn pattern(rule: &DynamicMessage) -> Result<(Verb, String), String> {
    for (name, verb) in [
        ("get", Verb::GET),
        ("put", Verb::PUT),
        ("post", Verb::POST),
        ("delete", Verb::DELETE),
        ("patch", Verb::PATCH),
    ] {
        if rule.has_field_by_name(name) {
            return Ok((verb, text(rule, name)));
        }
    }
    let custom = rule.get_field_by_name("custom");
    let custom = custom.as_deref().and_then(Value::as_message);
    let Some(custom) = custom.filter(|_| rule.has_field_by_name("custom")) else {
        return Err("its rule has no method and path".to_owned());
    };
    let kind = text(custom, "kind");
    let verb = Verb::from_bytes(kind.as_bytes());
    let verb = verb.map_err(|_| format!("custom: \"{kind}\" is no method of HTTP"))?;
    Ok((verb, text(custom, "path")))
}

fn text(message: &DynamicMessage, field: &str) -> String {
    let value = message.get_field_by_name(field);
    let text = value.as_deref().and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

/// The field at the end of a path of fields, all of the others being messages.
fn field_of(message: &MessageDescriptor, path: &str) -> Option<FieldDescriptor> {
    let mut message = message.clone();
    let mut names = path.split('.').peekable();
    while let Some(name) = names.next() {
        let field = message.get_field_by_name(name)?;
        if names.peek().is_none() {
            return Some(field);
        }
        message = match field.kind() {
            Kind::Message(inner) if !field.is_list() && !field.is_map() => inner,
            _ => return None,
        };
    }
    None
}

/// Whether a value of this kind can be written as a text.
fn is_text(kind: &Kind) -> bool {
    match kind {
        Kind::Message(message) => message.full_name().starts_with("google.protobuf."),
        _ => true,
    }
}

const MOST_ADDITIONAL: usize = 100;
