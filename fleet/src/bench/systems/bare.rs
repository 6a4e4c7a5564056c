//! The limit, [`bare`](crate::bench::bare), as a process.

use std::{net::SocketAddr, path::Path};

use tempfile::TempDir;

use super::{SystemError, listens};
use crate::{
    bench::{Dialect, Subject, bare::LISTENS},
    process::{Process, Spec},
};

/// The bare axum responder.
#[derive(Debug)]
pub struct Bare {
    address: SocketAddr,
    process: Process,
    _logs: TempDir,
}

impl Bare {
    /// Starts `program` (the load bench) as a responder with values of that size.
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

    fn dialect(&self) -> Dialect {
        Dialect::Constant
    }
}
