//! Probes: one task per process asks members whether they answer, so that an ejected node
//! returns without a user's request being risked on it, and operators see response times.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Router, wired::Wired};

/// How often members are asked; an ejected one only when its ejection is over.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// How long a probe waits.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);
/// Probes under way at once.
const PROBES_AT_ONCE: usize = 16;

/// Which members a process probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probed {
    /// All of them: gateways call all of them, and tell operators how they are.
    Everybody,
    /// Those it does not call at present: nodes call others seldom, and there are many nodes.
    Ejected,
}

/// Probes the members of `router`'s topology until `stop`. Without it nobody who was ejected ever
/// comes back.
pub async fn probe_members(router: Router, probed: Probed, stop: CancellationToken) {
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
            () = probe_all(&router, &wired, probed) => {}
        }
    }
}

async fn probe_all(router: &Router, wired: &Arc<Wired>, probed: Probed) {
    let due = |&node: &usize| {
        let health = &wired.wires[node].health;
        (probed == Probed::Everybody && health.callable()) || router.shared.health.probe_due(health)
    };
    let nodes = (0..wired.wires.len()).filter(due);
    stream::iter(nodes)
        .for_each_concurrent(PROBES_AT_ONCE, |node| async move {
            router.ping(wired, node, PROBE_TIMEOUT).await;
        })
        .await;
}
