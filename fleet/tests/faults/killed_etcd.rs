//! Row 6: etcd killed for 60 s. The last known ring; 0 failed; 0 ring changes; a gateway started
//! meanwhile serves from its snapshot.

use std::time::Duration;

use fleet::{
    cluster::{Cluster, Extras},
    etcd::Data,
    eventually,
    load::Load,
    process::Signal,
    recorder::Recording,
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep_until};

use super::{
    row::{Form, GATEWAYS, NODES, Row, perform, perform_all},
    run::{self, Run},
    scene::Scene,
    traffic,
};

/// The gateway that is started meanwhile, and how long it may take to leave its former life.
const LATECOMER: usize = GATEWAYS;
const ENDS_WITHIN: Duration = Duration::from_secs(20);
/// What is asked of it, in operations per second, and the keys that it changes.
const ITS_RATE: f64 = 100.0;
const ITS_KEYS: &str = "late";
/// How long it may take to serve, and everybody to be registered when etcd is back. The row does
/// not say; nobody waits forever.
const SERVES_WITHIN: Duration = Duration::from_secs(2);
const FOLLOWED_WITHIN: Duration = Duration::from_secs(5);

struct KilledEtcd {
    form: Form,
    away: Duration,
    snapshots: TempDir,
}

impl KilledEtcd {
    fn new(form: Form) -> Self {
        // Longer than leases live.
        let away = form.either(Duration::from_secs(8), Duration::from_secs(60));
        Self { form, away, snapshots: tempfile::tempdir().unwrap() }
    }
}

/// What the latecomer's client recorded.
struct Seen(Recording);

#[tokio::test]
async fn killed_etcd_short() {
    perform(KilledEtcd::new(Form::Short)).await;
}

#[tokio::test]
#[ignore = "long: make faults"]
async fn killed_etcd_long() {
    perform_all([KilledEtcd::new(Form::Long)]).await;
}

impl Row for KilledEtcd {
    type Seen = Seen;

    const ID: &'static str = "6";
    const NAME: &'static str = "etcd killed";

    fn form(&self) -> Form {
        self.form
    }

    /// The latecomer's former life, which leaves a snapshot.
    async fn prepare(&self, cluster: &mut Cluster) {
        let snapshots = self.snapshots.path().display();
        let told = Extras::default().arg(format!("--state-dir={snapshots}"));
        assert_eq!(cluster.add_gateway(&told).await.unwrap(), LATECOMER);
        cluster.wait_ready().await;
        let gateway = cluster.gateway(LATECOMER);
        gateway.signal(Signal::TERM).unwrap();
        gateway.process().wait(ENDS_WITHIN).await.unwrap();
    }

    async fn fault(&self, scene: &mut Scene) -> Seen {
        scene.strike();
        scene.cluster.etcd_mut().kill();
        let back = Instant::now() + self.away;
        scene.cluster.restart_gateway(LATECOMER).await.unwrap();
        let gateway = scene.cluster.gateway(LATECOMER);
        eventually("it serves from its snapshot", SERVES_WITHIN, async || gateway.ready().await)
            .await;
        let running = Load::new([gateway.address()], ITS_RATE).start(traffic::mixture(ITS_KEYS));
        sleep_until(back).await;
        let recording = running.stop().await;
        scene.cluster.etcd_mut().restart(Data::Kept).await.unwrap();
        scene.heal();
        eventually("everybody follows etcd", FOLLOWED_WITHIN, async || {
            scene.cluster.agreement().await
        })
        .await;
        Seen(recording)
    }

    fn judge(&self, run: &Run<Seen>) {
        let (changes, members) = run.ring_changes(|_| true);
        assert_eq!((changes, members), (0, NODES), "rings: {:#?}", run.rings);
        let Seen(late) = &run.seen;
        late.assert_none_failed("through the gateway that was started meanwhile");
        let verdict = run::judged(late.operations.iter());
        verdict.assert_none_wrong();
        verdict.assert_none_older();
    }
}
