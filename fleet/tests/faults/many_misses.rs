//! Row 14: very many readers at a time, at all gateways, of one key that is nowhere.

use std::time::Duration;

use fleet::{
    cluster::{Cluster, Extras},
    descriptors::make_room,
    http::{Connection, Response},
    report::{Counts, Report},
    timers,
};
use futures_util::{StreamExt, stream};
use tokio::{task::JoinSet, time::timeout};

use super::{
    origin::{GROUP, Origin, loaded},
    row::Form,
};

const ID: &str = "14";
const GATEWAYS: usize = 3;
/// Connections opened at a time: fewer than the backlog.
const OPENING: usize = 64;
/// How long the readers wait: all of them are to have asked before the origin answers.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn many_misses_short() {
    attempt(Form::Short).await.judge();
}

#[tokio::test]
#[ignore = "long: make faults"]
async fn many_misses_long() {
    timers::assert_punctual().await;
    let mut report = Report::begin(ID).unwrap();
    let seen = attempt(Form::Long).await;
    let note = format!("{} calls of the origin, {} collapsed", seen.calls, seen.collapsed);
    report.note(note).unwrap();
    let (requests, failed) = (seen.readers as u64, seen.failed as u64);
    report.run(Counts { requests, failed, ..Counts::default() }).unwrap();
    seen.judge();
    report.passed().unwrap();
}

struct Seen {
    readers: usize,
    /// Readers that did not get the value.
    failed: usize,
    /// Readers that were told that somebody else had asked.
    collapsed: usize,
    /// How often the origin was asked.
    calls: usize,
}

impl Seen {
    fn judge(&self) {
        let Self { readers, failed, collapsed, calls } = *self;
        eprintln!("{readers} readers: {calls} calls, {collapsed} collapsed, {failed} failed");
        assert_eq!((calls, failed), (1, 0));
        // The others were still on their way through their gateway when it answered.
        assert!(collapsed * 4 > readers * 3, "only {collapsed} waited for the origin");
    }
}

async fn attempt(form: Form) -> Seen {
    let readers = form.either(1_500, 10_000);
    make_room(readers);
    let origin = Origin::start().await;
    let patient = Extras::patient().env("RINGWAY_GATEWAY__REQUEST_TIMEOUT", "60s");
    let cluster = origin.fleet(GATEWAYS, patient, "").await;
    let connections = connect(&cluster, readers).await;

    // The first one asks, and leaves before there is an answer.
    let key = "gated-key";
    let mut first = Connection::open(cluster.gateway(0).address()).await.unwrap();
    let asking = first.send(request(key));
    tokio::select! {
        answer = asking => panic!("an answer without the origin: {answer:?}"),
        () = origin.asked(key, 1) => {}
    }
    drop(first);

    let mut asking = JoinSet::new();
    for mut connection in connections {
        asking.spawn(async move { timeout(PATIENCE, connection.send(request(key))).await });
    }
    waiting(&cluster, readers).await;
    origin.open(readers);
    let answers: Vec<Response> = (asking.join_all().await.into_iter())
        .filter_map(|answer| answer.ok()?.ok())
        .filter(|answer| answer.status == 200 && answer.text() == loaded(key, 1))
        .collect();
    let collapsed = |answer: &&Response| {
        answer.header("cache-status").is_some_and(|status| status.contains("collapsed"))
    };
    let collapsed = answers.iter().filter(collapsed).count();
    let seen =
        Seen { readers, failed: readers - answers.len(), collapsed, calls: origin.calls(key) };
    dies_once(&cluster, &origin).await;
    seen
}

/// An origin that dies in the middle of its answer is one failure for all, and the next call works.
async fn dies_once(cluster: &Cluster, origin: &Origin) {
    let gateway = cluster.gateway(0);
    let first = gateway.read(GROUP, "dying-key").await.unwrap();
    assert_eq!((first.status, origin.calls("dying-key")), (502, 1), "{}", first.text());
    fleet::eventually("the next call", PATIENCE, async || {
        let next = gateway.read(GROUP, "dying-key").await.unwrap();
        if next.status == 200 { Ok(()) } else { Err(next.text()) }
    })
    .await;
    assert_eq!(origin.calls("dying-key"), 2);
}

fn request(key: &str) -> http::Request<http_body_util::Full<bytes::Bytes>> {
    let path = format!("/api/cache?group={GROUP}&key={key}");
    http::Request::get(path).body(http_body_util::Full::default()).unwrap()
}

/// So many connections, spread over the gateways.
async fn connect(cluster: &Cluster, count: usize) -> Vec<Connection> {
    let gateways = cluster.gateway_addresses();
    let opening = (0..count).map(|n| {
        let gateway = gateways[n % gateways.len()];
        async move { Connection::open(gateway).await.unwrap() }
    });
    stream::iter(opening).buffer_unordered(OPENING).collect().await
}

/// Waits until all of them have been taken in by the gateways.
async fn waiting(cluster: &Cluster, readers: usize) {
    fleet::eventually("all wait", PATIENCE, async || {
        let mut waiting = 0;
        for gateway in cluster.gateways() {
            waiting += gateway.metric("ringway_gateway_in_flight").await? as usize;
        }
        if waiting >= readers { Ok(()) } else { Err(format!("{waiting} wait")) }
    })
    .await;
}
