//! Reading a history, line after line.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use super::{Line, MAGIC, VERSION};

/// How much is read at once.
const BUFFER_BYTES: usize = 1 << 20;

/// How long a line may be: a key and a group with every byte escaped, and then some.
const MAX_LINE_BYTES: u64 = 8 << 10;

/// Why a history can't be read on.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file can't be read.
    #[error("the history can't be read: {0}")]
    Read(#[from] io::Error),
    /// It is something else, or of a version that is not known here.
    #[error("no history of version {VERSION}: it begins with '{0}'")]
    NotAHistory(String),
    /// A line makes no sense.
    #[error("line {number}: {why}")]
    Line {
        /// Which one, from 1.
        number: u64,
        /// What is wrong with it.
        why: String,
    },
}

/// The lines of a history. It ends after the first error.
#[derive(Debug)]
pub struct Reader<R = BufReader<File>> {
    source: R,
    what: String,
    number: u64,
    failed: bool,
    line: String,
}

impl Reader {
    /// Opens a file.
    ///
    /// # Errors
    /// [`HistoryError`]
    pub fn open(file: &Path) -> Result<Self, HistoryError> {
        Self::new(BufReader::with_capacity(BUFFER_BYTES, File::open(file)?))
    }
}

impl<R: BufRead> Reader<R> {
    /// Reads a history from anywhere.
    ///
    /// # Errors
    /// [`HistoryError`]
    pub fn new(source: R) -> Result<Self, HistoryError> {
        let mut reader =
            Self { source, what: String::new(), number: 0, failed: false, line: String::new() };
        reader.read_line()?;
        let told = reader.line.strip_prefix(MAGIC).and_then(|rest| {
            let rest = rest.trim_start().strip_prefix(VERSION)?.strip_prefix(' ')?;
            Some(rest.split_once(' ').map_or("", |(_, what)| what).to_owned())
        });
        reader.what = told.ok_or_else(|| HistoryError::NotAHistory(reader.line.clone()))?;
        Ok(reader)
    }

    /// What it is a history of.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Reads the next line, without its end; false at the end of the file.
    fn read_line(&mut self) -> Result<bool, HistoryError> {
        self.line.clear();
        self.number += 1;
        let read = (&mut self.source).take(MAX_LINE_BYTES).read_line(&mut self.line)?;
        if read > 0 && self.line.pop() != Some('\n') {
            let why = "it has no end: the history was cut off".to_owned();
            return Err(HistoryError::Line { number: self.number, why });
        }
        Ok(read > 0)
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Line, HistoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let line = match self.read_line() {
            Ok(false) => return None,
            Ok(true) => {
                self.line.parse().map_err(|why| HistoryError::Line { number: self.number, why })
            }
            Err(error) => Err(error),
        };
        self.failed = line.is_err();
        Some(line)
    }
}
