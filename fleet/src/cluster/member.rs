//! One gateway or node: its command line, its process, and where it listens.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use super::{ClusterError, wiring::Surroundings};
use crate::{
    etcd::free_address,
    netns::Namespace,
    process::{Process, ProcessError, Signal, Spec, binary},
    proxy::Proxy,
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
    /// For gateways: tries are long, so that a node which gets no processor for a while is waited for
    /// and not passed over. Where neither failover nor deadlines are what is tested.
    pub fn patient() -> Self {
        Self::default()
            .env("RINGWAY_GATEWAY__TRY_TIMEOUT", "5s")
            .env("RINGWAY_GATEWAY__REQUEST_TIMEOUT", "15s")
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// A variable of its environment; of two with the same name the later counts.
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

/// What a kind of process is called, what it is told where to listen, what it logs when it does,
/// and the fields of that line that hold addresses.
#[derive(Debug, Clone, Copy)]
struct Role {
    program: &'static str,
    host: &'static str,
    port: &'static str,
    announcement: &'static str,
    main: &'static str,
    probes: &'static str,
}

const GATEWAY: Role = Role {
    program: "apiserver",
    host: "--api-host",
    port: "--api-port",
    announcement: "gateway listens",
    main: "address=",
    probes: "address=",
};
const NODE: Role = Role {
    program: "cachenode",
    host: "--node-host",
    port: "--node-port",
    announcement: "node listens",
    main: "grpc=",
    probes: "http=",
};

/// A gateway or node, running or ended.
#[derive(Debug)]
pub struct Member {
    role: Role,
    spec: Spec,
    running: Running,
    // After the process, which uses it.
    around: Surroundings,
}

/// A process that listens.
#[derive(Debug)]
struct Running {
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
        Self::gateway_within(name, told, dir, Surroundings::default()).await
    }

    pub(super) async fn gateway_within(
        name: &str,
        told: Extras,
        dir: &Path,
        around: Surroundings,
    ) -> Result<Self, ClusterError> {
        Self::start(GATEWAY, told.spec(name, GATEWAY.program, dir)?, dir, around).await
    }

    /// Starts a node on a free port, and waits until it listens; it may not be registered yet.
    ///
    /// # Errors
    /// [`ClusterError`]
    pub async fn node(name: &str, told: Extras, dir: &Path) -> Result<Self, ClusterError> {
        Self::node_within(name, told, dir, Surroundings::default()).await
    }

    pub(super) async fn node_within(
        name: &str,
        told: Extras,
        dir: &Path,
        around: Surroundings,
    ) -> Result<Self, ClusterError> {
        Self::start(NODE, told.spec(name, NODE.program, dir)?, dir, around).await
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
        let spec = told.spec(name, NODE.program, dir)?;
        Self::try_port(NODE, &spec, port, dir, &mut Surroundings::default()).await.map(
            |(spec, running)| Self { role: NODE, spec, running, around: Surroundings::default() },
        )
    }

    /// Not on port 0: a restart needs the same port again, and one of the ephemeral range may be
    /// in use for an outgoing connection by then.
    async fn start(
        role: Role,
        spec: Spec,
        dir: &Path,
        mut around: Surroundings,
    ) -> Result<Self, ClusterError> {
        let mut tries = 1;
        loop {
            let port = free_address()?.port();
            match Self::try_port(role, &spec, port, dir, &mut around).await {
                Err(ClusterError::Process(ProcessError::Ended { lines, .. }))
                    if port_taken(&lines) && tries < START_TRIES =>
                {
                    tries += 1;
                }
                done => {
                    return done.map(|(spec, running)| Self { role, spec, running, around });
                }
            }
        }
    }

    /// The whole command line, and what runs by it.
    async fn try_port(
        role: Role,
        spec: &Spec,
        port: u16,
        dir: &Path,
        around: &mut Surroundings,
    ) -> Result<(Spec, Running), ClusterError> {
        let mut spec = spec.clone().arg(format!("{}={port}", role.port));
        if let Some(host) = around.host() {
            // An address that others could reach, if there were any in these namespaces.
            spec = spec.arg(format!("{}={host}", role.host)).arg("--insecure");
        }
        if let Some(host) = around.put_proxy_before(port)? {
            spec = spec.arg(format!("--advertise-host={host}"));
        }
        let running = Self::run(role, &spec, dir, around).await?;
        Ok((spec, running))
    }

    async fn run(
        role: Role,
        spec: &Spec,
        dir: &Path,
        around: &Surroundings,
    ) -> Result<Running, ClusterError> {
        let process = Process::start(&around.enter(spec), dir)?;
        let Role { announcement: text, main, probes, .. } = role;
        let line = process.wait_for_line(text, LISTENS_WITHIN, |line| line.contains(text)).await?;
        let missing =
            || ClusterError::NoAddress { name: process.name().to_owned(), line: line.clone() };
        let address = field(&line, main).ok_or_else(missing)?;
        let probes = field(&line, probes).ok_or_else(missing)?;
        Ok(Running { process, address, probes })
    }

    /// Starts it once more with the same command line.
    pub(super) async fn restart(&mut self, dir: &Path) -> Result<(), ClusterError> {
        self.running.process.kill();
        self.running = Self::run(self.role, &self.spec, dir, &self.around).await?;
        Ok(())
    }

    /// The proxy before a node, through which everybody but the harness calls it.
    ///
    /// # Panics
    /// When it is no node of a cluster [behind proxies](super::Plan::proxied).
    pub fn proxy(&self) -> &Proxy {
        self.around.before_it.as_ref().expect("a node of a proxied cluster: Plan::proxied")
    }

    /// The proxy between this process alone and etcd.
    ///
    /// # Panics
    /// When the cluster is not [behind proxies](super::Plan::proxied).
    pub fn etcd_proxy(&self) -> &Proxy {
        self.around.to_etcd.as_ref().expect("a proxied cluster: Plan::proxied")
    }

    /// The network namespace that it runs in.
    ///
    /// # Panics
    /// When the cluster is not [in namespaces](super::Plan::in_namespaces).
    pub fn namespace(&self) -> &Namespace {
        self.around.namespace.as_ref().expect("a cluster in namespaces: Plan::in_namespaces")
    }

    /// The process, to be signalled and waited for.
    pub fn process(&self) -> &Process {
        &self.running.process
    }

    /// Its name in messages.
    pub fn name(&self) -> &str {
        self.running.process.name()
    }

    /// Whether it has not ended.
    pub fn is_running(&self) -> bool {
        self.running.process.ended().is_none()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        self.running.process.signal(signal)
    }

    /// kill -9.
    pub fn kill(&self) {
        self.running.process.kill();
    }

    /// Where a gateway serves its API, and a node gRPC; by default that is also a node's id. Behind
    /// proxies it is what the proxy passes to.
    pub fn address(&self) -> SocketAddr {
        self.running.address
    }

    /// Where it answers `/readyz`.
    pub fn probes(&self) -> SocketAddr {
        self.running.probes
    }
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
