//! Everything that changes a key: set, delete, and copies from other nodes.
//!
//! Each is one critical section: has this write been answered before, may this node, does the
//! condition hold, then version, store, tombstone, answer.

use std::time::Duration;

use common::{
    entry::Version,
    error::{Code, Error},
    key::Key,
    tags::Tags,
};

use super::{Applied, Authority, Group, OpId, applied::Answer, critical::Stripe, shape::Shape};
use crate::store::{NewEntry, Stored};

/// Longest content type, in bytes.
pub const MAX_CONTENT_TYPE_BYTES: usize = 256;

/// Heaviest entry a store can count, in bytes.
const MAX_WEIGHT: u64 = u32::MAX as u64;

/// When a write applies. What is not set always holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Condition {
    /// Only if the key is absent. Absent from the cache: the origin is not asked.
    pub if_absent: bool,
    /// Only if the key is present.
    pub if_present: bool,
    /// Only if the entry has one of these versions.
    pub if_version: Vec<Version>,
}

impl Condition {
    fn holds(&self, there: Option<Version>) -> bool {
        match there {
            None => !self.if_present && self.if_version.is_empty(),
            Some(version) => {
                let is_one = self.if_version.is_empty() || self.if_version.contains(&version);
                !self.if_absent && is_one
            }
        }
    }
}

/// A value to be set. Its bytes are copied when they are stored.
#[derive(Debug, Clone, Default)]
pub struct Write<'a> {
    /// The key.
    pub key: &'a str,
    /// The value.
    pub value: &'a [u8],
    /// Its content type; empty: `application/octet-stream`.
    pub content_type: &'a str,
    /// Its tags, as [`common::tags`] keeps them.
    pub tags: &'a str,
    /// How long it lives; `None` or zero: as long as the group says.
    pub ttl: Option<Duration>,
    /// When to do it.
    pub condition: Condition,
    /// Only if this is the key's load token.
    pub token: Option<u64>,
    /// Which write it is, so that a retry is answered and not applied again.
    pub op: Option<OpId>,
}

/// A key to be deleted.
#[derive(Debug, Clone, Default)]
pub struct Delete<'a> {
    /// The key.
    pub key: &'a str,
    /// When to do it.
    pub condition: Condition,
    /// Which write it is, so that a retry is answered and not applied again.
    pub op: Option<OpId>,
}

/// An entry that another node made.
#[derive(Debug, Clone, Default)]
pub struct Copied<'a> {
    /// The key.
    pub key: &'a str,
    /// The value.
    pub value: &'a [u8],
    /// Its content type; empty: `application/octet-stream`.
    pub content_type: &'a str,
    /// Its tags, as [`common::tags`] keeps them.
    pub tags: &'a str,
    /// The version that it has there, and will have here.
    pub version: Version,
    /// Time since it was stored there.
    pub age: Duration,
    /// Time until it expires; `None`: it never does.
    pub ttl_left: Option<Duration>,
}

impl Group {
    /// Sets a key. `owned` is asked in the critical section, unless the write was answered before;
    /// it must not wait, nor call the group. The write must not be acknowledged before
    /// [`Group::recall`] is over.
    ///
    /// # Errors
    /// What `owned` says; `invalid_request` for a key or content type that can't be;
    /// `too_large`; `precondition_failed`; `lease_lost`.
    pub fn set<E: From<Error>>(
        &self,
        write: &Write<'_>,
        owned: impl FnOnce() -> Result<Authority, E>,
    ) -> Result<Applied, E> {
        let Write { key, value, content_type, tags, ttl, ref condition, token, op } = *write;
        let entry = NewEntry { key, content_type, tags, value, ..NewEntry::default() };
        let check = |shape: &Shape| shape.check(&entry);
        self.change(key, condition, op, check, owned, |change, stripe| {
            let Change { tick, slot, shape, authority, now, known, there } = change;
            if token.is_some_and(|it| !self.counts(&stripe.tokens, key, it, authority, now)) {
                self.counters.lost_tokens.add();
                return Answer::LeaseLost;
            }
            let version = self.version_at(tick, stripe, slot, authority, known, now);
            let entry = NewEntry {
                version,
                stored: now,
                expires: shape.expires(ttl, authority, now, &self.chance),
                is_stand_in: authority.is_stand_in(),
                now,
                ..entry
            };
            self.keep(shape, slot, &Stored::new(&entry), known.is_some());
            stripe.changed(self, key, version, now);
            self.counters.sets.add();
            Answer::Applied(Applied { version, created: there.is_none() })
        })
    }

    /// Deletes a key and remembers that, so that no older copy brings it back; also if the key is
    /// not here, as a copy may be on its way. `created` of the answer is false. `owned` as in
    /// [`Group::set`].
    ///
    /// # Errors
    /// What `owned` says; `not_found`; `precondition_failed`.
    pub fn delete<E: From<Error>>(
        &self,
        delete: &Delete<'_>,
        owned: impl FnOnce() -> Result<Authority, E>,
    ) -> Result<Applied, E> {
        let Delete { key, ref condition, op } = *delete;
        let check = |_: &Shape| Ok(());
        self.change(key, condition, op, check, owned, |change, stripe| {
            let Change { tick, slot, shape, authority, now, known, there } = change;
            let version = self.version_at(tick, stripe, slot, authority, known, now);
            stripe.tombstones.bury(slot, version, now);
            shape.store.remove_if(slot, &|entry| entry.is_of(key));
            // Also if there is nothing: it may have been lent and then evicted.
            stripe.changed(self, key, version, now);
            if there.is_none() {
                return Answer::NotFound;
            }
            self.counters.deletes.add();
            Answer::Applied(Applied { version, created: false })
        })
    }

