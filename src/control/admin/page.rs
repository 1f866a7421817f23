//! The page at the root of the admin address: how the process is, and where to look further.
//! It must not load anything from elsewhere, nor show text without escaping it.
//! Called by `admin`.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use super::places::Entry;
use super::state::{millis, rfc3339};
use crate::control::status::{Reload, Status};
use crate::snapshot::Snapshot;

/// The page as HTML.
pub(super) fn index(snapshot: &Snapshot, status: &Status, places: &[Entry]) -> String {
    let ready = match status.readiness() {
        Ok(()) => "ready".to_owned(),
        Err(reason) => format!("not ready: {reason}"),
    };
    let disk = match status.disk_differs.load(Relaxed) {
        true => "differs from the configuration in force",
        false => "is the configuration in force",
    };
    let probation = status.probation.load();
    let probation = match probation.as_ref() {
        Some(one) => format!("{} s left to confirm", one.left().as_secs()),
        None => "none".to_owned(),
    };
    let last = status.last_reload.load();
    let last = last.as_ref().as_ref().map_or("none yet".into(), reload);
    let rows = [
        ("Version", env!("CARGO_PKG_VERSION").to_owned()),
        ("State", ready),
        ("Started", rfc3339(status.started)),
        ("Generation", snapshot.generation.to_string()),
        ("Configuration built", rfc3339(snapshot.built)),
        ("Configuration on disk", disk.to_owned()),
        ("Probation", probation),
        ("Last reload", last),
        ("Listeners", snapshot.listeners.len().to_string()),
        ("Rules", snapshot.rules.len().to_string()),
        ("Pools", snapshot.pools.len().to_string()),
    ];
    let mut body = String::new();
    for (name, value) in rows {
        row(&mut body, "th", name, &escape(&value));
    }
    let mut links = String::new();
    for place in places {
        let link = format!("<a href=\"{0}\">{0}</a>", place.path);
        row(&mut links, "td", &link, &escape(place.about));
    }
    let warnings = snapshot.warnings.iter().map(|warning| escape(warning));
    let warnings = list("Warnings", warnings);
    let quarantined = snapshot.quarantined.iter();
    let quarantined = quarantined.map(|one| format!("<pre>{}</pre>", escape(&one.to_string())));
    let quarantined = list("Quarantined", quarantined);
    format!("{HEAD}<table>\n{body}</table>\n{quarantined}{warnings}<h2>Further</h2>\n<table>\n{links}</table>\n</body>\n</html>\n")
}

/// A list under a heading; nothing for no items.
fn list(heading: &str, items: impl Iterator<Item = String>) -> String {
    let items: String = items.map(|item| format!("<li>{item}</li>\n")).collect();
    match items.is_empty() {
        true => String::new(),
        false => format!("<h2>{heading}</h2>\n<ul>\n{items}</ul>\n"),
    }
}

fn row(into: &mut String, cell: &str, first: &str, second: &str) {
    let written = writeln!(into, "<tr><{cell}>{first}</{cell}><td>{second}</td></tr>");
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
}

fn reload(reload: &Reload) -> String {
    let at = rfc3339(reload.at);
    match &reload.result {
        Ok(_) => format!("{at}, took {} ms", millis(reload.took)),
        Err(problems) => format!("{at}, refused with {} problems", problems.len()),
    }
}

/// A page with this below its heading.
pub(super) fn whole(body: &str) -> String {
    format!("{HEAD}{body}</body>\n</html>\n")
}

pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

const HEAD: &str = "<!doctype html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<title>Windrose</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 52em; padding: 0 1em; color-scheme: light dark; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25em 1em .25em 0; border-bottom: 1px solid #8884; font-weight: normal; }
th { width: 14em; color: #888; }
pre { white-space: pre-wrap; margin: 0; }
</style>
</head>
<body>
<h1>Windrose</h1>
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_text_stays_text() {
        assert_eq!(
            escape("<a b='c' d=\"e\">&"),
            "&lt;a b=&#39;c&#39; d=&quot;e&quot;&gt;&amp;"
        );
    }
}
