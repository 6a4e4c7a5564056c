//! A fleet in a process of its own, watched from outside.

use std::{fs, net::SocketAddr, time::Duration};

use fleet::{
    http, memory,
    process::{Process, Spec, binary},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const READY: Duration = Duration::from_secs(30);
/// How long a server is silent before it is told that nothing more will come.
const QUIET: Duration = Duration::from_millis(200);
/// How long a connection is listened to before a test gives it up.
const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway and three nodes in one child process.
pub(crate) struct Server {
    process: Process,
    /// The gateway.
    pub(crate) api: SocketAddr,
    /// The gRPC port of the first node.
    pub(crate) grpc: SocketAddr,
    /// The HTTP port of the first node.
    pub(crate) http: SocketAddr,
    _logs: TempDir,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let logs = tempfile::tempdir().unwrap();
        let spec = Spec::new("fleet", binary("fleet").unwrap()).args(["--api-port", "0"]);
        let process = Process::start(&spec, logs.path()).unwrap();
        process
            .wait_for_line("the greeting's end", READY, |line| line.contains("Ctrl-C"))
            .await
            .unwrap();
        let lines = process.lines();
        let after = |text: &str| {
            let line = lines.iter().find(|line| line.contains(text)).unwrap();
            let rest = line.split(text).nth(1).unwrap();
            rest.split_whitespace().next().unwrap().parse().unwrap()
        };
        let node = lines.iter().find(|line| line.contains("gRPC;")).unwrap();
        let grpc = node.split_whitespace().next().unwrap().parse().unwrap();
        let (api, http) = (after("a gateway at http://"), after("metrics at http://"));
        Self { process, api, grpc, http, _logs: logs }
    }

    /// Resident bytes, now.
    pub(crate) fn resident(&self) -> usize {
        memory::resident(self.process.id()).unwrap() as usize
    }

    /// Resident bytes, at most so far.
    pub(crate) fn peak(&self) -> usize {
        memory::peak(self.process.id()).unwrap() as usize
    }

    /// That an honest client is served, by the gateway and by the node that is bothered.
    pub(crate) async fn serves(&self) {
        for target in ["/api/cache?group=scores&key=Tom", "/api/cache/scores/Tom"] {
            let answer = http::get(self.api, target).await.unwrap();
            assert_eq!((answer.status, answer.text().as_str()), (200, "630"));
        }
        let ready = http::get(self.http, "/readyz").await.unwrap();
        assert_eq!(ready.status, 200, "{}", ready.text());
    }

    /// That it lives, serves, and never panicked.
    pub(crate) async fn is_well(&self) {
        assert_eq!(self.process.ended(), None, "the process has ended");
        self.serves().await;
        let log = fs::read_to_string(self.process.log()).unwrap();
        for bad in ["panicked", "overflow", "RUST_BACKTRACE"] {
            assert!(!log.contains(bad), "{bad} in the log:\n{log}");
        }
    }
}

/// Sends bytes as they are and reads whatever comes back, until the server closes the connection;
/// one that waits for more is told that there is none.
pub(crate) async fn throw(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // It may close before it has read everything: what it said counts.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    if timeout(QUIET, stream.read_to_end(&mut answer)).await.is_ok() {
        return answer;
    }
    let _ = stream.shutdown().await;
    let reading = timeout(PATIENCE, stream.read_to_end(&mut answer));
    assert!(reading.await.is_ok(), "the connection stays open after its client has ended");
    answer
}

/// The status in the head of an HTTP/1.1 answer; `None` if there is none.
pub(crate) fn status_of(answer: &[u8]) -> Option<u16> {
    let text = answer.strip_prefix(b"HTTP/1.1 ")?;
    std::str::from_utf8(text.get(..3)?).ok()?.parse().ok()
}
