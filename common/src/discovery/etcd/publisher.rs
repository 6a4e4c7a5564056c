//! Shows the cluster state to this process: what is decided about each new state is done here.
//!
//! The registrar is shown every state at once, because it has to mend what is wrong with its own
//! record before others take note of it. Everybody else is shown the settled views. What has to
//! be written to etcd for that is only asked for.

use std::{collections::BTreeMap, sync::Arc};

use tokio::{sync::watch, time::Instant};

use crate::discovery::{
    NodeId, NodeRecord, View,
    settle::{Decision, Raw, Settling, Source},
    snapshot::Snapshot,
    standing::Standing,
};

/// Members that are to be carried.
pub(super) struct ToCarry {
    pub(super) members: Vec<NodeRecord>,
    /// Those of them that are not in the cluster state.
    pub(super) missing: Vec<NodeId>,
}

/// The views of one process.
pub(super) struct Publisher {
    /// Settled views, for everybody.
    views: watch::Sender<Option<Arc<View>>>,
    /// What etcd says, for the registrar.
    raw: watch::Sender<Option<Arc<View>>>,
    standing: Arc<Standing>,
    settling: Settling,
    source: Source,
    stored: Option<Snapshot>,
    decide_at: Option<Instant>,
}

impl Publisher {
    pub(super) fn new(
        views: watch::Sender<Option<Arc<View>>>,
        raw: watch::Sender<Option<Arc<View>>>,
        standing: Arc<Standing>,
        settling: Settling,
        stored: Option<Snapshot>,
    ) -> Self {
        let source = Source::Stored;
        Self { views, raw, standing, settling, source, stored, decide_at: None }
    }

    /// What was shown last, or would be shown if etcd could not be reached.
    pub(super) fn last(&self) -> Option<Arc<View>> {
        let shown = self.views.borrow().clone();
        shown.or_else(|| self.stored.as_ref().map(|stored| Arc::clone(&stored.view)))
    }

    /// What is shown.
    pub(super) fn shown(&self) -> Option<Arc<View>> {
        self.views.borrow().clone()
    }

    /// Whether those who are registered now are of the fleet that was shown last. A snapshot is of
    /// any age: by that nobody can be told.
    pub(super) fn is_same_fleet(&self, live: &BTreeMap<NodeId, NodeRecord>) -> bool {
        let Some(last) = self.last() else { return false };
        let is_member = |id| self.source != Source::Stored && last.members.contains_key(id);
        live.keys().all(is_member)
    }

    /// When to take the state again though nothing was heard.
    pub(super) fn decide_at(&self) -> Option<Instant> {
        self.decide_at
    }

    /// etcd can't be reached: what is shown stays, and a process that has nothing to show begins
    /// with its snapshot.
    pub(super) fn is_cut_off(&mut self) {
        self.settling.begin_again();
        self.decide_at = None;
        if self.source == Source::Followed {
            self.source = Source::Interrupted;
        }
        self.begin_with_snapshot();
    }

    fn begin_with_snapshot(&self) {
        if let Some(stored) = &self.stored
            && self.views.borrow().is_none()
        {
            self.standing.serving_snapshot(stored.saved_unix_ms);
            self.views.send_replace(Some(Arc::clone(&stored.view)));
        }
    }

    /// Takes a state. `asked` are revisions that others show already: what they have decided is
    /// not waited with here. Returns who is to be carried first.
    pub(super) fn take(&mut self, raw: &Raw, asked: &[u64]) -> Option<ToCarry> {
        let last = self.last();
        let base = last.as_deref().map(|last| (last, self.source));
        let decision = self.settling.decide(base, raw, Instant::now());
        let is_overtaken = last.is_some_and(|last| {
            let news = last.as_of + 1..=raw.view.as_of;
            last.generation == raw.view.generation && asked.iter().any(|asked| news.contains(asked))
        });
        let to_carry = match decision {
            Decision::Hold { until, missing } if !is_overtaken => {
                self.decide_at = Some(until);
                self.standing.keeping(missing, None);
                None
            }
            Decision::Carry { until, missing, members } => {
                self.decide_at = Some(until);
                self.begin_with_snapshot();
                Some(ToCarry { members, missing })
            }
            Decision::Publish | Decision::Hold { .. } => {
                self.publish(&raw.view);
                None
            }
        };
        show(&self.raw, &raw.view);
        to_carry
    }

