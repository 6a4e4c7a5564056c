//! The binary `fleet` as whoever types `make run` meets it: what it prints works, and it goes
//! away, with all it has started, when asked to.

#![allow(clippy::unwrap_used)]

use std::{fs, net::SocketAddr, path::Path, process::Command, time::Duration};

use etcd_client::{Client, GetOptions};
use fleet::{
    etcd::Etcd,
    eventually::PATIENCE,
    http,
    process::{Process, Signal, Spec, binary},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tonic::transport::Endpoint;

/// How long the fleet takes until it greets, and until it has ended; both are waited for with patience.
/// Nothing is under way when it ends. If draining took the ten seconds that it may take, its exit code would
/// tell.
const GREETS_WITHIN: Duration = Duration::from_secs(3);
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// A running `fleet` and the directory of its log.
struct Fleet {
    process: Process,
    _logs: TempDir,
}

impl Fleet {
    fn start(args: &[&str]) -> Self {
        let logs = tempfile::tempdir().unwrap();
        let spec = Spec::new("fleet", binary("fleet").unwrap()).args(args);
        Self { process: Process::start(&spec, logs.path()).unwrap(), _logs: logs }
    }

    /// A fleet of two nodes on free ports, once it has greeted.
    async fn greeting(args: &[&str]) -> Self {
        let fleet = Self::start(&[&["--api-port", "0", "--nodes", "2"], args].concat());
        let last = |line: &str| line == "Ctrl-C ends it.";
        let patience = GREETS_WITHIN * PATIENCE;
        fleet.process.wait_for_line("the end of the greeting", patience, last).await.unwrap();
        fleet
    }

    /// The lines to paste, as they are printed.
    fn commands(&self) -> Vec<String> {
        let lines = self.process.lines();
        let commands = lines.iter().map(|line| line.trim()).filter(|line| line.starts_with("curl"));
        commands.map(str::to_owned).collect()
    }

    /// Where its gateway listens.
    fn gateway(&self) -> SocketAddr {
        let lines = self.process.lines();
        let line = lines.iter().find(|line| line.contains("a gateway at")).unwrap();
        let (_, rest) = line.split_once("http://").unwrap();
        rest.split(' ').next().unwrap().parse().unwrap()
    }

    /// Sends the signal, and returns the exit code it ends with.
    async fn end(&self, signal: Signal) -> Option<i32> {
        self.process.signal(signal).unwrap();
        self.process.wait(ENDS_WITHIN * PATIENCE).await.unwrap().code()
    }
}

/// Reads an entry of the demo group through a gateway.
async fn assert_works(gateway: SocketAddr) {
    let answer = http::get(gateway, "/api/cache?group=scores&key=Tom").await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "630"));
}

#[tokio::test]
async fn every_printed_command_works_and_ctrl_c_ends_it() {
    let fleet = Fleet::greeting(&[]).await;
    let commands = fleet.commands();
    assert!(commands.len() >= 5, "{commands:?}");
    for (n, command) in commands.iter().enumerate() {
        // The same, but a refusal is a failure.
        let checked = command.replacen("curl", "curl --fail --silent --show-error", 1);
        let output = Command::new("sh").arg("-c").arg(&checked).output().unwrap();
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "$ {command}\n{out}{err}");
        if n == 0 {
            assert_eq!(out.trim_end(), "630", "$ {command}");
        }
    }
    let gateway = fleet.gateway();
    assert_eq!(fleet.end(Signal::INT).await, Some(0), "{:?}", fleet.process.lines());
    assert!(TcpStream::connect(gateway).await.is_err());
}

/// The processes that this one has started: id and name.
fn children(parent: u32) -> Vec<(u32, String)> {
    let ids = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        entry.unwrap().file_name().to_str().and_then(|name| name.parse::<u32>().ok())
    });
    let child = |id: u32| {
        // "id (name) state parent …"; one that has ended meanwhile has none.
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let (start, rest) = stat.rsplit_once(") ")?;
        let of = rest.split(' ').nth(1)?.parse::<u32>().ok()?;
        (of == parent).then(|| (id, start.split_once('(').unwrap().1.to_owned()))
    };
    ids.filter_map(child).collect()
}

