//! What is told of a request: the members of one JSON object.
//! It must not hold credentials, nor anything of a body.
//! Written by plugins that tell a collector.

use std::borrow::Cow;
use std::time::Duration;

use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, SET_COOKIE};
use http::{HeaderMap, HeaderName};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::contract::{Clock, Finished, Said};
use crate::date::date;
use crate::granted::Names;

/// What is told, and of which fields.
pub(crate) struct Writer {
    pub(crate) clock: Clock,
    pub(crate) names: Names,
    pub(crate) query: bool,
}

/// Members by name, in the order of their names; texts are the request's own where they are short enough.
pub(crate) struct Entry<'a>(Vec<(&'a str, Told<'a>)>);

/// What a member says.
pub(crate) enum Told<'a> {
    Nothing,
    Yes,
    Number(u64),
    Text(Cow<'a, str>),
    /// Fields in the order of their names, each with its values.
    Fields(Vec<(&'a str, Vec<Cow<'a, str>>)>),
}

impl Writer {
    /// The members.
    pub(crate) fn entry<'a>(&self, finished: &'a Finished<'_>) -> Entry<'a> {
        let (client, head) = (finished.client, finished.request);
        let text = |text: &'a str| Told::Text(text.into());
        let millis = u64::try_from(finished.duration.as_millis()).unwrap_or(u64::MAX);
        let mut entry = Entry(Vec::with_capacity(24));
        entry.0.extend([
            (
                "cause",
                finished
                    .cause
                    .map_or(Told::Nothing, |cause| text(cause.name)),
            ),
            ("client", Told::Text(client.address.to_string().into())),
            ("duration_ms", Told::Number(millis)),
            ("host", text(client.host)),
            ("listener", text(client.listener)),
            ("method", text(begin(head.method.as_str(), LONGEST))),
            ("path", text(begin(client.path, LONGEST))),
            ("request_bytes", Told::Number(finished.request_bytes)),
            ("request_id", text(client.request_id)),
            ("response_bytes", Told::Number(finished.response_bytes)),
            ("route", text(client.route)),
            ("status", Told::Number(finished.status.into())),
            ("time", Told::Text(rfc3339(self.clock.unix()).into())),
        ]);
        let there = |text: &'a str| (!text.is_empty()).then_some(Cow::Borrowed(text));
        let query = head.uri.query().filter(|_| self.query);
        let known = [
            (
                "principal",
                finished.principal.map(|one| cut(one.id().into())),
            ),
            ("pool", there(finished.pool)),
            ("endpoint", there(finished.endpoint)),
            ("trace_id", finished.trace_id.map(Cow::Borrowed)),
            ("query", query.map(|query| begin(query, LONGEST).into())),
        ];
        let known = known.into_iter();
        let known = known.filter_map(|(name, text)| Some((name, Told::Text(text?))));
        entry.0.extend(known);
        for (name, said) in finished.notes {
            entry.set(
                name,
                match said {
                    Said::Text(said) => text(begin(said, LONGEST)),
                    Said::Number(number) => Told::Number(*number),
                },
            );
        }
        let fields = self.fields(&head.headers);
        if !fields.is_empty() {
            entry.set("headers", Told::Fields(fields));
        }
        entry.0.sort_unstable_by_key(|(name, _)| *name);
        entry
    }

    /// The fields that are told.
    fn fields<'a>(&self, headers: &'a HeaderMap) -> Vec<(&'a str, Vec<Cow<'a, str>>)> {
        let names = headers.keys().filter(|name| self.names.has(name));
        let mut fields: Vec<_> = names
            .map(|name| {
                let values = headers.get_all(name).iter();
                let shown = values.map(|value| match is_credential(name) || value.is_sensitive() {
                    true => "***".into(),
                    false => cut(String::from_utf8_lossy(value.as_bytes())),
                });
                (name.as_str(), shown.collect())
            })
            .collect();
        fields.sort_unstable_by_key(|(name, _)| *name);
        fields
    }
}

