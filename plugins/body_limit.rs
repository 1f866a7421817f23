//! Refuses request bodies above a size: by `Content-Length` before anything is sent, by counting while it streams.
//! It must not know the route's own `body_limit`; whichever is smaller ends the request first.
//! Called by the chain of a listener or route that names it.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{
    causes, Answer, Build, Cause, Counter, Hooks, Plugin, PluginDef, Problem, Request, Safety,
    Size, Slot, Slots, Verdict,
};

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// Settings of `body_limit`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The largest request body that is let through, such as `10MiB`; `0B` refuses every body. A body that states
    /// its length is refused before anything reaches the service; one that does not is cut once it grows past the
    /// limit, when the service has already seen its beginning. There is no default.
    pub max: Size,
}

impl Plugin for Config {
    const KIND: &'static str = "body_limit";
    const ABOUT: &'static str = "refuse request bodies above a size";
    const EXAMPLE: &'static str = "max: 10MiB";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let stated = Limit {
            max: self.max.0,
            seen: build.slot(),
            refused: build.counter("refused"),
        };
        let streamed = stated.clone();
        Ok(Hooks::new()
            .on_request(move |request| stated.check_length(request))
            .on_request_body(move |slots, piece, _| streamed.count(slots, piece)))
    }
}

#[derive(Clone)]
struct Limit {
    max: u64,
    seen: Slot<u64>,
    refused: Counter,
}

impl Limit {
    fn check_length(&self, request: &mut Request<'_>) -> Verdict {
        let field = request.head.headers.get(http::header::CONTENT_LENGTH);
        // Ambiguous lengths never get here: the proxy refuses them before plugins run.
        let stated = field.and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
        match stated {
            Some(length) if length > self.max => {
                if request.effects.is_live() {
                    (self.refused)(1);
                }
                Answer::of(&causes::BODY_TOO_LARGE).into()
            }
            Some(_) | None => Verdict::Continue,
        }
    }

    fn count(&self, slots: &mut Slots, piece: &mut Option<Bytes>) -> Verdict {
        let more = piece.as_ref().map_or(0, |piece| piece.len() as u64);
        let total = slots.value(self.seen).map_or(more, |seen| seen + more);
        if total > self.max {
            (self.refused)(1);
            *piece = None;
            return Answer::of(&causes::BODY_TOO_LARGE).into();
        }
        match slots.value_mut(self.seen) {
            Some(seen) => *seen = total,
            None => slots.put(self.seen, total),
        }
        Verdict::Continue
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{answered, went_on, Exchange, Kit};

    fn post(length: &str) -> Exchange {
        Exchange::new("POST", "http://shop.test/upload").with("content-length", length)
    }

    #[test]
    fn a_stated_length_above_the_limit_is_refused_before_the_body() {
        let kit = Kit::new();
        let plugin = kit.instance(&PLUGIN, "max: 1KiB");

        let answer = answered(plugin.request(&mut post("1025")));

        assert_eq!((answer.status, answer.cause.name), (413, "body_too_large"));
        assert_eq!(kit.counted("refused"), 1);
    }

    #[test]
    fn a_stated_length_at_the_limit_or_none_at_all_goes_on() {
        let plugin = Kit::new().instance(&PLUGIN, "max: 1KiB");

        let at_limit = plugin.request(&mut post("1024"));
        let unstated = plugin.request(&mut Exchange::get("http://shop.test/"));

        assert!(went_on(&at_limit) && went_on(&unstated));
    }

    #[test]
    fn a_streamed_body_is_cut_at_the_piece_that_passes_the_limit() {
        let plugin = Kit::new().instance(&PLUGIN, "max: 10");
        let mut exchange = Exchange::new("POST", "http://shop.test/upload");
        let mut first = Some(Bytes::from_static(b"0123456789"));
        let mut second = Some(Bytes::from_static(b"x"));

        let within = plugin.request_body(&mut exchange, &mut first, false);
        let above = plugin.request_body(&mut exchange, &mut second, false);

        assert!(went_on(&within));
        assert_eq!(answered(above).cause.name, "body_too_large");
        assert_eq!(second, None);
    }

    #[test]
    fn an_empty_last_piece_changes_nothing() {
        let plugin = Kit::new().instance(&PLUGIN, "max: 0B");
        let mut exchange = Exchange::new("POST", "http://shop.test/upload");

        assert!(went_on(&plugin.request_body(
            &mut exchange,
            &mut None,
            true
        )));
    }

    #[test]
    fn a_dry_run_refuses_the_same_and_counts_nothing() {
        let kit = Kit::new();
        let plugin = kit.instance(&PLUGIN, "max: 1KiB");

        let answer = answered(plugin.request(&mut post("9999").dry()));

        assert_eq!(answer.status, 413);
        assert_eq!(kit.counted("refused"), 0);
    }

    #[test]
    fn a_size_without_meaning_is_refused_at_its_path() {
        let kit = Kit::new();

        assert_eq!(kit.problem_paths(&PLUGIN, "max: ten"), ["max"]);
        assert_eq!(kit.problems(&PLUGIN, "{}").len(), 1);
    }
}
