//! The way of a response through the plugins where one of them may hold it back: one line of plugins with places in it, so that the
//! way can stop at one and go on from there. It must not know where a response is kept meanwhile.
//! Run by the proxy instead of the hooks of each chain, for responses of rules that have such a plugin.

use std::ops::Range;

use bytes::Bytes;
use http::HeaderMap;
use windrose_plugins::contract::{Answer, Effects, Held, Hold, Larger, Response, Slots, Verdict};

use super::{caught, on_copy, Chain, Instance, Mode};

/// The plugins that a response meets, those nearest to the endpoint first: the rule's from its last to its first, then the listener's.
#[derive(Clone, Copy)]
pub struct Way<'a> {
    rule: &'a Chain,
    listener: &'a Chain,
}

/// How far the head of a response came.
#[derive(Debug)]
pub enum Met {
    /// All plugins have seen it.
    All,
    /// The one at this place holds the response.
    Hold {
        /// Which.
        at: usize,
        /// The most bytes.
        most: u64,
        /// What becomes of a larger one.
        larger: Larger,
    },
    /// One answered instead.
    Answer(Box<Answer>),
}

impl<'a> Way<'a> {
    /// The way through these chains.
    pub fn new(rule: &'a Chain, listener: &'a Chain) -> Way<'a> {
        Way { rule, listener }
    }

    /// Whether any plugin may hold a response.
    pub fn may_hold(&self) -> bool {
        self.rule.holds || self.listener.holds
    }

    /// How many places there are.
    pub fn places(&self) -> usize {
        self.rule.all.len() + self.listener.all.len()
    }

    fn nth(&self, place: usize) -> Option<&'a Instance> {
        let (rule, listener) = (&self.rule.all, &self.listener.all);
        match rule.len().checked_sub(place + 1) {
            Some(at) => rule.get(at).map(|one| &**one),
            None => {
                let at = (rule.len() + listener.len()).checked_sub(place + 1)?;
                listener.get(at).map(|one| &**one)
            }
        }
    }

    fn places_in(self, range: Range<usize>) -> impl Iterator<Item = (usize, &'a Instance)> {
        let end = range.end.min(self.places());
        (range.start..end).filter_map(move |place| Some((place, self.nth(place)?)))
    }

    /// Shows a head to the plugins from this place on, until one holds the response, if it `can_be_held` at all.
    pub fn head(&self, from: usize, response: &mut Response<'_>, can_be_held: bool) -> Met {
        for (at, one) in self.places_in(from..self.places()) {
            if let Some(hook) = &one.hooks.response {
                let verdict = match one.mode {
                    Mode::Enforce => caught(|| hook(response)),
                    Mode::Shadow => caught(|| on_copy(response, |copy| hook(copy))),
                };
                if let Some(answer) = one.settle_response(verdict, response) {
                    return Met::Answer(answer);
                }
            }
            let Some(held) = one.hooks.held_response.as_ref().filter(|_| can_be_held) else {
                continue;
            };
            let mut hold = Hold::Nothing;
            let verdict = caught(|| {
                hold = match one.mode {
                    Mode::Enforce => (held.wish)(response),
                    Mode::Shadow => {
                        let mut hold = Hold::Nothing;
                        on_copy(response, |copy| {
                            hold = (held.wish)(copy);
                            Verdict::Continue
                        });
                        hold
                    }
                };
                Verdict::Continue
            });
            // A panic is the plugin's failure.
            if let Some(answer) = one.settle_response(verdict, response) {
                return Met::Answer(answer);
            }
            if let Hold::Within { most, larger } = hold {
                return Met::Hold { at, most, larger };
            }
        }
        Met::All
    }

    /// Shows the response to the plugin that held it.
    pub fn held(
        &self,
        at: usize,
        response: &mut Response<'_>,
        held: &mut Held,
    ) -> Option<Box<Answer>> {
        let one = self.nth(at)?;
        let hook = &one.hooks.held_response.as_ref()?.hook;
        let verdict = match one.mode {
            Mode::Enforce => caught(|| hook(response, held)),
            Mode::Shadow => caught(|| {
                let mut copy = Held {
                    body: held.body.clone(),
                    is_whole: held.is_whole,
                    trailers: held.trailers.clone(),
                };
                on_copy(response, |response| hook(response, &mut copy))
            }),
        };
        one.settle_response(verdict, response)
    }

    /// Says that the response is larger than the plugin that holds it takes; the answer, where that is to be one.
    pub fn refuse(&self, at: usize, answer: Answer, request_id: &str) -> Option<Box<Answer>> {
        let one = self.nth(at)?;
        one.settle_of(request_id, answer.into(), Effects::Live, &mut |_, _| {})
    }

    /// Shows a piece of the body to the plugins at these places.
    pub fn body(
        &self,
        range: Range<usize>,
        slots: &mut Slots,
        piece: &mut Option<Bytes>,
        end: bool,
    ) -> Option<Box<Answer>> {
        self.places_in(range).find_map(|(_, one)| {
            let hook = one.hooks.response_body.as_ref()?;
            one.settle_live(one.ask_body(hook, slots, piece, end))
        })
    }

    /// Shows the trailers to the plugins at these places. What is in the piece after them ends the body in the trailers' place.
    pub fn trailers(
        &self,
        range: Range<usize>,
        slots: &mut Slots,
        trailers: &mut HeaderMap,
        piece: &mut Option<Bytes>,
    ) {
        for (_, one) in self.places_in(range) {
            one.end(slots, trailers, piece);
        }
    }
}

impl Instance {
    /// Shows the plugin trailers, or what others made of them.
    pub(super) fn end(
        &self,
        slots: &mut Slots,
        trailers: &mut HeaderMap,
        piece: &mut Option<Bytes>,
    ) {
        let verdict = match (&self.hooks.response_trailers, &self.hooks.response_body) {
            (Some(hook), _) => caught(|| {
                match self.mode {
                    Mode::Enforce => hook(slots, trailers, piece),
                    Mode::Shadow => hook(slots, &mut trailers.clone(), &mut piece.clone()),
                }
                Verdict::Continue
            }),
            (None, Some(hook)) if piece.is_some() => self.ask_body(hook, slots, piece, true),
            (None, _) => return,
        };
        // The response has begun and all of its body is sent: there is nothing left to answer or cut.
        let _ = self.settle_live(verdict);
    }

    fn settle_response(&self, verdict: Verdict, response: &Response<'_>) -> Option<Box<Answer>> {
        let id = response.client.request_id;
        self.settle_of(id, verdict, response.effects, &mut |_, _| {})
    }
}
