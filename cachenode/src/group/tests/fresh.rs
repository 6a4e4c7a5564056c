//! How fresh what a group answers is: lifetimes that differ, loads before the time is over, values that
//! their origin renews, and what of a load is told to whoever waited for it.

use super::{loading::*, *};
use crate::{
    group::chance::Chance,
    loans::Holder,
    origin::{Asked, LoadError, Loaded, Loading, Origin, Reloaded, Reloading},
};

/// How an item came that was waited for.
async fn way(waiting: tokio::task::JoinHandle<Outcome>) -> Way {
    let Outcome::Loaded(item) = waiting.await.unwrap() else { panic!("a value") };
    item.way
}

#[test]
fn lifetimes_that_the_group_gives_differ_and_others_do_not() {
    let mut bench = bench(|it| (it.ttl, it.ttl_jitter) = (100 * SECOND, 100));
    bench.group.chance = Chance::new(7);
    let left = |bench: &Bench, key: &str| {
        let Found::Hit(item) = bench.get(key) else { panic!("{key} is there") };
        item.times.ttl_left().unwrap()
    };
    let mut all = Vec::new();
    for n in 0..1000 {
        let key = n.to_string();
        bench.set(&key, "x");
        all.push(left(&bench, &key));
    }
    let (least, most) = (*all.iter().min().unwrap(), *all.iter().max().unwrap());
    assert!(least >= 90 * SECOND && most <= 110 * SECOND, "{least:?} to {most:?}");
    assert!(least < 91 * SECOND && most > 109 * SECOND, "{least:?} to {most:?}");
    bench.group.chance = Chance::new(7);
    bench.set("again", "x");
    assert_eq!(left(&bench, "again"), all[0], "the same seed, the same lifetime");

    let exact = Write { ttl: Some(50 * SECOND), ..write("exact", "x") };
    bench.group.set(&exact, owner).unwrap();
    assert_eq!(left(&bench, "exact"), 50 * SECOND);
    let right = || Ok::<_, Error>(Authority::stand_in(1));
    bench.group.set(&write("elsewhere", "x"), right).unwrap();
    assert_eq!(left(&bench, "elsewhere"), STAND_IN_TTL);
}

/// A group whose loads took `took`, with `Tom` loaded and 10 s to live.
async fn loaded(took: Duration, change: impl FnOnce(&mut Definition)) -> Loads {
    let mut loads = loads(|it| {
        (it.ttl, it.early_refresh) = (10 * SECOND, 1000);
        change(it);
    });
    let waiting = loads.wait("Tom");
    let asked = loads.asked().await;
    loads.clock.advance(took);
    asked.send(value("630")).unwrap();
    assert_eq!(got(waiting).await, is("630"));
    loads
}

/// Reads until one begins a load; how many that took, at most `most`.
fn reads_until_early(loads: &Loads, most: usize) -> Option<(usize, Waiting)> {
    (1..=most).find_map(|n| match loads.get("Tom") {
        Found::Hit(_) => None,
        Found::Waiting(waiting) => Some((n, waiting)),
        other => panic!("{other:?}"),
    })
}

#[tokio::test]
async fn a_hot_key_is_loaded_before_its_time_is_over() {
    let mut loads = loaded(SECOND / 2, |_| ()).await;
    assert!(reads_until_early(&loads, 10_000).is_none(), "there is much time left");
    loads.clock.advance(9 * SECOND);
    let (_, mut waiting) = reads_until_early(&loads, 1000).expect("it is time");
    let stale = waiting.stale().expect("what is there is answered");
    assert!(stale.now && stale.item.times.over_for().is_zero());
    assert!(reads_until_early(&loads, 10_000).is_none(), "one load at a time");

    let (group, ticket) = (Arc::clone(&loads.group), waiting.take_ticket().unwrap());
    tokio::spawn(async move { group.load(ticket, || Some(Authority::owner(1))).await });
    loads.answer(value("631")).await;
    let Outcome::Loaded(item) = waiting.outcome().await else { panic!("a value") };
    let before = Before::Replaced;
    assert_eq!(item.way, Way::Loaded { before, is_stored: true });
    assert_eq!(loads.hit("Tom").as_deref(), Some("631"));
    // Past the time of the first value, and far from the end of the second's.
    loads.clock.advance(5 * SECOND);
    assert_eq!(loads.hit("Tom").as_deref(), Some("631"), "nobody has waited");
    let stats = loads.group.stats();
    assert_eq!((stats.misses, stats.loads, stats.early_loads), (1, 2, 1));
}

