//! A response's frames as JSON: one message, or a stream of them as lines or as an array.
//! It must not know heads.
//! Part of `grpc_json`.

use std::io::{self, Write};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use prost_reflect::{DynamicMessage, SerializeOptions};
use serde_json::Value;

use super::binding::Binding;
use super::Form;
use crate::codec::whole::{self, NotPlain};
use crate::codec::Coding;

/// Why a response cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    Malformed,
    TooLarge,
}

/// Frames out of pieces.
#[derive(Debug)]
pub(super) struct Frames {
    left: BytesMut,
    /// What compressed messages are in.
    coding: Option<Coding>,
}

impl Frames {
    /// Frames of a response with this head. Nobody asks for a coding; some services use theirs all the same.
    pub(super) fn of(head: &HeaderMap) -> Frames {
        let name = head
            .get("grpc-encoding")
            .and_then(|name| name.to_str().ok());
        Frames {
            left: BytesMut::new(),
            coding: name.and_then(Coding::named),
        }
    }

    /// Takes a piece.
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.left.extend_from_slice(piece);
    }

    /// The next message, once it is whole.
    pub(super) fn next(&mut self, most: usize) -> Result<Option<Bytes>, Wrong> {
        let Some((flags, length)) = self.left.get(..5).and_then(|prefix| prefix.split_first())
        else {
            return Ok(None);
        };
        let length: [u8; 4] = length.try_into().map_err(|_| Wrong::Malformed)?;
        let length = u32::from_be_bytes(length) as usize;
        let coding = match (*flags, self.coding) {
            (0, _) => None,
            (1, Some(coding)) => Some(coding),
            _ => return Err(Wrong::Malformed),
        };
        if length > most {
            return Err(Wrong::TooLarge);
        }
        if self.left.len() < length + 5 {
            return Ok(None);
        }
        self.left.advance(5);
        let message = self.left.split_to(length).freeze();
        match coding {
            None => Ok(Some(message)),
            Some(coding) => match whole::decoded(coding, &message, most as u64) {
                Ok(message) => Ok(Some(message)),
                Err(NotPlain::TooLarge) => Err(Wrong::TooLarge),
                Err(NotPlain::Unknown | NotPlain::Malformed) => Err(Wrong::Malformed),
            },
        }
    }

    /// Whether nothing is left over.
    pub(super) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }
}

/// Prints messages.
#[derive(Debug, Clone)]
pub(super) struct Printer {
    pub(super) options: SerializeOptions,
    pub(super) proto_names: bool,
    pub(super) most: usize,
}

impl Printer {
    /// The JSON of a message of a binding's method.
    pub(super) fn print(&self, binding: &Binding, message: &[u8]) -> Result<Vec<u8>, Wrong> {
        let message = DynamicMessage::decode(binding.method.output.clone(), message);
        let message = message.map_err(|_| Wrong::Malformed)?;
        let printed = match &binding.answer {
            None => {
                let mut out = Bounded {
                    bytes: Vec::new(),
                    most: self.most,
                };
                let mut printer = serde_json::Serializer::new(&mut out);
                let printed = message.serialize_with_options(&mut printer, &self.options);
                if printed.is_err() && out.most == 0 {
                    return Err(Wrong::TooLarge);
                }
                printed.map(|()| out.bytes)
            }
            Some(field) => {
                let name = match self.proto_names {
                    true => field.name(),
                    false => field.json_name(),
                };
                // Also where the field has its default, which is not printed as part of a message.
                let options = match message.has_field(field) {
                    true => self.options.clone(),
                    false => self.options.clone().skip_default_fields(false),
                };
                let all = message.serialize_with_options(serde_json::value::Serializer, &options);
                all.and_then(|all| serde_json::to_vec(all.get(name).unwrap_or(&Value::Null)))
            }
        };
        let printed = printed.map_err(|_| Wrong::Malformed)?;
        match printed.len() > self.most {
            true => Err(Wrong::TooLarge),
            false => Ok(printed),
        }
    }
}

/// Takes so many bytes, and then none: a few bytes of a message may print as many more, where fields with their defaults are printed.
struct Bounded {
    bytes: Vec<u8>,
    /// What there is left room for; 0 once it was not enough.
    most: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.most.checked_sub(bytes.len()) {
            Some(left) => {
                self.most = left;
                self.bytes.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            None => {
                self.most = 0;
                Err(io::Error::other("more than may come out"))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A stream on its way.
#[derive(Debug)]
pub(super) struct Stream {
    frames: Frames,
    form: Form,
    /// Which binding.
    pub(super) at: usize,
    has_begun: bool,
    is_over: bool,
}

impl Stream {
    /// One that begins.
    pub(super) fn new(frames: Frames, form: Form, at: usize) -> Stream {
        Stream {
            frames,
            form,
            at,
            has_begun: false,
            is_over: false,
        }
    }

    /// What a piece of it becomes.
    pub(super) fn piece(
        &mut self,
        piece: &[u8],
        binding: &Binding,
        printer: &Printer,
    ) -> Result<Vec<u8>, Wrong> {
        let mut out = Vec::new();
        self.frames.push(piece);
        while let Some(message) = self.frames.next(printer.most)? {
            let printed = printer.print(binding, &message)?;
            self.add(&mut out, &printed);
        }
        Ok(out)
    }

    fn add(&mut self, out: &mut Vec<u8>, printed: &[u8]) {
        let before: &[u8] = match (self.form, self.has_begun) {
            (Form::Array, false) => b"[",
            (Form::Array, true) => b",",
            (Form::Lines, _) => b"",
        };
        self.has_begun = true;
        out.extend_from_slice(before);
        out.extend_from_slice(printed);
        if self.form == Form::Lines {
            out.push(b'\n');
        }
    }

    /// The end of it; `error` where it did not end well. Nothing the second time.
    pub(super) fn end(&mut self, error: Option<Value>) -> Vec<u8> {
        let mut out = Vec::new();
        if std::mem::replace(&mut self.is_over, true) {
            return out;
        }
        if let Some(error) = error {
            let printed = serde_json::json!({ "error": error }).to_string();
            self.add(&mut out, printed.as_bytes());
        }
        match (self.form, self.has_begun) {
            (Form::Array, true) => out.push(b']'),
            (Form::Array, false) => out.extend_from_slice(b"[]"),
            (Form::Lines, _) => {}
        }
        out
    }

    /// Whether no message is left half.
    pub(super) fn is_whole(&self) -> bool {
        self.frames.is_empty()
    }
}
