//! An answer as it passes: JSON, or server-sent events (WHATWG HTML section 9.2), whose lines and events may be cut anywhere.
//! It must not hold the answer: where an event is to be taken out, one event is held, up to a bound.
//! Fed by the response's hooks, with each piece.

use bytes::Bytes;

use super::scan::Scanner;
use super::usage::Usage;

/// What reads an answer.
#[derive(Debug)]
pub(super) enum Reader {
    /// Nothing can: it is of another kind, or compressed. Its bytes are counted.
    Blind(u64),
    /// One document.
    Document { scanner: Box<Scanner>, bytes: u64 },
    /// Events, each with a document.
    Events(Box<Events>),
}

impl Reader {
    pub(super) fn document() -> Reader {
        Reader::Document {
            scanner: Box::default(),
            bytes: 0,
        }
    }

    pub(super) fn events(strip: Strip) -> Reader {
        Reader::Events(Box::new(Events::new(strip)))
    }

    /// Reads a piece, from which something may be taken out.
    pub(super) fn piece(&mut self, piece: &mut Option<Bytes>) {
        let Some(bytes) = piece else {
            return;
        };
        match self {
            Reader::Blind(count) => *count += bytes.len() as u64,
            Reader::Document {
                scanner,
                bytes: count,
            } => {
                *count += bytes.len() as u64;
                scanner.feed(bytes);
            }
            Reader::Events(events) => {
                if let Some(rest) = events.piece(bytes) {
                    *bytes = rest;
                }
            }
        }
    }

    /// What was held of an event that did not end.
    pub(super) fn end(&mut self) -> Bytes {
        match self {
            Reader::Events(events) => events.end(),
            Reader::Blind(_) | Reader::Document { .. } => Bytes::new(),
        }
    }

    pub(super) fn usage(&self) -> Usage {
        match self {
            Reader::Blind(_) => Usage::default(),
            Reader::Document { scanner, .. } => scanner.usage,
            Reader::Events(events) => events.scanner.usage,
        }
    }

    /// Tokens that came, as far as one can tell without being told: an event brings about one, and four bytes of a document are one.
    pub(super) fn came(&self) -> u64 {
        match self {
            Reader::Blind(bytes) | Reader::Document { bytes, .. } => bytes / 4,
            Reader::Events(events) => events.count,
        }
    }
}

/// Whether the event that only tells of usage is taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strip {
    /// It stays: the client asked for it.
    Nothing,
    /// It goes.
    Usage,
}

/// Events under way.
#[derive(Debug)]
pub(super) struct Events {
    scanner: Scanner,
    strip: Strip,
    line: Line,
    /// Whether the last byte was a carriage return, to which a line feed may belong.
    after_return: bool,
    /// The event under way, where it may have to go.
    held: Vec<u8>,
    /// Whether it is longer than what is held, and goes on as it comes.
    passes: bool,
    /// Whether the event before was taken out.
    took: bool,
    has_data: bool,
    count: u64,
}

/// What is known of the line under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// So many bytes of `data:` have come, and no other.
    Name(usize),
    /// What follows `data:`.
    Data,
    Other,
}

impl Events {
    fn new(strip: Strip) -> Events {
        Events {
            scanner: Scanner::default(),
            strip,
            line: Line::Name(0),
            after_return: false,
            held: Vec::new(),
            passes: false,
            took: false,
            has_data: false,
            count: 0,
        }
    }

    /// Reads a piece; what goes on of it, where that is not all.
    fn piece(&mut self, piece: &[u8]) -> Option<Bytes> {
        if self.strip == Strip::Nothing {
            piece.iter().for_each(|byte| {
                if !self.belongs_to_return(*byte) {
                    self.byte(*byte);
                }
            });
            return None;
        }
        let mut out = Vec::with_capacity(piece.len() + self.held.len());
        for byte in piece {
            let is_between = self.held.is_empty() && !self.passes;
            let belongs = self.belongs_to_return(*byte);
            if belongs && is_between {
                // The end of the event before, which is gone or on its way.
                if !self.took {
                    out.push(*byte);
                }
                continue;
            }
            match self.passes {
                true => out.push(*byte),
                false => self.held.push(*byte),
            }
            let is_over = !belongs && self.byte(*byte);
            if is_over {
                self.over(&mut out);
            } else if self.held.len() > MOST_HELD {
                out.append(&mut self.held);
                self.passes = true;
            }
        }
        Some(out.into())
    }

    fn belongs_to_return(&mut self, byte: u8) -> bool {
        std::mem::take(&mut self.after_return) && byte == b'\n'
    }

    /// Whether the event is over with this byte.
    fn byte(&mut self, byte: u8) -> bool {
        if !matches!(byte, b'\n' | b'\r') {
            self.line = match self.line {
                Line::Name(at) if DATA.get(at) == Some(&byte) && at + 1 == DATA.len() => {
                    self.has_data = true;
                    Line::Data
                }
                Line::Name(at) if DATA.get(at) == Some(&byte) => Line::Name(at + 1),
                Line::Name(_) | Line::Other => Line::Other,
                Line::Data => {
                    self.scanner.feed(&[byte]);
                    Line::Data
                }
            };
            return false;
        }
        self.after_return = byte == b'\r';
        let is_blank = self.line == Line::Name(0);
        self.line = Line::Name(0);
        if is_blank {
            self.count += u64::from(std::mem::take(&mut self.has_data));
            self.took = self.strip == Strip::Usage && !self.passes && self.scanner.is_only_usage();
            self.scanner.begin();
        }
        is_blank
    }

    /// Lets the event go on that is over, or not.
    fn over(&mut self, out: &mut Vec<u8>) {
        match self.took {
            true => self.held.clear(),
            false => out.append(&mut self.held),
        }
        self.passes = false;
    }

    fn end(&mut self) -> Bytes {
        std::mem::take(&mut self.held).into()
    }
}

const DATA: &[u8] = b"data:";
/// An event that only tells of usage has some hundred bytes.
const MOST_HELD: usize = 16 << 10;
