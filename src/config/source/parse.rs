//! Events of the YAML parser in, one located tree out; refuses what configurations do not need.
//! It must not know files or the schema.
//! Called by `source::files` for each file.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};

use super::files::Reader;
use super::{interpolate, scalar, At, Key, Kind, Node};

/// The tree of one file; complaints are in the report.
pub(super) fn tree(reader: &mut Reader, file: u32, bytes: &[u8]) -> Option<Node> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let before = &bytes[..error.valid_up_to()];
            let line = before.iter().filter(|byte| **byte == b'\n').count() as u32 + 1;
            let start = before
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |at| at + 1);
            let column = (before.len() - start) as u32 + 1;
            let at = At { file, line, column };
            reader.complain(
                at,
                "is not UTF-8 text from here on",
                "save the file as UTF-8",
            );
            return None;
        }
    };
    let mut events = Events {
        parser: Parser::new_from_str(text),
        reader,
        file,
        anchors: HashMap::new(),
        anchored: 0,
        expanded: Measure::default(),
    };
    events.reader.heed_nothing();
    events.document().ok()
}

struct Events<'t, 'r> {
    parser: Parser<'t, StrInput<'t>>,
    reader: &'r mut Reader,
    file: u32,
    anchors: HashMap<usize, (Node, Measure)>,
    /// Values kept for anchors so far.
    anchored: usize,
    /// Values and bytes copied for aliases so far.
    expanded: Measure,
}

/// Reading cannot go on; the reason is in the report.
struct Stop;

#[derive(Debug, Clone, Copy, Default)]
struct Measure {
    nodes: usize,
    bytes: usize,
    height: usize,
}

