//! Path templates of `google.api.http`: `/v1/{name=shelves/*/books/**}:verb`.
//! It must not know methods or messages.
//! Compiled when a descriptor set is read, matched with the path of each request.

use std::borrow::Cow;

use crate::query;

/// A template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    segments: Vec<Segment>,
    verb: Option<String>,
    variables: Vec<Variable>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    /// This text.
    Literal(String),
    /// One segment.
    One,
    /// All that are left, also none.
    Rest,
}

/// A part of the path that sets a field.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Variable {
    field: String,
    from: usize,
    to: usize,
}

/// What a path sets: fields by their path, with their value.
pub(super) type Captured = Vec<(String, String)>;

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Template, String> {
        let rest = text.strip_prefix('/').ok_or("it does not begin with /")?;
        let (rest, verb) = verb(rest);
        if verb.is_some_and(|verb| verb.is_empty() || verb.contains(['{', '*', '}'])) {
            return Err("a verb is a plain word".to_owned());
        }
        let mut template = Template {
            segments: Vec::new(),
            verb: verb.map(str::to_owned),
            variables: Vec::new(),
        };
        for part in parts(rest)? {
            template.part(part)?;
        }
        let end = template.segments.len().saturating_sub(1);
        let rest = template
            .segments
            .iter()
            .position(|one| *one == Segment::Rest);
        match rest.is_some_and(|at| at != end) {
            true => Err("** is the last segment".to_owned()),
            false => Ok(template),
        }
    }

    fn part(&mut self, part: &str) -> Result<(), String> {
        let Some(inside) = part.strip_prefix('{') else {
            self.segments.push(Segment::of(part)?);
            return Ok(());
        };
        let inside = inside.strip_suffix('}').ok_or("a { has no }")?;
        let (field, pattern) = inside.split_once('=').unwrap_or((inside, "*"));
        if field.is_empty() || !field.split('.').all(is_identifier) {
            return Err(format!("\"{field}\" is no path of fields"));
        }
        if self.variables.iter().any(|other| other.field == field) {
            return Err(format!("\"{field}\" is there twice"));
        }
        let from = self.segments.len();
        for segment in pattern.split('/') {
            self.segments.push(Segment::of(segment)?);
        }
        self.variables.push(Variable {
            field: field.to_owned(),
            from,
            to: self.segments.len(),
        });
        Ok(())
    }

    /// The fields that it sets.
    pub(super) fn fields(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(|one| &*one.field)
    }

    /// Templates that fit the same paths are the same in this; those that say more come first.
    pub(super) fn shape(&self) -> impl Ord + Clone + use<> {
        (self.segments.clone(), std::cmp::Reverse(self.verb.clone()))
    }

    /// What a path sets if it fits. The path is canonical: what could be decoded safely is.
    pub(super) fn matches(&self, path: &str) -> Option<Captured> {
        let path = path.strip_prefix('/')?;
        let path = match &self.verb {
            Some(verb) => path.strip_suffix(&**verb)?.strip_suffix(':')?,
            None => path,
        };
        let parts: Vec<&str> = path.split('/').take(MOST_SEGMENTS + 1).collect();
        let is_open = self.segments.last() == Some(&Segment::Rest);
        let fixed = self.segments.len() - usize::from(is_open);
        let fits = match is_open {
            true => parts.len() >= fixed && parts.len() <= MOST_SEGMENTS,
            false => parts.len() == fixed,
        };
        let same = |(segment, part): (&Segment, &&str)| match segment {
            Segment::Literal(text) => text == part,
            Segment::One => !part.is_empty(),
            Segment::Rest => true,
        };
        if !fits || !self.segments.iter().zip(&parts).all(same) {
            return None;
        }
        let value = |variable: &Variable| {
            let is_last = variable.to == self.segments.len();
            let to = if is_last && is_open {
                parts.len()
            } else {
                variable.to
            };
            let is_one =
                variable.to == variable.from + 1 && self.segments[variable.from] != Segment::Rest;
            let whole = parts.get(variable.from..to).unwrap_or_default().join("/");
            let keeps = if is_one {
                Keeps::Nothing
            } else {
                Keeps::Slashes
            };
            Some((variable.field.clone(), decoded(&whole, keeps)?))
        };
        self.variables.iter().map(value).collect()
    }
}

impl Segment {
    fn of(text: &str) -> Result<Segment, String> {
        match text {
            "*" => Ok(Segment::One),
            "**" => Ok(Segment::Rest),
            "" => Err("a segment is empty".to_owned()),
            text if text.contains(['*', '{', '}', '=']) => Err(format!("\"{text}\" is no segment")),
            text => Ok(Segment::Literal(text.to_owned())),
        }
    }
}

/// The verb behind the last colon, which is in no variable.
fn verb(text: &str) -> (&str, Option<&str>) {
    let after = text.rfind('}').map_or(0, |at| at + 1);
    let after = text[after..].rfind('/').map_or(after, |at| after + at);
    match text[after..].rfind(':') {
        Some(at) => (&text[..after + at], Some(&text[after + at + 1..])),
        None => (text, None),
    }
}

