//! One gateway or node: its command line, its process, and where it listens.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use super::ClusterError;
use crate::{
    etcd::free_address,
    process::{Process, ProcessError, Signal, Spec, binary},
};

/// How long a process may take until it listens.
const LISTENS_WITHIN: Duration = Duration::from_secs(20);

/// How often starting is tried when somebody took a port in between.
const START_TRIES: u32 = 5;

/// What a process is told beyond what makes it part of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extras {
    args: Vec<String>,
    env: Vec<(String, String)>,
    config: Option<String>,
}

impl Extras {
    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// A variable of its environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// The text of its configuration file.
    #[must_use]
    pub fn config(mut self, toml: impl Into<String>) -> Self {
        self.config = Some(toml.into());
        self
    }

    /// These, and the others after them; a configuration file of the others replaces this one.
    #[must_use]
    pub(super) fn and(mut self, others: &Self) -> Self {
        self.args.extend(others.args.iter().cloned());
        self.env.extend(others.env.iter().cloned());
        self.config = others.config.clone().or(self.config);
        self
    }

    fn spec(&self, name: &str, program: &str, dir: &Path) -> Result<Spec, ClusterError> {
        let mut spec = Spec::new(name, binary(program)?).args(&self.args);
        for (name, value) in &self.env {
            spec = spec.env(name, value);
        }
        if let Some(toml) = &self.config {
            let file = dir.join(format!("{name}.toml"));
            fs::write(&file, toml)?;
            spec = spec.arg("--config").arg(file);
        }
        Ok(spec)
    }
}

/// What a process logs when it listens, and the fields of that line that hold addresses.
#[derive(Debug, Clone, Copy)]
struct Announcement {
    text: &'static str,
    main: &'static str,
    probes: &'static str,
}

const GATEWAY: Announcement =
    Announcement { text: "gateway listens", main: "address=", probes: "address=" };
const NODE: Announcement = Announcement { text: "node listens", main: "grpc=", probes: "http=" };

/// A gateway or node, running or ended.
#[derive(Debug)]
pub struct Member {
    announcement: Announcement,
    spec: Spec,
    process: Process,
    address: SocketAddr,
    probes: SocketAddr,
}

impl Member {
    /// Starts a gateway on a free port, and waits until it listens.
    ///
    /// # Errors
    /// [`ClusterError`]
    pub async fn gateway(name: &str, told: Extras, dir: &Path) -> Result<Self, ClusterError> {
        Self::start(told.spec(name, "apiserver", dir)?, "--api-port", GATEWAY, dir).await
    }

    /// Starts a node on a free port, and waits until it listens; it may not be registered yet.
    ///
    /// # Errors
    /// [`ClusterError`]
    pub async fn node(name: &str, told: Extras, dir: &Path) -> Result<Self, ClusterError> {
        Self::start(told.spec(name, "cachenode", dir)?, "--node-port", NODE, dir).await
    }

    /// Starts a node on that port of the loopback; for static discovery, where it has to be known
    /// before.
    ///
    /// # Errors
    /// [`ClusterError`]; one of them is that the port is taken.
    pub async fn node_at(
        name: &str,
        port: u16,
        told: Extras,
        dir: &Path,
    ) -> Result<Self, ClusterError> {
        let spec = told.spec(name, "cachenode", dir)?.arg(format!("--node-port={port}"));
        Self::run(spec, NODE, dir).await
    }

    /// Not on port 0: a restart needs the same port again, and one of the ephemeral range may be
    /// in use for an outgoing connection by then.
    async fn start(
        spec: Spec,
        flag: &str,
        announcement: Announcement,
        dir: &Path,
    ) -> Result<Self, ClusterError> {
        for _ in 1..START_TRIES {
            match Self::run(with_port(&spec, flag)?, announcement, dir).await {
                Err(ClusterError::Process(ProcessError::Ended { lines, .. }))
                    if port_taken(&lines) => {}
                done => return done,
            }
        }
        Self::run(with_port(&spec, flag)?, announcement, dir).await
    }

    async fn run(spec: Spec, announcement: Announcement, dir: &Path) -> Result<Self, ClusterError> {
        let process = Process::start(&spec, dir)?;
        let Announcement { text, main, probes } = announcement;
        let line = process.wait_for_line(text, LISTENS_WITHIN, |line| line.contains(text)).await?;
        let missing =
            || ClusterError::NoAddress { name: process.name().to_owned(), line: line.clone() };
        let address = field(&line, main).ok_or_else(missing)?;
        let probes = field(&line, probes).ok_or_else(missing)?;
        Ok(Self { announcement, spec, process, address, probes })
    }

    /// Starts it once more with the same command line.
    pub(super) async fn restart(&mut self, dir: &Path) -> Result<(), ClusterError> {
        self.process.kill();
        *self = Self::run(self.spec.clone(), self.announcement, dir).await?;
        Ok(())
    }

    /// The process, to be signalled and waited for.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Its name in messages.
    pub fn name(&self) -> &str {
        self.process.name()
    }

    /// Whether it has not ended.
    pub fn is_running(&self) -> bool {
        self.process.ended().is_none()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        self.process.signal(signal)
    }

    /// kill -9.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Where a gateway serves its API, and a node gRPC; by default that is also a node's id.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it answers `/readyz`.
    pub fn probes(&self) -> SocketAddr {
        self.probes
    }
}

fn with_port(spec: &Spec, flag: &str) -> std::io::Result<Spec> {
    Ok(spec.clone().arg(format!("{flag}={}", free_address()?.port())))
}

fn port_taken(log: &str) -> bool {
    log.contains("another process has that port")
}

/// The address after `name` in a log line.
fn field(line: &str, name: &str) -> Option<SocketAddr> {
    line.split_whitespace().find_map(|word| word.strip_prefix(name))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_the_log() {
        let line = "INFO node listens node_id=x grpc=127.0.0.1:1 http=127.0.0.1:2";
        assert_eq!(field(line, NODE.main).unwrap().port(), 1);
        assert_eq!(field(line, NODE.probes).unwrap().port(), 2);
        assert_eq!(field(line, GATEWAY.main), None);
    }

    #[test]
    fn later_extras_come_last() {
        let first = Extras::default().arg("a").config("one");
        let both = first.clone().and(&Extras::default().arg("b").env("n", "v"));
        assert_eq!(both, Extras::default().arg("a").arg("b").env("n", "v").config("one"));
        assert_eq!(first.and(&Extras::default().config("two")).config.as_deref(), Some("two"));
    }
}
