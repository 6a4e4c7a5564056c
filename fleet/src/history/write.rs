//! Writing a history while it happens.
//!
//! Lines go to a buffer and from there to the page cache, which takes microseconds. A write that
//! fails does not disturb the load; it is told at the end, because half a history proves nothing.

use std::{
    fmt,
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use common::clock::{Clock, SystemClock};

use super::{Ended, Entry, Fault, FaultKind, GroupKind, Line, MAGIC, VERSION, Value};
use crate::recorder::{Op, Operation};

/// How much is written at once.
const BUFFER_BYTES: usize = 256 << 10;

/// A history that is being written. Clones write to the same file.
#[derive(Debug, Clone)]
pub struct History {
    /// On the machine's monotonic clock, as the times of recordings are.
    started: Duration,
    file: Arc<Mutex<Writing>>,
}

#[derive(Debug)]
struct Writing {
    file: BufWriter<File>,
    /// The first thing that went wrong.
    error: Option<io::Error>,
    faults: u32,
}

impl History {
    /// A history that begins now; `what` says of what, with the seed if there is one.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn create(file: &Path, what: &str) -> io::Result<Self> {
        let clock = SystemClock;
        let mut file = BufWriter::with_capacity(BUFFER_BYTES, File::create(file)?);
        let what = what.replace(['\n', '\r'], " ");
        writeln!(file, "{MAGIC} {VERSION} unix={} {what}", clock.unix().as_secs())?;
        let writing = Writing { file, error: None, faults: 0 };
        Ok(Self { started: clock.monotonic(), file: Arc::new(Mutex::new(writing)) })
    }

    /// When it began, on the machine's monotonic clock.
    pub fn started(&self) -> Duration {
        self.started
    }

    /// Says of which kind a group is; the checker wants to know it of every group.
    pub fn group(&self, name: &str, kind: GroupKind) {
        self.writing().line(&Line::Group(name.to_owned(), kind));
    }

    /// The key had that value when the history began.
    pub fn preloaded(&self, group: &str, key: &str, value: &str) {
        self.writing().line(&Line::Operation(Entry {
            op: Op::Set,
            group: group.to_owned(),
            key: key.to_owned(),
            value: Some(Value::of(key, value.as_bytes())),
            due: Duration::ZERO,
            sent: Duration::ZERO,
            answered: Some(Duration::ZERO),
            ended: Ended::Stored,
            gateway: None,
        }));
    }

    /// An operation has ended.
    pub fn operation(&self, operation: &Operation) {
        self.writing().line(&Line::Operation(Entry::of(operation, self.started)));
    }

    /// An operation has ended, by whoever does without a [`Operation`].
    pub fn entry(&self, entry: &Entry) {
        self.writing().line(entry);
    }

    /// A fault begins now. `named` are the refusals that its row names: statuses, such as "503",
    /// or "reset", "none". Returns its number, for [`History::healed`].
    pub fn fault(&self, kind: FaultKind, named: &[&str], what: &str) -> u32 {
        let mut writing = self.writing();
        let id = writing.faults;
        writing.faults += 1;
        let named = named.iter().map(|&name| name.to_owned()).collect();
        let fault = Fault { id, at: self.now(), kind, named, what: what.to_owned() };
        writing.line(&Line::Fault(fault));
        id
    }

    /// The fault of that number has just been taken back.
    pub fn healed(&self, fault: u32) {
        self.writing().line(&Line::Healed(fault, self.now()));
    }

    /// Writes what is still in the buffer.
    ///
    /// # Errors
    /// The first thing that went wrong since the history began: it is not complete.
    pub fn finish(&self) -> io::Result<()> {
        let mut writing = self.writing();
        match writing.error.take() {
            Some(error) => Err(error),
            None => writing.file.flush(),
        }
    }

    fn now(&self) -> Duration {
        SystemClock.monotonic().saturating_sub(self.started)
    }

    fn writing(&self) -> MutexGuard<'_, Writing> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writing {
    fn line(&mut self, line: &impl fmt::Display) {
        if self.error.is_none() {
            self.error = writeln!(self.file, "{line}").err();
        }
    }
}
