//! The keys of the fault suite and the load on them.
//!
//! Some keys are stored before and only read: a miss of one is a lost entry. The others are written,
//! read and deleted over and over, with values by which the checker recognises them.

use std::{net::SocketAddr, sync::Arc};

use fleet::{
    cluster::Member,
    history::value,
    load::Load,
    recorder::{Planned, Recording},
};
use futures_util::{StreamExt, stream};

/// The load of short forms, in operations per second: an unoptimised fleet on two cores, beside its
/// client and another test, is to have no trouble with it.
pub(super) const SHORT_RATE: f64 = 200.0;

/// The prefix of the keys that the load changes.
pub(super) const WRITTEN: &str = "written";

/// How many keys are stored before, and how many are changed.
const STORED_KEYS: usize = 1_000;
const CHANGED_KEYS: usize = 50;

/// Writes of the preload under way at once.
const WRITES_AT_ONCE: usize = 16;

/// Reads per second when every key is read once more: the least that any machine must do.
const LAST_READS_RATE: f64 = 500.0;

/// The keys that nobody changes.
pub(super) fn stored() -> Vec<String> {
    (0..STORED_KEYS).map(|n| format!("key-{n}")).collect()
}

/// Whether a key is one of them.
pub(super) fn is_stored(key: &str) -> bool {
    key.starts_with("key-")
}

/// The keys that a load with that prefix changes.
fn changed(prefix: &str) -> Vec<String> {
    (0..CHANGED_KEYS).map(|n| format!("{prefix}-{n}")).collect()
}

/// All keys of the usual load.
pub(super) fn all() -> Vec<String> {
    stored().into_iter().chain(changed(WRITTEN)).collect()
}

/// Stores what is only read.
pub(super) async fn preload(gateway: &Member) {
    let writes = stored().into_iter().map(|key| async move {
        let stored = gateway.write("default", &key, &value(&key, 0)).await.unwrap();
        assert_eq!(stored.status, 201, "{}", stored.text());
    });
    stream::iter(writes).buffer_unordered(WRITES_AT_ONCE).collect::<()>().await;
}

/// Reads the stored keys one after the other. In between it writes keys with the prefix, reads each
/// when it has been written, deletes every third, and reads it again; and it reads some that were
/// written a while ago, by another node perhaps.
pub(super) fn mixture(prefix: &str) -> impl FnMut(u64) -> Option<Planned> + Send + 'static {
    const ROUND: u64 = 11;
    let stored: Arc<[String]> = stored().into();
    let changed: Arc<[String]> = changed(prefix).into();
    move |n| {
        let round = n / ROUND;
        let changing = |ahead: usize| changed[(round as usize + ahead) % CHANGED_KEYS].as_str();
        Some(match n % ROUND {
            0 => Planned::set("default", changing(0), value(changing(0), n + 1)),
            4 | 10 => Planned::get("default", changing(0)),
            7 if round.is_multiple_of(3) => Planned::delete("default", changing(0)),
            2 => Planned::get("default", changing(CHANGED_KEYS / 3)),
            6 => Planned::get("default", changing(CHANGED_KEYS * 2 / 3)),
            _ => Planned::get("default", stored[n as usize % STORED_KEYS].as_str()),
        })
    }
}

/// Reads everything that the usual load was about.
pub(super) async fn every_key_once_more(gateways: &[SocketAddr]) -> Recording {
    let all = all();
    let again = move |n| Some(Planned::get("default", all.get(n as usize)?));
    Load::new(gateways, LAST_READS_RATE).start(again).finish().await
}
