//! Ejections and probes, by a clock that the test moves.

use super::*;
use crate::clock::ManualClock;

fn table() -> (HealthTable, ManualClock) {
    let clock = ManualClock::new();
    (HealthTable::new(Arc::new(clock.clone())), clock)
}

fn member_of(id: &str) -> NodeRecord {
    NodeRecord::new(id.parse().expect("an id"), Uuid::nil(), id)
}

fn node(table: &HealthTable, id: &str) -> Arc<NodeHealth> {
    table.of(&member_of(id))
}

#[test]
fn a_restarted_node_begins_with_a_clean_record() {
    let (table, _clock) = table();
    assert!(eject(&table, &node(&table, "a")));
    let restarted = NodeRecord { instance: Uuid::from_u128(1), ..member_of("a") };
    assert!(table.of(&restarted).callable());
}

#[test]
fn three_failures_in_a_row_eject_and_a_probe_brings_back() {
    let (table, clock) = table();
    let a = node(&table, "a");
    assert!(!table.failed(&a, 3, "refused", Instant::now()));
    assert!(!table.failed(&a, 3, "refused", Instant::now()));
    a.succeeded();
    assert!(!table.failed(&a, 3, "refused", Instant::now()));
    assert!(!table.failed(&a, 3, "refused", Instant::now()));
    assert!(table.failed(&a, 3, "refused", Instant::now()));
    assert!(!a.callable());
    assert!(!table.probe_due(&a));
    clock.advance(Duration::from_secs(2));
    assert!(table.probe_due(&a));
    assert_eq!(table.probed(&a, Duration::from_millis(2)), Some(Duration::from_secs(2)));
    assert!(a.callable());
    assert_eq!((table.ejected(), table.ejections()), (0, 1));
}

#[test]
fn an_ejection_tells_since_when_why_and_when_it_may_end() {
    let (table, clock) = table();
    let [a, b] = ["a", "b"].map(|id| node(&table, id));
    assert_eq!(table.ejection(&a), None);
    let began = clock.unix().as_millis() as u64;
    assert!(eject(&table, &a) && !eject(&table, &b));
    clock.advance(Duration::from_secs(12));
    table.probe_failed(&a);
    let ejection = table.ejection(&a).expect("it is ejected");
    assert_eq!((ejection.since_unix_ms, ejection.why.as_str()), (began, "refused"));
    let wait = ejection.next_probe_unix_ms - clock.unix().as_millis() as u64;
    assert!((1_750..=2_250).contains(&wait), "{wait} ms");
    assert_eq!(table.ejected_nodes(), [("a".parse().expect("an id"), ejection)]);
    assert_eq!(table.probed(&a, Duration::from_millis(1)), Some(Duration::from_secs(12)));
    assert_eq!((table.ejection(&a), table.ejected_nodes().len()), (None, 0));
}

#[test]
fn an_ejection_grows_while_probes_fail() {
    let (table, clock) = table();
    let a = node(&table, "a");
    (0..3).for_each(|_| {
        table.failed(&a, 3, "refused", Instant::now());
    });
    clock.advance(Duration::from_secs(2));
    table.probe_failed(&a);
    clock.advance(Duration::from_secs(1));
    assert!(!table.probe_due(&a), "the second one lasts longer");
    clock.advance(Duration::from_secs(2));
    assert!(table.probe_due(&a));
    (0..20).for_each(|_| table.probe_failed(&a));
    clock.advance(Duration::from_secs(34));
    assert!(table.probe_due(&a), "never longer than 30 s and its jitter");
}

#[test]
fn calls_that_fail_together_count_as_one() {
    let (table, _clock) = table();
    let a = node(&table, "a");
    let together = Instant::now() - APART * 5;
    (0..100).for_each(|_| {
        table.failed(&a, 3, "no answer in time", together);
    });
    assert!(a.callable());
    assert!(!table.failed(&a, 3, "no answer in time", together + APART / 2));
    assert!(!table.failed(&a, 3, "no answer in time", together + APART));
    assert!(table.failed(&a, 3, "no answer in time", together + APART * 2));
}

#[test]
fn never_more_than_half_are_ejected() {
    let (table, _clock) = table();
    for (id, expected) in [("a", true), ("b", false), ("c", false)] {
        let node = node(&table, id);
        (0..9).for_each(|_| {
            table.failed(&node, 3, "refused", Instant::now());
        });
        assert_eq!(!node.callable(), expected, "{id}");
    }
}

fn eject(table: &HealthTable, node: &NodeHealth) -> bool {
    (0..FAILURES_TO_EJECT).any(|_| table.failed(node, 2, "refused", Instant::now()))
}

#[test]
fn calls_that_fail_after_a_node_has_left_cost_the_others_nothing() {
    let (table, _clock) = table();
    let (gone, member) = (node(&table, "gone"), node(&table, "member"));
    (0..2).for_each(|_| table.retain(&[member_of("member")]));
    assert!(eject(&table, &gone), "a request that still holds the old topology");
    assert_eq!(table.ejected(), 0);
    assert!(eject(&table, &member), "one of two may be ejected");
    assert_eq!(table.ejected(), 1);
    assert!(table.probed(&gone, Duration::from_millis(1)).is_some());
    assert_eq!(table.ejected(), 1);
}

#[test]
fn an_ejected_node_that_leaves_makes_room_and_comes_back_well() {
    let (table, _clock) = table();
    let (gone, member) = (node(&table, "gone"), node(&table, "member"));
    assert!(eject(&table, &gone) && !eject(&table, &member));
    table.retain(&[member_of("member")]);
    assert!(table.failed(&member, 2, "refused", Instant::now()));
    table.retain(&[member_of("member")]);
    assert!(node(&table, "gone").callable());
}

#[test]
fn a_member_that_one_look_missed_keeps_its_record() {
    let (table, _clock) = table();
    let fresh = node(&table, "fresh");
    table.retain(&[]);
    table.retain(&[member_of("fresh")]);
    table.retain(&[]);
    assert!(Arc::ptr_eq(&fresh, &node(&table, "fresh")));
}
