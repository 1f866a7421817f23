//! The client's session, lent to Pingora in a cover: with a body that was read before, as Pingora keeps 64 KiB of one for further attempts
//! and sends nothing of larger ones that were read already, or with an outlet that keeps responses back.
//! It must not know who read or holds what. Everything else is the session's own, which comes back when the lent one goes.

use std::mem::replace;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use http::HeaderMap;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::custom::server::Session as CustomSession;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::server::Session as HttpSession;
use pingora::protocols::http::HttpTask;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::Digest;
use pingora::proxy::Session;
use pingora::Result;

use super::Ctx;
use crate::proxy::hold::{Hold, Outlet};

/// Where a session comes back to.
pub(in crate::proxy) type Returned = Arc<Mutex<Option<Box<HttpSession>>>>;

/// Lends Pingora the session, where a body was read or a plugin may hold the response back.
pub(in crate::proxy) fn begin(session: &mut Session, ctx: &mut Ctx) {
    let gathered = ctx.gathered.as_deref();
    let body = gathered.filter(|body| !body.is_none || body.is_changed);
    let outlet = ctx.may_hold().then(Outlet::default);
    if body.is_none() && outlet.is_none() {
        return;
    }
    let returned = Returned::default();
    let inner = replace(&mut session.downstream_session, nobody());
    let lent = Lent {
        inner,
        read: body.map(|body| Read {
            body: body.bytes.clone(),
            is_whole: body.is_whole,
            has_more: false,
        }),
        outlet: outlet.clone(),
        returned: returned.clone(),
    };
    *session.downstream_session = HttpSession::new_custom(Box::new(lent));
    ctx.loan = Some(Box::new(Loan {
        returned,
        hold: outlet.map(Hold::new),
    }));
}

/// Takes the session back: for an answer of our own, and at the end, where Pingora looks whether the connection can be used again.
pub(in crate::proxy) fn end(session: &mut Session, ctx: &mut Ctx) {
    let Some(loan) = ctx.loan.take() else {
        return;
    };
    drop(replace(&mut session.downstream_session, nobody()));
    let mut returned = loan.returned.lock().unwrap_or_else(PoisonError::into_inner);
    let inner = returned.take();
    debug_assert!(inner.is_some(), "a lent session comes back when it goes");
    if let Some(inner) = inner {
        session.downstream_session = inner;
    }
}

/// A session that was lent.
pub(in crate::proxy) struct Loan {
    /// Where it comes back to.
    returned: Returned,
    /// What is held of the response, where that may be.
    pub(in crate::proxy) hold: Option<Hold>,
}

/// Stands where a session was moved away, for no longer than a moment.
fn nobody() -> Box<HttpSession> {
    Box::new(HttpSession::new_custom(Box::new(())))
}

/// A session in its cover.
struct Lent {
    inner: Box<HttpSession>,
    read: Option<Read>,
    outlet: Option<Outlet>,
    returned: Returned,
}

/// A body that was read.
struct Read {
    body: Bytes,
    /// Whether that is all.
    is_whole: bool,
    /// Whether more was read since, which is kept nowhere.
    has_more: bool,
}

impl Lent {
    /// Whether no more of the body comes than was read.
    fn is_read(&self) -> bool {
        self.read.as_ref().is_some_and(|read| read.is_whole)
    }

    fn came(&mut self, piece: &Option<Bytes>) {
        if let Some(read) = &mut self.read {
            read.has_more |= piece.is_some();
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let inner = replace(&mut self.inner, nobody());
        let mut returned = self.returned.lock().unwrap_or_else(PoisonError::into_inner);
        *returned = Some(inner);
    }
}

type MessageReader = Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>;

#[async_trait]
impl CustomSession for Lent {
    fn req_header(&self) -> &RequestHeader {
        self.inner.req_header()
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.inner.req_header_mut()
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        if self.is_read() {
            return Ok(None);
        }
        let piece = self.inner.read_request_body().await?;
        self.came(&piece);
        Ok(piece)
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        self.inner.drain_request_body().await
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.inner.write_response_header(head).await?;
        match end {
            true => self.inner.finish_body().await,
            false => Ok(()),
        }
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, end: bool) -> Result<()> {
        self.write_response_header(Box::new(head.clone()), end)
            .await
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.inner.write_response_body(data, end).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.inner.write_response_trailers(trailers).await
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let tasks = match &self.outlet {
            None => tasks,
            Some(outlet) => outlet.sift(tasks)?,
        };
        match tasks.is_empty() {
            true => Ok(false),
            false => self.inner.response_duplex_vec(tasks).await,
        }
    }

    fn proxy_tasks_enabled(&self) -> bool {
        self.inner.supports_proxy_task_api()
    }

    fn set_proxy_tasks_enabled(&mut self, enabled: bool) {
        self.inner.set_proxy_tasks_enabled(enabled);
    }

    fn send_proxy_task(&mut self, task: HttpTask) {
        self.inner.send_downstream_proxy_task(task);
    }

    fn has_pending_proxy_tasks(&self) -> bool {
        self.inner.has_pending_downstream_proxy_tasks()
    }

    async fn write_proxy_tasks(&mut self) -> Result<bool> {
        self.inner.write_downstream_proxy_tasks().await
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_read_timeout(timeout);
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.inner.get_read_timeout()
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_write_timeout(timeout);
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.inner.get_write_timeout()
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_total_drain_timeout(timeout);
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.inner.get_total_drain_timeout()
    }

    fn request_summary(&self) -> String {
        self.inner.request_summary()
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.inner.response_written()
    }

    async fn shutdown(&mut self, _: u32, _: &str) {
        self.inner.shutdown().await;
    }

    fn is_body_done(&mut self) -> bool {
        self.is_read() || self.inner.is_body_done()
    }

    async fn finish(&mut self) -> Result<()> {
        self.inner.finish_body().await
    }

    fn is_body_empty(&mut self) -> bool {
        match &self.read {
            Some(read) => read.is_whole && read.body.is_empty(),
            None => self.inner.is_body_empty(),
        }
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        let piece = self.inner.read_body_or_idle(no_body_expected).await?;
        self.came(&piece);
        Ok(piece)
    }

    fn body_bytes_sent(&self) -> usize {
        self.inner.body_bytes_sent()
    }

    fn body_bytes_read(&self) -> usize {
        self.inner.body_bytes_read()
    }

    fn digest(&self) -> Option<&Digest> {
        self.inner.digest()
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.inner.digest_mut()
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.inner.client_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.inner.server_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        self.inner.to_h1_raw()
    }

    /// What was read is kept already.
    fn enable_retry_buffering(&mut self) {
        if self.read.is_none() {
            self.inner.enable_retry_buffering();
        }
    }

    fn retry_buffer_truncated(&self) -> bool {
        match &self.read {
            Some(read) => read.has_more,
            None => self.inner.retry_buffer_truncated(),
        }
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        match &self.read {
            Some(read) => (!read.has_more && !read.body.is_empty()).then(|| read.body.clone()),
            None => self.inner.get_retry_buffer(),
        }
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(&mut self) -> Option<MessageReader> {
        None
    }

    fn restore_custom_message_reader(&mut self, _: MessageReader) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }

    fn is_upgrade_req(&self) -> bool {
        self.inner.is_upgrade_req()
    }

    fn was_upgraded(&self) -> bool {
        self.inner.was_upgraded()
    }
}
