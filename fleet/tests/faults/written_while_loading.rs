//! Row 15: keys that are set or deleted while they are loaded. What the origin had before is never stored.

use fleet::{
    cluster::{Cluster, Extras},
    http,
    report::{Counts, Report},
    timers,
};
use futures_util::{StreamExt, stream};

use super::{
    origin::{GROUP, Origin, loaded},
    row::Form,
};

const ID: &str = "15";
const GATEWAYS: usize = 3;
/// Keys that are loaded and written at a time.
const AT_ONCE: usize = 16;

#[tokio::test]
async fn written_while_loading_short() {
    attempt(Form::Short).await.judge();
}

#[tokio::test]
#[ignore = "long: make faults"]
async fn written_while_loading_long() {
    timers::assert_punctual().await;
    let mut report = Report::begin(ID).unwrap();
    let seen = attempt(Form::Long).await;
    let (requests, older) = (seen.keys as u64, seen.older.len() as u64);
    report.run(Counts { requests, older, ..Counts::default() }).unwrap();
    seen.judge();
    report.passed().unwrap();
}

struct Seen {
    keys: usize,
    /// Keys of which an older value was found after a write.
    older: Vec<String>,
}

impl Seen {
    fn judge(&self) {
        eprintln!("{} keys written while they were loaded", self.keys);
        assert!(self.older.is_empty(), "{:?}", self.older);
    }
}

async fn attempt(form: Form) -> Seen {
    let origin = Origin::start().await;
    // Readers wait until the test is done with their key.
    let patient = Extras::patient().env("RINGWAY_GATEWAY__REQUEST_TIMEOUT", "30s");
    let cluster = origin.fleet(GATEWAYS, patient, "").await;
    let keys = form.either(60, 3_000);
    let written = (0..keys).map(|n| {
        let (cluster, origin) = (&cluster, &origin);
        async move { written(cluster, origin, n).await }
    });
    let older = stream::iter(written).buffer_unordered(AT_ONCE);
    let older = older.filter_map(std::future::ready).collect().await;
    Seen { keys, older }
}

/// Loads a key, writes it meanwhile through another gateway, and reads it through a third; what was found
/// there that should not have been.
async fn written(cluster: &Cluster, origin: &Origin, n: usize) -> Option<String> {
    let key = format!("paused-{n}");
    let path = format!("/api/cache?group={GROUP}&key={key}");
    let address = |at: usize| cluster.gateway((n + at) % GATEWAYS).address();
    let (first, reading) = (address(0), path.clone());
    let before = tokio::spawn(async move { http::get(first, &reading).await.unwrap() });
    origin.asked(&key, 1).await;
    let is_set = n.is_multiple_of(2);
    let write = if is_set {
        http::put(address(1), &path, "written").await.unwrap()
    } else {
        http::delete(address(1), &path).await.unwrap()
    };
    assert!(matches!(write.status, 201 | 204 | 404), "{key}: {}", write.text());
    let meant = if is_set { "written".to_owned() } else { loaded(&key, 2) };
    // While the first load is under way, and when it is over.
    let after = http::get(address(2), &path).await.unwrap();
    origin.release(&key);
    let first = before.await.unwrap();
    assert_eq!((first.status, first.text()), (200, loaded(&key, 1)), "it began before the write");
    let fenced = first.header("cache-status").unwrap().to_owned();
    assert_eq!(fenced, "ringway; fwd=miss", "it was not stored");
    let last = http::get(address(0), &path).await.unwrap();
    let found = [after.text(), last.text()];
    (found != [meant.clone(), meant]).then(|| format!("{key}: {found:?}"))
}
