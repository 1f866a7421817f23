//! Compresses responses for clients that take it: zstd, brotli or gzip, as they stream.
//! It must not know routes; what it compresses it knows by media type and size.
//! Called by the chain of a listener or route that names it; put it before plugins that read response bodies.

mod kinds;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE};
use http::{HeaderValue, Method, Version};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::codec::accept::best;
use crate::codec::encode::{Encoder, Flush};
use crate::codec::spare::{Levels, Spare};
use crate::codec::{coding, is_not_to_change, recoded, vary, Coded, Coding};
use crate::contract::{
    causes, Answer, Build, Cause, Counter, Hooks, Plugin, PluginDef, Problem, Response, Safety,
    Size, Slot, Slots, Verdict,
};

use kinds::Kinds;

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// Settings of `compress`.
///
/// Left as they are: answers of the proxy itself, what is coded already, parts (206), `Cache-Control: no-transform`, upgraded
/// connections, responses without a body, and all responses to HEAD and HTTP/1.0. What is compressed loses its `Content-Length` and
/// `Accept-Ranges`, its ETag becomes weak, and trailers are dropped. Work is done on the threads that carry traffic, at most 64 KiB at
/// a time, or all at once of a response that another plugin held back; a response under way holds up to 0.4 MiB (gzip), 2 MiB (zstd) or
/// 2 MiB (br), and more at higher levels. What gzip and zstd held is kept for the next responses, at most 32 MiB for an instance; br
/// begins anew for each.
///
/// A response that holds both a secret and what a stranger can choose tells the secret by its length (the attack called BREACH):
/// keep such routes free of this plugin, or mask the secret anew in each response.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Codings that may be chosen. The client's weights decide, and between equals this order. Default: `[zstd, br, gzip]`.
    #[serde(default = "all")]
    pub algorithms: Vec<Coding>,
    /// Media types to compress, such as `text/*` or `application/*+json`. Default: texts, JSON, XML, scripts, WebAssembly, SVG, fonts
    /// that are not compressed themselves. `text/event-stream` is compressed with `flush` only, and `application/grpc` never.
    #[serde(default)]
    pub types: Option<Vec<String>>,
    /// The smallest body worth it, where its length is known. Default: `1KiB`.
    #[serde(default = "worth")]
    pub min_size: Size,
    /// Level of gzip, 1 to 9. Default: `5`.
    #[serde(default = "five")]
    pub gzip_level: u8,
    /// Quality of brotli, 0 to 9; above 5 it costs several times as much, in memory as well: a response holds 10 MiB at 7 and 34 MiB at 9,
    /// all of it cleared before. Default: `4`.
    #[serde(default = "four")]
    pub br_quality: u8,
    /// Level of zstd, 1 to 9; a response holds 12 MiB at 9. Default: `3`.
    #[serde(default = "three")]
    pub zstd_level: u8,
    /// Sends on what each piece became at once, so that nothing waits in the compressor for more: for event streams and other bodies
    /// that trickle. It costs some of the gain. Default: `false`.
    #[serde(default)]
    pub flush: bool,
}

fn all() -> Vec<Coding> {
    vec![Coding::Zstd, Coding::Br, Coding::Gzip]
}

fn worth() -> Size {
    Size(1024)
}

fn five() -> u8 {
    5
}

fn four() -> u8 {
    4
}

fn three() -> u8 {
    3
}

impl Plugin for Config {
    const KIND: &'static str = "compress";
    const ABOUT: &'static str = "compress responses: zstd, brotli, gzip";
    const EXAMPLE: &'static str =
        "algorithms: [br, gzip]\ntypes: [text/*, application/json]\nmin_size: 2KiB\nflush: true";
    const SAFETY: Safety = Safety::Convenience;
    const CAUSES: &'static [&'static Cause] = &[];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let compressor = Compressor::of(self, build)?;
        let (body, trailers) = (compressor.clone(), compressor.clone());
        Ok(Hooks::new()
            .on_response(move |response| compressor.head(response))
            .on_response_body(move |slots, piece, last| body.piece(slots, piece, last))
            .on_response_trailers(move |slots, _, piece| trailers.trailers(slots, piece)))
    }
}

#[derive(Clone)]
struct Compressor {
    algorithms: Vec<Coding>,
    kinds: Kinds,
    min_size: u64,
    spare: Arc<Spare>,
    flush: Flush,
    stream: Slot<Encoder>,
    compressed: Counter,
    bytes_in: Counter,
    bytes_out: Counter,
}

