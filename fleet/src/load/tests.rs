//! The schedule holds whatever the server does, and every outcome is recorded.

use std::{
    future::pending,
    sync::atomic::{AtomicUsize, Ordering},
};

use axum::{Router, extract::State, http::Uri, routing::any};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Barrier,
};

use super::*;
use crate::{
    history::{Ended, Line, Reader, Value},
    recorder::Op,
};

const ETERNITY: Duration = Duration::from_secs(60);

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, app).await });
    addr
}

fn load(addr: SocketAddr, rate: f64, connections: usize, deadline: Duration) -> Load {
    Load { connections, deadline, ..Load::new([addr], rate) }
}

fn first(count: u64, planned: Planned) -> impl FnMut(u64) -> Option<Planned> + Send + 'static {
    move |n| (n < count).then(|| planned.clone())
}

#[tokio::test]
async fn operations_arrive_as_planned_and_answers_are_recorded() {
    async fn answer(uri: Uri, body: Bytes) -> ([(&'static str, &'static str); 1], String) {
        ([("etag", "\"7\"")], format!("{} {body:?}", uri.query().unwrap()))
    }
    let addr = serve(Router::new().route("/api/cache", any(answer))).await;
    let plan = |n| match n {
        0 => Some(Planned::get("g", "a/b")),
        1 => Some(Planned::set("g", "k", "v")),
        2 => Some(Planned::delete("g", "k")),
        _ => None,
    };
    let mut recording = load(addr, 1_000.0, 2, ETERNITY).start(plan).finish().await;
    recording.operations.sort_by_key(|operation| operation.due);

    let [get, set, delete] = recording.operations.as_slice() else { panic!("{recording:?}") };
    assert_eq!(get.outcome, Outcome::Value("group=g&key=a%2Fb b\"\"".into()));
    assert_eq!((set.op, &set.outcome, &set.value), (Op::Set, &Outcome::Stored, &Bytes::from("v")));
    assert_eq!((delete.op, delete.version.as_deref()), (Op::Delete, Some("\"7\"")));
    for operation in &recording.operations {
        assert!(recording.started <= operation.due && operation.due <= operation.sent);
        assert!(operation.sent <= operation.answered.unwrap());
    }
    assert_eq!(recording.failed(), 0);
}

#[tokio::test]
async fn a_history_takes_the_operations_out_of_memory() {
    const COUNT: u64 = 200;
    let addr = serve(Router::new().route("/api/cache", any(async || "k:3"))).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history");
    let history = History::create(&path, "a test").unwrap();
    for record in [Record::History(history.clone()), Record::Both(history.clone())] {
        let streamed = matches!(record, Record::History(_));
        let load = Load { record, ..load(addr, 2_000.0, 4, ETERNITY) };
        let recording = load.start(first(COUNT, Planned::get("g", "k"))).finish().await;
        let kept = if streamed { 0 } else { COUNT };
        assert_eq!(recording.operations.len() as u64, kept);
        let summary = recording.summary();
        assert_eq!((summary.total, summary.counts["value"]), (COUNT, COUNT));
        assert!(summary.latency.max > Duration::ZERO && summary.answered_per_second > 0.0);
    }
    // Failed ones stay: they are what a message shows.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let load = Load { record: Record::History(history.clone()), ..Load::new([nobody], 1e4) };
    let recording = load.start(first(3, Planned::get("g", "k"))).finish().await;
    assert_eq!((recording.failed(), recording.failures().count()), (3, 3));

    history.finish().unwrap();
    let lines: Vec<Line> = Reader::open(&path).unwrap().map(Result::unwrap).collect();
    assert_eq!(lines.len() as u64, 2 * COUNT + 3);
    let Line::Operation(entry) = &lines[0] else { panic!("{:?}", lines[0]) };
    assert_eq!(entry.ended, Ended::Value(Value::Number(3)));
    assert_eq!(entry.gateway, Some(addr));
    assert!(entry.due <= entry.sent && Some(entry.sent) <= entry.answered);
}

