//! A fleet of real processes, its listeners, and an honest client beside whoever bothers them.

use std::{fs, net::SocketAddr, time::Duration};

use common::clock::{Clock, SystemClock};
use fleet::{
    checker::{Verdict, judge},
    cluster::{Cluster, Member, Plan},
    history::value,
    load::{Load, Running},
    memory,
    recorder::{Planned, Recording, Summary},
    report::Counts,
    timers,
};

use crate::capacity;

/// The largest value of the group `default`, in bytes.
pub(crate) const LARGE: usize = 1 << 20;
/// Where a value of that size is.
pub(crate) const LARGE_PATH: &str = "/api/cache/default/large";

/// The honest client's keys, and its operations per second in short forms.
const KEYS: u64 = 500;
const SHORT_RATE: f64 = 100.0;
/// How long the honest client works before long attacks, to compare with.
const BASELINE: Duration = Duration::from_secs(20);
/// A load is borne calmly if its p99 is within this: more than a fleet takes that has time to spare, on
/// any machine, and little enough for twice as much to be told from a queue.
const CALM: Duration = Duration::from_millis(30);
/// Loads that are tried, each half of the one before.
const TRIES: usize = 4;

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Speaks {
    /// A gateway's HTTP API.
    Api,
    /// A node's gRPC.
    Grpc,
    /// A node's probes.
    Probes,
}

/// A listener that is bothered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Listener {
    pub(crate) speaks: Speaks,
    pub(crate) address: SocketAddr,
}

/// A fleet under attack.
pub(crate) struct Bothered {
    pub(crate) cluster: Cluster,
    load: Running,
    rate: f64,
    /// Whether it was measured what the fleet can do: then the load has to have been borne.
    measured: bool,
    /// When the attack began.
    attacked: Duration,
}

/// What the honest client writes: mostly reads.
pub(crate) fn honest_plan() -> impl FnMut(u64) -> Option<Planned> + Send + 'static {
    |n| {
        let key = format!("key {}", n.wrapping_mul(7919) % KEYS);
        Some(if n % 10 == 0 {
            let value = value(&key, n + 1);
            Planned::set("default", key, value)
        } else {
            Planned::get("default", key)
        })
    }
}

impl Bothered {
    /// A fleet and a little honest load, for short forms: nobody asks for times.
    pub(crate) async fn short() -> Self {
        let plan = Plan { nodes: 2, ..Plan::default() };
        let cluster = Self::fleet(plan).await;
        let load = Load::new(cluster.gateway_addresses(), SHORT_RATE);
        let load = load.start(honest_plan());
        Self { cluster, load, rate: SHORT_RATE, measured: false, attacked: Duration::MAX }
    }

    /// A fleet and half of the load that it can bear, which it has borne for a while. What is answered
    /// at the most says little of what is answered in time: half of it may still be more than the machine
    /// has to spare, and then latencies show the machine. So the load is halved until it is borne calmly.
    pub(crate) async fn long() -> Self {
        timers::assert_punctual().await;
        let cluster = Self::fleet(Plan { nodes: 2, ..Plan::default() }).await;
        let gateways = cluster.gateway_addresses();
        let mut rate = capacity::measured(&gateways, honest_plan).await / 2.0;
        for _ in 0..TRIES {
            let load = Load::new(gateways.clone(), rate).start(honest_plan());
            tokio::time::sleep(BASELINE).await;
            let p99 = load.so_far().summary().latency.p99;
            eprintln!("honest load: {rate:.0} op/s, p99 {p99:.1?}");
            if p99 <= CALM {
                return Self { cluster, load, rate, measured: true, attacked: Duration::MAX };
            }
            load.stop().await;
            rate /= 2.0;
        }
        panic!("void: not even {:.0} op/s are answered in {CALM:?}", rate * 2.0);
    }

    /// Operations per second of the honest client.
    pub(crate) fn rate(&self) -> f64 {
        self.rate
    }

    async fn fleet(plan: Plan) -> Cluster {
        let cluster = Cluster::start(plan).await.unwrap();
        let large = "x".repeat(LARGE);
        let stored = cluster.gateway(0).write("default", "large", &large).await.unwrap();
        assert!((200..300).contains(&stored.status), "{}", stored.text());
        cluster
    }

    /// The listeners of a gateway and a node.
    pub(crate) fn listeners(&self) -> [Listener; 3] {
        let (gateway, node) = (self.cluster.gateway(0), self.cluster.node(0));
        [
            Listener { speaks: Speaks::Api, address: gateway.address() },
            Listener { speaks: Speaks::Grpc, address: node.address() },
            Listener { speaks: Speaks::Probes, address: node.probes() },
        ]
    }

    /// The processes that have them.
    pub(crate) fn members(&self) -> [&Member; 2] {
        [self.cluster.gateway(0), self.cluster.node(0)]
    }

    /// Resident bytes of those two, now.
    pub(crate) fn resident(&self) -> [usize; 2] {
        self.members().map(|member| memory::resident(member.process().id()).unwrap() as usize)
    }

    /// Resident bytes of those two, at most so far.
    pub(crate) fn peak(&self) -> [usize; 2] {
        self.members().map(|member| memory::peak(member.process().id()).unwrap() as usize)
    }

    /// From now on it is bothered.
    pub(crate) fn attacked_now(&mut self) {
        self.attacked = SystemClock.monotonic();
    }

    /// Ends the load.
    pub(crate) async fn end(self) -> Endured {
        let Self { cluster, load, rate, measured, attacked } = self;
        let recording = load.stop().await;
        let loaded = !measured || capacity::was_loaded(&recording, attacked, rate);
        assert!(loaded, "void: the fleet did not bear {rate:.0} op/s before it was attacked");
        Endured { cluster, recording, attacked }
    }
}

/// A fleet that was bothered, and what its honest client saw.
pub(crate) struct Endured {
    cluster: Cluster,
    recording: Recording,
    attacked: Duration,
}

impl Endured {
    /// The operations, for the report.
    pub(crate) fn counts(&self) -> Counts {
        let Summary { total, failed, .. } = self.recording.summary();
        let verdict = self.verdict();
        let (wrong, older) = (verdict.wrong.len() as u64, verdict.older.len() as u64);
        Counts { requests: total, failed, wrong, older }
    }

    fn verdict(&self) -> Verdict {
        judge(self.recording.operations.iter(), &[])
    }

    /// How the load went before and since the attack began.
    pub(crate) fn before_and_since(&self) -> (Summary, Summary) {
        let before = self.recording.between(Duration::ZERO, self.attacked).summary();
        (before, self.recording.between(self.attacked, Duration::MAX).summary())
    }

    /// Makes sure that no operation failed, and no process ended or panicked.
    pub(crate) fn assert_unharmed(&self, what: &str) {
        self.recording.assert_none_failed(what);
        self.verdict().assert_right();
        let cluster = &self.cluster;
        for member in [cluster.gateway(0), cluster.node(0), cluster.node(1)] {
            assert!(member.is_running(), "{} has ended", member.name());
            let log = fs::read_to_string(member.process().log()).unwrap();
            assert!(!log.contains("panicked"), "{}:\n{log}", member.name());
        }
    }
}

/// Runs attackers on a thread of their own: what they do must not hold up the honest client, whose
/// answers are timed on this one.
pub(crate) async fn apart<T, F>(attack: impl FnOnce() -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let running = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(attack())
    });
    match running.await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// By how much the one of them that grew more did.
pub(crate) fn grown(before: [usize; 2], after: [usize; 2]) -> usize {
    before.iter().zip(after).map(|(before, after)| after.saturating_sub(*before)).max().unwrap()
}
