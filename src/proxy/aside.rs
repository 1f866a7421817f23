//! A future beside a busier one in the same task, polled only when something it waits for happened.
//! It must not know what either waits for.
//! A connection's end waits beside its requests, whose every wake-up would else poll it for nothing.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// See the module.
pub(super) struct Aside<F> {
    future: Pin<Box<F>>,
    bell: Arc<Bell>,
    waker: Waker,
}

struct Bell {
    rang: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Bell>) {
        self.rang.store(true, std::sync::atomic::Ordering::Release);
        self.task.wake();
    }
}

impl<F: Future> Aside<F> {
    /// Puts a future aside. It is polled once at the first poll.
    pub(super) fn new(future: F) -> Aside<F> {
        let bell = Arc::new(Bell {
            rang: AtomicBool::new(true),
            task: AtomicWaker::new(),
        });
        Aside {
            future: Box::pin(future),
            waker: bell.clone().into(),
            bell,
        }
    }
}

impl<F: Future> Future for Aside<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        this.bell.task.register(cx.waker());
        if !this.bell.rang.swap(false, AcqRel) {
            return Poll::Pending;
        }
        this.future
            .as_mut()
            .poll(&mut Context::from_waker(&this.waker))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[tokio::test]
    async fn it_is_polled_at_first_and_after_each_bell_only() {
        let polls = AtomicUsize::new(0);
        let (send, mut news) = tokio::sync::watch::channel(0);
        let mut inner = Box::pin(async { news.wait_for(|news| *news == 2).await.is_ok() });
        let counted = std::future::poll_fn(|cx| {
            polls.fetch_add(1, Relaxed);
            inner.as_mut().poll(cx)
        });
        let mut aside = Aside::new(counted);
        let mut poll = async || {
            let once = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut aside).poll(cx)));
            once.await
        };

        for _ in 0..3 {
            assert_eq!(poll().await, Poll::Pending);
        }
        assert_eq!(polls.load(Relaxed), 1);
        send.send_replace(2);
        assert_eq!(poll().await, Poll::Ready(true));
        assert_eq!(polls.load(Relaxed), 2);
    }
}
