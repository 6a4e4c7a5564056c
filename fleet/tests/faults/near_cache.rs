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
    timers::{self, Lateness},
    trial::{Void, trial},
};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    row::{Form, NODES},
    scene::counted,
};

const ID: &str = "near";
const GROUP: &str = "default";
pub(super) const GATEWAYS: usize = 2;
const KEYS: usize = 12;
/// Connections of readers to each gateway: several for each of its workers.
const READERS: usize = 4;
/// So many reads must be answered by near caches in short forms: a slow machine reads no key often enough
/// for it to be hot all the time. In long forms it is half of them.
const NEAR: u64 = 100;
/// Reads of the long form.
const MANY: u64 = 10_000_000;
/// How long a gateway is stopped: several leases, and less than readers wait.
const STOPPED: Duration = Duration::from_secs(1);
/// For how long relays are held up, in milliseconds: longer than they are waited for, and shorter than
/// an owner has to be silent to be taken for gone.
const HELD_UP: [u64; 4] = [120, 200, 300, 450];
/// Between two faults.
pub(super) const CALM: Duration = Duration::from_secs(1);
/// How long a link is cut.
const CUT: Duration = Duration::from_secs(2);
/// The faults in which a gateway is cut off from a node that lives.
const CUTS: [&str; 2] = ["a gateway cut from a node", "late relays to a node"];

#[tokio::test]
async fn near_cache_short() {
    trial(async || {
        let seen = attempt(Form::Short).await;
        seen.assert_valid()?;
        seen.judge(Form::Short);
        Ok(())
    })
    .await;
}

