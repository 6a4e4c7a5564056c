//! One soak, from its first process to its verdict.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{
    schedule::{Schedule, Step},
    stage::{Stage, StageError},
    traffic::{self, GROUP},
    weight::{Change, Scales, Weight},
};
use crate::{
    eventually::how_long,
    history::{FaultKind, GroupKind, History},
    load::Load,
    recorder::{Planned, Record, Recording, Summary},
    timers::Lateness,
};

/// How long after a fault all processes may take to go by one ring.
pub const ONE_RING_WITHIN: Duration = Duration::from_secs(10);
/// How long the fleet may take to be whole: a node that has flapped waits half a minute before it
/// joins.
const WHOLE_WITHIN: Duration = Duration::from_secs(60);
/// The load runs before the first fault, and after the last.
const CALM: Duration = Duration::from_secs(5);
/// Reads per second when every key is read once more.
const LAST_READS_RATE: f64 = 500.0;

/// What to do.
#[derive(Debug, Clone)]
pub struct Soak {
    /// Which faults, and which load.
    pub seed: u64,
    /// For how long faults are made; the last one is mended after that.
    pub lasts: Duration,
    /// Operations per second.
    pub rate: f64,
    /// How many nodes.
    pub nodes: usize,
    /// How many gateways.
    pub gateways: usize,
    /// Where the history goes.
    pub history: PathBuf,
}

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum SoakError {
    /// A fault could not be made or mended.
    #[error("{fault}: {error}")]
    Stage {
        /// Which one; or what else was done.
        fault: String,
        /// Why.
        error: StageError,
    },
    /// The history could not be written.
    #[error("{0}: {1}")]
    History(PathBuf, std::io::Error),
}

/// What came of it, but for the values, which the checker judges.
#[derive(Debug)]
pub struct Outcome {
    /// All operations together.
    pub load: Summary,
    /// Each fault that was made, and how often.
    pub faults: BTreeMap<String, usize>,
    /// The longest time, after a fault was mended, until all processes went by one ring.
    pub one_ring: Duration,
    /// The longest time until the fleet was whole.
    pub whole: Duration,
    /// What became of each process's weight.
    pub weights: Vec<(String, Change)>,
    /// The latest that a timer of the harness woke: what the machine was like.
    pub lateness: Duration,
}

impl Outcome {
    /// What went wrong, in words.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.load.failed > 0 {
            problems.push(format!("{} operations failed", self.load.failed));
        }
        if self.one_ring > ONE_RING_WITHIN {
            problems.push(format!("different rings for {:.1?} after a fault", self.one_ring));
        }
        for (name, change) in &self.weights {
            problems.extend(change.grown().into_iter().map(|grown| format!("{name}: {grown}")));
        }
        problems
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.load)?;
        for (fault, times) in &self.faults {
            writeln!(f, "{times:4} × {fault}")?;
        }
        for (name, change) in &self.weights {
            writeln!(f, "{name}: {change}")?;
        }
        writeln!(
            f,
            "one ring after at most {:.1?}, whole after {:.1?}",
            self.one_ring, self.whole
        )?;
        write!(f, "timers woke up to {:.1?} late", self.lateness)
    }
}

/// What is kept while it runs.
struct Running {
    stage: Stage,
    history: History,
    scales: Scales,
    faults: BTreeMap<String, usize>,
    one_ring: Duration,
    whole: Duration,
}

impl Soak {
    /// Does it.
    ///
    /// # Errors
    /// [`SoakError`]: the harness failed, which says nothing about the fleet.
    ///
    /// # Panics
    /// When the fleet is not whole again long after a fault.
    pub async fn run(&self) -> Result<Outcome, SoakError> {
        let unwritten = |error| SoakError::History(self.history.clone(), error);
        let what = format!("soak, seed {}", self.seed);
        let history = History::create(&self.history, &what).map_err(unwritten)?;
        history.group(GROUP, GroupKind::CacheAvailable);
        let stage = Stage::start(self.nodes, self.gateways)
            .await
            .map_err(|error| SoakError::Stage { fault: "the start".to_owned(), error })?;
        let lateness = Lateness::measure().map_err(unwritten)?;
        let load = Load {
            record: Record::History(history.clone()),
            ..Load::new(stage.cluster().gateway_addresses(), self.rate)
        };
        let running_load = load.start(traffic::mixture(self.seed));
        let mut running = Running {
            stage,
            history,
            scales: Scales::default(),
            faults: BTreeMap::new(),
            one_ring: Duration::ZERO,
            whole: Duration::ZERO,
        };
        sleep(CALM).await;
        let over = Instant::now() + self.lasts;
        for (number, step) in Schedule::new(self.seed, self.nodes, self.gateways).enumerate() {
            if Instant::now() + step.quiet + step.lasts >= over {
                break;
            }
            running.take(number, step).await?;
        }
        sleep(CALM).await;
        let recording = running_load.stop().await;
        let last = running.every_key_once_more().await;
        running.history.finish().map_err(unwritten)?;
        Ok(running.outcome(&recording, &last, lateness.worst()))
    }
}

impl Running {
    /// One fault, and the recovery from it.
    async fn take(&mut self, number: usize, step: Step) -> Result<(), SoakError> {
        sleep(step.quiet).await;
        let what = step.fault.to_string();
        eprintln!("{number}: {what} for {:.1?}", step.lasts);
        let fault = self.history.fault(FaultKind::Disturbance, &[], &what);
        let done = self.stage.perform(step.fault, step.lasts).await;
        self.history.healed(fault);
        done.map_err(|error| SoakError::Stage { fault: what.clone(), error })?;
        *self.faults.entry(step.fault.kind().to_owned()).or_default() += 1;
        let (stage, mended) = (&self.stage, Instant::now());
        how_long("all go by one ring", ONE_RING_WITHIN, async || stage.agreed().await).await;
        self.one_ring = self.one_ring.max(mended.elapsed());
        how_long("the fleet is whole", WHOLE_WITHIN, async || stage.cluster().agreement().await)
            .await;
        self.whole = self.whole.max(mended.elapsed());
        self.weigh().await;
        Ok(())
    }

    async fn weigh(&mut self) {
        for member in self.stage.members() {
            match Weight::of(member).await {
                Ok(weight) => self.scales.note(member.name(), weight),
                Err(why) => eprintln!("not weighed: {why}"),
            }
        }
    }

    async fn every_key_once_more(&self) -> Recording {
        let keys: Vec<String> = traffic::keys().collect();
        let load = Load {
            record: Record::History(self.history.clone()),
            ..Load::new(self.stage.cluster().gateway_addresses(), LAST_READS_RATE)
        };
        let again = move |n| Some(Planned::get(GROUP, keys.get(n as usize)?.as_str()));
        load.start(again).finish().await
    }

    fn outcome(self, load: &Recording, last: &Recording, lateness: Duration) -> Outcome {
        for recording in [load, last] {
            for failed in recording.failures() {
                eprintln!("failed: {failed:?}");
            }
        }
        let weights = self.scales.changes();
        let mut load = load.summary();
        load.failed += last.failed() as u64;
        Outcome {
            load,
            faults: self.faults,
            one_ring: self.one_ring,
            whole: self.whole,
            weights: weights.into_iter().map(|(name, it)| (name.to_owned(), it)).collect(),
            lateness,
        }
    }
}

/// The usual place of a soak's history.
pub fn default_history(directory: &Path, seed: u64) -> PathBuf {
    directory.join(format!("soak-{seed}.history"))
}
