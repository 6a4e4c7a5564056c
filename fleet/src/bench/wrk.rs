//! Runs wrk and reads what it found.

use std::{io, net::SocketAddr, time::Duration};

use tokio::process::Command;

use super::{Workload, tool};
use crate::tools::MissingTool;

/// Asks for the paths of a file in random order, and prints its figures on one line.
const SCRIPT: &str = r#"
local paths = {}
for line in io.lines("PATHS") do paths[#paths + 1] = line end
local requests = {}
function init()
  math.randomseed(os.time())
  for i, path in ipairs(paths) do requests[i] = wrk.format("GET", path) end
end
function request() return requests[math.random(#requests)] end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format("figures %d %d %d %d %d\n", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"#;

/// What wrk found in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrkRun {
    /// Requests answered.
    pub requests: u64,
    /// How long it took.
    pub duration: Duration,
    /// Answers of another status than 2xx and 3xx, resets and time-outs.
    pub errors: u64,
    /// Half of the requests were answered within this.
    pub p50: Duration,
    /// All but one in a hundred were.
    pub p99: Duration,
}

/// wrk could not be used.
#[derive(Debug, thiserror::Error)]
pub enum WrkError {
    /// It is not here.
    #[error(transparent)]
    Missing(#[from] MissingTool),
    /// It can't be run.
    #[error("wrk: {0}")]
    System(#[from] io::Error),
    /// It failed, or said something else than expected.
    #[error("wrk printed no figures; it said: {0}")]
    Silent(String),
}

/// Drives one round of load from one thread of wrk.
pub(super) async fn run(
    address: SocketAddr,
    paths: &[String],
    work: &Workload,
) -> Result<WrkRun, WrkError> {
    let dir = tempfile::tempdir()?;
    let (list, script) = (dir.path().join("paths"), dir.path().join("random.lua"));
    std::fs::write(&list, paths.join("\n"))?;
    std::fs::write(&script, SCRIPT.replace("PATHS", &list.display().to_string()))?;
    let output = Command::new(tool("wrk")?)
        .args(["-t1", &format!("-c{}", work.connections)])
        .arg(format!("-d{}s", work.duration.as_secs().max(1)))
        .arg("-s")
        .arg(&script)
        .arg(format!("http://{address}"))
        .kill_on_drop(true)
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    read(&said).ok_or_else(|| {
        WrkError::Silent(format!("{said}{}", String::from_utf8_lossy(&output.stderr)))
    })
}

fn read(said: &str) -> Option<WrkRun> {
    let figures = said.lines().find_map(|line| line.strip_prefix("figures "))?;
    let mut figures = figures.split(' ').map(|figure| figure.parse::<u64>().ok());
    let mut next = || figures.next().flatten();
    Some(WrkRun {
        requests: next()?,
        duration: Duration::from_micros(next()?),
        errors: next()?,
        p50: Duration::from_micros(next()?),
        p99: Duration::from_micros(next()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_figures_is_found() {
        let said = "Running 8s test\nfigures 1000 8000000 2 150 900\nRequests/sec: 125\n";
        let run = read(said).unwrap();
        assert_eq!((run.requests, run.errors), (1000, 2));
        assert_eq!((run.p50.as_micros(), run.p99.as_micros()), (150, 900));
        assert_eq!(read("unable to connect"), None);
    }
}