    /// Takes over an entry of another node if it is newer than what is known of its key; whether
    /// it did. Who may send it is the caller's business.
    pub fn apply(&self, copy: &Copied<'_>) -> bool {
        let Copied { key, value, content_type, tags, version, age, ttl_left } = *copy;
        self.hybrid.observe(version.clock);
        let slot = self.slots.of(key);
        let mut stripe = self.critical.enter(slot);
        let shape = self.shape();
        let now = self.clock.monotonic();
        let entry = NewEntry {
            key,
            content_type,
            tags,
            value,
            version,
            stored: now.saturating_sub(age),
            expires: ttl_left.map(|left| now.saturating_add(left)),
            now,
            ..NewEntry::default()
        };
        // An expired entry counts as long as it is there: it is still the newest that is known.
        let before = shape.store.get(slot, key);
        let known = before.as_ref().map(Stored::version).max(stripe.tombstones.newest(slot, now));
        let is_purged = self.purges.refuse(version.clock, key, tags);
        if known >= Some(version) || is_purged || shape.check(&entry).is_err() {
            return false;
        }
        self.keep(&shape, slot, &Stored::new(&entry), before.is_some());
        stripe.changed(self, key, version, now);
        true
    }

    /// Forgets what is known of a key's value, because it was written elsewhere meanwhile: removes
    /// the entry, whatever it is, calls back what is lent of it ([`Group::recall`]), and lets nothing
    /// older come back. Whether there was one.
    pub fn forget(&self, key: &str, as_of: u64) -> bool {
        let slot = self.slots.of(key);
        let mut stripe = self.critical.enter(slot);
        let tick = self.hybrid.tick();
        let shape = self.shape();
        let now = self.clock.monotonic();
        let known = shape.store.get(slot, key).as_ref().map(Stored::version);
        let version = self.version_at(tick, &stripe, slot, Authority::owner(as_of), known, now);
        stripe.tombstones.bury(slot, version, now);
        stripe.changed(self, key, version, now);
        shape.store.remove_if(slot, &|entry| entry.is_of(key))
    }

    /// Removes what was stored under a key while standing in for its owner.
    pub fn drop_stand_in(&self, key: &str) {
        let slot = self.slots.of(key);
        let mut stripe = self.critical.enter(slot);
        stripe.flights.fence(key);
        stripe.tokens.end(key);
        self.shape().store.remove_if(slot, &|entry| entry.is_stand_in() && entry.is_of(key));
    }

    /// The frame of a change: what comes before and after it in the critical section.
    fn change<E: From<Error>>(
        &self,
        key: &str,
        condition: &Condition,
        op: Option<OpId>,
        check: impl FnOnce(&Shape) -> Result<(), Error>,
        owned: impl FnOnce() -> Result<Authority, E>,
        apply: impl FnOnce(Change<'_>, &mut Stripe) -> Answer,
    ) -> Result<Applied, E> {
        let slot = self.slots.of(key);
        let mut stripe = self.critical.enter(slot);
        self.follow_floors();
        let now = self.clock.monotonic();
        let answer = match stripe.answers.find(op, now) {
            Some(answer) => answer,
            None => {
                // First of all: whatever comes after it and is to hide this change does, or is seen below.
                let tick = self.hybrid.tick();
                let shape = self.shape();
                check(&shape)?;
                let authority = owned()?;
                let before = shape.store.get(slot, key);
                let live = before.as_ref().filter(|entry| !self.is_absent(&shape, entry, now));
                let there = live.map(Stored::version);
                let known = before.as_ref().map(Stored::version);
                let answer = if condition.holds(there) {
                    let change = Change { tick, slot, shape: &shape, authority, now, known, there };
                    apply(change, &mut stripe)
                } else {
                    Answer::PreconditionFailed
                };
                stripe.answers.remember(op, answer, now);
                answer
            }
        };
        drop(stripe);
        Result::from(answer).map_err(E::from)
    }
}

impl Shape {
    /// Whether an entry is one that this group can keep.
    pub(super) fn check(&self, entry: &NewEntry<'_>) -> Result<(), Error> {
        Key::check(entry.key)?;
        Tags::check(entry.tags)?;
        let type_bytes = entry.content_type.len();
        if type_bytes > MAX_CONTENT_TYPE_BYTES {
            let message = format!(
                "the content type is {type_bytes} bytes long, the most is {MAX_CONTENT_TYPE_BYTES}"
            );
            return Err(Error::new(Code::InvalidRequest, message));
        }
        let (name, value_bytes) = (&self.definition.name, entry.value.len() as u64);
        let (most, capacity) = (self.definition.max_value, self.definition.capacity);
        if value_bytes > most {
            let message = format!(
                "the value is {value_bytes} bytes long, group '{name}' takes at most {most} \
                 (its max_value)"
            );
            return Err(Error::new(Code::TooLarge, message));
        }
        let weight = self.definition.eviction.entry_bytes(entry.content_bytes());
        if weight > capacity.min(MAX_WEIGHT) {
            let message = format!(
                "the entry takes {weight} bytes, which is more than group '{name}' can hold (its \
                 capacity is {capacity})"
            );
            return Err(Error::new(Code::TooLarge, message));
        }
        Ok(())
    }
}

/// A change that is about to be applied.
struct Change<'a> {
    /// The clock of its version.
    tick: u64,
    slot: u64,
    shape: &'a Shape,
    authority: Authority,
    now: Duration,
    /// The version of what the slot holds of the key, expired or not.
    known: Option<Version>,
    /// The version of what is there, as anyone may see it.
    there: Option<Version>,
}
