//! The client's session with a body that was read before: Pingora keeps 64 KiB of a body for further attempts and sends nothing of
//! larger ones that were read already, so it is lent a session whose body is the one that is held.
//! It must not know who read the body. Everything but the body is the session's own, which comes back when the lent one goes.

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

/// Where a session comes back to.
pub(in crate::proxy) type Returned = Arc<Mutex<Option<Box<HttpSession>>>>;

/// Lends Pingora the session with the body that was read, if one was.
pub(in crate::proxy) fn begin(session: &mut Session, ctx: &mut Ctx) {
    let Some(gathered) = ctx.gathered.as_deref_mut() else {
        return;
    };
    if gathered.is_none && !gathered.is_changed {
        return;
    }
    let returned = Returned::default();
    let inner = replace(&mut session.downstream_session, nobody());
    let lent = Lent {
        inner,
        body: gathered.bytes.clone(),
        is_whole: gathered.is_whole,
        has_more: false,
        returned: returned.clone(),
    };
    *session.downstream_session = HttpSession::new_custom(Box::new(lent));
    gathered.returned = Some(returned);
}

/// Takes the session back: for an answer of our own, and at the end, where Pingora looks whether the connection can be used again.
pub(in crate::proxy) fn end(session: &mut Session, ctx: &mut Ctx) {
    let gathered = ctx.gathered.as_deref_mut();
    let Some(returned) = gathered.and_then(|body| body.returned.take()) else {
        return;
    };
    drop(replace(&mut session.downstream_session, nobody()));
    let inner = returned
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    debug_assert!(inner.is_some(), "a lent session comes back when it goes");
    if let Some(inner) = inner {
        session.downstream_session = inner;
    }
}

/// Stands where a session was moved away, for no longer than a moment.
fn nobody() -> Box<HttpSession> {
    Box::new(HttpSession::new_custom(Box::new(())))
}

/// A session whose body was read.
struct Lent {
    inner: Box<HttpSession>,
    /// What was read.
    body: Bytes,
    /// Whether that is all.
    is_whole: bool,
    /// Whether more was read since, which is kept nowhere.
    has_more: bool,
    returned: Returned,
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
        if self.is_whole {
            return Ok(None);
        }
        let piece = self.inner.read_request_body().await?;
        self.has_more |= piece.is_some();
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
        self.inner.response_duplex_vec(tasks).await
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
        self.is_whole || self.inner.is_body_done()
    }

    async fn finish(&mut self) -> Result<()> {
        self.inner.finish_body().await
    }

    fn is_body_empty(&mut self) -> bool {
        self.is_whole && self.body.is_empty()
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        let piece = self.inner.read_body_or_idle(no_body_expected).await?;
        self.has_more |= piece.is_some();
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

    /// It is kept already.
    fn enable_retry_buffering(&mut self) {}

    fn retry_buffer_truncated(&self) -> bool {
        self.has_more
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        (!self.has_more && !self.body.is_empty()).then(|| self.body.clone())
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
