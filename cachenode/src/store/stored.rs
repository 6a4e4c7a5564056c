//! One entry in one allocation: what is known about it, its key, content type, tags, validator and
//! value.
//!
//! Times are milliseconds of the injected monotonic clock. The value leaves as `Bytes` that keep
//! the allocation alive, so it is copied once, when it is stored.

use std::{
    fmt, iter,
    sync::atomic::{AtomicU8, AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use common::entry::Version;
use triomphe::{Arc, ThinArc};

/// Bytes before an entry's key in its allocation: the header, the reference count and the length.
const HEAD_BYTES: u64 = 64;

/// The least that is allocated, and the step between the sizes of small allocations.
const STEP: u64 = 16;

/// The block that is allocated for an entry whose key, content type, tags and value take so many
/// bytes together.
///
/// Allocators keep blocks of some sizes only: four between a power of two and the next. What is
/// asked for is rounded up, by a tenth on average, and that is memory too.
pub(super) fn block_bytes(content: u64) -> u64 {
    let asked = HEAD_BYTES + content;
    let step = (asked.next_power_of_two() / 8).max(STEP);
    asked.next_multiple_of(step)
}

/// What a value without a content type is. Kept as "none", so that it costs nothing.
pub const DEFAULT_CONTENT_TYPE: &str = "application/octet-stream";

/// The longest validator that is kept, in bytes.
pub(crate) const MAX_VALIDATOR_BYTES: usize = 255;

/// `expires_ms` of an entry that never does.
const NEVER: u64 = u64::MAX;

struct Header {
    version: Version,
    stored_ms: AtomicU64,
    expires_ms: AtomicU64,
    accessed_ms: AtomicU64,
    key_bytes: u16,
    type_bytes: u16,
    /// This and the next are in what alignment leaves free: an entry without them takes no byte more.
    tags_bytes: u16,
    validator_bytes: u8,
    /// [`STAND_IN`] and [`LAST`].
    marks: AtomicU8,
}

/// The mark of an entry that was made in the stead of an owner that could not be reached.
const STAND_IN: u8 = 1;
/// The mark of an entry that its origin does not have any more.
const LAST: u8 = 2;

/// What an entry is made of. Key, content type and tags fit `u16` lengths; the group sees to that.
#[derive(Default)]
pub(crate) struct NewEntry<'a> {
    pub(crate) key: &'a str,
    pub(crate) content_type: &'a str,
    /// A list as [`common::tags`] keeps it.
    pub(crate) tags: &'a str,
    /// By what its origin tells whether the value is still true; empty: nothing. One that is longer than
    /// [`MAX_VALIDATOR_BYTES`] is not kept.
    pub(crate) validator: &'a str,
    pub(crate) value: &'a [u8],
    pub(crate) version: Version,
    /// When it was stored; before `now` when it was stored elsewhere first.
    pub(crate) stored: Duration,
    /// When it expires; `None`: never.
    pub(crate) expires: Option<Duration>,
    /// Whether it was made in the stead of an owner that could not be reached.
    pub(crate) is_stand_in: bool,
    pub(crate) now: Duration,
}

impl NewEntry<'_> {
    /// Bytes of key, content type, tags, validator and value as they are kept.
    pub(crate) fn content_bytes(&self) -> u64 {
        let names = self.key.len() + kept(self.content_type).len();
        let words = self.tags.len() + self.validator().len();
        (names + words + self.value.len()) as u64
    }

    fn validator(&self) -> &str {
        if self.validator.len() > MAX_VALIDATOR_BYTES { "" } else { self.validator }
    }
}

fn kept(content_type: &str) -> &str {
    if content_type == DEFAULT_CONTENT_TYPE { "" } else { content_type }
}

fn millis(time: Duration) -> u64 {
    // A hit asks for it several times: not by way of 128 bits.
    time.as_secs().saturating_mul(1000).saturating_add(time.subsec_millis().into())
}

