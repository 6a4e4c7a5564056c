//! Real nodes and one that does what the test says, in one ring; and a gateway's link to them.
#![allow(dead_code)] // each test crate uses its own part of it

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use cachenode::Node;
use common::{
    clock::{Clock, SystemClock},
    config::{GroupDefinition, Partition, Settings},
    discovery::{
        DEFAULT_LEASE_TTL, Discovery, GrpcProber, MemoryRegistry, NodeRecord, Registration,
        WantedRing,
    },
    key::GroupName,
    lifecycle::Lifecycle,
    link::{Answer, Call, Identity, Link, Peer},
    topology::{Epoch, Topologies, Topology, follow},
};
use proto::v1::{self, op::Kind};
use serde_json::json;
use tokio::{runtime::Handle, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::fake_node::{FakeNode, FakeStream, gateway, not_started, soon};

/// Long enough that no test meets it unless it means to.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// The most that a test's clock goes on from one look to the next: a node that looks every 20 ms finds
/// that it stood still when a test says so, and not when the machine did.
const MOST_AT_ONCE: Duration = Duration::from_millis(30);

/// A clock that a test can put forward: a process that reads it stood still.
#[derive(Clone)]
pub(crate) struct Skipping(Arc<Mutex<Shown>>);

struct Shown {
    time: Duration,
    /// What the machine's clock said at the last look; `None`: this one was stopped.
    looked: Option<Duration>,
}

impl Default for Skipping {
    fn default() -> Self {
        let time = SystemClock.monotonic();
        Self(Arc::new(Mutex::new(Shown { time, looked: Some(time) })))
    }
}

impl Skipping {
    pub(crate) fn skip(&self, time: Duration) {
        self.0.lock().unwrap().time += time;
    }

    /// From now on it only goes by skips: nothing runs out by itself.
    pub(crate) fn stop(&self) {
        self.0.lock().unwrap().looked = None;
    }
}

impl Clock for Skipping {
    fn monotonic(&self) -> Duration {
        let mut shown = self.0.lock().unwrap();
        if let Some(before) = shown.looked {
            let now = SystemClock.monotonic();
            shown.time += now.saturating_sub(before).min(MOST_AT_ONCE);
            shown.looked = Some(now);
        }
        shown.time
    }

    fn unix(&self) -> Duration {
        SystemClock.unix()
    }
}

/// What the other member does with an operation.
pub(crate) type Script = Arc<dyn Fn(&Kind) -> Option<Kind> + Send + Sync>;

/// A ring of one real node and one member that a test plays.
pub(crate) struct Bench {
    pub(crate) node: Node,
    pub(crate) clock: Skipping,
    lifecycle: Lifecycle,
    pub(crate) other: FakeNode,
    script: Arc<Mutex<Script>>,
    seen: Arc<Mutex<Vec<Kind>>>,
    topologies: Topologies,
    registry: MemoryRegistry,
    _registration: Registration,
    stop: CancellationToken,
    link: Link,
    /// The node's metrics when the test began.
    metrics: String,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        Self::with(Partition::Available).await
    }

    /// With a group that does this for keys whose owner can't be reached.
    pub(crate) async fn with(partition: Partition) -> Self {
        Self::by(Skipping::default(), partition).await
    }

    /// Whose node goes by that clock.
    pub(crate) async fn by(clock: Skipping, partition: Partition) -> Self {
        let registry = MemoryRegistry::new(Arc::new(SystemClock), DEFAULT_LEASE_TTL);
        let join = || Arc::new(registry.join(&WantedRing::default(), Arc::new(GrpcProber)));
        let lifecycle = Lifecycle::new(Duration::ZERO);
        let settings = settings(partition);
        let injected = Arc::new(clock.clone());
        let node = Node::start(&settings, join(), injected, &lifecycle).await.unwrap();
        let other = FakeNode::start("other").await;
        let watching = join();
        let registration = watching.register(record_of(&other));
        let stop = CancellationToken::new();
        let topologies = follow(watching, &TaskTracker::new(), stop.clone());
        let link = Link::spawn(&Handle::current(), gateway(), peer_of(&node), v1::Lane::Small);
        let script: Script = Arc::new(well);
        let mut bench = Self {
            node,
            clock,
            lifecycle,
            other,
            script: Arc::new(Mutex::new(script)),
            seen: Arc::default(),
            topologies,
            registry,
            _registration: registration,
            stop,
            link,
            metrics: String::new(),
        };
        bench.play();
        bench.rings_agree(2).await;
        bench.warm_up().await;
        bench
    }

    /// Opens the links on which a test's operations go, so that no try of one is over before they are.
    async fn warm_up(&mut self) {
        let key = self.key(true, 0);
        fleet::eventually("a read is relayed", Duration::from_secs(2), async || {
            let _ = self.ask(get(&key)).await;
            self.metric("relays_done_total").await > 0
        })
        .await;
        self.seen.lock().unwrap().clear();
        self.metrics = self.page_of_metrics().await;
    }

    /// Another member joins, of whom nothing is known but a record, until what is returned goes.
    pub(crate) async fn passer_by(&self) -> PasserBy {
        let registry = self.registry.clone();
        let discovery = registry.join(&WantedRing::default(), Arc::new(GrpcProber));
        let (id, instance) = ("passer-by".parse().unwrap(), uuid::Uuid::from_u128(3));
        let registration = discovery.register(NodeRecord::new(id, instance, "127.0.0.1:1"));
        let mut passer_by = PasserBy { registration, topology: self.topology() };
        self.rings_agree(3).await;
        passer_by.topology = self.topology();
        passer_by
    }

    /// Another member joins, of whom a test says what it does, until what is returned goes.
    pub(crate) async fn neighbour(&self) -> Neighbour {
        let mut fake = FakeNode::start("neighbour").await;
        let script: Script = Arc::new(well);
        let (script, seen) = (Arc::new(Mutex::new(script)), Arc::default());
        play(&mut fake, &script, &seen);
        let registry = self.registry.clone();
        let discovery = registry.join(&WantedRing::default(), Arc::new(GrpcProber));
        let registration = discovery.register(record_of(&fake));
        self.rings_agree(3).await;
        Neighbour { fake, script, seen, _registration: registration }
    }

    /// A key whose preference list begins with these members.
    pub(crate) fn key_of(&self, members: &[&str], number: usize) -> String {
        let topology = self.topology();
        let is_it = |key: &String| {
            let position = topology.ring.position("default", key);
            let first = topology.preference(position).take(members.len());
            first.map(|member| topology.member(member).id.as_str()).eq(members.iter().copied())
        };
        (0..).map(|n| format!("k{n}")).filter(is_it).nth(number).unwrap()
    }

    /// Waits until the node and the test know a ring of so many.
    pub(crate) async fn rings_agree(&self, members: usize) {
        fleet::eventually("one ring", Duration::from_secs(1), async || {
            let topology = self.topology();
            topology.members().len() == members && self.node.ring_digest() == topology.epoch.digest
        })
        .await;
    }

    /// Lets the other member act by its script.
    fn play(&mut self) {
        play(&mut self.other, &self.script, &self.seen);
    }

    pub(crate) fn on(&self, script: impl Fn(&Kind) -> Option<Kind> + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Arc::new(script);
    }

    /// The other member crashes; it stays in the ring.
    pub(crate) async fn kill_other(&mut self) {
        self.other.kill().await;
    }

    /// The same life of it listens again.
    pub(crate) async fn revive_other(&mut self) {
        let (identity, address) = (self.other.identity.clone(), self.other.address.clone());
        self.other = FakeNode::start_as(identity, &address).await;
        self.play();
    }

    /// What the other member was asked so far, pings aside.
    pub(crate) fn seen(&self) -> Vec<Kind> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until the other member has been asked something.
    pub(crate) async fn sees(&self, what: &str, is_it: impl Fn(&Kind) -> bool) {
        let seen = async || self.seen().iter().any(&is_it);
        fleet::eventually(what, Duration::from_secs(2), seen).await;
    }

    pub(crate) fn topology(&self) -> Arc<Topology> {
        self.topologies.load()
    }

    /// A key of the other member, or of the real one.
    pub(crate) fn key(&self, of_other: bool, number: usize) -> String {
        let topology = self.topology();
        let is_it = |key: &String| {
            let (owner, _) = topology.owner("default", key).unwrap();
            (topology.member(owner).id.as_str() == "other") == of_other
        };
        (0..).map(|n| format!("k{n}")).filter(is_it).nth(number).unwrap()
    }

    /// Asks the real node as a gateway would that passes over the owner of other keys than its own.
    pub(crate) async fn ask(&self, request: v1::Request) -> Answer {
        self.ask_within(request, LONG).await
    }

    /// With so long for the first answer.
    pub(crate) async fn ask_within(&self, request: v1::Request, try_time: Duration) -> Answer {
        soon("an answer", self.link.call(self.call(request, try_time))).await
    }

    /// The same, in a task of its own.
    pub(crate) fn begin(&self, request: v1::Request) -> tokio::task::JoinHandle<Answer> {
        let (link, call) = (self.link.clone(), self.call(request, LONG));
        tokio::spawn(async move { link.call(call).await })
    }

    fn call(&self, mut request: v1::Request, try_time: Duration) -> Call {
        let topology = self.topology();
        let (owner, position) = topology.owner(&request.group, &request.key).unwrap();
        request.stand_in = topology.member(owner).id != *self.node.id();
        let now = Instant::now();
        let (try_deadline, deadline) = (now + try_time, now + LONG);
        let (request, stand_in) = (request.into(), false);
        let epoch = topology.epoch;
        Call { request, stand_in, other: None, epoch, position, try_deadline, deadline }
    }

    /// Asks by another epoch than that of the ring here.
    pub(crate) async fn ask_by(&self, request: v1::Request, epoch: Epoch) -> Answer {
        let call = Call { epoch, ..self.call(request, LONG) };
        soon("an answer", self.link.call(call)).await
    }

    /// Sends the node an operation that is no request, as `role`.
    pub(crate) async fn tell_as(&self, role: v1::Role, kind: Kind) -> Answer {
        self.tell_by(self.topology().epoch, role, kind).await
    }

    /// The same, by whatever epoch.
    pub(crate) async fn tell_by(&self, epoch: Epoch, role: v1::Role, kind: Kind) -> Answer {
        self.tell(Identity { role, ..gateway() }, epoch, kind).await
    }

    /// Asks the node for the hints that it keeps for that one.
    pub(crate) async fn ask_hints_as(&self, identity: Identity) -> Answer {
        let wanted = Kind::HintsWanted(v1::HintsWanted::default());
        self.tell(identity, self.topology().epoch, wanted).await
    }

    async fn tell(&self, identity: Identity, epoch: Epoch, kind: Kind) -> Answer {
        let peer = peer_of(&self.node);
        let link = Link::spawn(&Handle::current(), identity, peer, v1::Lane::Small);
        soon("an answer", link.call(Call::other(kind, epoch, Instant::now() + LONG))).await
    }

    /// What the node has counted since the test began.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let name = format!("ringway_{name}");
        let page = self.page_of_metrics().await;
        let before = fleet::metrics::value(&self.metrics, &name).unwrap_or(0.0);
        (fleet::metrics::value(&page, &name).unwrap() - before) as u64
    }

    async fn page_of_metrics(&self) -> String {
        fleet::http::get(self.node.http_address(), "/metrics").await.unwrap().text()
    }
}

