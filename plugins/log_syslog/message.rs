//! One message of syslog (RFC 5424): header, structured data, text, within a bound on its length.
//! It must not know how messages are sent.
//! Made when a request is over.

use std::fmt::Write;

use super::{Config, Facility, Format, Severities};
use crate::contract::{Build, Finished};
use crate::granted::Names;
use crate::logged::entry::{begin, Entry, Told, Writer};

/// What is the same in all messages.
pub(super) struct Messages {
    writer: Writer,
    facility: Facility,
    severities: Severities,
    /// From the host to the kind of message.
    origin: String,
    /// What structured data is called; `None` for JSON.
    id: Option<String>,
    most: usize,
}

/// A message.
pub(super) struct Message {
    pub(super) text: String,
    pub(super) is_cut: bool,
}

impl Messages {
    pub(super) fn new(
        config: &Config,
        names: Names,
        has_datagrams: bool,
        build: &Build<'_>,
    ) -> Messages {
        let host = config.hostname.clone().unwrap_or_else(hostname);
        let default = match has_datagrams && !config.server.starts_with("unix:") {
            true => 2 << 10,
            false => 8 << 10,
        };
        let id = || config.id.clone().unwrap_or_else(|| "http@32473".to_owned());
        Messages {
            writer: Writer {
                clock: build.clock.clone(),
                names,
                query: config.query,
            },
            facility: config.facility,
            severities: config.severity,
            origin: format!(
                "{host} {} {} {}",
                config.app_name,
                std::process::id(),
                config.message_id
            ),
            id: (config.format == Format::Structured).then(id),
            most: config.message_size.map_or(default, |size| {
                usize::try_from(size.0).unwrap_or(usize::MAX)
            }),
        }
    }

    /// What is said of a request. Of one that is too long the texts are cut shorter and shorter.
    pub(super) fn of(&self, finished: &Finished<'_>) -> Message {
        let mut entry = self.writer.entry(finished);
        let priority = self.facility as u8 * 8 + self.severities.of(finished.status) as u8;
        let mut text = self.written(priority, &entry);
        if text.len() <= self.most {
            return Message {
                text,
                is_cut: false,
            };
        }
        entry.set("cut", Told::Yes);
        for longest in CUTS {
            entry.shorten(longest);
            text = self.written(priority, &entry);
            if text.len() <= self.most {
                return Message { text, is_cut: true };
            }
        }
        entry.remove("headers");
        text = self.written(priority, &entry);
        text.truncate(begin(&text, self.most).len());
        Message { text, is_cut: true }
    }

    fn written(&self, priority: u8, entry: &Entry<'_>) -> String {
        let mut text = String::with_capacity(512);
        let time = entry.text("time");
        // Writing into memory cannot fail.
        let _ = write!(text, "<{priority}>1 {time} {} ", self.origin);
        match &self.id {
            None => {
                text.push_str("- ");
                // What a terminal could obey is escaped; it only stands in texts.
                harmless(&mut text, &entry.json(), |text, unit| {
                    let _ = write!(text, "\\u{unit:04x}");
                });
            }
            Some(id) => {
                structured(&mut text, id, entry);
                let _ = write!(text, " {} ", entry.text("method"));
                harmless(&mut text, entry.text("path"), |text, _| {
                    text.push('\u{fffd}')
                });
                let _ = write!(text, " {}", entry.number("status"));
            }
        }
        text
    }
}

/// The members as one element (RFC 5424 section 6.3). Those that say nothing are left out.
fn structured(text: &mut String, id: &str, entry: &Entry<'_>) {
    text.push('[');
    text.push_str(id);
    for (name, told) in entry.members() {
        match told {
            Told::Nothing => {}
            Told::Yes => parameter(text, name, "true"),
            Told::Number(number) => parameter(text, name, &number.to_string()),
            Told::Text(value) => parameter(text, name, value),
            Told::Fields(fields) => {
                for (field, values) in fields {
                    let name = format!("header.{field}");
                    values
                        .iter()
                        .for_each(|value| parameter(text, &name, value));
                }
            }
        }
    }
    text.push(']');
}

/// A parameter. Names of at most 32 characters are ours and those of fields, which are tokens without what names cannot hold; in values
/// `"`, `\` and `]` are escaped (section 6.3.3).
fn parameter(text: &mut String, name: &str, value: &str) {
    text.extend([" ", begin(name, 32), "=\""]);
    let mut rest = value;
    while let Some(at) = rest
        .bytes()
        .position(|byte| matches!(byte, b'"' | b'\\' | b']'))
    {
        harmless(text, &rest[..at], |text, _| text.push('\u{fffd}'));
        text.push('\\');
        text.push_str(&rest[at..=at]);
        rest = &rest[at + 1..];
    }
    harmless(text, rest, |text, _| text.push('\u{fffd}'));
    text.push('"');
}

/// Appends text, and what stands for control characters, line separators and marks of direction: whoever reads a log must not obey it.
fn harmless(out: &mut String, text: &str, instead: impl Fn(&mut String, u32)) {
    // Nearly all of it is.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        out.push_str(text);
        return;
    }
    for one in text.chars() {
        match one {
            '\u{2028}'
            | '\u{2029}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' => {
                instead(out, one.into());
            }
            one if one.is_control() => instead(out, one.into()),
            one => out.push(one),
        }
    }
}

/// The system's name, as far as a header can carry it.
fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let good: String = name
        .chars()
        .filter(char::is_ascii_graphic)
        .take(255)
        .collect();
    match good.is_empty() {
        true => "-".to_owned(),
        false => good,
    }
}

/// Lengths of texts, until a message is short enough. No time is longer than the last.
const CUTS: [usize; 3] = [512, 128, 32];