/// Relays of a living owner that are late, so that the next node may take it for gone: the way to it
/// holds up what it is sent, or a process stands still.
#[tokio::test]
async fn late_relays_short() {
    trial(async || {
        let seen = observe(Form::Short, async |cluster, history| {
            for round in 0..GATEWAYS {
                hold_up(cluster, history, round).await;
            }
        })
        .await;
        // Nobody is killed in between, and nothing is held up for so long.
        let seen = Seen { cut_off_too: seen.absences, ..seen };
        seen.assert_valid()?;
        seen.judge(Form::Short);
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
    let Seen { reads, near, writes, verdict, .. } = &seen;
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
    seen.assert_valid().unwrap();
    seen.judge(Form::Long);
    assert!(seen.reads >= MANY, "only {} reads", seen.reads);
    report.passed().unwrap();
}

pub(super) struct Seen {
    reads: u64,
    /// How many of them were answered by near caches.
    near: u64,
    /// Operations done in an owner's stead, and owners found to be absent.
    pub(super) stand_ins: u64,
    pub(super) absences: u64,
    /// Those that were found while a gateway was cut off, and the owner lived.
    cut_off_too: u64,
    /// The most that a timer of ours was late: how long this machine stood still.
    stall: Duration,
    writes: u64,
    verdict: Verdict,
}

impl Seen {
    /// Where the next node could not reach the owner for a while either, the table of promises permits older
    /// values, and such a run shows nothing if there are some. One that was read at any other time than
    /// while the owner was cut off is excused by nothing.
    fn assert_valid(&self) -> Result<(), Void> {
        let (older, stall) = (self.verdict.older.len(), self.stall);
        let in_cuts = self.verdict.faults.iter().filter(|fault| CUTS.contains(&&*fault.what));
        let excused: u64 = in_cuts.map(|fault| fault.older).sum();
        if self.cut_off_too == 0 || older == 0 || excused < older as u64 {
            return Ok(());
        }
        let text = format!(
            "{older} older values, but the next node was cut off too ({} absences in a cut; timers up to \
             {stall:.1?} late)",
            self.cut_off_too
        );
        Err(Void(text))
    }

    pub(super) fn judge(&self, form: Form) {
        let Self { reads, near, writes, verdict, stand_ins, absences, stall, .. } = self;
        eprintln!(
            "near caches: {reads} reads ({near} near), {writes} writes; {stand_ins} stand-ins, \
             {absences} absences, timers up to {stall:.1?} late: {verdict}"
        );
        verdict.assert_none_wrong();
        verdict.assert_none_older();
        let enough = form.either(*near >= NEAR, near * 2 > *reads);
        assert!(enough, "only {near} of {reads} reads were answered by near caches");
        assert!(*writes > 100, "only {writes} writes were acknowledged");
    }
}

async fn attempt(form: Form) -> Seen {
    let mut cut_off_too = 0;
    let seen = observe(form, async |cluster, history| {
        // Each fault has a time of calm behind it, in which the next one meets loans again.
        for round in 0..form.either(1, 10) {
            cut_off_too += break_and_mend(cluster, history, round, form).await;
        }
    })
    .await;
    Seen { cut_off_too, ..seen }
}

/// Lets readers and writers go on while something happens.
pub(super) async fn observe(form: Form, happens: impl AsyncFnOnce(&mut Cluster, &History)) -> Seen {
    let plan = Plan { nodes: NODES, gateways: GATEWAYS, ..Plan::default() };
    let mut cluster = Cluster::start(plan.lease_ttl(form.ttl()).proxied()).await.unwrap();
    let lateness = Lateness::measure().unwrap();
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
    happens(&mut cluster, &history).await;
    let near = counted(cluster.gateways(), "near_hits").await;
    let stand_ins = counted(cluster.nodes(), "stand_ins").await;
    let absences = counted(cluster.nodes(), "absences").await;
    scene.stop.cancel();
    let reads = readers.join_all().await.into_iter().sum();
    let writes = writers.join_all().await.into_iter().sum();
    history.finish().unwrap();
    let verdict = tokio::task::spawn_blocking(move || checker::check_file(&file)).await;
    drop(place);
    let (verdict, stall) = (verdict.unwrap().unwrap(), lateness.worst());
    Seen { reads, near, writes, verdict, stand_ins, absences, cut_off_too: 0, stall }
}

/// Each fault once, on another process each time. How many owners were found to be absent while only a
/// gateway was cut off from them.
async fn break_and_mend(cluster: &mut Cluster, history: &History, round: usize, form: Form) -> u64 {
    let calm = form.either(Duration::from_secs(1), Duration::from_secs(7));
    let (gateway, node) = (round % GATEWAYS, round % NODES);
    let refused = ["5", "none", "reset"];
    let cut_off = cluster.gateway(gateway).process().id();
    // So that the proxy knows whose connections are whose when the rule comes that counts.
    cluster.node(node).proxy().set_for(cut_off, Rule::Pass);
    sleep(calm).await;

    let fault = history.fault(FaultKind::Disturbance, &refused, "a gateway stopped");
    cluster.gateway(gateway).signal(Signal::STOP).unwrap();
    sleep(STOPPED).await;
    cluster.gateway(gateway).signal(Signal::CONT).unwrap();
    history.healed(fault);
    sleep(calm).await;

    let fault = history.fault(FaultKind::Disturbance, &refused, CUTS[0]);
    let before = counted(cluster.nodes(), "absences").await;
    cluster.node(node).proxy().set_for(cut_off, Rule::Blackhole);
    sleep(CUT).await;
    cluster.node(node).proxy().heal();
    history.healed(fault);
    let cut_off_too = counted(cluster.nodes(), "absences").await - before;
    sleep(calm).await;

    let fault = history.fault(FaultKind::Disturbance, &refused, "a node killed and started");
    cluster.node(node).kill();
    cluster.restart_node(node).await.unwrap();
    cluster.wait_ready().await;
    history.healed(fault);
    sleep(calm).await;
    cut_off_too
}

/// Cuts a gateway from a node, and again and again holds up for a moment what the other nodes ask that
/// node in its stead, or stops them, or it.
async fn hold_up(cluster: &mut Cluster, history: &History, round: usize) {
    let (gateway, owner) = (round % GATEWAYS, round % NODES);
    sleep(CALM).await;
    let fault = history.fault(FaultKind::Disturbance, &[], CUTS[1]);
    let process = |node: usize| cluster.node(node).process().id();
    let proxy = cluster.node(owner).proxy();
    let others: Vec<usize> = (0..NODES).filter(|&node| node != owner).collect();
    others.iter().for_each(|&node| proxy.set_for(process(node), Rule::Pass));
    proxy.set_for(cluster.gateway(gateway).process().id(), Rule::Blackhole);
    sleep(CALM).await;
    for length in HELD_UP {
        let length = Duration::from_millis(length);
        for who in [&[][..], &others, &[owner], &[0, 1, 2]] {
            let is_link = who.is_empty();
            let signal = |signal| {
                who.iter().for_each(|&node| cluster.node(node).signal(signal).unwrap());
            };
            let rule = |rule| others.iter().for_each(|&node| proxy.set_for(process(node), rule));
            if is_link {
                rule(Rule::Blackhole)
            } else {
                signal(Signal::STOP)
            }
            sleep(length).await;
            if is_link {
                rule(Rule::Pass)
            } else {
                signal(Signal::CONT)
            }
            sleep(CALM / 2).await;
        }
    }
    proxy.heal();
    history.healed(fault);
    sleep(CALM).await;
}
