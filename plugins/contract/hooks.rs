//! The hooks a plugin can attach and what each may answer.
//! It must not know how chains are run; order, modes and failure handling belong to the chain.
//! `Plugin::build` returns a [`Hooks`]; only what is attached is ever called.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{
    Background, BodyWish, Cause, ConnectionView, Finished, Held, HeldResponse, Hold, Life, Request,
    Response, ResponseCache, TooLarge, Unknown,
};
use crate::granted::Granted;

/// What a hook says about the request.
#[derive(Debug)]
pub enum Verdict {
    /// Go on.
    Continue,
    /// Answer now with this; later hooks of the request are not run.
    Answer(Box<Answer>),
    /// The hook could not do its work (a dependency is down). The chain applies `on_error`, as it does when a hook panics.
    Failed {
        /// The cause when failing closed. Its own, never that of a denial.
        cause: &'static Cause,
        /// For the log: what happened.
        reason: String,
    },
    /// Only in a dry run: what the hook would have to ask.
    Unknown(Unknown),
}

/// An answer made by a plugin.
#[derive(Debug)]
pub struct Answer {
    /// Status code, 200 to 599.
    pub status: u16,
    /// Why. Shown to operators; the title is shown to clients.
    pub cause: &'static Cause,
    /// Further fields, such as `WWW-Authenticate` or `Retry-After`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// A body of the plugin's own with its media type; `None` lets the proxy render the cause as the client prefers.
    pub body: Option<(HeaderValue, Bytes)>,
    /// Whether it is what the caller wanted of a service: then the route's policies say first whether the caller may have it.
    pub stands_in: bool,
}

impl Answer {
    /// An answer with the cause's own status, rendered by the proxy.
    pub fn of(cause: &'static Cause) -> Answer {
        Answer {
            status: cause.status,
            cause,
            headers: Vec::new(),
            body: None,
            stands_in: false,
        }
    }

    /// Says that it is what the caller wanted of a service.
    pub fn in_place_of_service(mut self) -> Answer {
        self.stands_in = true;
        self
    }

    /// Adds a field.
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Answer {
        self.headers.push((name, value));
        self
    }
}

impl From<Answer> for Verdict {
    fn from(answer: Answer) -> Verdict {
        Verdict::Answer(Box::new(answer))
    }
}

/// The future of a hook that waits.
pub type HookFuture<'a> = Pin<Box<dyn Future<Output = Verdict> + Send + 'a>>;

