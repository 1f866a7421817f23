//! Settings of `llm` and what is wrong with them.
//! It must not count or change anything.
//! Decoded by the contract; the field docs are the manual.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{Problem, Size, Texts, Time};
use crate::keyed::settings::{many, v4_bits, v6_bits, Common};
use crate::keyed::OnStoreFailure;

/// Settings of `llm`, for routes to OpenAI's APIs, or what answers like them (POST to `…/chat/completions`, `…/completions`,
/// `…/responses` and `…/embeddings`), and to Anthropic's (`…/messages`). Tokens are those of the answer's `usage`: of JSON and of
/// server-sent events, as they pass. A number that is none, or more than 100 000 000, is not believed. Where an answer of 2xx tells of no
/// usage, or is compressed (providers are asked for plain ones), tokens are estimated: a quarter of the bytes of the request's body, and
/// one for each event or four bytes of the answer. A request that its client gives up, or that is cut, counts with the larger of that
/// and what was reserved for it. Answers of 4xx and 5xx, and requests that no provider answered, count nothing.
///
/// A stream of `chat/completions` or `completions` is asked to tell of its usage (`stream_options.include_usage`); where the client did not ask, the
/// event that tells is taken out, and `"usage": null` stays in others. Bodies that are changed are written anew, without the order of
/// their members. The answer's `model` stays the provider's word. Refusals are in the form of the API's errors unless the client's
/// `Accept` has no JSON. The access log has `llm_model`, `llm_provider`, `llm_prompt_tokens`, `llm_completion_tokens` and `llm_usage`
/// (`told` or `estimated`); `windrose_plugin_amounts_total` counts `requests`, `prompt_tokens` and `completion_tokens` by model
/// (`other` for those that `models` does not name) and `attempts` by provider.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How many tokens a caller may use. Default: no bound.
    #[serde(default)]
    pub budget: Option<Budget>,
    /// The models that may be asked for; others are refused with the cause `llm.model_refused`. At most 256. Default: all.
    #[serde(default)]
    pub models: Vec<Model>,
    /// The most tokens that one answer may have: larger `max_tokens`, `max_completion_tokens` and `max_output_tokens` are lowered to it,
    /// and it is set where none is given. Default: no bound.
    #[serde(default)]
    pub max_tokens: Option<u64>,
    /// The member of chat completions that is set where the client bounds nothing: `max_tokens`, or `max_completion_tokens`, which
    /// OpenAI's reasoning models want and some servers do not know. Only with `max_tokens`. Default: max_tokens.
    #[serde(default)]
    pub max_tokens_as: Option<Bound>,
    /// Whose keys requests are sent with, in order: of each attempt the first that the chosen endpoint belongs to. An endpoint that
    /// belongs to none is not asked; the request ends with the cause `llm.no_provider`. Of the client, `Authorization`, `Cookie`, `X-Api-Key`, `Api-Key`, `X-Goog-Api-Key`, `OpenAI-Organization` and `OpenAI-Project` are removed,
    /// and of the answer all `X-RateLimit-*`, which tell of the key's limits. A further attempt may go to another provider: give the
    /// pool's endpoints labels and a `priority` each, and the route a `retry` that tries POST again. Endpoints whose certificates have other names than the pool's
    /// `tls.sni` need a listener of their own between, such as at a Unix socket. Default: none; requests go on with what the client sent.
    #[serde(default)]
    pub providers: Vec<Provider>,
    /// The most bytes of a request's body; larger ones are refused with the cause `llm.too_large`. Bodies are held in memory until their
    /// request is over. Default: 4MiB, at most 64MiB.
    #[serde(default = "four_mib")]
    pub body_limit: Size,
    /// What becomes of requests that are for none of these APIs: `refuse` refuses them with the cause `llm.unknown_api`, `pass` lets them
    /// go on with a provider's key, neither counted nor held to `models`. Default: refuse.
    #[serde(default)]
    pub others: Others,
}

