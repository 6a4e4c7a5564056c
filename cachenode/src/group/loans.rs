//! What is lent of a group's values, kept with their keys: lending, and calling back.
//!
//! A loan is recorded in the key's critical section, in which its value is read, so that a write
//! comes either before it, and then the value is the written one, or after it, and then it finds it.
//! A loan outlives the entry: evicted or expired, the value may still be held.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use common::{entry::Version, near::LEASE};
use foldhash::fast::RandomState;

use super::{Authority, Group, Item, Waiting, flights::Stale, loading::Missed};
use crate::loans::{Holder, Invalidation, LoanMetrics, Recall, Recalled};

/// What a purge calls back is older than this, whatever it is.
const ANY_VERSION: Version = Version { as_of: u64::MAX, clock: u64::MAX };

/// One value lent to one holder.
#[derive(Debug)]
struct Loan {
    holder: Arc<Holder>,
    /// When it runs out.
    until: Duration,
    /// Set once the value was written over.
    recalled: Option<Arc<Recalled>>,
}

impl Loan {
    fn is_over(&self, now: Duration) -> bool {
        self.until <= now || self.recalled.as_ref().is_some_and(|recalled| recalled.is_over(now))
    }
}

/// The loans of a stripe's keys.
#[derive(Debug)]
pub(super) struct Loans {
    by_key: HashMap<Box<str>, Vec<Loan>, RandomState>,
    metrics: LoanMetrics,
}

impl Loans {
    pub(super) fn new(metrics: LoanMetrics) -> Self {
        Self { by_key: HashMap::default(), metrics }
    }

    /// Records a loan, or makes one longer that its holder has already. False: there is no room.
    fn lend(&mut self, key: &str, holder: &Arc<Holder>, until: Duration, now: Duration) -> bool {
        if let Some(loans) = self.by_key.get_mut(key) {
            let is_its =
                |loan: &&mut Loan| loan.recalled.is_none() && Arc::ptr_eq(&loan.holder, holder);
            if let Some(loan) = loans.iter_mut().find(is_its) {
                loan.until = loan.until.max(until);
                self.metrics.renewed();
                return true;
            }
        }
        if !self.metrics.has_room() {
            self.tidy(now);
        }
        if !self.metrics.has_room() {
            self.metrics.refused();
            return false;
        }
        self.metrics.lent();
        let loan = Loan { holder: Arc::clone(holder), until, recalled: None };
        match self.by_key.get_mut(key) {
            Some(loans) => loans.push(loan),
            None => drop(self.by_key.insert(key.into(), vec![loan])),
        }
        true
    }

    /// Calls back what is lent of a key: by now there is `version`.
    pub(super) fn call_back(&mut self, group: &Group, key: &str, version: Version, now: Duration) {
        let Some(loans) = self.by_key.get_mut(key) else { return };
        let before = loans.len();
        loans.retain(|loan| !loan.is_over(now));
        self.metrics.forgotten(before - loans.len());
        for loan in loans.iter_mut().filter(|loan| loan.recalled.is_none()) {
            let recalled = Recalled::new(loan.until);
            loan.recalled = Some(Arc::clone(&recalled));
            let (group, key) = (group.name.clone(), key.into());
            loan.holder.tell(Invalidation { group, key, version, recalled });
            self.metrics.called_back();
        }
        if loans.is_empty() {
            self.by_key.remove(key);
        }
    }

    /// Calls back whatever is lent of all keys of which `which` is true. What has to be waited for, also
    /// because of writes before: what those called back is an older value, and counts for all keys that
    /// `may_be` some of those.
    pub(super) fn call_back_where(
        &mut self,
        group: &Group,
        may_be: impl Fn(&str) -> bool,
        which: impl Fn(&str) -> bool,
        now: Duration,
    ) -> Vec<Arc<Recalled>> {
        let mut recalled = Vec::new();
        for (key, loans) in self.by_key.iter_mut().filter(|(key, _)| may_be(key)) {
            let is_it = which(key);
            let counts =
                |loan: &&mut Loan| !loan.is_over(now) && (is_it || loan.recalled.is_some());
            for loan in loans.iter_mut().filter(counts) {
                let of_loan = loan.recalled.get_or_insert_with(|| {
                    let recalled = Recalled::new(loan.until);
                    let (group, key) = (group.name.clone(), key.clone());
                    let version = ANY_VERSION;
                    let told = Invalidation { group, key, version, recalled: recalled.clone() };
                    loan.holder.tell_if_idle(told);
                    self.metrics.called_back();
                    recalled
                });
                recalled.push(Arc::clone(of_loan));
            }
        }
        recalled
    }

    /// What was called back of a key and is not over.
    fn recalled(&self, key: &str, now: Duration) -> Vec<Arc<Recalled>> {
        let loans = self.by_key.get(key).into_iter().flatten();
        let recalled = loans.filter_map(|loan| loan.recalled.as_ref());
        recalled.filter(|loan| !loan.is_over(now)).cloned().collect()
    }

