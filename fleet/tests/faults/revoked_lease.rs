//! Row 9: a lease is revoked while its node lives. Registered again ≤ 2 s; 0 failed.
//!
//! Renewals that lie are shown where answers can be made up: `common/tests/discovery_contract`.

use std::time::Duration;

use fleet::eventually;

use super::{
    row::{Form, NODES, Row, id, perform, perform_all},
    run::Run,
    scene::Scene,
};

const REGISTERED_WITHIN: Duration = Duration::from_secs(2);

struct RevokedLease(Form);

#[tokio::test]
async fn revoked_lease_short() {
    perform(RevokedLease(Form::Short)).await;
}

#[tokio::test]
#[ignore = "long: make faults"]
async fn revoked_lease_long() {
    perform_all([RevokedLease(Form::Long)]).await;
}

impl Row for RevokedLease {
    type Seen = ();

    const ID: &'static str = "9";
    const NAME: &'static str = "a lease revoked";

    fn form(&self) -> Form {
        self.0
    }

    /// One node after the other: their renewals are at different moments.
    async fn fault(&self, scene: &mut Scene) {
        scene.strike();
        let etcd = scene.cluster.etcd();
        for id in (0..NODES).map(id) {
            let lost = etcd.registered().await.unwrap()[&id];
            etcd.revoke(lost).await.unwrap();
            let what = format!("{id} registered again");
            let lease = scene
                .timed(&what, REGISTERED_WITHIN, async || {
                    etcd.registered().await.ok()?.get(&id).copied()
                })
                .await;
            assert_ne!(lease, lost, "a revoked lease holds nothing");
            eventually("everyone knows the ring", REGISTERED_WITHIN, async || {
                scene.cluster.agreement().await
            })
            .await;
        }
        scene.heal();
    }

    fn judge(&self, run: &Run<()>) {
        let (_, least) = run.ring_changes(|_| true);
        assert!(least >= NODES - 1, "one node at most was away: {:#?}", run.rings);
    }
}
