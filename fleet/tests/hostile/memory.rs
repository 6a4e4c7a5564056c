//! What a process holds, from `/proc/PID`.

use std::fs;

/// A number of kilobytes from `/proc/PID/status`, in bytes: `VmRSS:` resident now, `VmHWM:` at most so
/// far.
pub(crate) fn memory(pid: u32, field: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

/// The soft and the hard limit of open files, as `/proc/PID/limits` writes them.
pub(crate) fn open_files_limit(pid: u32) -> (String, String) {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let mut words = line.split_whitespace().map(str::to_owned);
    (words.next().unwrap(), words.next().unwrap())
}
