//! The calls of one request: made as soon as they can be, judged as they come in, merged when all are there.
//! It must not know settings beyond what was compiled.
//! Part of `aggregate`.

use std::borrow::Cow;

use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};
use tokio::task::JoinSet;

use super::causes::{AGGREGATE, FAILED, INCOMPLETE, MALFORMED, TOO_LARGE};
use super::path::{member, plain, Source, Values};
use super::{Aggregate, Call, OnFailure};
use crate::codec::whole::{self, NotPlain};
use crate::contract::{Answer, CallFailure, Cause, Effects, Reply, Request, Unknown, Verdict};
use crate::query;

/// Why a call came to nothing.
struct Failure {
    cause: &'static Cause,
    reason: String,
}

/// What came of a call: the answer, and what it brings to the document.
struct Brought {
    answer: Value,
    members: Map<String, Value>,
}

/// The state of the calls of one request.
struct Round<'a> {
    aggregate: &'a Aggregate,
    outcomes: Vec<Option<Result<Brought, Failure>>>,
    started: Vec<bool>,
    under_way: JoinSet<(usize, Result<Reply, CallFailure>)>,
}

impl Aggregate {
    pub(super) async fn answer(&self, request: &mut Request<'_>) -> Verdict {
        if !request.effects.is_live() {
            let names = self.calls.iter().map(|call| call.caller.about());
            let all = names.collect::<Vec<_>>().join(", ");
            return Verdict::Unknown(Unknown(Cow::Owned(all)));
        }
        let mut round = Round {
            aggregate: self,
            outcomes: self.calls.iter().map(|_| None).collect(),
            started: vec![false; self.calls.len()],
            under_way: JoinSet::new(),
        };
        // What is under way when an answer is clear ends with the round.
        loop {
            if let Err(verdict) = round.begin(request) {
                return verdict;
            }
            let Some(ended) = round.under_way.join_next().await else {
                break;
            };
            if let Ok((at, reply)) = ended {
                if let Err(verdict) = round.end(at, reply) {
                    return verdict;
                }
            }
        }
        round.merged()
    }

    /// Whether a request can be answered without this call.
    fn can_miss(&self, call: &Call) -> bool {
        self.on_failure == OnFailure::Partial && !call.required
    }
}

impl Round<'_> {
    /// Begins the calls that have what they need.
    fn begin(&mut self, request: &Request<'_>) -> Result<(), Verdict> {
        // A call that fails here may be what another one waits for.
        while let Some(at) = self.ready() {
            self.started[at] = true;
            let call = &self.aggregate.calls[at];
            let path = {
                let values = Facts {
                    request,
                    round: self,
                };
                match call
                    .path
                    .as_ref()
                    .map(|path| path.fill(&values))
                    .transpose()
                {
                    Ok(path) => Ok(path),
                    Err(Source::Response { call: name, .. }) => Err(Failure {
                        cause: &MALFORMED,
                        reason: format!("the answer of \"{name}\" does not have what it needs"),
                    }),
                    Err(_) => return Err(Answer::of(&INCOMPLETE).into()),
                }
            };
            match path {
                Ok(path) => self.spawn(at, path, request),
                Err(failure) => self.note(at, Err(failure))?,
            }
        }
        Ok(())
    }

    fn ready(&self) -> Option<usize> {
        let is_done = |at: &usize| self.outcomes[*at].is_some();
        let calls = self.aggregate.calls.iter().enumerate();
        let mut ready = calls
            .filter(|(at, call)| !self.started[*at] && call.needs.iter().all(is_done))
            .map(|(at, _)| at);
        ready.next()
    }

    fn spawn(&mut self, at: usize, path: Option<String>, request: &Request<'_>) {
        let call = &self.aggregate.calls[at];
        let path = path.unwrap_or_else(|| call.caller.path().to_owned());
        let made = call.caller.get().at(with_query(path, &call.query, request));
        let mut made = made.within(call.timeout.0).at_most(call.most).of(request);
        copy(&mut made.headers, &call.headers, &request.head.headers);
        let caller = call.caller.clone();
        self.under_way
            .spawn(async move { (at, caller.call(Effects::Live, made).await) });
    }

    fn end(&mut self, at: usize, reply: Result<Reply, CallFailure>) -> Result<(), Verdict> {
        let call = &self.aggregate.calls[at];
        let outcome = match reply {
            Ok(reply) => call.judge(&reply),
            Err(failure) => Err(Failure {
                cause: match failure {
                    CallFailure::TooLarge => &TOO_LARGE,
                    _ => &FAILED,
                },
                reason: failure.to_string(),
            }),
        };
        self.note(at, outcome)
    }

    /// Takes note of an outcome; the verdict, where the request fails with it.
    fn note(&mut self, at: usize, outcome: Result<Brought, Failure>) -> Result<(), Verdict> {
        let call = &self.aggregate.calls[at];
        match outcome {
            Err(failure) if !self.aggregate.can_miss(call) => Err(call.failed(&failure)),
            outcome => {
                self.outcomes[at] = Some(outcome);
                Ok(())
            }
        }
    }

    fn merged(self) -> Verdict {
        let aggregate = self.aggregate;
        let mut document = Map::new();
        let (mut missing, mut first) = (0, None);
        for (outcome, call) in self.outcomes.into_iter().zip(&aggregate.calls) {
            match outcome {
                Some(Ok(brought)) => document.extend(brought.members),
                Some(Err(failure)) => {
                    missing += 1;
                    first = first.or(Some(call.failed(&failure)));
                }
                None => {
                    missing += 1;
                    let failure = Failure {
                        cause: &FAILED,
                        reason: "its task broke off".to_owned(),
                    };
                    first = first.or(Some(call.failed(&failure)));
                }
            }
        }
        if let Some(verdict) = first.filter(|_| missing == aggregate.calls.len()) {
            return verdict;
        }
        let body = Value::Object(document).to_string();
        if body.len() > aggregate.most {
            return Verdict::Failed {
                cause: &TOO_LARGE,
                reason: "the merged document is larger than `max`".to_owned(),
            };
        }
        (aggregate.merged)(1);
        let mut answer = Answer::of(&AGGREGATE).in_place_of_service();
        answer.body = Some((HeaderValue::from_static("application/json"), body.into()));
        if missing == 0 {
            return answer
                .with(COMPLETE, HeaderValue::from_static("true"))
                .into();
        }
        (aggregate.partial)(1);
        answer
            .with(COMPLETE, HeaderValue::from_static("false"))
            .with(CACHE_CONTROL, HeaderValue::from_static("no-store"))
            .into()
    }
}

