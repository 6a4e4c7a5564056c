//! An etcd of the test's own: a child process with a data directory that goes away with it.
//!
//! Its ports are free ones, and stay the same over a restart. They are taken from below the
//! range that the system hands out for outgoing connections: while etcd is down on purpose,
//! a client that keeps reconnecting to a port of that range can end up connected to itself, and
//! the port is gone. What is stored in it is not this module's business.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{
    http,
    netns::Namespace,
    process::{Process, ProcessError, Spec},
    tools::{self, MissingTool},
};

/// Where ports are taken from: above the well-known ones, below Linux's ephemeral range (32768).
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// How many ports are tried until one is free.
const PORT_TRIES: u32 = 100;

/// How often starting is tried when somebody took a port in between.
const START_TRIES: u32 = 5;

/// How long etcd may take to be ready. It elects itself first, which is a second or so.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// How often readiness is asked for.
const READY_STEP: Duration = Duration::from_millis(20);

/// How long a polite stop may take.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Why there is no etcd.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// The program is missing.
    #[error(transparent)]
    Missing(#[from] MissingTool),
    /// No directory or port for it.
    #[error("no place for etcd: {0}")]
    Place(#[from] std::io::Error),
    /// It did not start, or died.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// It runs but does not answer.
    #[error("etcd at {0} is not ready after {READY_WITHIN:?}: {1}; its last lines:\n{2}")]
    NotReady(SocketAddr, String, String),
}

/// With which data etcd comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// With what it had.
    Kept,
    /// With none: a new cluster under the old address.
    Empty,
}

/// A running (or stopped) etcd. Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct Etcd {
    program: PathBuf,
    args: Vec<String>,
    /// Unique, so that another test's etcd that took our port is not taken for ours.
    name: String,
    client: SocketAddr,
    peer: SocketAddr,
    namespace: Option<Namespace>,
    // Declared before `dir`: the process ends before its data goes.
    process: Option<Process>,
    dir: TempDir,
}

impl Etcd {
    /// Starts one and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When etcd is missing (the text tells how to get it) or does not become ready.
    pub async fn start() -> Result<Self, EtcdError> {
        Self::start_with(&[]).await
    }

    /// As [`Etcd::start`], with more flags, such as `--auto-compaction-retention=1`.
    ///
    /// # Errors
    ///
    /// As [`Etcd::start`].
    pub async fn start_with(args: &[&str]) -> Result<Self, EtcdError> {
        Self::start_in(None, args).await
    }

    /// As [`Etcd::start_with`], in a network namespace if there is one.
    ///
    /// # Errors
    ///
    /// As [`Etcd::start`].
    pub async fn start_in(namespace: Option<Namespace>, args: &[&str]) -> Result<Self, EtcdError> {
        let mut etcd = Self {
            program: tools::find("etcd")?,
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            name: format!("ringway-{:016x}", fastrand::u64(..)),
            client: free_address()?,
            peer: free_address()?,
            namespace,
            process: None,
            dir: tempfile::Builder::new().prefix("ringway-etcd-").tempdir()?,
        };
        if let Some(namespace) = &etcd.namespace {
            etcd.client.set_ip(namespace.address().into());
        }
        for _ in 1..START_TRIES {
            match etcd.run().await {
                Err(EtcdError::Process(ProcessError::Ended { lines, .. }))
                    if port_taken(&lines) =>
                {
                    etcd.client.set_port(free_address()?.port());
                    etcd.peer = free_address()?;
                }
                done => return done.map(|()| etcd),
            }
        }
        etcd.run().await.map(|()| etcd)
    }