#[tokio::test]
async fn the_less_time_is_left_the_likelier_it_is() {
    let mut reads = Vec::new();
    for left in [2 * SECOND, SECOND, SECOND / 10] {
        let loads = loaded(SECOND / 2, |_| ()).await;
        loads.clock.advance(10 * SECOND - left);
        let mut sum = 0;
        for _ in 0..200 {
            let (n, waiting) = reads_until_early(&loads, 100_000).expect("at last");
            sum += n;
            // Given up: the failure is not remembered, as nobody asked.
            drop(waiting);
        }
        reads.push(sum / 200);
    }
    // The mean of e^(left/δ): 55, 7.4 and 1.2.
    assert!((35..80).contains(&reads[0]), "{reads:?}");
    assert!((5..11).contains(&reads[1]), "{reads:?}");
    assert_eq!(reads[2], 1, "{reads:?}");
}

#[tokio::test]
async fn nothing_is_loaded_early_that_should_not_be() {
    let off = loaded(SECOND / 2, |it| it.early_refresh = 0).await;
    off.clock.advance(10 * SECOND - SECOND / 100);
    assert!(reads_until_early(&off, 10_000).is_none(), "it is off");

    let quick = loaded(Duration::ZERO, |_| ()).await;
    quick.clock.advance(10 * SECOND - SECOND / 100);
    assert!(reads_until_early(&quick, 10_000).is_none(), "it costs nobody any time");

    let mut failing = loaded(SECOND / 2, |_| ()).await;
    failing.clock.advance(10 * SECOND - SECOND / 10);
    let (_, mut waiting) = reads_until_early(&failing, 1000).expect("it is time");
    let (group, ticket) = (Arc::clone(&failing.group), waiting.take_ticket().unwrap());
    tokio::spawn(async move { group.load(ticket, || Some(Authority::owner(1))).await });
    failing.answer(Err(LoadError::failed("no"))).await;
    assert!(matches!(waiting.outcome().await, Outcome::Failed(_)));
    assert!(reads_until_early(&failing, 1000).is_none(), "it has just failed");
}

/// Shortly before the end of a value of ten seconds its origin has it no more.
async fn an_early_load_finds_nothing(loads: &mut Loads) {
    loads.clock.advance(10 * SECOND - SECOND / 10);
    let (_, mut waiting) = reads_until_early(loads, 1000).expect("it is time");
    let (group, ticket) = (Arc::clone(&loads.group), waiting.take_ticket().unwrap());
    tokio::spawn(async move { group.load(ticket, || Some(Authority::owner(1))).await });
    loads.answer(Ok(None)).await;
    assert!(matches!(waiting.outcome().await, Outcome::Absent));
}

#[tokio::test]
async fn an_early_load_that_finds_nothing_leaves_a_value_its_time() {
    let mut loads = loaded(SECOND / 2, |it| it.negative_ttl = 60 * SECOND).await;
    an_early_load_finds_nothing(&mut loads).await;
    assert_eq!(loads.hit("Tom").as_deref(), Some("630"));
    loads.clock.advance(SECOND / 10);
    assert!(matches!(loads.get("Tom"), Found::Absent));
}

#[tokio::test]
async fn who_holds_a_value_counts_as_reading_it_all_the_time() {
    let loads = loaded(SECOND / 100, |_| ()).await;
    let (holder, _told) = Holder::new();
    let lend = || {
        let right = || Ok::<_, Infallible>(Authority::owner(1));
        loads.group.lend(1000, "Tom", &holder, common::near::LEASE, right).unwrap()
    };
    assert!(matches!(lend(), Lending::Lent(..)));
    // Nobody else would load it so early: left are twenty times what a load takes.
    loads.clock.advance(10 * SECOND - common::near::LEASE);
    assert!(reads_until_early(&loads, 1000).is_none());
    let early = lend();
    assert!(matches!(early, Lending::Early(_)));
    assert!(matches!(lend(), Lending::Lent(..)), "and the others go on holding it");
}

type Renewal = std::result::Result<Reloaded, LoadError>;

/// An origin that tells whether a value is still true, once for each answer it is given.
struct Renewing(std::sync::Mutex<Vec<Renewal>>);

impl Origin for Renewing {
    fn load(&self, _: String) -> Loading {
        let loaded = Loaded { validator: "v1".into(), ..Loaded::from("630") };
        Box::pin(async { Ok(Some(loaded)) })
    }

    fn reload(&self, _: String, validator: String) -> Reloading {
        assert_eq!(validator, "v1");
        let answer = self.0.lock().unwrap().remove(0);
        Box::pin(async { answer })
    }
}

fn renewing(answers: Vec<Renewal>) -> Loads {
    loads(|it| {
        it.ttl = 10 * SECOND;
        it.origin = OriginDefinition::Asked(Asked::new(Renewing(answers.into())));
    })
}

