//! Topologies over a discovery that says what the test tells it to.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::{sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::*;
use crate::{
    discovery::{Discovery, DiscoveryStatus, NodeState, Registration},
    error::{Code, Error, Result},
};

/// What a test publishes, and what `catch_up` finds ahead of it.
struct Fake {
    views: watch::Sender<Option<Arc<View>>>,
    status: watch::Sender<DiscoveryStatus>,
    ahead: watch::Sender<Option<Arc<View>>>,
}

impl Fake {
    fn new() -> Arc<Self> {
        let (views, status) = (watch::Sender::new(None), watch::Sender::default());
        Arc::new(Self { views, status, ahead: watch::Sender::new(None) })
    }

    fn publish(&self, view: View) {
        self.views.send_replace(Some(Arc::new(view)));
    }
}

impl Discovery for Fake {
    fn views(&self) -> watch::Receiver<Option<Arc<View>>> {
        self.views.subscribe()
    }

    fn status(&self) -> watch::Receiver<DiscoveryStatus> {
        self.status.subscribe()
    }

    fn catch_up(&self, as_of: u64) -> BoxFuture<'_, Result<Arc<View>>> {
        let found = self.ahead.borrow().clone().filter(|view| view.as_of >= as_of);
        let unreachable = || Error::new(Code::NodeUnavailable, "not that far");
        Box::pin(async move { found.ok_or_else(unreachable) })
    }

    fn register(&self, _record: NodeRecord) -> Registration {
        unreachable!("topology registers nobody")
    }
}

