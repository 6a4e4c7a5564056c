//! The fault matrix: what the fleet promises while something breaks, under an open-loop load.
//!
//! Short forms run with every `make test` and assert no times, only what must never happen. Long
//! forms (`make faults`) load the fleet with half of what it can do and assert the promised times.
#![allow(clippy::unwrap_used)]

mod faults {
    // What the rows share, from the load to the judgement.
    mod capacity;
    mod origin;
    mod rings;
    mod row;
    mod run;
    mod scene;
    mod traffic;
    // One file a row.
    mod compacted_etcd;
    mod cut_link;
    mod emptied_etcd;
    mod flapping_node;
    mod full_cache;
    mod killed_etcd;
    mod killed_node;
    mod lonely_node;
    mod many_misses;
    mod near_cache;
    mod revoked_lease;
    mod slow_origin;
    mod stand_ins;
    mod stopped_node;
    mod written_while_loading;
}
