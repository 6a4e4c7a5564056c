//! What one fault came to, and what of it is judged alike for all rows.

use std::{fmt, io, time::Duration};

use fleet::{
    checker::{self, Verdict},
    recorder::{Operation, Recording},
    report::{Counts, Report},
};

use super::{
    rings::Ring,
    scene::{Scene, Timed},
    traffic,
};

/// One fault under load.
pub(super) struct Run<T> {
    /// Operations per second that were asked for.
    pub(super) rate: f64,
    pub(super) recording: Recording,
    /// Every key read once more at the end.
    pub(super) last: Recording,
    /// When the fault began and ended.
    pub(super) struck: Duration,
    pub(super) healed: Duration,
    pub(super) times: Vec<Timed>,
    /// What each process has seen of the ring since the load began.
    pub(super) rings: Vec<(String, Vec<Ring>)>,
    pub(super) seen: T,
    verdict: Verdict,
}

impl<T> Run<T> {
    pub(super) fn new(
        scene: &Scene,
        rate: f64,
        recording: Recording,
        last: Recording,
        seen: T,
    ) -> Self {
        let verdict = judged(recording.operations.iter().chain(&last.operations));
        Self {
            rate,
            struck: scene.struck(),
            healed: scene.healed(),
            times: scene.times(),
            rings: scene.rings(),
            recording,
            last,
            seen,
            verdict,
        }
    }

    /// Writes down what is to be published, before it is judged.
    pub(super) fn report_to(&self, report: &mut Report) -> io::Result<()> {
        let all = [&self.recording, &self.last].map(Recording::summary);
        report.run(Counts {
            requests: all.iter().map(|summary| summary.total).sum(),
            failed: all.iter().map(|summary| summary.failed).sum(),
            wrong: self.verdict.wrong.len() as u64,
            older: self.verdict.older.len() as u64,
        })?;
        for Timed { what, took, promised } in &self.times {
            report.took(what, *took, Some(*promised))?;
        }
        Ok(())
    }

    /// What was due while the fault lasted.
    pub(super) fn meanwhile(&self) -> Recording {
        self.recording.between(self.struck, self.healed)
    }

    /// What must never happen: a failed request, a wrong value, an older one.
    pub(super) fn assert_right(&self) {
        self.recording.assert_none_failed("while something broke");
        self.last.assert_none_failed("every key once more");
        self.verdict.assert_none_wrong();
        self.verdict.assert_none_older();
    }

    /// That everything was done in the promised time.
    pub(super) fn assert_times(&self) {
        let late: Vec<String> =
            self.times.iter().filter(|it| it.took > it.promised).map(Timed::to_string).collect();
        assert!(late.is_empty(), "late: {}", late.join("; "));
    }

    /// The most changes of the ring that any of these processes saw, and the least members.
    pub(super) fn ring_changes(&self, of: impl Fn(&str) -> bool) -> (usize, usize) {
        let rings = || self.rings.iter().filter(|(name, _)| of(name)).map(|(_, rings)| rings);
        let changes = rings().map(|rings| rings.len().saturating_sub(1)).max();
        let members = rings().flatten().map(|ring| ring.members).min();
        (changes.expect("a process"), members.expect("a ring"))
    }
}

/// The verdict on the values of some operations of the usual load.
pub(super) fn judged<'a>(operations: impl Iterator<Item = &'a Operation> + Clone) -> Verdict {
    checker::judge(operations, &traffic::stored())
}

impl<T> fmt::Display for Run<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let summary = self.recording.summary();
        let (changes, least) = self.ring_changes(|_| true);
        write!(
            f,
            "{:.0} op/s, {} operations, {} failed; p99 {:.1?}, meanwhile {:.1?}, max {:.1?}; of {} \
             values {} wrong, {} older; {changes} ring changes, at least {least} members",
            self.rate,
            summary.total,
            summary.failed,
            summary.latency.p99,
            self.meanwhile().summary().latency.p99,
            summary.latency.max,
            self.verdict.values,
            self.verdict.wrong.len(),
            self.verdict.older.len(),
        )?;
        for timed in &self.times {
            write!(f, "; {timed}")?;
        }
        Ok(())
    }
}