struct Following {
    fake: Arc<Fake>,
    topologies: Topologies,
    epochs: watch::Receiver<Epoch>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Following {
    fn new() -> Self {
        let (fake, tasks, stop) = (Fake::new(), TaskTracker::new(), CancellationToken::new());
        let topologies = follow(fake.clone(), &tasks, stop.clone());
        Self { fake, epochs: topologies.changes(), topologies, tasks, stop }
    }

    /// Publishes a view and waits for its topology.
    async fn publish(&mut self, view: View) -> Arc<Topology> {
        let (generation, as_of) = (view.generation, view.as_of);
        self.fake.publish(view);
        let arrived = |epoch: &Epoch| epoch.generation == generation && epoch.as_of == as_of;
        timeout(Duration::from_secs(10), self.epochs.wait_for(arrived)).await.unwrap().unwrap();
        self.topologies.load()
    }
}

fn record(id: &str) -> NodeRecord {
    NodeRecord::new(NodeId::new(id).unwrap(), Uuid::from_u128(1), format!("{id}:7000"))
}

fn view(as_of: u64, members: impl IntoIterator<Item = NodeRecord>) -> View {
    View::new(Uuid::from_u128(9), as_of, RingSettings::default(), members)
}

#[tokio::test]
async fn nobody_is_known_before_the_first_view() {
    let mut following = Following::new();
    let empty = following.topologies.load();
    assert_eq!((empty.members().len(), empty.owner("g", "k")), (0, None));
    assert_eq!(empty.epoch, Topology::empty().epoch);
    assert_eq!((empty.epoch.as_of, empty.preference(0).count()), (0, 0));

    let first = following.publish(view(5, [record("a"), record("b")])).await;
    assert_eq!((first.epoch.as_of, first.members().len()), (5, 2));
    assert_eq!(first.epoch.digest, first.ring.digest());
}

#[tokio::test]
async fn a_view_that_is_there_already_is_taken_up() {
    let (fake, tasks) = (Fake::new(), TaskTracker::new());
    fake.publish(view(5, [record("a")]));
    let topologies = follow(fake, &tasks, CancellationToken::new());
    let mut epochs = topologies.changes();
    let arrived = epochs.wait_for(|epoch| epoch.as_of == 5);
    timeout(Duration::from_secs(10), arrived).await.unwrap().unwrap();
    assert_eq!(topologies.load().members(), [record("a")]);
}

#[tokio::test]
async fn the_same_members_only_move_the_revision() {
    let mut following = Following::new();
    let old = following.publish(view(5, [record("a"), record("b")])).await;
    let new = following.publish(view(6, [record("a"), record("b")])).await;
    assert_eq!(new.epoch, Epoch { as_of: 6, ..old.epoch });
    assert!(Arc::ptr_eq(&old.ring, &new.ring) && Arc::ptr_eq(&old.members, &new.members));
}

#[tokio::test]
async fn other_members_weights_zones_or_settings_make_another_ring() {
    let mut following = Following::new();
    let base = [record("a"), record("b")];
    let heavy = [record("a"), NodeRecord { weight: 200, ..record("b") }];
    let zoned = [record("a"), NodeRecord { zone: "z".into(), ..record("b") }];
    let seeded = RingSettings { seed: "s".into(), ..RingSettings::default() };
    let mut digest = following.publish(view(1, base.clone())).await.epoch.digest;
    for (as_of, next) in [
        (2, view(2, [record("a"), record("b"), record("c")])),
        (3, view(3, [record("b"), record("c")])),
        (4, view(4, heavy)),
        (5, view(5, zoned)),
        (6, View { ring: seeded, ..view(6, base) }),
    ] {
        let expected: Vec<NodeRecord> = next.members.values().cloned().collect();
        let built = Ring::build(&next.ring, expected.iter().map(ring_member).collect());
        let topology = following.publish(next).await;
        assert_ne!(topology.epoch.digest, digest, "{as_of}");
        assert_eq!(topology.epoch.digest, built.digest());
        assert_eq!(topology.members(), expected);
        let (owner, position) = topology.owner("g", "k").unwrap();
        assert_eq!(Some(owner), built.owner(position));
        assert_eq!(topology.preference(position).next(), Some(owner));
        assert_eq!(topology.index_of(&topology.member(owner).id), Some(owner));
        digest = topology.epoch.digest;
    }
}

#[tokio::test]
async fn draining_is_seen_but_moves_no_key() {
    let mut following = Following::new();
    let old = following.publish(view(5, [record("a"), record("b")])).await;
    let draining = NodeRecord { state: NodeState::Draining, ..record("b") };
    let new = following.publish(view(6, [record("a"), draining])).await;
    assert!(Arc::ptr_eq(&old.ring, &new.ring));
    assert_eq!(old.epoch.digest, new.epoch.digest);
    assert_eq!(
        (old.member(1).state, new.member(1).state),
        (NodeState::Active, NodeState::Draining)
    );
}

#[tokio::test]
async fn another_generation_is_followed_even_to_a_lower_revision() {
    let mut following = Following::new();
    following.publish(view(50, [record("a")])).await;
    let wiped = View { generation: Uuid::from_u128(10), ..view(2, [record("b")]) };
    let topology = following.publish(wiped).await;
    assert_eq!(topology.members(), [record("b")]);
}

#[tokio::test]
async fn catching_up_gives_a_topology_of_that_revision_and_is_not_undone() {
    let mut following = Following::new();
    following.publish(view(5, [record("a")])).await;
    following.fake.ahead.send_replace(Some(Arc::new(view(8, [record("a"), record("b")]))));
    let caught_up = following.topologies.catch_up(7).await.unwrap();
    assert_eq!((caught_up.epoch.as_of, caught_up.members().len()), (8, 2));
    assert!(Arc::ptr_eq(&caught_up, &following.topologies.load()));
    assert_eq!(following.epochs.borrow().as_of, 8);

    // The watch is behind what was read: an earlier view comes late and changes nothing. The test
    // and the task share one thread, so giving way lets the task see it.
    following.fake.publish(view(6, [record("a")]));
    tokio::task::yield_now().await;
    assert_eq!(following.topologies.load().epoch.as_of, 8);
    let still = following.topologies.catch_up(8).await.unwrap();
    assert_eq!((still.epoch.as_of, still.members().len()), (8, 2));
}

#[tokio::test]
async fn catching_up_says_when_it_can_not() {
    let mut following = Following::new();
    following.publish(view(5, [record("a")])).await;
    following.fake.ahead.send_replace(Some(Arc::new(view(5, [record("a")]))));
    let error = following.topologies.catch_up(6).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::NodeUnavailable, "not that far"));

    // What was read belongs to a generation that discovery has left meanwhile.
    let left = View { generation: Uuid::from_u128(8), ..view(90, [record("z")]) };
    following.fake.ahead.send_replace(Some(Arc::new(left)));
    let error = following.topologies.catch_up(90).await.unwrap_err();
    assert_eq!(error.code(), Code::NodeUnavailable);
    assert_eq!(following.topologies.load().members(), [record("a")]);
}

#[tokio::test]
async fn after_the_stop_the_last_topology_stays() {
    let mut following = Following::new();
    following.publish(view(5, [record("a")])).await;
    following.fake.ahead.send_replace(Some(Arc::new(view(8, [record("b")]))));
    following.stop.cancel();
    following.tasks.close();
    timeout(Duration::from_secs(10), following.tasks.wait()).await.unwrap();
    let error = following.topologies.catch_up(8).await.unwrap_err();
    assert_eq!(error.message(), "this process is stopping");
    assert_eq!(following.topologies.load().epoch.as_of, 5);
}

#[tokio::test]
async fn the_status_is_that_of_discovery() {
    let following = Following::new();
    following.fake.status.send_modify(|status| status.connected = true);
    assert!(following.topologies.discovery_status().borrow().connected);
}
