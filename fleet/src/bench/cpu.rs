//! CPU time of processes, with all of their threads, from `/proc/PID/stat`.

use std::{fs, io, time::Duration};

use rustix::param::clock_ticks_per_second;

/// The fields of `stat` after the command's name that are read here (proc(5)): the parent, the
/// process's own user and system time, and that of the children it has waited for, in clock ticks.
const PARENT: usize = 1;
const USER: usize = 11;
const SYSTEM: usize = 12;
const CHILDREN_USER: usize = 13;
const CHILDREN_SYSTEM: usize = 14;

/// The CPU time of a process can't be read.
#[derive(Debug, thiserror::Error)]
pub enum CpuError {
    /// It has ended, or there is no `/proc`.
    #[error("/proc/{0}/stat: {1}")]
    Read(u32, #[source] io::Error),
    /// The line is not as proc(5) says.
    #[error("/proc/{0}/stat holds {1:?}")]
    Malformed(u32, String),
}

/// What `/proc/PID/stat` says of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stat {
    /// The command's name.
    pub(super) name: String,
    /// The process that started it.
    pub(super) parent: u32,
    /// User and system time of all its threads.
    pub(super) own: Duration,
    /// That of its children that have ended.
    pub(super) children: Duration,
}

/// What the processes have used together since they started.
///
/// # Errors
/// [`CpuError`]
pub fn used(processes: &[u32]) -> Result<Duration, CpuError> {
    processes.iter().map(|&pid| Ok(stat(pid)?.own)).sum()
}

/// Reads what is known of a process.
pub(super) fn stat(pid: u32) -> Result<Stat, CpuError> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat"));
    let line = line.map_err(|error| CpuError::Read(pid, error))?;
    parse(&line).ok_or_else(|| CpuError::Malformed(pid, line.clone()))
}

/// The command's name may hold spaces and parentheses; what counts comes after its last one.
fn parse(line: &str) -> Option<Stat> {
    let (head, rest) = line.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        name: head.split_once('(')?.1.to_owned(),
        parent: fields.get(PARENT)?.parse().ok()?,
        own: span(field(USER)? + field(SYSTEM)?),
        children: span(field(CHILDREN_USER)? + field(CHILDREN_SYSTEM)?),
    })
}

/// So many clock ticks.
pub(super) fn span(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_added() {
        let line = "42 (a (b) c) S 7 2 3 4 5 6 7 8 9 10 250 50 30 40 20 0";
        let stat = parse(line).unwrap();
        assert_eq!((stat.name.as_str(), stat.parent), ("a (b) c", 7));
        assert_eq!((stat.own, stat.children), (span(300), span(70)));
        assert_eq!(parse("nonsense"), None);
        assert_eq!(parse("42 (a) S 7"), None);
    }

    #[test]
    fn this_process_has_used_some() {
        assert!(used(&[std::process::id()]).is_ok());
        assert!(matches!(used(&[u32::MAX]), Err(CpuError::Read(..))));
    }
}
