//! Writes a crate with a plugin of one's own: code, test, bench, a program that runs it, and a guide.
//! It must not know any proxy that runs; what it writes is text with names put in.
//! Called by `cli`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use windrose_plugins::PluginDef;

/// What is done about plugins.
#[derive(Subcommand)]
pub(super) enum Act {
    /// Write a crate with a plugin that builds and passes its tests.
    New(Wish),
}

/// What is wanted.
#[derive(Args)]
pub(super) struct Wish {
    /// The plugin's kind: lower case letters and `_`, such as `shop_hours`.
    name: String,
    /// Where to write it. Default: a folder of that name.
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// A checkout of Windrose to build with. Default: the released crates of this version.
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,
}

/// Carries it out.
pub(super) fn run(act: &Act, plugins: &[PluginDef]) -> ExitCode {
    let Act::New(wish) = act;
    match write(wish, plugins) {
        Ok(folder) => {
            let folder = folder.display();
            println!("{folder}: a plugin of kind `{}`. Next:", wish.name);
            println!("  cd {folder} && cargo test");
            println!("  cargo run -- plugins {}", wish.name);
            println!("  cargo run -- check -c windrose.yaml");
            ExitCode::SUCCESS
        }
        Err(refusal) => {
            eprintln!("{}\n  help: {}", refusal.fact, refusal.help);
            ExitCode::from(2)
        }
    }
}

/// Why nothing was written.
struct Refusal {
    fact: String,
    help: String,
}

fn refusal(fact: impl Into<String>, help: impl Into<String>) -> Refusal {
    Refusal {
        fact: fact.into(),
        help: help.into(),
    }
}

fn write(wish: &Wish, plugins: &[PluginDef]) -> Result<PathBuf, Refusal> {
    let name = &wish.name;
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    let begins = name
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_lowercase());
    if !begins
        || !name.bytes().all(fits)
        || name.ends_with('_')
        || name.contains("__")
        || name.len() > 40
    {
        return Err(refusal(
            format!("\"{name}\" cannot be a plugin's kind"),
            "write at most 40 lower case letters with single `_` between them, such as \"shop_hours\"",
        ));
    }
    if plugins.iter().any(|plugin| plugin.kind == name) {
        return Err(refusal(
            format!("there is a plugin of kind \"{name}\" already"),
            "choose another name; `windrose plugins` lists those that are taken",
        ));
    }
    if RESERVED.contains(&name.as_str()) {
        return Err(refusal(
            format!("\"{name}\" cannot be the name of a crate"),
            "choose another name",
        ));
    }
    let depends = depends(wish.source.as_deref())?;
    let folder = wish
        .path
        .clone()
        .unwrap_or_else(|| PathBuf::from(name.replace('_', "-")));
    let is_there = fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some());
    if is_there || folder.is_file() {
        return Err(refusal(
            format!("{} is there already", folder.display()),
            "give another folder with `--path`; nothing is overwritten",
        ));
    }
    let names = Names::of(name, depends);
    for (path, text) in FILES {
        let path = folder.join(path.replace("NAME", name));
        put(&path, &names.in_text(text)).map_err(|error| {
            refusal(
                format!("{} cannot be written: {error}", path.display()),
                "look at the folder's permissions and free space",
            )
        })?;
    }
    Ok(folder)
}

/// The lines of the manifest that say where Windrose comes from.
fn depends(source: Option<&Path>) -> Result<[String; 2], Refusal> {
    let version = env!("CARGO_PKG_VERSION");
    let Some(source) = source else {
        return Ok([format!("\"{version}\""), format!("\"{version}\"")]);
    };
    let found = fs::canonicalize(source).ok();
    let found = found.filter(|folder| folder.join("plugins/contract/mod.rs").is_file());
    let text = found.as_ref().and_then(|folder| folder.to_str());
    let text = text.filter(|text| !text.contains(['"', '\\', '\n']));
    match text {
        Some(text) => Ok([
            format!("{{ path = \"{text}\" }}"),
            format!("{{ path = \"{text}/plugins\" }}"),
        ]),
        None => Err(refusal(
            format!("{} holds no source of Windrose", source.display()),
            "name the folder that has `plugins/contract` in it",
        )),
    }
}

/// What stands for the names in the texts.
struct Names<'n> {
    kind: &'n str,
    depends: [String; 2],
}

impl<'n> Names<'n> {
    fn of(kind: &'n str, depends: [String; 2]) -> Names<'n> {
        Names { kind, depends }
    }

    fn in_text(&self, text: &str) -> String {
        let [windrose, plugins] = &self.depends;
        text.replace("{{kind}}", self.kind)
            .replace("{{crate}}", &self.kind.replace('_', "-"))
            .replace("{{CAUSE}}", &self.kind.to_uppercase())
            .replace("{{windrose}}", windrose)
            .replace("{{windrose_plugins}}", plugins)
    }
}

/// Writes a file that is not there yet.
fn put(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = File::options().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())
}

const FILES: [(&str, &str); 7] = [
    ("Cargo.toml", include_str!("plugin/Cargo.toml.txt")),
    (".gitignore", "/target\n"),
    ("README.md", include_str!("plugin/README.md.txt")),
    ("windrose.yaml", include_str!("plugin/windrose.yaml.txt")),
    ("src/lib.rs", include_str!("plugin/lib.rs.txt")),
    ("src/main.rs", include_str!("plugin/main.rs.txt")),
    ("benches/NAME.rs", include_str!("plugin/bench.rs.txt")),
];

/// Words of the language, and crates that the new one uses.
const RESERVED: [&str; 48] = [
    "abstract",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "bytes",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "final",
    "fn",
    "for",
    "http",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "pub",
    "ref",
    "return",
    "schemars",
    "self",
    "serde",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "type",
    "windrose",
    "windrose_plugins",
];
