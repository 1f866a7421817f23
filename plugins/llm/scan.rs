//! Finds what an answer says of its tokens in JSON that passes by, byte after byte, whatever pieces it comes in.
//! It must not hold the answer: only a `usage` object is kept while it is read, up to a bound.
//! Fed by `reader`, with whole bodies and with the data of single events.

use super::usage::Usage;

/// The state: where in the document the last byte was. `usage` is looked for in the document itself and in its `response` (the
/// Responses API) and `message` (Anthropic); nowhere else, and never inside of a text.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    /// What was found so far, over all documents.
    pub(super) usage: Usage,
    /// Whether this document has a `usage` object.
    pub(super) has_usage: bool,
    choices: Choices,
    depth: u32,
    text: Text,
    levels: [Level; 2],
    key: Key,
    taken: Option<Vec<u8>>,
    /// The depth inside of the object that is taken.
    inside: u32,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Text {
    #[default]
    Outside,
    Inside,
    Escaped,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Choices {
    #[default]
    Unknown,
    /// Its bracket has come, and nothing else.
    Open,
    Empty,
    Some,
}

/// One of the outer two objects or lists.
#[derive(Debug, Default, Clone, Copy)]
struct Level {
    is_object: bool,
    /// Whether the next text is a member's name.
    wants_key: bool,
    /// The member whose value is read.
    member: Member,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Member {
    #[default]
    Other,
    Usage,
    Choices,
    /// `response` or `message`.
    Around,
}

/// A member's name, as far as it can be one that matters.
#[derive(Debug, Default)]
struct Key {
    bytes: [u8; 8],
    len: usize,
    is_read: bool,
}

impl Scanner {
    /// Another document begins; what was found stays.
    pub(super) fn begin(&mut self) {
        *self = Scanner {
            usage: self.usage,
            ..Scanner::default()
        };
    }

    /// Whether this document is the one that only tells of usage, which services send at the end of a stream when they were asked to.
    pub(super) fn is_only_usage(&self) -> bool {
        self.has_usage && self.choices == Choices::Empty
    }

    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        loop {
            // Most of an answer is text that nothing is looked for in.
            if self.text == Text::Inside && !self.key.is_read && self.taken.is_none() {
                let is_end = |byte: &u8| matches!(byte, b'"' | b'\\');
                let end = bytes.iter().position(is_end).unwrap_or(bytes.len());
                bytes = &bytes[end..];
            }
            let Some((byte, rest)) = bytes.split_first() else {
                return;
            };
            self.byte(*byte);
            bytes = rest;
        }
    }

    fn byte(&mut self, byte: u8) {
        match (self.text, byte) {
            (Text::Outside, _) => self.outside(byte),
            (Text::Escaped, _) => {
                self.text = Text::Inside;
                self.key.spoil();
            }
            (Text::Inside, b'\\') => self.text = Text::Escaped,
            (Text::Inside, b'"') => {
                self.text = Text::Outside;
                self.named();
            }
            (Text::Inside, _) => self.key.push(byte),
        }
        self.keep(byte);
    }

    fn outside(&mut self, byte: u8) {
        let is_space = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        if self.choices == Choices::Open && !is_space {
            self.choices = match byte {
                b']' => Choices::Empty,
                _ => Choices::Some,
            };
        }
        match byte {
            b'"' => {
                self.text = Text::Inside;
                let wants = self.level().is_some_and(|level| level.wants_key);
                self.key = Key {
                    is_read: wants,
                    ..Key::default()
                };
            }
            b'{' | b'[' => self.open(byte),
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            b':' => {
                if let Some(level) = self.level() {
                    level.wants_key = false;
                }
            }
            b',' => {
                if let Some(level) = self.level().filter(|level| level.is_object) {
                    (level.wants_key, level.member) = (true, Member::Other);
                }
            }
            _ => {}
        }
    }

    fn open(&mut self, byte: u8) {
        let is_object = byte == b'{';
        let value_of = |level: &Level| match level.wants_key {
            true => Member::Other,
            false => level.member,
        };
        let [outer, inner] = &self.levels;
        let is_usage = match self.depth {
            1 => value_of(outer) == Member::Usage,
            2 => value_of(outer) == Member::Around && value_of(inner) == Member::Usage,
            _ => false,
        };
        if self.depth == 1 && !is_object && value_of(outer) == Member::Choices {
            self.choices = Choices::Open;
        }
        self.depth = self.depth.saturating_add(1);
        if let Some(level) = self.level() {
            *level = Level {
                is_object,
                wants_key: is_object,
                member: Member::Other,
            };
        }
        if is_usage && is_object && self.taken.is_none() {
            self.taken = Some(Vec::new());
            self.inside = self.depth;
        }
    }

    /// The level that the next byte is in, where it matters.
    fn level(&mut self) -> Option<&mut Level> {
        let at = usize::try_from(self.depth).ok()?.checked_sub(1)?;
        self.levels.get_mut(at)
    }

    /// A text has ended: a member's name, if one was to come.
    fn named(&mut self) {
        if !std::mem::take(&mut self.key.is_read) {
            return;
        }
        let member = match self.key.bytes.get(..self.key.len) {
            Some(b"usage") => Member::Usage,
            Some(b"choices") => Member::Choices,
            Some(b"response" | b"message") => Member::Around,
            _ => Member::Other,
        };
        if let Some(level) = self.level() {
            level.member = member;
        }
    }

    fn keep(&mut self, byte: u8) {
        let Some(taken) = &mut self.taken else {
            return;
        };
        taken.push(byte);
        let is_over = self.text == Text::Outside && self.depth < self.inside;
        if is_over {
            self.has_usage = true;
            self.usage.hear(taken);
            self.taken = None;
        } else if taken.len() >= LONGEST {
            self.usage.dismiss();
            self.taken = None;
        }
    }
}

impl Key {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len).filter(|_| self.is_read) {
            *place = byte;
        }
        self.len = self.len.saturating_add(1);
    }

    /// Nothing that matters is written with escapes.
    fn spoil(&mut self) {
        self.len = usize::MAX;
    }
}

/// Bytes of a `usage` object; those of services have some hundred.
const LONGEST: usize = 4096;
