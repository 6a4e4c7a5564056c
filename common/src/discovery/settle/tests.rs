//! Every decision, on states made by hand.

use uuid::Uuid;

use super::*;
use crate::discovery::RingSettings;

const CARRY: Duration = Duration::from_secs(20);

fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn record(name: &str) -> NodeRecord {
    NodeRecord::new(id(name), Uuid::from_u128(1), format!("{name}:1"))
}

/// A state of members by name: `a` is registered, `a!` is draining, `(a)` is only carried.
fn view(members: &str) -> View {
    let (mut all, mut carried) = (BTreeMap::new(), BTreeSet::new());
    for word in members.split_whitespace() {
        let mut record = record(word.trim_matches(['(', ')', '!']));
        if word.ends_with('!') {
            record.state = NodeState::Draining;
        }
        if word.starts_with('(') {
            carried.insert(record.id.clone());
        }
        all.insert(record.id.clone(), record);
    }
    let (generation, ring) = (Uuid::from_u128(1), RingSettings::default());
    View { carried, ..View::new(generation, 7, ring, all.into_values()) }
}

fn raw(members: &str) -> Raw {
    let view = view(members);
    let is_carrying = !view.carried.is_empty();
    Raw { view: Arc::new(view), left: BTreeSet::new(), is_carrying }
}

fn reborn(members: &str) -> Raw {
    let view = View { generation: Uuid::from_u128(2), ..view(members) };
    Raw { view: Arc::new(view), ..raw(members) }
}

/// What is decided first, in a word, with the members that are to be carried.
fn first(last: &str, source: Source, raw: &Raw) -> String {
    let decision = Settling::new(CARRY).decide(Some((&view(last), source)), raw, Instant::now());
    match decision {
        Decision::Publish => "publish".into(),
        Decision::Hold { .. } => "hold".into(),
        Decision::Carry { members, .. } => {
            let ids: Vec<_> = members.iter().map(|m| m.id.as_str()).collect();
            format!("carry {}", ids.join(" "))
        }
    }
}

fn followed(last: &str, now: &str) -> String {
    first(last, Source::Followed, &raw(now))
}

#[test]
fn the_first_state_is_shown_whatever_it_is() {
    let decision = Settling::new(CARRY).decide(None, &raw(""), Instant::now());
    assert_eq!(decision, Decision::Publish);
}

#[test]
fn who_comes_changes_or_drains_is_shown_at_once() {
    for (last, now) in
        [("", "a"), ("a b", "a b c"), ("a b", "a b!"), ("a b!", "a"), ("a! b! c", "c"), ("a!", "")]
    {
        assert_eq!(followed(last, now), "publish", "{last} -> {now}");
    }
}

#[test]
fn who_vanishes_is_waited_for_and_a_disaster_is_when_fewer_than_half_remain() {
    for (last, now, decided) in [
        ("a b c", "a b", "hold"),
        ("a b", "a", "hold"),
        ("a b c d", "a b", "hold"),
        ("a b c", "a", "carry a b c"),
        ("a b c d", "a", "carry a b c d"),
        ("a", "", "carry a"),
        // Newcomers make up for nobody.
        ("a b c", "a x y z", "carry a b c"),
        // Who drains is neither expected nor carried.
        ("a b c! d!", "a", "hold"),
        ("a b c d!", "d!", "carry a b c"),
    ] {
        assert_eq!(followed(last, now), decided, "{last} -> {now}");
    }
}

#[test]
fn who_left_on_purpose_is_not_waited_for() {
    let mut now = raw("a");
    now.left.extend([id("b"), id("c")]);
    assert_eq!(first("a b c", Source::Followed, &now), "publish");
    // One more vanished without a word: one of two remains.
    assert_eq!(first("a b c d", Source::Followed, &now), "hold");
}

#[test]
fn the_end_of_carrying_is_no_disaster() {
    assert_eq!(followed("a (b) (c)", "a"), "publish");
    assert_eq!(followed("(a) (b) (c)", ""), "publish");
    assert_eq!(followed("(a) (b) (c)", "a (b) (c)"), "publish");
}

#[test]
fn carried_members_are_in_the_ring_and_not_carried_twice() {
    assert_eq!(followed("a b c", "(a) (b) (c)"), "publish");
    assert_eq!(followed("a b c", "a (b) (c)"), "publish");
    // The first writer knew less than we do. There is no second one.
    assert_eq!(followed("a b c", "(a)"), "hold");
}