#[tokio::test]
async fn what_its_origin_renews_keeps_its_place_and_its_version() {
    let unchanged = |ttl| Ok(Reloaded::Unchanged { ttl });
    let loads = renewing(vec![unchanged(None), unchanged(Some(SECOND))]);
    assert_eq!(got(loads.wait("Tom")).await, is("630"));
    let Found::Hit(first) = loads.get("Tom") else { panic!("it is there") };
    for life in [10 * SECOND, SECOND] {
        loads.clock.advance(first.times.ttl_left().unwrap());
        loads.group.maintain();
        let renewed = loads.wait("Tom");
        let before = Before::Renewed;
        assert_eq!(way(renewed).await, Way::Loaded { before, is_stored: true });
        let Found::Hit(item) = loads.get("Tom") else { panic!("it is there") };
        assert_eq!(
            (item.entry.version(), item.times.ttl_left()),
            (first.entry.version(), Some(life))
        );
        assert_eq!(item.entry.value().as_ptr(), first.entry.value().as_ptr(), "it was not copied");
        assert_eq!(item.times.age(), Duration::ZERO);
    }
    let stats = loads.group.stats();
    assert_eq!((stats.loads, stats.renewals), (1, 2));
}

#[tokio::test]
async fn what_was_written_during_a_renewal_stays() {
    let mut loads = loads(|it| {
        it.ttl = 10 * SECOND;
        it.origin = OriginDefinition::Asked(Asked::new(Renewing(
            vec![Ok(Reloaded::Unchanged { ttl: None })].into(),
        )));
    });
    assert_eq!(got(loads.wait("Tom")).await, is("630"));
    loads.clock.advance(10 * SECOND);
    let Found::Waiting(mut waiting) = loads.get("Tom") else { panic!("it is over") };
    loads.set("Tom", "written");
    let ticket = waiting.take_ticket().unwrap();
    loads.group.load(ticket, || Some(Authority::owner(1))).await;
    let Outcome::Loaded(item) = waiting.outcome().await else { panic!("a value") };
    assert_eq!(text(&item), "630", "it began before the write");
    assert_eq!(item.way, Way::Loaded { before: Before::Replaced, is_stored: false });
    assert_eq!(loads.hit("Tom").as_deref(), Some("written"));
    assert!(loads.nobody_asks());
}

#[tokio::test]
async fn what_is_renewed_after_it_was_thrown_out_is_as_good_as_loaded() {
    let loads = renewing(vec![Ok(Reloaded::Unchanged { ttl: None })]);
    assert_eq!(got(loads.wait("Tom")).await, is("630"));
    loads.clock.advance(10 * SECOND);
    let Found::Waiting(mut waiting) = loads.get("Tom") else { panic!("it is over") };
    let slot = loads.group.slots.of("Tom");
    assert!(loads.group.shape().store.remove_if(slot, &|_| true));
    let ticket = waiting.take_ticket().unwrap();
    loads.group.load(ticket, || Some(Authority::owner(1))).await;
    assert_eq!(loads.hit("Tom").as_deref(), Some("630"));
}

#[tokio::test]
async fn an_expired_value_that_can_be_renewed_is_kept_for_a_while() {
    let loads = renewing(vec![]);
    assert_eq!(got(loads.wait("Tom")).await, is("630"));
    loads.clock.advance(10 * SECOND + RENEWABLE_FOR - SECOND);
    loads.group.maintain();
    assert_eq!(loads.group.stats().entries, 1);
    let Found::Waiting(waiting) = loads.get("Tom") else { panic!("it is over") };
    let stale = waiting.stale().unwrap();
    assert!(!stale.now && !stale.on_error, "it is not answered");
    drop(waiting);
    loads.clock.advance(SECOND + SWEEP_EVERY);
    loads.group.maintain();
    assert_eq!(loads.group.stats().entries, 0);
}

#[tokio::test]
async fn what_became_of_a_load_is_told() {
    let stored = |before| Way::Loaded { before, is_stored: true };
    let fenced = |before| Way::Loaded { before, is_stored: false };
    let mut loads = loads(|it| (it.ttl, it.stale_if_error) = (10 * SECOND, 10 * SECOND));
    let (first, second) = (loads.get("Tom"), loads.get("Tom"));
    let (Found::Waiting(mut first), Found::Waiting(second)) = (first, second) else {
        panic!("it is not there")
    };
    assert!(!first.is_joined() && second.is_joined());
    let (group, ticket) = (Arc::clone(&loads.group), first.take_ticket().unwrap());
    tokio::spawn(async move { group.load(ticket, || Some(Authority::owner(1))).await });
    loads.answer(value("630")).await;
    assert_eq!(way(tokio::spawn(first.outcome())).await, stored(Before::Nothing));
    assert_eq!(way(tokio::spawn(second.outcome())).await, stored(Before::Nothing));

    loads.clock.advance(10 * SECOND);
    let waiting = loads.wait("Tom");
    loads.answer(value("631")).await;
    assert_eq!(way(waiting).await, stored(Before::Replaced));

    let waiting = loads.wait("Jack");
    let asked = loads.asked().await;
    loads.delete("Jack").unwrap_err();
    asked.send(value("589")).unwrap();
    assert_eq!(way(waiting).await, fenced(Before::Nothing));
}