fn play(fake: &mut FakeNode, script: &Arc<Mutex<Script>>, seen: &Arc<Mutex<Vec<Kind>>>) {
    let (script, seen) = (Arc::clone(script), Arc::clone(seen));
    let mut streams = fake.take_streams();
    tokio::spawn(async move {
        while let Some(stream) = streams.recv().await {
            tokio::spawn(act(stream, Arc::clone(&script), Arc::clone(&seen)));
        }
    });
}

/// A third member, which a test plays.
pub(crate) struct Neighbour {
    fake: FakeNode,
    script: Arc<Mutex<Script>>,
    seen: Arc<Mutex<Vec<Kind>>>,
    _registration: Registration,
}

impl Neighbour {
    pub(crate) fn on(&self, script: impl Fn(&Kind) -> Option<Kind> + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Arc::new(script);
    }

    pub(crate) fn has_seen(&self, is_it: impl Fn(&Kind) -> bool) -> bool {
        self.seen.lock().unwrap().iter().any(is_it)
    }

    /// It crashes; it stays in the ring.
    pub(crate) async fn kill(&mut self) {
        self.fake.kill().await;
    }

    /// The same life of it listens again.
    pub(crate) async fn revive(&mut self) {
        let (identity, address) = (self.fake.identity.clone(), self.fake.address.clone());
        self.fake = FakeNode::start_as(identity, &address).await;
        play(&mut self.fake, &self.script, &self.seen);
    }
}