    fn publish(&mut self, view: &Arc<View>) {
        self.settling.begin_again();
        (self.source, self.decide_at) = (Source::Followed, None);
        if view.carried.is_empty() {
            self.standing.serving_the_state();
        } else {
            self.standing.keeping(view.carried.iter().cloned().collect(), None);
        }
        show(&self.views, view);
    }
}

/// Shows a view, and wakes nobody if it is the one that was shown.
fn show(to: &watch::Sender<Option<Arc<View>>>, view: &Arc<View>) {
    to.send_if_modified(|current| {
        let changed = current.as_ref() != Some(view);
        *current = Some(Arc::clone(view));
        changed
    });
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use uuid::Uuid;

    use super::*;
    use crate::{clock::ManualClock, discovery::RingSettings};

    fn members(ids: &[&str]) -> BTreeMap<NodeId, NodeRecord> {
        let record = |id: &&str| {
            let id = NodeId::new(*id).unwrap();
            (id.clone(), NodeRecord::new(id, Uuid::from_u128(1), "h:1"))
        };
        ids.iter().map(record).collect()
    }

    fn raw(as_of: u64, ids: &[&str]) -> Raw {
        let (generation, ring) = (Uuid::from_u128(1), RingSettings::default());
        let view = View::new(generation, as_of, ring, members(ids).into_values());
        Raw { view: Arc::new(view), left: BTreeSet::new(), is_carrying: false }
    }

    fn publisher(stored: Option<Snapshot>) -> Publisher {
        let standing = Arc::new(Standing::new(Arc::new(ManualClock::new())));
        let settling = Settling::new(Duration::from_secs(20));
        let (views, raw) = (watch::Sender::new(None), watch::Sender::new(None));
        Publisher::new(views, raw, standing, settling, stored)
    }

    #[test]
    fn strangers_are_of_another_fleet_and_a_snapshot_knows_nobody() {
        let stored = Snapshot { view: raw(5, &["a", "b"]).view, saved_unix_ms: 0 };
        let mut publisher = publisher(Some(stored));
        assert!(publisher.is_same_fleet(&members(&[])));
        assert!(!publisher.is_same_fleet(&members(&["a"])));
        publisher.take(&raw(6, &["a", "b"]), &[]);
        for cut_off in [false, true] {
            if cut_off {
                publisher.is_cut_off();
            }
            assert!(publisher.is_same_fleet(&members(&["a"])));
            assert!(!publisher.is_same_fleet(&members(&["a", "x"])));
        }
    }

    #[tokio::test]
    async fn while_a_member_is_waited_for_no_later_revision_is_shown() {
        let mut publisher = publisher(None);
        let raw_views = publisher.raw.subscribe();
        publisher.take(&raw(5, &["a", "b"]), &[]);
        for as_of in 6..9 {
            publisher.take(&raw(as_of, &["a"]), &[]);
            assert_eq!(publisher.shown().unwrap().as_of, 5);
            assert!(publisher.decide_at().is_some());
            // The registrar sees what is.
            assert_eq!(raw_views.borrow().as_ref().unwrap().as_of, as_of);
        }
        // The session ends: what is shown stays, and there is nothing to decide.
        publisher.is_cut_off();
        assert_eq!((publisher.shown().unwrap().as_of, publisher.decide_at()), (5, None));
        // Somebody else shows revision 8, nobody can show revision 9.
        publisher.take(&raw(8, &["a"]), &[9, 5]);
        assert_eq!(publisher.shown().unwrap().as_of, 5);
        publisher.take(&raw(8, &["a"]), &[9, 8]);
        assert_eq!(publisher.shown().unwrap().as_of, 8);
    }
}
