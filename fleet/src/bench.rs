//! Load benches: what a request costs, as a ratio to a peer measured in the same run.
//!
//! CPU time per request is read off `/proc`, because it holds on a noisy machine where requests
//! per second do not. Only real processes are measured, driven by wrk from outside.

pub mod bare;
pub mod cpu;
mod systems;
mod wrk;

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

pub use cpu::CpuError;
pub use systems::{Bare, Ringway, SystemError};
pub use wrk::{WrkError, WrkRun};

/// What is asked of a system, and how.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Connections open at a time.
    pub connections: usize,
    /// How long one round takes.
    pub duration: Duration,
    /// Keys, asked for uniformly.
    pub keys: usize,
    /// Bytes of each value.
    pub value_bytes: usize,
}

/// What one round measured.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    /// Requests answered per second.
    pub rate: f64,
    /// Half of the requests were answered within this.
    pub p50: Duration,
    /// All but one in a hundred were.
    pub p99: Duration,
    /// CPU microseconds a request of the first group of processes (the gateway, or the responder).
    pub front_us: f64,
    /// The same of the second group (the nodes).
    pub back_us: f64,
    /// Answers that were not 200, or not answers at all.
    pub errors: u64,
}

impl Round {
    /// CPU microseconds a request of everything that was measured.
    pub fn total_us(&self) -> f64 {
        self.front_us + self.back_us
    }
}

/// A system that can be measured.
pub trait Subject {
    /// Where it answers.
    fn address(&self) -> SocketAddr;
    /// The process ids of its front and of what is behind it.
    fn processes(&self) -> (Vec<u32>, Vec<u32>);
    /// The path of a key.
    fn path(&self, key: &str) -> String;
}

/// Why a round does not count.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The load generator failed.
    #[error(transparent)]
    Wrk(#[from] WrkError),
    /// The CPU time can't be read.
    #[error(transparent)]
    Cpu(#[from] CpuError),
}

/// Measures one round.
///
/// # Errors
/// [`BenchError`] when the load generator or `/proc` does not play along.
pub async fn measure(subject: &impl Subject, work: &Workload) -> Result<Round, BenchError> {
    let (front, back) = subject.processes();
    let paths: Vec<String> = (0..work.keys).map(|key| subject.path(&key_name(key))).collect();
    let before = (cpu::used(&front)?, cpu::used(&back)?);
    let run = wrk::run(subject.address(), &paths, work).await?;
    let after = (cpu::used(&front)?, cpu::used(&back)?);
    let per_request = |used: Duration| used.as_secs_f64() * 1e6 / run.requests.max(1) as f64;
    Ok(Round {
        rate: run.requests as f64 / run.duration.as_secs_f64(),
        p50: run.p50,
        p99: run.p99,
        front_us: per_request(after.0.saturating_sub(before.0)),
        back_us: per_request(after.1.saturating_sub(before.1)),
        errors: run.errors,
    })
}

/// Key number `index`, 20 bytes long.
pub fn key_name(index: usize) -> String {
    format!("bench-key-{index:010}")
}

/// The median of the rounds, figure by figure. `None` without rounds.
pub fn median(rounds: &[Round]) -> Option<Round> {
    let middle = |read: fn(&Round) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(read).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    let seconds = |read: fn(&Round) -> f64| middle(read).map(Duration::from_secs_f64);
    Some(Round {
        rate: middle(|round| round.rate)?,
        p50: seconds(|round| round.p50.as_secs_f64())?,
        p99: seconds(|round| round.p99.as_secs_f64())?,
        front_us: middle(|round| round.front_us)?,
        back_us: middle(|round| round.back_us)?,
        errors: rounds.iter().map(|round| round.errors).sum(),
    })
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>9.0} req/s  p50 {:>6} µs  p99 {:>6} µs  CPU/request: front {:>5.1} + back {:>5.1} = {:>5.1} µs  errors {}",
            self.rate,
            self.p50.as_micros(),
            self.p99.as_micros(),
            self.front_us,
            self.back_us,
            self.total_us(),
            self.errors
        )
    }
}

/// The path of a tool that `make tools` provides.
fn tool(name: &str) -> Result<PathBuf, crate::tools::MissingTool> {
    crate::tools::find(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_twenty_bytes() {
        assert_eq!(key_name(0).len(), 20);
        assert_eq!(key_name(9_999).len(), 20);
    }

    #[test]
    fn the_median_is_taken_figure_by_figure() {
        let round = |rate, front_us| Round {
            rate,
            p50: Duration::from_micros(10),
            p99: Duration::from_micros(20),
            front_us,
            back_us: 1.0,
            errors: 1,
        };
        let middle = median(&[round(1.0, 9.0), round(3.0, 8.0), round(2.0, 7.0)]).unwrap();
        assert_eq!((middle.rate, middle.front_us, middle.errors), (2.0, 8.0, 3));
        assert!(median(&[]).is_none());
    }
}
