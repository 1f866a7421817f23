//! A document made into paths with operations.
//! It must not know requests; whatever it does not support is a flaw that names its place.
//! Called while the plugin is built.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

use http::Method;
use jsonschema::{Draft, PatternCache, Registry};
use serde_json::{json, Value};

use super::documents::{Documents, Flaw, Node};
use super::operation::Operation;
use super::paths::{Paths, Template};
use super::prepare::{prepared, Side};
use crate::schema::beside::Beside;
use crate::schema::{Reading, Schema};

/// What compiles schemas and knows what else is wanted.
pub(super) struct Compiler<'c> {
    pub(super) documents: &'c Documents,
    /// Documents as the validator reads them.
    requests: &'c Registry<'c>,
    replies: &'c Registry<'c>,
    reading: &'c Reading,
    /// Whether responses are checked.
    pub(super) responses: bool,
    /// Whether answers are made of examples.
    pub(super) mock: bool,
    /// Which of the two is compiled now.
    side: Cell<Side>,
    /// Schemas that were compiled, by their address.
    known: RefCell<HashMap<(Side, String), Arc<Schema>>>,
}

impl Compiler<'_> {
    /// The schema at a node, compiled once for all that refer to it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn schema(&self, node: &Node<'_>) -> Result<Arc<Schema>, Flaw> {
        let is_reference = node
            .value
            .as_object()
            .is_some_and(|members| members.len() == 1);
        let target = match is_reference {
            true => self.documents.follow(node.clone())?,
            false => node.clone(),
        };
        let key = (self.side.get(), self.documents.address(&target));
        if let Some(known) = self.known.borrow().get(&key) {
            return Ok(known.clone());
        }
        let root = json!({"$ref": key.1});
        let documents = match key.0 {
            Side::Request => self.requests,
            Side::Response => self.replies,
        };
        let made = Schema::in_documents(&root, documents, self.reading).map_err(|wrong| {
            let at = match wrong.pointer.as_str() {
                "" => String::new(),
                pointer => format!(" (at {pointer})"),
            };
            self.documents.flaw(node, format!("{}{at}", wrong.fact))
        })?;
        let made = Arc::new(made);
        self.known.borrow_mut().insert(key, made.clone());
        Ok(made)
    }

    /// Runs something for schemas of responses.
    pub(super) fn for_responses<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = self.side.replace(Side::Response);
        let done = work();
        self.side.set(before);
        done
    }
}

/// What is wanted of a document.
pub(super) struct Wish {
    pub(super) formats: bool,
    pub(super) responses: bool,
    pub(super) mock: bool,
    /// In place of those of `servers`.
    pub(super) base_paths: Option<Vec<String>>,
}

/// The operations of a path, by method.
pub(super) struct Methods {
    /// The names of the path's parameters.
    pub(super) names: Vec<String>,
    place: String,
    pub(super) all: Vec<(Method, Arc<Operation>)>,
}

/// Compiles a document.
///
/// # Errors
/// What is wrong with it, the first twenty.
pub(super) fn compiled(documents: &Documents, wish: &Wish) -> Result<Paths<Methods>, Vec<Flaw>> {
    let one = |flaw: Flaw| vec![flaw];
    let is_old = is_old(documents).map_err(one)?;
    let draft = if is_old {
        Draft::Draft4
    } else {
        Draft::Draft202012
    };
    let side = |side: Side| -> Vec<(String, Value)> {
        let all = documents.all();
        all.map(|(address, value)| (address, prepared(value, side, is_old)))
            .collect()
    };
    let replies = if wish.responses {
        side(Side::Response)
    } else {
        Vec::new()
    };
    let requests = side(Side::Request);
    let registry = |all: &[(String, Value)]| {
        let pairs = all
            .iter()
            .map(|(address, value)| (address.clone(), draft.create_resource(value.clone())));
        let builder = Registry::new().draft(draft).retriever(nothing());
        let made = builder.extend(pairs).and_then(|builder| builder.prepare());
        made.map_err(|error| {
            one(documents.flaw(
                &documents.root(),
                crate::schema::shortened(&error.to_string()),
            ))
        })
    };
    let (requests, replies) = (registry(&requests)?, registry(&replies)?);
    let reading = Reading {
        draft: Some(draft),
        formats: wish.formats,
        others: Arc::new(nothing()),
        patterns: PatternCache::new(),
    };
    let compiler = Compiler {
        documents,
        requests: &requests,
        replies: &replies,
        reading: &reading,
        responses: wish.responses,
        mock: wish.mock,
        side: Cell::new(Side::Request),
        known: RefCell::default(),
    };
    paths(&compiler, wish)
}

/// Every file was read before; nothing else is.
fn nothing() -> Beside {
    Beside::of(std::path::Path::new("/nonexistent"), |document| document)
}