    /// Forgets what is over.
    pub(super) fn tidy(&mut self, now: Duration) {
        let mut forgotten = 0;
        self.by_key.retain(|_, loans| {
            let before = loans.len();
            loans.retain(|loan| !loan.is_over(now));
            forgotten += before - loans.len();
            !loans.is_empty()
        });
        self.metrics.forgotten(forgotten);
    }

    /// Keys with how many hold them.
    fn holders(&self, now: Duration) -> impl Iterator<Item = (&str, usize)> {
        self.by_key.iter().map(move |(key, loans)| {
            (&**key, loans.iter().filter(|loan| !loan.is_over(now)).count())
        })
    }
}

impl Drop for Loans {
    /// What their group has lent runs out without it; the count is the whole node's.
    fn drop(&mut self) {
        self.metrics.forgotten(self.by_key.values().map(Vec::len).sum());
    }
}

/// What became of the wish to hold a value.
#[derive(Debug)]
pub enum Lending {
    /// It is lent, for so long.
    Lent(Item, Duration),
    /// It is not (there is none, it is larger than the caller can take, there is no room for the loan);
    /// [`Group::get`] says more.
    Refused,
    /// Nor is it this time: its time is nearly over, and its origin is being asked.
    Early(Waiting),
}

/// A key that is lent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LentKey {
    /// The key.
    pub key: String,
    /// How many hold it.
    pub holders: usize,
}

impl Group {
    /// Whether its values are lent ([`Definition::lends`](super::Definition::lends)).
    pub fn lends(&self) -> bool {
        self.shape().definition.lends()
    }

    /// Nothing is lent from now on, whoever has a reference to the group: when this returns, the last loan
    /// was made. For a group that is about to go, or to make room for another one of its name.
    pub(crate) fn end_lending(&self) {
        self.lends_no_more.store(true, Ordering::Relaxed);
        self.critical.each(|_| ());
    }

    /// Reads a key's value and lends it, for `asked` or for [`LEASE`] if that is shorter, unless it is
    /// larger than `most`. `owned` is asked in the key's critical section.
    ///
    /// # Errors
    /// What `owned` says when the node may not answer for the key.
    pub fn lend<E>(
        &self,
        most: usize,
        key: &str,
        holder: &Arc<Holder>,
        asked: Duration,
        owned: impl FnOnce() -> Result<Authority, E>,
    ) -> Result<Lending, E> {
        if !self.lends() || asked.is_zero() {
            return Ok(Lending::Refused);
        }
        let slot = self.slots.of(key);
        let mut stripe = self.critical.enter(slot);
        // The lock makes it seen.
        if self.lends_no_more.load(Ordering::Relaxed) {
            return Ok(Lending::Refused);
        }
        self.follow_floors();
        let authority = owned()?;
        let shape = self.shape();
        let now = self.clock.monotonic();
        let Some(entry) = shape.store.get(slot, key) else { return Ok(Lending::Refused) };
        let is_ours = !authority.is_stand_in() && !entry.is_stand_in();
        if !is_ours || self.is_absent(&shape, &entry, now) || entry.value_len() > most {
            return Ok(Lending::Refused);
        }
        let loan = asked.min(LEASE);
        // While it is held nobody asks here.
        if self.is_early(&shape, &Item::new(entry.clone(), now), loan) {
            let item = Item::new(entry.clone(), now);
            let (before, stale) = (Some(entry.clone()), Some(Stale::early(item)));
            let missed = Missed { slot, key, authority, now, before, stale };
            if let Some(waiting) = self.begin_early(&mut stripe, &shape, missed) {
                self.hit(&shape, entry, most, now);
                return Ok(Lending::Early(waiting));
            }
        }
        if !stripe.loans.lend(key, holder, now + loan, now) {
            return Ok(Lending::Refused);
        }
        Ok(Lending::Lent(self.hit(&shape, entry, most, now), loan))
    }

    /// What a write of a key has to wait for, once it was applied: everybody who may still believe an
    /// older value, also because of a write before it that is not acknowledged yet.
    pub fn recall(&self, key: &str) -> Recall {
        // What the caller's write has called back was counted before it.
        if !self.critical.has_lent() || !self.shape().may_have_lent {
            return Recall::default();
        }
        let stripe = self.critical.enter(self.slots.of(key));
        Recall::of(stripe.loans.recalled(key, self.clock.monotonic()))
    }

    /// The keys that are lent now, at most `limit`, those with the most holders first.
    pub fn lent_keys(&self, limit: usize) -> Vec<LentKey> {
        let now = self.clock.monotonic();
        let mut keys = Vec::new();
        self.critical.each(|stripe| {
            let lent = stripe.loans.holders(now).filter(|(_, holders)| *holders > 0);
            keys.extend(lent.map(|(key, holders)| LentKey { key: key.to_owned(), holders }));
        });
        keys.sort_by(|a, b| b.holders.cmp(&a.holders).then_with(|| a.key.cmp(&b.key)));
        keys.truncate(limit);
        keys
    }
}

#[cfg(test)]
mod tests;
