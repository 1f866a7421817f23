//! `${env:NAME}`, `${env:NAME:-default}` and `${file:path}` inside values.
//! It must not know what the value is for.
//! Called by `source::parse` for each scalar that holds `${`.

use std::sync::Arc;

use super::files::Reader;
use super::At;

/// A scalar after interpolation.
pub(super) struct Text {
    /// The text to use.
    pub(super) text: String,
    /// Whether a secret is in it.
    pub(super) secret: bool,
    /// Whether it was nothing but one interpolation, which then has the type of its text.
    pub(super) whole: bool,
}

/// Puts variables and files in; complaints go to the report. Other uses of `${…}` belong to settings and stay.
pub(super) fn interpolated(reader: &mut Reader, text: &str, at: At) -> Text {
    let mut done = Text {
        text: String::with_capacity(text.len()),
        secret: false,
        whole: false,
    };
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, here) = rest.split_at(start);
        if let Some(before) = before.strip_suffix('$') {
            done.text.push_str(before);
            done.text.push_str("${");
            rest = &here[2..];
            continue;
        }
        done.text.push_str(before);
        let Some((source, argument)) = source(&here[2..]) else {
            done.text.push_str("${");
            rest = &here[2..];
            continue;
        };
        let Some(end) = argument.find('}') else {
            reader.complain(at, format!("`${{{source}:` has no closing `}}`"), "");
            return done;
        };
        let after = &argument[end + 1..];
        done.whole = start == 0 && after.is_empty() && rest.len() == text.len();
        put(reader, &mut done, source, &argument[..end], at);
        rest = after;
    }
    done.text.push_str(rest);
    done
}

fn source(inside: &str) -> Option<(&'static str, &str)> {
    ["env", "file"].into_iter().find_map(|source| {
        let argument = inside.strip_prefix(source)?.strip_prefix(':')?;
        Some((source, argument))
    })
}

fn put(reader: &mut Reader, done: &mut Text, source: &str, argument: &str, at: At) {
    let (is_secret, found) = if source == "env" {
        let name = argument.split(":-").next().unwrap_or_default();
        let is_secret = SECRET_NAMES.iter().any(|word| name.contains(word));
        (is_secret, variable(argument))
    } else {
        (true, file(reader, argument))
    };
    done.secret |= is_secret;
    match found {
        Ok(text) => {
            reader.inserted += text.len() as u64;
            if reader.inserted > INSERTED_BYTES {
                let fact = format!("interpolation adds more than {} MiB", INSERTED_BYTES >> 20);
                reader.complain(at, fact, "");
            } else {
                done.text.push_str(&text);
                if is_secret {
                    reader.secrets.insert(text);
                }
            }
        }
        Err((fact, remedy)) => reader.complain(at, fact, remedy),
    }
}

type Refusal = (String, &'static str);

fn variable(argument: &str) -> Result<Arc<str>, Refusal> {
    let (name, default) = match argument.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (argument, None),
    };
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(letter) {
        let fact = format!("\"{name}\" is not the name of an environment variable");
        return Err((fact, "write `${env:NAME}` or `${env:NAME:-default}`"));
    }
    match (std::env::var(name), default) {
        (Ok(value), None) => Ok(value.into()),
        (Ok(value), Some(_)) if !value.is_empty() => Ok(value.into()),
        (Ok(_) | Err(std::env::VarError::NotPresent), Some(default)) => Ok(default.into()),
        (Err(std::env::VarError::NotPresent), None) => {
            let fact = format!("the environment variable {name} is not set");
            Err((fact, "set it, or give a default: `${env:NAME:-default}`"))
        }
        (Err(std::env::VarError::NotUnicode(_)), _) => {
            Err((format!("the environment variable {name} is not UTF-8"), ""))
        }
    }
}

fn file(reader: &mut Reader, argument: &str) -> Result<Arc<str>, Refusal> {
    let path = reader.folder.join(argument);
    // One file used a thousand times is read once.
    if let Some(text) = reader.texts.get(&path) {
        return Ok(text.clone());
    }
    let about = |fact: &str| (format!("the file \"{argument}\" {fact}"), "");
    let bytes = reader
        .bytes(&path, INSERTED_FILE_BYTES)
        .map_err(|fact| about(&fact))?;
    let text = String::from_utf8(bytes).map_err(|_| about("is not UTF-8"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text: Arc<str> = Arc::from(text.strip_suffix('\r').unwrap_or(text));
    reader.texts.insert(path, text.clone());
    Ok(text)
}

const SECRET_NAMES: [&str; 4] = ["KEY", "TOKEN", "SECRET", "PASSWORD"];
const INSERTED_FILE_BYTES: u64 = 1 << 20;
const INSERTED_BYTES: u64 = 32 << 20;
