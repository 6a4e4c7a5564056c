//! All groups of a node, by name, as they come, change and go.
//!
//! The map is immutable and swapped as a whole, so that an operation finds its group without a lock.
//! What there is to be is told from outside ([`Groups::take_on`]); whether a key belongs to this node
//! is not asked here.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use common::{
    clock::Clock,
    discovery::Stint,
    entry::HybridClock,
    key::{GroupName, NameError},
    near::LEASE,
};
use foldhash::fast::RandomState;
use uuid::Uuid;

use crate::{
    group::{Definition, Group},
    loans::LoanMetrics,
};

/// The group that every node has, whatever its configuration says.
pub const DEFAULT_GROUP: &str = common::topology::DEFAULT_GROUP;

/// A group that is to be there.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What it is to be like.
    pub definition: Definition,
    /// Which group it is in the cluster state; nil: it is only this node's.
    pub id: Uuid,
    /// The revision of its definition there.
    pub revision: u64,
    /// A program brought it along: whatever the cluster state says, it is this node's own.
    pub is_own: bool,
}

impl From<Definition> for Wanted {
    fn from(definition: Definition) -> Self {
        Self { definition, id: Uuid::nil(), revision: 0, is_own: false }
    }
}

/// A group that is there.
#[derive(Debug, Clone)]
pub struct Served {
    /// The group.
    pub group: Arc<Group>,
    /// Which one it is in the cluster state; nil: it is only this node's.
    pub id: Uuid,
    /// The revision of its definition there.
    pub revision: u64,
    /// A program brought it along.
    pub is_own: bool,
    /// No write is acknowledged before: another group of its name, which is not there any more, may have
    /// lent until then.
    pub not_before: Duration,
}

/// The groups at one moment.
#[derive(Debug, Default)]
pub struct GroupMap(HashMap<GroupName, Served, RandomState>);

impl GroupMap {
    /// The group of that name.
    pub fn get(&self, name: &str) -> Option<&Served> {
        self.0.get(name)
    }

    /// Whether it has this very group, and not only one of its name.
    fn has(&self, served: &Served) -> bool {
        let there = self.get(served.group.name().as_str());
        there.is_some_and(|there| Arc::ptr_eq(&there.group, &served.group))
    }

    /// Every group, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.0.values().map(|served| &served.group)
    }
}

/// A node's groups.
pub struct Groups {
    by_name: ArcSwap<GroupMap>,
    /// Held by whoever changes the map. Until when a group that has gone may have lent: its keys may be
    /// those of the next one of its name, which may come in a later pass.
    changing: Mutex<Duration>,
    loans: LoanMetrics,
    clock: Arc<dyn Clock>,
    hybrid: HybridClock,
    stint: OnceLock<Stint>,
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Groups").field("by_name", &self.now()).finish_non_exhaustive()
    }
}

impl Groups {
    /// Builds the groups; a definition of a name that came before replaces it, and
    /// [`DEFAULT_GROUP`] is added with [`Definition::new`]'s settings where it is missing.
    ///
    /// # Errors
    /// None in practice: the one name made here is valid.
    pub fn new(
        definitions: impl IntoIterator<Item = Definition>,
        clock: &Arc<dyn Clock>,
        hybrid: &HybridClock,
    ) -> Result<Self, NameError> {
        let groups = Self {
            by_name: ArcSwap::default(),
            changing: Mutex::default(),
            loans: LoanMetrics::default(),
            clock: Arc::clone(clock),
            hybrid: hybrid.clone(),
            stint: OnceLock::new(),
        };
        let default = Definition::new(GroupName::new(DEFAULT_GROUP)?);
        let all = std::iter::once(default).chain(definitions);
        let last: HashMap<_, _> = all.map(|it| (it.name.clone(), it)).collect();
        groups.take_on(last.into_values().map(Wanted::from));
        Ok(groups)
    }

    /// The groups of now.
    pub fn now(&self) -> Guard<Arc<GroupMap>> {
        self.by_name.load()
    }

