//! A guard that needs no quiet machine: how many instructions the hot path's steps take, counted by
//! valgrind's callgrind, against limits that are kept in the repository.
//!
//! Counts hardly depend on the machine's load or clock, but on the compiler, the C library and the
//! crates: after a change of those the limits are counted anew. What is counted is the business of
//! `benches/instructions`; nothing is counted here.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use crate::tools::{self, MissingTool};

/// Over its limit by more than this, a count fails: what differs between builds of equal code.
pub const TOLERANCE: f64 = 0.03;

/// Under its limit by more than this, a limit is said to be too high.
const SLACK: f64 = 0.05;

/// A count could not be taken, or not be compared.
#[derive(Debug, thiserror::Error)]
pub enum CountError {
    /// There is no valgrind.
    #[error("{0}; `make bench-instructions` fetches it")]
    Tool(#[from] MissingTool),
    /// A file or process.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// valgrind, or the program in it, failed.
    #[error("counting {what}: {said}")]
    Failed {
        /// What was counted.
        what: String,
        /// What it said.
        said: String,
    },
    /// A line of the limits says something else than a name and a number.
    #[error("{file}, line {line}: {text:?} is not NAME = NUMBER")]
    Limit {
        /// The file.
        file: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// The line.
        text: String,
    },
}

/// Runs `program` under callgrind and counts the instructions spent in functions whose name holds
/// `within`, and in what they call.
///
/// # Errors
/// [`CountError`]
pub fn count(program: &Path, args: &[&str], within: &str) -> Result<u64, CountError> {
    let system = |what: &str| {
        let what = what.to_owned();
        move |source| CountError::System { what, source }
    };
    let valgrind = tools::find("valgrind")?;
    let dir = tempfile::tempdir().map_err(system("a directory for the profile"))?;
    let profile = dir.path().join("callgrind.out");
    let output = Command::new(&valgrind)
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(format!("--toggle-collect=*{within}*"))
        .arg(program)
        .args(args)
        .output()
        .map_err(system("starting valgrind"))?;
    let failed = |said: String| CountError::Failed { what: args.join(" "), said };
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let profile = fs::read_to_string(profile).map_err(system("the profile"))?;
    // Nothing is collected when no function has that name.
    let counted = instructions(&profile).filter(|&counted| counted > 0);
    counted.ok_or_else(|| failed(format!("no function '{within}' was entered")))
}

/// The total of a profile.
fn instructions(profile: &str) -> Option<u64> {
    let total = profile.lines().find_map(|line| line.strip_prefix("totals:"))?;
    total.trim().parse().ok()
}

/// What a step may take, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits(Vec<(String, u64)>);

impl Limits {
    /// Reads a file of lines `NAME = NUMBER`; `#` begins a comment.
    ///
    /// # Errors
    /// [`CountError`]
    pub fn read(file: &Path) -> Result<Self, CountError> {
        let what = || format!("reading {}", file.display());
        let text = fs::read_to_string(file)
            .map_err(|source| CountError::System { what: what(), source })?;
        Self::parse(&text).map_err(|(line, text)| CountError::Limit {
            file: file.to_owned(),
            line,
            text: text.to_owned(),
        })
    }

    fn parse(text: &str) -> Result<Self, (usize, &str)> {
        let lines = text.lines().enumerate().map(|(n, line)| (n + 1, line.trim()));
        let of_line = |(n, line): (usize, _)| limit(line).ok_or((n, line));
        let said = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        said.map(of_line).collect::<Result<_, _>>().map(Self)
    }

    /// The limit of a step.
    pub fn of(&self, name: &str) -> Option<u64> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, limit)| *limit)
    }

    /// Writes counts as the limits from now on, under the comment that the file begins with.
    ///
    /// # Errors
    /// [`CountError`]
    pub fn write(file: &Path, counts: &[(&str, u64)]) -> Result<(), CountError> {
        let system = |source| CountError::System { what: file.display().to_string(), source };
        let before = fs::read_to_string(file).map_err(system)?;
        fs::write(file, rewritten(&before, counts)).map_err(system)
    }
}

fn limit(line: &str) -> Option<(String, u64)> {
    let (name, number) = line.split_once('=')?;
    Some((name.trim().to_owned(), number.trim().parse().ok()?))
}

fn rewritten(before: &str, counts: &[(&str, u64)]) -> String {
    let head = before.lines().take_while(|line| line.starts_with('#') || line.is_empty());
    let limits = counts.iter().map(|(name, count)| format!("{name} = {count}"));
    let mut lines: Vec<String> = head.map(str::to_owned).chain(limits).collect();
    lines.push(String::new());
    lines.join("\n")
}

/// How a count compares with its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Within its limit.
    Within,
    /// So far below that the limit guards nothing.
    LimitTooHigh,
    /// Over it.
    Over,
    /// Nobody has said what it may take.
    NoLimit,
}

impl Verdict {
    /// Of a count.
    pub fn of(count: u64, limit: Option<u64>) -> Self {
        let Some(limit) = limit else { return Self::NoLimit };
        let ratio = count as f64 / limit as f64;
        if ratio > 1.0 + TOLERANCE {
            Self::Over
        } else if ratio < 1.0 - SLACK {
            Self::LimitTooHigh
        } else {
            Self::Within
        }
    }

    /// Whether the guard lets it through. Faster than expected is no fault.
    pub fn is_fine(self) -> bool {
        matches!(self, Self::Within | Self::LimitTooHigh)
    }

    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Within => "ok",
            Self::LimitTooHigh => "ok; the limit is too high, lower it with --update",
            Self::Over => "OVER",
            Self::NoLimit => "HAS NO LIMIT: set it with --update",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_of_a_profile_is_read() {
        let profile = "version: 1\nevents: Ir\nsummary: 7\n\nfn=(1) main\n12 4\n\ntotals: 7321\n";
        assert_eq!(instructions(profile), Some(7321));
        assert_eq!(instructions("events: Ir\n"), None);
    }

    #[test]
    fn three_parts_in_a_hundred_are_let_through_and_no_more() {
        for (count, verdict) in [
            (1000, Verdict::Within),
            (1030, Verdict::Within),
            (1031, Verdict::Over),
            (950, Verdict::Within),
            (949, Verdict::LimitTooHigh),
        ] {
            assert_eq!(Verdict::of(count, Some(1000)), verdict, "{count}");
        }
        assert_eq!(Verdict::of(1, None), Verdict::NoLimit);
        assert!(!Verdict::NoLimit.is_fine() && !Verdict::Over.is_fine());
        assert!(Verdict::Within.is_fine() && Verdict::LimitTooHigh.is_fine());
    }

    #[test]
    fn limits_are_read_and_written_under_their_comment() {
        let text = "# what\n# why\n\nring lookup = 900\nstore hit=120\n";
        let limits = Limits::parse(text).unwrap();
        assert_eq!([limits.of("ring lookup"), limits.of("store hit")], [Some(900), Some(120)]);
        assert_eq!(limits.of("ring"), None);
        assert_eq!(Limits::parse("a = 1\nb = fast"), Err((2, "b = fast")));
        let after = rewritten(text, &[("store hit", 100), ("frame encode", 5)]);
        assert_eq!(after, "# what\n# why\n\nstore hit = 100\nframe encode = 5\n");
    }
}
