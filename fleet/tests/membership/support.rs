//! What the tests have in common: a load that goes on while something happens to the fleet.

use std::{sync::Arc, time::Duration};

use fleet::{
    cluster::Cluster,
    load::{Load, Running},
    recorder::Planned,
    trial::trial,
};
use tokio::time::sleep;

/// Modest: the fleet under test is unoptimised and shares two cores with its client.
const RATE: f64 = 150.0;

/// How long the load is let run before and after what happens.
const CALM: Duration = Duration::from_secs(1);

/// The keys `key-0` …
pub(crate) fn keys(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("key-{n}")).collect()
}

/// Runs a test that judges requests. One that fails while the machine stands still is repeated, on
/// a fleet of its own.
pub(crate) async fn under_load(test: impl AsyncFn()) {
    trial(async || {
        test().await;
        Ok(())
    })
    .await;
}

/// Starts reading `keys` of the group `default`, with a write in between now and then, through all
/// gateways, and lets it run for a moment.
pub(crate) async fn load(cluster: &Cluster, keys: &[String]) -> Running {
    let keys: Arc<[String]> = keys.into();
    let running = Load::new(cluster.gateway_addresses(), RATE).start(move |n| {
        let key = keys[n as usize % keys.len()].as_str();
        Some(if n % 5 == 0 {
            Planned::set("default", format!("written-{key}"), format!("{n}"))
        } else {
            Planned::get("default", key)
        })
    });
    calm().await;
    running
}

/// Lets a load run for a moment. Not a wait for something to happen: it is the length of a sample.
pub(crate) async fn calm() {
    sleep(CALM).await;
}
