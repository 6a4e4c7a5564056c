//! What a fleet can do on this machine, and whether a run was loaded as it should have been.

use std::{net::SocketAddr, time::Duration};

use fleet::{
    load::Load,
    recorder::{Planned, Recording},
};

/// More than any fleet on a machine that runs its client too.
const FLOOD: f64 = 100_000.0;

/// How long it is flooded, and how much of the beginning does not count.
const FLOODED: Duration = Duration::from_secs(4);
const WARM_UP: Duration = Duration::from_secs(1);

/// A run must have had this part of its rate answered before the fault, or it shows nothing.
const FLOOR: f64 = 0.9;

/// Operations per second that are answered when far more are asked.
pub(super) async fn measured(
    gateways: Vec<SocketAddr>,
    plan: impl FnMut(u64) -> Option<Planned> + Send + 'static,
) -> f64 {
    let running = Load::new(gateways, FLOOD).start(plan);
    tokio::time::sleep(FLOODED).await;
    let recording = running.so_far();
    drop(running);
    let (from, to) = (recording.started + WARM_UP, recording.started + FLOODED);
    let answered = |at: Option<Duration>| at.is_some_and(|at| (from..to).contains(&at));
    let count = recording.operations.iter().filter(|o| answered(o.answered)).count();
    count as f64 / (to - from).as_secs_f64()
}

/// Whether the load of a run got through before the fault at `fault`, given its planned rate.
pub(super) fn was_loaded(recording: &Recording, fault: Duration, rate: f64) -> bool {
    let span = fault.saturating_sub(recording.started).as_secs_f64();
    let answered = |at: Option<Duration>| at.is_some_and(|at| at < fault);
    let count = recording.operations.iter().filter(|o| answered(o.answered)).count();
    count as f64 >= FLOOR * rate * span
}