#[tokio::test]
async fn the_schedule_does_not_wait_for_answers() {
    const TOGETHER: usize = 20;
    // Answers nobody until twenty are asking: a client that waits for its answers asks once.
    async fn answer(State(all): State<Arc<Barrier>>) {
        all.wait().await;
    }
    let app =
        Router::new().route("/api/cache", any(answer)).with_state(Arc::new(Barrier::new(TOGETHER)));
    let running = load(serve(app).await, 500.0, TOGETHER, ETERNITY)
        .start(first(TOGETHER as u64, Planned::set("g", "k", "v")));
    let recording = running.finish().await;
    assert_eq!(recording.summary().counts.get("stored"), Some(&(TOGETHER as u64)));
}

#[tokio::test]
async fn what_is_not_answered_in_time_is_given_up_and_the_client_goes_on() {
    // The first connections hang for good; later ones answer.
    let asked = Arc::new(AtomicUsize::new(0));
    let app = Router::new()
        .route(
            "/api/cache",
            any(async |State(asked): State<Arc<AtomicUsize>>| {
                if asked.fetch_add(1, Ordering::SeqCst) < 2 {
                    pending::<()>().await;
                }
            }),
        )
        .with_state(asked);
    let running = load(serve(app).await, 100.0, 2, Duration::from_millis(300))
        .start(first(100, Planned::set("g", "k", "v")));
    let recording = running.finish().await;
    let summary = recording.summary();
    assert_eq!(summary.total, 100);
    // Two were sent and hung. Those that were due meanwhile waited for them, on the clock.
    assert!(summary.counts["no answer"] >= 2, "{summary}");
    assert!(summary.counts["stored"] >= 10, "{summary}");
    let slowest = recording.operations.iter().filter_map(Operation::latency).max().unwrap();
    assert!(
        slowest > Duration::from_millis(100),
        "latency counts from when it was due: {slowest:?}"
    );
}

#[tokio::test]
async fn a_reset_is_recorded_and_the_connection_replaced() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        // Every other connection is reset after the request was read, the rest serve one request.
        for n in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            if n % 2 == 0 {
                stream.set_zero_linger().unwrap();
            } else {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\nv";
                stream.write_all(answer).await.unwrap();
            }
        }
    });
    let running = load(addr, 1_000.0, 1, ETERNITY).start(first(10, Planned::get("g", "k")));
    let recording = running.finish().await;
    let summary = recording.summary();
    assert_eq!(
        (summary.counts["value"], summary.counts["reset"], summary.failed),
        (5, 5, 5),
        "{summary}"
    );
    assert!(recording.failures().all(|operation| operation.answered.is_none()));
}

#[tokio::test]
async fn nobody_there_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let recording =
        load(addr, 1_000.0, 3, ETERNITY).start(first(5, Planned::get("g", "k"))).finish().await;
    assert_eq!(recording.summary().counts.get("reset"), Some(&5));
}

#[tokio::test]
async fn what_waits_for_a_connection_is_bounded() {
    // Accepts (the system does) and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let too_many = MAX_WAITING as u64 + 10;
    let running = load(listener.local_addr().unwrap(), 1e9, 1, ETERNITY)
        .start(first(too_many, Planned::get("g", "k")));
    // One is being sent, MAX_WAITING wait.
    let recorded =
        crate::eventually("the overflow is recorded", Duration::from_secs(5), async || {
            let so_far = running.so_far();
            (so_far.operations.len() >= 9).then_some(so_far)
        })
        .await;
    assert!(recorded.operations.iter().all(|operation| operation.outcome == Outcome::NoAnswer));
}

#[tokio::test]
async fn stopping_keeps_what_was_recorded() {
    let addr = serve(Router::new().route("/api/cache", any(async || "v"))).await;
    let running = load(addr, 1_000.0, 2, ETERNITY).start(|_| Some(Planned::get("g", "k")));
    crate::eventually("ten answers", Duration::from_secs(1), async || {
        running.so_far().operations.len() >= 10
    })
    .await;
    let recording = running.stop().await;
    assert!(recording.operations.len() >= 10 && recording.failed() == 0);
}

#[tokio::test]
#[should_panic(expected = "a broken plan")]
async fn a_plan_that_panics_is_not_a_short_recording() {
    let addr = serve(Router::new()).await;
    load(addr, 1_000.0, 1, ETERNITY).start(|_| panic!("a broken plan")).finish().await;
}
