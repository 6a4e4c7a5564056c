//! Where and of what a report is: the machine, the day, the commit.

use std::{fmt, fs, process::Command};

use common::clock::{Clock, SystemClock};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::tools::{self, workspace};

/// The machine that a suite ran on, and what it tested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// How many cores.
    pub cores: usize,
    /// How much memory, in MiB.
    pub memory: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The version of the etcd that was used.
    pub etcd: String,
    /// The day, in UTC.
    pub date: String,
    /// The commit, with a word if the tree was changed since.
    pub commit: String,
}

impl Machine {
    /// This one, now. What can't be found out is "unknown".
    pub fn this() -> Self {
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let etcd =
            tools::find("etcd").ok().and_then(|etcd| said(Command::new(etcd).arg("--version")));
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory: total_memory(&memory).unwrap_or(0) / 1024,
            kernel: kernel.trim().to_owned(),
            etcd: etcd.as_deref().and_then(etcd_version).unwrap_or("unknown").to_owned(),
            date: today(),
            commit: commit(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, memory, kernel, etcd, date, commit } = self;
        write!(
            f,
            "{cores} cores, {memory} MiB of memory, Linux {kernel}, etcd {etcd}; {date}, commit {commit}"
        )
    }
}

/// What a command prints, if it succeeds.
fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// In KiB, of a text like /proc/meminfo.
fn total_memory(meminfo: &str) -> Option<u64> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.split_whitespace().next()?.parse().ok()
}

fn etcd_version(said: &str) -> Option<&str> {
    said.lines().find_map(|line| line.strip_prefix("etcd Version: "))
}

fn today() -> String {
    let now = i64::try_from(SystemClock.unix().as_secs()).ok();
    let now = now.and_then(|seconds| Timestamp::from_second(seconds).ok());
    now.map_or("unknown".to_owned(), |now| now.strftime("%Y-%m-%d").to_string())
}

/// The commit of the tree as it is now, as [`Machine::commit`].
pub(super) fn commit() -> String {
    found_commit().unwrap_or_else(|| "unknown".to_owned())
}

fn found_commit() -> Option<String> {
    let git = |args: &[&str]| said(Command::new("git").args(args).current_dir(workspace()));
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    // The reports themselves are written by every run.
    let reports = [":!docs/reliability.md", ":!docs/performance*"];
    let changed = git(&[&["status", "--porcelain", "--", "."], &reports[..]].concat())?;
    Some(if changed.is_empty() { commit } else { format!("{commit} with changes") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described() {
        let machine = Machine::this();
        assert!(machine.cores > 0 && machine.memory > 100, "{machine}");
        assert!(machine.etcd.starts_with("3."), "{machine}");
        assert!(machine.date.starts_with("20") && !machine.kernel.is_empty(), "{machine}");
        assert_eq!(total_memory("MemFree: 1 kB\nMemTotal:   4096 kB\n"), Some(4096));
    }
}