impl<'t> Events<'t, '_> {
    fn document(&mut self) -> Result<Node, Stop> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
                Event::StreamEnd => break,
                Event::DocumentStart(_) if root.is_some() => {
                    let remedy = "keep one, or use `include`";
                    return self.stop(span, "a second document starts here", remedy);
                }
                Event::DocumentStart(_) => {
                    let (event, span) = self.next()?;
                    root = Some(self.node(event, span, 0)?);
                }
                _ => return self.stop(span, "more text follows the end of the document", ""),
            }
        }
        let at = At {
            file: self.file,
            line: 1,
            column: 1,
        };
        Ok(root.unwrap_or(Node {
            kind: Kind::Null,
            at,
            secret: false,
        }))
    }

    fn next(&mut self) -> Result<(Event<'t>, Span), Stop> {
        match self.parser.next_event() {
            Some(Ok(found)) => Ok(found),
            Some(Err(error)) => {
                let at = self.at(Span::empty(*error.marker()));
                self.reader.heed_all();
                self.reader
                    .complain(at, format!("is not YAML: {}", error.info()), "");
                Err(Stop)
            }
            None => self.stop(Span::default(), "is not YAML: ends too early", ""),
        }
    }

    fn at(&self, span: Span) -> At {
        At {
            file: self.file,
            line: span.start.line().max(1) as u32,
            column: span.start.col() as u32 + 1,
        }
    }

    fn stop<T>(&mut self, span: Span, fact: &str, remedy: &str) -> Result<T, Stop> {
        // Also where nothing else is heeded: what follows is not read.
        self.reader.heed_all();
        self.complain(span, fact, remedy);
        Err(Stop)
    }

    fn complain(&mut self, span: Span, fact: impl Into<String>, remedy: &str) {
        let at = self.at(span);
        self.reader.complain(at, fact, remedy);
    }

    /// Recursion is safe: `depth` is bounded before it descends.
    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, Stop> {
        self.reader.nodes += 1;
        if self.reader.nodes > NODES {
            return self.stop(span, &format!("holds more than {NODES} values"), "");
        }
        if depth > DEPTH {
            return self.stop(span, &format!("is nested deeper than {DEPTH} levels"), "");
        }
        let (node, anchor, tagged) = match event {
            Event::Alias(anchor) => return self.alias(anchor, span, depth),
            Event::Scalar(text, style, anchor, tag) => {
                (self.scalar(&text, style, span), anchor, tag.is_some())
            }
            Event::SequenceStart(anchor, tag) => (self.list(span, depth)?, anchor, tag.is_some()),
            Event::MappingStart(anchor, tag) => (self.map(span, depth)?, anchor, tag.is_some()),
            _ => return self.stop(span, "is not YAML: a value is missing", ""),
        };
        if tagged {
            let remedy = "remove the word with `!`; to make a value text, put it in quotes";
            self.complain(span, "tags are not used in configurations", remedy);
        }
        if anchor != 0 {
            self.keep(anchor, &node, span)?;
        }
        Ok(node)
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, span: Span) -> Node {
        let at = self.at(span);
        let is_plain = style == ScalarStyle::Plain;
        if !text.contains("${") || !self.reader.heeds() {
            let kind = if is_plain {
                scalar::plain(text)
            } else {
                Kind::Str(text.to_owned())
            };
            return Node {
                kind,
                at,
                secret: false,
            };
        }
        let done = interpolate::interpolated(self.reader, text, at);
        let kind = if is_plain && done.whole {
            scalar::plain(&done.text)
        } else {
            Kind::Str(done.text)
        };
        Node {
            kind,
            at,
            secret: done.secret,
        }
    }

    fn list(&mut self, span: Span, depth: usize) -> Result<Node, Stop> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                break;
            }
            items.push(self.node(event, span, depth + 1)?);
        }
        Ok(Node {
            kind: Kind::Seq(items),
            at: self.at(span),
            secret: false,
        })
    }

    fn map(&mut self, span: Span, depth: usize) -> Result<Node, Stop> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut seen: HashMap<String, At> = HashMap::new();
        loop {
            if depth == 0 {
                self.reader.heed_nothing();
            }
            let (event, key_span) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let key = self.key(event, key_span, depth)?;
            if let Some(key) = key.as_ref().filter(|_| depth == 0) {
                self.reader.heed(&key.name);
            }
            let (event, span) = self.next()?;
            let node = self.node(event, span, depth + 1)?;
            let Some(key) = key else { continue };
            match seen.insert(key.name.clone(), key.at) {
                Some(first) => {
                    let remedy = format!("it is already at {}", self.reader.place(first));
                    let fact = format!("the key \"{}\" is given twice", key.name);
                    self.reader.complain(key.at, fact, remedy);
                }
                None => entries.push((key, node)),
            }
        }
        Ok(Node {
            kind: Kind::Map(entries),
            at: self.at(span),
            secret: false,
        })
    }

    /// The key, or nothing if it was refused.
    fn key(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Option<Key>, Stop> {
        let Event::Scalar(text, style, anchor, tag) = &event else {
            self.complain(span, "a key must be text", "");
            self.node(event, span, depth + 1)?;
            return Ok(None);
        };
        let is_plain = *style == ScalarStyle::Plain;
        if *anchor != 0 || tag.is_some() {
            self.complain(span, "a key cannot have an anchor or a tag", "");
        }
        if is_plain && text == "<<" {
            let remedy = "write the keys out; plugins can be shared by name";
            self.complain(
                span,
                "merge keys (`<<`) are not used in configurations",
                remedy,
            );
            return Ok(None);
        }
        if is_plain && !matches!(scalar::plain(text), Kind::Str(_)) {
            match scalar::plain(text) {
                Kind::Null => self.complain(span, "a key must be text, found nothing", ""),
                _ => self.complain(
                    span,
                    format!("the key {text} is not text"),
                    "put it in quotes",
                ),
            }
            return Ok(None);
        }
        let name = text.to_string();
        Ok(Some(Key {
            name,
            at: self.at(span),
        }))
    }

    fn keep(&mut self, anchor: usize, node: &Node, span: Span) -> Result<(), Stop> {
        let measure = measure(node);
        self.anchored += measure.nodes + measure.bytes / 64;
        if self.anchored > ANCHORED_NODES {
            return self.stop(
                span,
                "anchors (`&name`) hold too much",
                "anchor smaller parts",
            );
        }
        self.anchors.insert(anchor, (node.clone(), measure));
        Ok(())
    }

    fn alias(&mut self, anchor: usize, span: Span, depth: usize) -> Result<Node, Stop> {
        let Some((node, measure)) = self.anchors.get(&anchor) else {
            return self.stop(span, "an alias stands inside its own anchor", "");
        };
        self.expanded.nodes += measure.nodes;
        self.expanded.bytes += measure.bytes;
        if self.expanded.nodes > ALIAS_NODES || self.expanded.bytes > ALIAS_BYTES {
            let fact = format!("aliases expand to more than {ALIAS_NODES} values");
            return self.stop(span, &fact, "write fewer aliases (`*name`)");
        }
        if depth + measure.height > DEPTH {
            return self.stop(span, &format!("is nested deeper than {DEPTH} levels"), "");
        }
        self.reader.nodes += measure.nodes;
        Ok(node.clone())
    }
}

fn measure(node: &Node) -> Measure {
    let mut sum = Measure {
        nodes: 1,
        bytes: 0,
        height: 0,
    };
    let mut add = |child: &Node, key: usize| {
        let inner = measure(child);
        sum.nodes += inner.nodes;
        sum.bytes += inner.bytes + key;
        sum.height = sum.height.max(inner.height + 1);
    };
    match &node.kind {
        Kind::Seq(items) => items.iter().for_each(|item| add(item, 0)),
        Kind::Map(entries) => entries
            .iter()
            .for_each(|(key, item)| add(item, key.name.len())),
        Kind::Str(text) => sum.bytes = text.len(),
        Kind::Null | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) => {}
    }
    sum
}

const DEPTH: usize = 64;
const NODES: usize = 1_000_000;
const ALIAS_NODES: usize = 10_000;
const ALIAS_BYTES: usize = 8 << 20;
/// Copies kept for anchors; text counts one for 64 bytes.
const ANCHORED_NODES: usize = 500_000;
