//! How one hook is called: on the message or on a copy of it, and so that a panic is that plugin's failure.
//! It must not know what becomes of a verdict.
//! Called by the chain for each hook.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::task::Poll;

use windrose_plugins::contract::{causes, Request, RequestHook, Response, Verdict};

/// Calls a hook with a copy of the request. Its own state stays its own, so that its later hooks see what it kept.
pub(super) async fn call_on_copy(hook: &RequestHook, request: &mut Request<'_>) -> Verdict {
    let (mut head, mut principal) = (request.head.clone(), request.principal.clone());
    let mut copy = Request {
        head: &mut head,
        client: request.client,
        principal: &mut principal,
        body: request.body.clone(),
        upstream: request.upstream,
        slots: request.slots,
        effects: request.effects,
    };
    call(hook, &mut copy).await
}

/// Calls a hook with a copy of the response.
pub(super) fn on_copy(
    response: &mut Response<'_>,
    hook: impl FnOnce(&mut Response<'_>) -> Verdict,
) -> Verdict {
    let mut head = response.head.clone();
    let mut copy = Response {
        head: &mut head,
        request: response.request,
        client: response.client,
        cause: response.cause,
        slots: response.slots,
        effects: response.effects,
    };
    hook(&mut copy)
}

pub(super) async fn call(hook: &RequestHook, request: &mut Request<'_>) -> Verdict {
    let hook = match hook {
        RequestHook::Sync(hook) => return caught(|| hook(request)),
        RequestHook::Async(hook) => hook,
    };
    let mut future = match catch(move || hook(request)) {
        Ok(future) => future,
        Err(panic) => return panicked(&*panic),
    };
    poll_fn(move |cx| {
        catch(|| future.as_mut().poll(cx)).unwrap_or_else(|panic| Poll::Ready(panicked(&*panic)))
    })
    .await
}

/// Runs a hook. A panic is that plugin's failure, as if it had said so; it must not take the connection with it.
pub(super) fn caught(hook: impl FnOnce() -> Verdict) -> Verdict {
    catch(hook).unwrap_or_else(|panic| panicked(&*panic))
}

/// What a panic leaves half done is the request's own, and the request ends with it.
fn catch<T>(work: impl FnOnce() -> T) -> std::thread::Result<T> {
    catch_unwind(AssertUnwindSafe(work))
}

fn panicked(panic: &(dyn Any + Send)) -> Verdict {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let said = text.or_else(|| panic.downcast_ref::<&str>().copied());
    Verdict::Failed {
        cause: &causes::PLUGIN_FAILED,
        reason: format!("panicked: {}", said.unwrap_or("it did not say why")),
    }
}
