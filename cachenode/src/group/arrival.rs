//! What an origin has brought, and how it becomes an entry.

use std::time::Duration;

use common::entry::Version;

use super::{Authority, Group, Item, critical::Stripe, shape::Shape};
use crate::store::{NewEntry, Stored};

/// A value of an origin, in its key's critical section.
pub(super) struct Arrival<'a> {
    pub(super) slot: u64,
    pub(super) key: &'a str,
    pub(super) content_type: &'a str,
    pub(super) value: &'a [u8],
    /// How long it stays true; `None`: as long as the group says; zero: it is not kept.
    pub(super) ttl: Option<Duration>,
    /// The version of what the slot holds, or has just held, of the key.
    pub(super) known: Option<Version>,
    /// Whether the slot holds an entry of the key.
    pub(super) replaces: bool,
    pub(super) authority: Authority,
    /// Whether it may be stored, and not only answered to those who waited.
    pub(super) may_stay: bool,
    pub(super) now: Duration,
}

impl Group {
    /// Stores what arrived, if it may stay. Readers get it in any case.
    pub(super) fn arrived(
        &self,
        stripe: &mut Stripe,
        shape: &Shape,
        arrival: &Arrival<'_>,
    ) -> Item {
        let Arrival { slot, key, authority, ttl, now, .. } = *arrival;
        let is_kept = ttl.is_none_or(|ttl| !ttl.is_zero());
        let version = self.next_version(stripe, slot, authority, arrival.known, now);
        let entry = NewEntry {
            key,
            content_type: arrival.content_type,
            value: arrival.value,
            version,
            stored: now,
            expires: if is_kept { shape.expires(ttl, authority, now) } else { Some(now) },
            is_stand_in: authority.is_stand_in(),
            now,
        };
        // The operator chose the origin's values: one that is too large to keep is still answered.
        let fits = shape.check(&entry).is_ok();
        let entry = Stored::new(&entry);
        if is_kept && fits && arrival.may_stay {
            self.keep(shape, slot, &entry, arrival.replaces);
            // A read waits for nobody; the next write waits for these too.
            stripe.loans.call_back(self, key, version, now);
        }
        Item::new(entry, now)
    }
}