#[test]
fn another_life_of_the_cluster_state_keeps_everybody() {
    for (last, now, decided) in [
        ("a b c", "", "carry a b c"),
        ("a b c", "a b", "carry a b c"),
        ("a b c", "a b c", "publish"),
        ("a b c", "x", "carry a b c"),
        ("a (b) (c)", "", "carry a b c"),
        ("a b! c", "", "carry a c"),
        ("a b c", "(a) (b) (c)", "publish"),
    ] {
        for source in [Source::Followed, Source::Interrupted] {
            assert_eq!(first(last, source, &reborn(now)), decided, "{last} -> {now}");
        }
    }
}

#[test]
fn after_a_break_a_fleet_that_was_replaced_is_no_disaster() {
    let after = |now| first("a b c", Source::Interrupted, &raw(now));
    assert_eq!(after("a"), "carry a b c");
    assert_eq!(after(""), "carry a b c");
    assert_eq!(after("a b"), "hold");
    assert_eq!(after("a x y"), "hold");
    assert_eq!(after("x y z"), "hold");
}

#[test]
fn a_snapshot_has_a_say_only_where_nobody_else_can_have_one() {
    for (now, decided) in
        [("", "carry a b c"), ("a", "publish"), ("a b x", "publish"), ("(x)", "publish")]
    {
        assert_eq!(first("a b c", Source::Stored, &raw(now)), decided, "{now}");
    }
    for (now, decided) in [
        ("", "carry a b c"),
        ("a", "carry a b c"),
        ("a b", "publish"),
        ("a x", "publish"),
        ("x", "publish"),
    ] {
        assert_eq!(first("a b c", Source::Stored, &reborn(now)), decided, "{now}");
    }
    assert_eq!(first("(a) (b)", Source::Stored, &reborn("")), "carry a b");
}

/// One story, told in milliseconds.
struct Story {
    settling: Settling,
    began: Instant,
    last: View,
}

impl Story {
    fn of(last: &str) -> Self {
        Self { settling: Settling::new(CARRY), began: Instant::now(), last: view(last) }
    }

    /// What is decided at that time: shown, or waited for until when.
    fn at(&mut self, ms: u64, now: &str) -> Option<u64> {
        let at = self.began + Duration::from_millis(ms);
        match self.settling.decide(Some((&self.last, Source::Followed)), &raw(now), at) {
            Decision::Publish => {
                self.last = view(now);
                None
            }
            Decision::Hold { until, .. } | Decision::Carry { until, .. } => {
                Some((until - self.began).as_millis() as u64)
            }
        }
    }
}

#[test]
fn who_is_back_in_time_was_never_away() {
    let mut story = Story::of("a b c");
    assert_eq!(story.at(100, "a b"), Some(600));
    assert_eq!(story.at(300, "a b"), Some(600));
    assert_eq!(story.at(400, "a b c"), None);
    // The next time counts from then.
    assert_eq!(story.at(900, "a b"), Some(1_400));
    assert_eq!(story.at(1_400, "a b"), None);
    assert_eq!(story.last, view("a b"));
}

#[test]
fn each_has_his_time_within_bounds() {
    let mut story = Story::of("a b c d e f g h");
    assert_eq!(story.at(0, "b c d e f g h"), Some(500));
    assert_eq!(story.at(300, "c d e f g h"), Some(800));
    // The first is back; the second still has his own time.
    assert_eq!(story.at(400, "a c d e f g h"), Some(800));
    assert_eq!(story.at(700, "a d e f g h"), Some(1_200));
    assert_eq!(story.at(1_000, "a d f g h"), Some(1_300));
    assert_eq!(story.at(1_300, "a d f g h"), None);
}

#[test]
fn a_hold_may_turn_into_a_disaster_which_lasts_until_all_are_there() {
    let mut story = Story::of("a b c");
    assert_eq!(story.at(0, "a b"), Some(500));
    assert_eq!(story.at(10, "a"), Some(20_010));
    assert_eq!(story.at(5_000, "a b"), Some(20_010));
    assert_eq!(story.at(6_000, "a b (c)"), None);
}

#[test]
fn what_can_not_be_carried_is_held_no_longer_than_it_would_be_carried() {
    let mut story = Story::of("a b c");
    assert_eq!(story.at(0, ""), Some(20_000));
    assert_eq!(story.at(19_999, ""), Some(20_000));
    assert_eq!(story.at(20_000, ""), None);
}

#[test]
fn beginning_again_forgets_how_long_was_waited() {
    let mut story = Story::of("a b c");
    assert_eq!(story.at(0, "a b"), Some(500));
    story.settling.begin_again();
    assert_eq!(story.at(500, "a b"), Some(1_000));
}
