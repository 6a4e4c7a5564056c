//! Row 21: HTTP/2 clients that send frames without end. Cut off; honest traffic 0 failed; memory
//! bounded.

use std::time::{Duration, Instant};

use fleet::{eventually::PATIENCE, report::Report, trial::trial};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use crate::{
    bothered::{Bothered, Listener, Speaks, apart, grown},
    raw::{self, frame},
};

/// How soon a flood is cut off.
const CUT_WITHIN: Duration = Duration::from_secs(2);
/// Frames that are sent at a time.
const AT_ONCE: u32 = 500;

/// What there is too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flood {
    /// Requests that are taken back as soon as they are made.
    RapidReset,
    /// A head that goes on for ever.
    Continuation,
    /// The same, of frames without content.
    EmptyContinuation,
    Settings,
    Ping,
    Priority,
    WindowUpdate,
    Unknown,
    /// Data frames without data, within a request.
    EmptyData,
}

const ALL: [Flood; 9] = [
    Flood::RapidReset,
    Flood::Continuation,
    Flood::EmptyContinuation,
    Flood::Settings,
    Flood::Ping,
    Flood::Priority,
    Flood::WindowUpdate,
    Flood::Unknown,
    Flood::EmptyData,
];

impl Flood {
    /// What it begins with.
    fn opening(self, speaks: Speaks) -> Vec<u8> {
        let path = path(speaks);
        let first = match self {
            Self::Continuation | Self::EmptyContinuation => {
                frame(raw::HEADERS, 0, 1, &raw::header_block(&[(":method", "GET")]))
            }
            Self::EmptyData => raw::call(1, path),
            _ => Vec::new(),
        };
        [raw::opening(1 << 20), first].concat()
    }

