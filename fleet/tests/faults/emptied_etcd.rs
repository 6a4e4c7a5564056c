//! Row 7: etcd restarted with an empty data directory. The ring never empties; 0 failed; everyone
//! registered again within one TTL.

use fleet::{etcd::Data, eventually};

use super::{
    row::{Form, NODES, Row, perform, perform_all},
    run::Run,
    scene::Scene,
};

struct EmptiedEtcd(Form);

#[tokio::test]
async fn emptied_etcd_short() {
    perform(EmptiedEtcd(Form::Short)).await;
}

#[tokio::test]
#[ignore = "long: make faults"]
async fn emptied_etcd_long() {
    perform_all([EmptiedEtcd(Form::Long)]).await;
}

impl Row for EmptiedEtcd {
    type Seen = ();

    const ID: &'static str = "7";
    const NAME: &'static str = "etcd lost its data";

    fn form(&self) -> Form {
        self.0
    }

    async fn fault(&self, scene: &mut Scene) {
        scene.strike();
        scene.cluster.etcd_mut().restart(Data::Empty).await.unwrap();
        scene.heal();
        let ttl = self.0.ttl();
        scene
            .timed("everyone registered", ttl, async || {
                let ids = scene.cluster.etcd().registered().await.map_err(|e| e.to_string())?;
                if ids.len() == NODES { Ok(()) } else { Err(format!("only {ids:?}")) }
            })
            .await;
        eventually("everyone knows the ring", ttl, async || scene.cluster.agreement().await).await;
    }

    fn judge(&self, run: &Run<()>) {
        // Not only not empty: the last ring is kept while the nodes register again.
        assert_eq!(run.ring_changes(|_| true), (0, NODES), "rings: {:#?}", run.rings);
    }
}