/// Whether it is OpenAPI 3.0.
///
/// # Errors
/// It is neither that nor 3.1, or says another dialect of schemas.
pub(super) fn is_old(documents: &Documents) -> Result<bool, Flaw> {
    let root = documents.root();
    let version = root.text("openapi").unwrap_or_default();
    if root.value.get("swagger").is_some() {
        return Err(documents.flaw(
            &root,
            "is a Swagger 2.0 document; convert it to OpenAPI 3 first",
        ));
    }
    let is_old = version.starts_with("3.0.");
    if !is_old && !version.starts_with("3.1.") {
        return Err(documents.flaw(&root, "`openapi` is not 3.0.x or 3.1.x"));
    }
    let known = [
        "https://json-schema.org/draft/2020-12/schema",
        "https://spec.openapis.org/oas/3.1/dialect/base",
    ];
    match root.text("jsonSchemaDialect") {
        Some(dialect) if !known.contains(&dialect) => Err(documents.flaw(
            &root,
            "`jsonSchemaDialect` is not that of 2020-12 nor OpenAPI's own",
        )),
        _ => Ok(is_old),
    }
}

fn paths(compiler: &Compiler<'_>, wish: &Wish) -> Result<Paths<Methods>, Vec<Flaw>> {
    let documents = compiler.documents;
    let root = documents.root();
    let mut flaws = Vec::new();
    let mut paths = Paths::default();
    for (path, item) in root.member("paths").iter().flat_map(Node::members) {
        if path.starts_with("x-") {
            continue;
        }
        if let Err(flaw) = path_item(compiler, wish, path, item, &mut paths) {
            flaws.push(flaw);
        }
        if flaws.len() >= MOST_FLAWS {
            break;
        }
        if paths.leaves().len() > MOST_PATHS {
            flaws.push(documents.flaw(
                &root,
                "has more than 10000 paths, those of each server counted",
            ));
            break;
        }
    }
    if flaws.is_empty() && paths.leaves().is_empty() {
        flaws.push(documents.flaw(&root, "has no paths"));
    }
    match flaws.is_empty() {
        true => Ok(paths),
        false => Err(flaws),
    }
}

fn path_item(
    compiler: &Compiler<'_>,
    wish: &Wish,
    path: &str,
    node: Node<'_>,
    paths: &mut Paths<Methods>,
) -> Result<(), Flaw> {
    let documents = compiler.documents;
    Template::of(path).map_err(|fact| documents.flaw(&node, fact))?;
    let item = documents.follow(node.clone())?;
    for (key, operation) in item.members() {
        let method = match key {
            "get" | "put" | "post" | "delete" | "options" | "head" | "patch" | "trace" => {
                Method::from_bytes(key.to_ascii_uppercase().as_bytes())
            }
            "parameters" | "servers" | "summary" | "description" | "$ref" => continue,
            key if key.starts_with("x-") => continue,
            _ => return Err(documents.flaw(&operation, "is not known in a path item")),
        };
        let method = method.map_err(|_| documents.flaw(&operation, "is no method"))?;
        let template = Template::of(path).map_err(|fact| documents.flaw(&node, fact))?;
        let made = Operation::of(&item, &operation, &template.names, compiler)?;
        let made = Arc::new(made);
        for base in bases(documents, &item, &operation, wish)? {
            let template = Template::of(&format!("{base}{path}"));
            let template = template.map_err(|fact| documents.flaw(&node, fact))?;
            let place = documents.place(&node);
            let methods = paths.leaf(&template, || Methods {
                names: template.names.clone(),
                place: place.clone(),
                all: Vec::new(),
            });
            if methods.place != place || methods.all.iter().any(|(known, _)| *known == method) {
                let fact = format!("fits the same paths as {}", methods.place);
                return Err(documents.flaw(&node, fact));
            }
            methods.all.push((method.clone(), made.clone()));
        }
    }
    Ok(())
}

/// The paths of the nearest `servers`, without a slash at their end.
fn bases(
    documents: &Documents,
    item: &Node<'_>,
    operation: &Node<'_>,
    wish: &Wish,
) -> Result<Vec<String>, Flaw> {
    if let Some(bases) = &wish.base_paths {
        let trimmed = bases
            .iter()
            .map(|base| base.trim_end_matches('/').to_owned());
        return Ok(trimmed.collect());
    }
    let root = documents.root();
    let servers = [operation, item, &root]
        .into_iter()
        .find_map(|of| of.member("servers"));
    let mut bases = Vec::new();
    for server in servers.iter().flat_map(Node::items) {
        for url in super::servers::urls(documents, &server)? {
            let path = super::servers::path_of(&url).trim_end_matches('/');
            let path = match path.is_empty() || path.starts_with('/') {
                true => path.to_owned(),
                false => format!("/{path}"),
            };
            if !bases.contains(&path) {
                bases.push(path);
            }
        }
    }
    if bases.is_empty() {
        bases.push(String::new());
    }
    Ok(bases)
}

const MOST_FLAWS: usize = 20;
const MOST_PATHS: usize = 10_000;