impl<'a> Entry<'a> {
    /// The members as a JSON object.
    pub(crate) fn json(&self) -> String {
        // Maps of texts and numbers can always be written.
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = (&'a str, &Told<'a>)> {
        self.0.iter().map(|(name, told)| (*name, told))
    }

    /// A member that is a text; empty where it is none.
    pub(crate) fn text(&self, name: &str) -> &str {
        match self.member(name) {
            Some(Told::Text(text)) => text,
            _ => "",
        }
    }

    /// A member that is a number; nought where it is none.
    pub(crate) fn number(&self, name: &str) -> u64 {
        match self.member(name) {
            Some(Told::Number(number)) => *number,
            _ => 0,
        }
    }

    /// A member, whatever was there before.
    pub(crate) fn set(&mut self, name: &'a str, told: Told<'a>) {
        match self.0.iter_mut().find(|(one, _)| *one == name) {
            Some((_, before)) => *before = told,
            None => self.0.push((name, told)),
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0.retain(|(one, _)| *one != name);
    }

    /// Cuts all texts to so many bytes.
    pub(crate) fn shorten(&mut self, most: usize) {
        for (_, told) in &mut self.0 {
            match told {
                Told::Text(text) => shorten(text, most),
                Told::Fields(fields) => {
                    let values = fields.iter_mut().flat_map(|(_, values)| values);
                    values.for_each(|value| shorten(value, most));
                }
                Told::Nothing | Told::Yes | Told::Number(_) => {}
            }
        }
    }

    fn member(&self, name: &str) -> Option<&Told<'a>> {
        let mut members = self.members();
        members.find(|(one, _)| *one == name).map(|(_, told)| told)
    }
}

impl Serialize for Entry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, told) in &self.0 {
            map.serialize_entry(name, told)?;
        }
        map.end()
    }
}

impl Serialize for Told<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Told::Nothing => serializer.serialize_unit(),
            Told::Yes => serializer.serialize_bool(true),
            Told::Number(number) => serializer.serialize_u64(*number),
            Told::Text(text) => serializer.serialize_str(text),
            Told::Fields(fields) => {
                serializer.collect_map(fields.iter().map(|(name, values)| (name, values)))
            }
        }
    }
}

/// Whether a field holds what proves somebody, by its name. Of these only the presence is told, whatever is asked for.
pub(crate) fn is_credential(name: &HeaderName) -> bool {
    let known = [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE, SET_COOKIE];
    let text = name.as_str();
    let speaks = [
        "token",
        "secret",
        "password",
        "api-key",
        "apikey",
        "signature",
        "credential",
    ];
    known.contains(name) || speaks.iter().any(|word| text.contains(word))
}

fn cut(mut text: Cow<'_, str>) -> Cow<'_, str> {
    shorten(&mut text, LONGEST);
    text
}

fn shorten(text: &mut Cow<'_, str>, most: usize) {
    match text {
        Cow::Borrowed(text) => *text = begin(text, most),
        Cow::Owned(text) => text.truncate(begin(text, most).len()),
    }
}

/// At most so many bytes of a text, whole characters.
pub(crate) fn begin(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Seconds and milliseconds since 1970 in the form of logs.
fn rfc3339(unix: Duration) -> String {
    let seconds = unix.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let millis = unix.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

const LONGEST: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_as_logs_do() {
        for (millis, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_735_689_599_001, "2024-12-31T23:59:59.001Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(Duration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn what_holds_credentials_is_known_by_its_name() {
        for (name, expected) in [
            ("authorization", true),
            ("cookie", true),
            ("x-api-key", true),
            ("x-auth-token", true),
            ("x-hub-signature-256", true),
            ("user-agent", false),
            ("x-tenant", false),
        ] {
            assert_eq!(
                is_credential(&HeaderName::from_static(name)),
                expected,
                "{name}"
            );
        }
    }
}
