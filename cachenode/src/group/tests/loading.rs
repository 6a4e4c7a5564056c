//! Groups whose origin is asked: one load for a key at a time, and none that brings back what was
//! written over. Some go by the names that groupcache's and Kcache's own tests have.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{advance, timeout},
};

use super::*;
use crate::origin::{Asked, LoadError, Loaded};

pub(super) type Answer = std::result::Result<Option<Loaded>, LoadError>;

/// A group whose origin answers when it is told to.
pub(super) struct Loads {
    pub(super) group: Arc<Group>,
    pub(super) clock: ManualClock,
    /// The loads that came to the origin.
    asked: mpsc::UnboundedReceiver<(String, oneshot::Sender<Answer>)>,
}

pub(super) fn loads(change: impl FnOnce(&mut Definition)) -> Loads {
    let (asks, asked) = mpsc::unbounded_channel();
    let origin = move |key: String| {
        let (answer, answered) = oneshot::channel();
        asks.send((key, answer)).unwrap();
        async { answered.await.unwrap_or_else(|_| Err(LoadError::failed("it went away"))) }
    };
    let Bench { group, clock } = bench(|definition| {
        definition.origin = OriginDefinition::Asked(Asked::new(origin));
        change(definition);
    });
    Loads { group: Arc::new(group), clock, asked }
}

pub(super) fn value(value: &str) -> Answer {
    Ok(Some(Loaded::from(value.to_owned())))
}

pub(super) fn text(item: &Item) -> String {
    String::from_utf8(item.entry.value().to_vec()).unwrap()
}

/// What somebody got who waited.
pub(super) async fn got(waiting: JoinHandle<Outcome>) -> std::result::Result<Option<String>, Code> {
    match waiting.await.unwrap() {
        Outcome::Loaded(item) => Ok(Some(text(&item))),
        Outcome::Absent => Ok(None),
        Outcome::Failed(error) => Err(error.code()),
    }
}

pub(super) fn is(value: &str) -> std::result::Result<Option<String>, Code> {
    Ok(Some(value.to_owned()))
}

impl Loads {
    pub(super) fn get(&self, key: &str) -> Found {
        let right = || Ok::<_, Infallible>(Authority::owner(1));
        self.group.get(key, self.clock.monotonic(), right).unwrap()
    }

    /// A read that has to wait; a load that it begins is run, by an owner.
    pub(super) fn wait(&self, key: &str) -> JoinHandle<Outcome> {
        self.wait_as(key, Some(Authority::owner(1)))
    }

    /// The same, by who may store what is loaded with that right.
    pub(super) fn wait_as(&self, key: &str, right: Option<Authority>) -> JoinHandle<Outcome> {
        let found = self.get(key);
        let Found::Waiting(mut waiting) = found else { panic!("{found:?}") };
        if let Some(ticket) = waiting.take_ticket() {
            let group = Arc::clone(&self.group);
            tokio::spawn(async move { group.load(ticket, || right).await });
        }
        tokio::spawn(waiting.outcome())
    }

    /// The next load that comes to the origin: it is answered with what is sent there.
    pub(super) async fn asked(&mut self) -> oneshot::Sender<Answer> {
        let asked = timeout(10 * SECOND, self.asked.recv()).await;
        asked.expect("nobody asks the origin").unwrap().1
    }

    /// Answers the next load.
    pub(super) async fn answer(&mut self, answer: Answer) {
        self.asked().await.send(answer).unwrap();
    }

    pub(super) fn nobody_asks(&mut self) -> bool {
        self.asked.try_recv().is_err()
    }

    pub(super) fn set(&self, key: &str, value: &str) {
        self.group.set(&write(key, value), owner).unwrap();
    }

    pub(super) fn delete(&self, key: &str) -> Result<Applied> {
        self.group.delete(&Delete { key, ..Delete::default() }, owner)
    }

    pub(super) fn hit(&self, key: &str) -> Option<String> {
        let Found::Hit(item) = self.get(key) else { return None };
        Some(text(&item))
    }
}

#[tokio::test]
async fn duplicate_suppression() {
    let mut loads = loads(|_| ());
    let waiting: Vec<_> = (0..100).map(|_| loads.wait("Tom")).collect();
    let other = loads.wait("Jack");
    let (key, tom) = loads.asked.recv().await.unwrap();
    assert_eq!(key, "Tom");
    loads.answer(value("589")).await;
    assert_eq!(got(other).await, is("589"), "keys do not wait for each other");
    tom.send(value("630")).unwrap();
    for one in waiting {
        assert_eq!(got(one).await, is("630"));
    }
    assert!(loads.nobody_asks());
    assert_eq!(loads.hit("Tom").as_deref(), Some("630"));
    let stats = loads.group.stats();
    assert_eq!((stats.misses, stats.loads, stats.hits, stats.entries), (101, 2, 1, 2));
}

