//! What a child prints: the last lines in memory, the first megabytes in a file.
//!
//! Both are bounded, because a long fault run prints without end. Lines are not interpreted.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Write},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

/// How many lines are kept in memory.
const MAX_LINES: usize = 4_096;

/// How long a line may be; a longer one is cut into several.
const MAX_LINE_BYTES: u64 = 16 << 10;

/// How much of the output one process may leave in its log file.
const MAX_LOG_BYTES: usize = 64 << 20;

/// The output of one child.
#[derive(Debug)]
pub(super) struct Output {
    kept: Mutex<Kept>,
    progress: watch::Sender<Progress>,
}

#[derive(Debug)]
struct Kept {
    lines: VecDeque<String>,
    log: File,
    log_room: usize,
}

/// How far the output has come.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    lines: u64,
    ended: bool,
}

impl Output {
    /// Output that is appended to the file `log`.
    pub(super) fn new(log: &Path) -> io::Result<Self> {
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let kept = Kept { lines: VecDeque::new(), log, log_room: MAX_LOG_BYTES };
        Ok(Self { kept: Mutex::new(kept), progress: watch::Sender::default() })
    }

    /// Reads until the writing ends are closed.
    pub(super) fn read_all(&self, source: impl Read) {
        let mut source = BufReader::new(source);
        let mut line = Vec::new();
        // A read error is the end as well: there is nobody to tell.
        while let Ok(1..) = source.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line) {
            self.keep(&line);
            line.clear();
        }
        self.progress.send_modify(|progress| progress.ended = true);
    }

    fn keep(&self, line: &[u8]) {
        let mut kept = self.kept();
        if line.len() <= kept.log_room {
            kept.log_room -= line.len();
            // A full disk must not stop the child: without a reader it would block in its writes.
            let _ = kept.log.write_all(line);
        }
        if kept.lines.len() == MAX_LINES {
            kept.lines.pop_front();
        }
        kept.lines.push_back(String::from_utf8_lossy(line.trim_ascii_end()).into_owned());
        // Under the lock, so that a count and the lines seen with it always agree.
        self.progress.send_modify(|progress| progress.lines += 1);
    }

    /// The lines in memory, oldest first.
    pub(super) fn lines(&self) -> Vec<String> {
        self.kept().lines.iter().cloned().collect()
    }

    /// The first line, past or future, that is wanted; `None` when the output ends without one.
    pub(super) async fn find(&self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let mut progress = self.progress.subscribe();
        let mut seen = 0;
        loop {
            let ended = progress.borrow_and_update().ended;
            if let Some(line) = self.find_after(&mut seen, &wanted) {
                return Some(line);
            }
            if ended {
                return None;
            }
            // The sender lives as long as `self`.
            let _ = progress.changed().await;
        }
    }

    /// Looks through the lines that came after the first `seen`, and moves `seen` on.
    fn find_after(&self, seen: &mut u64, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let kept = self.kept();
        let total = self.progress.borrow().lines;
        let new = usize::try_from(total - *seen).unwrap_or(usize::MAX).min(kept.lines.len());
        *seen = total;
        kept.lines.iter().skip(kept.lines.len() - new).find(|line| wanted(line)).cloned()
    }

    /// Waits for the end of the output.
    pub(super) async fn end(&self) {
        // The sender lives as long as `self`.
        let _ = self.progress.subscribe().wait_for(|progress| progress.ended).await;
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output() -> (Output, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        (Output::new(&dir.path().join("log")).unwrap(), dir)
    }

    #[test]
    fn keeps_the_last_lines_only() {
        let (output, dir) = output();
        let text: String = (0..MAX_LINES + 10).map(|n| format!("line {n}\n")).collect();
        output.read_all(text.as_bytes());
        let lines = output.lines();
        assert_eq!((lines.len(), lines[0].as_str()), (MAX_LINES, "line 10"));
        assert_eq!(std::fs::read_to_string(dir.path().join("log")).unwrap(), text);
    }

    #[test]
    fn cuts_endless_lines() {
        let (output, _dir) = output();
        output.read_all(vec![b'x'; MAX_LINE_BYTES as usize * 2 + 1].as_slice());
        let lengths: Vec<usize> = output.lines().iter().map(String::len).collect();
        assert_eq!(lengths, [MAX_LINE_BYTES as usize, MAX_LINE_BYTES as usize, 1]);
    }

    #[tokio::test]
    async fn finds_past_lines_and_notices_the_end() {
        let (output, _dir) = output();
        output.read_all(&b"one\ntwo\n"[..]);
        assert_eq!(output.find(|line| line.starts_with('t')).await.unwrap(), "two");
        assert_eq!(output.find(|line| line == "three").await, None);
    }
}
