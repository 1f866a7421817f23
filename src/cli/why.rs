//! `windrose why` and `windrose bundle`: causes explained, and what the flight recorder of the running process knows.
//! It must not know how a record is made; the process hands it out over the admin address.
//! Called by `cli`.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;

use serde_json::{json, Value};
use windrose_plugins::contract::{builtin_causes, Cause};
use windrose_plugins::PluginDef;

use super::client::{admin, ask, failed};
use super::story;
use crate::observe::recorder::Record;

/// What is printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Lines to read.
    Text,
    /// JSON.
    Json,
}

/// Explains a cause, or tells the story of a request; without a word, lists the causes.
pub(super) fn why(word: Option<&str>, path: &Path, form: Form, plugins: &[PluginDef]) -> ExitCode {
    let causes = Causes::of(plugins);
    let Some(word) = word else {
        causes.list(form);
        return ExitCode::SUCCESS;
    };
    if let Some(cause) = causes.find(word) {
        match form {
            Form::Text => print!("{}", explained(cause)),
            Form::Json => println!("{:#}", as_json(cause)),
        }
        return ExitCode::SUCCESS;
    }
    match records(path, word) {
        Ok(records) => {
            tell(&records, form, &causes);
            ExitCode::SUCCESS
        }
        Err(Refused::Unknown(problem)) if looks_like_cause(word) => {
            failed(&format!("{word}: {problem}{}", causes.nearest(word)))
        }
        Err(Refused::Unknown(problem)) => failed(&format!("{word}: {problem}")),
        // Nobody can be asked; a word like this was hardly meant to be an id.
        Err(Refused::Unreachable(_)) if looks_like_cause(word) => {
            eprintln!("no cause is named \"{word}\"{}", causes.nearest(word));
            ExitCode::from(2)
        }
        Err(Refused::Unreachable(problem)) => failed(&problem),
    }
}

/// Writes every record there is.
pub(super) fn bundle(path: &Path, output: Option<&Path>) -> ExitCode {
    match try_bundle(path, output) {
        Ok(said) => {
            eprintln!("{said}");
            ExitCode::SUCCESS
        }
        Err(problem) => failed(&problem),
    }
}

fn try_bundle(path: &Path, output: Option<&Path>) -> Result<String, String> {
    let (status, body) = ask(&admin(path)?, "GET", "/recorder/bundle")?;
    let records = body["records"].as_array().map(Vec::len);
    let (200, Some(records)) = (status, records) else {
        return Err(format!(
            "the process answered {status} without a bundle; is it an older version?"
        ));
    };
    let text = format!("{body}\n");
    let written = match output {
        Some(file) => write_private(file, &text),
        None => io::stdout().write_all(text.as_bytes()),
    };
    let name = output.map_or("standard output".into(), |file| file.display().to_string());
    written.map_err(|error| format!("{name} cannot be written: {error}"))?;
    Ok(format!("{name}: {records} records"))
}

/// A bundle tells who asked for what. A file that is there may be open to others, and a link may lead anywhere.
fn write_private(file: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    let mut file = options.custom_flags(libc::O_NOFOLLOW).open(file)?;
    // Not of a pipe or a device.
    if file.metadata()?.is_file() {
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.set_len(0)?;
    }
    file.write_all(text.as_bytes())
}

/// Why there is no record.
enum Refused {
    /// The process has none.
    Unknown(String),
    /// The process could not be asked.
    Unreachable(String),
}

fn records(path: &Path, id: &str) -> Result<Vec<Record>, Refused> {
    let target = format!("/recorder/{}", escaped(id));
    let answer = admin(path).and_then(|bind| ask(&bind, "GET", &target));
    let (status, mut body) = answer.map_err(Refused::Unreachable)?;
    let records = match status {
        200 => serde_json::from_value(body["records"].take()).ok(),
        _ => None,
    };
    records.ok_or_else(|| {
        let problem = body["error"].as_str().map(str::to_owned);
        Refused::Unknown(problem.unwrap_or_else(|| format!("the process answered {status}")))
    })
}

fn tell(records: &[Record], form: Form, causes: &Causes) {
    if form == Form::Json {
        // Not by way of `Value`, which would sort the members.
        let json = match records {
            [one] => serde_json::to_string_pretty(one),
            several => serde_json::to_string_pretty(several),
        };
        println!("{}", json.unwrap_or_default());
        return;
    }
    for (at, record) in records.iter().enumerate() {
        if at > 0 {
            println!();
        }
        print!("{}", story::of(record));
        let cause = record.answer.cause.as_deref();
        if let Some(cause) = cause.and_then(|name| causes.find(name)) {
            print!("\n{}", explained(cause));
        }
    }
}

/// The causes of the proxy and of the plugins compiled in.
struct Causes(Vec<&'static Cause>);

impl Causes {
    fn of(plugins: &[PluginDef]) -> Causes {
        let of_plugins = plugins.iter().flat_map(|plugin| plugin.causes);
        Causes(builtin_causes().iter().chain(of_plugins).copied().collect())
    }

    fn find(&self, name: &str) -> Option<&'static Cause> {
        self.0.iter().find(|cause| cause.name == name).copied()
    }

    fn list(&self, form: Form) {
        if form == Form::Json {
            let all: Vec<Value> = self.0.iter().map(|cause| as_json(cause)).collect();
            println!("{:#}", Value::Array(all));
            return;
        }
        for cause in &self.0 {
            println!("{:<32} {:>3}  {}", cause.name, cause.status, cause.title);
        }
    }

    fn nearest(&self, word: &str) -> String {
        let near = self.0.iter().max_by(|a, b| {
            strsim::jaro_winkler(a.name, word).total_cmp(&strsim::jaro_winkler(b.name, word))
        });
        near.map_or(String::new(), |cause| {
            format!("\n  help: did you mean \"{}\"?", cause.name)
        })
    }
}

fn explained(cause: &Cause) -> String {
    format!(
        "{} (status {}, blame {})\n\n{}\n\nNext: {}\n",
        cause.name,
        cause.status,
        cause.blame.as_str(),
        cause.explanation,
        cause.next_step
    )
}

fn as_json(cause: &Cause) -> Value {
    json!({
        "name": cause.name, "status": cause.status, "blame": cause.blame.as_str(), "title": cause.title,
        "explanation": cause.explanation, "next_step": cause.next_step,
    })
}

fn looks_like_cause(word: &str) -> bool {
    let of_names = |c: char| c.is_ascii_lowercase() || matches!(c, '.' | '_');
    word.chars().all(of_names)
}

/// An id as a segment of a path.
fn escaped(id: &str) -> String {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let escape = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    id.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_bundle_is_its_owners_even_where_a_file_was_open_to_all() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("bundle.json");
        fs::write(&file, "something longer").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();

        write_private(&file, "{}").unwrap();

        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_to_string(&file).unwrap(), "{}");
    }

    #[test]
    fn a_bundle_does_not_follow_a_link() {
        let folder = tempfile::TempDir::new().unwrap();
        let (link, target) = (folder.path().join("link"), folder.path().join("target"));
        fs::write(&target, "untouched").unwrap();
        symlink(&target, &link).unwrap();

        assert!(write_private(&link, "{}").is_err());

        assert_eq!(fs::read_to_string(&target).unwrap(), "untouched");
    }
}
