//! What a document says about routes: its operations with their paths, servers and names, and what else stands in it.
//! It must not know how routes are written.
//! Read by `windrose import openapi`.

use super::compiler::{compiled, is_old, Wish};
use super::documents::{Documents, Flaw, Node};
use super::paths::Template;
use super::servers::urls;

/// A document's operations.
#[derive(Debug)]
pub struct Outline {
    /// The title of the API.
    pub title: String,
    /// Its operations, in an order in which the first path that fits is the one that the specification means.
    pub operations: Vec<Outlined>,
    /// What it says that routes do not.
    pub notes: Vec<String>,
    /// Why `openapi` would not take it; empty where it would.
    pub flaws: Vec<Flaw>,
}

/// An operation.
#[derive(Debug)]
pub struct Outlined {
    /// The path's template.
    pub path: String,
    /// The method.
    pub method: String,
    /// Its `operationId`.
    pub id: Option<String>,
    /// Its `summary`, or that of its path.
    pub summary: Option<String>,
    /// The URLs of its servers.
    pub servers: Vec<String>,
}

/// Reads what a document says about routes.
///
/// # Errors
/// What is wrong with it.
pub fn outline(documents: &Documents) -> Result<Outline, Flaw> {
    is_old(documents)?;
    let root = documents.root();
    let mut operations = Vec::new();
    for (path, node) in root.member("paths").iter().flat_map(Node::members) {
        if path.starts_with("x-") {
            continue;
        }
        let template = Template::of(path).map_err(|fact| documents.flaw(&node, fact))?;
        let item = documents.follow(node)?;
        for (key, operation) in item.members().filter(|(key, _)| METHODS.contains(key)) {
            let own = operation.text("summary").or_else(|| item.text("summary"));
            let outlined = Outlined {
                path: path.to_owned(),
                method: key.to_ascii_uppercase(),
                id: operation.text("operationId").map(str::to_owned),
                summary: own.map(str::to_owned),
                servers: servers(documents, [&operation, &item, &root])?,
            };
            operations.push((template.rank(), outlined));
        }
    }
    operations.sort_by(|(one, _), (other, _)| one.cmp(other));
    if operations.is_empty() {
        return Err(documents.flaw(&root, "has no operations"));
    }
    let title = root.member("info").and_then(|info| info.text("title"));
    let wish = Wish {
        formats: true,
        responses: false,
        mock: false,
        base_paths: None,
    };
    Ok(Outline {
        title: title.unwrap_or("api").to_owned(),
        operations: operations.into_iter().map(|(_, one)| one).collect(),
        notes: notes(&root),
        flaws: compiled(documents, &wish).err().unwrap_or_default(),
    })
}

/// The URLs of the nearest `servers`.
fn servers(documents: &Documents, levels: [&Node<'_>; 3]) -> Result<Vec<String>, Flaw> {
    let nearest = levels.into_iter().find_map(|level| level.member("servers"));
    let mut all = Vec::new();
    for server in nearest.iter().flat_map(Node::items) {
        all.extend(urls(documents, &server)?);
    }
    Ok(all)
}

fn notes(root: &Node<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    let schemes = root
        .member("components")
        .and_then(|components| components.member("securitySchemes"));
    for (name, scheme) in schemes.iter().flat_map(Node::members) {
        let kind = (scheme.text("type"), scheme.text("scheme"));
        let plugin = match kind {
            (Some("apiKey"), _) => "`key_auth`",
            (Some("http"), Some("basic")) => "`basic_auth`",
            (Some("http"), Some("bearer")) => "`jwt` or `oauth2_introspection`",
            (Some("oauth2" | "openIdConnect"), _) => "`jwt` or `oauth2_introspection`",
            (Some("mutualTLS"), _) => "`client_certificates` of the listener",
            _ => "`auth` or `forward_auth`",
        };
        notes.push(format!("security \"{name}\" is not imported: use {plugin}"));
    }
    if root.value.get("webhooks").is_some() {
        notes.push("webhooks are requests to others and have no route".to_owned());
    }
    notes
}

const METHODS: [&str; 8] = [
    "get", "put", "post", "delete", "options", "head", "patch", "trace",
];
