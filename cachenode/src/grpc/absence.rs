//! Whether an owner that does not answer is gone: for as long as somebody has to know.
//!
//! That one relay was not answered says little. The owner, this node or what lies between them may
//! have been held up for a moment, while the owner goes on answering others, and lending to them; what
//! is done in its stead would be at odds with that. So an owner counts as absent only when nobody
//! listens at its address, or when it has left several questions in a row unanswered, each of which
//! had its time. Asking them is the business of `node::hinting`.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use common::{
    clock::Clock,
    discovery::{NodeId, NodeRecord},
    near::LEASE,
};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use uuid::Uuid;

/// From question to question, and how long the answer to one is waited for: longer than a gateway
/// waits for an owner, so that one which misses it answers nobody in time.
pub(crate) const QUESTION: Duration = Duration::from_millis(250);
/// Questions in a row without an answer, after which an owner is absent. More time than a busy machine
/// stands still, and more than a lease: what the owner lent before the first of them is over.
const QUESTIONS: u32 = 3;

/// What is known of an owner, in one of its lives.
#[derive(Debug, Default)]
struct Known {
    instance: Uuid,
    unanswered: u32,
    /// Absent, and from that moment on nothing that it lent is believed.
    absent_from: Option<Duration>,
    /// How often whoever waits had to look again.
    news: u64,
    awaited: usize,
}

/// All owners that somebody wants to know about. Shared by all workers.
pub(crate) struct Absences {
    by_owner: Mutex<HashMap<NodeId, Known>>,
    changes: watch::Sender<()>,
    /// There is an owner to be asked.
    pub(crate) wake: Notify,
}

/// What came of waiting for an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is gone, and what it lent is over.
    Absent,
    /// It has made itself heard, or is no member any more: it is to be looked up again.
    Heard,
}

impl Absences {
    pub(crate) fn new() -> Self {
        Self { by_owner: Mutex::default(), changes: watch::Sender::new(()), wake: Notify::new() }
    }

    /// Whether the owner is known to be absent.
    pub(crate) fn is_absent(&self, owner: &NodeRecord, now: Duration) -> bool {
        let known = self.lock();
        let known = known.get(&owner.id).filter(|known| known.instance == owner.instance);
        known.and_then(|known| known.absent_from).is_some_and(|from| from <= now)
    }

    /// Waits until it is known whether the owner is absent. Dropping the future ends only the waiting.
    pub(crate) async fn of(&self, owner: &NodeRecord, clock: &dyn Clock) -> Standing {
        let mut changes = self.changes.subscribe();
        let waiting = self.watch(owner);
        loop {
            let wait = {
                let all = self.lock();
                let known = all.get(&owner.id).filter(|known| known.instance == owner.instance);
                match known.filter(|known| known.news == waiting.news) {
                    None => return Standing::Heard,
                    Some(known) => {
                        known.absent_from.map(|from| from.saturating_sub(clock.monotonic()))
                    }
                }
            };
            match wait {
                Some(Duration::ZERO) => return Standing::Absent,
                // The sender is part of self, so there is always another change to wait for.
                Some(left) => drop(timeout(left, changes.changed()).await),
                None => drop(changes.changed().await),
            }
        }
    }

    /// Has the owner asked for as long as what is returned lives.
    pub(super) fn watch(&self, owner: &NodeRecord) -> Waiting<'_> {
        let mut all = self.lock();
        let known = self.of_life(&mut all, owner);
        known.awaited += 1;
        let news = known.news;
        drop(all);
        self.wake.notify_one();
        Waiting { absences: self, owner: owner.id.clone(), news }
    }

    /// The owners that somebody waits for.
    pub(crate) fn awaited(&self) -> Vec<NodeId> {
        let all = self.lock();
        all.iter().filter(|(_, known)| known.awaited > 0).map(|(id, _)| id.clone()).collect()
    }

    /// Whether somebody waits for that one.
    pub(crate) fn is_awaited(&self, owner: &NodeId) -> bool {
        self.lock().get(owner).is_some_and(|known| known.awaited > 0)
    }

    /// A question had its time. True: by that the owner is absent.
    pub(crate) fn unanswered(&self, owner: &NodeRecord, now: Duration) -> bool {
        let mut all = self.lock();
        let known = self.of_life(&mut all, owner);
        known.unanswered += 1;
        let is_news = known.unanswered >= QUESTIONS && known.absent_from.is_none();
        if is_news {
            known.absent_from = Some(now);
            self.changes.send_replace(());
        }
        is_news
    }

    /// Nobody listens at the owner's address. True: by that it is absent.
    pub(crate) fn refused(&self, owner: &NodeRecord, now: Duration) -> bool {
        let mut all = self.lock();
        let known = self.of_life(&mut all, owner);
        let is_news = known.absent_from.is_none();
        if is_news {
            // It may have lent something just before it went.
            known.absent_from = Some(now + LEASE);
            self.changes.send_replace(());
        }
        is_news
    }

    /// The owner has made itself heard, or is no member any more.
    pub(crate) fn heard_of(&self, owner: &NodeId) {
        if let Some(known) = self.lock().get_mut(owner) {
            known.news += 1;
            known.start_again();
            self.changes.send_replace(());
        }
    }

    /// This process stood still: nobody is known to be absent, and who did not answer may have.
    pub(crate) fn start_again(&self) {
        self.lock().values_mut().for_each(Known::start_again);
    }

    /// The owner is not asked any more.
    pub(crate) fn forget(&self, owner: &NodeId) {
        let mut all = self.lock();
        if all.get(owner).is_some_and(|known| known.awaited == 0) {
            all.remove(owner);
        }
    }

    /// What is known of the owner's present life.
    fn of_life<'a>(
        &self,
        all: &'a mut HashMap<NodeId, Known>,
        owner: &NodeRecord,
    ) -> &'a mut Known {
        let known = all.entry(owner.id.clone()).or_default();
        if known.instance != owner.instance {
            known.instance = owner.instance;
            known.news += 1;
            known.start_again();
            self.changes.send_replace(());
        }
        known
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Known>> {
        self.by_owner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn start_again(&mut self) {
        (self.unanswered, self.absent_from) = (0, None);
    }
}

