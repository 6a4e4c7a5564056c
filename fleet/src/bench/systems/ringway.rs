//! Ringway as it runs in production: etcd, nodes and a gateway, a process each.

use std::{
    fmt::Write,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tempfile::TempDir;

use super::{READY_WITHIN, SystemError, listens};
use crate::{
    bench::{Dialect, Subject, Workload, key_name, sweep},
    etcd::Etcd,
    eventually::eventually,
    http, memory,
    process::{BuildError, Process, Spec, binary},
};

/// Worker threads of the gateway, which shares two cores with its nodes and with the load. As with nginx,
/// what does best here: nginx with two workers, a gateway with one, whose links then carry twice as much
/// in a frame.
const GATEWAY_WORKERS: usize = 1;
/// How long what the origin gave is kept where every read is to be a miss.
const COLD_TTL: &str = "1ms";
/// The group whose every read is a miss, see [`Settings::Cold`].
const COLD: &str = "cold";
/// The group that is always there.
const DEFAULT: &str = "default";

/// How Ringway is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Settings {
    /// As it comes: nothing is configured.
    #[default]
    Plain,
    /// With room for a gigabyte on each node.
    Large,
    /// A group of `keys` keys with an origin that has them, and that keeps nothing.
    Cold {
        /// How many.
        keys: usize,
        /// Bytes of each value.
        value_bytes: usize,
    },
}

impl Settings {
    /// The configuration file, if there is one.
    fn config(self) -> Option<String> {
        match self {
            Self::Plain => None,
            Self::Large => Some(format!("[groups.{DEFAULT}]\ncapacity = \"1GiB\"\n")),
            Self::Cold { keys, value_bytes } => {
                let work = Workload { keys, value_bytes, ..Workload::default() };
                let mut toml = format!(
                    "[groups.{COLD}]\nttl = \"{COLD_TTL}\"\n[groups.{COLD}.origin]\nkind = \"static\"\n\
                     [groups.{COLD}.origin.values]\n"
                );
                for key in 0..keys {
                    let value = work.value(key);
                    let value = String::from_utf8_lossy(&value);
                    // Writing to a string can't fail.
                    let _ = writeln!(toml, "{} = \"{value}\"", key_name(key));
                }
                Some(toml)
            }
        }
    }

    fn group(self) -> &'static str {
        match self {
            Self::Plain | Self::Large => DEFAULT,
            Self::Cold { .. } => COLD,
        }
    }
}

/// What the nodes count for a group, all together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Reads that found something.
    pub hits: u64,
    /// Values that came from the origin.
    pub loads: u64,
}

/// Ringway as it runs in production: etcd, nodes and a gateway, a process each.
#[derive(Debug)]
pub struct Ringway {
    settings: Settings,
    address: SocketAddr,
    gateway: Process,
    nodes: Vec<Process>,
    empty_node_bytes: u64,
    _etcd: Etcd,
    _dir: TempDir,
}

impl Ringway {
    /// Starts `nodes` nodes and a gateway, and waits until the gateway knows them all.
    ///
    /// # Errors
    /// [`SystemError`]
    pub async fn start(nodes: usize, settings: Settings) -> Result<Self, SystemError> {
        Self::start_from(binary, nodes, settings).await
    }

    /// The same, with the binaries of another build: `program` says where one of a name is.
    ///
    /// # Errors
    /// [`SystemError`]
    pub async fn start_from(
        program: impl Fn(&str) -> Result<PathBuf, BuildError>,
        nodes: usize,
        settings: Settings,
    ) -> Result<Self, SystemError> {
        let dir = tempfile::tempdir()?;
        let etcd = Etcd::start().await?;
        let config = write_config(settings, dir.path())?;
        let start = |name: &str, server: &str, ports: &[&str]| -> Result<Process, SystemError> {
            let spec = Spec::new(name, program(server)?).args(ports);
            let mut spec = spec.arg(format!("--etcd-endpoints={}", etcd.endpoint()));
            if let Some(file) = &config {
                spec = spec.arg("--config").arg(file);
            }
            Ok(Process::start(&spec, dir.path())?)
        };
        let ports = ["--node-port=0", "--http-port=0"];
        let nodes = (0..nodes).map(|at| start(&format!("node-{at}"), "cachenode", &ports));
        let nodes = nodes.collect::<Result<Vec<_>, SystemError>>()?;
        let workers = format!("--workers={GATEWAY_WORKERS}");
        let gateway = start("gateway", "apiserver", &["--api-port=0", &workers])?;
        let address = listens(&gateway, "address=").await?;
        let mut ringway =
            Self { settings, address, gateway, nodes, empty_node_bytes: 0, _etcd: etcd, _dir: dir };
        ringway.wait_until_complete().await;
        let bytes = memory::resident_of_all(&ringway.processes().1);
        ringway.empty_node_bytes = bytes / ringway.nodes.len().max(1) as u64;
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
    pub async fn fill(&self, work: &Workload) -> Result<(), SystemError> {
        let puts = work.fill(self.dialect()).unwrap_or_default();
        sweep::sweep(self.address, &puts).await?;
        Ok(())
    }

    /// Resident bytes of a node before anything was stored, on average.
    pub fn empty_node_bytes(&self) -> u64 {
        self.empty_node_bytes
    }
}

impl Counts {
    /// What the nodes behind a gateway have counted so far for the group of those settings.
    ///
    /// # Errors
    /// [`SystemError::Http`]
    pub async fn of(gateway: SocketAddr, settings: Settings) -> Result<Self, SystemError> {
        let groups = http::get(gateway, "/api/groups").await?.json();
        let named = |group: &&Value| group["name"] == settings.group();
        let group = groups["groups"].as_array().and_then(|groups| groups.iter().find(named));
        let count = |what| group.and_then(|group| group[what].as_u64()).unwrap_or_default();
        Ok(Self { hits: count("hits"), loads: count("loads") })
    }
}

fn write_config(settings: Settings, dir: &Path) -> std::io::Result<Option<PathBuf>> {
    let Some(toml) = settings.config() else { return Ok(None) };
    let file = dir.join("ringway.toml");
    fs::write(&file, toml)?;
    Ok(Some(file))
}

impl Subject for Ringway {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn processes(&self) -> (Vec<u32>, Vec<u32>) {
        (vec![self.gateway.id()], self.nodes.iter().map(Process::id).collect())
    }

    fn dialect(&self) -> Dialect {
        Dialect::Ringway { group: self.settings.group() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cold_group_has_an_origin_with_every_value() {
        let toml = Settings::Cold { keys: 2, value_bytes: 30 }.config().unwrap();
        let table: toml::Table = toml.parse().unwrap();
        let group = &table["groups"][COLD];
        assert_eq!(group["ttl"].as_str(), Some(COLD_TTL));
        let values = group["origin"]["values"].as_table().unwrap();
        assert_eq!(values.len(), 2);
        assert_eq!(values["bench-key-0000000001"].as_str().map(str::len), Some(30));
        assert_eq!(Settings::Plain.config(), None);
        let large: toml::Table = Settings::Large.config().unwrap().parse().unwrap();
        assert_eq!(large["groups"][DEFAULT]["capacity"].as_str(), Some("1GiB"));
    }
}
