//! Memory of processes, from `/proc/PID/status`, in bytes.

use std::fs;

/// Resident bytes of a process. `None` when it has ended.
pub fn resident(pid: u32) -> Option<u64> {
    read(pid, "VmRSS:")
}

/// The most that were resident so far.
pub fn peak(pid: u32) -> Option<u64> {
    read(pid, "VmHWM:")
}

/// The resident bytes of all of them; those that have ended have none.
pub fn resident_of_all(pids: &[u32]) -> u64 {
    pids.iter().filter_map(|&pid| resident(pid)).sum()
}

fn read(pid: u32, field: &str) -> Option<u64> {
    find(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, field)
}

/// The kernel says KiB.
fn find(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kibibytes_become_bytes() {
        let status = "VmHWM:\t 9 kB\nVmRSS:\t    2048 kB\n";
        assert_eq!(
            (find(status, "VmRSS:"), find(status, "VmHWM:")),
            (Some(2 << 20), Some(9 << 10))
        );
        assert_eq!(find("Name: x\n", "VmRSS:"), None);
        let ours = std::process::id();
        assert!(resident_of_all(&[ours, u32::MAX]) > 1 << 20);
        assert!(peak(ours) >= resident(ours).map(|now| now / 2));
        assert_eq!(resident(u32::MAX), None);
    }
}