/// A member that joined.
pub(crate) struct PasserBy {
    registration: Registration,
    /// The ring with it.
    pub(crate) topology: Arc<Topology>,
}

impl PasserBy {
    pub(crate) async fn leave(self) {
        self.registration.leave().await.unwrap();
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.cancel();
        self.lifecycle.stop().hard.cancel();
    }
}

fn settings(partition: Partition) -> Settings {
    let mut settings = Settings::default();
    (settings.node.port, settings.node.http_port, settings.node.workers) = (0, Some(0), 2);
    let name = GroupName::new("default").unwrap();
    let partition = if partition == Partition::Strict { "strict" } else { "available" };
    let keys = json!({"capacity": "1MiB", "ttl": "0s", "partition": partition});
    let group = GroupDefinition::read(&name, keys.as_object().unwrap(), "test").unwrap();
    settings.groups.insert(name, group);
    settings
}

fn record_of(fake: &FakeNode) -> NodeRecord {
    let FakeNode { identity, address, .. } = fake;
    NodeRecord::new(identity.id.parse().unwrap(), identity.instance, address.clone())
}

fn peer_of(node: &Node) -> Peer {
    Peer {
        id: node.id().to_string(),
        instance: uuid::Uuid::nil(),
        address: node.grpc_address().to_string(),
    }
}

