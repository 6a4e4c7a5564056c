//! A response on its way to an HTTP/2 client, and how long the client has not taken any of it.
//!
//! An HTTP/1 client that does not read fills its socket, which TCP_USER_TIMEOUT ends. An HTTP/2
//! client reads its socket, answers pings, and just never opens its window: then the response
//! waits in memory, in h2's hands, where nobody else sees it. So what is handed to h2 comes in pieces
//! that say when they are gone.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use bytes::Bytes;
use tokio::time::Instant;

use super::activity::Activity;

/// What is handed over at a time. A client has to take so much of a response, or its rest, within
/// `Limits::stalled_reader`.
pub(super) const PIECE: usize = 64 << 10;

/// A response's data between the handler and the socket.
#[derive(Debug)]
pub(super) struct Sending {
    activity: Arc<Activity>,
    id: u64,
    /// Pieces handed over and not gone yet.
    pieces: AtomicU32,
    /// When the last piece went; when the first one was handed over if none was on its way.
    since: AtomicU64,
}

impl Sending {
    pub(super) fn new(activity: &Arc<Activity>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            id: activity.is_sending(Weak::clone(this)),
            activity: Arc::clone(activity),
            pieces: AtomicU32::new(0),
            since: AtomicU64::new(0),
        })
    }

    /// Since when the client has taken nothing of what is there for it; `None`: nothing is.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        let waits = self.pieces.load(Ordering::Relaxed) > 0;
        waits.then(|| self.activity.at(self.since.load(Ordering::Relaxed)))
    }

    /// The same bytes, which note when they are dropped.
    pub(super) fn hand_over(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        if self.pieces.fetch_add(1, Ordering::Relaxed) == 0 {
            self.since.store(self.activity.now(), Ordering::Relaxed);
        }
        Bytes::from_owner(Piece { bytes, sending: Arc::clone(self) })
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.activity.has_sent(self.id);
    }
}

struct Piece {
    bytes: Bytes,
    sending: Arc<Sending>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.sending.since.store(self.sending.activity.now(), Ordering::Relaxed);
        self.sending.pieces.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_response_waits_from_its_first_piece_or_the_last_that_went() {
        let activity = Activity::new();
        let sending = Sending::new(&activity);
        assert_eq!(activity.waits_since(), None, "nothing is there yet");
        let second = Duration::from_secs(1);
        tokio::time::advance(second).await;
        let (one, two) = (sending.hand_over("one".into()), sending.hand_over("two".into()));
        assert_eq!(&one[..], b"one");
        tokio::time::advance(second).await;
        assert_eq!(activity.waits_since(), Some(activity.start() + second));
        drop(one);
        assert_eq!(activity.waits_since(), Some(activity.start() + 2 * second));
        assert!(activity.is_busy());
        drop(sending);
        assert!(activity.waits_since().is_some(), "h2 still has a piece");
        drop(two);
        assert_eq!(activity.waits_since(), None);
        assert!(!activity.is_busy());
    }
}