#[tokio::test]
async fn an_empty_value_is_a_value() {
    let mut loads = loads(|_| ());
    let waiting = loads.wait("empty");
    loads.answer(value("")).await;
    assert_eq!(got(waiting).await, is(""));
    assert_eq!(loads.hit("empty").as_deref(), Some(""));
}

#[tokio::test]
async fn a_caller_that_leaves_does_not_cancel_the_load() {
    let mut loads = loads(|_| ());
    let first = loads.wait("Tom");
    let second = loads.wait("Tom");
    let asked = loads.asked().await;
    first.abort();
    asked.send(value("630")).unwrap();
    assert_eq!(got(second).await, is("630"));
    assert_eq!(loads.hit("Tom").as_deref(), Some("630"));
}

#[tokio::test]
async fn a_load_that_nobody_runs_fails_for_all_and_the_next_is_run() {
    let mut loads = loads(|_| ());
    let Found::Waiting(first) = loads.get("Tom") else { panic!("a load") };
    let second = loads.wait("Tom");
    drop(first);
    assert_eq!(got(second).await, Err(Code::OriginError));
    let third = loads.wait("Tom");
    loads.answer(value("630")).await;
    assert_eq!(got(third).await, is("630"));
}

#[tokio::test]
async fn a_panic_is_one_error_and_the_next_call_works() {
    let calls = AtomicUsize::new(0);
    let origin = move |_: String| {
        // The call panics, then its future, then it answers.
        let call = calls.fetch_add(1, Ordering::SeqCst);
        assert_ne!(call, 0, "on purpose");
        async move {
            assert_ne!(call, 1, "on purpose");
            value("630")
        }
    };
    let mut loads = loads(|it| it.origin = OriginDefinition::Asked(Asked::new(origin)));
    for _ in 0..2 {
        let (one, other) = (loads.wait("Tom"), loads.wait("Tom"));
        assert_eq!(got(one).await, Err(Code::OriginError));
        assert_eq!(got(other).await, Err(Code::OriginError));
        loads.clock.advance(ERROR_LIFE);
    }
    assert_eq!(got(loads.wait("Tom")).await, is("630"));
    assert_eq!(loads.group.stats().failed_loads, 2);
    assert!(loads.nobody_asks());
}

#[tokio::test(start_paused = true)]
async fn a_load_has_a_deadline_of_its_own() {
    let mut loads = loads(|it| {
        let OriginDefinition::Asked(asked) = &mut it.origin else { panic!("custom") };
        (asked.timeout, asked.max_loads) = (SECOND, 1);
    });
    let slow = loads.wait("slow");
    let held = loads.asked().await;
    advance(SECOND / 2).await;
    let behind = loads.wait("behind");
    tokio::task::yield_now().await;
    assert!(loads.nobody_asks(), "one at a time");
    assert_eq!(got(slow).await, Err(Code::Timeout));
    assert!(held.is_closed(), "the origin's work is dropped");
    loads.answer(value("x")).await;
    assert_eq!(got(behind).await, is("x"));
}

#[tokio::test]
async fn failures_are_remembered_for_a_moment() {
    let mut loads = loads(|_| ());
    let waiting = loads.wait("Tom");
    loads.answer(Err(LoadError::failed("no"))).await;
    assert_eq!(got(waiting).await, Err(Code::OriginError));
    let Found::Failed(error) = loads.get("Tom") else { panic!("it is known") };
    assert_eq!(error.message(), "the origin failed: no");
    loads.clock.advance(ERROR_LIFE);
    let waiting = loads.wait("Tom");
    loads.answer(value("630")).await;
    assert_eq!(got(waiting).await, is("630"));
}

#[tokio::test]
async fn absence_is_remembered_for_its_time_and_until_the_key_is_written() {
    let mut loads = loads(|it| it.negative_ttl = 5 * SECOND);
    for _ in 0..2 {
        let waiting = loads.wait("nobody");
        loads.answer(Ok(None)).await;
        assert_eq!(got(waiting).await, Ok(None));
        assert!(matches!(loads.get("nobody"), Found::Absent));
        loads.clock.advance(5 * SECOND);
    }
    let waiting = loads.wait("nobody");
    loads.answer(Ok(None)).await;
    assert_eq!(got(waiting).await, Ok(None));
    loads.set("nobody", "somebody");
    assert_eq!(loads.hit("nobody").as_deref(), Some("somebody"));
    loads.delete("nobody").unwrap();
    assert!(matches!(loads.get("nobody"), Found::Waiting(_)), "it is asked for anew");

    let mut always = self::loads(|it| it.negative_ttl = Duration::ZERO);
    for _ in 0..2 {
        let waiting = always.wait("nobody");
        always.answer(Ok(None)).await;
        assert_eq!(got(waiting).await, Ok(None));
    }
}

