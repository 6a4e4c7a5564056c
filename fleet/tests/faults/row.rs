//! What every row of the matrix goes through: a fleet, its keys, a load, the fault, the judgement.

use std::time::Duration;

use fleet::{
    cluster::{Cluster, Extras, Plan, Wiring},
    load::{CONNECTIONS, Load},
    report::Report,
    timers,
    trial::{Void, trial},
};
use tokio::time::sleep;

use super::{
    capacity,
    run::Run,
    scene::{Scene, Timed},
    traffic,
};

/// How many nodes a fleet has. Their ids are the same every time, hence their shares of the ring.
pub(super) const NODES: usize = 3;
/// How many gateways the load goes through.
pub(super) const GATEWAYS: usize = 2;

/// Connections of the client in long forms: enough for all that a node leaves unanswered until it is
/// passed over, so that the client itself holds nobody up.
const MANY_CONNECTIONS: usize = 1024;

/// A short form asks whether requests fail; a long one judges times as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Short,
    Long,
}

impl Form {
    /// What differs between the forms.
    pub(super) fn either<T>(self, short: T, long: T) -> T {
        match self {
            Self::Short => short,
            Self::Long => long,
        }
    }

    /// The time that a lease lives: the default in long forms.
    pub(super) fn ttl(self) -> Duration {
        self.either(Duration::from_secs(3), Duration::from_secs(10))
    }

    /// How long the load runs before the fault, and after it is over.
    fn calm(self) -> Duration {
        self.either(Duration::from_secs(1), Duration::from_secs(3))
    }
}

/// One row of the matrix, in one of its forms.
pub(super) trait Row {
    /// What the fault showed beyond what the client recorded.
    type Seen;

    /// Its number in the matrix.
    const ID: &'static str;
    /// A few words.
    const NAME: &'static str;

    /// Which form this is.
    fn form(&self) -> Form;

    /// How long leases live.
    fn ttl(&self) -> Duration {
        self.form().ttl()
    }

    /// The fleet, where it is not the usual one. Its nodes are added one by one.
    fn plan(&self, usual: Plan) -> Plan {
        usual
    }

    /// What has to be so before the load begins.
    async fn prepare(&self, _: &mut Cluster) {}

    /// Breaks something, and mends it unless it stays broken; ends when all is well again.
    async fn fault(&self, scene: &mut Scene) -> Self::Seen;

    /// Times that the row promises and only the recording tells. What [`Scene::timed`] saw is
    /// known already.
    fn times(&self, _: &Run<Self::Seen>) -> Vec<Timed> {
        Vec::new()
    }

    /// What the report line says beyond what is the same for all rows.
    fn note(&self, _: &Run<Self::Seen>) -> String {
        String::new()
    }

    /// Why the run shows nothing, if it does not; then it is repeated, and judged by none of the below.
    fn is_void(&self, _: &Run<Self::Seen>) -> Option<String> {
        None
    }

    /// What must be so beyond what is the same for all rows, however slow the machine.
    fn judge(&self, run: &Run<Self::Seen>);
}

/// Runs a row until it is judged.
pub(super) async fn perform<R: Row>(row: R) {
    trial(async || attempt(&row, None).await).await;
}

/// Runs a row in all the ways that make up its long form, and writes its report.
pub(super) async fn perform_all<R: Row>(rows: impl IntoIterator<Item = R>) {
    let mut report = Report::begin(R::ID).unwrap();
    for row in rows {
        trial(async || attempt(&row, Some(&mut report)).await).await;
    }
    report.passed().unwrap();
}

async fn attempt<R: Row>(row: &R, report: Option<&mut Report>) -> Result<(), Void> {
    let form = row.form();
    if form == Form::Long {
        timers::assert_punctual().await;
    }
    let mut cluster = fleet(row).await;
    row.prepare(&mut cluster).await;
    let gateways = cluster.gateway_addresses()[..GATEWAYS].to_vec();
    let rate = match form {
        Form::Short => traffic::SHORT_RATE,
        Form::Long => capacity::measured(&gateways, || traffic::mixture("tried")).await / 2.0,
    };
    let load = Load {
        connections: form.either(CONNECTIONS, MANY_CONNECTIONS),
        ..Load::new(gateways.clone(), rate)
    };
    let mut scene = Scene::new(cluster);

    let running = load.start(traffic::mixture(traffic::WRITTEN));
    sleep(form.calm()).await;
    let seen = row.fault(&mut scene).await;
    sleep(form.calm()).await;
    let recording = running.stop().await;
    // Everybody goes by the same ring, of all nodes that are alive.
    scene.cluster.wait_ready().await;
    let last = traffic::every_key_once_more(&gateways).await;

    let mut run = Run::new(&scene, rate, recording, last, seen);
    run.times.extend(row.times(&run));
    eprintln!("row {}, {} ({form:?}): {run}{}", R::ID, R::NAME, row.note(&run));
    // A short form in which nothing failed is right, however slowly its load got through.
    let is_judged_by_load = form == Form::Long || run.recording.failed() + run.last.failed() > 0;
    if is_judged_by_load && !capacity::was_loaded(&run.recording, run.struck, rate) {
        return Err(Void("the load did not get through before the fault".to_owned()));
    }
    if let Some(why) = row.is_void(&run) {
        return Err(Void(why));
    }
    if let Some(report) = report {
        run.report_to(report).unwrap();
    }
    run.assert_right();
    row.judge(&run);
    if form == Form::Long {
        run.assert_times();
    }
    Ok(())
}

/// A fleet with all keys stored.
async fn fleet<R: Row>(row: &R) -> Cluster {
    let usual = Plan { nodes: 0, gateways: GATEWAYS, ..Plan::default() };
    let plan = row.plan(usual.lease_ttl(row.ttl()));
    let mut cluster = Cluster::start(plan).await.unwrap();
    for _ in 0..NODES {
        add_node(&mut cluster).await;
    }
    cluster.wait_ready().await;
    traffic::preload(cluster.gateway(0)).await;
    cluster
}

/// One more node.
pub(super) async fn add_node(cluster: &mut Cluster) {
    let id = format!("--node-id={}", id(cluster.nodes().len()));
    // A wired cluster calls its nodes so by itself.
    let told = if cluster.plan().wiring == Wiring::Direct {
        Extras::default().arg(id)
    } else {
        Extras::default()
    };
    cluster.add_node(&told).await.unwrap();
}

/// The id of the node with that index.
pub(super) fn id(index: usize) -> String {
    format!("node-{index}")
}
