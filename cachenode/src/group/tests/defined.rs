//! A definition changes while the group lives.

use super::*;

#[test]
fn a_changed_ttl_is_that_of_what_is_stored_from_then_on() {
    let bench = bench(|it| it.ttl = SECOND);
    bench.set("old", "1");
    bench.redefine(|it| it.ttl = SECOND * 3);
    bench.set("new", "2");
    assert_eq!(bench.value("old").as_deref(), Some("1"));
    bench.clock.advance(SECOND);
    assert_eq!((bench.value("old"), bench.value("new").as_deref()), (None, Some("2")));
    bench.clock.advance(SECOND * 2);
    assert_eq!(bench.value("new"), None);
}

#[test]
fn entries_that_nobody_watched_being_read_have_all_of_a_new_idle_time() {
    let bench = bench(|it| it.ttl = Duration::ZERO);
    bench.set("Tom", "630");
    bench.clock.advance(SECOND * 60);
    bench.redefine(|it| it.idle = SECOND);
    assert_eq!(bench.value("Tom").as_deref(), Some("630"));
    bench.clock.advance(SECOND);
    assert_eq!(bench.value("Tom"), None);
}

#[test]
fn a_changed_largest_value_keeps_what_is_there() {
    let bench = bench(|_| {});
    bench.set("Tom", "630");
    bench.redefine(|it| it.max_value = 2);
    assert_eq!(bench.value("Tom").as_deref(), Some("630"));
    assert_eq!(code(bench.group.set(&write("Jack", "589"), owner)), Code::TooLarge);
}

#[test]
fn the_next_miss_asks_the_new_origin() {
    let bench = bench(|it| it.origin = static_origin());
    assert_eq!(bench.value("Tom").as_deref(), Some("630"));
    let other = [("Tom", "1"), ("Jack", "2")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    bench.redefine(|it| it.origin = OriginDefinition::Static(other.into()));
    assert_eq!(bench.value("Tom").as_deref(), Some("630"), "an entry stays");
    assert_eq!(bench.value("Jack").as_deref(), Some("2"));
    bench.redefine(|it| it.origin = OriginDefinition::None);
    assert_eq!(bench.value("Sam"), None);
    assert_eq!(bench.group.name().as_str(), "scores");
}
