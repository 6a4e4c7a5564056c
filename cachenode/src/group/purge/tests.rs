//! Purges of one group: what is absent at once, what comes back and what does not, and the bound.

use std::sync::Arc;

use common::{
    clock::{Clock, ManualClock},
    entry::Version,
    error::{Code, Error},
    key::GroupName,
    near::LEASE,
};
use futures_util::FutureExt;
use tokio::{sync::oneshot, task::yield_now};

use super::*;
use crate::{
    group::{Authority, Condition, Copied, Definition, Found, Leased, Lending, Outcome, Write},
    loans::Holder,
    origin::{Asked, LoadError, Loaded, OriginDefinition},
    store::Eviction,
};

struct Bench {
    group: Arc<Group>,
    clock: ManualClock,
}

fn owner() -> Result<Authority, Error> {
    Ok(Authority::owner(1))
}

fn prefix(prefix: &str) -> Scope {
    Scope::Prefix(prefix.into())
}

fn tag(tag: &str) -> Scope {
    Scope::Tag(tag.into())
}

fn lends(bench: &Bench, key: &str, holder: &Arc<Holder>) -> bool {
    let lent = bench.group.lend(1000, key, holder, LEASE, owner).unwrap();
    matches!(lent, Lending::Lent(..))
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Definition)) -> Self {
        let mut definition = Definition::new(GroupName::new("g").unwrap());
        change(&mut definition);
        let clock = ManualClock::new();
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let group = Group::new(definition, shared.clone(), HybridClock::new(shared));
        Self { group: Arc::new(group), clock }
    }

    fn set(&self, key: &str, tags: &str) -> Version {
        let write = Write { key, tags, value: b"x", ..Write::default() };
        self.group.set(&write, owner).unwrap().version
    }

    fn found(&self, key: &str) -> Found {
        self.group.get(key, self.clock.monotonic(), owner).unwrap()
    }

    fn has(&self, key: &str) -> bool {
        self.found(key).item().is_some()
    }

    fn which(&self, keys: &[&'static str]) -> Vec<&'static str> {
        keys.iter().copied().filter(|key| self.has(key)).collect()
    }

    fn copy(&self, key: &str, tags: &str, version: Version) -> bool {
        self.group.apply(&Copied { key, tags, version, ..Copied::default() })
    }

    fn entries(&self) -> u64 {
        self.group.stats().entries
    }
}

#[test]
fn a_purge_takes_what_it_names_at_once_and_leaves_the_rest() {
    const KEYS: [&str; 4] = ["a/1", "a/2", "b/1", "b"];
    for eviction in [Eviction::Lru, Eviction::TinyLfu] {
        for (scopes, left) in [
            (vec![Scope::Everything], vec![]),
            (vec![prefix("a/")], vec!["b/1", "b"]),
            (vec![tag("red")], vec!["a/2", "b"]),
            (vec![prefix("b/"), tag("blue")], vec!["a/1", "b"]),
            (vec![tag("re"), prefix("c")], KEYS.to_vec()),
        ] {
            let bench = Bench::with(|definition| definition.eviction = eviction);
            for (key, tags) in KEYS.into_iter().zip(["red", "blue", "blue,red", ""]) {
                bench.set(key, tags);
            }
            let (purged, _) = bench.group.purge(&scopes);
            assert_eq!(purged.everything, scopes == [Scope::Everything]);
            assert_eq!(bench.which(&KEYS), left, "{scopes:?}");
            bench.group.carry_out_purges();
            assert_eq!(bench.which(&KEYS), left, "{scopes:?}");
            assert_eq!(bench.entries(), left.len() as u64);
            for key in KEYS {
                bench.set(key, "red,blue");
            }
            assert_eq!(bench.which(&KEYS), KEYS, "what is written afterwards stays");
        }
    }
}

#[test]
fn the_walk_removes_what_nobody_reads_and_ends_the_looking() {
    let bench = Bench::new();
    for n in 0..3000 {
        bench.set(&format!("{}/{n}", n % 3), "");
    }
    let _ = bench.group.purge(&[prefix("0/")]);
    let _ = bench.group.purge(&[prefix("1/")]);
    assert_eq!(bench.entries(), 3000, "a purge removes nothing itself");
    assert_eq!(bench.group.carry_out_purges(), 2000);
    assert_eq!(bench.entries(), 1000);
    assert!(!bench.group.purges.is_pending());
    assert_eq!(bench.group.carry_out_purges(), 0);
}

#[test]
fn a_condition_sees_nothing_that_is_purged() {
    let bench = Bench::new();
    let version = bench.set("k", "t");
    let _ = bench.group.purge(&[tag("t")]);
    let write = |condition| Write { key: "k", condition, ..Write::default() };
    let same = Condition { if_version: vec![version], ..Condition::default() };
    let failed = bench.group.set(&write(same), owner).unwrap_err();
    assert_eq!(failed.code(), Code::PreconditionFailed);
    let absent = Condition { if_absent: true, ..Condition::default() };
    assert!(bench.group.set(&write(absent), owner).unwrap().created);
}

#[test]
fn no_copy_from_before_a_purge_comes_in_while_that_is_remembered() {
    let bench = Bench::new();
    let old = bench.set("k", "t");
    let _ = bench.group.purge(&[prefix("k")]);
    let _ = bench.group.purge(&[tag("t")]);
    bench.group.carry_out_purges();
    for (key, tags, comes_in) in [("k", "", false), ("other", "t", false), ("other", "", true)] {
        assert_eq!(bench.copy(key, tags, old), comes_in, "{key} {tags}");
    }
    let new = Version { clock: bench.group.hybrid.tick(), ..old };
    assert!(bench.copy("k", "t", new));
    bench.clock.advance(TOMBSTONE_LIFE);
    bench.group.maintain();
    assert!(bench.group.purges.notes.read().unwrap().list.is_empty());
}

#[test]
fn one_purge_too_many_is_of_everything_and_carried_out_ones_make_room() {
    let bench = Bench::new();
    let before = bench.set("kept", "");
    for n in 0..MAX_PURGES {
        let (purged, _) = bench.group.purge(&[prefix(&format!("{n}/"))]);
        assert!(!purged.everything);
    }
    bench.group.carry_out_purges();
    let (purged, _) = bench.group.purge(&[prefix("more/")]);
    assert!(!purged.everything, "the oldest has been carried out");
    assert!(bench.has("kept"));
    // What it said of copies is said of all of them now.
    assert!(!bench.copy("new", "", before));
    bench.group.carry_out_purges();
    for n in 0..MAX_PURGES {
        let _ = bench.group.purge(&[tag(&format!("{n}"))]);
    }
    assert!(bench.has("kept"));
    let (purged, _) = bench.group.purge(&[tag("more")]);
    assert!(purged.everything);
    assert!(!bench.has("kept"), "rather too much than too little");
    bench.group.carry_out_purges();
    assert_eq!(bench.entries(), 0);
}

#[test]
fn a_purge_calls_back_what_is_lent_of_it_and_waits_for_the_holders() {
    for (scope, is_purged) in
        [(Scope::Everything, true), (prefix("k"), true), (tag("t"), true), (tag("u"), false)]
    {
        let bench = Bench::new();
        let (holder, mut told) = Holder::new();
        bench.set("k", "t");
        assert!(lends(&bench, "k", &holder));
        let (_, recall) = bench.group.purge(std::slice::from_ref(&scope));
        assert_eq!(recall.is_over(bench.clock.monotonic()), !is_purged, "{scope:?}");
        assert_eq!(lends(&bench, "k", &holder), !is_purged, "no more of it is lent");
        let invalidation = told.try_recv().ok();
        assert_eq!(invalidation.is_some(), is_purged);
        if let Some(invalidation) = invalidation {
            invalidation.recalled.confirm();
            assert!(recall.is_over(bench.clock.monotonic()));
        }
    }
}

#[test]
fn what_is_lent_and_gone_may_have_had_any_tag() {
    let bench = Bench::new();
    let (holder, _told) = Holder::new();
    bench.set("k", "t");
    assert!(lends(&bench, "k", &holder));
    bench.group.shape().store.remove_if(bench.group.slots.of("k"), &|_| true);
    let (_, recall) = bench.group.purge(&[tag("t")]);
    assert!(!recall.is_over(bench.clock.monotonic()));
    bench.clock.advance(LEASE);
    assert!(recall.is_over(bench.clock.monotonic()), "it runs out");
}

#[test]
fn what_a_write_has_called_back_may_have_had_any_tag_until_its_holders_have_confirmed() {
    for (scope, waits) in [(tag("t"), true), (prefix("k"), true), (prefix("x"), false)] {
        let bench = Bench::new();
        let (holder, mut told) = Holder::new();
        bench.set("k", "t");
        assert!(lends(&bench, "k", &holder));
        bench.set("k", "");
        let (_, recall) = bench.group.purge(std::slice::from_ref(&scope));
        assert_eq!(recall.is_over(bench.clock.monotonic()), !waits, "{scope:?}");
        told.try_recv().unwrap().recalled.confirm();
        assert!(told.try_recv().is_err(), "once is enough");
        assert!(recall.is_over(bench.clock.monotonic()));
    }
}

#[test]
fn a_purge_leaves_room_for_what_writes_have_to_tell() {
    let bench = Bench::new();
    let (holder, mut told) = Holder::new();
    for n in 0..crate::loans::MAX_INVALIDATIONS + 1 {
        let key = n.to_string();
        bench.set(&key, "");
        assert!(lends(&bench, &key, &holder));
    }
    let (_, recall) = bench.group.purge(&[Scope::Everything]);
    assert!(!holder.is_overflowed());
    while let Ok(invalidation) = told.try_recv() {
        invalidation.recalled.confirm();
    }
    assert!(!recall.is_over(bench.clock.monotonic()), "some have not been told");
    bench.clock.advance(LEASE);
    assert!(recall.is_over(bench.clock.monotonic()));
}

/// A group whose origin answers with a value of tag `t` when it is told to.
fn loading() -> (Bench, oneshot::Sender<()>) {
    let (go, told) = oneshot::channel();
    let told = Arc::new(std::sync::Mutex::new(Some(told)));
    let origin = move |key: String| {
        let told = told.lock().unwrap().take();
        async move {
            if let Some(told) = told {
                told.await.map_err(LoadError::failed)?;
            }
            let value = Loaded { tags: "t".into(), ..Loaded::from(key.clone()) };
            Ok((key != "nobody").then_some(value))
        }
    };
    let bench = Bench::with(|definition| {
        definition.origin = OriginDefinition::Asked(Asked::new(origin));
        definition.negative_ttl = Duration::from_secs(60);
        definition.ttl = Duration::from_secs(1);
        definition.stale_while_revalidate = Duration::from_secs(60);
        definition.stale_if_error = Duration::from_secs(60);
    });
    (bench, go)
}

async fn load(bench: &Bench, key: &str) -> Outcome {
    let Found::Waiting(mut waiting) = bench.found(key) else { panic!("not loaded") };
    if let Some(ticket) = waiting.take_ticket() {
        bench.group.load(ticket, || Some(Authority::owner(1))).await;
    }
    waiting.outcome().await
}

#[tokio::test]
async fn a_load_that_began_before_a_purge_stores_nothing() {
    for (scope, is_purged) in
        [(Scope::Everything, true), (prefix("k"), true), (tag("t"), true), (prefix("x"), false)]
    {
        let (bench, go) = loading();
        let Found::Waiting(mut waiting) = bench.found("k") else { panic!("not loaded") };
        let (group, ticket) = (Arc::clone(&bench.group), waiting.take_ticket().unwrap());
        let run =
            tokio::spawn(async move { group.load(ticket, || Some(Authority::owner(1))).await });
        yield_now().await;
        let _ = bench.group.purge(std::slice::from_ref(&scope));
        bench.group.carry_out_purges();
        go.send(()).unwrap();
        run.await.unwrap();
        assert!(matches!(waiting.outcome().await, Outcome::Loaded(_)), "it is answered");
        assert_eq!(bench.entries(), u64::from(!is_purged), "{scope:?}");
    }
}

#[tokio::test]
async fn what_is_purged_is_neither_stale_nor_known_to_be_absent() {
    let (bench, go) = loading();
    go.send(()).unwrap();
    assert!(matches!(load(&bench, "k").await, Outcome::Loaded(_)));
    assert!(matches!(load(&bench, "nobody").await, Outcome::Absent));
    assert!(matches!(bench.found("nobody"), Found::Absent), "that is known");
    bench.clock.advance(Duration::from_secs(2));
    let Found::Waiting(waiting) = bench.found("k") else { panic!("it is over") };
    assert!(waiting.stale().is_some_and(|stale| stale.now));
    drop(waiting.outcome().await);
    let _ = bench.group.purge(&[tag("t")]);
    let Found::Waiting(waiting) = bench.found("k") else { panic!("it is purged") };
    assert!(waiting.stale().is_none());
    drop(waiting.outcome().await);
    assert!(matches!(bench.found("nobody"), Found::Waiting(_)), "it is asked for again");
}

#[tokio::test]
async fn a_value_with_tags_that_can_not_be_is_answered_and_not_kept() {
    let origin =
        |key: String| async move { Ok(Some(Loaded { tags: "a b".into(), ..Loaded::from(key) })) };
    let bench = Bench::with(|definition| {
        definition.origin = OriginDefinition::Asked(Asked::new(origin));
    });
    assert!(matches!(load(&bench, "k").await, Outcome::Loaded(_)));
    assert_eq!(bench.entries(), 0);
    let write = Write { key: "k", tags: "a b", ..Write::default() };
    assert_eq!(bench.group.set(&write, owner).unwrap_err().code(), Code::InvalidRequest);
}

/// Notes a purge as one that has come in right now, though somebody is in a critical section.
fn noted(bench: &Bench, scope: &Scope) {
    let scopes = std::slice::from_ref(scope);
    let (tick, everything) = bench.group.purges.note(scopes, &bench.group.hybrid);
    if everything {
        bench.group.raise_floor(tick);
    }
}

#[tokio::test]
async fn a_change_that_has_been_judged_before_a_purge_leaves_nothing() {
    for scope in [Scope::Everything, prefix("k"), tag("t")] {
        let bench = Bench::new();
        let write = Write { key: "k", tags: "t", ..Write::default() };
        let owned = || {
            noted(&bench, &scope);
            owner()
        };
        bench.group.set(&write, owned).unwrap();
        assert!(!bench.has("k"), "{scope:?}");

        let (bench, go) = loading();
        go.send(()).unwrap();
        let Found::Waiting(mut waiting) = bench.found("k") else { panic!("not loaded") };
        let owned = || {
            noted(&bench, &scope);
            Some(Authority::owner(1))
        };
        bench.group.load(waiting.take_ticket().unwrap(), owned).await;
        assert!(matches!(waiting.outcome().await, Outcome::Loaded(_)), "it is answered");
        assert!(!bench.has("k"), "{scope:?}");
    }
}

/// A group whose origin's values are ticks of when they were true.
fn ticking() -> Bench {
    let hybrid = Arc::new(std::sync::OnceLock::<HybridClock>::new());
    let of_origin = Arc::clone(&hybrid);
    let origin = move |_| {
        let now = of_origin.get().unwrap().tick().to_string();
        async { Ok(Some(Loaded { tags: "t".into(), ..Loaded::from(now) })) }
    };
    let bench = Bench::with(|it| it.origin = OriginDefinition::Asked(Asked::new(origin)));
    hybrid.set(bench.group.hybrid.clone()).unwrap();
    bench
}

/// Sets, loads and values that are brought with tokens end while purges come in: what is there after a
/// purge was true after it. But for plain sets, which say nothing of when.
#[test]
fn purges_that_race_with_changes_leave_nothing_from_before() {
    let bench = ticking();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let stop = AtomicBool::new(false);
    // Somebody else's turn between the look and what follows from it.
    let owned = || {
        std::thread::yield_now();
        owner()
    };
    let on = |work: &dyn Fn(&str)| {
        while !stop.load(Ordering::Relaxed) {
            (0..50).for_each(|n| work(&format!("k{n}")));
        }
    };
    let write = |key: &str, value: &str, token| {
        let write = Write { key, tags: "t", value: value.as_bytes(), token, ..Write::default() };
        bench.group.set(&write, owned).is_ok()
    };
    let bring = |key: &str| {
        let leased = bench.group.get_leased(usize::MAX, key, owned).unwrap();
        if let Leased::Token(token) = leased {
            write(key, &bench.group.hybrid.tick().to_string(), Some(token));
        }
    };
    let load = |key: &str| {
        if let Found::Waiting(mut waiting) = bench.found(key)
            && let Some(ticket) = waiting.take_ticket()
        {
            let _timers = runtime.enter();
            let load = bench.group.load(ticket, || owned().ok());
            load.now_or_never().expect("it does not wait");
        }
    };
    let set = |key: &str| assert!(write(key, &u64::MAX.to_string(), None));
    std::thread::scope(|scope| {
        scope.spawn(|| on(&bring));
        scope.spawn(|| on(&load));
        scope.spawn(|| {
            on(&|key| {
                if key.ends_with('0') {
                    set(key)
                }
            })
        });
        scope.spawn(|| on(&|_| _ = bench.group.carry_out_purges()));
        for n in 0..2000 {
            let before = bench.group.hybrid.tick();
            let scope = if n % 2 == 0 { prefix("k") } else { tag("t") };
            let _ = bench.group.purge(&[scope]);
            for key in 0..50 {
                let Found::Hit(item) = bench.found(&format!("k{key}")) else { continue };
                let value = String::from_utf8(item.entry.value().to_vec()).unwrap();
                let is_new = value.parse::<u64>().unwrap() > before;
                // Otherwise nobody would ever stop.
                stop.fetch_or(!is_new, Ordering::Relaxed);
                assert!(is_new && item.entry.version().clock > before);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let _ = bench.group.purge(&[Scope::Everything]);
    bench.group.carry_out_purges();
    assert_eq!(bench.entries(), 0);
}
