//! Decides whether what the backend says now is shown, or what was shown before stays.
//!
//! Most changes are shown at once. A member that vanishes without a word may be back in a moment
//! (its lease was revoked, somebody deleted its key): that is waited for, and nothing newer is
//! shown meanwhile. When most members vanish it is the backend that lost them: then the members
//! are to be carried, which makes them part of the cluster state for everybody.
//!
//! All of it is a function of two states and the time. Nothing is read, written or waited for
//! here, and members that do not answer their callers are no concern of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::discovery::{NodeId, NodeRecord, NodeState, View};

/// How long a member that vanished without a word is waited for.
pub(crate) const SETTLE: Duration = Duration::from_millis(500);
/// How long the shown view may stay behind, when member after member vanishes.
pub(crate) const LONGEST_HOLD: Duration = Duration::from_secs(1);

/// What the backend says now.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    pub(crate) view: Arc<View>,
    /// Who is known to have left on purpose.
    pub(crate) left: BTreeSet<NodeId>,
    /// Whether the cluster state carries members already, so that nobody else's can be.
    pub(crate) is_carrying: bool,
}

/// Where the view that was shown last comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// It was followed without a break since.
    Followed,
    /// There was a break: what happened meanwhile is not known, only what came of it.
    Interrupted,
    /// A snapshot, of any age.
    Stored,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Show the state.
    Publish,
    /// Show nothing newer; decide again then, or when there is news.
    Hold { until: Instant, missing: Vec<NodeId> },
    /// The same, and write these members as carried ones.
    Carry { until: Instant, missing: Vec<NodeId>, members: Vec<NodeRecord> },
}

/// What has been waited for, and since when.
#[derive(Debug)]
pub(crate) struct Settling {
    longest_carry: Duration,
    missing_since: BTreeMap<NodeId, Instant>,
    disaster_since: Option<Instant>,
}

impl Settling {
    /// `longest_carry` bounds how long a view stays that can't be carried.
    pub(crate) fn new(longest_carry: Duration) -> Self {
        Self { longest_carry, missing_since: BTreeMap::new(), disaster_since: None }
    }

    /// Forgets what was waited for: the view that was shown stays until something is heard again.
    pub(crate) fn begin_again(&mut self) {
        self.missing_since.clear();
        self.disaster_since = None;
    }

    /// Decides about `raw`, given what was shown last.
    pub(crate) fn decide(
        &mut self,
        last: Option<(&View, Source)>,
        raw: &Raw,
        now: Instant,
    ) -> Decision {
        let Some((last, source)) = last else { return self.publish() };
        let loss = Loss::of(last, source, raw);
        if loss.missing.is_empty() {
            return self.publish();
        }
        let ids = || loss.missing.iter().map(|record| record.id.clone());
        if !raw.is_carrying && (self.disaster_since.is_some() || loss.is_disaster()) {
            let until = *self.disaster_since.get_or_insert(now) + self.longest_carry;
            if now >= until {
                return self.publish();
            }
            let members = loss.counted.into_iter().cloned().collect();
            return Decision::Carry { until, missing: ids().collect(), members };
        }
        if source == Source::Stored {
            return self.publish();
        }
        let until = self.hold_until(ids().collect(), now);
        if now >= until {
            return self.publish();
        }
        Decision::Hold { until, missing: ids().collect() }
    }

    fn publish(&mut self) -> Decision {
        self.begin_again();
        Decision::Publish
    }

    /// Until each of the missing has been waited for, within bounds.
    fn hold_until(&mut self, missing: BTreeSet<NodeId>, now: Instant) -> Instant {
        self.missing_since.retain(|id, _| missing.contains(id));
        for id in missing {
            self.missing_since.entry(id).or_insert(now);
        }
        let first = self.missing_since.values().min().copied().unwrap_or(now);
        let last = self.missing_since.values().max().copied().unwrap_or(now);
        (last + SETTLE).min(first + LONGEST_HOLD)
    }
}

/// What the step from the last view to the state now would lose.
struct Loss<'a> {
    /// The members that are expected to be there still.
    counted: Vec<&'a NodeRecord>,
    /// Those of them that are not in the ring of now.
    missing: Vec<&'a NodeRecord>,
    /// How many of them are registered now.
    remaining: usize,
    /// Whether nobody is registered.
    is_deserted: bool,
    /// Whether somebody is registered who was no member: others have lived on meanwhile.
    has_strangers: bool,
    is_reborn: bool,
    source: Source,
}

impl<'a> Loss<'a> {
    fn of(last: &'a View, source: Source, raw: &Raw) -> Self {
        let is_reborn = last.generation != raw.view.generation;
        // Who is only carried may go when his time is over, in the life that carries him.
        let may_go =
            |id: &NodeId| !is_reborn && source != Source::Stored && last.carried.contains(id);
        let expected = |record: &&NodeRecord| {
            let NodeRecord { id, state, .. } = record;
            *state != NodeState::Draining && !raw.left.contains(id) && !may_go(id)
        };
        let counted: Vec<_> = last.members.values().filter(expected).collect();
        let gone = |record: &&&NodeRecord| !raw.view.members.contains_key(&record.id);
        let missing = counted.iter().filter(gone).copied().collect();
        let is_live = |record: &&&NodeRecord| raw.view.live(record.id.as_str()).is_some();
        let remaining = counted.iter().filter(is_live).count();
        let mut live = raw.view.members.keys().filter(|id| !raw.view.carried.contains(*id));
        let is_deserted = raw.view.members.len() == raw.view.carried.len();
        let has_strangers = live.any(|id| !last.members.contains_key(id));
        Self { counted, missing, remaining, is_deserted, has_strangers, is_reborn, source }
    }

    fn is_disaster(&self) -> bool {
        let few_remain = self.remaining * 2 < self.counted.len();
        match self.source {
            Source::Followed => self.is_reborn || few_remain,
            // The fleet may have been replaced meanwhile; then somebody new is there.
            Source::Interrupted => self.is_reborn || (few_remain && !self.has_strangers),
            // Of any age: it has a say only where nobody else can have one.
            Source::Stored => {
                self.is_deserted || (self.is_reborn && few_remain && !self.has_strangers)
            }
        }
    }
}

#[cfg(test)]
mod tests;