/// A budget: tokens in windows of a fixed length, in step with the clock. What was used survives a reload; with a `store` also a restart.
///
/// What a request takes is known only when it is over, so more can be used than the limit. With `reserve: estimate` a request is let
/// through only if what it is expected to take is left, and that counts until more is known: beyond the limit goes no more than what those
/// under way take more than expected. With `reserve: nothing` it is let through as long as anything is left: beyond the limit goes all
/// that those take that were under way when it was reached. What goes beyond counts in the window in which a request ends; it is not
/// taken off the next.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Tokens in each window, in and out; 1 to 1 000 000 000 000. There is no default.
    pub limit: u64,
    /// The length of a window, from 1s to 31d, in whole seconds; windows of `1d` begin at midnight UTC. Default: 1m.
    #[serde(default = "a_minute")]
    pub per: Time,
    /// An entry of the `metadata` of `consumers` with a limit of their own; those without it have `limit`. Default: none.
    #[serde(default)]
    pub limit_from: Option<String>,
    /// Whose tokens are counted together: `principal`, `client_ip`, `listener`, `route`, `host`, `header:NAME`, `cel:EXPRESSION`, or a
    /// list of these for every combination, as with `rate_limit`. A request without the header or principal is counted by its address;
    /// an expression without outcome is a failure with the cause `llm.no_outcome`, and `on_error` decides. Default: `principal`.
    #[serde(default = "principal")]
    pub key: Texts,
    /// How many leading bits of an IPv4 address count as one client, 0 to 32. Default: 32.
    #[serde(default = "v4_bits")]
    pub ipv4_prefix: u8,
    /// How many leading bits of an IPv6 address count as one client, 0 to 128. Default: 64.
    #[serde(default = "v6_bits")]
    pub ipv6_prefix: u8,
    /// Largest number of keys that are known in this process, rounded up to a multiple of 64; one takes about 150 bytes. Beyond it a
    /// new caller replaces one that was not seen for long; without a `store` that one begins anew. Default: 100 000.
    #[serde(default = "many")]
    pub max_keys: usize,
    /// What counts before a request goes on: `estimate` a quarter of the bytes of its body, and its `max_tokens` times the number of
    /// answers it asks for; `nothing` does not. Default: estimate.
    #[serde(default)]
    pub reserve: Reserve,
    /// Tokens that an answer is expected to have where the request does not bound it. Default: 1000, at most 1 000 000.
    #[serde(default = "a_thousand")]
    pub assume: u64,
    /// Whether answers tell clients how they stand, in `X-RateLimit-Limit-Tokens`, `-Remaining-Tokens` and `-Reset-Tokens` as OpenAI
    /// has them, in place of the provider's. `Retry-After` is always sent when a request is refused. Default: `true`.
    #[serde(default = "yes")]
    pub fields: bool,
    /// What the budget is called in the store; up to 64 letters, digits and `._-`. Proxies that give the same name, key and store
    /// count together. Only with `store`. Default: the name of the plugin instance.
    #[serde(default)]
    pub name: Option<String>,
    /// The store, under `redis`, in which several proxies count together. Each request asks it once, for its `command_timeout` at most;
    /// those of a caller who has nothing left once a second. What requests took is told in the background, some milliseconds
    /// after they are over; while the store does not answer, for up to 100 000 callers. Default: none; this process counts for itself.
    #[serde(default)]
    pub store: Option<String>,
    /// What becomes of requests while the store does not answer: `local` counts in this process, from zero; `open` lets them through, and
    /// counts when it answers again; `closed` refuses them with the cause `llm.store_unavailable`, unless the plugin's `on_error` is
    /// `open`. Only with `store`. Default: `local`.
    #[serde(default)]
    pub on_store_failure: Option<OnStoreFailure>,
}

/// A model.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// What clients call it; also its name in metrics and logs.
    pub name: String,
    /// What providers call it that do not say otherwise. Default: the same.
    #[serde(default, rename = "as")]
    pub sent_as: Option<String>,
}

/// A provider.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Its name in metrics and logs.
    pub name: String,
    /// The pool whose endpoints belong to it. Default: any.
    #[serde(default)]
    pub pool: Option<String>,
    /// Labels that its endpoints have, such as `{provider: openai}`. Default: none, all of the pool's.
    #[serde(default)]
    pub endpoints: BTreeMap<String, String>,
    /// Its key: write it as `${file:PATH}` or `${env:NAME}`. Never shown. Copies of requests that a `mirrors` of the route makes carry it.
    /// Default: none is sent, and none of the client's.
    #[serde(default)]
    pub key: Option<String>,
    /// The field that the key is sent in; in `authorization` it follows `Bearer`. Only with `key`. Default: `authorization`.
    #[serde(default)]
    pub key_header: Option<String>,
    /// The host that it is asked by, such as `api.openai.com`. Default: as the route says.
    #[serde(default)]
    pub host: Option<String>,
    /// Fields that it is sent besides, such as `{anthropic-version: '2023-06-01'}`. At most 16. Default: none.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// What it calls models, by what clients call them. Default: as `models` says.
    #[serde(default)]
    pub models: BTreeMap<String, String>,
}

/// What counts before a request goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reserve {
    /// What it is expected to take.
    #[default]
    Estimate,
    /// Nothing.
    Nothing,
}

/// The member that bounds what chat completions make.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// The older one.
    #[default]
    MaxTokens,
    /// The newer one.
    MaxCompletionTokens,
}

/// What becomes of requests for other APIs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Others {
    /// They are refused.
    #[default]
    Refuse,
    /// They go on.
    Pass,
}

fn four_mib() -> Size {
    Size(4 << 20)
}

fn a_minute() -> Time {
    Time::secs(60)
}

fn principal() -> Texts {
    Texts(vec!["principal".to_owned()])
}

fn a_thousand() -> u64 {
    1000
}

fn yes() -> bool {
    true
}

/// The largest limit.
pub(super) const MOST: u64 = 1_000_000_000_000;
const MOST_MODELS: usize = 256;
const MOST_PROVIDERS: usize = 64;
const LARGEST: Size = Size(64 << 20);
const LONGEST: Time = Time::secs(31 * 86_400);

