//! A fake proxy for plugin tests: build one plugin from YAML, run its hooks, move the clock, read its counters.
//! It must not know any particular plugin.
//! Called by the tests of built-in plugins and by authors of plugins out of the tree.

mod calls;
mod certificates;
mod consumers;
mod counters;
mod facts;
mod held;
mod looks;
mod store;
mod tasks;
mod wires;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use pingora_http::{RequestHeader, ResponseHeader};

use crate::contract::{
    Answer, Build, Cause, ClientCertificate, Clock, ConnectionView, Consumers, Effects, Finished,
    Hooks, PluginDef, Principal, Problem, RequestHook, Said, Slots, StateRegistry, TooLarge,
    Upstream, Verdict, WholeBody,
};

pub use calls::{reply, Asked};
pub use certificates::Authority;
use facts::{Facts, Seen};
pub use looks::{answered, field, fields, went_on};
pub use store::FakeStore;
use store::FakeStores;
pub use tasks::Task;

/// What the proxy lends to plugins, faked: a clock that stands still, state that survives rebuilding, counters that remember, services
/// that answer from a script, stores in memory.
#[derive(Default)]
pub struct Kit {
    clock: Arc<AtomicU64>,
    states: StateRegistry,
    counters: counters::Counters,
    consumers: Arc<Consumers>,
    calls: calls::Calls,
    stores: FakeStores,
    folder: PathBuf,
}

impl Kit {
    /// A clock at zero, no state, nothing counted, the current folder.
    pub fn new() -> Kit {
        Kit::default()
    }

    /// Resolves relative paths in settings against this folder.
    pub fn in_folder(mut self, folder: impl Into<PathBuf>) -> Kit {
        self.folder = folder.into();
        self
    }

    /// Moves the clock.
    pub fn advance(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.clock.fetch_add(millis, Ordering::Relaxed);
    }

    /// The fake clock, as plugins get it.
    pub fn clock(&self) -> Clock {
        Clock::Fake(self.clock.clone())
    }

    /// Builds an instance from the YAML of its `config` block. Building the same plugin again is a reload: state survives.
    ///
    /// # Errors
    /// What the plugin found wrong with the settings.
    pub fn build(&self, plugin: &PluginDef, config: &str) -> Result<Instance, Vec<Problem>> {
        self.build_as(plugin.kind, plugin, config)
    }

    /// Builds an instance under a name of its own, for tests with several instances of one plugin.
    ///
    /// # Errors
    /// What the plugin found wrong with the settings.
    pub fn build_as(
        &self,
        instance: &str,
        plugin: &PluginDef,
        config: &str,
    ) -> Result<Instance, Vec<Problem>> {
        let settings = serde_yaml::from_str(config)
            .map_err(|error| vec![Problem::at("", format!("not YAML: {error}"))])?;
        let hooks = self.with_build(instance, |build| (plugin.build)(settings, build))?;
        Ok(Instance { hooks })
    }