    /// The same, to be kept for longer.
    pub fn snapshot(&self) -> Arc<GroupMap> {
        self.by_name.load_full()
    }

    /// Makes what is to be there, changes what is otherwise, and drops the rest. A group stays the same
    /// as long as its id does, or it has got its first one. Returns those whose entries have to be
    /// moved ([`Group::move_entries`]). Not for a worker.
    pub fn take_on(&self, wanted: impl IntoIterator<Item = Wanted>) -> Vec<Arc<Group>> {
        let mut lent_until = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.snapshot();
        let mut to_move = Vec::new();
        let mut one = |Wanted { definition, id, revision, is_own }: Wanted| {
            let name = definition.name.clone();
            let there = before.get(name.as_str());
            let same = there.filter(|it| it.id == id || it.id.is_nil() || id.is_nil());
            let served = match same {
                Some(same) => {
                    if same.group.define(definition) {
                        to_move.push(Arc::clone(&same.group));
                    }
                    let id = if id.is_nil() { same.id } else { id };
                    Served { id, revision, is_own, ..same.clone() }
                }
                None => {
                    let (group, not_before) = (self.make(definition), Duration::ZERO);
                    Served { group, id, revision, is_own, not_before }
                }
            };
            (name, served)
        };
        let mut after = GroupMap(wanted.into_iter().map(&mut one).collect());
        // Not sooner: changing a group may take long, and until here the others have lent. Nor by the time of
        // the store below: whoever has the former map would lend by it after that.
        let gone = before.0.values().filter(|served| !after.has(served));
        if gone.inspect(|served| served.group.end_lending()).count() > 0 {
            *lent_until = self.clock.monotonic() + LEASE;
        }
        for made in after.0.values_mut().filter(|served| !before.has(served)) {
            made.not_before = *lent_until;
        }
        self.by_name.store(Arc::new(after));
        to_move
    }

    fn make(&self, definition: Definition) -> Arc<Group> {
        let (clock, hybrid) = (Arc::clone(&self.clock), self.hybrid.clone());
        let group = Group::counting(definition, clock, hybrid, &self.loans);
        if let Some(stint) = self.stint.get() {
            group.follow_stint(stint.clone());
        }
        Arc::new(group)
    }

    /// From now on entries from before the node's present stint are absent, in all groups.
    pub fn follow_stint(&self, stint: &Stint) {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        // Set once in a node's life.
        let _ = self.stint.set(stint.clone());
        self.now().iter().for_each(|group| group.follow_stint(stint.clone()));
    }

    /// What they lend, in numbers.
    pub fn loans(&self) -> &LoanMetrics {
        &self.loans
    }

    /// [`Group::maintain`] for every group. For a ticker, outside the workers.
    pub fn maintain(&self) {
        self.snapshot().iter().for_each(|group| group.maintain());
    }
}

#[cfg(test)]
mod tests {
    use common::{clock::ManualClock, error::Error};

    use super::*;
    use crate::{
        group::{Authority, Lending, Write},
        loans::Holder,
    };

    fn groups(definitions: impl IntoIterator<Item = Definition>) -> Groups {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
        let hybrid = HybridClock::new(clock.clone());
        Groups::new(definitions, &clock, &hybrid).unwrap()
    }

    fn definition(name: &str) -> Definition {
        Definition::new(GroupName::new(name).unwrap())
    }

    #[test]
    fn the_default_group_exists_and_may_be_defined() {
        let there = groups([definition("users")]);
        assert_eq!(there.now().iter().count(), 2);
        assert_eq!(there.now().get("users").unwrap().group.name().as_str(), "users");
        assert!(there.now().get("nobody").is_none());
        assert!(there.now().get(DEFAULT_GROUP).is_some());

        let small = Definition { capacity: 1 << 20, ..definition(DEFAULT_GROUP) };
        let there = groups([small.clone()]);
        let default = Arc::clone(&there.now().get(DEFAULT_GROUP).unwrap().group);
        assert_eq!(*default.definition(), small);
        there.maintain();
    }

