//! Load benches: what a request costs, as a ratio to a peer measured in the same run.
//!
//! CPU time per request is read off `/proc`, because it holds on a noisy machine where requests
//! per second do not. Only real processes are measured, driven by wrk from outside. A round with
//! errors, with short answers or beside a busy neighbour has [flaws](Measured::flaws): it is for
//! the caller to repeat it.

mod ask;
pub mod bare;
pub mod cpu;
mod others;
pub mod peers;
mod plan;
mod sweep;
pub mod systems;
mod wrk;

use std::{fmt, io, net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};

pub use ask::{Ask, Dialect, Expect};
pub use cpu::CpuError;
pub use plan::{Op, Plan, Spread, Workload, key_name, value_of};
pub use sweep::SweepError;
pub use systems::{Bare, Nginx, Ringway, SystemError, Webdis};
pub use wrk::{WrkError, WrkRun};

use crate::memory;
use others::{Census, Others};
use wrk::Script;

/// How often memory is looked at during a round.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The share of the machine that others may use during a round that counts.
pub const MAX_OTHERS: f64 = 0.05;
/// So many bytes an answer may be shorter than when all were looked at: heads hold ages.
const HEAD_DRIFT: f64 = 16.0;

/// What one round measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
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
    /// Resident bytes of the first group together, at most.
    pub front_bytes: u64,
    /// Resident bytes of a process of the second group, on average, at most.
    pub back_bytes: u64,
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
pub trait Subject: fmt::Debug {
    /// Where it answers.
    fn address(&self) -> SocketAddr;
    /// The process ids of its front and of what is behind it.
    fn processes(&self) -> (Vec<u32>, Vec<u32>);
    /// How it is spoken to.
    fn dialect(&self) -> Dialect;
}

/// Why a round could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The load generator failed.
    #[error(transparent)]
    Wrk(#[from] WrkError),
    /// The CPU time can't be read.
    #[error(transparent)]
    Cpu(#[from] CpuError),
    /// A request was not answered as it should be, before any load.
    #[error(transparent)]
    Sweep(#[from] SweepError),
    /// No place for files, or no `/proc`.
    #[error("measuring: {0}")]
    System(#[from] io::Error),
}

/// A workload in the words of one system, with what its answers weigh.
#[derive(Debug)]
pub struct Load {
    work: Workload,
    script: Script,
    /// Bytes of an answer, on average.
    weight: f64,
}

/// A round, and what is wrong with it.
#[derive(Debug, Clone)]
pub struct Measured {
    /// The figures.
    pub round: Round,
    /// Why it does not count; empty if it does.
    pub flaws: Vec<String>,
}

impl BenchError {
    /// Whether a server does not understand a request for many keys at once: what it said.
    fn refused_batch(&self, work: &Workload) -> Option<String> {
        match self {
            Self::Sweep(error) if work.keys_per_request() > 1 && error.is_refusal() => {
                Some(error.to_string())
            }
            _ => None,
        }
    }
}

impl Load {
    /// Writes the requests down, sends each of them once and looks at the answers. `None` when the
    /// system can't do what the workload asks for.
    ///
    /// # Errors
    /// [`BenchError`], first of all when an answer is wrong.
    pub async fn prepare(
        subject: &dyn Subject,
        work: &Workload,
    ) -> Result<Option<Self>, BenchError> {
        let Some(plan) = Plan::of(work, subject.dialect()) else { return Ok(None) };
        let weights = sweep::sweep(subject.address(), &plan.asks).await?;
        let sum: usize = plan.trace.iter().map(|&at| weights[at]).sum();
        let weight = sum as f64 / plan.trace.len().max(1) as f64;
        Ok(Some(Self { work: work.clone(), script: Script::write(&plan)?, weight }))
    }
}

/// Measures one round. It has a flaw if others use more than `max_others` of the machine.
///
/// # Errors
/// [`BenchError`] when the load generator or `/proc` does not play along.
pub async fn measure(
    subject: &dyn Subject,
    load: &Load,
    max_others: f64,
) -> Result<Measured, BenchError> {
    let (front, back) = subject.processes();
    let ours = [&front[..], &back, &[std::process::id()]].concat();
    let before = (cpu::used(&front)?, cpu::used(&back)?, Census::take()?);
    let (run, peak) = drive(subject.address(), load, &front, &back).await?;
    let after = (cpu::used(&front)?, cpu::used(&back)?, Census::take()?);
    let per_request = |used: Duration| used.as_secs_f64() * 1e6 / run.requests.max(1) as f64;
    let round = Round {
        rate: run.requests as f64 / run.duration.as_secs_f64(),
        p50: run.p50,
        p99: run.p99,
        front_us: per_request(after.0.saturating_sub(before.0)),
        back_us: per_request(after.1.saturating_sub(before.1)),
        front_bytes: peak.0,
        back_bytes: peak.1,
        errors: run.errors,
    };
    let others = after.2.others_since(&before.2, &ours);
    Ok(Measured { round, flaws: flaws(&run, load.weight, &others, max_others) })
}

/// Lets wrk run, and looks at the memory meanwhile: of the front, and of a process behind it.
async fn drive(
    address: SocketAddr,
    load: &Load,
    front: &[u32],
    back: &[u32],
) -> Result<(WrkRun, (u64, u64)), WrkError> {
    let running = wrk::run(address, &load.script, &load.work);
    tokio::pin!(running);
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut peak = (0, 0);
    loop {
        tokio::select! {
            run = &mut running => return Ok((run?, peak)),
            _ = looks.tick() => {
                let each = memory::resident_of_all(back) / back.len().max(1) as u64;
                peak = (peak.0.max(memory::resident_of_all(front)), peak.1.max(each));
            }
        }
    }
}

/// Why a run does not count, in words.
fn flaws(run: &WrkRun, weight: f64, others: &Others, max_others: f64) -> Vec<String> {
    let mut flaws = Vec::new();
    if run.requests == 0 || run.errors > 0 {
        flaws.push(format!("{} errors, {} answers", run.errors, run.requests));
    }
    let found = run.bytes as f64 / run.requests.max(1) as f64;
    if found + HEAD_DRIFT < weight {
        flaws.push(format!("answers of {found:.0} bytes on average instead of {weight:.0}"));
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = others.used.as_secs_f64() / (run.duration.as_secs_f64() * cores as f64);
    if share > max_others {
        flaws.push(format!("others used {:.0} % of the machine: {others}", share * 100.0));
    }
    flaws
}

/// The median of the rounds, figure by figure; of memory the most. `None` without rounds.
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
        front_bytes: rounds.iter().map(|round| round.front_bytes).max()?,
        back_bytes: rounds.iter().map(|round| round.back_bytes).max()?,
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

#[cfg(test)]
mod tests;