    /// Lends what a plugin gets while it is built, for tests of parts of a plugin.
    pub fn with_build<T>(&self, instance: &str, work: impl FnOnce(&Build<'_>) -> T) -> T {
        work(&Build {
            instance,
            folder: &self.folder,
            clock: self.clock(),
            states: &self.states,
            consumers: &self.consumers,
            stores: &self.stores,
            counters: &self.counters,
            carriers: &self.calls,
            plugins: crate::BUILTIN,
        })
    }

    /// Builds an instance from settings that must be right.
    ///
    /// # Panics
    /// When the plugin refuses them.
    pub fn instance(&self, plugin: &PluginDef, config: &str) -> Instance {
        match self.build(plugin, config) {
            Ok(instance) => instance,
            Err(problems) => panic!("settings were refused: {problems:?}"),
        }
    }

    /// What the plugin finds wrong with the settings; empty when they are right.
    pub fn problems(&self, plugin: &PluginDef, config: &str) -> Vec<Problem> {
        self.build(plugin, config).err().unwrap_or_default()
    }

    /// The paths of [`Kit::problems`], in order.
    pub fn problem_paths(&self, plugin: &PluginDef, config: &str) -> Vec<String> {
        let problems = self.problems(plugin, config);
        problems.into_iter().map(|problem| problem.path).collect()
    }

    /// How often an event was counted, over all instances.
    pub fn counted(&self, event: &str) -> u64 {
        self.counters.of(event, None)
    }

    /// How much of an event was counted of one thing in the settings, over all instances.
    pub fn counted_of(&self, event: &str, of: &str) -> u64 {
        self.counters.of(event, Some(of))
    }
}

/// One built plugin. A hook that is not attached lets everything go on.
pub struct Instance {
    /// What the plugin attached.
    pub hooks: Hooks,
}

impl Instance {
    /// Runs the connection hook for a client's address.
    pub fn connection(&self, address: &str) -> Verdict {
        let view = ConnectionView {
            address: parse_address(address),
            listener: "test",
        };
        match &self.hooks.connection {
            Some(hook) => hook(&view),
            None => Verdict::Continue,
        }
    }

