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
