//! Probes: one task per process asks each member whether it answers, so that an ejected node
//! returns without a user's request being risked on it, and operators see response times.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Router, wired::Wired};

/// How often every member is asked; an ejected one only when its ejection is over.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// How long a probe waits.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);
/// Probes under way at once.
const PROBES_AT_ONCE: usize = 16;

/// Probes the members of `router`'s topology until `stop`.
pub async fn probe_members(router: Router, stop: CancellationToken) {
    let mut round = interval(PROBE_EVERY);
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = round.tick() => {}
        }
        let wired = router.wired();
        let health = &router.shared.health;
        health.retain(wired.topology.members());
        tokio::select! {
            () = stop.cancelled() => return,
            () = probe_all(&router, &wired) => {}
        }
    }
}

async fn probe_all(router: &Router, wired: &Arc<Wired>) {
    let due = |&node: &usize| {
        let health = &wired.wires[node].health;
        health.callable() || router.shared.health.probe_due(health)
    };
    let nodes = (0..wired.wires.len()).filter(due);
    stream::iter(nodes)
        .for_each_concurrent(PROBES_AT_ONCE, |node| async move {
            let was_away = !wired.wires[node].health.callable();
            let answered = router.ping(wired, node, PROBE_TIMEOUT).await;
            if was_away && answered {
                tracing::info!(node = %wired.topology.member(node).id, "node is back");
            }
        })
        .await;
}