/// Segments, with variables as they are.
fn parts(text: &str) -> Result<Vec<&str>, String> {
    let mut parts = Vec::new();
    let (mut begin, mut is_inside) = (0, false);
    for (at, byte) in text.bytes().enumerate() {
        match (byte, is_inside) {
            (b'{', true) => return Err("a variable is in another".to_owned()),
            (b'{', false) => is_inside = true,
            (b'}', _) => is_inside = false,
            (b'/', false) => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    match parts.len() <= MOST_SEGMENTS {
        true => Ok(parts),
        false => Err(format!("it has more than {MOST_SEGMENTS} segments")),
    }
}

fn is_identifier(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// What stays escaped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeps {
    /// Nothing: the value is one segment.
    Nothing,
    /// Slashes, so that segments stay apart (`google/api/http.proto`).
    Slashes,
}

/// The text that a part of a path stands for; `None` where it is none.
fn decoded(text: &str, keeps: Keeps) -> Option<String> {
    let Cow::Owned(escaped) = escaped(text, keeps) else {
        return Some(text.to_owned());
    };
    String::from_utf8(escaped).ok()
}

fn escaped(text: &str, keeps: Keeps) -> Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    if !bytes.contains(&b'%') {
        return Cow::Borrowed(bytes);
    }
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((byte, after)) = rest.split_first() {
        let value = (*byte == b'%').then(|| query::escape(after)).flatten();
        match value.filter(|value| keeps == Keeps::Nothing || *value != b'/') {
            Some(value) => {
                plain.push(value);
                rest = &after[2..];
            }
            None => {
                plain.push(*byte);
                rest = after;
            }
        }
    }
    Cow::Owned(plain)
}

const MOST_SEGMENTS: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn captured(template: &str, path: &str) -> Option<Vec<(String, String)>> {
        Template::parse(template).expect(template).matches(path)
    }

    fn value(template: &str, path: &str) -> Option<String> {
        captured(template, path).map(|all| all[0].1.clone())
    }

    /// What `google/api/http.proto` says of paths.
    #[test]
    fn templates_fit_as_their_standard_says() {
        for (template, path, expected) in [
            ("/v1/{name}", "/v1/a", Some("a")),
            ("/v1/{name}", "/v1/a/b", None),
            ("/v1/{name}", "/v1/", None),
            ("/v1/{name}", "/v1", None),
            (
                "/v1/{name=messages/*}",
                "/v1/messages/1",
                Some("messages/1"),
            ),
            ("/v1/{name=messages/*}", "/v1/other/1", None),
            ("/v1/{name=a/**}", "/v1/a/b/c", Some("a/b/c")),
            ("/v1/{name=a/**}", "/v1/a", Some("a")),
            ("/v1/{name=**}", "/v1/x/y", Some("x/y")),
            ("/v1/{name=a/*}/b", "/v1/a/1/b", Some("a/1")),
            ("/v1/{name}:go", "/v1/a:go", Some("a")),
            ("/v1/{name}:go", "/v1/a", None),
            ("/v1/{name}:go", "/v1/:go", None),
            ("/v1/{name=a/**}:go", "/v1/a/b/c:go", Some("a/b/c")),
            ("/v1/{name}", "/v1/a:go", Some("a:go")),
            ("/v1/{name}", "/v1/a%2Fb%20c", Some("a/b c")),
            ("/v1/{name=**}", "/v1/a%2Fb%20c", Some("a%2Fb c")),
            ("/v1/{name=*}", "/v1/a%2Fb", Some("a/b")),
            ("/v1/{name}", "/v1/%ff", None),
            ("/v1/{name}", "/v1/%zz", Some("%zz")),
            ("/v1/{name}", "/v2/a", None),
        ] {
            assert_eq!(
                value(template, path).as_deref(),
                expected,
                "{template} {path}"
            );
        }
        assert_eq!(captured("/v1/*/x", "/v1/a/x"), Some(Vec::new()));
        let two = captured("/{a.b}/x/{c}", "/1/x/2").unwrap();
        assert_eq!(two, [("a.b".into(), "1".into()), ("c".into(), "2".into())]);
    }

    #[test]
    fn what_is_no_template_says_why() {
        for text in [
            "v1/a",
            "/v1/{a",
            "/v1/{a=}",
            "/v1/{=*}",
            "/v1/{a.}",
            "/v1//a",
            "/v1/**/a",
            "/v1/{a=**}/b",
            "/v1/{a={b}}",
            "/v1/{a}/{a}",
            "/v1/a:",
            "/v1/a*",
            "/v1/{a}b",
            "/v1/{1a}",
        ] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_says_more_comes_first() {
        let of = |text: &str| Template::parse(text).unwrap().shape();

        assert!(of("/v1/a") < of("/v1/{x}"));
        assert!(of("/v1/{x}") < of("/v1/{x=**}"));
        assert!(of("/v1/{x}:go") < of("/v1/{x}"));
        assert!(of("/v1/{x}") == of("/v1/{y=*}"));
    }

    proptest! {
        #[test]
        fn no_path_breaks_it(template in "(/([a-z]|\\*|\\*\\*|\\{[a-z]+(=[a-z*/]*)?\\})){1,4}(:[a-z]+)?", path in "/[ -~]{0,40}") {
            if let Ok(template) = Template::parse(&template) {
                let _ = template.matches(&path);
            }
        }

        #[test]
        fn any_text_is_a_template_or_not(text in "[ -~]{0,40}") {
            let _ = Template::parse(&text);
        }
    }
}
