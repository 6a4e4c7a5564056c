//! What a group holds of what it is sent: a copy of the value, no more.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use bytes::Bytes;
use cachenode::{
    group::{Authority, Copied, Definition, Group, Write},
    store::Eviction,
};
use common::{
    clock::{Clock, ManualClock},
    entry::{HybridClock, Version},
    error::Error,
    key::GroupName,
};

#[test]
fn what_is_stored_does_not_keep_the_frame_it_came_in() {
    for eviction in [Eviction::Lru, Eviction::TinyLfu] {
        let name = GroupName::new("held").unwrap();
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
        let definition = Definition { eviction, ..Definition::new(name) };
        let group = Group::new(definition, clock.clone(), HybridClock::new(clock));
        let frame = Bytes::from(vec![7; 256 << 10]);
        let value = frame.slice(1000..1100);
        let owner = || Ok::<_, Error>(Authority::owner(1));
        let stand_in = || Ok::<_, Error>(Authority::stand_in(1));
        group.set(&Write { key: "set", value: &value, ..Write::default() }, owner).unwrap();
        group.set(&Write { key: "stood in", value: &value, ..Write::default() }, stand_in).unwrap();
        let version = Version { as_of: 1, clock: 5 };
        let copied = Copied { key: "copied", value: &value, version, ..Copied::default() };
        assert!(group.apply(&copied));
        drop(value);
        assert!(frame.is_unique(), "an entry holds a part of the frame");
        group.maintain();
        let entry = |key: &str| eviction.entry_bytes(100 + key.len() as u64);
        let used = entry("set") + entry("stood in") + entry("copied");
        assert_eq!(group.stats().used_bytes, used, "{eviction:?}");
    }
}
