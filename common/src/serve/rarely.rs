//! A future that costs next to nothing to poll while nothing has happened to it.
//!
//! A connection's task is woken for every packet, but its timer and its stop tokens fire once.
//! Polling those each time would take the tokens' mutexes, which all connections of all workers
//! share, once per packet. So they get a waker of their own, and are polled only after it rang.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;

struct Bell {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

/// Polls `future` only when it asked for it.
pub(super) struct Rarely<F> {
    future: F,
    bell: Arc<Bell>,
    waker: Waker,
}

impl<F: Future + Unpin> Rarely<F> {
    pub(super) fn new(future: F) -> Self {
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: AtomicWaker::new() });
        Self { future, waker: Waker::from(Arc::clone(&bell)), bell }
    }
}

impl<F: Future + Unpin> Future for Rarely<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        // Registered before looking: a ring between the two wakes the task once more.
        this.bell.task.register(cx.waker());
        if !this.bell.rung.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        this.bell.rung.store(false, Ordering::Release);
        Pin::new(&mut this.future).poll(&mut Context::from_waker(&this.waker))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, poll_fn},
        pin::pin,
        time::Duration,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_polled_when_its_own_waker_rang_and_else_not() {
        let mut polls = 0;
        let mut inner = pin!(tokio::time::sleep(Duration::from_secs(9)));
        let counted = poll_fn(|cx| {
            polls += 1;
            inner.as_mut().poll(cx)
        });
        let noise = async {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = noise => unreachable!(),
            () = Rarely::new(counted) => {}
        }
        assert_eq!(polls, 2);
    }
}