/// Somebody who wants to know.
pub(super) struct Waiting<'a> {
    absences: &'a Absences,
    owner: NodeId,
    news: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(known) = self.absences.lock().get_mut(&self.owner) {
            known.awaited -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use common::clock::ManualClock;
    use tokio::task::yield_now;

    use super::*;

    fn owner(life: u128) -> NodeRecord {
        NodeRecord::new("o".parse().unwrap(), Uuid::from_u128(life), "127.0.0.1:1")
    }

    /// What whoever waits hears when that has happened; `None`: nothing yet.
    async fn heard(
        absences: &Absences,
        clock: &ManualClock,
        happens: impl FnOnce(),
    ) -> Option<Standing> {
        let o = owner(1);
        let waiting = absences.of(&o, clock);
        tokio::pin!(waiting);
        tokio::select! {
            biased;
            standing = &mut waiting => return Some(standing),
            () = yield_now() => happens(),
        }
        tokio::select! {
            biased;
            standing = waiting => Some(standing),
            () = yield_now() => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_is_absent_that_leaves_questions_in_a_row_unanswered() {
        let (absences, clock, o) = (Absences::new(), ManualClock::new(), owner(1));
        let unanswered = || absences.unanswered(&o, clock.monotonic());
        assert_eq!(
            heard(&absences, &clock, || assert!(!unanswered() && !unanswered())).await,
            None
        );
        assert!(!absences.is_absent(&o, clock.monotonic()));
        absences.heard_of(&o.id);
        assert_eq!(
            heard(&absences, &clock, || assert!(!unanswered() && !unanswered())).await,
            None
        );
        absences.start_again();
        assert!(!unanswered() && !unanswered(), "this process stood still: those do not count");
        let third = heard(&absences, &clock, || assert!(unanswered(), "news")).await;
        assert_eq!(third, Some(Standing::Absent));
        assert!(!unanswered(), "no news any more");
        assert!(absences.is_absent(&o, clock.monotonic()));
        assert!(!absences.is_absent(&owner(2), clock.monotonic()), "another life");
        absences.heard_of(&o.id);
        assert!(!absences.is_absent(&o, clock.monotonic()));
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobody_listens_only_what_was_lent_is_waited_for() {
        let (absences, clock, o) = (Absences::new(), ManualClock::new(), owner(1));
        let refuses = || assert!(absences.refused(&o, clock.monotonic()));
        assert_eq!(heard(&absences, &clock, refuses).await, None, "it may have lent a moment ago");
        clock.advance(LEASE);
        assert_eq!(heard(&absences, &clock, || ()).await, Some(Standing::Absent));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_looks_again_when_the_owner_is_heard_of_or_has_another_life() {
        let (absences, clock, o) = (Absences::new(), ManualClock::new(), owner(1));
        let hears = heard(&absences, &clock, || absences.heard_of(&o.id)).await;
        assert_eq!(hears, Some(Standing::Heard));
        let reborn = || drop(absences.watch(&owner(2)));
        assert_eq!(heard(&absences, &clock, reborn).await, Some(Standing::Heard));
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_is_asked_for_as_long_as_somebody_wants_to_know() {
        let (absences, o) = (Absences::new(), owner(1));
        let watching = absences.watch(&o);
        absences.forget(&o.id);
        assert!(absences.is_awaited(&o.id));
        assert_eq!(absences.awaited().as_slice(), std::slice::from_ref(&o.id));
        drop(watching);
        assert!(!absences.is_awaited(&o.id));
        absences.refused(&o, Duration::ZERO);
        absences.forget(&o.id);
        assert!(!absences.is_absent(&o, LEASE), "who is not asked is not known to be absent");
    }
}
