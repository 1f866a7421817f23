//! Templates of bodies: compiled when the configuration is read, rendered within bounds of steps, memory and output.
//! It must not know where values come from; what a template asks for and is not there is an error, never an empty text.
//! Part of `body`.

use std::collections::HashSet;
use std::io::{self, Write};

use http::HeaderValue;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};
use schemars::JsonSchema;
use serde::de::IgnoredAny;
use serde::Deserialize;
use serde_json::Value;

use crate::contract::{Build, Problem};

/// A new body, in the language of Jinja (`minijinja`): `{{ request.body.id }}` prints a value, `{% for … %}` and `{% if … %}` repeat and
/// choose. Known are `request` (`method`, `path`, `query`, `headers`, and of requests `body`), `principal` (`name`, `kind`, `id`,
/// `claims`; none where nobody is proven), `client` (`address`, `route`, `request_id`), and of responses `response` (`status`,
/// `headers`, `body`). Names of fields are in lower case: `request.headers['x-user']`. What is asked for and not there refuses the
/// body; ask with `is defined`, or give a `default`. It may take half a million steps.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The template. For JSON every value prints itself as JSON, with its quotes. This or `file`.
    #[serde(default)]
    pub text: Option<String>,
    /// The file that holds it, relative to the configuration; read when the configuration is. Default: none.
    #[serde(default)]
    pub file: Option<String>,
    /// The media type of the new body. Values are escaped for JSON, HTML and XML; other types get them as they are. What is no JSON in
    /// the end, although this says so, is refused with the cause `body.template`. Default: application/json.
    #[serde(default = "json")]
    pub media_type: String,
}

fn json() -> String {
    "application/json".to_owned()
}

/// A template that was compiled.
pub(super) struct Template {
    environment: Environment<'static>,
    pub(super) media: HeaderValue,
    is_json: bool,
    asks: HashSet<String>,
    most: usize,
}

/// Why nothing was rendered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unrendered {
    /// Something it asks for is not there.
    Undefined,
    /// It would be too large.
    TooLarge,
    /// Why, without values.
    Failed(String),
}

impl Template {
    /// Compiles the template that stands at `path`.
    pub(super) fn of(
        path: &str,
        settings: &Settings,
        most: u64,
        build: &Build<'_>,
    ) -> Result<Template, Problem> {
        let within = path;
        let (path, text) = source(within, settings, build)?;
        let media = HeaderValue::from_str(&settings.media_type).ok();
        let media = media.filter(|media| media.to_str().is_ok_and(|text| text.contains('/')));
        let Some(media) = media else {
            let fact = format!("\"{}\" is no media type", settings.media_type);
            return Err(Problem::at(format!("{within}.media_type"), fact));
        };
        let escape = escape(&settings.media_type);
        let is_json = escape == AutoEscape::Json;
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(move |_| escape.clone());
        environment.set_recursion_limit(MOST_DEPTH);
        environment.set_fuel(Some(STEPS + most / BYTES_PER_STEP));
        let added = environment.add_template_owned(NAME, text);
        added.map_err(|error| Problem::at(&path, told(&error)))?;
        let template = environment.get_template(NAME);
        let template = template.map_err(|error| Problem::at(&path, told(&error)))?;
        let asks = template.undeclared_variables(true);
        let unknown = asks.iter().find(|name| {
            let root = name.split('.').next().unwrap_or_default();
            !KNOWN.contains(&root) && !is_function(&environment, root)
        });
        if let Some(unknown) = unknown {
            let fact = format!("asks for \"{unknown}\", which is not known");
            return Err(Problem::at(path, fact).help(format!("known: {}", KNOWN.join(", "))));
        }
        Ok(Template {
            asks,
            environment,
            media,
            is_json,
            most: usize::try_from(most).unwrap_or(usize::MAX),
        })
    }

    /// Whether it may ask for this, such as `request.body`: it names it, something in it, or what it is in.
    pub(super) fn asks(&self, variable: &str) -> bool {
        let mut asks = self.asks.iter();
        self.names(variable) || asks.any(|asked| is_within(variable, asked))
    }

    /// Whether it names this, or something in it.
    pub(super) fn names(&self, variable: &str) -> bool {
        self.asks.iter().any(|asked| is_within(asked, variable))
    }

    /// The body that it makes of these facts.
    pub(super) fn render(&self, facts: &Value) -> Result<Vec<u8>, Unrendered> {
        let template = self.environment.get_template(NAME);
        let template = template.map_err(|error| Unrendered::Failed(told(&error)))?;
        let mut out = Bounded {
            bytes: Vec::new(),
            most: self.most,
            is_full: false,
        };
        let facts = minijinja::Value::from(Serde(facts));
        let rendered = template.render_captured_to(facts, &mut out).map(|_| ());
        match rendered {
            Err(_) if out.is_full => return Err(Unrendered::TooLarge),
            Err(error) if error.kind() == ErrorKind::UndefinedError => {
                return Err(Unrendered::Undefined)
            }
            Err(error) => return Err(Unrendered::Failed(told(&error))),
            Ok(()) => {}
        }
        if self.is_json && serde_json::from_slice::<IgnoredAny>(&out.bytes).is_err() {
            return Err(Unrendered::Failed(
                "the template's outcome is not JSON".to_owned(),
            ));
        }
        Ok(out.bytes)
    }
}

fn is_within(longer: &str, shorter: &str) -> bool {
    let rest = longer.strip_prefix(shorter);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn is_function(environment: &Environment<'_>, name: &str) -> bool {
    environment.globals().any(|(global, _)| global == name)
}

fn source(path: &str, settings: &Settings, build: &Build<'_>) -> Result<(String, String), Problem> {
    match (&settings.text, &settings.file) {
        (Some(text), None) => Ok((format!("{path}.text"), text.clone())),
        (None, Some(file)) => {
            let path = format!("{path}.file");
            match std::fs::read_to_string(build.path(file)) {
                Ok(text) => Ok((path, text)),
                Err(error) => Err(Problem::at(path, format!("\"{file}\": {error}"))),
            }
        }
        _ => Err(Problem::at(path, "needs a text").help("give either `text` or `file`")),
    }
}

/// How values are written into a body of a media type.
fn escape(media: &str) -> AutoEscape {
    let media = media.split(';').next().unwrap_or_default().trim();
    let media = media.to_ascii_lowercase();
    match media.rsplit(['/', '+']).next() {
        Some("json") => AutoEscape::Json,
        Some("html" | "xml" | "xhtml") => AutoEscape::Html,
        _ => AutoEscape::None,
    }
}

/// What is wrong, without values of requests.
fn told(error: &minijinja::Error) -> String {
    let line = error.line().unwrap_or_default();
    match error.kind() {
        // Only while compiling, where there are no values yet.
        ErrorKind::SyntaxError | ErrorKind::UnknownFilter | ErrorKind::UnknownTest => {
            let detail = error.detail().unwrap_or_default();
            format!("{} in line {line}: {detail}", error.kind())
        }
        kind => format!("{kind} in line {line}"),
    }
}

struct Bounded {
    bytes: Vec<u8>,
    most: usize,
    is_full: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.most - self.bytes.len() {
            self.is_full = true;
            return Err(io::Error::other("more than may come out"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const NAME: &str = "template";
const KNOWN: [&str; 4] = ["request", "response", "principal", "client"];
const MOST_DEPTH: usize = 50;
/// A step is an instruction, or 64 bytes that are made: some tens of milliseconds at most.
const STEPS: u64 = 500_000;
/// Large bodies are copied a few times.
const BYTES_PER_STEP: u64 = 16;
