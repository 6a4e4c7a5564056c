//! CPU time of processes, with all of their threads, from `/proc/PID/stat`.

use std::{fs, io, time::Duration};

use rustix::param::clock_ticks_per_second;

/// The fields of `stat` after the command's name, of which the 12th and 13th count user and
/// system time in clock ticks (proc(5)).
const USER_TICKS: usize = 11;
const SYSTEM_TICKS: usize = 12;

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

/// What the processes have used together since they started.
///
/// # Errors
/// [`CpuError`]
pub fn used(processes: &[u32]) -> Result<Duration, CpuError> {
    processes.iter().map(|&pid| used_by(pid)).sum()
}

fn used_by(pid: u32) -> Result<Duration, CpuError> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat"));
    let line = line.map_err(|error| CpuError::Read(pid, error))?;
    let ticks = ticks(&line).ok_or_else(|| CpuError::Malformed(pid, line.clone()))?;
    Ok(Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64))
}

/// The command's name may hold spaces and parentheses; what counts comes after its last one.
fn ticks(line: &str) -> Option<u64> {
    let (_, rest) = line.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let user: u64 = fields.nth(USER_TICKS)?.parse().ok()?;
    let system: u64 = fields.nth(SYSTEM_TICKS - USER_TICKS - 1)?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_added() {
        let line = "42 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0";
        assert_eq!(ticks(line), Some(300));
        assert_eq!(ticks("nonsense"), None);
    }

    #[test]
    fn this_process_has_used_some() {
        assert!(used(&[std::process::id()]).is_ok());
        assert!(matches!(used(&[u32::MAX]), Err(CpuError::Read(..))));
    }
}
