//! Row 20: clients that are slow, stall, or say nothing. Closed within 10 s; honest p99 ≤ 2 ×.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use fleet::{eventually::how_long, report::Report, trial::trial};
use prost::Message;
use proto::v1::GetRequest;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream, tcp::OwnedReadHalf},
    task::JoinSet,
    time::sleep,
};

use crate::{
    bothered::{Bothered, LARGE_PATH, Listener, Speaks, apart, grown},
    h2, raw,
    sockets::held,
};

/// The promise.
const CLOSED_WITHIN: Duration = Duration::from_secs(10);
/// How often the kernel is asked who is still connected.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// From one client to the next: what is asked about is slowness, not a burst of large answers.
const ARRIVAL: Duration = Duration::from_millis(10);
/// The pace of those who trickle.
const TRICKLE: Duration = Duration::from_millis(500);
/// What a slow reader reads at a time, each [`TRICKLE`]: 1 KB/s.
const SIP: usize = 512;
/// A slow reader's receive buffer: what the kernel takes for it.
const SMALL_BUFFER: u32 = 16 << 10;
/// Requests that a reader who does not read sends at once: more answers than sockets hold.
const PIPELINED: usize = 64;
/// Probes answer less: more requests for the same effect.
const PIPELINED_PROBES: usize = 4_000;

/// A way to be slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Slow {
    /// Says nothing.
    Silent,
    /// Half a head, and nothing more.
    HalfHead,
    /// A head that never ends, byte by byte.
    TrickledHead,
    /// Half of what an HTTP/2 client says first.
    HalfPreface,
    /// All of that, and no request.
    Preface,
    /// A TLS client that waits for its server.
    ClientHello,
    /// A body that never ends, byte by byte.
    TrickledBody,
    /// The same by HTTP/2, which on nodes is gRPC.
    TrickledHttp2Body,
    /// Asks and does not read.
    Unread,
    /// Asks and reads 1 KB/s.
    Sipped,
    /// Asks by HTTP/2 and never opens its window.
    ClosedWindow,
}

const ALL: [Slow; 11] = [
    Slow::Silent,
    Slow::HalfHead,
    Slow::TrickledHead,
    Slow::HalfPreface,
    Slow::Preface,
    Slow::ClientHello,
    Slow::TrickledBody,
    Slow::TrickledHttp2Body,
    Slow::Unread,
    Slow::Sipped,
    Slow::ClosedWindow,
];

impl Slow {
    /// Whether it makes sense there. gRPC has no large answers by HTTP/1, probes none by HTTP/2.
    fn bothers(self, listener: Listener) -> bool {
        match listener.speaks {
            Speaks::Api => true,
            Speaks::Grpc => !matches!(self, Self::Unread | Self::Sipped),
            Speaks::Probes => self != Self::ClosedWindow,
        }
    }

    /// What it says at once.
    fn opening(self, speaks: Speaks) -> Vec<u8> {
        match self {
            Self::Silent => Vec::new(),
            Self::HalfHead => b"GET /livez HTTP/1.1\r\nHo".to_vec(),
            Self::TrickledHead => b"GET /livez HTTP/1.1\r\nX: ".to_vec(),
            Self::HalfPreface => raw::PREFACE[..12].to_vec(),
            Self::Preface => raw::opening(1 << 20),
            Self::ClientHello => CLIENT_HELLO.to_vec(),
            Self::TrickledBody => body_head(speaks),
            Self::TrickledHttp2Body => http2_body(speaks),
            Self::Unread | Self::Sipped => {
                let (path, times) = match speaks {
                    Speaks::Api => (LARGE_PATH, PIPELINED),
                    _ => ("/metrics", PIPELINED_PROBES),
                };
                format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").repeat(times).into_bytes()
            }
            Self::ClosedWindow => closed_window(speaks),
        }
    }

    /// What it says from then on, a piece each [`TRICKLE`]; nothing: only listens.
    fn trickle(self) -> Option<Vec<u8>> {
        match self {
            Self::TrickledHead | Self::TrickledBody => Some(b"x".to_vec()),
            Self::TrickledHttp2Body => Some(raw::frame(raw::DATA, 0, 1, b"x")),
            _ => None,
        }
    }
}

