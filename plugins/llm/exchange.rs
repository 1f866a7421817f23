//! One exchange with a model: what is known of its tokens from the request to the end, and its body as a provider gets it.
//! It must not know budgets' arithmetic or which plugin hook runs; it is kept in the request's slots.
//! Part of `llm`.

use bytes::Bytes;

use super::asked::Estimate;
use super::budget::{Stood, Taken};
use super::reader::{Reader, Strip};
use super::usage::Usage;
use crate::contract::{Said, Slots};

/// The exchange.
pub(super) struct Exchange {
    /// The model's place in the settings.
    pub(super) model: Option<usize>,
    /// What the client called it.
    pub(super) asked: String,
    /// What it is called in the body that is held.
    pub(super) sent_as: String,
    /// Bytes of that body.
    pub(super) length: usize,
    pub(super) strip: Strip,
    pub(super) taken: Option<Taken>,
    estimate: Estimate,
    answer: Option<Answered>,
    is_whole: bool,
}

/// An answer that has begun.
struct Answered {
    status: u16,
    reader: Reader,
}

/// What an exchange took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tokens {
    pub(super) prompt: u64,
    pub(super) completion: u64,
    pub(super) is_estimated: bool,
    pub(super) usage: Usage,
}

impl Tokens {
    pub(super) fn total(&self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }

    fn none() -> Tokens {
        Tokens {
            prompt: 0,
            completion: 0,
            is_estimated: false,
            usage: Usage::default(),
        }
    }
}

impl Exchange {
    pub(super) fn new(model: Option<usize>, estimate: Estimate, taken: Option<Taken>) -> Exchange {
        Exchange {
            model,
            asked: String::new(),
            sent_as: String::new(),
            length: 0,
            strip: Strip::Nothing,
            taken,
            estimate,
            answer: None,
            is_whole: false,
        }
    }

    pub(super) fn stood(&self) -> Option<Stood> {
        self.taken.as_ref().map(|taken| taken.stood)
    }

    pub(super) fn begins(&mut self, status: u16, reader: Reader) {
        self.answer = Some(Answered { status, reader });
    }

    pub(super) fn reads(&mut self, piece: &mut Option<Bytes>) {
        if let Some(answer) = &mut self.answer {
            answer.reader.piece(piece);
        }
    }

    /// The answer is whole; what was held of it.
    pub(super) fn ends(&mut self) -> Bytes {
        self.is_whole = true;
        let answer = self.answer.as_mut();
        answer.map(|answer| answer.reader.end()).unwrap_or_default()
    }

    /// What it took, as far as the answer came.
    pub(super) fn tokens(&self) -> Tokens {
        let Some(answer) = self.answer.as_ref().filter(|it| it.status < 400) else {
            return Tokens::none();
        };
        let usage = answer.reader.usage();
        let came = answer.reader.came();
        match (usage.is_told, self.is_whole) {
            (true, true) => Tokens {
                prompt: usage.prompt,
                completion: usage.completion,
                is_estimated: false,
                usage,
            },
            (false, true) => Tokens {
                prompt: self.estimate.prompt,
                completion: came,
                is_estimated: true,
                usage,
            },
            // What is told in the middle is not all.
            (_, false) => {
                let told = Tokens {
                    prompt: self.estimate.prompt.max(usage.prompt),
                    completion: came.max(usage.completion),
                    is_estimated: true,
                    usage,
                };
                self.at_least_reserved(told)
            }
        }
    }

    /// What it took, now that it is over. A client that `left` may have had everything made and seen nothing.
    pub(super) fn over(&self, left: bool) -> Tokens {
        match (&self.answer, left) {
            (None, true) => self.at_least_reserved(Tokens {
                prompt: self.estimate.prompt,
                is_estimated: true,
                ..Tokens::none()
            }),
            _ => self.tokens(),
        }
    }

    fn at_least_reserved(&self, tokens: Tokens) -> Tokens {
        let reserved = self.taken.as_ref().map_or(0, |taken| taken.reserved);
        let lacking = reserved.saturating_sub(tokens.total());
        Tokens {
            completion: tokens.completion.saturating_add(lacking),
            ..tokens
        }
    }

    /// Notes what is expected, which stands if nothing more becomes known.
    pub(super) fn note(&self, model: &str, slots: &mut Slots) {
        let expected = Tokens {
            prompt: self.estimate.prompt,
            completion: 0,
            is_estimated: true,
            usage: Usage::default(),
        };
        note(model, &self.at_least_reserved(expected), slots);
    }
}

/// Notes tokens for the log.
pub(super) fn note(model: &str, tokens: &Tokens, slots: &mut Slots) {
    let usage = if tokens.is_estimated {
        "estimated"
    } else {
        "told"
    };
    slots.note("llm_model", Said::Text(model.to_owned().into()));
    slots.note("llm_prompt_tokens", Said::Number(tokens.prompt));
    slots.note("llm_completion_tokens", Said::Number(tokens.completion));
    slots.note("llm_usage", Said::Text(usage.into()));
}

/// A body on its way to a provider that may call the model otherwise: its begin is another one.
pub(super) struct Sending {
    /// Bytes that are left out.
    skip: usize,
    /// What comes in their place, until it has gone.
    begin: Vec<u8>,
}

impl Sending {
    pub(super) fn new(skip: usize, begin: Vec<u8>) -> Sending {
        Sending { skip, begin }
    }

    pub(super) fn piece(&mut self, piece: &mut Option<Bytes>) {
        let Some(bytes) = piece.as_mut().filter(|bytes| !bytes.is_empty()) else {
            return;
        };
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        let rest = bytes.split_off(skipped);
        *bytes = match self.begin.is_empty() {
            true => rest,
            false => [&std::mem::take(&mut self.begin)[..], &rest[..]]
                .concat()
                .into(),
        };
    }
}
