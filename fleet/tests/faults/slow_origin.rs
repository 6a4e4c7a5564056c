//! Row 13: an origin that is slow, and one that fails. Hits do not feel it, misses are answered by their
//! deadline, and where stale values may be answered they are.

use std::{net::SocketAddr, time::Duration};

use fleet::{
    cluster::Extras,
    http,
    load::{DEADLINE, Load, Running},
    recorder::{Latency, Planned, Recording},
    report::{Counts, Report},
    timers,
};
use tokio::time::{Instant, sleep};

use super::{
    capacity,
    origin::{GROUP, Origin},
    row::Form,
    traffic::SHORT_RATE,
};

const ID: &str = "13";
/// Keys that are hits all the time.
const HIT_KEYS: u64 = 500;
/// Misses per second of each kind while the origin is at fault.
const MISSES: f64 = 20.0;
/// Turns of calm and fault, so that what else happens on the machine happens to both.
const TURNS: usize = 4;
/// What the hits' p99 may be of what it is in the calm.
const FACTOR: f64 = 1.2;
/// What an answer may take beyond its deadline.
const GRACE: Duration = Duration::from_millis(250);
/// How long values are fresh that are to be stale.
const FRESH: Duration = Duration::from_millis(100);
/// How long readers wait for a slow origin where there is a stale value.
const SOFT: Duration = Duration::from_millis(100);

#[tokio::test]
async fn slow_origin_short() {
    attempt(Form::Short).await.judge();
}

#[tokio::test]
#[ignore = "long: make faults"]
async fn slow_origin_long() {
    timers::assert_punctual().await;
    let mut report = Report::begin(ID).unwrap();
    let seen = attempt(Form::Long).await;
    let (calm, fault) = (seen.calm.p99, seen.fault.p99);
    report
        .note(format!("hits' p99 {calm:?} without it; misses as promised: {}", seen.misses))
        .unwrap();
    report.took("hits' p99", fault, Some(calm.mul_f64(FACTOR))).unwrap();
    report.run(Counts { requests: seen.hits, failed: seen.failed, ..Counts::default() }).unwrap();
    seen.judge();
    assert!(
        fault <= calm.mul_f64(FACTOR),
        "hits' p99: {calm:?} in the calm, {fault:?} in the fault"
    );
    report.passed().unwrap();
}

struct Seen {
    /// Reads of values that are there, how many failed, and how long they took.
    hits: u64,
    failed: u64,
    calm: Latency,
    fault: Latency,
    /// Misses that were answered as they have to be.
    misses: usize,
}

impl Seen {
    fn judge(&self) {
        let Self { hits, failed, calm, fault, misses } = self;
        eprintln!(
            "{hits} hits, {failed} failed; p99 {:?}, {:?}; {misses} misses",
            calm.p99, fault.p99
        );
        assert_eq!(*failed, 0);
        assert!(*hits > 100 && *misses > 10, "{hits} hits, {misses} misses");
    }
}

async fn attempt(form: Form) -> Seen {
    let origin = Origin::start().await;
    let stale = format!("stale_if_error = \"10m\"\nsoft_timeout = \"{}ms\"", SOFT.as_millis());
    let cluster = origin.fleet(2, Extras::default(), &stale).await;
    let gateways = cluster.gateway_addresses();
    for n in 0..HIT_KEYS {
        let answer = cluster.gateway(0).read(GROUP, &hit_key(n)).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let rate = match form {
        Form::Short => SHORT_RATE,
        // An origin at fault costs the machine something too.
        Form::Long => capacity::measured(&gateways, || hits).await / 4.0,
    };
    let turn = form.either(Duration::from_secs(2), Duration::from_secs(6));
    let (mut calm, mut fault) = (Vec::new(), Vec::new());
    let mut misses = 0;
    let most = form.either(10, 1) * (DEADLINE + GRACE);
    for number in 0..form.either(1, TURNS) {
        calm.push(run(Load::new(gateways.clone(), rate).start(hits), turn).await);
        let running = Load::new(gateways.clone(), rate).start(hits);
        let missing = tokio::spawn(miss(gateways.clone(), number, turn, most));
        fault.push(run(running, turn).await);
        misses += missing.await.unwrap();
    }
    stale_values(&origin, &stale).await;
    let (calm, fault) = (merged(calm), merged(fault));
    let (before, during) = (calm.summary(), fault.summary());
    Seen {
        hits: before.total + during.total,
        failed: before.failed + during.failed,
        calm: before.latency,
        fault: during.latency,
        misses,
    }
}

fn hit_key(n: u64) -> String {
    format!("hit-{n}")
}

fn hits(n: u64) -> Option<Planned> {
    Some(Planned::get(GROUP, hit_key(n % HIT_KEYS)))
}

async fn run(running: Running, turn: Duration) -> Recording {
    sleep(turn).await;
    running.stop().await
}

fn merged(recordings: Vec<Recording>) -> Recording {
    let mut recordings = recordings.into_iter();
    let mut all = recordings.next().unwrap();
    all.operations.extend(recordings.flat_map(|it| it.operations));
    all
}

/// Asks for keys that the origin is slow with, and for keys that it fails at, each a new one. How many
/// answers there were, each of them right and in time.
async fn miss(gateways: Vec<SocketAddr>, turn: usize, span: Duration, most: Duration) -> usize {
    let each = span.as_secs_f64() * MISSES;
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..each as usize {
        for (what, status) in [("slow", 504), ("failing", 502)] {
            let gateway = gateways[n % gateways.len()];
            asking.spawn(async move {
                let path = format!("/api/cache?group={GROUP}&key={what}-{turn}-{n}");
                let sent = Instant::now();
                let answer = http::get(gateway, &path).await.unwrap();
                assert_eq!(answer.status, status, "{path}: {}", answer.text());
                let took = sent.elapsed();
                assert!(took <= most, "{path} took {took:?}");
            });
        }
        sleep(Duration::from_secs_f64(1.0 / MISSES)).await;
    }
    asking.join_all().await.len()
}

/// Values whose time is over are answered while the origin fails, and while it is slow. It is slower than
/// any test waits, and so are the gateway's deadlines: an answer is one of the soft timeout.
async fn stale_values(origin: &Origin, group: &str) {
    let patient = Extras::patient().env("RINGWAY_GATEWAY__REQUEST_TIMEOUT", "10m");
    let cluster = origin.fleet(1, patient, group).await;
    let gateway = cluster.gateway(0);
    let read = async |key: &str| {
        let answer = gateway.read(GROUP, key).await.unwrap();
        assert_eq!(answer.status, 200, "{key}: {}", answer.text());
        answer.header("cache-status").unwrap().to_owned()
    };
    for key in ["brief-failing", "gated-slow"] {
        let target = format!("/api/cache?group={GROUP}&key={key}&ttl={}ms", FRESH.as_millis());
        assert!(http::put(gateway.address(), &target, "old").await.unwrap().status < 300);
    }
    sleep(2 * FRESH).await;
    origin.break_down(true);
    let status = read("brief-failing").await;
    assert!(status.starts_with("ringway; fwd=stale; ttl=-"), "{status}");
    origin.break_down(false);
    let status = read("gated-slow").await;
    assert!(status.starts_with("ringway; fwd=stale; ttl=-"), "{status}");
    origin.asked("gated-slow", 1).await;
    origin.open(1);
    fleet::eventually("what the slow origin brought", 2 * DEADLINE, async || {
        match read("gated-slow").await.as_str() {
            "ringway; hit" => Ok(()),
            other => Err(other.to_owned()),
        }
    })
    .await;
}