    /// A group `users` of that id, with `k` in it, among the groups of a node with that clock.
    fn with_users(clock: &ManualClock) -> (Groups, impl Fn(u128) -> Wanted + use<>) {
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let groups = Groups::new([], &shared, &HybridClock::new(shared.clone())).unwrap();
        let wanted = |id| Wanted { id: Uuid::from_u128(id), ..Wanted::from(definition("users")) };
        groups.take_on([wanted(1)]);
        let write = Write { key: "k", value: b"old", ..Write::default() };
        let users = Arc::clone(&groups.now().get("users").unwrap().group);
        users.set(&write, || Ok::<_, Error>(Authority::owner(1))).unwrap();
        (groups, wanted)
    }

    fn lends(group: &Group) -> bool {
        let (holder, _told) = Holder::new();
        let owned = || Ok::<_, Error>(Authority::owner(1));
        matches!(group.lend(1000, "k", &holder, LEASE, owned).unwrap(), Lending::Lent(..))
    }

    #[test]
    fn a_group_waits_for_what_another_one_of_its_name_has_lent_however_long_it_is_gone() {
        let clock = ManualClock::new();
        let (groups, wanted) = with_users(&clock);
        let before = groups.snapshot();
        assert!(lends(&before.get("users").unwrap().group));
        clock.advance(LEASE / 5);
        groups.take_on([]);
        let gone_at = clock.monotonic();
        assert!(!lends(&before.get("users").unwrap().group), "whoever still has it lends nothing");
        clock.advance(LEASE / 5);
        groups.take_on([wanted(2)]);
        assert_eq!(groups.now().get("users").unwrap().not_before, gone_at + LEASE);
    }

    #[test]
    fn a_group_that_takes_the_place_of_another_one_waits_from_when_that_lends_no_more() {
        let clock = ManualClock::new();
        let (groups, wanted) = with_users(&clock);
        let before = groups.snapshot();
        // The others take their time.
        let others = ["a", "b"].map(|name| Wanted::from(definition(name)));
        let slow = std::iter::once(wanted(2)).chain(others).inspect(|_| clock.advance(LEASE));
        groups.take_on(slow);
        let now = clock.monotonic();
        assert_eq!(groups.now().get("users").unwrap().not_before, now + LEASE);
        assert!(!lends(&before.get("users").unwrap().group));
    }

    #[test]
    fn what_a_group_that_is_gone_has_lent_does_not_count_for_ever() {
        let clock = ManualClock::new();
        let (groups, _) = with_users(&clock);
        assert!(lends(&groups.now().get("users").unwrap().group));
        assert_eq!(groups.loans().outstanding(), 1);
        groups.take_on([]);
        groups.maintain();
        assert_eq!(groups.loans().outstanding(), 0);
    }

    #[test]
    fn a_group_stays_itself_as_long_as_its_id_does() {
        let there = groups([definition("users")]);
        let take_on = |id: u128, revision, capacity| {
            let definition = Definition { capacity, ..definition("users") };
            let id = Uuid::from_u128(id);
            let wanted = Wanted { id, revision, ..Wanted::from(definition) };
            let to_move = there.take_on([wanted]).len();
            let served = there.now().get("users").unwrap().clone();
            assert_eq!((served.id, served.revision), (id, revision));
            (served, to_move)
        };
        let local = Arc::clone(&there.now().get("users").unwrap().group);
        let (first, _) = take_on(1, 5, 64 << 20);
        assert!(Arc::ptr_eq(&local, &first.group), "it has got an id");
        let (larger, to_move) = take_on(1, 6, 65 << 20);
        assert!(Arc::ptr_eq(&local, &larger.group) && to_move == 1);
        let (other, _) = take_on(2, 7, 65 << 20);
        assert!(!Arc::ptr_eq(&local, &other.group));
        assert!(other.not_before > Duration::ZERO, "the former one may have lent");
        there.take_on([]);
        assert!(there.now().get("users").is_none());
    }
}
