//! A plugin in the test kit with a request that it has work with, and the turns it is counted over.
//! It must not know any particular plugin.
//! Made by `scenes`; run by the process that valgrind watches.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::runtime::Runtime;
use windrose_plugins::contract::{
    CacheRequest, CacheResult, CacheWish, ClientFacts, Held, Hold, Hooks, PluginDef, ResponseCache,
    Verdict, WholeBody,
};
use windrose_plugins::testkit::{Exchange, Instance, Kit};

/// What a plugin is counted with.
pub(crate) struct Stage {
    pub(crate) plugin: &'static PluginDef,
    pub(crate) kit: Kit,
    pub(crate) settings: String,
    /// Makes the request, and the head of the response.
    pub(crate) request: Box<dyn Fn() -> Exchange>,
    /// The bodies that stream through, besides the one that a hook sees whole.
    pub(crate) sent: Option<Bytes>,
    pub(crate) received: Option<Bytes>,
    pub(crate) trailers: HeaderMap,
    /// Whether it did what it is for.
    pub(crate) works: fn(&Kit, &Done) -> bool,
}

/// What came of a turn.
pub(crate) struct Done {
    pub(crate) exchange: Exchange,
    /// What the plugin said, where it did not let the request go on.
    pub(crate) said: Option<Verdict>,
    /// The bodies as they went on.
    pub(crate) sent: Option<Bytes>,
    pub(crate) received: Option<Bytes>,
}

impl Stage {
    pub(crate) const TURNS: u64 = 1000;
    /// Enough for tables to have grown and for what is remembered.
    const BEFORE: u64 = 50;

    /// The process that valgrind watches.
    pub(crate) fn run(&self, with_hooks: bool) {
        let plugin = self.instance();
        let nothing = Instance {
            hooks: Hooks::new(),
        };
        let runtime = runtime();
        let first = runtime.block_on(self.turn(&plugin, &plugin.hooks));
        let of = if with_hooks { &plugin } else { &nothing };
        let calls = first.said.is_none().then_some(&plugin.hooks);
        runtime.block_on(self.turns(of, calls, Stage::BEFORE));
        self.turns_that_count(&runtime, of, calls);
    }

    /// What valgrind counts in, by its name; nothing in it may have the same.
    #[inline(never)]
    fn turns_that_count(&self, runtime: &Runtime, of: &Instance, calls: Option<&Hooks>) {
        runtime.block_on(self.turns(of, calls, Stage::TURNS));
    }

    /// Without further calls, as for a plugin that answers, the request hook alone.
    async fn turns(&self, of: &Instance, calls: Option<&Hooks>, turns: u64) {
        for _ in 0..turns {
            match calls {
                Some(calls) => drop(black_box(self.turn(of, calls).await)),
                None => {
                    let mut exchange = (self.request)();
                    drop(black_box(of.request_async(&mut exchange).await));
                }
            }
        }
    }

    /// The course of a request through the hooks of `of`, as far as `calls` has them.
    async fn turn(&self, of: &Instance, calls: &Hooks) -> Done {
        let mut exchange = (self.request)();
        let verdict = of.request_async(&mut exchange).await;
        let mut done = Done {
            exchange,
            said: None,
            sent: self.sent.clone(),
            received: self.received.clone(),
        };
        if !matches!(verdict, Verdict::Continue) {
            done.said = Some(verdict);
            return done;
        }
        let exchange = &mut done.exchange;
        let mut said = vec![];
        if calls.upstream_request.is_some() {
            said.push(of.upstream_request(exchange));
        }
        if calls.request_body.is_some() && done.sent.is_some() {
            said.push(of.request_body(exchange, &mut done.sent, true));
        }
        if let (Some(_), Some(body)) = (&calls.cache, &self.received) {
            if let Some(cache) = &of.hooks.cache {
                cached(&**cache, exchange, body);
            }
        }
        if calls.held_response.is_some() {
            said.extend(self.holds(of, exchange, &mut done.received));
        } else {
            said.push(of.response(exchange));
            said.extend(self.passes(of, calls, exchange, &mut done.received));
        }
        of.finish(exchange, Duration::from_millis(3));
        let went_on = |verdict: &Verdict| matches!(verdict, Verdict::Continue);
        done.said = said.into_iter().find(|verdict| !went_on(verdict));
        done
    }

    /// A response that may be held back.
    fn holds(
        &self,
        of: &Instance,
        exchange: &mut Exchange,
        received: &mut Option<Bytes>,
    ) -> Option<Verdict> {
        let mut held = Held {
            body: WholeBody::new(received.clone().unwrap_or_default()),
            is_whole: true,
            trailers: self.trailers.clone(),
        };
        if of.wish(exchange) == Hold::Nothing {
            return None;
        }
        let verdict = of.held_response(exchange, &mut held);
        *received = Some(held.body.bytes().clone());
        Some(verdict)
    }

    /// A response that goes on as it comes.
    fn passes(
        &self,
        of: &Instance,
        calls: &Hooks,
        exchange: &mut Exchange,
        received: &mut Option<Bytes>,
    ) -> Option<Verdict> {
        let has_trailers = !self.trailers.is_empty();
        let body = calls.response_body.as_ref().filter(|_| received.is_some());
        let said = body.map(|_| of.response_body(exchange, received, !has_trailers));
        if calls.response_trailers.is_some() && has_trailers {
            of.response_trailers(exchange, &mut self.trailers.clone());
        }
        said
    }

    /// What is to be said of the number: that it is of a refusal, or that the plugin had nothing to do.
    pub(crate) fn says(&self) -> String {
        let plugin = self.instance();
        let runtime = runtime();
        // As in the turns that count, what is remembered is.
        let _ = runtime.block_on(self.turn(&plugin, &plugin.hooks));
        let done = runtime.block_on(self.turn(&plugin, &plugin.hooks));
        let works = match (self.works)(&self.kit, &done) {
            true => "",
            false => " (it had nothing to do)",
        };
        match done.said {
            None => works.to_owned(),
            Some(Verdict::Answer(answer)) => format!(" (answers: {}){works}", answer.cause.name),
            Some(other) => format!(" ({other:?}){works}"),
        }
    }

    fn instance(&self) -> Instance {
        self.kit.instance(self.plugin, &self.settings)
    }
}

/// What the proxy asks a cache of a request: whether there is something for it, and, where there is not, to keep what came.
fn cached(cache: &dyn ResponseCache, exchange: &Exchange, body: &Bytes) {
    let client = ClientFacts {
        address: [192, 0, 2, 1].into(),
        secure: true,
        listener: "test",
        route: "test",
        host: "api.example.com",
        path: exchange.request.uri.path(),
        request_id: "test-request-id",
        trusted_peer: false,
        sends_body: false,
        trace: None,
        certificate: None,
    };
    let request = CacheRequest {
        head: &exchange.request,
        client: &client,
        principal: None,
        rule: 0,
        pool: "test",
        is_elsewhere: false,
        is_stream: false,
    };
    let CacheWish::Look(wanted) = cache.ask(&request) else {
        return;
    };
    let fields = &exchange.request.headers;
    if let Some(stored) = cache.find(&wanted, fields) {
        black_box(cache.reuse(&wanted, &stored));
        cache.count(CacheResult::Hit);
        return;
    }
    let took = Duration::from_millis(3);
    if let Ok(mut stored) = cache.judge(&wanted, fields, &exchange.response, took) {
        stored.body = body.clone();
        cache.keep(wanted.since, stored);
    }
    cache.count(CacheResult::Miss);
}

fn runtime() -> Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.expect("a runtime with timers alone needs nothing that can run out")
}