/// The beginning of a TLS 1.2 ClientHello of 512 bytes.
const CLIENT_HELLO: &[u8] = &[
    0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03, 0x5a, 0x17, 0x88, 0x10, 0x2e,
    0x61, 0x0d, 0x0a, 0x44, 0x00, 0x1e, 0x99, 0x20,
];

fn body_head(speaks: Speaks) -> Vec<u8> {
    let target = match speaks {
        Speaks::Api => "PUT /api/cache/default/slow",
        Speaks::Grpc => "POST /ringway.v1.Cache/Set",
        Speaks::Probes => "POST /metrics",
    };
    let kind = "Content-Type: application/grpc";
    format!("{target} HTTP/1.1\r\nHost: x\r\n{kind}\r\nContent-Length: 100000\r\n\r\n").into_bytes()
}

fn http2_body(speaks: Speaks) -> Vec<u8> {
    let path = match speaks {
        Speaks::Grpc => "/ringway.v1.Cache/Set",
        _ => "/api/cache/default/slow",
    };
    // A gRPC message of 1,000 bytes is announced; elsewhere that is a part of the body.
    let message = raw::frame(raw::DATA, 0, 1, &h2::frame_of(1_000, b""));
    [raw::opening(1 << 20), raw::call(1, path), message].concat()
}

fn closed_window(speaks: Speaks) -> Vec<u8> {
    let request = if speaks == Speaks::Grpc {
        let get = GetRequest { group: "default".into(), key: "large".into() };
        let message = h2::frame(&get.encode_to_vec());
        let data = raw::frame(raw::DATA, raw::END_STREAM, 1, &message);
        [raw::call(1, "/ringway.v1.Cache/Get"), data].concat()
    } else {
        raw::get(1, LARGE_PATH)
    };
    [raw::opening(0), request].concat()
}

/// Behaves that way until the connection breaks, if it notices.
async fn behave(slow: Slow, speaks: Speaks, stream: TcpStream) {
    let (mut reader, mut writer) = stream.into_split();
    // Where the server has had enough before all was said, the rest is of no interest.
    let saying = async {
        let _ = writer.write_all(&slow.opening(speaks)).await;
        while let Some(piece) = slow.trickle() {
            sleep(TRICKLE).await;
            if writer.write_all(&piece).await.is_err() {
                return;
            }
        }
        std::future::pending::<()>().await;
    };
    let listening = async {
        match slow {
            Slow::Unread => std::future::pending().await,
            Slow::Sipped => {
                while reader.read_exact(&mut [0; SIP]).await.is_ok() {
                    sleep(TRICKLE).await;
                }
            }
            Slow::TrickledHttp2Body => call_over(&mut reader).await,
            _ => while reader.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {},
        }
    };
    tokio::select! {
        () = saying => {}
        () = listening => {}
    }
}

/// With HTTP/2 it is the call that is cut off: the connection may serve others.
async fn call_over(reader: &mut OwnedReadHalf) {
    let mut came = Vec::new();
    while reader.read_buf(&mut came).await.is_ok_and(|count| count > 0) {
        let over = |(kind, stream)| stream == 1 && matches!(kind, raw::HEADERS | raw::RST_STREAM);
        if raw::frames(&came).any(over) {
            return;
        }
    }
}

/// Who is connected, and since when.
type Attackers = BTreeMap<(Slow, SocketAddr, u16), Instant>;

/// Connects that many clients of each kind to each listener, one after the other.
async fn attack(listeners: &[Listener], each: usize, clients: &mut JoinSet<()>) -> Attackers {
    let mut attackers = Attackers::new();
    for _ in 0..each {
        for (&listener, slow) in listeners.iter().flat_map(|one| ALL.map(|slow| (one, slow))) {
            if !slow.bothers(listener) {
                continue;
            }
            let socket = TcpSocket::new_v4().unwrap();
            if matches!(slow, Slow::Unread | Slow::Sipped) {
                socket.set_recv_buffer_size(SMALL_BUFFER).unwrap();
            }
            let stream = socket.connect(listener.address).await.unwrap();
            let port = stream.local_addr().unwrap().port();
            attackers.insert((slow, listener.address, port), Instant::now());
            clients.spawn(behave(slow, listener.speaks, stream));
            sleep(ARRIVAL).await;
        }
    }
    attackers
}

