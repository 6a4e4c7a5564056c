//! webdis in front of one redis: no ring, but it writes, which nginx can't.

use std::{fs, net::SocketAddr};

use serde_json::json;
use tempfile::TempDir;

use super::{SystemError, accepts, persistently};
use crate::{
    bench::{Dialect, Subject, Workload, sweep},
    etcd::free_address,
    process::{Process, Spec},
    tools,
};

/// Worker threads of webdis, as in Debian's configuration.
const THREADS: usize = 2;

/// webdis with its redis.
#[derive(Debug)]
pub struct Webdis {
    address: SocketAddr,
    webdis: Process,
    redis: Process,
    _dir: TempDir,
}

impl Webdis {
    /// Starts both.
    ///
    /// # Errors
    /// [`SystemError`]
    pub async fn start() -> Result<Self, SystemError> {
        persistently(Self::start_once).await
    }

    async fn start_once() -> Result<Self, SystemError> {
        let dir = tempfile::tempdir()?;
        let (address, store) = (free_address()?, free_address()?);
        // Memory only: nothing is written to disk.
        let spec = Spec::new("redis", tools::find("redis-server")?)
            .args(["--bind", &store.ip().to_string(), "--port", &store.port().to_string()])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(dir.path());
        let redis = Process::start(&spec, dir.path())?;
        accepts(&redis, store).await?;
        let file = dir.path().join("webdis.json");
        let log = dir.path().join("webdis.log.txt");
        let config = json!({
            "redis_host": store.ip(),
            "redis_port": store.port(),
            "http_host": address.ip(),
            "http_port": address.port(),
            "threads": THREADS,
            "daemonize": false,
            "database": 0,
            "verbosity": 0,
            "logfile": log,
        });
        fs::write(&file, config.to_string())?;
        let spec = Spec::new("webdis", tools::find("webdis")?).arg(&file);
        let webdis = Process::start(&spec, dir.path())?;
        accepts(&webdis, address).await?;
        Ok(Self { address, webdis, redis, _dir: dir })
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
}

impl Subject for Webdis {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn processes(&self) -> (Vec<u32>, Vec<u32>) {
        (vec![self.webdis.id()], vec![self.redis.id()])
    }

    fn dialect(&self) -> Dialect {
        Dialect::Webdis
    }
}
