//! nginx in front of memcacheds, the keys spread by consistent hashing: the bar.

use std::{fs, net::SocketAddr, path::Path};

use futures_util::future::try_join_all;
use rustix::process::{Pid, geteuid, kill_process_group};
use tempfile::TempDir;

use super::{Memcached, READY_WITHIN, SystemError, accepts, persistently};
use crate::{
    bench::{Dialect, Subject, Workload, cpu},
    etcd::free_address,
    eventually::eventually,
    process::{Process, Signal, Spec},
    tools,
};

/// Worker processes; as many as the machine of the goals has cores.
const WORKERS: usize = 2;
/// Idle connections that each worker keeps to the memcacheds.
const KEEPALIVE: usize = 256;
/// A page. A value is answered from a buffer of that many at least.
const BUFFER_BYTES: usize = 4096;

/// nginx with its memcacheds.
#[derive(Debug)]
pub struct Nginx {
    address: SocketAddr,
    master: Master,
    workers: Vec<u32>,
    caches: Vec<Memcached>,
    _dir: TempDir,
}

/// nginx's first process. Its workers outlive it when it is killed alone.
#[derive(Debug)]
struct Master(Process);

impl Drop for Master {
    fn drop(&mut self) {
        let group = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            // An error means that all are gone already.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Nginx {
    /// Starts it with so many memcacheds, for values of that size.
    ///
    /// # Errors
    /// [`SystemError`]
    pub async fn start(caches: usize, value_bytes: usize) -> Result<Self, SystemError> {
        let caches = try_join_all((0..caches).map(|_| Memcached::start())).await?;
        let servers: Vec<SocketAddr> = caches.iter().map(Memcached::address).collect();
        let (address, master, dir) =
            persistently(|| start_master(servers.clone(), value_bytes)).await?;
        // One may answer before the next is there, and would count for both.
        let workers = eventually("nginx to have its workers", READY_WITHIN, async || {
            children(master.0.id()).ok().filter(|workers| workers.len() == WORKERS)
        })
        .await;
        Ok(Self { address, master, workers, caches, _dir: dir })
    }

    /// Stores every key of a workload, in each memcached: which one is asked is nginx's business.
    ///
    /// # Errors
    /// [`SystemError`]
    pub async fn fill(&self, work: &Workload) -> Result<(), SystemError> {
        for cache in &self.caches {
            cache.fill(work).await?;
        }
        Ok(())
    }
}

async fn start_master(
    servers: Vec<SocketAddr>,
    value_bytes: usize,
) -> Result<(SocketAddr, Master, TempDir), SystemError> {
    let dir = tempfile::tempdir()?;
    let address = free_address()?;
    let file = dir.path().join("nginx.conf");
    fs::write(&file, config(dir.path(), address, &servers, value_bytes))?;
    let spec = Spec::new("nginx", tools::find("nginx")?)
        .arg("-p")
        .arg(dir.path())
        .args(["-e", "stderr", "-c"])
        .arg(&file);
    let master = Master(Process::start(&spec, dir.path())?);
    accepts(&master.0, address).await?;
    Ok((address, master, dir))
}

/// Everything that costs and is not asked for is off; connections are never closed for their age.
fn config(dir: &Path, address: SocketAddr, servers: &[SocketAddr], value_bytes: usize) -> String {
    let user = if geteuid().is_root() { "user root;\n" } else { "" };
    let buffer = (value_bytes + BUFFER_BYTES / 2).div_ceil(BUFFER_BYTES) * BUFFER_BYTES;
    let servers: String =
        servers.iter().map(|server| format!("        server {server};\n")).collect();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("    {what}_temp_path {}/{what};\n", dir.display()))
        .concat();
    format!(
        "{user}daemon off;
worker_processes {WORKERS};
worker_rlimit_nofile 8192;
pid {dir}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
{temporary}    upstream caches {{
        hash $memcached_key consistent;
{servers}        keepalive {KEEPALIVE};
        keepalive_requests 1000000000;
    }}
    server {{
        listen {address} reuseport;
        location /api/cache {{
            set $memcached_key $arg_key;
            memcached_buffer_size {buffer};
            memcached_pass caches;
        }}
    }}
}}
",
        dir = dir.display(),
    )
}

/// The processes that a process has started.
fn children(parent: u32) -> std::io::Result<Vec<u32>> {
    let pids = fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    Ok(pids.filter(|&pid| cpu::stat(pid).is_ok_and(|stat| stat.parent == parent)).collect())
}

impl Subject for Nginx {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn processes(&self) -> (Vec<u32>, Vec<u32>) {
        let front = [&[self.master.0.id()], &self.workers[..]].concat();
        (front, self.caches.iter().map(Memcached::id).collect())
    }

    fn dialect(&self) -> Dialect {
        Dialect::ReadOnly
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_configuration_names_every_cache() {
        let servers = ["127.0.0.1:1", "127.0.0.1:2"].map(|server| server.parse().unwrap());
        let text = config(Path::new("/d"), "127.0.0.1:3".parse().unwrap(), &servers, 1024);
        for line in [
            "worker_processes 2;",
            "hash $memcached_key consistent;",
            "server 127.0.0.1:1;",
            "server 127.0.0.1:2;",
            "keepalive 256;",
            "listen 127.0.0.1:3 reuseport;",
            "memcached_buffer_size 4096;",
            "client_body_temp_path /d/client_body;",
        ] {
            assert!(text.lines().any(|is| is.trim() == line), "no {line} in {text}");
        }
        let large = config(Path::new("/d"), servers[0], &servers, 64 << 10);
        assert!(large.contains("memcached_buffer_size 69632;"), "{large}");
    }
}