#[tokio::test]
async fn expiry_reloads() {
    let mut loads = loads(|it| it.ttl = 10 * SECOND);
    let waiting = loads.wait("Tom");
    loads.answer(value("630")).await;
    assert_eq!(got(waiting).await, is("630"));
    loads.clock.advance(10 * SECOND);
    let waiting = loads.wait("Tom");
    loads.answer(Ok(Some(Loaded { ttl: Some(SECOND), ..Loaded::from("631") }))).await;
    assert_eq!(got(waiting).await, is("631"));
    assert_eq!(loads.hit("Tom").as_deref(), Some("631"));
    loads.clock.advance(SECOND);
    assert!(matches!(loads.get("Tom"), Found::Waiting(_)), "the origin knew better");
}

#[tokio::test]
async fn what_is_written_during_a_load_stays() {
    let mut loads = loads(|_| ());
    let before = loads.wait("Tom");
    let asked = loads.asked().await;
    loads.set("Tom", "new");
    asked.send(value("old")).unwrap();
    assert_eq!(got(before).await, is("old"), "it began before the write");
    assert_eq!(loads.hit("Tom").as_deref(), Some("new"));
}

#[tokio::test]
async fn who_comes_after_a_delete_is_not_answered_by_a_load_from_before_it() {
    let mut loads = loads(|_| ());
    let before = loads.wait("Tom");
    let first = loads.asked().await;
    assert_eq!(code(loads.delete("Tom")), Code::NotFound);
    let after = loads.wait("Tom");
    let second = loads.asked().await;
    second.send(value("new")).unwrap();
    assert_eq!(got(after).await, is("new"));
    first.send(value("old")).unwrap();
    assert_eq!(got(before).await, is("old"));
    assert_eq!(loads.hit("Tom").as_deref(), Some("new"));
}

#[tokio::test]
async fn whatever_changes_a_key_fences_its_load() {
    type Change = fn(&Group);
    let changes: [(&str, Change, bool); 7] = [
        ("nothing", |_| (), true),
        ("forget", |group| assert!(!group.forget("Tom", 1)), false),
        (
            "a copy",
            |group| {
                let version = Version { as_of: 9, clock: u64::MAX >> 1 };
                assert!(group.apply(&Copied { key: "Tom", version, ..Copied::default() }));
                assert!(group.forget("Tom", 9));
            },
            false,
        ),
        ("a stand-in's end", |group| group.drop_stand_in("Tom"), false),
        ("a standstill", |group| assert_eq!(group.drop_everything(), 0), false),
        (
            "a ring change",
            |group| {
                assert!(group.ring_changed(|_| false));
                group.give_up();
            },
            false,
        ),
        ("a ring change elsewhere", |group| assert!(group.ring_changed(|_| true)), false),
    ];
    for (what, change, stays) in changes {
        let mut loads = loads(|_| ());
        let waiting = loads.wait("Tom");
        let asked = loads.asked().await;
        change(&loads.group);
        let after = loads.get("Tom");
        let Found::Waiting(mut after) = after else { panic!("{what}: {after:?}") };
        assert_eq!(after.take_ticket().is_none(), stays, "{what}: who comes later waits for it");
        asked.send(value("630")).unwrap();
        assert_eq!(got(waiting).await, is("630"), "{what}");
        assert_eq!(loads.hit("Tom").is_some(), stays, "{what}");
    }
}

#[tokio::test]
async fn who_has_lost_the_key_meanwhile_answers_and_stores_nothing() {
    let mut loads = loads(|_| ());
    let waiting = loads.wait_as("Tom", None);
    loads.answer(value("630")).await;
    assert_eq!(got(waiting).await, is("630"));
    assert_eq!(loads.hit("Tom"), None);
    let nobody = loads.wait_as("nobody", None);
    loads.answer(Ok(None)).await;
    assert_eq!(got(nobody).await, Ok(None));
    assert!(matches!(loads.get("nobody"), Found::Waiting(_)), "nor remembers");
}

#[tokio::test]
async fn what_a_stand_in_loads_is_short_lived() {
    let mut loads = loads(|_| ());
    let waiting = loads.wait_as("Tom", Some(Authority::stand_in(1)));
    loads.answer(value("630")).await;
    let Outcome::Loaded(item) = waiting.await.unwrap() else { panic!("a value") };
    assert_eq!(item.times.ttl_left(), Some(STAND_IN_TTL));
    assert_eq!(loads.hit("Tom").as_deref(), Some("630"));
    loads.group.drop_stand_ins();
    assert_eq!(loads.hit("Tom"), None);
}

