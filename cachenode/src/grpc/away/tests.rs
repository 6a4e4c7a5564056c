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
    away.wanted(&owner.id, owner.instance).keys.into_iter().map(|it| it.key).collect()
}

#[test]
fn who_asks_hears_of_writes_that_are_only_under_way() {
    let (away, o) = (away(), owner(1));
    let claim = away.claim(&o, "g", "k").unwrap();
    assert_eq!(wanted(&away, &o), ["k"]);
    assert!(away.due(&o).is_none(), "nothing has happened yet");
    drop(claim);
    assert!(wanted(&away, &o).is_empty(), "and nothing will");
}

#[test]
fn what_was_taken_from_an_answer_is_not_delivered_again() {
    let (away, o) = (away(), owner(1));
    write(&away, &o, "k");
    let claim = away.claim(&o, "g", "under way").unwrap();
    let number = away.wanted(&o.id, o.instance).number;
    claim.keep();
    away.taken(&o.id, o.instance, number);
    assert_eq!(wanted(&away, &o), ["under way"], "it was no hint yet");
}

#[test]
fn a_key_that_is_written_again_while_its_hint_is_delivered_keeps_one() {
    let (away, o) = (away(), owner(1));
    write(&away, &o, "k");
    let due = away.due(&o).unwrap();
    write(&away, &o, "k");
    away.delivered(&o.id, &due);
    let due = away.due(&o).expect("the second write's");
    away.delivered(&o.id, &due);
    assert!(away.due(&o).is_none() && away.waiting().is_empty());
}

#[test]
fn more_keys_than_there_is_room_for_become_everything() {
    let (away, o) = (away(), owner(1));
    for key in 0..MAX_HINTS {
        write(&away, &o, &key.to_string());
    }
    assert!(!away.wanted(&o.id, o.instance).everything);
    write(&away, &o, "one more");
    let due = away.due(&o).unwrap();
    assert!(due.to_wire().everything && due.to_wire().keys.is_empty());
    write(&away, &o, "meanwhile");
    away.delivered(&o.id, &due);
    let due = away.due(&o).expect("what was written since");
    assert!(due.to_wire().everything);
    away.delivered(&o.id, &due);
    assert!(away.due(&o).is_none());
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
fn another_life_of_an_owner_needs_no_hints_of_the_former() {
    let (away, o, reborn) = (away(), owner(1), owner(2));
    write(&away, &o, "k");
    assert!(away.knew_another(&reborn) && !away.knew_another(&o));
    assert!(wanted(&away, &reborn).is_empty());
    write(&away, &reborn, "x");
    assert_eq!(wanted(&away, &reborn), ["x"]);
    let held = away.retain(&[owner(3)]);
    assert!(away.waiting().is_empty());
    let names: Vec<_> = held.into_iter().flat_map(|held| held.names).collect();
    assert!(names.contains(&("g".to_owned(), "x".to_owned())), "{names:?}");
    assert_eq!(away.metrics.hints_dropped.get(), 2);
}
