//! What the long fault suite found, from each row's result to docs/reliability.md.
//!
//! A row says when it begins, so that one which ends in a panic is there as red, and what each of
//! its runs came to. The results are small JSON files in `target/faults/`; the program `faults`
//! renders them when all rows are done. A row without a result is shown as not run. Nothing is
//! judged here.

mod machine;
mod render;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::tools::workspace;
pub use machine::Machine;
pub use render::render;

/// A row of the fault matrix that the long suite has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Its number in the matrix, or a name.
    pub id: &'static str,
    /// What is done.
    pub fault: &'static str,
    /// What is promised.
    pub promise: &'static str,
}

/// All rows, in the order in which they are shown.
pub const ROWS: [Row; 20] = [
    Row {
        id: "1",
        fault: "kill -9 a node",
        promise: "0 failed; requests move within 1 s; out of the ring within TTL + 2 s; \
                  extra misses ≤ 1/N + 5 %",
    },
    Row {
        id: "3",
        fault: "SIGSTOP a node 30 s, then CONT",
        promise: "0 failed; p99 ≤ 400 ms meanwhile; nothing stale overwrites anything newer",
    },
    Row {
        id: "4",
        fault: "a node cut from etcd 60 s",
        promise: "0 failed; its keys move when its lease is over; registered ≤ 3 s after healing",
    },
    Row {
        id: "5",
        fault: "one gateway cut from one node (DROP)",
        promise: "0 failed, 0 stale; relayed; the ring unchanged; back ≤ 10 s",
    },
    Row {
        id: "6",
        fault: "etcd killed for 60 s",
        promise: "0 failed; 0 ring changes; a gateway started meanwhile serves from its snapshot",
    },
    Row {
        id: "7",
        fault: "etcd restarted with an empty data directory",
        promise: "0 failed; the ring never empties; everyone registered within one TTL",
    },
    Row {
        id: "8",
        fault: "compaction while the watch is cut",
        promise: "listed again ≤ 1 s; every process reports the same digest",
    },
    Row {
        id: "9",
        fault: "lease revoked while the node lives; renewals that lie",
        promise: "0 failed; registered again ≤ 2 s",
    },
    Row { id: "10", fault: "flapping node (2 s period, 60 s)", promise: "≤ 3 ring changes" },
    Row {
        id: "13",
        fault: "an origin that is slow (5 s), and one that fails (500)",
        promise: "hits' p99 within + 20 %; misses 504 and 502 by their deadline; stale values where \
                  they may be",
    },
    Row {
        id: "14",
        fault: "10,000 readers of one key that is nowhere, over 3 gateways and 3 nodes",
        promise: "the origin is asked once, though the first reader leaves; when it dies over its \
                  answer, that is one error, and the next call works",
    },
    Row {
        id: "15",
        fault: "a delete or a set during a load",
        promise: "the old value is never stored",
    },
    Row {
        id: "20",
        fault: "slow header, body, reader; stalled TLS",
        promise: "closed ≤ 10 s; honest p99 ≤ 2 ×",
    },
    Row {
        id: "21",
        fault: "HTTP/2 rapid reset, CONTINUATION and SETTINGS floods",
        promise: "connection closed; honest traffic 0 failed; memory bounded",
    },
    Row {
        id: "22",
        fault: "10,000 idle connections",
        promise: "≤ 20 KB each; one over the cap closed at once without spinning",
    },
    Row {
        id: "23",
        fault: "30 min of writes that reuse keys at a full cache, small values, large, small again",
        promise: "RSS ≤ 1.25 × capacity + 64 MiB, 30 s after it",
    },
    Row {
        id: "24",
        fault: "2 × overload",
        promise: "goodput ≥ 90 % of the peak; the rest 429/503 in < 50 ms; recovers ≤ 5 s",
    },
    Row { id: "25", fault: "300 concurrent tiny GETs on one stream, 10 min", promise: "0 GOAWAY" },
    Row {
        id: "near",
        fault: "hot keys in near caches: a gateway stopped, a link cut, an owner killed and started",
        promise: "no read that starts after an acknowledged write is older, in 10 million reads",
    },
    Row {
        id: "soak",
        fault: "an hour of random faults from all of these",
        promise: "0 failed outside the rows' allowance; one digest 10 s after the last fault; \
                  no growth of memory, sockets or tasks",
    },
];

