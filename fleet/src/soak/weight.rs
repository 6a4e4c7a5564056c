//! What processes weigh: memory, open files and tasks, as seen from outside, over time.
//!
//! One look says little, because memory comes and goes with the load and tasks with connections.
//! So each process is weighed whenever the fleet is whole and quiet, and what counts is whether the
//! looks of the last third of a run are heavier than those of the first, by their medians.

use std::{collections::BTreeMap, fmt, fs};

use crate::{cluster::Member, memory};

/// How much more memory than at first is no growth: allocators keep what was freed.
const MEMORY_FACTOR: f64 = 1.25;
/// The same, added: for processes that are small.
const MEMORY_BYTES: f64 = 16.0 * 1024.0 * 1024.0;
/// So many more open files are no growth: connections open at the moment of a look.
const FILES: f64 = 16.0;
/// So many more tasks are no growth; a connection has two or three.
const TASKS: f64 = 48.0;

/// One look at one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    /// Resident bytes.
    pub memory: u64,
    /// Open file descriptors, sockets among them.
    pub files: u64,
    /// Tasks of its runtimes that have not ended.
    pub tasks: u64,
}

impl Weight {
    /// Weighs a running process.
    ///
    /// # Errors
    /// What could not be read, in words.
    pub async fn of(member: &Member) -> Result<Self, String> {
        let pid = member.process().id();
        let told = |what: &dyn fmt::Display| format!("{} (pid {pid}): {what}", member.name());
        let files = fs::read_dir(format!("/proc/{pid}/fd")).map_err(|e| told(&e))?.count() as u64;
        let memory = memory::resident(pid).ok_or_else(|| told(&"it has no memory"))?;
        let tasks = member.metric("ringway_runtime_tasks").await.map_err(|e| told(&e))? as u64;
        Ok(Self { memory, files, tasks })
    }
}

/// All looks, by process.
#[derive(Debug, Default)]
pub struct Scales(BTreeMap<String, Vec<Weight>>);

/// The medians of the first and of the last third of a process's looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// How often it was looked at.
    pub looks: usize,
    /// At first.
    pub first: Weight,
    /// At last.
    pub last: Weight,
}

impl Change {
    /// What has grown, in words; empty when nothing has.
    pub fn grown(&self) -> Vec<String> {
        let Self { first, last, .. } = self;
        let memory = (first.memory as f64).mul_add(MEMORY_FACTOR, MEMORY_BYTES);
        let kinds = [
            ("memory", first.memory, last.memory, memory),
            ("open files", first.files, last.files, first.files as f64 + FILES),
            ("tasks", first.tasks, last.tasks, first.tasks as f64 + TASKS),
        ];
        let grown = kinds.into_iter().filter(|&(_, _, last, most)| last as f64 > most);
        grown.map(|(what, first, last, _)| format!("{what} from {first} to {last}")).collect()
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let Self { looks, first, last } = self;
        write!(
            f,
            "{:.1} → {:.1} MiB, {} → {} open files, {} → {} tasks ({looks} looks)",
            mib(first.memory),
            mib(last.memory),
            first.files,
            last.files,
            first.tasks,
            last.tasks,
        )
    }
}

impl Scales {
    /// Notes a look at a process.
    pub fn note(&mut self, process: &str, weight: Weight) {
        self.0.entry(process.to_owned()).or_default().push(weight);
    }

    /// What became of each process, by name. One that was looked at less than three times is left
    /// out: that says nothing.
    pub fn changes(&self) -> Vec<(&str, Change)> {
        let looked_at = self.0.iter().filter(|(_, looks)| looks.len() >= 3);
        looked_at
            .map(|(name, looks)| {
                let third = looks.len() / 3;
                let (first, last) = (&looks[..third], &looks[looks.len() - third..]);
                let change =
                    Change { looks: looks.len(), first: median(first), last: median(last) };
                (name.as_str(), change)
            })
            .collect()
    }
}

/// Each figure's own median.
fn median(looks: &[Weight]) -> Weight {
    let of = |figure: fn(&Weight) -> u64| {
        let mut figures: Vec<u64> = looks.iter().map(figure).collect();
        figures.sort_unstable();
        figures[figures.len() / 2]
    };
    Weight { memory: of(|w| w.memory), files: of(|w| w.files), tasks: of(|w| w.tasks) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn scales(looks: impl IntoIterator<Item = Weight>) -> Vec<String> {
        let mut scales = Scales::default();
        looks.into_iter().for_each(|weight| scales.note("node-0", weight));
        scales.changes().iter().flat_map(|(_, change)| change.grown()).collect()
    }

    #[test]
    fn what_grows_from_look_to_look_is_noticed_and_what_comes_and_goes_is_not() {
        let steady = Weight { memory: 40 * MIB, files: 90, tasks: 120 };
        let up_and_down =
            (0..30).map(|n| Weight { files: 90 + n % 10, tasks: 120 + 4 * (n % 10), ..steady });
        assert_eq!(scales(up_and_down), Vec::<String>::new());
        let leak = (0..30).map(|n| Weight { memory: steady.memory + n * 2 * MIB, ..steady });
        assert!(scales(leak)[0].starts_with("memory"));
        let sockets = (0..30).map(|n| Weight { files: steady.files + n, ..steady });
        assert!(scales(sockets)[0].starts_with("open files"));
        let stuck = (0..30).map(|n| Weight { tasks: steady.tasks + 3 * n, ..steady });
        assert!(scales(stuck)[0].starts_with("tasks"));
    }
}