/// Called when a connection was accepted, before TLS. `Answer` closes it with the cause; nothing can be sent.
pub type ConnectionHook = Box<dyn Fn(&ConnectionView<'_>) -> Verdict + Send + Sync>;

/// Called with the request's head, before the endpoint is chosen.
pub enum RequestHook {
    /// Decides at once.
    Sync(Box<dyn Fn(&mut Request<'_>) -> Verdict + Send + Sync>),
    /// Must wait for something; costs one allocation per request.
    Async(Box<dyn for<'a, 'b> Fn(&'a mut Request<'b>) -> HookFuture<'a> + Send + Sync>),
}

/// Asked about a request's head, before its body is read for a hook that sees it whole. Must not change anything.
pub type BodyQuestion = Box<dyn Fn(&Request<'_>) -> bool + Send + Sync>;

/// Called for every piece of a body; `true` marks the last one. The piece may be changed; a hook that keeps one back leaves an empty
/// one, because `None` before the end means that the body ends here. A hook that changes a body's length removes `Content-Length`
/// from its head; the proxy frames what comes. A response that ends with trailers has no last piece: see [`TrailersHook`].
pub type BodyHook<M> =
    Box<dyn for<'a, 'b> Fn(&'a mut M, &'b mut Option<Bytes>, bool) -> Verdict + Send + Sync>;

/// Called with the trailers of a response, after the last piece of its body, which was not marked as such. What is put into the piece
/// is sent as the end of the body, and the trailers with it are dropped: the framework has one or the other. Plugins nearer to the
/// client, which have their turn later, find the piece and may change it; one without this hook gets it as a last piece of the body.
pub type TrailersHook = Box<
    dyn for<'a> Fn(&'a mut super::Slots, &'a mut HeaderMap, &'a mut Option<Bytes>) + Send + Sync,
>;

/// Called with the response's head.
pub type ResponseHook = Box<dyn Fn(&mut Response<'_>) -> Verdict + Send + Sync>;

/// Called once when the request is over, whatever happened.
pub type FinishHook = Box<dyn Fn(&mut Finished<'_>) + Send + Sync>;

/// Called on SIGUSR1 while the instance is in force: files that are written have been renamed. Must not wait.
pub type ReopenHook = Box<dyn Fn() + Send + Sync>;

/// The hooks of one plugin instance. A hook that is not attached costs nothing.
#[derive(Default)]
pub struct Hooks {
    /// See [`ConnectionHook`].
    pub connection: Option<ConnectionHook>,
    /// See [`RequestHook`].
    pub request: Option<RequestHook>,
    /// Whether the request hook waits for the whole body.
    pub whole_body: Option<BodyWish>,
    /// Which requests' bodies it waits for; all where nothing is attached. Its hook sees no body of the others.
    pub body_wanted: Option<BodyQuestion>,
    /// Pieces of the request body. The head has already gone upstream; an answer aborts the exchange.
    pub request_body: Option<BodyHook<super::Slots>>,
    /// The request's head as it goes upstream, after rewrites and forwarded headers; runs again for each attempt.
    pub upstream_request: Option<RequestHook>,
    /// See [`ResponseHook`]. Also called for answers made by the proxy.
    pub response: Option<ResponseHook>,
    /// Pieces of the response body. Must not wait.
    pub response_body: Option<BodyHook<super::Slots>>,
    /// See [`HeldResponse`].
    pub held_response: Option<HeldResponse>,
    /// See [`TrailersHook`].
    pub response_trailers: Option<TrailersHook>,
    /// See [`FinishHook`].
    pub finish: Option<FinishHook>,
    /// See [`ReopenHook`].
    pub reopen: Option<ReopenHook>,
    /// Tasks that run beside requests.
    pub background: Vec<Background>,
    /// Whether the request hook has nothing to do where clients show no certificates.
    pub client_certificates: bool,
    /// See [`ResponseCache`].
    pub cache: Option<Arc<dyn ResponseCache>>,
    /// Names of fields and parameters that carry credentials; see [`Hooks::with_credentials`].
    pub credentials: Vec<String>,
    /// Fields of the request that only this plugin may say, for one around it.
    pub(crate) granted: Vec<Granted>,
}

impl Hooks {
    /// No hooks; attach some.
    pub fn new() -> Hooks {
        Hooks::default()
    }

    /// Attaches a connection hook.
    pub fn on_connection(
        mut self,
        hook: impl Fn(&ConnectionView<'_>) -> Verdict + Send + Sync + 'static,
    ) -> Hooks {
        self.connection = Some(Box::new(hook));
        self
    }

    /// Attaches a request hook that does not wait.
    pub fn on_request(
        mut self,
        hook: impl Fn(&mut Request<'_>) -> Verdict + Send + Sync + 'static,
    ) -> Hooks {
        self.request = Some(RequestHook::Sync(Box::new(hook)));
        self
    }

    /// Attaches a request hook that waits.
    pub fn on_request_async<F>(mut self, hook: F) -> Hooks
    where
        F: for<'a, 'b> Fn(&'a mut Request<'b>) -> HookFuture<'a> + Send + Sync + 'static,
    {
        self.request = Some(RequestHook::Async(Box::new(hook)));
        self
    }

    /// Lets the request hook see the whole body, as `Request::body`, and change it. The proxy reads it when it is this hook's turn,
    /// so hooks before it can refuse without: name such a plugin after those that authenticate. A body of more than `most` bytes is
    /// refused with `too_large` and the hook does not run; all bodies held at a time, and the time a client takes to send one, are
    /// bounded by `limits` of the configuration. Not for calls that stream: their body never ends.
    pub fn with_whole_body(mut self, most: u64, too_large: &'static Cause) -> Hooks {
        let larger = TooLarge::Refused(too_large);
        self.whole_body = Some(BodyWish { most, larger });
        self
    }

    /// As [`Hooks::with_whole_body`], but of a body of more than `most` bytes the hook sees the first ones: `Request::body` is cut then,
    /// and cannot be changed. What follows goes on as it comes, and such a request is not sent again to another endpoint.
    pub fn with_begin_of_body(mut self, most: u64) -> Hooks {
        let larger = TooLarge::Cut;
        self.whole_body = Some(BodyWish { most, larger });
        self
    }

    /// Names fields and parameters of requests that carry credentials: what the proxy writes down of any request hides their values,
    /// whatever they are called.
    pub fn with_credentials(mut self, names: impl IntoIterator<Item = String>) -> Hooks {
        self.credentials.extend(names);
        self
    }

    /// Says that the request hook reads the client's certificate: on listeners that ask for none it is refused as a mistake.
    pub fn with_client_certificates(mut self) -> Hooks {
        self.client_certificates = true;
        self
    }

    /// As [`Hooks::with_whole_body`], for requests of which the head says so. Bodies of others stream on unread, and the hook sees
    /// [`Request::body`] as `None`.
    pub fn with_whole_body_where(
        mut self,
        most: u64,
        too_large: &'static Cause,
        wanted: impl Fn(&Request<'_>) -> bool + Send + Sync + 'static,
    ) -> Hooks {
        self.body_wanted = Some(Box::new(wanted));
        self.with_whole_body(most, too_large)
    }

    /// Attaches a hook on the pieces of the request body.
    pub fn on_request_body<F>(mut self, hook: F) -> Hooks
    where
        F: for<'a, 'b> Fn(&'a mut super::Slots, &'b mut Option<Bytes>, bool) -> Verdict
            + Send
            + Sync
            + 'static,
    {
        self.request_body = Some(Box::new(hook));
        self
    }

    /// Attaches a hook on the request as it goes upstream.
    pub fn on_upstream_request(
        mut self,
        hook: impl Fn(&mut Request<'_>) -> Verdict + Send + Sync + 'static,
    ) -> Hooks {
        self.upstream_request = Some(RequestHook::Sync(Box::new(hook)));
        self
    }

    /// Attaches a hook on the response's head.
    pub fn on_response(
        mut self,
        hook: impl Fn(&mut Response<'_>) -> Verdict + Send + Sync + 'static,
    ) -> Hooks {
        self.response = Some(Box::new(hook));
        self
    }

    /// Attaches a hook on the pieces of the response body.
    pub fn on_response_body<F>(mut self, hook: F) -> Hooks
    where
        F: for<'a, 'b> Fn(&'a mut super::Slots, &'b mut Option<Bytes>, bool) -> Verdict
            + Send
            + Sync
            + 'static,
    {
        self.response_body = Some(Box::new(hook));
        self
    }

    /// Holds responses back: `wish` says of a response's head whether and how far, `hook` sees head and body together and may change
    /// both, status and all. A response that breaks off while it is held, and one that the hook answers otherwise, becomes a whole
    /// answer of the proxy, as nothing of it was sent. All that is held counts for `limits.held_bodies`. Not for responses that
    /// stream: their end never comes.
    pub fn on_held_response<W, F>(mut self, wish: W, hook: F) -> Hooks
    where
        W: Fn(&mut Response<'_>) -> Hold + Send + Sync + 'static,
        F: for<'a> Fn(&mut Response<'a>, &mut Held) -> Verdict + Send + Sync + 'static,
    {
        self.held_response = Some(HeldResponse {
            wish: Box::new(wish),
            hook: Box::new(hook),
        });
        self
    }

    /// Attaches a task that runs while the instance is in force; see [`Background`]. `begin` is called for each beginning.
    pub fn background<F, W>(mut self, name: &'static str, begin: F) -> Hooks
    where
        F: Fn(Life) -> W + Send + Sync + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        self.background.push(Background {
            name,
            begin: Arc::new(move |life| Box::pin(begin(life))),
        });
        self
    }

    /// Lets a cache answer requests. It is asked after every request hook, also of plugins that are named after it, and after the
    /// policies: whoever may refuse has had its turn. Response hooks run on what it answers as on any other response. A request is
    /// answered from one cache, that of its route before that of its listener.
    pub fn with_cache(mut self, cache: Arc<dyn ResponseCache>) -> Hooks {
        self.cache = Some(cache);
        self
    }

    /// Attaches a hook on the response's trailers.
    pub fn on_response_trailers<F>(mut self, hook: F) -> Hooks
    where
        F: for<'a> Fn(&'a mut super::Slots, &'a mut HeaderMap, &'a mut Option<Bytes>)
            + Send
            + Sync
            + 'static,
    {
        self.response_trailers = Some(Box::new(hook));
        self
    }

    /// Attaches a hook for the end of the request.
    pub fn on_finish(mut self, hook: impl Fn(&mut Finished<'_>) + Send + Sync + 'static) -> Hooks {
        self.finish = Some(Box::new(hook));
        self
    }

    /// Attaches a hook for files that were renamed.
    pub fn on_reopen(mut self, hook: impl Fn() + Send + Sync + 'static) -> Hooks {
        self.reopen = Some(Box::new(hook));
        self
    }
}
