//! Resident memory of processes, from `/proc/PID/status`.

use std::fs;

/// Resident bytes of a process. `None` when it has ended.
pub(super) fn of(pid: u32) -> Option<u64> {
    read(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

/// The resident bytes of all of them.
pub(super) fn of_all(pids: &[u32]) -> u64 {
    pids.iter().filter_map(|&pid| of(pid)).sum()
}

/// In bytes; the kernel says KiB.
fn read(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kibibytes_become_bytes() {
        assert_eq!(read("VmHWM:\t 9 kB\nVmRSS:\t    2048 kB\n"), Some(2 << 20));
        assert_eq!(read("Name: x\n"), None);
        let ours = std::process::id();
        assert!(of_all(&[ours, u32::MAX]) > 1 << 20);
        assert_eq!(of(u32::MAX), None);
    }
}