impl Config {
    /// What is wrong with what needs nothing but itself to be judged.
    pub(super) fn judge(&self, problems: &mut Vec<Problem>) {
        if self.budget.is_none()
            && self.models.is_empty()
            && self.providers.is_empty()
            && self.max_tokens.is_none()
        {
            let problem = Problem::at("", "does nothing but count");
            problems.push(problem.help("give `budget`, `models`, `max_tokens` or `providers`"));
        }
        if !(Size(1)..=LARGEST).contains(&self.body_limit) {
            let fact = format!("must be from 1B to 64MiB, found {}", self.body_limit);
            problems.push(Problem::at("body_limit", fact).help("leave it out for 4MiB"));
        }
        if self.max_tokens == Some(0) {
            let problem = Problem::at("max_tokens", "must be at least 1, found 0");
            problems.push(problem.help("leave it out to bound nothing"));
        }
        if self.max_tokens_as.is_some() && self.max_tokens.is_none() {
            let problem = Problem::at("max_tokens_as", "is not used: nothing is bounded");
            problems.push(problem.help("give `max_tokens`, or remove this line"));
        }
        self.judge_models(problems);
        if self.providers.len() > MOST_PROVIDERS {
            let fact = format!(
                "has {} providers; {MOST_PROVIDERS} are the most",
                self.providers.len()
            );
            problems.push(Problem::at("providers", fact));
        }
        for (at, provider) in self.providers.iter().enumerate() {
            self.judge_provider(provider, &format!("providers[{at}]"), problems);
        }
        if let Some(budget) = &self.budget {
            budget.judge(problems);
        }
    }

    fn judge_models(&self, problems: &mut Vec<Problem>) {
        if self.models.len() > MOST_MODELS {
            let fact = format!(
                "has {} models; {MOST_MODELS} are the most",
                self.models.len()
            );
            problems.push(Problem::at("models", fact));
        }
        for (at, model) in self.models.iter().enumerate() {
            let path = format!("models[{at}].name");
            if self.models[..at]
                .iter()
                .any(|other| other.name == model.name)
            {
                let fact = format!("the model \"{}\" is there twice", model.name);
                problems.push(Problem::at(path.clone(), fact).help("remove one of them"));
            }
            if model.name.is_empty() || model.name == OTHER {
                let fact = format!("{:?} cannot be a model's name here", model.name);
                let problem = Problem::at(path, fact);
                problems.push(problem.help("`other` stands for models that are not listed"));
            }
        }
    }

    fn judge_provider(&self, provider: &Provider, path: &str, problems: &mut Vec<Problem>) {
        if provider.key_header.is_some() && provider.key.is_none() {
            let problem = Problem::at(format!("{path}.key_header"), "is not used: there is no key");
            problems.push(problem.help("give `key`, or remove this line"));
        }
        if provider.headers.len() > 16 {
            let fact = format!("names {} fields; 16 are the most", provider.headers.len());
            problems.push(Problem::at(format!("{path}.headers"), fact));
        }
        for name in provider.models.keys() {
            let is_known = self.models.is_empty() || self.models.iter().any(|it| it.name == *name);
            if !is_known {
                let fact =
                    format!("the model \"{name}\" is none of `models`, so nobody can ask for it");
                let problem = Problem::at(format!("{path}.models.{name}"), fact);
                problems.push(problem.help("add it to `models`, or remove this line"));
            }
        }
    }
}

impl Budget {
    fn judge(&self, problems: &mut Vec<Problem>) {
        if !(1..=MOST).contains(&self.limit) {
            let fact = format!("must be from 1 to {MOST}, found {}", self.limit);
            problems.push(Problem::at("budget.limit", fact));
        }
        let is_whole = self.per.0.subsec_nanos() == 0;
        if !(Time::secs(1)..=LONGEST).contains(&self.per) || !is_whole {
            let fact = format!(
                "must be from 1s to 31d in whole seconds, found {}",
                self.per
            );
            problems.push(Problem::at("budget.per", fact).help("leave it out for 1m"));
        }
        if self.assume > 1_000_000 {
            let fact = format!("must be at most 1000000, found {}", self.assume);
            problems.push(Problem::at("budget.assume", fact).help("leave it out for 1000"));
        }
        let common = Common {
            max_keys: self.max_keys,
            name: self.name.as_deref(),
            has_store: self.store.is_some(),
            for_store: &[
                ("name", self.name.is_some()),
                ("on_store_failure", self.on_store_failure.is_some()),
            ],
        };
        let mut found = Vec::new();
        common.judge(&mut found);
        problems.extend(found.into_iter().map(below));
    }
}

/// A problem of the budget, as one of the plugin's settings.
pub(super) fn below(problem: Problem) -> Problem {
    Problem {
        path: format!("budget.{}", problem.path),
        ..problem
    }
}

/// What models are called that are not listed.
pub(super) const OTHER: &str = "other";
