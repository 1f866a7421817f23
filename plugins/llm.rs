//! For routes to language models: budgets of tokens by what answers say, models that may be asked for, and the keys of providers.
//! It must not hold an answer up or read more of it than it tells of its tokens; streams pass event by event.
//! Called by the chain of a listener or route; name it after plugins that authenticate.

mod api;
mod asked;
mod budget;
mod causes;
mod exchange;
mod provider;
mod reader;
mod scan;
mod settings;
#[cfg(test)]
mod tests;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::codec::{coding, Coded};
use crate::contract::{
    Blame, Build, Cause, Counter, Finished, Hooks, Plugin, PluginDef, Problem, Request, Response,
    Safety, Said, Slot, Slots, Unknown, Verdict, WholeBody,
};
use crate::keyed::fields::whole_seconds;
use crate::media;

use api::{refusal, Api};
use asked::{prefix, Anyway, Asked};
use budget::{Budget, NotTaken, Stood};
use exchange::{Exchange, Sending};
use provider::Provider;
use reader::{Reader, Strip};

pub use causes::*;
use settings::OTHER;
pub use settings::{Bound, Config, Model, Others, Reserve};

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

impl Plugin for Config {
    const KIND: &'static str = "llm";
    const ABOUT: &'static str =
        "limit tokens of language models, choose models, send providers' keys";
    const EXAMPLE: &'static str =
        "budget: {limit: 100000, per: 1h, store: shared, on_store_failure: local}
models: [{name: large, as: gpt-4o}, {name: small, as: gpt-4o-mini}]
max_tokens: 4096
providers: [{name: openai, key: sk-example, host: api.openai.com}]";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[
        &LIMITED,
        &MODEL_REFUSED,
        &UNKNOWN_API,
        &MALFORMED,
        &TOO_LARGE,
        &NO_OUTCOME,
        &NO_PROVIDER,
        &STORE_UNAVAILABLE,
    ];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let most = self.body_limit.0;
        let gate = Arc::new(Gate::of(self, build)?);
        let [asks, sends, sent, head, piece, ended] = std::array::from_fn(|_| gate.clone());
        let mut hooks = Hooks::new()
            .on_request_async(move |request| {
                let gate = asks.clone();
                Box::pin(async move { gate.check(request).await })
            })
            .with_whole_body_where(most, &TOO_LARGE, |request| {
                Api::of(&request.head.method, request.client.path).is_some()
            })
            .on_upstream_request(move |request| sends.send(request))
            .on_response(move |response| head.respond(response))
            .on_response_body(move |slots, bytes, last| piece.piece(slots, bytes, last))
            .on_finish(move |finished| ended.finish(finished));
        if gate.providers.iter().any(Provider::renames) {
            hooks = hooks.on_request_body(move |slots, bytes, _| {
                if let Some(sending) = slots.value_mut(sent.sending) {
                    sending.piece(bytes);
                }
                Verdict::Continue
            });
        }
        if gate.budget.as_ref().is_some_and(Budget::is_shared) {
            let teller = gate.clone();
            hooks = hooks.background("settle", move |life| {
                let gate = teller.clone();
                async move {
                    match &gate.budget {
                        Some(budget) => budget.tell(life).await,
                        None => life.over().await,
                    }
                }
            });
        }
        let trailed = gate;
        Ok(hooks.on_response_trailers(move |slots, _, bytes| trailed.trailers(slots, bytes)))
    }
}

struct Gate {
    budget: Option<Budget>,
    assumed: u64,
    fields: bool,
    models: Vec<Known>,
    /// Those that `models` does not name.
    other: Known,
    max_tokens: Option<u64>,
    max_tokens_as: &'static str,
    providers: Vec<Provider>,
    others: Others,
    exchange: Slot<Exchange>,
    sending: Slot<Sending>,
    limited: Counter,
    estimated: Counter,
    unbelievable: Counter,
}

/// A model, with its counters.
struct Known {
    name: String,
    sent_as: Option<String>,
    requests: Counter,
    prompt: Counter,
    completion: Counter,
}

impl Known {
    fn of(name: &str, sent_as: Option<String>, build: &Build<'_>) -> Known {
        Known {
            name: name.to_owned(),
            sent_as,
            requests: build.counter_of("requests", name),
            prompt: build.counter_of("prompt_tokens", name),
            completion: build.counter_of("completion_tokens", name),
        }
    }
}

