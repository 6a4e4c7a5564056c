//! A part of a core for some processes, by the kernel's control groups: a server that is slow enough
//! for a client on the same small machine to ask more of it than it can do.
//!
//! It needs root, and a control group for processors that can be written, of either version; without
//! there is an error that says so. Processes are put in after their start.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
    time::Duration,
};

/// The time by which a share is given out: so short that a process which has used up its own waits
/// for less than a request may take.
const PERIOD: Duration = Duration::from_millis(5);
/// Where control groups are.
const ROOT: &str = "/sys/fs/cgroup";
/// Where those of the first version have the one for processors.
const FIRST_VERSION: [&str; 2] = ["cpu", "cpu,cpuacct"];

/// Why there is no share.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}: a part of a core is given out by control groups, as root: run `sudo make faults`", .at.display())]
pub struct ShareError {
    at: PathBuf,
    why: io::Error,
}

/// A part of a core. Dropping it gives it up; end the processes in it before.
#[derive(Debug)]
pub struct Share {
    group: PathBuf,
}

impl Share {
    /// Of all cores together so much of one, from 0 to 1.
    ///
    /// # Errors
    /// [`ShareError`]
    pub fn of_a_core(part: f64) -> Result<Self, ShareError> {
        let first = FIRST_VERSION.map(|name| Path::new(ROOT).join(name));
        let first = first.into_iter().find(|place| place.join("cpu.cfs_quota_us").exists());
        let (period, quota) = (PERIOD.as_micros(), PERIOD.mul_f64(part).as_micros());
        if let Some(place) = first {
            let share = Self::made_in(&place)?;
            share.set("cpu.cfs_period_us", &period.to_string())?;
            share.set("cpu.cfs_quota_us", &quota.to_string())?;
            return Ok(share);
        }
        // Groups below the root may have what the root passes on.
        write(&Path::new(ROOT).join("cgroup.subtree_control"), "+cpu")?;
        let share = Self::made_in(Path::new(ROOT))?;
        share.set("cpu.max", &format!("{quota} {period}"))?;
        Ok(share)
    }

    fn made_in(place: &Path) -> Result<Self, ShareError> {
        let group = place.join(format!("ringway-{}", process::id()));
        match fs::create_dir(&group) {
            Err(why) if why.kind() != io::ErrorKind::AlreadyExists => {
                Err(ShareError { at: group, why })
            }
            _ => Ok(Self { group }),
        }
    }

    /// That process, with all its threads, has its time out of the share from now on.
    ///
    /// # Errors
    /// [`ShareError`]
    pub fn take_in(&self, pid: u32) -> Result<(), ShareError> {
        self.set("cgroup.procs", &pid.to_string())
    }

    fn set(&self, name: &str, value: &str) -> Result<(), ShareError> {
        write(&self.group.join(name), value)
    }
}

fn write(at: &Path, value: &str) -> Result<(), ShareError> {
    fs::write(at, value).map_err(|why| ShareError { at: at.to_owned(), why })
}

impl Drop for Share {
    fn drop(&mut self) {
        // With a process in it, it stays, and does no harm.
        let _ = fs::remove_dir(&self.group);
    }
}
