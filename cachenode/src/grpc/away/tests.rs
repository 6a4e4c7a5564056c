//! What is kept for an owner that others can't reach, until it is told.

use super::*;

fn owner(life: u128) -> NodeRecord {
    NodeRecord::new("o".parse().unwrap(), Uuid::from_u128(life), "127.0.0.1:1")
}

fn away() -> Arc<Away> {
    Away::new(NodeMetrics::default())
}

fn write(away: &Arc<Away>, owner: &NodeRecord, key: &str) {
    let claim = away.claim(owner, "g", key).unwrap();
    away.hold(owner, "g", key);
    claim.keep();
}

fn wanted(away: &Away, owner: &NodeRecord) -> Vec<String> {
    away.wanted(&owner.id).keys.into_iter().map(|it| it.key).collect()
}

#[test]
fn who_asks_hears_of_writes_that_are_only_under_way() {
    let (away, o) = (away(), owner(1));
    let claim = away.claim(&o, "g", "k").unwrap();
    assert_eq!(wanted(&away, &o), ["k"]);
    assert!(away.due(&o, u64::MAX).is_none(), "nothing has happened yet");
    drop(claim);
    assert!(wanted(&away, &o).is_empty(), "and nothing will");
}

#[test]
fn what_was_taken_from_an_answer_is_not_delivered_again() {
    let (away, o) = (away(), owner(1));
    write(&away, &o, "k");
    let claim = away.claim(&o, "g", "under way").unwrap();
    let number = away.wanted(&o.id).number;
    claim.keep();
    away.taken(&o.id, o.instance, number);
    assert_eq!(wanted(&away, &o), ["under way"], "it was no hint yet");
}

#[test]
fn a_key_that_is_written_again_while_its_hint_is_delivered_keeps_one() {
    let (away, o) = (away(), owner(1));
    write(&away, &o, "k");
    let due = away.due(&o, u64::MAX).unwrap();
    write(&away, &o, "k");
    away.delivered(&o.id, &due);
    let due = away.due(&o, u64::MAX).expect("the second write's");
    away.delivered(&o.id, &due);
    assert!(away.due(&o, u64::MAX).is_none() && away.waiting().is_empty());
}

#[test]
fn more_keys_than_there_is_room_for_become_everything() {
    let (away, o) = (away(), owner(1));
    for key in 0..MAX_HINTS {
        write(&away, &o, &key.to_string());
    }
    assert!(!away.wanted(&o.id).everything);
    write(&away, &o, "one more");
    let due = away.due(&o, u64::MAX).unwrap();
    assert!(due.to_wire().everything && due.to_wire().keys.is_empty());
    write(&away, &o, "meanwhile");
    away.delivered(&o.id, &due);
    let due = away.due(&o, u64::MAX).expect("what was written since");
    assert!(due.to_wire().everything);
    away.delivered(&o.id, &due);
    assert!(away.due(&o, u64::MAX).is_none());
    let held = away.heard_of(&o.id);
    assert!(held.overflows && held.names.len() == MAX_HINTS);
    assert_eq!(away.heard_of(&o.id), Held::default(), "once");
}

#[test]
fn writes_under_way_are_bounded() {
    let (away, o) = (away(), owner(1));
    let claim = |key: usize| away.claim(&o, "g", &key.to_string());
    let claims: Vec<_> = (0..MAX_CLAIMS).map(|key| claim(key).unwrap()).collect();
    assert!(claim(MAX_CLAIMS).is_err());
    drop(claims);
    assert!(claim(MAX_CLAIMS).is_ok());
}

#[test]
fn another_life_of_an_owner_hears_of_the_hints_for_the_former() {
    let (away, o, reborn) = (away(), owner(1), owner(2));
    write(&away, &o, "k");
    let under_way = away.claim(&o, "g", "under way").unwrap();
    assert!(away.knew_another(&reborn) && !away.knew_another(&o));
    // It may have begun before those writes.
    let held = away.retain(std::slice::from_ref(&reborn));
    assert!(!away.knew_another(&reborn));
    let names: Vec<_> = held.into_iter().flat_map(|held| held.names).collect();
    assert_eq!(names, [("g".to_owned(), "k".to_owned())], "what is held is older than what it has");
    under_way.keep();
    let mut all = wanted(&away, &reborn);
    all.sort();
    assert_eq!(all, ["k", "under way"]);
    let due = away.due(&reborn, u64::MAX).expect("its hints");
    away.delivered(&o.id, &due);
    assert!(away.waiting().is_empty());
    write(&away, &reborn, "x");
    let held = away.retain(&[]);
    assert_eq!(held[0].names, [("g".to_owned(), "x".to_owned())]);
    assert!(away.waiting().is_empty());
    assert_eq!(away.metrics.hints_dropped.get(), 1, "it is no member any more");
}

#[test]
fn who_waits_for_a_write_hears_when_its_own_hint_or_a_later_of_its_key_is_taken() {
    let (away, o) = (away(), owner(1));
    let kept = |key: &str| away.claim(&o, "g", key).unwrap().keep_and_hear();
    let mut first = kept("k");
    let due = away.due(&o, u64::MAX).unwrap();
    let (mut second, mut other) = (kept("k"), kept("other"));
    away.delivered(&o.id, &due);
    assert!(first.taken.try_recv().is_ok(), "although the key has another hint by now");
    assert!(second.taken.try_recv().is_err());
    let due = away.due_of(&o, &second.name).unwrap();
    away.delivered(&o.id, &due);
    assert!(second.taken.try_recv().is_ok());
    assert!(matches!(other.taken.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
    let _ = away.retain(&[]);
    assert_eq!(
        other.taken.try_recv(),
        Err(oneshot::error::TryRecvError::Closed),
        "it is forgotten"
    );
}

#[test]
fn a_delivery_ends_with_what_there_was_when_it_began() {
    let (away, o) = (away(), owner(1));
    write(&away, &o, "k");
    let last = away.last_write();
    let due = away.due(&o, last).unwrap();
    write(&away, &o, "meanwhile");
    write(&away, &o, "k");
    away.delivered(&o.id, &due);
    assert!(away.due(&o, last).is_none());
    assert_eq!(away.waiting(), [o.id], "the rest is for the next one");
}