    /// Runs the request hook to its end, waiting for it if it is async. A hook that wants the whole body sees the exchange's, or
    /// is not asked where that is too large.
    ///
    /// # Panics
    /// Inside a runtime when the hook is async: use [`Instance::request_async`] there.
    pub fn request(&self, exchange: &mut Exchange) -> Verdict {
        if !matches!(&self.hooks.request, Some(RequestHook::Async(_))) {
            // It does not wait, so it is over at once, also inside somebody's runtime.
            let mut context = Context::from_waker(Waker::noop());
            match pin!(self.request_async(exchange)).poll(&mut context) {
                Poll::Ready(verdict) => return verdict,
                Poll::Pending => panic!("a hook that does not wait has waited"),
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.expect("a runtime without drivers needs nothing that can run out");
        runtime.block_on(self.request_async(exchange))
    }

    /// Runs the request hook inside the caller's runtime.
    pub async fn request_async(&self, exchange: &mut Exchange) -> Verdict {
        let body = exchange.body.clone();
        let client = exchange.facts.view(&exchange.request);
        let mut request = exchange.seen.request(&mut exchange.request, &client);
        let asked = self.hooks.body_wanted.as_ref();
        let wish = self.hooks.whole_body;
        let wish = wish.filter(|_| asked.is_none_or(|wanted| wanted(&request)));
        let seen = match wish {
            Some(wish) if body.len() as u64 > wish.most => match wish.larger {
                TooLarge::Refused(cause) => return Answer::of(cause).into(),
                TooLarge::Cut => {
                    let most = usize::try_from(wish.most).unwrap_or(usize::MAX);
                    Some(WholeBody::cut(body.slice(..most)))
                }
            },
            Some(_) => Some(WholeBody::new(body)),
            None => None,
        };
        request.body = seen.map(Box::new);
        let verdict = match &self.hooks.request {
            Some(RequestHook::Sync(hook)) => hook(&mut request),
            Some(RequestHook::Async(hook)) => hook(&mut request).await,
            None => Verdict::Continue,
        };
        if let Some(body) = request.body.take().filter(|body| body.is_changed()) {
            exchange.body = body.bytes().clone();
        }
        verdict
    }

    /// Starts an attempt: copies the request into [`Exchange::upstream`] and runs the upstream hook on the copy.
    ///
    /// # Panics
    /// When the hook is async; built-in kinds attach none here.
    pub fn upstream_request(&self, exchange: &mut Exchange) -> Verdict {
        exchange.upstream = exchange.request.clone();
        let client = exchange.facts.view(&exchange.request);
        let at = Upstream {
            pool: "test",
            endpoint: "192.0.2.10:80",
            labels: &exchange.labels,
        };
        let mut request = exchange.seen.request(&mut exchange.upstream, &client);
        request.upstream = request.effects.is_live().then_some(&at);
        match &self.hooks.upstream_request {
            Some(RequestHook::Sync(hook)) => hook(&mut request),
            Some(RequestHook::Async(_)) => panic!("the upstream hook is async"),
            None => Verdict::Continue,
        }
    }

    /// Runs the hook on one piece of the request body; `last` marks the end.
    pub fn request_body(
        &self,
        exchange: &mut Exchange,
        piece: &mut Option<Bytes>,
        last: bool,
    ) -> Verdict {
        match &self.hooks.request_body {
            Some(hook) => hook(&mut exchange.seen.slots, piece, last),
            None => Verdict::Continue,
        }
    }

    /// Runs the response hook on [`Exchange::response`].
    pub fn response(&self, exchange: &mut Exchange) -> Verdict {
        match &self.hooks.response {
            Some(hook) => exchange.responding(|response| hook(response)),
            None => Verdict::Continue,
        }
    }

    /// Runs the hook on one piece of the response body; `last` marks the end.
    pub fn response_body(
        &self,
        exchange: &mut Exchange,
        piece: &mut Option<Bytes>,
        last: bool,
    ) -> Verdict {
        match &self.hooks.response_body {
            Some(hook) => hook(&mut exchange.seen.slots, piece, last),
            None => Verdict::Continue,
        }
    }

    /// Runs the hook on the response's trailers; what it returns is sent as the end of the body in their place.
    pub fn response_trailers(
        &self,
        exchange: &mut Exchange,
        trailers: &mut http::HeaderMap,
    ) -> Option<Bytes> {
        let mut piece = None;
        if let Some(hook) = &self.hooks.response_trailers {
            hook(&mut exchange.seen.slots, trailers, &mut piece);
        }
        piece
    }

    /// Runs the finish hook, with the response's status as the final one. What was noted is in [`Exchange::notes`] then.
    pub fn finish(&self, exchange: &mut Exchange, duration: Duration) {
        let client = exchange.facts.view(&exchange.request);
        let status = exchange.response.status.as_u16();
        let line = move |out: &mut Vec<u8>| {
            out.extend_from_slice(format!("{{\"status\":{status}}}\n").as_bytes());
        };
        exchange.notes = exchange.seen.slots.take_notes();
        let mut finished = Finished {
            status,
            cause: exchange.cause,
            at: SystemTime::UNIX_EPOCH,
            duration,
            client: &client,
            principal: exchange.seen.principal.as_ref(),
            request: &exchange.request,
            response: Some(&exchange.response),
            request_bytes: exchange.body.len() as u64,
            response_bytes: 0,
            pool: "test",
            endpoint: "192.0.2.10:80",
            attempts: 1,
            upstream_duration: Some(duration),
            trace_id: None,
            notes: &exchange.notes,
            line: &line,
            slots: &mut exchange.seen.slots,
        };
        if let Some(hook) = &self.hooks.finish {
            hook(&mut finished);
        }
    }
}

/// One request and its response, with everything hooks see of them.
pub struct Exchange {
    /// The request as received, and as request hooks left it.
    pub request: RequestHeader,
    /// The request as the last attempt sent it upstream.
    pub upstream: RequestHeader,
    /// The response on its way to the client; 200 without fields until changed.
    pub response: ResponseHeader,
    /// Why the proxy made the response itself, if it did.
    pub cause: Option<&'static Cause>,
    /// The labels of the endpoint that the next attempt goes to, in the pool `test`.
    pub labels: BTreeMap<String, String>,
    /// What plugins noted, once the finish hook ran.
    pub notes: Vec<(&'static str, Said)>,
    body: Bytes,
    facts: Facts,
    seen: Seen,
}

impl Exchange {
    /// A `GET` from 192.0.2.1 for `http(s)://host/path`, through the listener `test` and the route `test`.
    ///
    /// # Panics
    /// When the target is not an absolute URI.
    pub fn get(target: &str) -> Exchange {
        Exchange::new("GET", target)
    }

    /// As [`Exchange::get`], with a method of its own.
    ///
    /// # Panics
    /// When the method or target is malformed.
    pub fn new(method: &str, target: &str) -> Exchange {
        let uri: http::Uri = target.parse().expect("the target is an absolute URI");
        let host = uri.host().expect("the target names a host").to_lowercase();
        let path_and_query = uri.path_and_query().map_or("/", |both| both.as_str());
        let request = RequestHeader::build(method, path_and_query.as_bytes(), None);
        let mut request = request.expect("the method and path are well formed");
        set(&mut request, "host", &host);
        Exchange {
            upstream: request.clone(),
            request,
            response: ResponseHeader::build(200, None).expect("200 is a status"),
            cause: None,
            labels: BTreeMap::new(),
            notes: Vec::new(),
            body: Bytes::new(),
            facts: Facts {
                address: IpAddr::from([192, 0, 2, 1]),
                secure: uri.scheme_str() == Some("https"),
                listener: "test".to_owned(),
                route: "test".to_owned(),
                path: uri.path().to_owned(),
                request_id: "test-request-id".to_owned(),
                trusted_peer: false,
                trace: None,
                certificate: None,
                streams: false,
                host,
            },
            seen: Seen {
                principal: None,
                slots: Slots::default(),
                effects: Effects::Live,
            },
        }
    }

    /// The client's address.
    pub fn from(mut self, address: &str) -> Exchange {
        self.facts.address = parse_address(address);
        self
    }

    /// Adds a request field.
    pub fn with(mut self, name: &str, value: &str) -> Exchange {
        let (name, value) = parse_field(name, value);
        let appended = self.request.append_header(name, value);
        appended.expect("the field was parsed");
        self
    }

    /// The request's body, for hooks that want to see it whole.
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Exchange {
        self.body = body.into();
        self
    }

    /// The request's body, as request hooks left it.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Adds a response field.
    pub fn with_response(mut self, name: &str, value: &str) -> Exchange {
        let (name, value) = parse_field(name, value);
        let appended = self.response.append_header(name, value);
        appended.expect("the field was parsed");
        self
    }

    /// The response's status.
    pub fn with_status(mut self, status: u16) -> Exchange {
        let changed = self.response.set_status(status);
        changed.expect("the status is from 100 to 999");
        self
    }

    /// The route's name.
    pub fn on_route(mut self, route: &str) -> Exchange {
        self.facts.route = route.to_owned();
        self
    }

    /// The client proved itself with this certificate when it connected.
    pub fn with_certificate(mut self, certificate: Arc<ClientCertificate>) -> Exchange {
        self.facts.certificate = Some(certificate);
        self
    }

    /// A dry run: hooks must change nothing.
    pub fn dry(mut self) -> Exchange {
        self.seen.effects = Effects::Dry;
        self
    }

    /// Makes the response the one a plugin answered with, as the proxy would before response hooks run.
    ///
    /// # Panics
    /// When the answer's status is not one.
    pub fn answer(&mut self, answer: &Answer) {
        let head = ResponseHeader::build(answer.status, None);
        self.response = head.expect("the status is from 100 to 999");
        self.cause = Some(answer.cause);
        for (name, value) in &answer.headers {
            let appended = self.response.append_header(name.clone(), value.clone());
            appended.expect("the field was parsed");
        }
    }

    /// The caller, if a hook or the test proved one.
    pub fn principal(&self) -> Option<&Principal> {
        self.seen.principal.as_ref()
    }
}

fn set(head: &mut RequestHeader, name: &'static str, value: &str) {
    let inserted = head.insert_header(name, value);
    inserted.expect("the field is well formed");
}

fn parse_address(address: &str) -> IpAddr {
    address.parse().expect("the address is an IP address")
}

fn parse_field(name: &str, value: &str) -> (HeaderName, HeaderValue) {
    let name = HeaderName::from_bytes(name.as_bytes()).expect("the name is a token");
    let value = HeaderValue::from_str(value).expect("the value is printable");
    (name, value)
}