/// What happened to the requests of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// How many there were.
    pub requests: u64,
    /// How many failed.
    pub failed: u64,
    /// How many found a wrong value.
    pub wrong: u64,
    /// How many found an older value where none is permitted.
    pub older: u64,
}

/// How long something took, and how long it may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// What.
    pub what: String,
    /// The longest it took in any run.
    pub took: Duration,
    /// The promise, if there is one.
    pub promised: Option<Duration>,
}

/// How a row ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowVerdict {
    /// It began, and did not end well.
    Red,
    /// All of its runs were as promised.
    AsPromised,
}

/// What a row came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowResult {
    /// Which row.
    pub row: String,
    /// Of which commit, as [`Machine::commit`].
    pub commit: String,
    /// How many runs counted.
    pub runs: u32,
    /// All their requests.
    pub counts: Counts,
    /// The longest times.
    pub times: Vec<Timing>,
    /// Anything else worth a word.
    pub notes: Vec<String>,
    /// How it ended.
    pub verdict: RowVerdict,
}

/// The result of a row that is running. It is written at every change, as red until it passed.
#[derive(Debug)]
pub struct Report {
    file: PathBuf,
    result: RowResult,
}

/// Where the results are.
pub fn results() -> PathBuf {
    workspace().join("target/faults")
}

impl Report {
    /// The row of that id in [`ROWS`] begins.
    ///
    /// # Errors
    /// When there is no such row, or its result can't be written.
    pub fn begin(row: &str) -> io::Result<Self> {
        Self::begin_in(&results(), row)
    }

    fn begin_in(dir: &Path, row: &str) -> io::Result<Self> {
        if !ROWS.iter().any(|known| known.id == row) {
            return Err(io::Error::other(format!("the fault matrix has no row '{row}'")));
        }
        fs::create_dir_all(dir)?;
        let result = RowResult {
            row: row.to_owned(),
            commit: machine::commit(),
            runs: 0,
            counts: Counts::default(),
            times: Vec::new(),
            notes: Vec::new(),
            verdict: RowVerdict::Red,
        };
        let report = Self { file: dir.join(format!("row-{row}.json")), result };
        report.write()?;
        Ok(report)
    }

    /// One more run has counted; call it before judging it, so that a red row shows its numbers.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn run(&mut self, counts: Counts) -> io::Result<()> {
        let all = &mut self.result.counts;
        all.requests += counts.requests;
        all.failed += counts.failed;
        all.wrong += counts.wrong;
        all.older += counts.older;
        self.result.runs += 1;
        self.write()
    }

    /// Something took that long; of several runs the longest time is kept.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn took(
        &mut self,
        what: &str,
        took: Duration,
        promised: Option<Duration>,
    ) -> io::Result<()> {
        match self.result.times.iter_mut().find(|known| known.what == what) {
            Some(known) => known.took = known.took.max(took),
            None => self.result.times.push(Timing { what: what.to_owned(), took, promised }),
        }
        self.write()
    }

    /// Something worth a word; the same words are kept once.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn note(&mut self, text: impl Into<String>) -> io::Result<()> {
        let text = text.into();
        if !self.result.notes.contains(&text) {
            self.result.notes.push(text);
        }
        self.write()
    }

    /// All runs were as promised.
    ///
    /// # Errors
    /// When it can't be written, or there was no run.
    pub fn passed(mut self) -> io::Result<()> {
        if self.result.runs == 0 {
            return Err(io::Error::other(format!("row {} had no run", self.result.row)));
        }
        self.result.verdict = RowVerdict::AsPromised;
        self.write()
    }

    fn write(&self) -> io::Result<()> {
        fs::write(&self.file, serde_json::to_vec_pretty(&self.result)?)
    }
}

/// Removes the results of an earlier suite.
///
/// # Errors
/// When one can't be removed.
pub fn clear(dir: &Path) -> io::Result<()> {
    for file in result_files(dir)? {
        fs::remove_file(file)?;
    }
    Ok(())
}

/// All results there are.
///
/// # Errors
/// When one can't be read.
pub fn read(dir: &Path) -> io::Result<Vec<RowResult>> {
    let parsed = |file: PathBuf| Ok(serde_json::from_slice(&fs::read(file)?)?);
    result_files(dir)?.into_iter().map(parsed).collect()
}

fn result_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut files = paths.collect::<io::Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    Ok(files)
}

#[cfg(test)]
mod tests;
