//! What this node did in the stead of owners that could not be reached.
//!
//! For each of them two sets of keys: *hints*, which the owner has to hear of before it may be
//! believed again (it drops what it has of them), and what is *held* here meanwhile, which must not
//! be read any more once the owner has been heard of. A write that is on its way to becoming a
//! hint is a *claim* from before the owner is asked: an owner that comes back in between and asks
//! for its hints hears of it already. Delivering them is the business of `node::hinting`.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use common::{
    discovery::{NodeId, NodeRecord},
    link::frame::HINTS_PER_OPERATION,
};
use proto::v1;
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

use crate::metrics::NodeMetrics;

/// Hints kept for an owner, and keys held for it; one more, and it is told to drop everything, or
/// everything that is held here is dropped.
const MAX_HINTS: usize = 4096;
/// Writes for an owner that are under way at a time.
const MAX_CLAIMS: usize = 4096;

/// A group and a key.
pub(crate) type Name = (String, String);

/// One owner, in one of its lives.
#[derive(Default)]
struct Owner {
    instance: Uuid,
    claims: HashMap<Name, usize>,
    /// With the number of the write, as one key may be written again while its hint is delivered.
    hints: HashMap<Name, u64>,
    /// More hints than there is room for, as of that write.
    everything: Option<u64>,
    /// Who waits until a write's hint has been taken, by its key and with the write's number.
    waiting: HashMap<Name, Vec<(u64, oneshot::Sender<()>)>>,
    held: Keys,
}

/// Keys, by their groups: so that one can be looked up as it comes.
#[derive(Default)]
struct Keys {
    by_group: HashMap<String, HashSet<String>>,
    count: usize,
    /// There are more than there is room for.
    overflow: bool,
}

/// What was done for all owners. Shared by all workers.
pub(crate) struct Away {
    owners: Mutex<Owners>,
    metrics: NodeMetrics,
    /// There is a hint to be delivered.
    pub(crate) wake: Notify,
}

#[derive(Default)]
struct Owners {
    by_id: HashMap<NodeId, Owner>,
    writes: u64,
}

/// What has to go here because its owner has been heard of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) names: Vec<Name>,
    /// And whatever else is held.
    pub(crate) overflows: bool,
}

/// Hints on their way.
#[derive(Debug)]
pub(crate) struct Due {
    instance: Uuid,
    hints: Vec<(Name, u64)>,
    everything: Option<u64>,
}

/// Too many writes for an owner are under way.
#[derive(Debug)]
pub(crate) struct Crowded;

impl Away {
    pub(crate) fn new(metrics: NodeMetrics) -> Arc<Self> {
        Arc::new(Self { owners: Mutex::default(), metrics, wake: Notify::new() })
    }

    /// A write in the stead of this owner may be about to happen. Taken before it is looked at
    /// whether the owner can be reached.
    pub(crate) fn claim(
        self: &Arc<Self>,
        owner: &NodeRecord,
        group: &str,
        key: &str,
    ) -> Result<Claim, Crowded> {
        let name = (group.to_owned(), key.to_owned());
        let mut owners = self.lock();
        let away = owners.of(owner);
        if away.claims.len() >= MAX_CLAIMS {
            return Err(Crowded);
        }
        *away.claims.entry(name.clone()).or_default() += 1;
        Ok(Claim { away: Arc::clone(self), owner: owner.clone(), name })
    }

    /// An entry is about to be stored here in the owner's stead: it is held until that is heard of. To be
    /// called in the key's critical section.
    pub(crate) fn hold(&self, owner: &NodeRecord, group: &str, key: &str) {
        self.lock().of(owner).held.add(group, key);
    }

    /// Whether something is held here under that key for the owner of that id.
    pub(crate) fn holds(&self, owner: &NodeId, group: &str, key: &str) -> bool {
        self.lock().by_id.get(owner).is_some_and(|away| away.held.has(group, key))
    }

    /// The owner of that id has been heard of (or another life of it is a member): what is held
    /// for it here must not be read any more.
    pub(crate) fn heard_of(&self, owner: &NodeId) -> Held {
        let mut owners = self.lock();
        owners.by_id.get_mut(owner).map_or_else(Held::default, |away| away.held.give_back())
    }

    /// Whether another life of that owner than the present one is remembered.
    pub(crate) fn knew_another(&self, owner: &NodeRecord) -> bool {
        let owners = self.lock();
        owners.by_id.get(&owner.id).is_some_and(|away| away.instance != owner.instance)
    }

    /// What the owner has to know before it goes on, in the words of the wire. Whichever life of it
    /// asks: to hear of too much costs a miss.
    pub(crate) fn wanted(&self, owner: &NodeId) -> v1::Hint {
        let owners = self.lock();
        let Some(away) = owners.by_id.get(owner) else { return v1::Hint::default() };
        let names: HashSet<&Name> = away.hints.keys().chain(away.claims.keys()).collect();
        let keys = names.into_iter().map(hinted).collect();
        let everything = away.everything.is_some();
        v1::Hint { keys, everything, epoch: None, number: owners.writes }
    }