/// Waits until none of them is connected. The longest that each kind was.
async fn all_closed(mut left: Attackers) -> BTreeMap<Slow, Duration> {
    let mut longest = BTreeMap::new();
    how_long("the slow clients are cut off", CLOSED_WITHIN, async || {
        let held = held();
        left.retain(|(slow, address, port), since| {
            let there = held.contains(&(address.port(), *port));
            if !there {
                let most: &mut Duration = longest.entry(*slow).or_default();
                *most = since.elapsed().max(*most);
            }
            there
        });
        sleep(LOOK_EVERY).await;
        if left.is_empty() { Ok(()) } else { Err(format!("{:?}", left.keys())) }
    })
    .await;
    longest
}

#[tokio::test]
async fn slow_clients_are_cut_off_and_others_served() {
    trial(async || {
        attack_once().await;
        Ok(())
    })
    .await;
}

/// A few slow clients of each kind.
async fn attack_once() {
    let mut bothered = Bothered::short().await;
    let listeners = bothered.listeners();
    let before = bothered.resident();
    bothered.attacked_now();
    let mut clients = JoinSet::new();
    let attackers = attack(&listeners, 2, &mut clients).await;
    let longest = all_closed(attackers).await;
    eprintln!("{longest:.1?}");
    let grew = grown(before, bothered.peak());
    assert!(grew < PEAK_ROOM, "grew by {grew} bytes");
    bothered.end().await.assert_unharmed("slow clients");
}

/// What a process may grow by while answers wait for their readers.
const PEAK_ROOM: usize = 256 << 20;
/// What may be left of that afterwards.
const ROOM_AFTERWARDS: usize = 32 << 20;

/// Of each kind, to each listener: 200 connections and more at once.
const EACH: usize = 8;
const LONG: Duration = Duration::from_secs(60);
/// How much slower honest requests may become, where it can be told: the client's own timers have
/// a resolution of 1 ms.
const SLOWER: u32 = 2;
const TELLABLE: Duration = Duration::from_millis(2);

/// One attack after the other: how many connections, and the longest that each kind was open.
async fn attack_on(listeners: [Listener; 3]) -> (usize, BTreeMap<Slow, Duration>) {
    let (started, mut clients) = (Instant::now(), JoinSet::new());
    let (mut attacks, mut longest) = (0, BTreeMap::new());
    while started.elapsed() < LONG {
        let attackers = attack(&listeners, EACH, &mut clients).await;
        attacks += attackers.len();
        for (slow, took) in all_closed(attackers).await {
            let most: &mut Duration = longest.entry(slow).or_default();
            *most = took.max(*most);
        }
    }
    (attacks, longest)
}

#[tokio::test]
#[ignore = "long: make faults"]
async fn slow_clients_are_cut_off_in_time_for_a_minute() {
    let mut report = Report::begin("20").unwrap();
    let mut bothered = Bothered::long().await;
    let listeners = bothered.listeners();
    let (before, rate) = (bothered.resident(), bothered.rate());
    bothered.attacked_now();
    let (attacks, longest) = apart(move || attack_on(listeners)).await;
    let (peak, after) = (grown(before, bothered.peak()), grown(before, bothered.resident()));
    let endured = bothered.end().await;
    let (calm, since) = endured.before_and_since();
    report.run(endured.counts()).unwrap();
    for (slow, took) in &longest {
        report.took(&format!("{slow:?}"), *took, Some(CLOSED_WITHIN)).unwrap();
    }
    let (calm, since) = (calm.latency.p99, since.latency.p99);
    let memory = format!("{} MiB more at the peak, {} after it", peak >> 20, after >> 20);
    let p99 = format!("honest p99 {since:.1?} at {rate:.0} op/s, {calm:.1?} before");
    let note = format!("{attacks} slow connections; {memory}; {p99}");
    eprintln!("row 20: {note}; closed after at most {longest:.1?}");
    report.note(note).unwrap();
    endured.assert_unharmed("slow clients");
    for (slow, took) in longest {
        assert!(took <= CLOSED_WITHIN, "{slow:?}: {took:.1?}");
    }
    assert!(peak < PEAK_ROOM, "grew by {peak} bytes");
    assert!(after < ROOM_AFTERWARDS, "{after} bytes are left");
    assert!(since <= calm.max(TELLABLE) * SLOWER, "p99 {since:.1?}, before {calm:.1?}");
    report.passed().unwrap();
}
