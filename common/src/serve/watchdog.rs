//! When a connection has to go: judged from its [`Activity`], by a timer that is never re-armed.
//!
//! The watchdog sleeps until the earliest moment at which it could have to act and looks again
//! when it wakes; requests only leave notes. A busy connection is judged only by what its HTTP/2
//! client takes: other readers are bounded by TCP_USER_TIMEOUT, handlers by the request's own
//! deadline.

use tokio::time::{Instant, sleep_until};

use super::{
    Limits,
    activity::{Activity, Served},
};

/// Why a connection has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No request came in time, or its head did not.
    SlowHead,
    /// A response waited for its reader to take something.
    StalledReader,
    /// It has been without a request for long enough.
    Idle,
}

/// Waits until the connection has to go. It is not idle before `keep_alive` after `since`.
pub(super) async fn watch(activity: &Activity, limits: &Limits, since: Instant) -> Verdict {
    loop {
        match look(activity, limits, since, Instant::now()) {
            Ok(verdict) => return verdict,
            Err(again) => sleep_until(again).await,
        }
    }
}

/// The verdict at `now`, or when to look again.
fn look(
    activity: &Activity,
    limits: &Limits,
    since: Instant,
    now: Instant,
) -> Result<Verdict, Instant> {
    // Whatever begins from now on, a head or a time without anything, can't be late before that.
    let again = now + limits.head.min(limits.keep_alive).min(limits.stalled_reader);
    if let Some(since) = activity.waits_since() {
        let deadline = since + limits.stalled_reader;
        return if deadline <= now { Ok(Verdict::StalledReader) } else { Err(deadline.min(again)) };
    }
    if activity.is_busy() {
        return Err(again);
    }
    let idle = activity.idle_since().max(since) + limits.keep_alive;
    let (deadline, verdict) = match (activity.served(), activity.head_since()) {
        (Served::Nothing, None) => (activity.start() + limits.first_request, Verdict::SlowHead),
        (Served::Nothing | Served::Http1, Some(head)) => (head + limits.head, Verdict::SlowHead),
        // The bytes that come over an idle HTTP/2 connection are mostly answers to our pings.
        (Served::Http1, None) | (Served::Http2, _) => (idle, Verdict::Idle),
    };
    if deadline <= now { Ok(verdict) } else { Err(deadline.min(again)) }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        pin::Pin,
        task::{Context, Poll},
        time::Duration,
    };

    use http::Version;
    use tokio::{
        io::{AsyncWrite, AsyncWriteExt},
        time::{advance, timeout},
    };

    use super::{super::activity::NotedIo, *};
    use crate::serve::sending::Sending;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits() -> Limits {
        let (keep_alive, stalled_reader) = (10 * SECOND, 10 * SECOND);
        Limits { first_request: 1000 * SECOND, keep_alive, stalled_reader, ..Limits::default() }
    }

    /// The verdict of this moment, of a connection that may be idle from its start.
    fn verdict(activity: &Activity) -> Option<Verdict> {
        look(activity, &limits(), activity.start(), Instant::now()).ok()
    }

    /// A socket whose buffer is full until it is told to take something.
    struct Full(bool);

    impl AsyncWrite for Full {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            if self.0 { Poll::Pending } else { Poll::Ready(Ok(buf.len())) }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_socket_has_not_taken_is_work_and_idleness_begins_after_it() {
        let activity = Activity::new();
        let request = activity.begin(Version::HTTP_11);
        let write = async |is_full| {
            let mut io = NotedIo::new(Full(is_full), activity.clone());
            let written = timeout(Duration::ZERO, io.write_all(b"the response")).await;
            assert_eq!(written.is_err(), is_full);
        };
        write(true).await;
        // hyper has all of the response: the request is done, and the connection is not.
        drop(request);
        advance(20 * SECOND).await;
        assert_eq!(verdict(&activity), None, "a slow reader is under way");
        write(false).await;
        assert_eq!(verdict(&activity), None, "idle from now on");
        advance(9 * SECOND).await;
        assert_eq!(verdict(&activity), None);
        advance(SECOND).await;
        assert_eq!(verdict(&activity), Some(Verdict::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_nobody_takes_stalls_after_its_time_and_not_before() {
        let activity = Activity::new();
        let _request = activity.begin(Version::HTTP_2);
        let _piece = Sending::new(&activity).hand_over("a piece".into());
        advance(9 * SECOND).await;
        assert_eq!(verdict(&activity), None);
        advance(SECOND).await;
        assert_eq!(verdict(&activity), Some(Verdict::StalledReader));
    }
}
