//! Row 22: more idle connections than anybody needs, and one too many.

use std::{
    collections::HashMap,
    fs,
    io::ErrorKind,
    net::SocketAddr,
    time::{Duration, Instant},
};

use fleet::{
    bench::cpu,
    cluster::{Cluster, Extras, Member, Plan},
    descriptors::make_room,
    eventually, memory,
    process::{Process, Spec, binary},
    report::{Counts, Report},
};
use futures_util::{StreamExt, stream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

/// The promise, in bytes of the server's memory.
const EACH: u64 = 20 << 10;
/// What a process may grow by for other reasons.
const NOISE: u64 = 4 << 20;
/// A core's share that an idle server may use, clients that are turned away included.
const CPU_SHARE: f64 = 0.1;
/// How long that is looked at.
const WATCHED: Duration = Duration::from_secs(2);
/// Clients that are turned away meanwhile.
const TOO_MANY: usize = 50;
/// Connections opened at a time: fewer than the backlog.
const OPENING: usize = 64;
/// How soon those that left are counted off.
const GONE_WITHIN: Duration = Duration::from_secs(1);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection on which requests are answered one after the other.
struct Client(TcpStream);

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    /// The body that is answered.
    async fn get(&mut self, path: &str) -> std::io::Result<String> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        self.0.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let length = head.split("content-length: ").nth(1).unwrap();
        let mut body = vec![0; length.split('\r').next().unwrap().parse().unwrap()];
        self.0.read_exact(&mut body).await?;
        Ok(String::from_utf8(body).unwrap())
    }

    /// The gateway's counters of its connections, by their names.
    async fn counters(&mut self) -> HashMap<String, u64> {
        let text = self.get("/metrics").await.unwrap();
        let of_gateway = text.lines().filter(|line| line.contains("listener=\"gateway\""));
        let mut counters = HashMap::new();
        for line in of_gateway {
            let (name, value) = (line.split('{').next().unwrap(), line.rsplit(' ').next().unwrap());
            *counters.entry(name.to_owned()).or_default() += value.parse::<u64>().unwrap();
        }
        counters
    }
}

impl Client {
    /// Waits until the gateway has no other connection.
    async fn left_alone(&mut self) {
        eventually("the others are gone", GONE_WITHIN, async || {
            match self.counters().await["ringway_connections_open"] {
                1 => Ok(()),
                more => Err(format!("{more} are open")),
            }
        })
        .await;
    }
}

/// Opens that many connections, has each answered once, and keeps them.
async fn crowd(address: SocketAddr, count: usize) -> Vec<Client> {
    let arriving = (0..count).map(|_| async move {
        let mut client = Client::connect(address).await;
        let answer = timeout(PATIENCE, client.get("/livez")).await.expect("an answer in time");
        assert_eq!(answer.expect("an answer"), "ok\n");
        client
    });
    stream::iter(arriving).buffer_unordered(OPENING).collect().await
}

