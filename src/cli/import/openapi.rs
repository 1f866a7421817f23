//! An OpenAPI document as routes: a rule for each operation, a pool for its servers, the `openapi` plugin before them.
//! It must not read the document itself; the plugin's own reader does.
//! Called by `import`.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;

use http::Uri;
use windrose_plugins::openapi::documents::{Documents, Flaw};
use windrose_plugins::openapi::outline::{outline, Outline, Outlined};
use windrose_plugins::openapi::paths::Template;
use windrose_plugins::openapi::servers::path_of;

/// What came of a document.
pub(super) struct Imported {
    pub(super) text: String,
    /// What has no equivalent.
    pub(super) notes: Vec<String>,
    pub(super) rules: usize,
}

/// Imports a document, which the configuration names like this.
///
/// # Errors
/// What is wrong with the document.
pub(super) fn imported(file: &Path, named: &str) -> Result<Imported, Flaw> {
    let documents = Documents::read(file)?;
    let outline = outline(&documents)?;
    let mut writer = Writer::of(outline);
    writer.head(named);
    writer.routes();
    writer.pools();
    writer.plugin(named);
    Ok(Imported {
        text: writer.text,
        rules: writer.outline.operations.len(),
        notes: writer.notes,
    })
}

struct Writer {
    outline: Outline,
    /// The name of routes, pools and the plugin.
    name: String,
    /// Different lists of servers; each has a route and a pool.
    groups: Vec<Vec<String>>,
    text: String,
    notes: Vec<String>,
}

/// A server of a list, as far as it says where it is.
struct Origin {
    secure: bool,
    host: String,
    port: u16,
}

impl Writer {
    fn of(outline: Outline) -> Writer {
        let mut groups: Vec<Vec<String>> = Vec::new();
        for operation in &outline.operations {
            if !groups.contains(&operation.servers) {
                groups.push(operation.servers.clone());
            }
        }
        let mut notes = outline.notes.clone();
        if outline.operations.iter().any(|one| one.method == "TRACE") {
            notes.push("TRACE is never forwarded; its operations are left out".to_owned());
        }
        for flaw in &outline.flaws {
            notes.push(format!(
                "the `openapi` plugin does not take the document and is left out: {flaw}"
            ));
        }
        Writer {
            name: name_of(&outline.title),
            groups,
            text: String::new(),
            notes,
            outline,
        }
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn head(&mut self, named: &str) {
        let title = remark(&self.outline.title);
        let named = remark(named);
        self.line(&format!("# {title}: imported from {named}."));
        self.line("listeners:");
        self.line("  - {name: web, bind: '127.0.0.1:8080'}");
    }

    fn named(&self, group: usize) -> String {
        match group {
            0 => self.name.clone(),
            later => format!("{}-{}", self.name, later + 1),
        }
    }

    fn routes(&mut self) {
        self.line("routes:");
        for (at, servers) in self.groups.clone().iter().enumerate() {
            let name = self.named(at);
            self.line(&format!("  - name: {name}"));
            let hosts = hosts(servers);
            if !hosts.is_empty() {
                self.line(&format!("    hosts: {}", quoted(&hosts)));
            }
            if self.outline.flaws.is_empty() {
                let plugin = format!("{}-document", self.name);
                self.line(&format!("    plugins: [{plugin}]"));
            }
            self.line("    rules:");
            let operations = std::mem::take(&mut self.outline.operations);
            for operation in operations
                .iter()
                .filter(|one| one.servers == *servers && one.method != "TRACE")
            {
                self.rule(operation, &operations, &name);
            }
            self.outline.operations = operations;
        }
    }

    fn rule(&mut self, operation: &Outlined, all: &[Outlined], pool: &str) {
        let words = [operation.id.as_deref(), operation.summary.as_deref()];
        let words: Vec<String> = words.into_iter().flatten().map(remark).collect();
        if !words.is_empty() {
            self.line(&format!("      # {}", words.join(": ")));
        }
        let mut methods = vec![operation.method.as_str()];
        let has_head = all
            .iter()
            .any(|one| one.path == operation.path && one.method == "HEAD");
        if operation.method == "GET" && !has_head {
            methods.push("HEAD");
        }
        let mut opening = "      - match:";
        for base in bases(&operation.servers) {
            let Ok(template) = Template::of(&format!("{base}{}", operation.path)) else {
                self.notes.push(format!(
                    "no rule for {} {}: its server's path cannot be one",
                    operation.method, operation.path
                ));
                continue;
            };
            let path = match template.path() {
                Some(path) => format!("{{exact: {}}}", json(&path)),
                None => format!("{{regex: {}}}", json(&template.pattern())),
            };
            for method in &methods {
                if !opening.is_empty() {
                    self.line(std::mem::take(&mut opening));
                }
                self.line(&format!("          - {{method: {method}, path: {path}}}"));
            }
        }
        if opening.is_empty() {
            self.line(&format!("        pool: {pool}"));
        }
    }

    fn pools(&mut self) {
        self.line("pools:");
        for (at, servers) in self.groups.clone().iter().enumerate() {
            let name = self.named(at);
            let origins: Vec<Origin> = servers.iter().filter_map(|url| origin(url)).collect();
            self.line("  # Where the service really is: the document knows where its clients go.");
            self.line(&format!("  - name: {name}"));
            match origins.first() {
                None => self.line("    endpoints: ['127.0.0.1:9000']"),
                Some(first) => self.endpoint(first),
            }
            for other in origins.iter().skip(1) {
                let known = &origins[0];
                if (&other.host, other.port) != (&known.host, known.port) {
                    self.notes.push(format!(
                        "pool {name} has the first server only; {}:{} is not in it",
                        other.host, other.port
                    ));
                }
            }
        }
    }

    fn endpoint(&mut self, origin: &Origin) {
        let (host, port) = (&origin.host, origin.port);
        match host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => self.line(&format!("    endpoints: ['[{address}]:{port}']")),
            Ok(address) => self.line(&format!("    endpoints: ['{address}:{port}']")),
            Err(_) if host == "localhost" => {
                self.line(&format!("    endpoints: ['127.0.0.1:{port}']"))
            }
            Err(_) => self.line(&format!(
                "    discovery: {{dns: {{name: {}, port: {port}}}}}",
                json(host)
            )),
        }
        if origin.secure {
            self.line(&format!("    tls: {{sni: {}}}", json(host)));
        }
    }