impl Call {
    fn failed(&self, failure: &Failure) -> Verdict {
        Verdict::Failed {
            cause: failure.cause,
            reason: format!("call \"{}\": {}", self.name, failure.reason),
        }
    }

    fn judge(&self, reply: &Reply) -> Result<Brought, Failure> {
        let failure = |cause, reason: &str| Failure {
            cause,
            reason: reason.to_owned(),
        };
        if !(200..300).contains(&reply.status) {
            let reason = format!("answered with status {}", reply.status);
            return Err(failure(&FAILED, &reason));
        }
        let body = whole::plain(&reply.headers, &reply.body, self.most as u64);
        let body = body.map_err(|why| match why {
            NotPlain::TooLarge => failure(&TOO_LARGE, "is larger than `max`"),
            NotPlain::Unknown => failure(&MALFORMED, "is in a content coding that is not known"),
            NotPlain::Malformed => failure(&MALFORMED, "is not in its content coding"),
        })?;
        let answer: Value = serde_json::from_slice(&body)
            .map_err(|_| failure(&MALFORMED, "answered with something that is not JSON"))?;
        let members = self.shape.of(answer.clone());
        let members = members.ok_or_else(|| {
            failure(
                &MALFORMED,
                "has no `target`, or is no object and has no `group`",
            )
        })?;
        Ok(Brought { answer, members })
    }
}

/// Where values for paths come from.
struct Facts<'a> {
    request: &'a Request<'a>,
    round: &'a Round<'a>,
}

impl Values for Facts<'_> {
    fn text(&self, source: &Source) -> Option<String> {
        let request = self.request;
        match source {
            Source::Segment(at) => {
                let path = request.client.path.trim_start_matches('/');
                let segment = path.split('/').nth(*at)?;
                String::from_utf8(path_decoded(segment)).ok()
            }
            Source::Query(name) => parameter(request, name).next(),
            Source::Header(name) => {
                let value = request.head.headers.get(name)?;
                value.to_str().ok().map(str::to_owned)
            }
            Source::Principal => Some(request.principal.as_ref()?.name.clone()),
            Source::Response { call, member: path } => {
                let calls = &self.round.aggregate.calls;
                let at = calls.iter().position(|one| one.name == *call)?;
                let brought = self.round.outcomes[at].as_ref()?.as_ref().ok()?;
                plain(member(&brought.answer, path)?)
            }
        }
    }
}

/// What stands in a path as it is, so that it is escaped once.
fn path_decoded(text: &str) -> Vec<u8> {
    // `+` is itself in a path.
    query::decoded(&text.replace('+', "%2B")).into_owned()
}

fn parameter<'r>(request: &'r Request<'_>, name: &'r str) -> impl Iterator<Item = String> + 'r {
    let pairs = query::pairs(request.head.uri.query().unwrap_or_default());
    pairs
        .filter(move |(key, _)| *query::decoded(key) == *name.as_bytes())
        .filter_map(|(_, value)| String::from_utf8(query::decoded(value).into_owned()).ok())
}

fn with_query(mut path: String, names: &[String], request: &Request<'_>) -> String {
    for name in names {
        for value in parameter(request, name) {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(&format!(
                "{}={}",
                query::encoded(name),
                query::encoded(&value)
            ));
        }
    }
    path
}

fn copy(to: &mut HeaderMap, names: &[HeaderName], from: &HeaderMap) {
    for name in names {
        for value in from.get_all(name) {
            to.append(name.clone(), value.clone());
        }
    }
}

const COMPLETE: HeaderName = HeaderName::from_static("x-windrose-complete");
