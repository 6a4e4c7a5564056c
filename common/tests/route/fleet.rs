//! A few fake nodes, a router to them, and what was asked of whom.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{
    clock::ManualClock,
    discovery::{NodeRecord, RingSettings, View},
    entry::Version,
    error::Result,
    key::{GroupName, Key},
    route::{Answered, Ask, Persistence, Router, Shared, Write},
    topology::{Topologies, follow},
};
use proto::v1::{self, op::Kind};
use tokio::{runtime::Handle, task::yield_now, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    PATIENT, TRY,
    fake_discovery::FakeDiscovery,
    fake_node::{FakeNode, gateway, not_started, soon, value},
};

/// The generation of every view here.
pub(crate) const GENERATION: Uuid = Uuid::from_u128(77);
/// Long enough that no test meets it unless it means to.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// What a node does with requests.
pub(crate) type Script = Box<dyn Fn(&v1::Request) -> Option<Kind> + Send>;

/// One request, as a node saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) node: usize,
    pub(crate) request: v1::Request,
    pub(crate) lane: v1::Lane,
    pub(crate) as_of: u64,
    pub(crate) at: Instant,
}

/// Nodes `n0`, `n1`, … that answer reads with their name unless told otherwise.
pub(crate) struct Fleet {
    pub(crate) nodes: Vec<FakeNode>,
    pub(crate) discovery: Arc<FakeDiscovery>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) router: Arc<Router>,
    pub(crate) clock: ManualClock,
    scripts: Vec<Arc<Mutex<Script>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: CancellationToken,
}

impl Fleet {
    /// So many nodes, all of them members, and a router that waits for each.
    pub(crate) async fn new(count: usize) -> Self {
        Self::with_retries(count, 2).await
    }

    pub(crate) async fn with_retries(count: usize, max_retries: usize) -> Self {
        Self::with(count, Persistence { try_timeout: PATIENT, max_retries }).await
    }

    /// The same with a router that waits for [`TRY`], and links that are open: otherwise a slow
    /// machine takes a try's time to open one, and what was asked never leaves.
    pub(crate) async fn hasty(count: usize) -> Self {
        let fleet = Self::with(count, Persistence { try_timeout: TRY, max_retries: 2 }).await;
        fleet.open_links().await;
        fleet
    }

    pub(crate) async fn with(count: usize, persistence: Persistence) -> Self {
        let (discovery, stop, clock) =
            (FakeDiscovery::new(), CancellationToken::new(), ManualClock::new());
        let topologies = follow(discovery.clone(), &TaskTracker::new(), stop.clone());
        let shared =
            Arc::new(Shared::new(gateway(), topologies, persistence, Arc::new(clock.clone())));
        let router = Arc::new(Router::new(Arc::clone(&shared), Handle::current()));
        let (nodes, scripts, seen) = (Vec::new(), Vec::new(), Arc::default());
        let mut fleet = Self { nodes, discovery, shared, router, clock, scripts, seen, stop };
        for index in 0..count {
            let node = FakeNode::start(&format!("n{index}")).await;
            let name = node.identity.id.clone();
            fleet.scripts.push(Arc::new(Mutex::new(Box::new(move |_| Some(value(name.clone()))))));
            fleet.nodes.push(node);
            fleet.serve(index);
        }
        fleet.publish(1, 0..count).await;
        fleet
    }

    /// Opens the links to all nodes.
    pub(crate) async fn open_links(&self) {
        for node in 0..self.nodes.len() {
            let key = self.key(&[node]);
            let answers = async { while self.get(&key).await.ok() != Some(node) {} };
            soon("an answer of its own", answers).await;
        }
        self.seen();
    }

    /// Lets a node that was started answer by its script.
    pub(crate) fn serve(&mut self, index: usize) {
        let (script, seen) = (Arc::clone(&self.scripts[index]), Arc::clone(&self.seen));
        self.nodes[index].serve(move |asked| {
            seen.lock().unwrap().push(Seen {
                node: index,
                request: asked.request.clone(),
                lane: asked.lane,
                as_of: asked.epoch.as_of,
                at: Instant::now(),
            });
            script.lock().unwrap()(asked.request)
        });
    }

    pub(crate) fn on(
        &self,
        node: usize,
        script: impl Fn(&v1::Request) -> Option<Kind> + Send + 'static,
    ) {
        *self.scripts[node].lock().unwrap() = Box::new(script);
    }

    pub(crate) fn hangs(&self, node: usize) {
        self.on(node, |_| None);
    }

