//! Services for tests: what they answer to calls, and what they were asked.
//! It must not know what plugins ask.
//! Part of the kit.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::oneshot;

use super::wires::FakeWires;
use super::Kit;
use crate::contract::{
    did_you_mean, Call, CallFailure, CallFuture, Carrier, Carriers, Origin, Problem, Reply, Target,
    WireSettings, Wires,
};

/// Answers by URL, and every call that was made. A URL nobody scripted has no endpoint.
#[derive(Default)]
pub(super) struct Calls {
    script: Arc<Mutex<Script>>,
    pools: BTreeSet<String>,
    wires: FakeWires,
}

#[derive(Default)]
struct Script {
    answers: BTreeMap<String, VecDeque<Scripted>>,
    asked: Vec<Asked>,
}

enum Scripted {
    Now(Box<Result<Reply, CallFailure>>),
    Later(oneshot::Receiver<Result<Reply, CallFailure>>),
}

/// A call as the service got it.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// The whole URL, with its query.
    pub url: String,
    /// Every field.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The call itself: its bounds.
    pub call: Call,
}

impl Asked {
    /// The first value of a field, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as text; empty where it is none.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or_default()
    }
}

/// A response for a script.
///
/// # Panics
/// When a field is malformed.
pub fn reply(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
    let mut reply = Reply {
        status,
        body: body.into(),
        ..Reply::default()
    };
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("the name is a token");
        let value = HeaderValue::from_str(value).expect("the value is printable");
        reply.headers.append(name, value);
    }
    reply
}

impl Kit {
    /// Lets targets name this pool. To be called before anything is built.
    pub fn with_pool(mut self, name: &str) -> Kit {
        self.calls.pools.insert(name.to_owned());
        self
    }

    /// What calls to a URL are answered, its query left out; several times for several answers in order, of which the last one
    /// stays.
    pub fn answer(&self, url: &str, answer: Result<Reply, CallFailure>) {
        self.calls.add(url, Scripted::Now(Box::new(answer)));
    }

    /// As [`Kit::answer`], but calls wait until something is sent.
    pub fn answer_later(&self, url: &str) -> oneshot::Sender<Result<Reply, CallFailure>> {
        let (sender, receiver) = oneshot::channel();
        self.calls.add(url, Scripted::Later(receiver));
        sender
    }

    /// Forgets every answer for a URL.
    pub fn forget_answers(&self, url: &str) {
        self.calls.script().answers.remove(url);
    }

    /// Every call that was made, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.calls.script().asked.clone()
    }
}

impl Calls {
    pub(super) fn wires(&self) -> &FakeWires {
        &self.wires
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        lock(&self.script)
    }

    fn add(&self, url: &str, scripted: Scripted) {
        let mut script = self.script();
        script
            .answers
            .entry(url.to_owned())
            .or_default()
            .push_back(scripted);
    }
}

impl Carriers for Calls {
    fn carrier(&self, target: &Target, origin: &Origin) -> Result<Arc<dyn Carrier>, Problem> {
        if let Some(name) = target
            .pool
            .as_ref()
            .filter(|name| !self.pools.contains(*name))
        {
            let guess = did_you_mean(name, self.pools.iter().map(String::as_str));
            let remedy = guess.map_or(String::new(), |guess| format!("did you mean \"{guess}\"?"));
            return Err(Problem::at("pool", format!("no pool is named \"{name}\"")).help(remedy));
        }
        Ok(Arc::new(Line {
            script: self.script.clone(),
            origin: origin.name(),
        }))
    }

    fn wires(&self, settings: &WireSettings) -> Result<Arc<dyn Wires>, Problem> {
        Ok(self.wires.to(settings))
    }
}

struct Line {
    script: Arc<Mutex<Script>>,
    origin: String,
}

impl Carrier for Line {
    fn carry(&self, call: Call) -> CallFuture {
        let url = format!("{}{}", self.origin, call.path);
        let key = url.split('?').next().unwrap_or_default().to_owned();
        let mut script = lock(&self.script);
        script.asked.push(Asked {
            method: call.method.to_string(),
            url,
            headers: call.headers.clone(),
            body: call.body.clone(),
            call: call.clone(),
        });
        let answers = script.answers.get_mut(&key);
        let next = answers.and_then(|answers| match (answers.len(), answers.front()) {
            (1, Some(Scripted::Now(last))) => Some(Scripted::Now(last.clone())),
            _ => answers.pop_front(),
        });
        drop(script);
        let limit = call.limit;
        Box::pin(async move {
            let answer = match next {
                None => Err(CallFailure::NoEndpoint),
                Some(Scripted::Now(answer)) => *answer,
                Some(Scripted::Later(answer)) => answer.await.unwrap_or(Err(CallFailure::TimedOut)),
            };
            answer.and_then(|reply| match reply.body.len() > limit {
                true => Err(CallFailure::TooLarge),
                false => Ok(reply),
            })
        })
    }
}

fn lock(script: &Mutex<Script>) -> MutexGuard<'_, Script> {
    script.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Effects;

    fn caller(kit: &Kit, target: &Target) -> crate::contract::Caller {
        kit.with_build("test", |build| build.caller("service", target))
            .unwrap()
    }

    fn target(url: &str, pool: Option<&str>) -> Target {
        Target {
            url: url.to_owned(),
            pool: pool.map(str::to_owned),
        }
    }

    #[tokio::test]
    async fn calls_are_answered_in_order_recorded_and_counted() {
        let kit = Kit::new();
        kit.answer("http://idp/a", Ok(reply(200, &[], "first")));
        kit.answer("http://idp/a", Err(CallFailure::TimedOut));
        let caller = caller(&kit, &target("http://idp/a?k=v", None));

        let first = caller.call(Effects::Live, caller.get()).await;
        let second = caller.call(Effects::Live, caller.get().at("/a?x")).await;
        let third = caller.call(Effects::Live, caller.get().at("/nobody")).await;

        assert_eq!(first.unwrap().body, "first");
        assert_eq!(second.unwrap_err(), CallFailure::TimedOut);
        assert_eq!(third.unwrap_err(), CallFailure::NoEndpoint);
        let urls: Vec<_> = kit.asked().into_iter().map(|asked| asked.url).collect();
        assert_eq!(
            urls,
            ["http://idp/a?k=v", "http://idp/a?x", "http://idp/nobody"]
        );
        assert_eq!(kit.asked()[0].header("host"), Some("idp"));
        assert_eq!(kit.counted("call_answered"), 1);
        assert_eq!(kit.counted("call_timed_out"), 1);
        assert_eq!(kit.counted("call_no_endpoint"), 1);
    }

    #[tokio::test]
    async fn a_dry_run_asks_nobody_and_says_whom_it_would_ask() {
        let kit = Kit::new();
        let caller = caller(&kit, &target("https://idp/a?secret", None));

        for effects in [Effects::Dry, Effects::Peek] {
            let failure = caller.call(effects, caller.get()).await.unwrap_err();

            assert_eq!(failure, CallFailure::Unknown("https://idp/a".into()));
        }
        assert!(kit.asked().is_empty());
        assert_eq!(kit.counted("call_answered"), 0);
    }

    #[test]
    fn an_unknown_pool_is_a_problem_where_it_stands() {
        let kit = Kit::new().with_pool("idp");
        let wrong = target("http://a/", Some("idpp"));

        let problem = kit.with_build("test", |build| build.caller("service", &wrong));

        let problem = problem.err().unwrap();
        assert_eq!(problem.path, "service.pool");
        assert!(problem.remedy.contains("\"idp\""), "{problem:?}");
    }
}
