//! Entries that count no more though nobody deleted them: their keys were lost, hinted at, or the
//! node was out of the cluster.

use common::discovery::{
    DEFAULT_LEASE_TTL, Discovery, GrpcProber, MemoryRegistry, NodeRecord, WantedRing,
};

use super::*;

#[test]
fn entries_of_other_nodes_keys_are_given_up() {
    let bench = bench(|_| ());
    for key in 0..100 {
        bench.set(&format!("key-{key}"), "v");
    }
    assert!(bench.group.ring_changed(|key| key.ends_with('7')));
    assert_eq!(bench.value("key-18"), None, "at once");
    assert_eq!(bench.value("key-17").as_deref(), Some("v"));
    assert_eq!(bench.group.give_up(), 89, "one is gone since it was read");
    assert_eq!(bench.value("key-17").as_deref(), Some("v"));
    assert_eq!(bench.group.give_up(), 0);
}

#[test]
fn a_key_that_was_lost_and_got_back_at_once_is_absent_until_it_is_written_again() {
    let bench = bench(|_| ());
    bench.set("k", "old");
    assert!(bench.group.ring_changed(|_| false));
    assert!(bench.group.ring_changed(|_| true));
    assert_eq!(bench.value("k"), None, "somebody may have written it in between");
    assert!(bench.set("k", "new").created);
    assert_eq!(bench.group.give_up(), 0, "the walk for the first change takes nothing newer");
    assert_eq!(bench.value("k").as_deref(), Some("new"));
}

#[test]
fn more_changes_than_can_be_remembered_drop_everything() {
    let bench = bench(|_| ());
    bench.set("k", "old");
    let changes = (0..).take_while(|_| bench.group.ring_changed(|_| true)).count();
    assert!((1..100).contains(&changes), "{changes}");
    assert_eq!(bench.value("k"), None);
    bench.set("k", "new");
    assert_eq!(bench.value("k").as_deref(), Some("new"));
}

#[test]
fn what_was_dropped_is_absent_for_everybody_and_swept_and_what_comes_after_is_there() {
    let bench = bench(|_| ());
    for key in ["a", "b", "c"] {
        bench.set(key, "old");
    }
    bench.group.maintain();
    assert_eq!(bench.group.drop_everything(), 3);
    assert_eq!(bench.value("a"), None);
    let add = Condition { if_absent: true, ..Condition::default() };
    let added = Write { condition: add, ..write("a", "new") };
    assert!(bench.group.set(&added, owner).unwrap().created);
    assert_eq!(code(bench.delete("b")), Code::NotFound);
    assert_eq!(bench.value("a").as_deref(), Some("new"));
    bench.clock.advance(SWEEP_EVERY);
    bench.group.maintain();
    assert_eq!(bench.group.stats().entries, 1);
}

#[test]
fn only_what_was_stored_as_a_stand_in_is_dropped_with_the_stand_ins() {
    let bench = bench(|_| ());
    let stand_in = || Ok::<_, Error>(Authority::stand_in(1));
    for key in ["one", "all"] {
        bench.group.set(&write(key, "v"), stand_in).unwrap();
    }
    bench.set("own", "v");
    bench.group.drop_stand_in("one");
    bench.group.drop_stand_in("own");
    assert_eq!((bench.value("one"), bench.value("own").as_deref()), (None, Some("v")));
    assert!(bench.value("all").is_some());
    bench.group.drop_stand_ins();
    assert_eq!((bench.value("all"), bench.value("own").as_deref()), (None, Some("v")));
    bench.group.set(&write("all", "again"), stand_in).unwrap();
    assert_eq!(bench.value("all").as_deref(), Some("again"));
}

#[test]
fn a_hint_takes_the_entry_and_lets_nothing_older_back() {
    let bench = bench(|_| ());
    let before = bench.set("k", "old").version;
    assert!(bench.group.forget("k", 1));
    assert_eq!(bench.value("k"), None);
    assert!(!bench.copy("k", "old", before), "a copy of what was there");
    assert!(!bench.group.forget("k", 1));
    assert!(bench.set("k", "new").version > before);
}

#[tokio::test]
async fn what_was_stored_before_the_node_was_out_of_the_cluster_is_absent() {
    let bench = bench(|_| ());
    let registry = MemoryRegistry::new(Arc::new(bench.clock.clone()), DEFAULT_LEASE_TTL);
    let discovery = registry.join(&WantedRing::default(), Arc::new(GrpcProber));
    let record = NodeRecord::new("n1".parse().unwrap(), Uuid::from_u128(1), "127.0.0.1:1");
    let registration = discovery.register(record.clone());
    let stint = registration.stint();
    bench.group.follow_stint(registration.stint());
    discovery
        .views()
        .wait_for(|view| view.as_ref().is_some_and(|it| !it.members.is_empty()))
        .await
        .unwrap();
    bench.set("k", "old");
    assert_eq!(bench.value("k").as_deref(), Some("old"), "in its first stint all counts");
    registry.expire_lease(&record.id);
    let began_again = async {
        while [0, u64::MAX].contains(&stint.began_at()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(20 * SECOND, began_again).await.unwrap();
    assert_eq!(bench.value("k"), None);
    let now = || Ok::<_, Error>(Authority::owner(stint.began_at()));
    assert!(bench.group.set(&write("k", "new"), now).unwrap().created);
    assert_eq!(bench.value("k").as_deref(), Some("new"));
    // After a wipe revisions are small again, and what is written by them has to be seen.
    let another_life = || Ok::<_, Error>(Authority::owner(1));
    bench.group.set(&write("later", "v"), another_life).unwrap();
    assert_eq!(bench.value("later").as_deref(), Some("v"));
}
