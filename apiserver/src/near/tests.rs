//! A holder against a lender that is only imagined: what it asks for, holds, and gives up.

use common::{
    clock::ManualClock,
    config::GroupDefinition,
    discovery::{
        DEFAULT_LEASE_TTL, Discovery, GroupRecord, GrpcProber, MemoryDiscovery, MemoryRegistry,
        NodeRecord, WantedRing,
    },
    near::LEASE,
    topology::follow,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::*;

const MS: Duration = Duration::from_millis(1);

struct Bench {
    near: Near,
    clock: ManualClock,
    registry: MemoryRegistry,
    discovery: Arc<MemoryDiscovery>,
    topologies: Topologies,
}

impl Bench {
    async fn new(capacity: usize) -> Self {
        let clock = ManualClock::new();
        let near = Near::new(capacity, Arc::new(clock.clone()), NearMetrics::default());
        let registry = MemoryRegistry::new(Arc::new(clock.clone()), DEFAULT_LEASE_TTL);
        let discovery = Arc::new(registry.join(&WantedRing::default(), Arc::new(GrpcProber)));
        let topologies = follow(discovery.clone(), &TaskTracker::new(), CancellationToken::new());
        let bench = Self { near, clock, registry, discovery, topologies };
        bench.join(&[("a", 1)]).await;
        bench
    }

    /// From now on these nodes are members, in these lives.
    async fn join(&self, lives: &[(&str, u128)]) {
        for &(id, life) in lives {
            let record = NodeRecord::new(id.parse().unwrap(), Uuid::from_u128(life), "127.0.0.1:1");
            self.registry.put_raw(&record.id, &record.to_json().unwrap());
        }
        self.has_followed().await;
    }

    /// From now on the group is that one.
    async fn define(&self, group: &GroupRecord) {
        self.registry.put_raw_group("g", &group.to_json().unwrap());
        self.has_followed().await;
    }

    async fn has_followed(&self) {
        let now = self.discovery.views().borrow().as_ref().unwrap().as_of;
        self.topologies.changes().wait_for(|epoch| epoch.as_of == now).await.unwrap();
    }

    fn look(&self, key: &str) -> Look {
        self.near.look(&self.topologies, "g", key)
    }

    fn is_held(&self, key: &str) -> bool {
        matches!(self.look(key), Look::Held(_))
    }

    /// Reads until the key is hot.
    fn wish(&self, key: &str) -> Wish {
        let looks = std::iter::repeat_with(|| self.look(key)).take(2 * HOT as usize);
        let wishes = looks.filter_map(|look| match look {
            Look::Ask(wish) => wish,
            Look::Held(_) => None,
        });
        wishes.last().expect("a key that is read so often is hot")
    }

    fn lender(&self) -> Lender {
        Lender::new(self.topologies.load(), 0)
    }

    fn install(&self, wish: &Wish, key: &str, reply: &v1::Reply) {
        self.near.install(wish, "g", key, reply, self.lender());
    }

    fn hold(&self, key: &str, version: u64) {
        self.install(&self.wish(key), key, &lent(version));
    }

    fn invalidate(&self, key: &str, version: u64) {
        let (group, key) = ("g".to_owned(), key.to_owned());
        let invalidate = v1::Invalidate { group, key, version_hi: 1, version_lo: version };
        self.near.invalidate(&invalidate);
    }
}

fn lent(version: u64) -> v1::Reply {
    v1::Reply {
        value: version.to_string().into(),
        version_hi: 1,
        version_lo: version,
        age_ms: 10_000,
        loan_ms: LEASE.as_millis() as u32,
        ..Default::default()
    }
}

#[tokio::test]
async fn only_a_hot_key_is_asked_for_and_then_held() {
    let bench = Bench::new(1 << 20).await;
    for _ in 1..HOT {
        assert!(matches!(bench.look("k"), Look::Ask(None)));
    }
    let Look::Ask(Some(wish)) = bench.look("k") else { panic!("hot by now") };
    bench.install(&wish, "k", &v1::Reply { ttl_ms: 60_000, ..lent(7) });
    bench.clock.advance(100 * MS);
    let Look::Held(held) = bench.look("k") else { panic!("it was lent") };
    assert_eq!((&held.value[..], held.version.clock), (&b"7"[..], 7));
    assert_eq!(held.age, Duration::from_millis(10_100), "its age goes on");
    assert_eq!(held.ttl, Some(Duration::from_millis(59_900)));
    let hot = bench.near.hot_keys();
    assert_eq!((hot[0].group.as_str(), hot[0].key.as_str()), ("g", "k"));
    assert_eq!(hot[0].owner, "a");
}

#[tokio::test]
async fn a_lease_runs_from_before_the_question_and_a_tenth_is_given_up() {
    let bench = Bench::new(1 << 20).await;
    let wish = bench.wish("k");
    bench.clock.advance(100 * MS);
    bench.install(&wish, "k", &lent(1));
    bench.clock.advance(124 * MS);
    // The one that renews goes to the owner, the others are answered.
    assert!(matches!(bench.look("k"), Look::Ask(Some(_))));
    assert!(bench.is_held("k"));
    bench.clock.advance(MS);
    assert!(!bench.is_held("k"), "0.9 of 250 ms are over");
    bench.clock.advance(300 * MS);
    let wish = bench.wish("late");
    bench.clock.advance(225 * MS);
    bench.install(&wish, "late", &lent(1));
    assert!(!bench.is_held("late"), "the answer took as long as the lease");
}

#[tokio::test]
async fn what_is_held_of_a_group_is_not_answered_for_another_one_of_its_name() {
    let bench = Bench::new(1 << 20).await;
    let group = GroupRecord::new(GroupDefinition::default());
    bench.define(&group).await;
    bench.hold("k", 1);
    bench.define(&group).await;
    assert!(bench.is_held("k"), "it was changed, and is the same group");
    bench.define(&GroupRecord { definition: None, ..group.clone() }).await;
    assert!(!bench.is_held("k"), "it was deleted");
    bench.hold("k", 2);
    bench.define(&GroupRecord::new(GroupDefinition::default())).await;
    assert!(!bench.is_held("k"), "it is another one");
}

#[tokio::test]
async fn nothing_is_held_beyond_its_own_time_to_live() {
    let bench = Bench::new(1 << 20).await;
    bench.install(&bench.wish("k"), "k", &v1::Reply { ttl_ms: 50, ..lent(1) });
    bench.clock.advance(49 * MS);
    let _renewal = bench.look("k");
    assert!(bench.is_held("k"));
    bench.clock.advance(MS);
    assert!(!bench.is_held("k"));
}

#[tokio::test]
async fn a_renewal_makes_the_lease_longer_while_the_key_is_hot() {
    let bench = Bench::new(1 << 20).await;
    bench.hold("k", 1);
    for _ in 0..10 {
        bench.clock.advance(160 * MS);
        for _ in 0..HOT {
            let _ = bench.look("k");
        }
        bench.clock.advance(30 * MS);
        let Look::Ask(Some(renewal)) = bench.look("k") else { panic!("one renews") };
        assert!(bench.is_held("k"), "the others need not wait for it");
        bench.install(&renewal, "k", &lent(1));
    }
}

#[tokio::test]
async fn what_was_called_back_is_not_held_nor_installed_by_a_late_reply() {
    let bench = Bench::new(1 << 20).await;
    bench.hold("k", 1);
    bench.clock.advance(160 * MS);
    let late = bench.wish("k");
    bench.clock.advance(MS);
    bench.invalidate("k", 2);
    assert!(!bench.is_held("k"));
    bench.clock.advance(MS);
    bench.install(&late, "k", &lent(1));
    assert!(!bench.is_held("k"), "the reply was read before the write");
    bench.install(&late, "k", &lent(2));
    assert!(bench.is_held("k"), "the written value");
    bench.invalidate("k", 2);
    assert!(bench.is_held("k"), "it is no older");
}

#[tokio::test]
async fn what_is_asked_for_after_a_write_is_as_new_as_the_write() {
    let bench = Bench::new(1 << 20).await;
    bench.invalidate("k", 2);
    bench.clock.advance(MS);
    bench.hold("k", 1);
    assert!(bench.is_held("k"), "another owner's version may be lower");
}

#[tokio::test]
async fn a_reply_that_was_overtaken_changes_nothing() {
    let bench = Bench::new(1 << 20).await;
    let (early, late) = (bench.wish("k"), bench.wish("k"));
    bench.install(&late, "k", &lent(2));
    bench.install(&early, "k", &lent(1));
    let Look::Held(held) = bench.look("k") else { panic!("it was lent") };
    assert_eq!(held.version.clock, 2);
}

#[tokio::test]
async fn an_entry_goes_with_its_owner_and_its_owners_life() {
    for (after, stays) in [
        (vec![("a", 1), ("b", 1)], None),
        (vec![("a", 1)], Some(true)),
        (vec![("a", 2)], Some(false)),
    ] {
        let bench = Bench::new(1 << 20).await;
        let keys: Vec<String> = (0..50).map(|n| n.to_string()).collect();
        keys.iter().for_each(|key| bench.hold(key, 1));
        bench.join(&after).await;
        let ring = bench.topologies.load();
        for key in &keys {
            let owner = &ring.member(ring.owner("g", key).unwrap().0).id;
            let is_expected = stays.unwrap_or(owner.as_str() == "a");
            assert_eq!(bench.is_held(key), is_expected, "{key} of {after:?}");
        }
    }
}

#[tokio::test]
async fn what_may_not_be_held_is_not() {
    let bench = Bench::new(8 << 20).await;
    let stale = v1::Reply { source: v1::Source::Stale.into(), ..lent(1) };
    let large = v1::Reply { value: vec![0; BULK_OVER + 1].into(), ..lent(1) };
    for (key, reply) in [("stale", stale), ("large", large)] {
        bench.install(&bench.wish(key), key, &reply);
        assert!(!bench.is_held(key), "{key}");
    }
}

#[tokio::test]
async fn what_is_not_lent_is_not_asked_for_at_every_read() {
    let bench = Bench::new(1 << 20).await;
    let asks = |key: &str| matches!(bench.look(key), Look::Ask(Some(_)));
    bench.near.not_lent(&bench.wish("a"));
    assert!((0..100).all(|_| !asks("a")));
    let _ = bench.wish("b");
    // It may be by now.
    bench.clock.advance(LEASE);
    assert!(asks("a"));
    // What is remembered is bounded.
    (0..2 * MAX_UNLENT).for_each(|n| bench.near.not_lent(&bench.wish(&n.to_string())));
    assert_eq!(bench.near.lock().unlent.len(), MAX_UNLENT);
}

#[tokio::test]
async fn bytes_are_bounded() {
    let bench = Bench::new(64 << 10).await;
    for key in 0..500 {
        let key = key.to_string();
        let value = v1::Reply { value: vec![0; 1000].into(), ..lent(1) };
        for _ in 0..2 * HOT {
            if let Look::Ask(Some(wish)) = bench.look(&key) {
                bench.install(&wish, &key, &value);
            }
        }
    }
    let held = bench.near.lock().table.bytes();
    assert!((60 << 10..=64 << 10).contains(&held), "{held} bytes");
    // What finds no room is asked for in vain only so often.
    let asks = |key: &str| matches!(bench.look(key), Look::Ask(Some(_)));
    let wishes = (0..HOT).filter(|_| asks("one more")).count();
    assert_eq!(wishes, 0, "no hotter than those that are held");
}

/// A generator that is the same every time.
fn zipf(keys: usize, exponent: f64) -> impl FnMut() -> usize {
    let weights = (1..=keys).map(|rank| (rank as f64).powf(-exponent));
    let sums: Vec<f64> = weights
        .scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        })
        .collect();
    let total = sums[keys - 1];
    let mut random = fastrand::Rng::with_seed(7);
    move || sums.partition_point(|sum| *sum < random.f64() * total).min(keys - 1)
}