    /// The owner has acted by the hints of an answer with that number.
    pub(crate) fn taken(&self, owner: &NodeId, instance: Uuid, number: u64) {
        let mut owners = self.lock();
        let away = owners.by_id.get_mut(owner).filter(|away| away.instance == instance);
        let Some(away) = away else { return };
        let before = away.hints.len();
        away.hints.retain(|_, write| *write > number);
        away.everything = away.everything.filter(|write| *write > number);
        away.waiting.values_mut().for_each(|waiting| has_taken(waiting, number));
        self.metrics.hints_delivered.inc_by((before - away.hints.len()) as u64);
    }

    /// Owners for whom there are hints.
    pub(crate) fn waiting(&self) -> Vec<NodeId> {
        self.of_whom(Owner::has_hints)
    }

    /// Owners to be asked whether they are back: there are hints for them, or something is held.
    pub(crate) fn missed(&self) -> Vec<NodeId> {
        self.of_whom(|away| away.has_hints() || !away.held.is_empty())
    }

    fn of_whom(&self, is_it: impl Fn(&Owner) -> bool) -> Vec<NodeId> {
        let owners = self.lock();
        owners.by_id.iter().filter(|(_, away)| is_it(away)).map(|(id, _)| id.clone()).collect()
    }

    /// The number of the last write that was done in anybody's stead.
    pub(crate) fn last_write(&self) -> u64 {
        self.lock().writes
    }

    /// The next hints for that owner, of the writes up to that number.
    pub(crate) fn due(&self, owner: &NodeRecord, last: u64) -> Option<Due> {
        let mut owners = self.lock();
        let away = owners.known(owner)?;
        let all = away.hints.iter().filter(|(_, write)| **write <= last);
        let all = all.map(|(name, write)| (name.clone(), *write));
        let hints: Vec<_> = all.take(HINTS_PER_OPERATION).collect();
        let everything = away.everything.filter(|write| *write <= last);
        let due = Due { instance: away.instance, hints, everything };
        (!due.hints.is_empty() || everything.is_some()).then_some(due)
    }

    /// The hint for that owner of one key.
    pub(crate) fn due_of(&self, owner: &NodeRecord, name: &Name) -> Option<Due> {
        let mut owners = self.lock();
        let away = owners.known(owner)?;
        let hints: Vec<_> = away.hints.get_key_value(name).into_iter().collect();
        let hints: Vec<_> = hints.into_iter().map(|(name, write)| (name.clone(), *write)).collect();
        let due = Due { instance: away.instance, hints, everything: away.everything };
        (!due.hints.is_empty() || due.everything.is_some()).then_some(due)
    }

    /// The owner has taken them.
    pub(crate) fn delivered(&self, owner: &NodeId, due: &Due) {
        let mut owners = self.lock();
        let Some(away) = owners.by_id.get_mut(owner) else { return };
        if away.instance != due.instance {
            return;
        }
        for (name, write) in &due.hints {
            if away.hints.get(name) == Some(write) {
                away.hints.remove(name);
            }
            if let Some(waiting) = away.waiting.get_mut(name) {
                has_taken(waiting, *write);
                if waiting.is_empty() {
                    away.waiting.remove(name);
                }
            }
        }
        if let Some(everything) = due.everything {
            away.waiting.values_mut().for_each(|waiting| has_taken(waiting, everything));
            away.waiting.retain(|_, waiting| !waiting.is_empty());
            away.everything = away.everything.filter(|write| *write != everything);
        }
        self.metrics.hints_delivered.inc_by(due.hints.len().max(1) as u64);
    }

    /// Forgets owners that are no members any more: one that has left gives up what is not its own. The
    /// hints for an owner that has another life are kept for that: it may have begun before the writes.
    /// Returns what is held here for those lives that are gone; by now others may have written newer values
    /// under their keys.
    #[must_use]
    pub(crate) fn retain(&self, members: &[NodeRecord]) -> Vec<Held> {
        let mut gone = Vec::new();
        self.lock().by_id.retain(|id, away| {
            let member = members.iter().find(|member| member.id == *id);
            if member.is_none_or(|member| member.instance != away.instance) {
                gone.push(away.held.give_back());
            }
            match member {
                Some(member) => away.instance = member.instance,
                None if !away.claims.is_empty() => {}
                None => {
                    self.metrics.hints_dropped.inc_by(away.hints.len() as u64);
                    return false;
                }
            }
            true
        });
        gone
    }

