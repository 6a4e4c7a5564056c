//! What a fleet can do on this machine, and whether a run was loaded as it should have been.

use std::{net::SocketAddr, time::Duration};

use fleet::{
    load::Load,
    recorder::{Operation, Planned, Recording},
};

/// The first rate that is tried, in operations per second; each further one doubles it.
const FIRST_RATE: f64 = 500.0;
const MOST_RATE: f64 = 64_000.0;

/// How long each rate is tried, and how much of the beginning does not count.
const TRIED: Duration = Duration::from_secs(2);
const WARM_UP: Duration = Duration::from_millis(500);

/// A run must have had this part of its rate answered before the fault, or it shows nothing.
const FLOOR: f64 = 0.9;

/// Operations per second that are answered when more are asked: the rate is doubled until the
/// fleet no longer keeps up. No flood, because the client's share of the machine counts too.
pub(super) async fn measured<P>(gateways: &[SocketAddr], plan: impl Fn() -> P) -> f64
where
    P: FnMut(u64) -> Option<Planned> + Send + 'static,
{
    let mut rate = FIRST_RATE;
    loop {
        let answered = answered_at(gateways, rate, plan()).await;
        if answered < FLOOR * rate || rate >= MOST_RATE {
            eprintln!("capacity: {answered:.0} op/s answered of {rate:.0} asked");
            return answered;
        }
        rate *= 2.0;
    }
}

async fn answered_at(
    gateways: &[SocketAddr],
    rate: f64,
    plan: impl FnMut(u64) -> Option<Planned> + Send + 'static,
) -> f64 {
    let running = Load::new(gateways, rate).start(plan);
    tokio::time::sleep(TRIED).await;
    let recording = running.so_far();
    drop(running);
    let (from, to) = (recording.started + WARM_UP, recording.started + TRIED);
    let answered = |at: Option<Duration>| at.is_some_and(|at| (from..to).contains(&at));
    // What an overloaded fleet refuses is answered, too.
    let done = |o: &&Operation| answered(o.answered) && !o.outcome.failed();
    let count = recording.operations.iter().filter(done).count();
    count as f64 / (to - from).as_secs_f64()
}

/// Whether the load of a run got through before the fault at `fault`, given its planned rate.
pub(super) fn was_loaded(recording: &Recording, fault: Duration, rate: f64) -> bool {
    let span = fault.saturating_sub(recording.started).as_secs_f64();
    let answered = |at: Option<Duration>| at.is_some_and(|at| at < fault);
    let count = recording.operations.iter().filter(|o| answered(o.answered)).count();
    count as f64 >= FLOOR * rate * span
}