    pub(crate) fn refuses(&self, node: usize) {
        self.on(node, |_| Some(not_started(v1::not_started::Reason::Draining)));
    }

    pub(crate) fn record(&self, node: usize) -> NodeRecord {
        let FakeNode { identity, address, .. } = &self.nodes[node];
        NodeRecord::new(identity.id.parse().unwrap(), identity.instance, address.clone())
    }

    pub(crate) fn view(&self, as_of: u64, nodes: impl IntoIterator<Item = usize>) -> View {
        let records = nodes.into_iter().map(|node| self.record(node));
        view_of(as_of, records)
    }

    /// Makes these nodes the members, and waits until the topology says so.
    pub(crate) async fn publish(&self, as_of: u64, nodes: impl IntoIterator<Item = usize>) {
        self.publish_view(self.view(as_of, nodes)).await;
    }

    pub(crate) async fn publish_view(&self, view: View) {
        let as_of = view.as_of;
        self.discovery.publish(view);
        let mut changes = self.topologies().changes();
        soon("a topology", changes.wait_for(|epoch| epoch.as_of == as_of)).await.unwrap();
    }

    pub(crate) fn topologies(&self) -> &Topologies {
        &self.shared.topologies
    }

    /// A key for which nodes are asked in this order, by the present topology.
    pub(crate) fn key(&self, order: &[usize]) -> Key {
        let topology = self.topologies().load();
        self.key_where(|key| {
            let position = topology.ring.position(group().as_str(), key);
            topology.preference(position).take(order.len()).eq(order.iter().copied())
        })
    }

    pub(crate) fn key_where(&self, holds: impl Fn(&str) -> bool) -> Key {
        let key = (0..10_000).map(|i| format!("k{i}")).find(|key| holds(key)).expect("one in many");
        key.parse().unwrap()
    }

    pub(crate) async fn call(&self, ask: Ask) -> Result<Answered> {
        self.call_within(ask, LONG).await
    }

    pub(crate) async fn call_within(&self, ask: Ask, time: Duration) -> Result<Answered> {
        soon("an answer", self.router.call(ask, Instant::now() + time)).await
    }

    /// Reads a key, and says which node answered.
    pub(crate) async fn get(&self, key: &Key) -> Result<usize> {
        self.call(get(key)).await.map(|answered| node_of(&answered))
    }

    /// What the nodes were asked since this was called last.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    /// Whom the requests since then went to, and whether as a stand-in.
    pub(crate) fn asked(&self) -> Vec<(usize, bool)> {
        self.seen().iter().map(|seen| (seen.node, seen.request.stand_in)).collect()
    }

    /// Waits until so many requests have reached the nodes.
    pub(crate) async fn has_seen(&self, count: usize) {
        let arrived = || self.seen.lock().unwrap().len() >= count;
        eventually("a request", arrived).await;
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Waits until something holds, or fails the test.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    soon(what, async {
        while !holds() {
            yield_now().await;
        }
    })
    .await;
}

pub(crate) fn view_of(as_of: u64, records: impl IntoIterator<Item = NodeRecord>) -> View {
    View::new(GENERATION, as_of, RingSettings::default(), records)
}

pub(crate) fn get(key: &Key) -> Ask {
    Ask::get(group(), key.clone())
}

pub(crate) fn set(key: &Key) -> Ask {
    let write = Write { value: "v".into(), ..Write::default() };
    Ask::set(group(), key.clone(), write)
}

pub(crate) fn set_if_absent(key: &Key) -> Ask {
    let condition = Some(v1::Condition { if_absent: true, ..Default::default() });
    Ask::set(group(), key.clone(), Write { condition, ..Write::default() })
}

pub(crate) fn set_with_token(key: &Key) -> Ask {
    Ask::set(group(), key.clone(), Write { token: Some(7), ..Write::default() })
}

pub(crate) fn delete_if(key: &Key, version: Version) -> Ask {
    let if_version = vec![version.to_bytes().to_vec().into()];
    let condition = Some(v1::Condition { if_version, ..Default::default() });
    Ask::delete(group(), key.clone(), condition)
}

pub(crate) fn delete(key: &Key) -> Ask {
    Ask::delete(group(), key.clone(), None)
}

pub(crate) fn group() -> GroupName {
    "default".parse().unwrap()
}

/// Which of the fleet's nodes answered.
pub(crate) fn node_of(answered: &Answered) -> usize {
    answered.node().id.as_str().trim_start_matches('n').parse().unwrap()
}