/// That one more client is accepted and reset at once, perhaps before it has seen that it is
/// connected.
async fn is_turned_away(address: SocketAddr) {
    let answer = async { TcpStream::connect(address).await?.read(&mut [0; 1]).await };
    let answer = timeout(PATIENCE, answer).await.expect("closed at once");
    assert_eq!(answer.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
}

/// Fills a gateway up to its cap with idle clients, then brings some more. What each idle one
/// costs the server, in bytes, and what share of a core the server used.
async fn fill(gateway: &Member, cap: usize) -> (u64, f64) {
    let (address, pid) = (gateway.address(), gateway.process().id());
    // What a first crowd makes the server set up once is not what a connection costs.
    drop(crowd(address, OPENING).await);
    let mut asking = Client::connect(address).await;
    asking.left_alone().await;
    let before = asking.counters().await;
    let resident = memory::resident(pid).unwrap();
    let mut others = crowd(address, cap - 1).await;
    let grew = memory::resident(pid).unwrap().saturating_sub(resident);

    let used = cpu::used(&[pid]).unwrap();
    let watched = Instant::now();
    for _ in 0..TOO_MANY {
        is_turned_away(address).await;
    }
    sleep(WATCHED.saturating_sub(watched.elapsed())).await;
    let used = cpu::used(&[pid]).unwrap() - used;
    let share = used.as_secs_f64() / watched.elapsed().as_secs_f64();

    let after = asking.counters().await;
    let more = |name: &str| after[name] - before[name];
    assert_eq!(more("ringway_connections_refused_total"), TOO_MANY as u64);
    assert_eq!(more("ringway_connections_accepted_total"), (cap - 1 + TOO_MANY) as u64);
    assert_eq!(after["ringway_connections_open"], cap as u64);
    // Those that are there are served on, and whoever leaves makes room.
    assert_eq!(others[cap / 2].get("/livez").await.unwrap(), "ok\n");
    drop(others);
    asking.left_alone().await;
    assert_eq!(Client::connect(address).await.get("/livez").await.unwrap(), "ok\n");
    (grew.saturating_sub(NOISE) / cap as u64, share)
}

#[tokio::test]
async fn a_crowd_of_idle_connections_costs_little_and_one_more_is_turned_away() {
    const CAP: usize = 500;
    make_room(CAP);
    let cap = Extras::default().env("RINGWAY_GATEWAY__MAX_CONNECTIONS", CAP.to_string());
    let plan = Plan { nodes: 1, gateway: cap, ..Plan::default() };
    let cluster = Cluster::start(plan).await.unwrap();
    let (each, share) = fill(cluster.gateway(0), CAP).await;
    eprintln!("{CAP} idle connections: {each} bytes each, {:.1} % of a core", share * 100.0);
    assert!(each <= EACH, "{each} bytes each");
}

#[tokio::test]
#[ignore = "long: make faults"]
async fn ten_thousand_idle_connections_cost_little_and_one_more_is_turned_away() {
    // The default of gateway.max_connections.
    const CAP: usize = 10_000;
    let mut report = Report::begin("22").unwrap();
    make_room(CAP);
    let cluster = Cluster::start(Plan { nodes: 1, ..Plan::default() }).await.unwrap();
    let (each, share) = fill(cluster.gateway(0), CAP).await;
    let requests = (CAP + TOO_MANY) as u64;
    report.run(Counts { requests, failed: 0, wrong: 0, older: 0 }).unwrap();
    let note = format!("{CAP} idle connections, {each} B each, {:.1} % of a core", share * 100.0);
    eprintln!("row 22: {note}");
    report.note(note).unwrap();
    assert!(each <= EACH, "{each} bytes each");
    assert!(share <= CPU_SHARE, "{:.1} % of a core", share * 100.0);
    report.passed().unwrap();
}

/// Whoever starts it need not raise the limit: a usual one would be spent by 1,000 clients.
#[tokio::test]
async fn servers_raise_their_limit_of_open_files() {
    let logs = tempfile::tempdir().unwrap();
    for (program, flags) in
        [("apiserver", &["--api-port=0"][..]), ("cachenode", &["--node-port=0", "--http-port=0"])]
    {
        let limited = "ulimit -Sn 256; exec \"$0\" \"$@\"";
        let spec = Spec::new(program, "/bin/sh").args(["-c", limited]);
        let spec = spec.arg(binary(program).unwrap()).args(flags);
        let spec = spec.env("RINGWAY_DISCOVERY__ETCD_ENDPOINTS", "127.0.0.1:1");
        let process = Process::start(&spec, logs.path()).unwrap();
        process.wait_for_line("listens", PATIENCE, |line| line.contains("listens")).await.unwrap();
        let (soft, hard) = open_files_limit(process.id());
        assert_eq!(soft, hard, "{program}");
        assert_ne!(soft, "256");
    }
}

/// The soft and the hard limit of open files, as `/proc/PID/limits` writes them.
fn open_files_limit(pid: u32) -> (String, String) {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let mut words = line.split_whitespace().map(str::to_owned);
    (words.next().unwrap(), words.next().unwrap())
}
