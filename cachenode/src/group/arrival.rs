//! What an origin has brought, and how it becomes an entry.

use std::time::Duration;

use common::entry::Version;

use super::{
    Authority, Before, Group, Item, MAX_CONTENT_TYPE_BYTES, Way, critical::Stripe, shape::Shape,
};
use crate::store::{NewEntry, Stored};

/// A value of an origin, in its key's critical section.
pub(super) struct Arrival<'a> {
    /// Drawn in this section before anything else (see [`Group::version_at`]).
    pub(super) tick: u64,
    pub(super) slot: u64,
    pub(super) key: &'a str,
    pub(super) content_type: &'a str,
    /// As [`common::tags`] keeps them.
    pub(super) tags: &'a str,
    /// By what the origin tells whether it is still true; empty: nothing.
    pub(super) validator: &'a str,
    pub(super) value: &'a [u8],
    /// How long it stays true; `None`: as long as the group says; zero: it is not kept.
    pub(super) ttl: Option<Duration>,
    /// The version of what the slot holds, or has just held, of the key.
    pub(super) known: Option<Version>,
    /// Whether the slot holds an entry of the key.
    pub(super) replaces: bool,
    /// What there was of the key when the origin was asked.
    pub(super) before: Before,
    pub(super) authority: Authority,
    /// Whether it may be stored, and not only answered to those who waited.
    pub(super) may_stay: bool,
    pub(super) now: Duration,
}

/// What of an entry that can't be kept is answered: the rest has lengths that an entry may not be able to
/// note.
fn to_answer(entry: NewEntry<'_>) -> NewEntry<'_> {
    let is_long = entry.content_type.len() > MAX_CONTENT_TYPE_BYTES;
    let content_type = if is_long { "" } else { entry.content_type };
    NewEntry { key: "", content_type, tags: "", validator: "", ..entry }
}

impl Group {
    /// Stores what arrived, if it may stay. Readers get it in any case.
    pub(super) fn arrived(
        &self,
        stripe: &mut Stripe,
        shape: &Shape,
        arrival: &Arrival<'_>,
    ) -> Item {
        let Arrival { tick, slot, key, authority, ttl, now, .. } = *arrival;
        let is_kept = ttl.is_none_or(|ttl| !ttl.is_zero());
        let version = self.version_at(tick, stripe, slot, authority, arrival.known, now);
        let entry = NewEntry {
            key,
            content_type: arrival.content_type,
            tags: arrival.tags,
            validator: arrival.validator,
            value: arrival.value,
            version,
            stored: now,
            expires: if is_kept {
                shape.expires(ttl, authority, now, &self.chance)
            } else {
                Some(now)
            },
            is_stand_in: authority.is_stand_in(),
            now,
        };
        // The operator chose the origin's values: one that is too large to keep is still answered.
        let fits = shape.check(&entry).is_ok();
        let entry = Stored::new(&if fits { entry } else { to_answer(entry) });
        let is_stored = is_kept && fits && arrival.may_stay;
        if is_stored {
            self.keep(shape, slot, &entry, arrival.replaces);
        } else if arrival.may_stay && arrival.replaces {
            // What is answered now is newer: nobody is to find the other after it.
            shape.store.remove_if(slot, &|held| held.is_of(key));
        }
        if arrival.may_stay {
            // A read waits for nobody; the next write waits for these too.
            stripe.loans.call_back(self, key, version, now);
        }
        let way = Way::Loaded { before: arrival.before, is_stored };
        Item { way, ..Item::new(entry, now) }
    }

    /// Lets an entry live on, of which its origin says that it is still true. It keeps its version:
    /// whoever holds it holds the right one.
    pub(super) fn renewed(
        &self,
        shape: &Shape,
        entry: Stored,
        ttl: Option<Duration>,
        authority: Authority,
        now: Duration,
    ) -> Item {
        entry.renew(shape.expires(ttl, authority, now, &self.chance), now);
        self.expect_expiry(shape.over_at(&entry));
        let way = Way::Loaded { before: Before::Renewed, is_stored: true };
        Item { way, ..Item::new(entry, now) }
    }
}