/// The times of an entry as they were at one moment, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    now_ms: u64,
    stored_ms: u64,
    expires_ms: u64,
}

impl Times {
    /// Time since it was stored.
    pub fn age(&self) -> Duration {
        Duration::from_millis(self.now_ms.saturating_sub(self.stored_ms))
    }

    /// Time until it expires; `None`: it never does.
    pub fn ttl_left(&self) -> Option<Duration> {
        let left = || Duration::from_millis(self.expires_ms.saturating_sub(self.now_ms));
        (self.expires_ms != NEVER).then(left)
    }

    /// For how long its time to live has been over; zero where it is not.
    pub fn over_for(&self) -> Duration {
        Duration::from_millis(self.now_ms.saturating_sub(self.expires_ms))
    }
}

/// A stored entry. Clones share it.
#[derive(Clone)]
pub struct Stored(ThinArc<Header, u8>);

impl Stored {
    pub(crate) fn new(entry: &NewEntry<'_>) -> Self {
        let words = [entry.key, kept(entry.content_type), entry.tags, entry.validator()];
        let [key, content_type, tags, validator] = words.map(str::as_bytes);
        let parts = [key, content_type, tags, validator, entry.value];
        debug_assert!([key, content_type, tags].iter().all(|it| u16::try_from(it.len()).is_ok()));
        let header = Header {
            version: entry.version,
            stored_ms: AtomicU64::new(millis(entry.stored)),
            expires_ms: AtomicU64::new(entry.expires.map_or(NEVER, millis)),
            accessed_ms: AtomicU64::new(millis(entry.now)),
            key_bytes: key.len() as u16,
            type_bytes: content_type.len() as u16,
            tags_bytes: tags.len() as u16,
            validator_bytes: validator.len() as u8,
            marks: AtomicU8::new(if entry.is_stand_in { STAND_IN } else { 0 }),
        };
        // Zeros first and then copies in place: safe code for one allocation. Chaining the
        // parts into an iterator is five times slower, joining them first doubles the traffic.
        let bytes = parts.iter().map(|part| part.len()).sum();
        let mut thin = ThinArc::from_header_and_iter(header, iter::repeat_n(0, bytes));
        thin.with_arc_mut(|arc| {
            let whole = Arc::get_mut(arc).expect("made above, nobody else holds it");
            let mut rest = whole.slice_mut();
            for part in parts {
                let (here, after) = rest.split_at_mut(part.len());
                here.copy_from_slice(part);
                rest = after;
            }
        });
        Self(thin)
    }

    fn header(&self) -> &Header {
        &self.0.header.header
    }

    fn type_start(&self) -> usize {
        usize::from(self.header().key_bytes)
    }

    fn tags_start(&self) -> usize {
        self.type_start() + usize::from(self.header().type_bytes)
    }

    fn validator_start(&self) -> usize {
        self.tags_start() + usize::from(self.header().tags_bytes)
    }

    fn value_start(&self) -> usize {
        self.validator_start() + usize::from(self.header().validator_bytes)
    }

    fn stored_ms(&self) -> u64 {
        self.header().stored_ms.load(Ordering::Relaxed)
    }

    fn expires_ms(&self) -> u64 {
        self.header().expires_ms.load(Ordering::Relaxed)
    }

    /// Whose entry it is.
    pub(crate) fn key(&self) -> &str {
        // It was a &str when it was put together.
        std::str::from_utf8(&self.0.slice[..self.type_start()]).unwrap_or_default()
    }

    /// Whether it is this key's.
    pub(crate) fn is_of(&self, key: &str) -> bool {
        self.0.slice[..self.type_start()] == *key.as_bytes()
    }

    /// The value, sharing the entry's memory.
    pub fn value(&self) -> Bytes {
        Bytes::from_owner(Value(self.clone()))
    }

    /// The value's length in bytes.
    pub fn value_len(&self) -> usize {
        self.0.slice.len() - self.value_start()
    }

