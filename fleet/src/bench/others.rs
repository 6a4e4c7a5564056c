//! What everything else on the machine did during a round.
//!
//! Counted process by process rather than from the machine's totals in `/proc/stat`: those are
//! sampled at ticks and hold the network's share of our own requests under names of their own,
//! while a process's own time is exact. What a process that ended meanwhile had used stands with
//! its parent, all of it, so this finds too much rather than too little. Only time that the
//! hypervisor took away comes from `/proc/stat`. The kernel's own threads are left out: under load
//! they work for those that are measured.

use std::{collections::HashMap, fmt, fs, io, time::Duration};

use super::cpu::{self, Stat};

/// The parent of all of the kernel's threads.
const KERNEL: u32 = 2;
/// The field of the line `cpu` in `/proc/stat` with the time that was stolen, after the name.
const STOLEN: usize = 7;
/// How many of the busiest are named.
const NAMED: usize = 3;

/// Every process of the machine, and the stolen time, at one moment.
#[derive(Debug, Default)]
pub(super) struct Census {
    processes: HashMap<u32, Stat>,
    stolen: Duration,
}

/// What others used between two moments.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Others {
    /// In all.
    pub(super) used: Duration,
    /// The busiest, most first.
    pub(super) busiest: Vec<(String, Duration)>,
}

impl Census {
    /// Looks at all processes now. Those that end while it looks are left out.
    pub(super) fn take() -> io::Result<Self> {
        let pids = fs::read_dir("/proc")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let processes = pids.filter_map(|pid| Some((pid, cpu::stat(pid).ok()?))).collect();
        let stolen = stolen(&fs::read_to_string("/proc/stat")?).unwrap_or_default();
        Ok(Self { processes, stolen })
    }

    /// What everybody but `ours` has used from `before` to this.
    pub(super) fn others_since(&self, before: &Self, ours: &[u32]) -> Others {
        let in_all = |stat: &Stat| stat.own + stat.children;
        let mut by_name: HashMap<&str, Duration> = HashMap::new();
        for (pid, stat) in &self.processes {
            // Our own children are the systems that wait for their turn: part of what is set up here.
            let is_ours = ours.contains(pid) || ours.contains(&stat.parent);
            if is_ours || *pid == KERNEL || stat.parent == KERNEL {
                continue;
            }
            let earlier = before.processes.get(pid).map(in_all).unwrap_or_default();
            *by_name.entry(&stat.name).or_default() += in_all(stat).saturating_sub(earlier);
        }
        let stolen = self.stolen.saturating_sub(before.stolen);
        by_name.insert("the hypervisor", stolen);
        let mut busiest: Vec<_> =
            by_name.into_iter().map(|(name, used)| (name.to_owned(), used)).collect();
        busiest.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let used = busiest.iter().map(|(_, used)| *used).sum();
        busiest.retain(|(_, used)| !used.is_zero());
        busiest.truncate(NAMED);
        Others { used, busiest }
    }
}

impl fmt::Display for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named: Vec<String> = self
            .busiest
            .iter()
            .map(|(name, used)| format!("{name} {:.2} s", used.as_secs_f64()))
            .collect();
        write!(f, "{:.2} s ({})", self.used.as_secs_f64(), named.join(", "))
    }
}

fn stolen(proc_stat: &str) -> Option<Duration> {
    let line = proc_stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks = line.split_ascii_whitespace().nth(STOLEN)?.parse().ok()?;
    Some(cpu::span(ticks))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(name: &str, parent: u32, own: u64, children: u64) -> Stat {
        let (own, children) = (Duration::from_secs(own), Duration::from_secs(children));
        Stat { name: name.to_owned(), parent, own, children }
    }

    fn census(processes: impl IntoIterator<Item = (u32, Stat)>, stolen: u64) -> Census {
        let stolen = Duration::from_secs(stolen);
        Census { processes: processes.into_iter().collect(), stolen }
    }

    #[test]
    fn ours_and_the_kernel_are_not_others() {
        let before = census(
            [(2, stat("kthreadd", 0, 0, 0)), (9, stat("node", 1, 5, 0)), (8, stat("cc", 1, 1, 2))],
            1,
        );
        let after = census(
            [
                (2, stat("kthreadd", 0, 9, 0)),
                (3, stat("kworker", 2, 9, 0)),
                (9, stat("node", 1, 50, 0)),
                // It waited for a child that had used 4 s.
                (8, stat("cc", 1, 2, 6)),
                (7, stat("new", 8, 3, 0)),
                // One of ours started it.
                (6, stat("waiting", 9, 4, 0)),
            ],
            3,
        );
        let others = after.others_since(&before, &[9]);
        assert_eq!(others.used, Duration::from_secs(5 + 3 + 2));
        assert_eq!(others.to_string(), "10.00 s (cc 5.00 s, new 3.00 s, the hypervisor 2.00 s)");
    }

    #[test]
    fn this_machine_can_be_counted() {
        let census = Census::take().unwrap();
        assert!(census.processes.contains_key(&std::process::id()));
        assert_eq!(stolen("cpu  1 2 3 4 5 6 7 100 0 0\n"), Some(cpu::span(100)));
        assert_eq!(stolen("intr 1"), None);
    }
}