    /// The next frames.
    fn more(self, speaks: Speaks, sent: u32) -> Vec<u8> {
        let one = |n: u32| match self {
            Self::RapidReset => {
                let stream = 2 * n + 1;
                let mut request = raw::call(stream, path(speaks));
                if speaks != Speaks::Grpc {
                    request = raw::get(stream, path(speaks));
                }
                [request, frame(raw::RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
            }
            Self::Continuation => frame(raw::CONTINUATION, 0, 1, &raw::header_block(&[("x", "y")])),
            Self::EmptyContinuation => frame(raw::CONTINUATION, 0, 1, b""),
            // The header table's size, which has to be taken over and acknowledged.
            Self::Settings => frame(raw::SETTINGS, 0, 0, b"\0\x01\0\0\x10\0"),
            Self::Ping => frame(raw::PING, 0, 0, b"12345678"),
            Self::Priority => frame(raw::PRIORITY, 0, 2 * (n % 1000) + 1, b"\0\0\0\0\x10"),
            // So little that the window never overflows.
            Self::WindowUpdate => frame(raw::WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()),
            Self::Unknown => frame(raw::UNKNOWN, 0, 0, b"x"),
            Self::EmptyData => frame(raw::DATA, 0, 1, b""),
        };
        (sent..sent + AT_ONCE).flat_map(one).collect()
    }
}

fn path(speaks: Speaks) -> &'static str {
    match speaks {
        Speaks::Api => "/api/cache/default/large",
        Speaks::Grpc => "/ringway.v1.Cache/Set",
        Speaks::Probes => "/metrics",
    }
}

/// Floods a listener until it closes the connection; how long that took and how much it took.
/// `reads`: whether the answers are read.
async fn flood(flood: Flood, listener: Listener, reads: bool) -> (Duration, usize) {
    let started = Instant::now();
    let stream = TcpStream::connect(listener.address).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let mut written = 0;
    let flooding = async {
        let mut sent = 0;
        let mut bytes = flood.opening(listener.speaks);
        while writer.write_all(&bytes).await.is_ok() {
            written += bytes.len();
            bytes = flood.more(listener.speaks, sent);
            sent += AT_ONCE;
        }
    };
    let reading = async {
        if !reads {
            std::future::pending::<()>().await;
        }
        while reader.read(&mut [0; 16 << 10]).await.is_ok_and(|count| count > 0) {}
    };
    let cut = async {
        tokio::select! {
            () = flooding => {}
            () = reading => {}
        }
    };
    assert!(
        timeout(CUT_WITHIN * PATIENCE, cut).await.is_ok(),
        "{flood:?} at {listener:?} is not cut off"
    );
    (started.elapsed(), written)
}

/// What a process may grow by in a flood.
const ROOM: usize = 64 << 20;

#[tokio::test]
async fn floods_are_cut_off_and_others_served() {
    trial(async || {
        flood_all().await;
        Ok(())
    })
    .await;
}

/// All floods at all listeners, one after the other.
async fn flood_all() {
    let mut bothered = Bothered::short().await;
    let before = bothered.resident();
    bothered.attacked_now();
    for listener in bothered.listeners() {
        for (what, reads) in ALL.into_iter().flat_map(|what| [(what, true), (what, false)]) {
            let (took, written) = flood(what, listener, reads).await;
            let (speaks, written) = (listener.speaks, written >> 10);
            eprintln!("{what:?} at {speaks:?}, answers read: {reads}: {took:.1?}, {written} KiB");
        }
    }
    let grew = grown(before, bothered.peak());
    eprintln!("{} KiB more at the peak", grew >> 10);
    assert!(grew < ROOM, "grew by {grew} bytes");
    bothered.end().await.assert_unharmed("floods");
}

/// How long the long form goes on, how many flood at a time, and how long each rests when it was
/// cut off: the honest client needs a part of this machine, too.
const LONG: Duration = Duration::from_secs(60);
const FLOODERS: usize = 8;
const REST: Duration = Duration::from_millis(200);

/// Floods of random kinds, one after the other: how many, and the longest that one lasted.
async fn flood_on(listeners: [Listener; 3], mut random: fastrand::Rng) -> (u32, Duration) {
    let (started, mut floods, mut longest) = (Instant::now(), 0, Duration::ZERO);
    while started.elapsed() < LONG {
        let what = ALL[random.usize(..ALL.len())];
        let listener = listeners[random.usize(..listeners.len())];
        let (took, _) = flood(what, listener, random.bool()).await;
        longest = longest.max(took);
        floods += 1;
        tokio::time::sleep(REST).await;
    }
    (floods, longest)
}

#[tokio::test]
#[ignore = "long: make faults"]
async fn floods_are_cut_off_in_time_for_a_minute() {
    let mut report = Report::begin("21").unwrap();
    let mut bothered = Bothered::long().await;
    let before = bothered.resident();
    bothered.attacked_now();
    let seed = fastrand::u64(..);
    eprintln!("row 21: seed {seed}");
    let (listeners, mut random) = (bothered.listeners(), fastrand::Rng::with_seed(seed));
    let flooding = move || async move {
        let flooders = (0..FLOODERS).map(|_| flood_on(listeners, random.fork()));
        flooders.collect::<JoinSet<_>>().join_all().await
    };
    let done = apart(flooding).await;
    let floods: u32 = done.iter().map(|(floods, _)| floods).sum();
    let longest = done.iter().map(|&(_, longest)| longest).max().unwrap();
    let grew = grown(before, bothered.peak());
    let endured = bothered.end().await;
    report.run(endured.counts()).unwrap();
    report.took("cut off", longest, Some(CUT_WITHIN)).unwrap();
    let (calm, since) = endured.before_and_since();
    let p99 = format!("honest p99 {:.1?}, {:.1?} before", since.latency.p99, calm.latency.p99);
    let note = format!("{floods} floods, seed {seed}; {} MiB more at the peak; {p99}", grew >> 20);
    eprintln!("row 21: {note}; cut off within {longest:.1?}");
    report.note(note).unwrap();
    endured.assert_unharmed("floods");
    assert!(longest < CUT_WITHIN, "cut off after {longest:.1?}");
    assert!(grew < ROOM, "grew by {grew} bytes");
    report.passed().unwrap();
}
