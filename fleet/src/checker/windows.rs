//! While which faults an operation ran, and what they permit.

use std::time::Duration;

use super::{
    promise::{BOUNDED_STALENESS, Promise},
    verdict::Tally,
};
use crate::{
    history::{Entry, Fault, FaultKind},
    load::DEADLINE,
};

/// All faults of a history, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Windows {
    all: Vec<Window>,
}

#[derive(Debug)]
struct Window {
    fault: Fault,
    /// [`Duration::MAX`] if it was never healed.
    healed: Duration,
}

/// The faults that an operation has to do with.
#[derive(Debug, Default)]
pub(super) struct During {
    /// By their place in the list: the fault was there at some time of the operation.
    pub(super) faults: Vec<usize>,
    /// The bounded staleness of such a fault was not over when the operation was sent.
    cut_off: bool,
}

impl Window {
    fn overlaps(&self, from: Duration, to: Duration, after: Duration) -> bool {
        self.fault.at <= to && from <= self.healed.saturating_add(after)
    }
}

impl Windows {
    pub(super) fn open(&mut self, fault: &Fault) {
        self.all.push(Window { fault: fault.clone(), healed: Duration::MAX });
    }

    /// Whether there was such a fault.
    pub(super) fn close(&mut self, id: u32, at: Duration) -> bool {
        let window = self.all.iter_mut().find(|window| window.fault.id == id);
        window.map(|window| window.healed = at).is_some()
    }

    /// One to count in for each.
    pub(super) fn tallies(&self) -> Vec<Tally> {
        let tally = |window: &Window| Tally {
            what: window.fault.what.clone(),
            from: window.fault.at,
            to: window.healed,
            ..Tally::default()
        };
        self.all.iter().map(tally).collect()
    }

    pub(super) fn during(&self, entry: &Entry) -> During {
        // One without an answer may have been on its way until its deadline.
        let (from, to) = (entry.sent, entry.answered.unwrap_or(entry.due + DEADLINE));
        let mut during = During::default();
        for (n, window) in self.all.iter().enumerate() {
            if window.overlaps(from, to, Duration::ZERO) {
                during.faults.push(n);
            }
            if window.fault.kind == FaultKind::OwnerCutOff {
                during.cut_off |= window.overlaps(from, to, BOUNDED_STALENESS);
            }
        }
        during
    }

    /// Whether a refusal is named by a fault, or by the promise.
    pub(super) fn names(&self, refusal: &str, during: &During, promise: Promise) -> bool {
        let named = |&n: &usize| self.all[n].fault.named.iter().any(|name| name == refusal);
        let by_promise = during.cut_off && promise.refuses_when_cut_off && refusal == "503";
        by_promise || during.faults.iter().any(named)
    }
}

impl During {
    pub(super) fn permits_older(&self, promise: Promise) -> bool {
        self.cut_off && promise.older_when_cut_off
    }
}