/// Reads 10,000 keys, 45,000 times a second, for five seconds: of the reads in the last four, the part
/// that was of held keys, and the part that was answered from them.
fn simulated(bench: &Bench, mut next: impl FnMut() -> usize) -> (f64, f64) {
    let keys: Vec<String> = (0..10_000).map(|key| format!("key-{key:016}")).collect();
    let (mut read, mut covered, mut answered) = (0, 0, 0);
    for turn in 0..5 * 45_000 {
        bench.clock.advance(Duration::from_nanos(22_222));
        let key = &keys[next()];
        let hash = bench.near.hash("g", key);
        let is_held = bench.near.lock().table.find(hash, "g", key).is_some();
        let look = bench.look(key);
        if turn >= 45_000 {
            read += 1;
            covered += usize::from(is_held);
            answered += usize::from(matches!(look, Look::Held(_)));
        }
        if let Look::Ask(Some(wish)) = look {
            let value = v1::Reply { value: vec![0; 1024].into(), ..lent(1) };
            bench.install(&wish, key, &value);
        }
    }
    let part = |of: usize| of as f64 / f64::from(read);
    (part(covered), part(answered))
}

#[tokio::test]
async fn with_zipf_two_thirds_of_all_reads_are_of_held_keys() {
    let bench = Bench::new(2 << 20).await;
    let (covered, answered) = simulated(&bench, zipf(10_000, 0.99));
    assert!(covered >= 0.65, "held keys have {covered:.3} of the reads, {answered:.3} answered");
    assert!(answered >= 0.5, "{answered:.3} answered");
}

#[tokio::test]
async fn keys_that_are_all_alike_are_left_where_they_are() {
    let bench = Bench::new(2 << 20).await;
    let mut random = fastrand::Rng::with_seed(7);
    let (covered, _) = simulated(&bench, || random.usize(0..10_000));
    assert!(covered < 0.15, "{covered:.3} of the reads are of held keys");
}
