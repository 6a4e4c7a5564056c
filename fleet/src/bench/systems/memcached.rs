//! memcached on one thread.

use std::net::SocketAddr;

use rustix::process::geteuid;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{SystemError, accepts, persistently};
use crate::{
    bench::{Workload, key_name},
    etcd::free_address,
    process::{Process, Spec},
    tools,
};

/// What it may hold. More than any workload needs, so that nothing is evicted.
const MEBIBYTES: u32 = 1024;
/// What it says to a value that it took.
const STORED: &[u8] = b"STORED\r\n";
/// How many values are sent before its answers are read.
const IN_FLIGHT: usize = 32;

/// A memcached.
#[derive(Debug)]
pub struct Memcached {
    address: SocketAddr,
    process: Process,
    _logs: TempDir,
}

impl Memcached {
    /// Starts one.
    ///
    /// # Errors
    /// [`SystemError`]
    pub async fn start() -> Result<Self, SystemError> {
        persistently(Self::start_once).await
    }

    async fn start_once() -> Result<Self, SystemError> {
        let logs = tempfile::tempdir()?;
        let address = free_address()?;
        let mut spec = Spec::new("memcached", tools::find("memcached")?)
            .args(["-t", "1", "-U", "0", "-m", &MEBIBYTES.to_string()])
            .args(["-l", &address.ip().to_string(), "-p", &address.port().to_string()]);
        if geteuid().is_root() {
            spec = spec.args(["-u", "root"]);
        }
        let process = Process::start(&spec, logs.path())?;
        accepts(&process, address).await?;
        Ok(Self { address, process, _logs: logs })
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Stores every key of a workload.
    ///
    /// # Errors
    /// [`SystemError`]
    pub async fn fill(&self, work: &Workload) -> Result<(), SystemError> {
        let mut stream = TcpStream::connect(self.address).await?;
        let keys: Vec<usize> = (0..work.keys).collect();
        for keys in keys.chunks(IN_FLIGHT) {
            let sets: Vec<u8> = keys.iter().flat_map(|&key| set(work, key)).collect();
            stream.write_all(&sets).await?;
            let mut said = vec![0; STORED.len() * keys.len()];
            stream.read_exact(&mut said).await?;
            if said.chunks(STORED.len()).any(|answer| answer != STORED) {
                let said = String::from_utf8_lossy(&said).into_owned();
                return Err(SystemError::NotStored(said));
            }
        }
        Ok(())
    }
}

/// The command that stores a key, in memcached's text protocol.
fn set(work: &Workload, key: usize) -> Vec<u8> {
    let value = work.value(key);
    let head = format!("set {} 0 0 {}\r\n", key_name(key), value.len());
    [head.as_bytes(), &value, b"\r\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_set_in_its_own_words() {
        let work = Workload { value_bytes: 5, ..Workload::default() };
        assert_eq!(set(&work, 1), b"set bench-key-0000000001 0 0 5\r\nbench\r\n");
    }
}
