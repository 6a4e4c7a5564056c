//! Connections that nobody uses at present.
//!
//! Not sqlx's pool: that one tries to connect until the patience of who waits is over, when a database
//! refuses, and asks each connection how it is before it gives it away. How many there are at a time
//! is bounded by whoever takes them.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// How long an unused connection is kept.
const KEEP_UNUSED: Duration = Duration::from_secs(30);

/// Connections by the time when they were given back, the latest last.
#[derive(Debug)]
pub(super) struct Connections<C> {
    unused: Mutex<Unused<C>>,
    most: usize,
}

#[derive(Debug)]
struct Unused<C> {
    list: Vec<(Instant, C)>,
    /// Whether somebody is there to close those that nobody takes.
    is_watched: bool,
}

impl<C: Send + 'static> Connections<C> {
    /// Keeps `most` of them.
    pub(super) fn new(most: usize) -> Self {
        let unused = Unused { list: Vec::new(), is_watched: false };
        Self { unused: Mutex::new(unused), most }
    }

    /// The one that was used last.
    pub(super) fn take(&self) -> Option<C> {
        let taken = self.unused().list.pop();
        // Whoever closes them may be late.
        let fresh = taken.filter(|(since, _)| since.elapsed() < KEEP_UNUSED);
        fresh.map(|(_, connection)| connection)
    }

    /// Keeps one for the next, for a while.
    pub(super) fn give_back(self: &Arc<Self>, connection: C) {
        let mut unused = self.unused();
        if unused.list.len() < self.most {
            unused.list.push((Instant::now(), connection));
        }
        if !std::mem::replace(&mut unused.is_watched, true) {
            tokio::spawn(close_unused(Arc::downgrade(self)));
        }
    }

    /// Closes those that nobody has taken for long; when the next is to be closed, if there is one.
    fn close_old(&self) -> Option<Instant> {
        let mut unused = self.unused();
        let fresh = |(since, _): &(Instant, C)| since.elapsed() < KEEP_UNUSED;
        let old = unused.list.iter().position(fresh).unwrap_or(unused.list.len());
        let old: Vec<_> = unused.list.drain(..old).collect();
        let next = unused.list.first().map(|(since, _)| *since + KEEP_UNUSED);
        unused.is_watched = next.is_some();
        drop(unused);
        // What closing them takes, nobody has to wait for.
        drop(old);
        next
    }

    /// Drops them all.
    pub(super) fn forget(&self) {
        let all = std::mem::take(&mut self.unused().list);
        drop(all);
    }

    fn unused(&self) -> MutexGuard<'_, Unused<C>> {
        self.unused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends when there are none left, and with the origin.
async fn close_unused<C: Send + 'static>(connections: Weak<Connections<C>>) {
    let mut next = Instant::now() + KEEP_UNUSED;
    loop {
        sleep_until(next).await;
        let Some(connections) = connections.upgrade() else { return };
        match connections.close_old() {
            Some(at) => next = at,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_latest_is_taken_and_the_oldest_goes() {
        let connections = Arc::new(Connections::new(2));
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

    #[tokio::test(start_paused = true)]
    async fn what_nobody_takes_is_closed() {
        let connections = Arc::new(Connections::new(2));
        let (first, second) = (Arc::new(()), Arc::new(()));
        let is_open = |it: &Arc<()>| Arc::strong_count(it) > 1;
        for round in 0..2 {
            connections.give_back(Arc::clone(&first));
            tokio::time::sleep(KEEP_UNUSED / 2).await;
            connections.give_back(Arc::clone(&second));
            tokio::time::sleep(KEEP_UNUSED / 2 + Duration::from_millis(1)).await;
            assert_eq!((is_open(&first), is_open(&second)), (false, true), "{round}");
            tokio::time::sleep(KEEP_UNUSED).await;
            assert!(!is_open(&second), "{round}");
        }
    }
}
