//! The systems that are measured, as real release processes.

use std::{net::SocketAddr, path::Path, time::Duration};

use tempfile::TempDir;

use super::{Subject, bare::LISTENS, key_name};
use crate::{
    etcd::{Etcd, EtcdError},
    eventually::eventually,
    http::{self, HttpError},
    process::{Process, ProcessError, Spec, binary},
};

/// How long a process may take until it listens.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// The group the values are in.
const GROUP: &str = "default";

/// A system could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    /// etcd could not.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// A process of ours could not.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The binaries could not be built.
    #[error(transparent)]
    Build(#[from] crate::process::BuildError),
    /// No directory for logs.
    #[error("logs: {0}")]
    Logs(#[from] std::io::Error),
    /// It runs, but can't be filled.
    #[error("filling: {0}")]
    Http(#[from] HttpError),
    /// It answered a PUT with something else than that it was stored.
    #[error("filling: PUT {key} was answered {status}")]
    NotStored {
        /// The key.
        key: String,
        /// The answer's status.
        status: u16,
    },
    /// It said something else than where it listens.
    #[error("no address in {0:?}")]
    NoAddress(String),
}

/// Ringway as it runs in production: etcd, nodes and a gateway, a process each.
#[derive(Debug)]
pub struct Ringway {
    address: SocketAddr,
    gateway: Process,
    nodes: Vec<Process>,
    _etcd: Etcd,
    _logs: TempDir,
}

impl Ringway {
    /// Starts `nodes` nodes and a gateway, and waits until the gateway knows them all.
    ///
    /// # Errors
    /// [`SystemError`]
    pub async fn start(nodes: usize) -> Result<Self, SystemError> {
        let logs = tempfile::tempdir()?;
        let etcd = Etcd::start().await?;
        let spec = |name: String, program: &str| -> Result<Spec, SystemError> {
            let spec = Spec::new(name, binary(program)?);
            Ok(spec.arg(format!("--etcd-endpoints={}", etcd.endpoint())))
        };
        let nodes = (0..nodes)
            .map(|index| {
                let spec = spec(format!("node-{index}"), "cachenode")?;
                let spec = spec.args(["--node-port=0", "--http-port=0"]);
                Ok(Process::start(&spec, logs.path())?)
            })
            .collect::<Result<Vec<_>, SystemError>>()?;
        let spec = spec("gateway".to_owned(), "apiserver")?.arg("--api-port=0");
        let gateway = Process::start(&spec, logs.path())?;
        let address = listens(&gateway, "address=").await?;
        let ringway = Self { address, gateway, nodes, _etcd: etcd, _logs: logs };
        ringway.wait_until_complete().await;
        Ok(ringway)
    }

    async fn wait_until_complete(&self) {
        let expected = self.nodes.len() as u64;
        eventually("the gateway to know every node", READY_WITHIN, async || {
            let nodes = http::get(self.address, "/api/nodes").await.ok()?.json();
            (nodes["count"].as_u64() == Some(expected)).then_some(())
        })
        .await;
    }

    /// Stores every key of a workload.
    ///
    /// # Errors
    /// [`SystemError`]
    pub async fn fill(&self, keys: usize, value_bytes: usize) -> Result<(), SystemError> {
        let value = vec![b'x'; value_bytes];
        for key in (0..keys).map(key_name) {
            let stored = http::put(self.address, &self.path(&key), value.clone()).await?;
            if !(200..300).contains(&stored.status) {
                return Err(SystemError::NotStored { key, status: stored.status });
            }
        }
        Ok(())
    }
}

impl Subject for Ringway {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn processes(&self) -> (Vec<u32>, Vec<u32>) {
        (vec![self.gateway.id()], self.nodes.iter().map(Process::id).collect())
    }

    fn path(&self, key: &str) -> String {
        format!("/api/cache?group={GROUP}&key={key}")
    }
}

/// The bare axum responder.
#[derive(Debug)]
pub struct Bare {
    address: SocketAddr,
    process: Process,
    _logs: TempDir,
}

impl Bare {
    /// Starts `program` (the load bench itself) as a responder with values of that size.
    ///
    /// # Errors
    /// [`SystemError`]
    pub async fn start(program: &Path, value_bytes: usize) -> Result<Self, SystemError> {
        let logs = tempfile::tempdir()?;
        let spec = Spec::new("bare", program).arg("--bare").arg(value_bytes.to_string());
        let process = Process::start(&spec, logs.path())?;
        let address = listens(&process, LISTENS).await?;
        Ok(Self { address, process, _logs: logs })
    }
}

impl Subject for Bare {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn processes(&self) -> (Vec<u32>, Vec<u32>) {
        (vec![self.process.id()], Vec::new())
    }

    fn path(&self, key: &str) -> String {
        format!("/api/cache?group={GROUP}&key={key}")
    }
}

/// The address a process says it listens on, right after `marker`.
async fn listens(process: &Process, marker: &str) -> Result<SocketAddr, SystemError> {
    let said = process.wait_for_line(marker, READY_WITHIN, |line| line.contains(marker)).await?;
    let address = said.split(marker).nth(1).and_then(|rest| rest.split_whitespace().next());
    address.and_then(|text| text.parse().ok()).ok_or(SystemError::NoAddress(said))
}