    fn lock(&self) -> MutexGuard<'_, Owners> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hinted((group, key): &Name) -> v1::HintedKey {
    v1::HintedKey { group: group.clone(), key: key.clone() }
}

/// Those who wait for a write up to that number need not wait any more.
fn has_taken(waiting: &mut Vec<(u64, oneshot::Sender<()>)>, number: u64) {
    for (_, waiter) in waiting.extract_if(.., |(write, _)| *write <= number) {
        // It may have given up.
        let _ = waiter.send(());
    }
}

impl Owners {
    /// What was done for an owner. What its present life has to hear of was not all done for that: the
    /// former may have been absent yet when the present one had begun.
    fn of(&mut self, owner: &NodeRecord) -> &mut Owner {
        let away = self.by_id.entry(owner.id.clone()).or_default();
        away.instance = owner.instance;
        away
    }

    /// The same, if there is anything.
    fn known(&mut self, owner: &NodeRecord) -> Option<&mut Owner> {
        let away = self.by_id.get_mut(&owner.id)?;
        away.instance = owner.instance;
        Some(away)
    }
}

impl Owner {
    fn has_hints(&self) -> bool {
        self.everything.is_some() || !self.hints.is_empty()
    }

    fn hint(&mut self, name: Name, write: u64) {
        if self.everything.is_some() || self.hints.len() >= MAX_HINTS {
            self.everything = Some(write);
            self.hints.clear();
        } else {
            self.hints.insert(name, write);
        }
    }

    fn wait(&mut self, name: &Name, write: u64) -> oneshot::Receiver<()> {
        let (waiter, taken) = oneshot::channel();
        if self.waiting.len() >= MAX_HINTS {
            self.waiting.retain(|_, waiting| waiting.iter().any(|(_, it)| !it.is_closed()));
        }
        let waiting = self.waiting.entry(name.clone()).or_default();
        waiting.retain(|(_, it)| !it.is_closed());
        waiting.push((write, waiter));
        taken
    }
}

impl Keys {
    fn is_empty(&self) -> bool {
        self.count == 0 && !self.overflow
    }

    fn has(&self, group: &str, key: &str) -> bool {
        self.overflow || self.by_group.get(group).is_some_and(|keys| keys.contains(key))
    }

    fn add(&mut self, group: &str, key: &str) {
        if self.has(group, key) {
            return;
        }
        if self.count >= MAX_HINTS {
            self.overflow = true;
            return;
        }
        self.by_group.entry(group.to_owned()).or_default().insert(key.to_owned());
        self.count += 1;
    }

    fn give_back(&mut self) -> Held {
        let Self { by_group, overflow, .. } = std::mem::take(self);
        let of_group = |(group, keys): (String, HashSet<String>)| {
            keys.into_iter().map(move |key| (group.clone(), key))
        };
        Held { names: by_group.into_iter().flat_map(of_group).collect(), overflows: overflow }
    }
}

impl Due {
    /// In the words of the wire.
    pub(crate) fn to_wire(&self) -> v1::Hint {
        let keys = self.hints.iter().map(|(name, _)| hinted(name)).collect();
        v1::Hint { keys, everything: self.everything.is_some(), ..Default::default() }
    }
}

/// A write for an owner that is under way. Dropped: it did not happen here.
pub(crate) struct Claim {
    away: Arc<Away>,
    owner: NodeRecord,
    name: Name,
}

/// A write that happened here, and of which the owner has to hear.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) owner: NodeId,
    pub(crate) name: Name,
    /// Says when the owner has taken this write's hint, or a later one of its key; fails if the hint
    /// is forgotten.
    pub(crate) taken: oneshot::Receiver<()>,
}

impl Claim {
    /// It happened here: the owner has to hear of it.
    pub(crate) fn keep(self) {
        self.kept(|_, _| ());
    }

    /// The same, for whoever wants to know when it has.
    pub(crate) fn keep_and_hear(self) -> Kept {
        let (owner, name) = (self.owner.id.clone(), self.name.clone());
        let taken = self.kept(|away, write| away.wait(&name, write));
        Kept { owner, name, taken }
    }

    fn kept<T>(self, also: impl FnOnce(&mut Owner, u64) -> T) -> T {
        let mut owners = self.away.lock();
        owners.writes += 1;
        let write = owners.writes;
        // Of whatever life it is by now.
        let away = owners
            .by_id
            .entry(self.owner.id.clone())
            .or_insert_with(|| Owner { instance: self.owner.instance, ..Owner::default() });
        away.hint(self.name.clone(), write);
        let kept = also(away, write);
        drop(owners);
        self.away.metrics.hints_kept.inc();
        self.away.wake.notify_one();
        kept
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut owners = self.away.lock();
        let Some(away) = owners.by_id.get_mut(&self.owner.id) else { return };
        if let Some(count) = away.claims.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                away.claims.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests;
