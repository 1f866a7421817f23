//! The servers of a document: their URLs with variables filled in.
//! It must not know operations.
//! Called by the compiler for base paths, and by `windrose import openapi` for hosts and endpoints.

use serde_json::Value;

use super::documents::{Documents, Flaw, Node};

/// The URLs of a server: one for each way to fill its variables, of which those without `enum` have their default only.
///
/// # Errors
/// What is wrong with it.
pub fn urls(documents: &Documents, server: &Node<'_>) -> Result<Vec<String>, Flaw> {
    let flaw = |fact: &str| documents.flaw(server, fact);
    let url = server
        .text("url")
        .ok_or_else(|| flaw("a server needs `url`"))?;
    let mut urls = vec![String::new()];
    let mut rest = url;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after
            .split_once('}')
            .ok_or_else(|| flaw("a brace is not closed"))?;
        let variable = server.member("variables").and_then(|all| all.member(name));
        let variable =
            variable.ok_or_else(|| flaw("a variable of its `url` is not in `variables`"))?;
        let default = variable.text("default");
        let default =
            default.ok_or_else(|| documents.flaw(&variable, "a variable needs `default`"))?;
        let mut values = vec![default];
        let listed = variable.value.get("enum").and_then(Value::as_array);
        for value in listed.into_iter().flatten().filter_map(Value::as_str) {
            if !values.contains(&value) {
                values.push(value);
            }
        }
        urls = urls
            .iter()
            .flat_map(|url| {
                values
                    .iter()
                    .map(move |value| format!("{url}{before}{value}"))
            })
            .collect();
        if urls.len() > MOST_URLS {
            return Err(flaw("its variables make more than 64 URLs"));
        }
        rest = after;
    }
    urls.iter_mut().for_each(|url| url.push_str(rest));
    Ok(urls)
}

/// The path of a URL, which may be relative.
pub fn path_of(url: &str) -> &str {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("", |at| &rest[at..]),
        None => url,
    };
    match path {
        "." | "./" => "",
        path => path,
    }
}

const MOST_URLS: usize = 64;
