//! Keeps a backend's [`DiscoveryStatus`] and tells about its changes.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{
    clock::Clock,
    discovery::{DiscoveryStatus, NodeId, Serving},
};

/// What is wrong until the first try has ended.
const NOT_YET: &str = "not connected yet";

/// The one writer of a status.
pub(crate) struct Standing {
    status: watch::Sender<DiscoveryStatus>,
    clock: Arc<dyn Clock>,
}

impl Standing {
    /// Not connected yet.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let since_unix_ms = unix_ms(&*clock);
        let problem = Some(NOT_YET.to_owned());
        let status = DiscoveryStatus { since_unix_ms, problem, ..DiscoveryStatus::default() };
        Self { status: watch::Sender::new(status), clock }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<DiscoveryStatus> {
        self.status.subscribe()
    }

    /// Changes arrive.
    pub(crate) fn connected(&self) {
        let before = self.status.borrow().clone();
        if !self.turn(true, None) {
            return;
        }
        if before.problem.as_deref() == Some(NOT_YET) {
            tracing::info!("the cluster state is followed");
        } else {
            let away = unix_ms(&*self.clock).saturating_sub(before.since_unix_ms);
            tracing::info!("the cluster state is followed again after {} s", away / 1000);
        }
    }

    /// The backend was heard, whatever it said.
    pub(crate) fn heard(&self) {
        let now = unix_ms(&*self.clock);
        // Nobody is woken for that.
        self.status.send_if_modified(|status| {
            status.heard_unix_ms = Some(now);
            false
        });
    }

    /// Changes don't arrive, and why.
    pub(crate) fn failing(&self, problem: String) {
        let words = problem.clone();
        if self.turn(false, Some(problem)) {
            tracing::warn!(
                problem = words,
                "the cluster state is not followed; the last view stays"
            );
        }
    }

    pub(crate) fn skipped(&self, records: u64) {
        self.status.send_if_modified(|status| {
            std::mem::replace(&mut status.skipped_records, records) != records
        });
    }

    pub(crate) fn conflict(&self, conflict: Option<String>) {
        self.status.send_if_modified(|status| {
            let changed = status.conflict != conflict;
            status.conflict = conflict;
            changed
        });
    }

    /// What is shown is what the backend says.
    pub(crate) fn serving_the_state(&self) {
        if self.serve(None).is_some() {
            tracing::info!("the ring is what the cluster state says");
        }
    }

    /// What is shown is a snapshot.
    pub(crate) fn serving_snapshot(&self, saved_unix_ms: u64) {
        let serving = Serving::Snapshot { saved_unix_ms };
        let words = serving.in_words();
        self.serve(Some(serving));
        tracing::warn!("{words}");
    }

    /// What is shown holds members that are not registered. `problem`: why others may not know.
    pub(crate) fn keeping(&self, members: Vec<NodeId>, problem: Option<String>) {
        let since_unix_ms = match &self.status.borrow().serving {
            Some(Serving::Keeping { since_unix_ms, .. }) => *since_unix_ms,
            _ => unix_ms(&*self.clock),
        };
        let is_new_problem = problem.is_some();
        let serving = Serving::Keeping { members, since_unix_ms, problem };
        let words = serving.in_words();
        match self.serve(Some(serving)) {
            Some(Serving::Keeping { problem: None, .. }) if is_new_problem => {
                tracing::warn!("{words}");
            }
            Some(Serving::Keeping { .. }) => {}
            _ => tracing::warn!("{words}"),
        }
    }

    /// Returns what was served before.
    fn serve(&self, serving: Option<Serving>) -> Option<Serving> {
        let mut before = None;
        self.status.send_if_modified(|status| {
            let changed = status.serving != serving;
            before = std::mem::replace(&mut status.serving, serving);
            changed
        });
        before
    }

    /// Returns whether this is worth a line in the log: not each new try is.
    fn turn(&self, connected: bool, problem: Option<String>) -> bool {
        let now = unix_ms(&*self.clock);
        let mut news = false;
        self.status.send_if_modified(|status| {
            news = status.connected != connected || status.problem.as_deref() == Some(NOT_YET);
            if status.connected != connected {
                status.since_unix_ms = now;
            }
            let changed = news || status.problem != problem;
            (status.connected, status.problem) = (connected, problem);
            changed
        });
        news
    }
}

fn unix_ms(clock: &dyn Clock) -> u64 {
    clock.unix().as_millis() as u64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn since_tells_when_it_turned_not_when_it_was_last_tried() {
        let clock = ManualClock::new();
        let standing = Standing::new(Arc::new(clock.clone()));
        let start = unix_ms(&clock);
        let mut told = Vec::new();
        for step in ["off", "off", "on", "off"] {
            clock.advance(Duration::from_secs(1));
            match step {
                "on" => standing.connected(),
                _ => standing.failing("no answer".into()),
            }
            let status = standing.subscribe().borrow().clone();
            assert_eq!(status.connected, status.problem.is_none());
            told.push((status.since_unix_ms - start) / 1000);
        }
        assert_eq!(told, [0, 0, 3, 4]);
    }

    #[test]
    fn members_are_kept_since_the_first_of_them_was() {
        let clock = ManualClock::new();
        let standing = Standing::new(Arc::new(clock.clone()));
        let status = standing.subscribe();
        standing.serving_snapshot(7);
        assert_eq!(status.borrow().serving, Some(Serving::Snapshot { saved_unix_ms: 7 }));
        let ids = |names: &[&str]| names.iter().map(|name| NodeId::new(*name).unwrap()).collect();
        let since = unix_ms(&clock);
        for (members, problem) in
            [(vec!["a"], None), (vec!["a", "b"], Some("no space".to_owned())), (vec!["b"], None)]
        {
            standing.keeping(ids(&members), problem.clone());
            let keeping =
                Serving::Keeping { members: ids(&members), since_unix_ms: since, problem };
            assert_eq!(status.borrow().serving, Some(keeping));
            clock.advance(Duration::from_secs(1));
        }
        standing.serving_the_state();
        assert_eq!(status.borrow().serving, None);
    }
}