    /// The content type; empty: [`DEFAULT_CONTENT_TYPE`].
    pub fn content_type(&self) -> &str {
        let bytes = &self.0.slice[self.type_start()..self.tags_start()];
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// Its tags, as [`common::tags`] keeps them; empty: none.
    pub fn tags(&self) -> &str {
        let bytes = &self.0.slice[self.tags_start()..self.validator_start()];
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// By what its origin tells whether the value is still true; empty: nothing.
    pub(crate) fn validator(&self) -> &str {
        let bytes = &self.0.slice[self.validator_start()..self.value_start()];
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// Which write made it.
    pub fn version(&self) -> Version {
        self.header().version
    }

    /// Whether it was made in the stead of an owner that could not be reached.
    pub(crate) fn is_stand_in(&self) -> bool {
        self.header().marks.load(Ordering::Relaxed) & STAND_IN != 0
    }

    /// Whether its origin had no such value any more when it was asked last.
    pub(crate) fn is_last(&self) -> bool {
        self.header().marks.load(Ordering::Relaxed) & LAST != 0
    }

    /// Its origin has no such value any more: it is of no use once its time is over.
    pub(crate) fn mark_last(&self) {
        self.header().marks.fetch_or(LAST, Ordering::Relaxed);
    }

    /// Its times as of `now`.
    pub fn times(&self, now: Duration) -> Times {
        Times { now_ms: millis(now), stored_ms: self.stored_ms(), expires_ms: self.expires_ms() }
    }

    /// The same where it also ends for not being used for `idle` (zero: off).
    pub(crate) fn unused_times(&self, now: Duration, idle: Duration) -> Times {
        Times { expires_ms: self.expires_at(idle).unwrap_or(NEVER), ..self.times(now) }
    }

    /// When it expires unless it is accessed; `None`: never. An `idle` of zero is none.
    pub(crate) fn expires_at(&self, idle: Duration) -> Option<u64> {
        let header = self.header();
        let unused_ms = match millis(idle) {
            0 => NEVER,
            idle_ms => header.accessed_ms.load(Ordering::Relaxed).saturating_add(idle_ms),
        };
        Some(self.expires_ms().min(unused_ms)).filter(|at| *at != NEVER)
    }

    /// Whether it is over, by its time to live or for not being used for `idle` (zero: off).
    pub(crate) fn is_expired(&self, now: Duration, idle: Duration) -> bool {
        self.expires_at(idle).is_some_and(|at| millis(now) >= at)
    }

    /// Its origin has said that it is still true: it is as if it had been stored `now`. The value stays
    /// where it is, and keeps its version.
    pub(crate) fn renew(&self, expires: Option<Duration>, now: Duration) {
        let header = self.header();
        header.stored_ms.store(millis(now), Ordering::Relaxed);
        header.expires_ms.store(expires.map_or(NEVER, millis), Ordering::Relaxed);
        header.marks.fetch_and(!LAST, Ordering::Relaxed);
        self.touch(now);
    }

    /// Notes an access, for `idle`.
    pub(crate) fn touch(&self, now: Duration) {
        self.header().accessed_ms.fetch_max(millis(now), Ordering::Relaxed);
    }

    /// Bytes of key, content type, tags, validator and value.
    pub(super) fn content_bytes(&self) -> u64 {
        self.0.slice.len() as u64
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored")
            .field("version", &self.version())
            .field("content_type", &self.content_type())
            .field("value_len", &self.value_len())
            .finish_non_exhaustive()
    }
}

struct Value(Stored);

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        &self.0.0.slice[self.0.value_start()..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(content_type: &str, value: &[u8]) -> Stored {
        Stored::new(&NewEntry {
            key: "Tom",
            content_type,
            value,
            version: Version { as_of: 3, clock: 9 },
            stored: Duration::from_secs(5),
            expires: Some(Duration::from_secs(8)),
            now: Duration::from_secs(6),
            ..NewEntry::default()
        })
    }

    #[test]
    fn an_entry_gives_back_its_parts_without_copying() {
        let stored = entry("text/plain", b"630");
        assert!(stored.is_of("Tom") && !stored.is_of("To") && !stored.is_of("Tomt"));
        assert_eq!((stored.content_type(), stored.value_len()), ("text/plain", 3));
        assert_eq!(stored.value(), "630");
        assert_eq!(stored.value().as_ptr(), stored.value().as_ptr());
        assert_eq!(stored.version(), Version { as_of: 3, clock: 9 });
        assert_eq!(stored.content_bytes(), 3 + 10 + 3);
        let value = stored.value();
        drop(stored);
        assert_eq!(value, "630");
    }

    #[test]
    fn the_default_content_type_costs_nothing() {
        let stored = entry(DEFAULT_CONTENT_TYPE, b"");
        assert_eq!((stored.content_type(), stored.value_len()), ("", 0));
        assert_eq!(stored.content_bytes(), 3);
    }

    #[test]
    fn tags_lie_in_the_entry_and_cost_nothing_where_there_are_none() {
        let entry = NewEntry {
            key: "Tom",
            content_type: "text/plain",
            tags: "a,b",
            validator: "v1",
            value: b"630",
            ..NewEntry::default()
        };
        let stored = Stored::new(&entry);
        assert_eq!((stored.content_type(), stored.tags()), ("text/plain", "a,b"));
        assert_eq!((stored.validator(), stored.value_len()), ("v1", 3));
        assert_eq!(stored.value(), "630");
        assert_eq!((stored.content_bytes(), entry.content_bytes()), (21, 21));
    }

    #[test]
    fn a_validator_lies_in_the_entry_and_costs_nothing_where_there_is_none() {
        let long = "x".repeat(MAX_VALIDATOR_BYTES + 1);
        for (validator, kept) in [("\"v1\"", 4), ("", 0), (&long, 0), (&long[1..], 255)] {
            let entry = NewEntry { key: "Tom", validator, value: b"630", ..NewEntry::default() };
            let stored = Stored::new(&entry);
            assert_eq!(stored.validator().len(), kept);
            assert_eq!((stored.content_type(), stored.value()), ("", "630".into()));
            assert_eq!(stored.content_bytes(), 6 + kept as u64);
            assert_eq!(entry.content_bytes(), stored.content_bytes());
        }
        // Of the head the allocation keeps a count and a length itself.
        assert_eq!(size_of::<Header>() as u64 + 16, HEAD_BYTES);
    }

    #[test]
    fn a_renewed_entry_is_as_if_it_had_just_been_stored() {
        let at = Duration::from_secs;
        let stored = entry("", b"x");
        let held = stored.clone();
        stored.renew(Some(at(20)), at(9));
        assert_eq!(
            (held.times(at(10)).age(), held.times(at(10)).ttl_left()),
            (at(1), Some(at(10)))
        );
        assert!(!held.is_expired(at(10), at(2)), "it counts as used");
        assert_eq!(held.version(), Version { as_of: 3, clock: 9 });
        stored.renew(None, at(9));
        assert_eq!(held.times(at(10)).ttl_left(), None);
    }

    #[test]
    fn blocks_have_four_sizes_between_powers_of_two() {
        for (content, block) in
            [(0, 64), (1, 80), (64, 128), (65, 160), (1044, 1280), (1216, 1280), (1217, 1536)]
        {
            assert_eq!(block_bytes(content), block, "{content}");
        }
    }

    #[test]
    fn an_entry_ends_by_age_or_for_want_of_use() {
        let at = Duration::from_secs;
        let stored = entry("", b"x");
        let times = stored.times(at(6));
        assert_eq!((times.age(), times.ttl_left()), (at(1), Some(at(2))));
        assert!(!stored.is_expired(at(7), Duration::ZERO));
        assert!(stored.is_expired(at(8), Duration::ZERO));
        assert!(stored.is_expired(at(7), at(1)));
        stored.touch(at(7));
        assert!(!stored.is_expired(at(7), at(1)));
    }
}