    /// Where clients reach it, as `http://host:port`. The same over its whole life.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.client)
    }

    /// Where clients reach it, for a proxy or a packet filter in between.
    pub fn address(&self) -> SocketAddr {
        self.client
    }

    /// The network namespace that it runs in, if it has one of its own.
    pub fn namespace(&self) -> Option<&Namespace> {
        self.namespace.as_ref()
    }

    /// The process, to stop and continue it or to read its log; `None` while it is stopped.
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Kills it with SIGKILL, as a crash would. Harmless when it is down.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Stops it politely with SIGTERM, or with SIGKILL if that takes too long.
    pub async fn stop(&mut self) {
        if let Some(process) = self.process.take()
            && process.signal(Signal::TERM).is_ok()
        {
            // Late is no reason to complain: dropping kills.
            let _ = process.wait(STOP_WITHIN).await;
        }
    }

    /// Starts it again on the same ports, after killing it if it runs, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// As [`Etcd::start`].
    pub async fn restart(&mut self, data: Data) -> Result<(), EtcdError> {
        self.kill();
        if data == Data::Empty {
            std::fs::remove_dir_all(self.data_dir())?;
        }
        for _ in 1..START_TRIES {
            match self.run().await {
                // Somebody's passing outgoing connection: the port comes back.
                Err(EtcdError::Process(ProcessError::Ended { lines, .. }))
                    if port_taken(&lines) =>
                {
                    sleep(READY_STEP).await;
                }
                done => return done,
            }
        }
        self.run().await
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn spec(&self) -> Spec {
        let (client, peer) = (self.endpoint(), format!("http://{}", self.peer));
        let spec = Spec::new("etcd", &self.program)
            .args(["--name", &self.name])
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("{}={peer}", self.name)])
            .args(["--logger", "zap", "--log-outputs", "stderr"])
            .args(&self.args);
        self.namespace.as_ref().map_or(spec.clone(), |namespace| namespace.enter(&spec))
    }

    async fn run(&mut self) -> Result<(), EtcdError> {
        let process = Process::start(&self.spec(), self.dir.path())?;
        let deadline = Instant::now() + READY_WITHIN;
        let mut last = String::new();
        while Instant::now() < deadline {
            if process.ended().is_some() {
                // The log has the reason; this waits for its last lines and never finds one.
                process.wait_for_line("reason", READY_WITHIN, |_| false).await?;
            }
            match self.is_ready().await {
                Ok(()) => {
                    self.process = Some(process);
                    return Ok(());
                }
                Err(problem) => last = problem,
            }
            sleep(READY_STEP).await;
        }
        Err(EtcdError::NotReady(self.client, last, process.last_lines()))
    }

    /// Healthy means that it has a leader; the name means that it is ours.
    async fn is_ready(&self) -> Result<(), String> {
        let health = http::get(self.client, "/health").await.map_err(|error| error.to_string())?;
        if health.json()["health"] != "true" {
            return Err(health.text());
        }
        let members = http::request(self.client, "POST", "/v3/cluster/member/list", &[], "{}")
            .await
            .map_err(|error| error.to_string())?;
        let named = |member: &Value| member["name"] == self.name.as_str();
        match members.json()["members"].as_array() {
            Some(members) if members.iter().any(named) => Ok(()),
            _ => Err(format!("it is not the etcd {}: {}", self.name, members.text())),
        }
    }
}

fn port_taken(log: &str) -> bool {
    log.contains("address already in use")
}

/// A loopback address nobody listens on at the moment, outside of the ephemeral range.
///
/// # Errors
///
/// When none of many tried is free.
pub fn free_address() -> std::io::Result<SocketAddr> {
    let mut tried = TcpListener::bind((Ipv4Addr::LOCALHOST, fastrand::u16(PORTS)));
    for _ in 1..PORT_TRIES {
        if tried.is_ok() {
            break;
        }
        tried = TcpListener::bind((Ipv4Addr::LOCALHOST, fastrand::u16(PORTS)));
    }
    tried?.local_addr()
}

#[cfg(test)]
mod tests {
    use etcd_client::Client;
    use tonic::transport::Endpoint;

    use super::*;

    async fn client(etcd: &Etcd) -> Client {
        let channel = Endpoint::from_shared(etcd.endpoint()).unwrap().connect().await.unwrap();
        Client::from_channel(etcd_client::Channel::Tonic(channel), None).await.unwrap()
    }

    async fn value(etcd: &Etcd) -> Option<Vec<u8>> {
        let answer = client(etcd).await.get("key", None).await.unwrap();
        answer.kvs().first().map(|kv| kv.value().to_vec())
    }

    #[tokio::test]
    async fn keeps_or_loses_its_data_over_a_restart_at_the_same_address() {
        let mut etcd = Etcd::start().await.unwrap();
        let endpoint = etcd.endpoint();
        client(&etcd).await.put("key", "kept", None).await.unwrap();

        etcd.stop().await;
        assert!(http::get(etcd.address(), "/health").await.is_err(), "stopped");
        etcd.restart(Data::Kept).await.unwrap();
        assert_eq!(value(&etcd).await.as_deref(), Some(&b"kept"[..]));

        etcd.kill();
        etcd.restart(Data::Kept).await.unwrap();
        assert_eq!(value(&etcd).await.as_deref(), Some(&b"kept"[..]), "after a crash");

        etcd.restart(Data::Empty).await.unwrap();
        assert_eq!(value(&etcd).await, None);
        assert_eq!(etcd.endpoint(), endpoint);
    }

    #[tokio::test]
    async fn goes_away_with_its_data() {
        let etcd = Etcd::start().await.unwrap();
        let (address, data) = (etcd.address(), etcd.data_dir());
        assert!(data.is_dir());
        drop(etcd);
        assert!(http::get(address, "/health").await.is_err());
        assert!(!data.exists());
    }

    #[tokio::test]
    async fn a_taken_port_is_not_taken_for_ours() {
        let other = Etcd::start().await.unwrap();
        let mut etcd = Etcd::start().await.unwrap();
        etcd.kill();
        let own = std::mem::replace(&mut etcd.client, other.address());
        let error = etcd.run().await.unwrap_err();
        assert!(
            matches!(&error, EtcdError::Process(ProcessError::Ended { lines, .. }) if port_taken(lines)),
            "{error}"
        );
        etcd.client = own;
        etcd.restart(Data::Kept).await.unwrap();
    }

    #[tokio::test]
    async fn a_wrong_flag_is_told_with_the_reason() {
        let error = Etcd::start_with(&["--no-such-flag"]).await.unwrap_err().to_string();
        assert!(error.contains("no-such-flag"), "{error}");
    }

    #[test]
    fn ports_are_outside_of_the_ephemeral_range() {
        for _ in 0..50 {
            assert!(PORTS.contains(&free_address().unwrap().port()));
        }
    }
}
