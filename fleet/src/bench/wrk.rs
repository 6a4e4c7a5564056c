//! Runs wrk and reads what it found.

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;
use tokio::process::Command;

use super::plan::{Plan, Workload};
use crate::tools::{self, MissingTool};

/// Sends the requests of one file in the order of another, and prints its figures on one line.
///
/// Both are read before the clock starts. A request is its length, a line break and its bytes; the
/// order is the numbers of requests from 1, one a line. What wrk counts as a bad status is 400 and
/// above.
const SCRIPT: &str = r#"
local function open(name) return assert(io.open(name, "rb")) end
local requests, order = {}, {}
local file = open("REQUESTS")
while true do
  local length = file:read("*n")
  if not length then break end
  file:read(1)
  requests[#requests + 1] = file:read(length)
end
file:close()
for line in io.lines("ORDER") do order[#order + 1] = tonumber(line) end
local at = 0
function request()
  at = at % #order + 1
  return requests[order[at]]
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format("figures %d %d %d %d %d %d\n", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout, summary.bytes,
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
    /// Answers of a status from 400 up, resets and time-outs.
    pub errors: u64,
    /// What was read, heads and bodies.
    pub bytes: u64,
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

/// A plan written down for wrk.
#[derive(Debug)]
pub(super) struct Script {
    path: PathBuf,
    _dir: TempDir,
}

impl Script {
    pub(super) fn write(plan: &Plan) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let place = |name: &str| dir.path().join(name);
        let (requests, order, path) = (place("requests"), place("order"), place("send.lua"));
        write_requests(&requests, plan)?;
        let numbers: Vec<String> = plan.trace.iter().map(|at| (at + 1).to_string()).collect();
        std::fs::write(&order, numbers.join("\n"))?;
        std::fs::write(&path, script(&requests, &order))?;
        Ok(Self { path, _dir: dir })
    }
}

fn write_requests(path: &Path, plan: &Plan) -> io::Result<()> {
    let mut file = io::BufWriter::new(std::fs::File::create(path)?);
    for wire in plan.asks.iter().map(super::ask::Ask::wire) {
        writeln!(file, "{}", wire.len())?;
        file.write_all(&wire)?;
    }
    file.flush()
}

fn script(requests: &Path, order: &Path) -> String {
    let requests = requests.display().to_string();
    SCRIPT.replace("REQUESTS", &requests).replace("ORDER", &order.display().to_string())
}

/// Drives one round of load from one thread of wrk.
pub(super) async fn run(
    address: SocketAddr,
    script: &Script,
    work: &Workload,
) -> Result<WrkRun, WrkError> {
    let output = Command::new(tools::find("wrk")?)
        .args(["-t1", &format!("-c{}", work.connections)])
        .arg(format!("-d{}s", work.duration.as_secs().max(1)))
        .arg("-s")
        .arg(&script.path)
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
        bytes: next()?,
        p50: Duration::from_micros(next()?),
        p99: Duration::from_micros(next()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::ask::Dialect;

    #[test]
    fn the_line_of_figures_is_found() {
        let said = "Running 8s test\nfigures 1000 8000000 2 99 150 900\nRequests/sec: 125\n";
        let run = read(said).unwrap();
        assert_eq!((run.requests, run.errors, run.bytes), (1000, 2, 99));
        assert_eq!((run.p50.as_micros(), run.p99.as_micros()), (150, 900));
        assert_eq!(read("unable to connect"), None);
    }

    #[test]
    fn a_plan_is_written_as_the_script_reads_it() {
        let work = Workload { keys: 3, value_bytes: 4, ..Workload::default() };
        let plan = Plan::of(&work, Dialect::ReadOnly).unwrap();
        let script = Script::write(&plan).unwrap();
        let dir = script.path.parent().unwrap();
        let text = std::fs::read_to_string(&script.path).unwrap();
        for file in ["requests", "order"] {
            let path = dir.join(file);
            assert!(text.contains(&format!("\"{}\"", path.display())), "{text}");
        }
        let requests = std::fs::read_to_string(dir.join("requests")).unwrap();
        let first = String::from_utf8(plan.asks[0].wire()).unwrap();
        assert!(requests.starts_with(&format!("{}\n{first}", first.len())), "{requests}");
        let order = std::fs::read_to_string(dir.join("order")).unwrap();
        assert_eq!(order.lines().count(), plan.trace.len());
        assert!(order.lines().all(|line| ["1", "2", "3"].contains(&line)));
    }
}