#[tokio::test]
async fn a_value_that_may_not_be_kept_ends_the_one_before() {
    let mut loads = over(60, 60).await;
    let waiting = loads.wait("Tom");
    loads.answer(Ok(Some(Loaded { ttl: Some(Duration::ZERO), ..Loaded::from("new") }))).await;
    assert_eq!(got(waiting).await, is("new"));
    assert_eq!(stale(&loads.get("Tom")), None, "nobody is to find the older one after that");
}

#[tokio::test]
async fn a_key_that_the_origin_cant_be_asked_for_is_no_failure_of_it() {
    let mut loads = loads(|_| ());
    for _ in 0..2 {
        let waiting = loads.wait("..");
        loads.answer(Err(LoadError::Refused)).await;
        assert_eq!(got(waiting).await, Err(Code::InvalidRequest));
    }
    assert_eq!(loads.group.stats().failed_loads, 0);
}

#[tokio::test]
async fn patience_with_the_origin_is_told_where_there_is_something_else() {
    let mut loads = loads(|it| {
        (it.ttl, it.stale_if_error, it.soft_timeout) = (10 * SECOND, 10 * SECOND, SECOND / 10);
    });
    let waiting = loads.wait("Tom");
    loads.answer(value("630")).await;
    assert_eq!(got(waiting).await, is("630"));
    loads.clock.advance(10 * SECOND);
    let Found::Waiting(waiting) = loads.get("Tom") else { panic!("it is over") };
    assert_eq!(waiting.stale().unwrap().patience, Some(SECOND / 10));
}

#[tokio::test]
async fn another_origin_is_not_asked_whether_the_value_of_the_former_one_is_true() {
    let loads = renewing(vec![]);
    assert_eq!(got(loads.wait("Tom")).await, is("630"));
    let mut definition = Definition::clone(&loads.group.definition());
    // It would take what is not its own for its own.
    let unchanged = Ok(Reloaded::Unchanged { ttl: None });
    definition.origin = OriginDefinition::Asked(Asked::new(Renewing(vec![unchanged].into())));
    loads.group.define(definition.clone());
    // The next definition keeps that in mind, and so does a move.
    loads.group.define(Definition { capacity: 1 << 20, eviction: Eviction::TinyLfu, ..definition });
    loads.group.move_entries();
    for before in [Before::Nothing, Before::Renewed] {
        loads.clock.advance(10 * SECOND);
        let way = way(loads.wait("Tom")).await;
        assert_eq!(way, Way::Loaded { before, is_stored: true });
    }
}

#[tokio::test]
async fn what_is_known_to_be_gone_is_not_answered_after_its_time() {
    let mut loads = loaded(SECOND / 2, |it| {
        it.negative_ttl = SECOND / 100;
        it.stale_while_revalidate = 60 * SECOND;
        it.stale_if_error = 60 * SECOND;
    })
    .await;
    an_early_load_finds_nothing(&mut loads).await;
    assert_eq!(loads.hit("Tom").as_deref(), Some("630"), "so long it was promised");
    loads.clock.advance(SECOND / 10);
    assert_eq!(stale(&loads.get("Tom")), None);
    assert_eq!(loads.group.stats().entries, 0);
}

#[tokio::test]
async fn what_nobody_used_for_long_is_stale_from_when_that_was_too_long() {
    for (while_revalidating, now) in [(60, true), (2, false)] {
        let loads = loads(|it| {
            (it.ttl, it.idle) = (100 * SECOND, 5 * SECOND);
            it.stale_while_revalidate = while_revalidating * SECOND;
            it.origin = OriginDefinition::Asked(Asked::new(Renewing(vec![].into())));
        });
        assert_eq!(got(loads.wait("Tom")).await, is("630"));
        loads.clock.advance(8 * SECOND);
        let Found::Waiting(waiting) = loads.get("Tom") else { panic!("nobody used it") };
        let stale = waiting.stale().unwrap();
        assert_eq!((stale.now, stale.item.times.over_for()), (now, 3 * SECOND));
    }
}

#[tokio::test]
async fn a_value_with_too_many_tags_or_too_long_a_type_is_answered_all_the_same() {
    let mut loads = loads(|_| ());
    let long = Loaded { tags: "a,".repeat(40_000), ..Loaded::from("630") };
    let odd = Loaded { content_type: "t".repeat(70_000), ..Loaded::from("630") };
    for loaded in [long, odd] {
        let waiting = loads.wait("Tom");
        loads.answer(Ok(Some(loaded))).await;
        assert_eq!(got(waiting).await, is("630"));
        assert_eq!(loads.group.stats().entries, 0);
    }
}
