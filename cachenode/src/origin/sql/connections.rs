//! Connections that nobody uses at present.
//!
//! Not sqlx's pool: that one tries to connect until the patience of who waits is over, when a database
//! refuses, and asks each connection how it is before it gives it away. How many there are at a time
//! is bounded by whoever takes them.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How long an unused connection is kept.
const KEEP_UNUSED: Duration = Duration::from_secs(30);

/// Connections by the time when they were given back, the latest last.
#[derive(Debug)]
pub(super) struct Connections<C> {
    unused: Mutex<Vec<(Instant, C)>>,
    most: usize,
}

impl<C> Connections<C> {
    /// Keeps `most` of them.
    pub(super) fn new(most: usize) -> Self {
        Self { unused: Mutex::default(), most }
    }

    /// The one that was used last.
    pub(super) fn take(&self) -> Option<C> {
        let mut unused = self.unused();
        let fresh = |(since, _): &(Instant, C)| since.elapsed() < KEEP_UNUSED;
        let old = unused.iter().position(fresh).unwrap_or(unused.len());
        let (old, taken) = (unused.drain(..old).collect::<Vec<_>>(), unused.pop());
        drop(unused);
        // What closing them takes, nobody has to wait for.
        drop(old);
        taken.map(|(_, connection)| connection)
    }

    /// Keeps one for the next.
    pub(super) fn give_back(&self, connection: C) {
        let mut unused = self.unused();
        if unused.len() < self.most {
            unused.push((Instant::now(), connection));
        }
    }

    /// Drops them all.
    pub(super) fn forget(&self) {
        let all = std::mem::take(&mut *self.unused());
        drop(all);
    }

    fn unused(&self) -> MutexGuard<'_, Vec<(Instant, C)>> {
        self.unused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_latest_is_taken_and_the_oldest_goes() {
        let connections = Connections::new(2);
        assert_eq!(connections.take(), None);
        for connection in [1, 2, 3] {
            connections.give_back(connection);
            tokio::time::advance(KEEP_UNUSED / 3).await;
        }
        assert_eq!(connections.take(), Some(2), "the third had no place, the first is too old");
        assert_eq!(connections.take(), None);
        connections.give_back(4);
        connections.forget();
        assert_eq!(connections.take(), None);
    }
}