#[tokio::test]
async fn an_etcd_of_its_own_goes_away_with_it() {
    let fleet = Fleet::greeting(&["--etcd"]).await;
    let children = children(fleet.process.id());
    let [(etcd, name)] = children.as_slice() else { panic!("{children:?}") };
    assert_eq!(name, "etcd");
    assert!(fleet.process.lines().iter().any(|line| line.contains("through etcd at http://")));
    assert_works(fleet.gateway()).await;
    assert_eq!(fleet.end(Signal::TERM).await, Some(0), "{:?}", fleet.process.lines());
    assert!(!Path::new(&format!("/proc/{etcd}")).exists(), "etcd, process {etcd}, is left behind");
}

/// The keys of the nodes' records.
async fn records(etcd: &Etcd) -> Vec<String> {
    let channel = Endpoint::from_shared(etcd.endpoint()).unwrap().connect().await.unwrap();
    let client = Client::from_channel(etcd_client::Channel::Tonic(channel), None).await.unwrap();
    let below = Some(GetOptions::new().with_prefix());
    let answer = client.kv_client().get("/ringway/nodes/", below).await.unwrap();
    answer.kvs().iter().map(|kv| kv.key_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_etcd_that_is_there_is_left_without_its_records() {
    let etcd = Etcd::start().await.unwrap();
    let fleet = Fleet::greeting(&["--etcd-endpoints", &etcd.address().to_string()]).await;
    assert_works(fleet.gateway()).await;
    assert_eq!(records(&etcd).await.len(), 2);
    assert_eq!(fleet.end(Signal::TERM).await, Some(0), "{:?}", fleet.process.lines());
    assert_eq!(records(&etcd).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let fleet = Fleet::start(&["--api-port", &port, "--nodes", "1"]);
    let status = fleet.process.wait(GREETS_WITHIN * PATIENCE).await.unwrap();
    let said = fleet.process.lines().join("\n");
    assert_eq!(status.code(), Some(1), "{said}");
    let reason = format!("cannot listen on 127.0.0.1:{port}");
    assert!(said.contains(&reason) && said.contains("another process has that port"), "{said}");
}

#[tokio::test]
async fn a_signal_ends_a_fleet_that_is_still_starting() {
    // Accepts (the system does) and says nothing, so that the nodes can't register.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let args = ["--api-port", "0", "--etcd-endpoints", &address, "--log-level", "info"];
    let fleet = Fleet::start(&args);
    let started = |line: &str| line.contains("node listens");
    let patience = GREETS_WITHIN * PATIENCE;
    fleet.process.wait_for_line("a node's start", patience, started).await.unwrap();
    assert_eq!(fleet.end(Signal::TERM).await, Some(1));
    let said = fleet.process.lines().join("\n");
    assert!(said.contains("stopped before the fleet was complete"), "{said}");
}

#[tokio::test]
async fn what_is_cut_off_is_told() {
    let fleet = Fleet::greeting(&[]).await;
    // A request whose body does not come keeps the gateway from draining.
    let mut held = TcpStream::connect(fleet.gateway()).await.unwrap();
    let head = "PUT /api/cache?group=default&key=k HTTP/1.1\r\nhost: x\r\n\
                content-length: 9\r\nexpect: 100-continue\r\n\r\n";
    held.write_all(head.as_bytes()).await.unwrap();
    // The gateway asks for the body: the request is under way.
    let mut asked = [0; 12];
    held.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100");
    fleet.process.signal(Signal::TERM).unwrap();
    let stopping = |line: &str| line == "stopping";
    fleet.process.wait_for_line("its stop", ENDS_WITHIN * PATIENCE, stopping).await.unwrap();
    assert_eq!(fleet.end(Signal::TERM).await, Some(1));
    let said = fleet.process.lines().join("\n");
    assert!(said.contains("not everything drained"), "{said}");
}