async fn act(mut stream: FakeStream, script: Arc<Mutex<Script>>, seen: Arc<Mutex<Vec<Kind>>>) {
    while let Ok(Some(batch)) = stream.next_ever().await {
        for v1::Op { id, kind } in batch.ops {
            let Some(kind) = kind else { continue };
            if !matches!(kind, Kind::Ping(_) | Kind::Cancel(_)) {
                seen.lock().unwrap().push(kind.clone());
            }
            let script = Arc::clone(&script.lock().unwrap());
            if let Some(answer) = script(&kind) {
                stream.answer(id, answer).await;
            }
        }
    }
}

/// Answers everything, knows nothing.
pub(crate) fn well(kind: &Kind) -> Option<Kind> {
    match kind {
        Kind::Ping(_) => Some(Kind::Pong(v1::Pong::default())),
        Kind::HintsWanted(_) => Some(Kind::Hint(v1::Hint::default())),
        Kind::Request(_) | Kind::Hint(_) | Kind::Takeover(_) => {
            Some(Kind::Reply(v1::Reply::default()))
        }
        _ => None,
    }
}

/// Is alive, and refuses to begin.
pub(crate) fn refusing(kind: &Kind) -> Option<Kind> {
    match kind {
        Kind::Request(_) => Some(not_started(v1::not_started::Reason::CatchingUp)),
        other => well(other),
    }
}

/// Is alive, and does not answer requests.
pub(crate) fn hanging(kind: &Kind) -> Option<Kind> {
    if matches!(kind, Kind::Request(_)) { None } else { well(kind) }
}

pub(crate) fn get(key: &str) -> v1::Request {
    request(v1::Verb::Get, key)
}

pub(crate) fn set(key: &str, value: &str) -> v1::Request {
    v1::Request { value: value.to_owned().into(), ..request(v1::Verb::Set, key) }
}

pub(crate) fn request(verb: v1::Verb, key: &str) -> v1::Request {
    let (group, key) = ("default".to_owned(), key.to_owned());
    v1::Request { verb: verb.into(), group, key, ..Default::default() }
}

/// The same under a name, as gateways send writes; a test has one of them.
pub(crate) fn named(request: v1::Request) -> v1::Request {
    v1::Request { op_link: vec![7; 16].into(), op_seq: 1, ..request }
}

/// The reply, which must be one.
pub(crate) fn reply(answer: Answer) -> v1::Reply {
    match answer {
        Answer::Reply(reply) => reply,
        other => panic!("not a reply: {other:?}"),
    }
}

/// The value of a read, or how it failed.
pub(crate) fn value(answer: Answer) -> Result<String, v1::Code> {
    let reply = reply(answer);
    match reply.code() {
        v1::Code::Ok => Ok(String::from_utf8(reply.value.to_vec()).unwrap()),
        code => Err(code),
    }
}

/// Whether an operation is a hint that names this key.
pub(crate) fn hints(kind: &Kind, key: &str) -> bool {
    matches!(kind, Kind::Hint(hint) if hint.keys.iter().any(|hinted| hinted.key == key))
}