#[tokio::test]
async fn a_value_that_is_too_large_is_answered_and_not_kept() {
    let mut loads = loads(|it| it.max_value = 2);
    for _ in 0..2 {
        let waiting = loads.wait("Tom");
        loads.answer(value("630")).await;
        assert_eq!(got(waiting).await, is("630"));
    }
}

#[tokio::test]
async fn loads_that_wait_are_bounded() {
    let loads = loads(|_| ());
    let keys: Vec<_> = (0..MAX_WAITING_LOADS).map(|n| n.to_string()).collect();
    let waiting: Vec<_> = keys.iter().map(|key| loads.get(key)).collect();
    assert!(waiting.iter().all(|found| matches!(found, Found::Waiting(_))));
    let Found::Failed(error) = loads.get("one more") else { panic!("there is no room") };
    assert_eq!(error.code(), Code::Overloaded);
    assert!(matches!(loads.get("0"), Found::Waiting(_)), "who waits for one of them may");
    drop(waiting);
    assert!(matches!(loads.get("one more"), Found::Waiting(_)));
}

/// What a read gets that may be answered with something stale, and by when.
pub(super) fn stale(found: &Found) -> Option<(String, bool, bool)> {
    let Found::Waiting(waiting) = found else { panic!("{found:?}") };
    waiting.stale().map(|stale| (text(&stale.item), stale.now, stale.on_error))
}

/// A group with `old` under `Tom`, which was loaded and is over by now.
pub(super) async fn over(while_revalidating: u32, if_error: u32) -> Loads {
    let mut loads = loads(|it| {
        it.ttl = 10 * SECOND;
        it.stale_while_revalidate = while_revalidating * SECOND;
        it.stale_if_error = if_error * SECOND;
    });
    let waiting = loads.wait("Tom");
    loads.answer(value("old")).await;
    assert_eq!(got(waiting).await, is("old"));
    loads.clock.advance(10 * SECOND);
    loads
}

#[tokio::test]
async fn stale_while_revalidate() {
    let mut loads = over(5, 0).await;
    let waiting = loads.wait("Tom");
    let asked = loads.asked().await;
    let second = loads.get("Tom");
    assert_eq!(stale(&second), Some(("old".into(), true, false)));
    drop(second);
    loads.clock.advance(4 * SECOND);
    loads.group.maintain();
    assert_eq!(stale(&loads.get("Tom")), Some(("old".into(), true, false)), "and not swept");
    loads.clock.advance(SECOND);
    assert_eq!(stale(&loads.get("Tom")), None, "its time is over for good");
    asked.send(value("new")).unwrap();
    assert_eq!(got(waiting).await, is("new"));
    assert_eq!(loads.hit("Tom").as_deref(), Some("new"));
}

#[tokio::test]
async fn stale_if_error() {
    let mut loads = over(0, 60).await;
    assert_eq!(stale(&loads.get("Tom")), Some(("old".into(), false, true)));
    let waiting = loads.wait("Tom");
    loads.answer(Err(LoadError::failed("no"))).await;
    assert_eq!(got(waiting).await, Err(Code::OriginError), "who waits has it at hand");
    let Found::Stale(item) = loads.get("Tom") else { panic!("it is known to fail") };
    assert_eq!(text(&item), "old");
    loads.clock.advance(60 * SECOND);
    assert_eq!(stale(&loads.get("Tom")), None);
}

#[tokio::test]
async fn what_is_stale_ends_with_a_delete_and_with_the_origins_word() {
    let mut loads = over(60, 60).await;
    assert_eq!(code(loads.delete("Tom")), Code::NotFound, "for a write it is not there");
    assert_eq!(stale(&loads.get("Tom")), None);

    loads = over(60, 60).await;
    let waiting = loads.wait("Tom");
    loads.answer(Ok(None)).await;
    assert_eq!(got(waiting).await, Ok(None));
    assert!(matches!(loads.get("Tom"), Found::Absent));
    assert_eq!(loads.group.stats().entries, 0);
}

#[tokio::test]
async fn what_a_stand_in_stored_is_not_served_stale() {
    let mut loads = loads(|it| it.stale_if_error = 60 * SECOND);
    let waiting = loads.wait_as("Tom", Some(Authority::stand_in(1)));
    loads.answer(value("630")).await;
    assert_eq!(got(waiting).await, is("630"));
    loads.clock.advance(STAND_IN_TTL);
    assert_eq!(stale(&loads.get("Tom")), None, "its owner may have another value");
}

#[tokio::test]
async fn what_is_stale_is_swept_in_the_end() {
    let loads = over(0, 60).await;
    loads.clock.advance(60 * SECOND);
    loads.group.maintain();
    assert_eq!(loads.group.stats().entries, 0);
}