impl Gate {
    fn of(config: Config, build: &Build<'_>) -> Result<Gate, Vec<Problem>> {
        let mut problems = Vec::new();
        config.judge(&mut problems);
        let settings = config.budget.as_ref();
        let budget = settings.and_then(|budget| Budget::of(budget, build, &mut problems));
        let providers = Provider::all(&config.providers, build, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        let models = config.models.into_iter();
        Ok(Gate {
            assumed: settings.map_or(0, |budget| budget.assume),
            fields: settings.is_some_and(|budget| budget.fields),
            budget,
            models: models
                .map(|it| Known::of(&it.name, it.sent_as, build))
                .collect(),
            other: Known::of(OTHER, None, build),
            max_tokens: config.max_tokens,
            max_tokens_as: match config.max_tokens_as.unwrap_or_default() {
                Bound::MaxTokens => "max_tokens",
                Bound::MaxCompletionTokens => "max_completion_tokens",
            },
            providers,
            others: config.others,
            exchange: build.slot(),
            sending: build.slot(),
            limited: build.counter("limited"),
            estimated: build.counter("estimated"),
            unbelievable: build.counter("unbelievable"),
        })
    }

    async fn check(&self, request: &mut Request<'_>) -> Verdict {
        let found = Api::of(&request.head.method, request.client.path);
        let refuse = |cause, headers: &HeaderMap| refusal(found, cause, headers).into();
        let Some(api) = found else {
            return match self.others {
                Others::Pass => Verdict::Continue,
                Others::Refuse => refuse(&UNKNOWN_API, &request.head.headers),
            };
        };
        let Some((body, mut asked)) = read(api, request) else {
            return refuse(&MALFORMED, &request.head.headers);
        };
        let at = self.models.iter().position(|one| one.name == asked.model);
        if at.is_none() && !self.models.is_empty() {
            return refuse(&MODEL_REFUSED, &request.head.headers);
        }
        let strip = self.adjust(api, &mut asked);
        let estimate = asked.estimate(api, body.bytes().len(), self.assumed);
        let (taken, verdict) = match &self.budget {
            None => (None, Verdict::Continue),
            Some(budget) => match budget.take(request, estimate.total()).await {
                Ok(taken) => (Some(taken), Verdict::Continue),
                // The chain may let it go on all the same.
                Err(NotTaken::Otherwise(verdict)) => (None, verdict),
                Err(NotTaken::Refused(stood)) => return self.limited(api, &stood, request),
            },
        };
        let mut exchange = Exchange::new(at, estimate, taken);
        exchange.sent_as = match &self.model(at).sent_as {
            Some(name) => name.clone(),
            None => asked.model.clone(),
        };
        exchange.asked.clone_from(&asked.model);
        exchange.strip = strip;
        self.goes_on(request, (body, &asked), exchange);
        verdict
    }

    /// Bounds what is made, and asks for usage. Whether the client had not.
    fn adjust(&self, api: Api, asked: &mut Asked) -> Strip {
        if let Some(most) = self.max_tokens {
            asked.bound(api, most, self.max_tokens_as);
        }
        match asked.is_stream && api.tells_when_asked() && asked.ask_for_usage() {
            true => Strip::Usage,
            false => Strip::Nothing,
        }
    }

    /// Puts into the request what goes on, and keeps what is known of it.
    fn goes_on(
        &self,
        request: &mut Request<'_>,
        (mut body, asked): (Box<WholeBody>, &Asked),
        mut exchange: Exchange,
    ) {
        let anyway = match self.providers.iter().any(Provider::renames) {
            true => Anyway::Yes,
            false => Anyway::No,
        };
        if let Some(anew) = asked.written(&exchange.sent_as, anyway) {
            body.replace(anew);
        }
        exchange.length = body.bytes().len();
        request.body = Some(body);
        if request.effects.is_live() {
            exchange.note(&self.model(exchange.model).name, request.slots);
        }
        request.slots.put(self.exchange, exchange);
    }

    fn model(&self, at: Option<usize>) -> &Known {
        at.and_then(|at| self.models.get(at)).unwrap_or(&self.other)
    }

    fn limited(&self, api: Api, stood: &Stood, request: &Request<'_>) -> Verdict {
        if request.effects.is_live() {
            (self.limited)(1);
        }
        let mut answer = refusal(Some(api), &LIMITED, &request.head.headers);
        let seconds = HeaderValue::from(whole_seconds(stood.left).max(1));
        answer = answer.with(RETRY_AFTER, seconds);
        if self.fields {
            answer.headers.extend(standing(stood));
        }
        answer.into()
    }

    /// For each attempt: what the provider needs of the endpoint that was chosen.
    fn send(&self, request: &mut Request<'_>) -> Verdict {
        if request.slots.value(self.exchange).is_some() {
            // Compressed answers tell nothing.
            let plain = HeaderValue::from_static("identity");
            let _ = request.head.insert_header(ACCEPT_ENCODING, plain);
        }
        if self.providers.is_empty() {
            return Verdict::Continue;
        }
        let provider = match &request.upstream {
            Some(upstream) => self.providers.iter().find(|one| one.has(upstream)),
            None => match self.providers.first().filter(|one| one.has_all()) {
                Some(only) => Some(only),
                None => {
                    return Verdict::Unknown(Unknown(
                        "the provider, by the endpoint that is chosen".into(),
                    ))
                }
            },
        };
        let Some(provider) = provider else {
            let api = Api::of(&request.head.method, request.client.path);
            return refusal(api, &NO_PROVIDER, &request.head.headers).into();
        };
        if request.effects.is_live() {
            (provider.asked)(1);
            request
                .slots
                .note("llm_provider", Said::Text(provider.name.clone().into()));
        }
        provider.dress(request.head, request.effects);
        let Some(exchange) = request.slots.value(self.exchange) else {
            return Verdict::Continue;
        };
        let model = provider.model(&exchange.asked, &exchange.sent_as);
        let (before, now) = (prefix(&exchange.sent_as), prefix(model));
        let length = exchange.length.saturating_sub(before.len()) + now.len();
        let sending = Sending::new(before.len(), now);
        if provider.renames() {
            let length = HeaderValue::from(length);
            let has_length = request.head.headers.contains_key(CONTENT_LENGTH);
            if has_length {
                let _ = request.head.insert_header(CONTENT_LENGTH, length);
            }
        }
        if self.providers.iter().any(Provider::renames) {
            request.slots.put(self.sending, sending);
        }
        Verdict::Continue
    }

    fn respond(&self, response: &mut Response<'_>) -> Verdict {
        if response.cause.is_some() {
            return Verdict::Continue;
        }
        if !self.providers.is_empty() {
            without_limits(response);
        }
        let Some(exchange) = response.slots.value_mut(self.exchange) else {
            return Verdict::Continue;
        };
        let head = &mut *response.head;
        let reader = match (media::of(&head.headers).as_deref(), coding(&head.headers)) {
            (Some("text/event-stream"), Coded::Plain) => {
                if exchange.strip == Strip::Usage {
                    head.remove_header(&CONTENT_LENGTH);
                }
                Reader::events(exchange.strip)
            }
            (Some(kind), Coded::Plain) if kind.ends_with("json") => Reader::document(),
            _ => Reader::Blind(0),
        };
        exchange.begins(head.status.as_u16(), reader);
        if let Some(stood) = exchange.stood().filter(|_| self.fields) {
            for (name, value) in standing(&stood) {
                let _ = head.insert_header(name, value);
            }
        }
        Verdict::Continue
    }

    fn piece(&self, slots: &mut Slots, piece: &mut Option<Bytes>, last: bool) -> Verdict {
        if let Some(exchange) = slots.value_mut(self.exchange) {
            exchange.reads(piece);
        }
        if last {
            self.ends(slots, piece);
        }
        Verdict::Continue
    }

    fn trailers(&self, slots: &mut Slots, piece: &mut Option<Bytes>) {
        self.ends(slots, piece);
    }

    /// The answer has ended as it was meant to.
    fn ends(&self, slots: &mut Slots, piece: &mut Option<Bytes>) {
        let Some(exchange) = slots.value_mut(self.exchange) else {
            return;
        };
        let held = exchange.ends();
        if !held.is_empty() {
            let before = piece.take().unwrap_or_default();
            *piece = Some([&before[..], &held[..]].concat().into());
        }
        let (at, tokens) = (exchange.model, exchange.tokens());
        exchange::note(&self.model(at).name, &tokens, slots);
    }

    fn finish(&self, finished: &mut Finished<'_>) {
        let Some(exchange) = finished.slots.value_mut(self.exchange) else {
            return;
        };
        let is_asked = finished.attempts > 0;
        let left = finished
            .cause
            .is_some_and(|cause| cause.blame == Blame::Client);
        let tokens = exchange.over(is_asked && left);
        let model = self.model(exchange.model);
        if tokens.usage.is_dismissed {
            (self.unbelievable)(1);
        }
        if tokens.is_estimated && tokens.total() > 0 {
            (self.estimated)(1);
        }
        (model.requests)(1);
        (model.prompt)(tokens.prompt);
        (model.completion)(tokens.completion);
        if let (Some(budget), Some(taken)) = (&self.budget, &exchange.taken) {
            budget.settle(taken, tokens.total());
        }
    }
}

/// The body, and what it asks; `None` where it is not what the API wants.
fn read(api: Api, request: &mut Request<'_>) -> Option<(Box<WholeBody>, Asked)> {
    let body = request.body.take()?;
    let asked = match coding(&request.head.headers) {
        Coded::Plain => Asked::of(api, body.bytes()).ok()?,
        Coded::As(_) | Coded::Otherwise => return None,
    };
    Some((body, asked))
}

/// Takes away what the answer tells of the limits of the provider's key.
fn without_limits(response: &mut Response<'_>) {
    let fields = response.head.headers.keys();
    let told = fields.filter(|name| name.as_str().starts_with("x-ratelimit-"));
    let told: Vec<HeaderName> = told.cloned().collect();
    for name in told {
        response.head.remove_header(&name);
    }
}

/// The fields that tell how a caller stands, as OpenAI has them.
fn standing(stood: &Stood) -> [(HeaderName, HeaderValue); 3] {
    let reset = HeaderValue::from_str(&span(stood.left));
    [
        (LIMIT, HeaderValue::from(stood.limit)),
        (REMAINING, HeaderValue::from(stood.remaining)),
        (RESET, reset.unwrap_or(HeaderValue::from_static("0s"))),
    ]
}

/// A time as Go writes it, in whole seconds.
fn span(time: Duration) -> String {
    let all = whole_seconds(time);
    let (hours, minutes, seconds) = (all / 3600, all / 60 % 60, all % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit-tokens");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining-tokens");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset-tokens");
