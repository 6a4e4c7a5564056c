//! The coherence of near caches: hot keys, one writer each whose values only rise, readers through two
//! gateways, while a gateway is stopped, a link is cut, and an owner is killed and started again. No read
//! that starts after a write was acknowledged returns an older value.

use std::{path::PathBuf, time::Duration};

use fleet::{
    checker::{self, Verdict},
    cluster::{Cluster, Plan},
    coherence::Scene,
    history::{FaultKind, GroupKind, History},
    process::Signal,
    proxy::Rule,
    report::{Counts, Report},
    timers,
    trial::trial,
};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use super::row::{Form, NODES};

const ID: &str = "near";
const GROUP: &str = "default";
const GATEWAYS: usize = 2;
const KEYS: usize = 12;
/// Connections of readers to each gateway: several for each of its workers.
const READERS: usize = 4;
/// Reads of the long form.
const MANY: u64 = 10_000_000;
/// How long a gateway is stopped: several leases, and less than readers wait.
const STOPPED: Duration = Duration::from_secs(1);
/// How long a link is cut.
const CUT: Duration = Duration::from_secs(2);

#[tokio::test]
async fn near_cache_short() {
    trial(async || {
        let seen = attempt(Form::Short).await;
        seen.judge();
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "long: make faults"]
async fn near_cache_long() {
    timers::assert_punctual().await;
    let mut report = Report::begin(ID).unwrap();
    let seen = attempt(Form::Long).await;
    let Seen { reads, near, writes, verdict } = &seen;
    let note = format!("{reads} reads, {near} of them from near caches, {writes} writes");
    report.note(note).unwrap();
    report
        .run(Counts {
            requests: verdict.operations,
            failed: 0,
            wrong: verdict.wrong.len() as u64,
            older: verdict.older.len() as u64,
        })
        .unwrap();
    seen.judge();
    assert!(seen.reads >= MANY, "only {} reads", seen.reads);
    report.passed().unwrap();
}

struct Seen {
    reads: u64,
    /// How many of them were answered by near caches.
    near: u64,
    writes: u64,
    verdict: Verdict,
}

impl Seen {
    fn judge(&self) {
        let Self { reads, near, writes, verdict } = self;
        eprintln!("near caches: {reads} reads ({near} near), {writes} writes: {verdict}");
        verdict.assert_none_wrong();
        verdict.assert_none_older();
        assert!(near * 2 > *reads, "only {near} of {reads} reads were answered by near caches");
        assert!(*writes > 100, "only {writes} writes were acknowledged");
    }
}

async fn attempt(form: Form) -> Seen {
    let plan = Plan { nodes: NODES, gateways: GATEWAYS, ..Plan::default() };
    let mut cluster = Cluster::start(plan.lease_ttl(form.ttl()).proxied()).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let file: PathBuf = place.path().join("near.history");
    let history = History::create(&file, "near caches").unwrap();
    history.group(GROUP, GroupKind::CacheAvailable);
    let scene = Scene {
        group: GROUP.to_owned(),
        keys: (0..KEYS).map(|key| format!("hot-{key}")).collect(),
        history: history.clone(),
        stop: CancellationToken::new(),
    };
    let gateways = cluster.gateway_addresses();
    let (mut readers, mut writers) = (JoinSet::new(), JoinSet::new());
    for key in 0..KEYS {
        writers.spawn(scene.clone().write(gateways.clone(), key));
    }
    for reader in 0..READERS * GATEWAYS {
        readers.spawn(scene.clone().read(gateways[reader % GATEWAYS], reader as u64));
    }
    // Each fault has a time of calm behind it, in which the next one meets loans again.
    for round in 0..form.either(1, 10) {
        break_and_mend(&mut cluster, &history, round, form).await;
    }
    let near = near_hits(&cluster).await;
    scene.stop.cancel();
    let reads = readers.join_all().await.into_iter().sum();
    let writes = writers.join_all().await.into_iter().sum();
    history.finish().unwrap();
    let verdict = tokio::task::spawn_blocking(move || checker::check_file(&file)).await;
    drop(place);
    Seen { reads, near, writes, verdict: verdict.unwrap().unwrap() }
}

/// Each fault once, on another process each time.
async fn break_and_mend(cluster: &mut Cluster, history: &History, round: usize, form: Form) {
    let calm = form.either(Duration::from_secs(1), Duration::from_secs(7));
    let (gateway, node) = (round % GATEWAYS, round % NODES);
    let refused = ["5", "none", "reset"];
    sleep(calm).await;

    let fault = history.fault(FaultKind::Disturbance, &refused, "a gateway stopped");
    cluster.gateway(gateway).signal(Signal::STOP).unwrap();
    sleep(STOPPED).await;
    cluster.gateway(gateway).signal(Signal::CONT).unwrap();
    history.healed(fault);
    sleep(calm).await;

    let fault = history.fault(FaultKind::Disturbance, &refused, "a gateway cut from a node");
    let cut_off = cluster.gateway(gateway).process().id();
    cluster.node(node).proxy().set_for(cut_off, Rule::Blackhole);
    sleep(CUT).await;
    cluster.node(node).proxy().heal();
    history.healed(fault);
    sleep(calm).await;

    let fault = history.fault(FaultKind::Disturbance, &refused, "a node killed and started");
    cluster.node(node).kill();
    cluster.restart_node(node).await.unwrap();
    cluster.wait_ready().await;
    history.healed(fault);
    sleep(calm).await;
}

/// Reads that the gateways answered from their near caches.
async fn near_hits(cluster: &Cluster) -> u64 {
    let mut hits = 0;
    for gateway in cluster.gateways() {
        let metrics = gateway.get("/metrics").await.unwrap().text();
        let of_worker = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            name.starts_with("ringway_near_hits_total").then(|| value.parse::<u64>().ok())?
        };
        hits += metrics.lines().filter_map(of_worker).sum::<u64>();
    }
    hits
}