    fn plugin(&mut self, named: &str) {
        if !self.outline.flaws.is_empty() {
            return;
        }
        let name = format!("{}-document", self.name);
        self.line("plugins:");
        self.line(&format!("  {name}:"));
        self.line("    kind: openapi");
        self.line(&format!("    config: {{file: {}}}", json(named)));
    }
}

/// The names under which clients come.
fn hosts(servers: &[String]) -> BTreeSet<String> {
    let origins = servers.iter().filter_map(|url| origin(url));
    let names = origins.map(|origin| origin.host);
    names
        .filter(|host| host.parse::<IpAddr>().is_err())
        .collect()
}

fn origin(url: &str) -> Option<Origin> {
    let uri: Uri = url.split(['?', '#']).next()?.parse().ok()?;
    let secure = match uri.scheme_str()? {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    let host = uri.host()?.trim_matches(['[', ']']).to_ascii_lowercase();
    let is_host =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':');
    (!host.is_empty() && host.bytes().all(is_host)).then(|| Origin {
        secure,
        port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
        host,
    })
}

/// Paths that the servers' URLs begin with, without a slash at their end.
fn bases(servers: &[String]) -> BTreeSet<String> {
    let paths = servers.iter().map(|url| path_of(url).trim_end_matches('/'));
    let mut bases: BTreeSet<String> = paths
        .map(|path| match path.is_empty() || path.starts_with('/') {
            true => path.to_owned(),
            false => format!("/{path}"),
        })
        .collect();
    if bases.is_empty() {
        bases.insert(String::new());
    }
    bases
}

/// A name of objects: lower case letters, digits and dashes.
fn name_of(title: &str) -> String {
    let mut name = String::new();
    for c in title.chars() {
        match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9') => name.push(c),
            _ if !name.is_empty() && !name.ends_with('-') => name.push('-'),
            _ => {}
        }
    }
    name.truncate(40);
    let name = name.trim_end_matches('-');
    match name.is_empty() {
        true => "api".to_owned(),
        false => name.to_owned(),
    }
}

/// Text of the document in a remark: one line, and not for ever.
fn remark(text: &str) -> String {
    let plain: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let words: Vec<&str> = plain.split_whitespace().collect();
    words.join(" ").chars().take(120).collect()
}

/// Text as YAML and JSON both read it.
fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn quoted(texts: &BTreeSet<String>) -> String {
    let mut list = String::from("[");
    for (at, text) in texts.iter().enumerate() {
        let between = if at == 0 { "" } else { ", " };
        let _ = write!(list, "{between}{}", json(text));
    }
    list.push(']');
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_become_names() {
        for (title, name) in [
            (
                "Swagger Petstore - OpenAPI 3.0",
                "swagger-petstore-openapi-3-0",
            ),
            ("  --  ", "api"),
            ("Ünï", "n"),
        ] {
            assert_eq!(name_of(title), name);
        }
        assert!(name_of(&"a b ".repeat(100)).len() <= 40);
    }

    #[test]
    fn text_of_strangers_stays_in_its_remark() {
        assert_eq!(remark("a\n- b:\r\u{7} c"), "a - b: c");
        assert_eq!(json("a\"\n"), "\"a\\\"\\n\"");
    }

    #[test]
    fn servers_say_hosts_and_bases() {
        let servers: Vec<String> = [
            "https://A.test/v1/",
            "http://10.0.0.1:81/v2",
            "/v3",
            "v4",
            "ftp://x.test/v5",
        ]
        .map(str::to_owned)
        .into();

        assert_eq!(hosts(&servers).into_iter().collect::<Vec<_>>(), ["a.test"]);
        let bases: Vec<_> = bases(&servers).into_iter().collect();
        assert_eq!(bases, ["/v1", "/v2", "/v3", "/v4", "/v5"]);
    }
}