impl Compressor {
    fn of(config: Config, build: &Build<'_>) -> Result<Compressor, Vec<Problem>> {
        let mut problems = Vec::new();
        let levels = [
            ("gzip_level", config.gzip_level, 1),
            ("br_quality", config.br_quality, 0),
            ("zstd_level", config.zstd_level, 1),
        ];
        for (path, level, least) in levels
            .into_iter()
            .filter(|(_, level, least)| !(*least..=9).contains(level))
        {
            problems.push(
                Problem::at(path, format!("must be {least} to 9, found {level}")).help(
                    "higher levels are for files compressed once; here each response waits for it",
                ),
            );
        }
        let mut seen = Vec::new();
        for (index, coding) in config.algorithms.iter().enumerate() {
            if seen.contains(coding) {
                let fact = format!("\"{}\" is there twice", coding.name());
                problems.push(Problem::at(format!("algorithms[{index}]"), fact).help("remove it"));
            }
            seen.push(*coding);
        }
        if seen.is_empty() {
            problems.push(Problem::at("algorithms", "names none").help("leave it out for all"));
        }
        let kinds = Kinds::of(config.types.as_deref(), &mut problems);
        match problems.is_empty() {
            true => Ok(Compressor {
                algorithms: config.algorithms,
                kinds,
                min_size: config.min_size.0,
                spare: Spare::new(Levels {
                    gzip: config.gzip_level,
                    br: config.br_quality,
                    zstd: config.zstd_level,
                }),
                flush: if config.flush { Flush::Yes } else { Flush::No },
                stream: build.slot(),
                compressed: build.counter("compressed"),
                bytes_in: build.counter("bytes_in"),
                bytes_out: build.counter("bytes_out"),
            }),
            false => Err(problems),
        }
    }

    fn head(&self, response: &mut Response<'_>) -> Verdict {
        if !self.is_for(response) {
            return Verdict::Continue;
        }
        // Also where this client gets it plain: another one would not.
        vary(response.head);
        let has_stream = response.request.method != Method::HEAD
            && !matches!(
                response.request.version,
                Version::HTTP_09 | Version::HTTP_10
            );
        let chosen = best(&response.request.headers, &self.algorithms).filter(|_| has_stream);
        let Some(chosen) = chosen else {
            return Verdict::Continue;
        };
        let encoder = match self.spare.begin(chosen) {
            Ok(encoder) => encoder,
            Err(error) => {
                return Verdict::Failed {
                    cause: &causes::PLUGIN_FAILED,
                    reason: format!("no {} stream: {error}", chosen.name()),
                }
            }
        };
        recoded(response.head);
        let name = HeaderValue::from_static(chosen.name());
        let _ = response.head.insert_header(CONTENT_ENCODING, name);
        if response.effects.is_live() {
            (self.compressed)(1);
        }
        response.slots.put(self.stream, encoder);
        Verdict::Continue
    }

    /// Whether a response is of a sort that is compressed, whoever asked.
    fn is_for(&self, response: &Response<'_>) -> bool {
        let head = &*response.head;
        let headers = &head.headers;
        let has_body = !head.status.is_informational()
            && !matches!(head.status.as_u16(), 204 | 205 | 206 | 304)
            && !headers.contains_key(CONTENT_RANGE);
        let length = headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok());
        let length = length.and_then(|text| text.trim().parse::<u64>().ok());
        // Bodies of the proxy's own answers do not pass the body hook.
        response.cause.is_none()
            && has_body
            && length.is_none_or(|length| length >= self.min_size.max(1))
            && self.kinds.has(headers, self.flush)
            && coding(headers) == Coded::Plain
            && !is_not_to_change(headers)
    }

    fn piece(&self, slots: &mut Slots, piece: &mut Option<Bytes>, last: bool) -> Verdict {
        let Some(encoder) = slots.value_mut(self.stream) else {
            return Verdict::Continue;
        };
        let taken = piece.take().unwrap_or_default();
        let outcome = encoder.piece(&taken, if last { Flush::No } else { self.flush });
        let outcome = match (outcome, last) {
            (Ok(out), false) => Ok(out),
            (Ok(out), true) => encoder.end().map(|rest| joined(out, rest)),
            (Err(error), _) => Err(error),
        };
        match outcome {
            Ok(out) => {
                (self.bytes_in)(taken.len() as u64);
                (self.bytes_out)(out.len() as u64);
                *piece = Some(out);
                Verdict::Continue
            }
            // Half a stream helps nobody, also where the plugin fails open: the response is cut.
            Err(_) => Answer::of(&causes::PLUGIN_FAILED).into(),
        }
    }

    /// The stream has to be ended, and what ends it takes the trailers' place.
    fn trailers(&self, slots: &mut Slots, piece: &mut Option<Bytes>) {
        if slots.value(self.stream).is_some() {
            let _ = self.piece(slots, piece, true);
        }
    }
}

fn joined(one: Bytes, other: Bytes) -> Bytes {
    match (one.is_empty(), other.is_empty()) {
        (true, _) => other,
        (_, true) => one,
        (false, false) => Bytes::from([one, other].concat()),
    }
}
