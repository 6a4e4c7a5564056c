//! The systems that are measured, as real release processes.
//!
//! Each is set up as its makers would for this job on one machine, on free ports of the loopback
//! interface, with its files in a directory that goes away with it.

mod bare;
mod memcached;
mod nginx;
mod ringway;
mod webdis;

use std::{future::Future, io, net::SocketAddr, time::Duration};

pub use bare::Bare;
pub use memcached::Memcached;
pub use nginx::Nginx;
pub use ringway::{Counts, Ringway, Settings};
pub use webdis::Webdis;

use crate::{
    etcd::EtcdError,
    eventually::eventually,
    http::HttpError,
    process::{BuildError, Process, ProcessError},
    tools::MissingTool,
};

use super::SweepError;

/// How long a process may take until it listens.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// How often starting is tried when somebody took a port in between.
const START_TRIES: u32 = 5;

/// A system could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    /// etcd could not.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// A process could not.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The binaries could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A peer is not here.
    #[error(transparent)]
    Missing(#[from] MissingTool),
    /// No directory, file or port for it.
    #[error("no place: {0}")]
    Place(#[from] io::Error),
    /// It does not tell about itself.
    #[error("asking: {0}")]
    Http(#[from] HttpError),
    /// It runs, but can't be filled.
    #[error("filling: {0}")]
    Fill(#[from] SweepError),
    /// It answered a value with something else than that it was stored.
    #[error("filling: {0}")]
    NotStored(String),
    /// It said something else than where it listens.
    #[error("no address in {0:?}")]
    NoAddress(String),
}

/// The address a process says it listens on, right after `marker`.
async fn listens(process: &Process, marker: &str) -> Result<SocketAddr, SystemError> {
    let said = process.wait_for_line(marker, READY_WITHIN, |line| line.contains(marker)).await?;
    let address = said.split(marker).nth(1).and_then(|rest| rest.split_whitespace().next());
    address.and_then(|text| text.parse().ok()).ok_or(SystemError::NoAddress(said))
}

/// Waits until something listens there; fails when the process has ended instead.
async fn accepts(process: &Process, address: SocketAddr) -> Result<(), SystemError> {
    let what = format!("{} to listen", process.name());
    let is_alive = eventually(&what, READY_WITHIN, async || {
        if process.ended().is_some() {
            return Some(false);
        }
        tokio::net::TcpStream::connect(address).await.ok().map(|_| true)
    })
    .await;
    if is_alive {
        return Ok(());
    }
    // It has ended: this never finds a line, and tells the last ones.
    process.wait_for_line("reason", READY_WITHIN, |_| false).await?;
    Ok(())
}

/// Starts something again if it ends at once, as it does when somebody took its port.
async fn persistently<T, F: Future<Output = Result<T, SystemError>>>(
    start: impl Fn() -> F,
) -> Result<T, SystemError> {
    for _ in 1..START_TRIES {
        match start().await {
            Err(SystemError::Process(ProcessError::Ended { .. })) => {}
            done => return done,
        }
    }
    start().await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn ended() -> SystemError {
        SystemError::Process(ProcessError::Ended { name: "x".into(), lines: String::new() })
    }

    #[tokio::test]
    async fn a_port_that_was_taken_is_no_end() {
        let starts = Cell::new(0);
        let start = |works_at| {
            let starts = &starts;
            move || async move {
                starts.set(starts.get() + 1);
                if starts.get() < works_at { Err(ended()) } else { Ok(starts.get()) }
            }
        };
        assert_eq!(persistently(start(3)).await.unwrap(), 3);
        starts.set(0);
        assert!(persistently(start(u32::MAX)).await.is_err());
        assert_eq!(starts.get(), START_TRIES);
    }
}
